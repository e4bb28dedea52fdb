//! The report as a page for browsers: one file that loads nothing, with an icicle graph of all stacks.
//!
//! What comes from the dump goes through [`Page::text`], which leaves no character that means something to a browser. A
//! policy in the head forbids the page to load or send anything, and any script but the one below.

use super::report::Report;
use std::{collections::BTreeMap, fmt::Write as _};

const STYLE: &str = include_str!("page.css");
/// Clicking a frame of the icicle shows it alone in full width; clicking what is above it widens again.
const SCRIPT: &str = include_str!("page.js");
/// More frames than a page can show; the rarest stacks are left out then.
const MAX_FRAMES: usize = 20_000;

/// Browsers nest no deeper than some 500 elements; a stack that ran over has as many frames.
const MAX_DEPTH: usize = 150;

/// A page that is being written.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Markup as it is.
    fn raw(&mut self, markup: &str) -> &mut Page {
        self.0.push_str(markup);
        self
    }

    /// Text, with everything escaped that is markup, controls the terminal, or turns the direction of writing.
    fn text(&mut self, text: &str) -> &mut Page {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\t' => self.0.push('\t'),
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    // writing to a String cannot fail
                    let _ = write!(self.0, "\\u{{{:x}}}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self
    }

    fn heading(&mut self, text: &str, count: Option<usize>) -> &mut Page {
        self.raw("<h2>").text(text);
        if let Some(count) = count {
            self.raw("<span class=count>").text(&count.to_string()).raw("</span>");
        }
        self.raw("</h2>")
    }

    /// Lines of code or of a log.
    fn lines(&mut self, lines: &[String], class: &str) -> &mut Page {
        self.raw("<pre class=\"").raw(class).raw("\">");
        for line in lines {
            let hot = line.starts_with("=> ");
            self.raw(if hot { "<b>" } else { "" }).text(line).raw(if hot { "</b>\n" } else { "\n" });
        }
        self.raw("</pre>")
    }

    fn list(&mut self, items: &[String]) -> &mut Page {
        self.raw("<ul>");
        for item in items {
            self.raw("<li>").text(item).raw("</li>");
        }
        self.raw("</ul>")
    }

    fn facts<'a>(&mut self, facts: impl Iterator<Item = (&'a str, &'a str)>) -> &mut Page {
        self.raw("<dl>");
        for (name, value) in facts {
            self.raw("<div><dt>").text(name).raw("</dt><dd>").text(value).raw("</dd></div>");
        }
        self.raw("</dl>")
    }

    fn head(&mut self, report: &Report) {
        let kernel = fact(report, "kernel");
        self.raw(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-icicle'\">\
             <meta name=viewport content=\"width=device-width\"><meta name=color-scheme content=\"light dark\"><title>",
        );
        self.text(report.verdict.class).raw(" · ").text(fact(report, "host")).raw(" · ").text(kernel);
        self.raw("</title><style>").raw(STYLE).raw("</style></head><body>");
        let fine = if report.verdict.is_fine() { "fine" } else { "bad" };
        self.raw("<header class=").raw(fine).raw("><p class=where>").text(fact(report, "host")).raw(" · ").text(kernel);
        self.raw("</p><h1>").text(&report.verdict.title).raw("</h1><p><span class=class>").text(report.verdict.class);
        self.raw("</span> signature <code>").text(&report.signature).raw("</code>");
        if let Some(who) = &report.who {
            self.raw(" · task <code>").text(who).raw("</code>");
        }
        self.raw("</p></header><main>");
    }

    fn verdict(&mut self, report: &Report) {
        if !report.verdict.evidence.is_empty() || report.crash.words.panic.is_some() {
            self.raw("<section>").heading("Why", None);
            if let Some(panic) = &report.crash.words.panic {
                self.raw("<p>Kernel panic: <code>").text(panic).raw("</code></p>");
            }
            self.list(&report.verdict.evidence).raw("</section>");
        }
        self.raw("<section class=facts>").heading("System", None);
        let foreign = report.foreign.join(", ");
        let facts = report.system.iter().map(|(name, value)| (*name, value.as_str()));
        let foreign = (!foreign.is_empty()).then_some(("foreign modules", foreign.as_str()));
        self.facts(facts.chain(foreign)).raw("</section>");
    }

    fn scene(&mut self, report: &Report) {
        if !report.stack.is_empty() {
            self.raw("<section>").heading("Guilty stack", None).lines(&report.stack, "stack").raw("</section>");
        }
        if !report.code.is_empty() {
            self.raw("<section>").heading("Code at the fault", None).lines(&report.code, "code");
            let registers: Vec<String> = report.registers.iter().map(|(_, value)| format!("{value:016x}")).collect();
            let names = report.registers.iter().map(|(name, _)| name.as_str());
            self.raw("<div class=registers>")
                .facts(names.zip(registers.iter().map(String::as_str)))
                .raw("</div></section>");
        }
    }

    fn waits(&mut self, report: &Report) {
        for ring in &report.deadlocks {
            self.raw("<section class=alarm>").heading("Deadlock", Some(ring.len())).list(ring).raw("</section>");
        }
        if !report.blocked.is_empty() {
            self.raw("<section>")
                .heading("Blocked tasks", Some(report.blocked.len()))
                .list(&report.blocked)
                .raw("</section>");
        }
    }

    fn icicle(&mut self, report: &Report) {
        let mut root = Frame::default();
        let mut stacks: Vec<_> = report.stacks.iter().collect();
        stacks.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let mut frames = 0;
        for (stack, count) in stacks {
            frames += stack.len();
            if frames > MAX_FRAMES {
                break;
            }
            root.add(stack, *count);
        }
        let tasks = root.count;
        self.raw("<section class=wide>").heading("All stacks", Some(tasks as usize));
        self.raw(
            "<p class=hint>Outermost function on top, width by the number of tasks. Click a frame to widen it.</p>",
        );
        self.raw("<div class=icicle>");
        let guilty: Vec<&str> = report.guilty.iter().map(String::as_str).collect();
        self.frame("all tasks", &root, 0, (!guilty.is_empty()).then_some(&guilty));
        self.raw("</div></section>");
    }

    /// `guilty`: what is left of the stack of the guilty task below this frame, if it leads here.
    fn frame(&mut self, name: &str, frame: &Frame, depth: usize, guilty: Option<&[&str]>) {
        let (hue, count) = (hue(name), frame.count);
        let kind = match (depth, name) {
            (1, "DSLEEP") => "d",
            (1, "RUN" | "ONPROC") => "r",
            (0 | 1, _) => "s",
            _ => "f",
        };
        let mark = if guilty.is_some() { " g" } else { "" };
        let _ = write!(
            self.0,
            "<div class=n style=\"flex:{count}\"><div class=\"b {kind}{mark}\" style=\"--h:{hue}\" title=\""
        );
        let tasks = if count == 1 { "task" } else { "tasks" };
        self.text(name).raw(&format!(": {count} {tasks}\">")).text(name).raw("</div>");
        if !frame.inner.is_empty() {
            self.raw("<div class=k>");
            for (name, inner) in &frame.inner {
                let rest = guilty.and_then(|path| path.split_first()).filter(|(first, _)| *first == name);
                self.frame(name, inner, depth + 1, rest.map(|(_, rest)| rest));
            }
            // tasks whose stack ends here
            let ended = count.saturating_sub(frame.inner.values().map(|inner| inner.count).sum());
            if ended > 0 {
                let _ = write!(self.0, "<div style=\"flex:{ended}\"></div>");
            }
            self.raw("</div>");
        }
        self.raw("</div>");
    }

    fn rest(&mut self, report: &Report) {
        self.raw("<section>").heading("CPUs", Some(report.cpus.len())).list(&report.cpus).raw("</section>");
        self.raw("<section>").heading("Memory", None);
        self.facts(report.memory.iter().map(|(name, value)| (*name, value.as_str()))).raw("</section>");
        if let Some(objects) = report.checked {
            let class = if report.slabs.is_empty() { "" } else { " class=alarm" };
            self.raw("<section").raw(class).raw(">").heading("Slabs", Some(report.slabs.len()));
            self.raw("<p>")
                .text(&format!("{objects} objects were looked at."))
                .raw("</p>")
                .list(&report.slabs)
                .raw("</section>");
        }
        if !report.crash.words.last.is_empty() {
            self.raw("<section class=wide>").heading("Last words of the log", None);
            self.lines(&report.crash.words.last, "log").raw("</section>");
        }
    }
}

