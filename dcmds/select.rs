//! Stages that choose what an item shows: `::fields` makes rows of expressions, `::member` passes members on.
//!
//! ```console
//! > ::walk task | ::where mm != NULL | ::fields pid comm pages='mm->total_vm'
//! PID COMM PAGES
//!   1 init   565
//! > ::walk task | ::head -2 | ::member real_parent | ::print pid
//! pid = 0
//! pid = 0
//! ```

use engine::{
    Cell, Column, Kind, Row, Schema, Type,
    cprint::{
        Memory, SpaceMemory,
        path::{Found, Path},
        scalar, typed,
    },
    cscope::Question,
    prelude::*,
};
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

/// The name of an expression's column, and the expression: `pages='mm->total_vm'` gives the name itself.
pub(crate) fn heading(text: &str) -> (String, &str) {
    let identifier = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some((name, rest)) = text.split_once('=')
        && identifier(name)
        && !rest.starts_with(['=', '~'])
    {
        return (name.to_owned(), rest);
    }
    // of a path, the last member says most
    let last = text.rsplit(['.', '>']).next().unwrap_or(text);
    let name = if identifier(last) { last } else { text };
    (name.to_owned(), text)
}

/// Schemas that were made at run time. They live as long as the program, so each is made once, and not without end.
static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
type Made = HashMap<Vec<(String, Shown)>, &'static Schema>;
const MOST_SCHEMAS: usize = 10_000;
const MOST_COLUMNS: usize = 64;

/// Where a column that was named at run time is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shown {
    /// beside the others
    Column,
    /// a list, as lines below the row
    Below,
    /// to machines only
    Hidden,
}

/// A row whose columns were named by the user.
pub(crate) fn dynamic_row(names: &[String], cells: Vec<Cell>, subject: Option<Object>) -> Result<Item> {
    let columns: Vec<_> = names.iter().map(|name| (name.clone(), Shown::Column)).collect();
    named_row(&columns, cells, subject)
}

/// The same, where not all of them are shown beside each other.
pub(crate) fn named_row(names: &[(String, Shown)], cells: Vec<Cell>, subject: Option<Object>) -> Result<Item> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let schema = match made.get(names) {
        Some(known) => known,
        None if made.len() >= MOST_SCHEMAS || names.len() > MOST_COLUMNS => {
            return Err(Error::Usage("too many columns have been named".into()));
        }
        None => {
            let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
            let column = |(name, shown): &(String, Shown)| Column {
                name: leak(name.clone()),
                heading: leak(name.to_uppercase()),
                doc: "as asked for",
                detail: *shown == Shown::Below,
                hidden: *shown == Shown::Hidden,
                kind: Kind::Any,
            };
            let columns: Vec<Column> = names.iter().map(column).collect();
            let schema: &'static Schema = Box::leak(Box::new(Schema { columns: Vec::leak(columns) }));
            made.insert(names.to_vec(), schema);
            schema
        }
    };
    Ok(Item::Row(Row { schema, cells, subject }))
}

/// A row with further cells in front.
pub(crate) fn with_front(row: Row, front: Vec<((String, Shown), Cell)>) -> Result<Item> {
    if front.is_empty() {
        return Ok(Item::Row(row));
    }
    let (mut columns, mut cells): (Vec<_>, Vec<_>) = front.into_iter().unzip();
    columns.extend(row.schema.columns.iter().map(|column| {
        let shown = match (column.detail, column.hidden) {
            (true, _) => Shown::Below,
            (_, true) => Shown::Hidden,
            _ => Shown::Column,
        };
        (column.name.to_owned(), shown)
    }));
    cells.extend(row.cells);
    named_row(&columns, cells, row.subject)
}

/// Make rows of columns, members, or C expressions of the items, one column each.
///
/// An expression with blanks needs quotes; `name='EXPRESSION'` names its column. What comes next in the pipe gets the
/// item's own address, and knows the columns by their names.
#[derive(Args)]
pub struct Fields {
    /// what to show
    #[arg(value_name = "EXPRESSION", required = true, allow_hyphen_values = true)]
    words: Vec<String>,
    #[arg(skip)]
    names: Vec<String>,
    #[arg(skip)]
    questions: Vec<Question>,
}

