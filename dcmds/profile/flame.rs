//! Flame graphs: `::flame`. Every box is a function, as wide as it is often in the chains, above the one that calls it.
//!
//! The SVG is whole in itself: a click goes into a function, Ctrl-F searches, the title of a box says its share.

use super::{
    MOST_CHAINS,
    chain::{Chain, Frame},
    percent,
};
use engine::prelude::*;
use std::{collections::BTreeMap, fmt::Write as _};

/// Write a flame graph of the stacks that come in, or fold them.
///
/// Without `-f` FILE becomes an SVG, which any browser shows. `-f`, and a FILE that ends in `.folded`, gives a line a
/// chain, `main;work;spin 612`, as flame graph tools read them; without FILE they are shown.
#[derive(Args)]
pub struct Flame {
    /// folded stacks
    #[arg(short = 'f')]
    folded: bool,
    /// the graph's heading
    #[arg(short = 't', value_name = "TITLE", default_value = "Flame graph")]
    title: String,
    /// the file to write
    #[arg(value_name = "FILE", required_unless_present = "folded")]
    file: Option<String>,
    #[arg(skip)]
    chains: BTreeMap<Vec<String>, u64>,
    /// of frames' labels, where they lie
    #[arg(skip)]
    objects: BTreeMap<String, String>,
}

impl Filter for Flame {
    const NAME: &'static str = "flame";

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        let chain = Chain::of(cx, &item, Self::NAME)?;
        let comm = chain.comm.clone().into_iter();
        let labels: Vec<String> = comm.chain(chain.frames.iter().map(Frame::label)).collect();
        if labels.is_empty() {
            return Ok(());
        }
        if self.chains.len() >= MOST_CHAINS && !self.chains.contains_key(&labels) {
            return Err(Error::Usage("there are too many different call chains".into()));
        }
        for frame in chain.frames.iter().filter(|frame| !frame.object.is_empty()) {
            self.objects.entry(frame.label()).or_insert_with(|| frame.object.clone());
        }
        *self.chains.entry(labels).or_default() += chain.count;
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let folded = self.folded || self.file.as_ref().is_some_and(|file| file.ends_with(".folded"));
        // semicolons part frames, and the last blank the number
        let fold = |(labels, count): (&Vec<String>, &u64)| {
            format!("{} {count}", labels.iter().map(|l| l.replace(';', ":")).collect::<Vec<_>>().join(";"))
        };
        let Some(file) = &self.file else { return self.chains.iter().map(fold).try_for_each(|line| out.line(line)) };
        let text = match folded {
            true => self.chains.iter().map(|chain| fold(chain) + "\n").collect(),
            false => self.svg(),
        };
        std::fs::write(file, text).doing(|| format!("writing {file}"))?;
        let (count, all) = (self.chains.len(), self.chains.values().sum::<u64>());
        out.line(format!("{file}: {all} samples, {count} different stacks"))
    }
}

/// A box of the graph.
#[derive(Default)]
struct Node {
    count: u64,
    above: BTreeMap<String, Node>,
}

const WIDTH: f64 = 1200.0;
const HEIGHT: usize = 17;
const HEAD: usize = 46;
/// Narrower boxes are left out.
const NARROWEST: f64 = 0.1;
/// Width of a character.
const LETTER: f64 = 7.0;
const MOST_DEPTH: usize = 600;

impl Flame {
    fn svg(&self) -> String {
        let mut root = Node::default();
        for (labels, count) in &self.chains {
            root.count += count;
            let mut node = &mut root;
            for label in labels.iter().take(MOST_DEPTH) {
                node = node.above.entry(label.clone()).or_default();
                node.count += count;
            }
        }
        let all = root.count.max(1);
        let mut boxes = String::new();
        let depth = self.draw(&root, "all", all, 0, 0, &mut boxes);
        let height = HEAD + (depth + 1) * HEIGHT + 30;
        let mut svg = String::new();
        // writing to a String cannot fail
        let _ = write!(
            svg,
            r##"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11.5">
<style>rect{{stroke:#fff8;stroke-width:.5}} g.box{{cursor:pointer}} g.box:hover rect{{stroke:#000}} g.found rect{{fill:#c3f}} g.faint{{opacity:.5}} text{{pointer-events:none}}</style>
<rect width="100%" height="100%" fill="#fbf8f0"/>
<text x="{}" y="22" font-size="16" text-anchor="middle">{}</text>
<text id="back" x="10" y="22" style="pointer-events:all;cursor:pointer" visibility="hidden">[back]</text>
<text id="search" x="{}" y="22" style="pointer-events:all;cursor:pointer" text-anchor="end">[search]</text>
<text id="status" x="10" y="{}"> </text>
<g id="boxes" transform="translate(0,{})">
{boxes}</g>
<script type="text/ecmascript"><![CDATA[{}]]></script>
</svg>
"##,
            WIDTH / 2.0,
            escape(&self.title),
            WIDTH - 10.0,
            height - 8,
            HEAD + depth * HEIGHT,
            include_str!("flame.js"),
        );
        svg
    }

    /// Draws a box and those above it; says how many rows they take.
    fn draw(&self, node: &Node, label: &str, all: u64, before: u64, depth: usize, to: &mut String) -> usize {
        let scale = |count: u64| count as f64 * WIDTH / all as f64;
        let (x, width) = (scale(before), scale(node.count));
        if width < NARROWEST {
            return depth;
        }
        let y = -((depth * HEIGHT) as f64);
        let object = self.objects.get(label).map(|object| format!(" ({object})")).unwrap_or_default();
        let title = format!("{label}{object}: {} samples, {}", node.count, percent(node.count, all));
        let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
        let text: String = match label.chars().count() <= letters {
            true => label.to_owned(),
            false if letters < 3 => String::new(),
            false => label.chars().take(letters - 1).chain(['…']).collect(),
        };
        let _ = writeln!(
            to,
            r#"<g class="box" data-x="{x:.2}" data-w="{width:.2}" data-y="{depth}" data-n="{}"><title>{}</title><rect x="{x:.2}" y="{y}" width="{width:.2}" height="{}" fill="{}" rx="1"/><text x="{:.2}" y="{}">{}</text></g>"#,
            escape(label),
            escape(&title),
            HEIGHT - 1,
            colour(label),
            x + 2.0,
            y + 12.0,
            escape(&text),
        );
        let mut at = before;
        let mut deepest = depth;
        for (label, above) in &node.above {
            deepest = deepest.max(self.draw(above, label, all, at, depth + 1, to));
            at += above.count;
        }
        deepest
    }
}

/// Warm colours for programs, cold ones for the kernel; the same function has the same everywhere.
fn colour(label: &str) -> String {
    let hash = label.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let (hue, light) = (hash % 45, 62 + hash / 64 % 14);
    match label.ends_with("_[k]") {
        true => format!("hsl({},55%,{light}%)", 190 + hue / 2),
        false => format!("hsl({},80%,{light}%)", 8 + hue),
    }
}

/// What XML takes: a name may hold anything.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
