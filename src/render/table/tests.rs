//! Tables, JSON lines and CSV of rows made by hand.
#![allow(clippy::unwrap_used)]

use crate::render::{Format, render_all};
use engine::{Cell, Column, Item, Object, Row, Schema, debuginfo::Types};

const fn col(name: &'static str, heading: &'static str, detail: bool) -> Column {
    Column { name, heading, doc: "", detail, hidden: false, kind: engine::Kind::Any }
}

static SCHEMA: Schema = Schema {
    columns: &[
        col("addr", "ADDR", false),
        col("count", "COUNT", false),
        col("name", "NAME", false),
        col("size", "SIZE", false),
        col("stack", "", true),
    ],
};

fn row(addr: u64, count: Cell, name: &str, size: Cell, stack: Cell) -> Item {
    let cells = vec![Cell::Addr(addr), count, Cell::Str(name.into()), size, stack];
    Item::Row(Row { schema: &SCHEMA, cells, subject: None })
}

fn rows() -> Vec<Item> {
    let stack = Cell::List(vec![Cell::Str("kfree+0x1c".into()), Cell::Str("\x1b[31mred".into())]);
    let lost = || Cell::Unreadable("page not in the dump".into());
    vec![
        row(0xffff_8881_0000_0000, Cell::Uint(7), "dentry", Cell::Hex(0x1c0), Cell::Null),
        row(1, Cell::Null, "näme, \"q\"", lost(), stack),
        row(2, lost(), "x", Cell::Null, Cell::Null),
        row(3, Cell::Uint(1_000_000), "x", Cell::Hex(8), Cell::Null),
    ]
}

fn render(format: Format, items: Vec<Item>) -> String {
    String::from_utf8(render_all(format, &Types::new(), items).unwrap()).unwrap()
}

#[test]
fn columns_are_aligned_as_a_whole() {
    let mut items = rows();
    items.push(Item::Line("a\tline\x07\nof text".into()));
    items.push(Item::Object(Object::untyped(0x10)));
    assert_eq!(
        render(Format::Table, items),
        "\
ADDR               COUNT NAME      SIZE
ffff888100000000       7 dentry     1c0
0000000000000001       - näme, \"q\" <unreadable: page not in the dump>
                 kfree+0x1c
                 \\x1b[31mred

0000000000000002 <unreadable: page not in the dump> x            -
0000000000000003 1000000 x            8
a\tline\\x07
of text
0x10
"
    );
}

#[test]
fn what_comes_late_does_not_move_the_columns() {
    let mut items: Vec<_> = (0..300).map(|i| row(i, Cell::Uint(i), "x", Cell::Null, Cell::Null)).collect();
    items.push(row(300, Cell::Uint(300), "a long name", Cell::Null, Cell::Null));
    let text = render(Format::Table, items);
    assert_eq!(text.lines().next(), Some("ADDR             COUNT NAME SIZE"));
    assert_eq!(text.lines().last(), Some("000000000000012c   300 a long name -"));
}

#[test]
fn json_and_csv_lose_nothing() {
    let json = render(Format::Json, rows());
    let second = "{\"addr\":\"0x1\",\"count\":null,\"name\":\"näme, \\\"q\\\"\",\"size\":{\"unreadable\":\"page not in \
                  the dump\"},\"stack\":[\"kfree+0x1c\",\"\\u001b[31mred\"]}";
    assert_eq!(json.lines().nth(1), Some(second));
    let csv = render(Format::Csv, rows());
    let second = "0x1,,\"näme, \"\"q\"\"\",<unreadable: page not in the dump>,kfree+0x1c \\x1b[31mred";
    assert_eq!(csv.lines().next(), Some("addr,count,name,size,stack"));
    assert_eq!(csv.lines().nth(2), Some(second));
}