/// A function on stacks, and what it called.
#[derive(Default)]
struct Frame {
    count: u64,
    inner: BTreeMap<String, Frame>,
}

impl Frame {
    fn add(&mut self, stack: &[String], count: u64) {
        let mut at = self;
        at.count += count;
        for name in stack.iter().take(MAX_DEPTH) {
            at = at.inner.entry(name.clone()).or_default();
            at.count += count;
        }
    }
}

/// A colour for a name: always the same.
fn hue(name: &str) -> u32 {
    name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % 32
}

fn fact<'a>(report: &'a Report, name: &str) -> &'a str {
    report.system.iter().find(|(what, _)| *what == name).map_or("?", |(_, value)| value)
}

/// The report as HTML.
pub fn html(report: &Report) -> String {
    let mut page = Page::default();
    page.head(report);
    page.verdict(report);
    page.scene(report);
    page.waits(report);
    page.icicle(report);
    page.rest(report);
    page.raw("</main><footer>kmdb ").text(env!("CARGO_PKG_VERSION")).raw("</footer><script nonce=icicle>");
    page.raw(SCRIPT).raw("</script></body></html>\n");
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let mut page = Page::default();
        page.text("<script>'\"&\u{1b}[31m\u{202e}");
        assert_eq!(page.0, "&lt;script&gt;&#39;&quot;&amp;\\u{1b}[31m\\u{202e}");
    }

    #[test]
    fn stacks_with_a_common_beginning_share_frames() {
        let mut root = Frame::default();
        let stack = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        root.add(&stack(&["SLEEP", "a", "b"]), 2);
        root.add(&stack(&["SLEEP", "a"]), 1);
        assert_eq!((root.count, root.inner["SLEEP"].inner["a"].count), (3, 3));
        let mut page = Page::default();
        page.frame("all", &root, 0, Some(&["SLEEP", "a"]));
        assert_eq!(page.0.matches("class=n ").count(), 4);
        assert_eq!(page.0.matches(" g\"").count(), 3);
        assert!(page.0.contains("<div style=\"flex:1\"></div>"));
    }
}
