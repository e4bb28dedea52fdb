//! The language: any text is a command, or an error that points into it.

use engine::lang::{
    self, SyntaxError,
    ast::{Expr, FormatCount, FormatItem, Spanned, Stage, StageKind, Statement, WordKind},
    cexpr,
    printf::Format,
};

use crate::seen;

/// Statements, which print as what they were read from; C expressions; formats of printf; commands of a file.
pub fn language(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    for radix in [16, 10] {
        match lang::parse(text, radix) {
            Ok(all) => all.iter().for_each(printed),
            Err(e) => check(text, &e),
        }
        if let Err(e) = lang::parse_expr(text, radix) {
            check(text, &e);
        }
    }
    if let Err(e) = cexpr::parse(text) {
        check(text, &e);
    }
    for format in [Format::parse(text), Format::parse_plain(text)] {
        match format {
            Ok(format) => crate::counted("specs", format.specs().count()),
            Err(e) => seen(&e),
        }
    }
    let commands: Vec<_> = lang::commands(text).collect();
    assert!(commands.iter().map(|(_, command)| command.len()).sum::<usize>() <= text.len());
}

fn check(text: &str, error: &SyntaxError) {
    seen(&error.message);
    assert!(text.get(error.span.clone()).is_some(), "{error:?} points outside of {text:?}");
    error.point(text);
}

/// A statement printed and read again is itself.
fn printed(statement: &Statement) {
    let text = statement.to_string();
    match lang::parse(&text, 16) {
        Ok(again) if again.len() == 1 => {
            let (before, after) = (shape(statement), shape(&again[0]));
            assert_eq!(before, after, "printed as {text:?}");
            seen(&before);
        }
        other => panic!("{statement:?} prints as {text:?}, which reads as {other:?}"),
    }
}

/// The tree without the places where its parts were written.
fn shape(statement: &Statement) -> String {
    let expr = |e: &Option<Spanned<Expr>>| e.as_ref().map(|e| bare(&e.node));
    let stages: Vec<_> = statement.stages.iter().map(stage).collect();
    let Statement { addr, count, shell, shell_source, .. } = statement;
    format!("{:?} {:?} {stages:?} {shell:?} {shell_source}", expr(addr), expr(count))
}

fn stage(stage: &Stage) -> String {
    match &stage.kind {
        StageKind::Dcmd { module, name, args, .. } => {
            let args: Vec<_> = args
                .iter()
                .map(|word| match &word.kind {
                    WordKind::Text(text) => format!("{text:?}"),
                    WordKind::Immediate(expr) => bare(expr),
                })
                .collect();
            format!("dcmd {module:?} {name} {args:?}")
        }
        StageKind::Verb { verb, format } => format!("verb {verb} {:?}", format.iter().map(item).collect::<Vec<_>>()),
        StageKind::Assign { name, size } => format!("assign {name} {size:?}"),
        StageKind::File { sigil, name } => format!("file {sigil} {name:?}"),
        StageKind::Shell(text) => format!("shell {text:?}"),
    }
}

fn item(item: &FormatItem) -> String {
    match item {
        FormatItem::Letter { letter, count, .. } => match count {
            FormatCount::One => format!("letter {letter}"),
            FormatCount::Number(n) => format!("letter {letter} {n}"),
            FormatCount::Computed(expr) => format!("letter {letter} {}", bare(expr)),
        },
        FormatItem::Text(text) => format!("text {text:?}"),
        FormatItem::Value(value) => format!("value {}", bare(&value.node)),
    }
}

fn bare(expr: &Expr) -> String {
    match expr {
        Expr::Symbol { scopes, name, .. } => format!("symbol {scopes:?} {name}"),
        Expr::Var(name, _) => format!("<{name}"),
        Expr::Unary(op, of) => format!("{op:?}({})", bare(of)),
        Expr::Deref { object, size, addr, .. } => format!("deref {object} {size} ({})", bare(addr)),
        Expr::Binary(op, left, right, _) => format!("({} {op:?} {})", bare(left), bare(right)),
        leaf => format!("{leaf:?}"),
    }
}
