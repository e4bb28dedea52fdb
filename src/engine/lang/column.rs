//! Lines of text with columns: fields padded to a width, a left margin, tab stops, wrapping between items.
//!
//! The rules are those of mdb's output buffer: with a wrap width, an item that does not fit begins a new line (unless only
//! the margin stands on this one), padding that would reach the edge becomes a newline, and a longer text breaks at
//! the edge. Without a width nothing wraps.

/// Text so far: lines that are whole, and the one being written.
#[derive(Default)]
pub(super) struct Lines {
    /// finished lines
    pub done: Vec<String>,
    current: String,
    column: usize,
    /// where lines wrap, if they do
    pub wrap: Option<usize>,
    /// columns that every new line begins with; 0 while no margin is wanted
    margin: usize,
}

/// A field's text: `prefix` stands before the zeros that fill it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub prefix: String,
    pub body: String,
}

/// How a field is fitted into its width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fit {
    pub width: usize,
    pub left: bool,
    pub zeros: bool,
}

const TAB_STOP: usize = 8;

impl Lines {
    /// Goes on in a line of which so many columns are taken.
    pub fn behind(column: usize, wrap: Option<usize>) -> Lines {
        Lines { column, wrap, ..Lines::default() }
    }

    pub fn column(&self) -> usize {
        self.column
    }

    /// Sets the margin of the lines that follow, this one too if nothing but its margin was written.
    pub fn set_margin(&mut self, margin: usize) {
        if self.column == self.margin && self.current.bytes().all(|b| b == b' ') {
            self.start_line(margin);
        }
        self.margin = margin;
    }

    fn start_line(&mut self, margin: usize) {
        self.current = " ".repeat(margin);
        self.column = margin;
    }

    pub fn newline(&mut self) {
        self.done.push(std::mem::take(&mut self.current));
        self.start_line(self.margin);
    }

    /// Ends the output: a line on which something stands is whole now.
    pub fn finish(&mut self) {
        self.set_margin(0);
        if self.column != 0 {
            self.newline();
        }
    }

    /// The whole text, the last line without a newline.
    pub fn into_text(mut self) -> String {
        self.done.push(self.current);
        self.done.join("\n")
    }

    pub fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\n' => self.newline(),
                '\t' => self.tab(TAB_STOP),
                c => {
                    if self.wrap.is_some_and(|width| self.column >= width) {
                        self.newline();
                    }
                    self.current.push(c);
                    self.column += 1;
                }
            }
        }
    }

    /// Blanks, or a newline if they would reach the edge.
    pub fn blanks(&mut self, count: usize) {
        match self.wrap {
            Some(width) if self.column + count >= width => self.newline(),
            _ => {
                self.current.extend(std::iter::repeat_n(' ', count));
                self.column += count;
            }
        }
    }

    /// To the next multiple of `stop`.
    pub fn tab(&mut self, stop: usize) {
        if stop != 0 {
            self.blanks(stop - self.column % stop);
        }
    }

    /// To the next multiple of `stop` unless already at one.
    pub fn tab_if_needed(&mut self, stop: usize) {
        if stop != 0 && !self.column.is_multiple_of(stop) {
            self.tab(stop);
        }
    }

    pub fn field(&mut self, field: &Field, fit: Fit) {
        let length = field.prefix.chars().count() + field.body.chars().count();
        let width = fit.width.max(length);
        let only_margin = self.margin != 0 && self.column == self.margin;
        if self.wrap.is_some_and(|edge| self.column != 0 && !only_margin && self.column + width > edge) {
            self.newline();
        }
        let fill = width - length;
        match (fit.left, fit.zeros) {
            (true, _) => {
                self.text(&field.prefix);
                self.text(&field.body);
                if fill > 0 {
                    self.blanks(fill);
                }
            }
            (false, true) => {
                self.text(&field.prefix);
                self.text(&"0".repeat(fill));
                self.text(&field.body);
            }
            (false, false) => {
                self.text(&" ".repeat(fill));
                self.text(&field.prefix);
                self.text(&field.body);
            }
        }
    }
}
