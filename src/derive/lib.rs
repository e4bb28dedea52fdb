//! `#[derive(Row)]` and `#[derive(View)]`: where field names and doc comments become data.
//!
//! `Row` turns a struct into table columns. A field's doc comment is the column's help, and there must be one.
//! `#[heading("CPU")]` overrides the heading (the field's name in capitals), `#[detail]` shows a list below the row,
//! `#[hidden]` keeps a column for JSON and CSV.
//!
//! `View` fills a struct from a C struct of the target. `#[ctype("slab", "page")]` names the C struct, older spellings
//! after newer ones. A field reads the member of its own name; `#[field("__state", "state")]` gives other spellings or
//! paths (`"event.type"`). A field of type `Option<…>` may be missing from the C struct. `#[addr]` marks the field that
//! takes the struct's own address.

use proc_macro::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, Lit, LitStr, Meta, Token, parse_macro_input,
    punctuated::Punctuated,
};

type Result<T> = std::result::Result<T, Error>;

fn doc(attrs: &[Attribute]) -> String {
    let mut text = String::new();
    for attr in attrs.iter().filter(|a| a.path().is_ident("doc")) {
        if let Meta::NameValue(nv) = &attr.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &nv.value
        {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(line.value().trim());
        }
    }
    text
}

fn fields(input: &DeriveInput) -> Result<Vec<&Field>> {
    match &input.data {
        Data::Struct(s) => match &s.fields {
            Fields::Named(f) => Ok(f.named.iter().collect()),
            _ => Err(Error::new_spanned(&input.ident, "fields must have names")),
        },
        _ => Err(Error::new_spanned(&input.ident, "only structs")),
    }
}

fn has(field: &Field, name: &str) -> bool {
    field.attrs.iter().any(|a| a.path().is_ident(name))
}

fn strings(attrs: &[Attribute], name: &str) -> Result<Option<Vec<LitStr>>> {
    attrs
        .iter()
        .find(|a| a.path().is_ident(name))
        .map(|a| a.parse_args_with(Punctuated::<LitStr, Token![,]>::parse_terminated).map(|p| p.into_iter().collect()))
        .transpose()
}

/// Turns a struct into a table row.
#[proc_macro_derive(Row, attributes(heading, detail, hidden))]
pub fn row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    row_impl(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

fn row_impl(input: &DeriveInput) -> Result<proc_macro2::TokenStream> {
    let name = &input.ident;
    let fields = fields(input)?;
    let mut columns = Vec::new();
    for field in &fields {
        let ident = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        let doc = doc(&field.attrs);
        if doc.is_empty() {
            return Err(Error::new_spanned(field, "every column needs a doc comment: it is the column's help"));
        }
        let heading = strings(&field.attrs, "heading")?
            .and_then(|v| v.first().map(LitStr::value))
            .unwrap_or_else(|| ident.to_uppercase());
        let (detail, hidden) = (has(field, "detail"), has(field, "hidden"));
        let ty = &field.ty;
        columns.push(quote! {
            ::engine::Column {
                name: #ident, heading: #heading, doc: #doc, detail: #detail, hidden: #hidden,
                kind: <#ty as ::engine::IntoCell>::KIND,
            }
        });
    }
    let idents: Vec<_> = fields.iter().map(|f| &f.ident).collect();
    Ok(quote! {
        impl ::engine::IntoRow for #name {
            const SCHEMA: &'static ::engine::Schema = &::engine::Schema { columns: &[#(#columns),*] };
            fn into_row(self) -> ::engine::Row {
                let mut subject = None;
                #(if subject.is_none() { subject = ::engine::IntoCell::subject(&self.#idents); })*
                ::engine::Row {
                    schema: Self::SCHEMA,
                    cells: vec![#(::engine::IntoCell::into_cell(self.#idents)),*],
                    subject,
                }
            }
        }
    })
}

/// Fills a struct from a C struct of the target.
#[proc_macro_derive(View, attributes(ctype, field, addr))]
pub fn view(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    view_impl(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

fn view_impl(input: &DeriveInput) -> Result<proc_macro2::TokenStream> {
    let name = &input.ident;
    let ctypes = strings(&input.attrs, "ctype")?
        .ok_or_else(|| Error::new_spanned(name, "say which C struct: #[ctype(\"task_struct\")]"))?;
    let (mut specs, mut inits) = (Vec::new(), Vec::new());
    for field in fields(input)? {
        let (Some(ident), ty) = (&field.ident, &field.ty) else { continue };
        if has(field, "addr") {
            inits.push(quote!(#ident: fields.addr()));
            continue;
        }
        let text = ident.to_string();
        let paths = strings(&field.attrs, "field")?.unwrap_or_else(|| vec![LitStr::new(&text, ident.span())]);
        let index = specs.len();
        specs.push(quote! {
            ::engine::FieldSpec { paths: &[#(#paths),*], optional: <#ty as ::engine::FromField>::OPTIONAL }
        });
        inits.push(quote!(#ident: fields.get(#index)?));
    }
    Ok(quote! {
        impl ::engine::View for #name {
            const CTYPES: &'static [&'static str] = &[#(#ctypes),*];
            const FIELDS: &'static [::engine::FieldSpec] = &[#(#specs),*];
            fn from_fields(fields: &::engine::FieldReader<'_>) -> ::engine::Result<Self> {
                Ok(#name { #(#inits),* })
            }
        }
    })
}