impl Filter for Fields {
    const NAME: &'static str = "fields";

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        for word in &self.words {
            let (name, text) = heading(word);
            if self.names.contains(&name) {
                return Err(Error::Usage(format!("two columns would be named `{name}`"))
                    .hint(format!("name one of them: `{name}2='{text}'`")));
            }
            self.names.push(name);
            self.questions.push(Question::parse(text)?);
        }
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        let cells = self.questions.iter().map(|q| q.value(cx, &item)).collect::<Result<Vec<_>>>()?;
        out.item(dynamic_row(&self.names, cells, item.object())?)
    }
}

/// Pass on a member of each item: what a pointer points at, or the member itself, with its type.
///
/// The address that is passed on is of what the member leads to, so that `::member mm` and then `::print` show the
/// `struct mm_struct`. A number is passed on as its value.
#[derive(Args)]
pub struct Member {
    /// the address of the member, even of a pointer or a number
    #[arg(short = 'a')]
    address: bool,
    /// the type of the items, if it is not known
    #[arg(short = 't', value_name = "TYPE")]
    ctype: Option<String>,
    /// members and indices: `a.b->c[3]`
    path: String,
}

impl Dcmd for Member {
    const NAME: &'static str = "member";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let object = typed(cx, at.unwrap_or(Object::untyped(0)));
        let ctype = match &self.ctype {
            Some(spelling) => Some(crate::words::find_type(cx, spelling)?),
            None => object.ctype,
        };
        let ctype = ctype.ok_or_else(|| {
            Error::Usage(format!("the type of what lies at {} is not known", cx.sym(object.addr)))
                .hint(format!("`::member -t 'struct foo' {}`", self.path))
        })?;
        let memory = SpaceMemory::current(cx);
        let path = Path::parse(&self.path, cx.env.radix.get())?;
        let found = path.follow(cx, Found::start(object.addr, ctype), &memory, &memory)?;
        let whole = Object { addr: found.addr, ctype: Some(found.place.ty) };
        out.object(match self.address {
            true => whole,
            false => value(cx, found, &memory)?.unwrap_or(whole),
        })
    }
}

/// What a pointer points at, or a number's value; `None` of anything else.
fn value(cx: &Cx<'_>, found: Found, memory: &dyn Memory) -> Result<Option<Object>> {
    let shape = cx.shape(found.place.ty);
    let (size, pointee) = match shape.as_deref() {
        Some(Type::Int { size, .. } | Type::Enum { size, .. }) => (*size, None),
        Some(Type::Pointer { to }) => (8, Some(*to)),
        _ => return Ok(None),
    };
    let (bit, bits) = (found.place.bit_offset as u8, found.place.bit_size.unwrap_or(size.saturating_mul(8)).min(64));
    let mut buf = [0; 9];
    let len = (u32::from(bit % 8) + bits).div_ceil(8) as usize;
    memory.read(found.addr, &mut buf[..len])?;
    let pointee = pointee.filter(|to| cx.types.size_of(*to).is_some());
    Ok(Some(Object { addr: scalar::extract(&buf[..len], bit, bits), ctype: pointee }))
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::filter::<Fields>(), DcmdEntry::of::<Member>()];

#[cfg(test)]
mod tests {
    use super::heading;

    #[test]
    fn columns_are_named_by_what_says_most() {
        assert_eq!(heading("pid"), ("pid".into(), "pid"));
        assert_eq!(heading("mm->total_vm"), ("total_vm".into(), "mm->total_vm"));
        assert_eq!(heading("d_name.len"), ("len".into(), "d_name.len"));
        assert_eq!(heading("pages=mm->total_vm"), ("pages".into(), "mm->total_vm"));
        assert_eq!(heading("pid == 1"), ("pid == 1".into(), "pid == 1"));
        assert_eq!(heading("a==b"), ("a==b".into(), "a==b"));
        assert_eq!(heading("comm=~\"x\""), ("comm=~\"x\"".into(), "comm=~\"x\""));
    }
}
