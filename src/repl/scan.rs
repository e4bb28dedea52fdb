//! What a line consists of while it is still being typed.
//!
//! The parser proper refuses what is not finished; this reads as far as it goes and never fails. It knows the rules of
//! the lexer (what ends a word, what a quote hides) and nothing of meanings.

use std::ops::Range;

/// A byte range of the line.
pub type Span = Range<usize>;

/// A pipeline of one statement.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statement {
    pub stages: Vec<Stage>,
}

/// A stage of a pipeline.
#[derive(Debug, PartialEq, Eq)]
pub struct Stage {
    /// the whole
    pub span: Span,
    /// the expression in front, with its count
    pub address: Span,
    pub command: Command,
}

/// What a stage does.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// nothing yet
    None,
    /// `::name`, `$c`: the name without its colons, and the words
    Dcmd { name: Span, words: Vec<Word> },
    /// a verb and its format list
    Verb { format: Span },
    /// `>name`
    Assign { name: Span },
    /// `$<file`
    File { name: Span },
    /// `! text`, `!< text`
    Shell { text: Span },
}

/// A word behind a dcmd.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// with its quotes
    pub span: Span,
    /// without
    pub text: String,
    /// a quote that is still open
    pub open: Option<char>,
}

/// The statements of a text, those without any content left out but for the last: the cursor stands in it.
pub fn scan(text: &str) -> Vec<Statement> {
    let mut scanner = Scanner { text, pos: 0 };
    let mut all = vec![scanner.statement()];
    while scanner.pos < text.len() {
        scanner.pos += 1;
        all.push(scanner.statement());
    }
    all
}

struct Scanner<'a> {
    text: &'a str,
    pos: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.pos..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&what) {
            self.bump();
        }
    }

    fn at_end(&self) -> bool {
        matches!(self.peek(), None | Some('\n' | ';'))
    }

    fn statement(&mut self) -> Statement {
        let mut stages = Vec::new();
        loop {
            // behind a `|` the line may go on in the next
            self.skip(|c| c == ' ' || c == '\t' || (c == '\n' && !stages.is_empty()));
            let start = self.pos;
            self.address();
            let address = start..self.pos;
            let command = self.command();
            stages.push(Stage { span: start..self.pos, address, command });
            // an unquoted shell command ends the statement
            if self.peek() == Some('|') {
                self.bump();
            } else if self.peek() != Some('!') {
                self.skip(|c| c != '\n' && c != ';');
                return Statement { stages };
            }
        }
    }

    /// Up to the sign that begins a command.
    fn address(&mut self) {
        let mut operator = true;
        while let Some(c) = self.peek() {
            let next = self.rest().chars().nth(1);
            match (c, next) {
                (':' | '$' | '\\' | '@' | '?' | '|' | '!' | ';' | '\n', _) if (c, next) != ('!', Some('=')) => return,
                ('/', Some('/')) => {
                    self.skip(|c| c != '\n');
                    return;
                }
                // `*/4/` is a cast
                ('/', _) if operator && self.rest().chars().nth(2) == Some('/') => self.pos += 2,
                ('/', _) => return,
                ('=' | '!', Some('=')) | ('>', Some('>')) => self.pos += 1,
                ('=' | '>', _) => return,
                ('\'', _) => {
                    self.quoted();
                    continue;
                }
                _ => {}
            }
            operator = matches!(c, '*' | '%');
            self.bump();
        }
    }

    fn command(&mut self) -> Command {
        match self.peek() {
            Some(':') if self.rest().starts_with("::") => {
                self.pos += 2;
                let start = self.pos;
                self.skip(is_name);
                Command::Dcmd { name: start..self.pos, words: self.words() }
            }
            Some('$') if self.rest().starts_with("$<") || self.rest().starts_with("$>") => {
                self.skip(|c| "$<> \t".contains(c));
                let start = self.pos;
                self.words();
                Command::File { name: start..self.pos }
            }
            Some(':' | '$') => {
                let start = self.pos;
                self.bump();
                if !self.at_end() && self.peek() != Some('|') {
                    self.bump();
                }
                Command::Dcmd { name: start..self.pos, words: self.words() }
            }
            Some('>') => {
                self.bump();
                self.skip(|c| c == ' ' || c == '\t');
                let start = self.pos;
                self.words();
                Command::Assign { name: start..self.pos }
            }
            Some('!') => self.shell(),
            Some('/' | '\\' | '@' | '?' | '=') => {
                self.bump();
                let start = self.pos;
                while !self.at_end() && !matches!(self.peek(), Some('|' | '!')) && !self.rest().starts_with("//") {
                    match self.peek() {
                        Some('"') => drop(self.quoted()),
                        _ => drop(self.bump()),
                    }
                }
                let format = start..self.pos;
                self.comment();
                Command::Verb { format }
            }
            _ => Command::None,
        }
    }

    fn shell(&mut self) -> Command {
        self.bump();
        self.skip(|c| c == '<' || c == ' ' || c == '\t');
        let start = self.pos;
        match self.peek() {
            Some('\'' | '"') => {
                self.quoted();
                let text = start..self.pos;
                self.skip(|c| c == ' ' || c == '\t');
                Command::Shell { text }
            }
            _ => {
                self.skip(|c| c != '\n' && c != ';');
                Command::Shell { text: start..self.pos }
            }
        }
    }

    /// Words up to the end of the stage.
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        loop {
            self.skip(|c| c == ' ' || c == '\t');
            self.comment();
            if self.at_end() || self.at_pipe() {
                return words;
            }
            words.push(self.word());
        }
    }

    /// Past a comment, which goes on to the end of the line.
    fn comment(&mut self) {
        if self.rest().starts_with("//") {
            self.skip(|c| c != '\n');
        }
    }

    /// `||`, `!=` and `!~` are parts of an expression.
    fn at_pipe(&self) -> bool {
        let rest = self.rest();
        match self.peek() {
            Some('|') => !rest.starts_with("||"),
            Some('!') => !rest.starts_with("!=") && !rest.starts_with("!~ "),
            _ => false,
        }
    }

    fn word(&mut self) -> Word {
        let start = self.pos;
        let (mut text, mut open) = (String::new(), None);
        while let Some(c) = self.peek() {
            match c {
                '\'' | '"' => {
                    let from = self.pos + 1;
                    let closed = self.quoted();
                    let end = if closed { self.pos - 1 } else { self.pos };
                    text.push_str(self.text.get(from..end).unwrap_or_default());
                    open = (!closed).then_some(c);
                }
                '$' if self.rest().starts_with("$[") => {
                    let from = self.pos;
                    self.skip(|c| c != ']' && c != '\n' && c != ';');
                    if self.peek() == Some(']') {
                        self.bump();
                    }
                    text.push_str(self.text.get(from..self.pos).unwrap_or_default());
                }
                '|' | '!' if !self.at_pipe() => {
                    text.extend([self.bump(), self.bump()].into_iter().flatten());
                }
                ' ' | '\t' | '\n' | ';' | '|' | '!' => break,
                _ => text.extend(self.bump()),
            }
        }
        Word { span: start..self.pos, text, open }
    }

    /// Past a quoted text; false if it has no end.
    fn quoted(&mut self) -> bool {
        let quote = self.bump();
        while let Some(c) = self.bump() {
            if Some(c) == quote {
                return true;
            }
            if c == '\\' {
                self.bump();
            }
        }
        false
    }
}

/// May stand in the name of a dcmd.
pub fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '`')
}

#[cfg(test)]
mod tests {
    use super::{Command, Stage, scan};

    /// `address|name|word|word` of each stage of the last statement.
    fn stages(text: &str) -> Vec<String> {
        let all = scan(text);
        let show = |stage: &Stage| {
            let mut parts = vec![text[stage.address.clone()].trim().to_owned()];
            match &stage.command {
                Command::None => {}
                Command::Dcmd { name, words } => {
                    parts.push(format!("::{}", &text[name.clone()]));
                    parts.extend(words.iter().map(|w| w.text.clone()));
                }
                Command::Verb { format } => parts.push(format!("/{}", &text[format.clone()])),
                Command::Assign { name } => parts.push(format!(">{}", &text[name.clone()])),
                Command::File { name } => parts.push(format!("$<{}", &text[name.clone()])),
                Command::Shell { text: span } => parts.push(format!("!{}", &text[span.clone()])),
            }
            parts.join("|")
        };
        all.last().map(|s| s.stages.iter().map(show).collect()).unwrap_or_default()
    }

    #[test]
    fn stages_are_those_of_the_statement_under_the_cursor() {
        assert_eq!(stages("::walk dentry | ::pr"), ["|::walk|dentry", "|::pr"]);
        assert_eq!(stages("a/X; ::ps | ::sort na"), ["|::ps", "|::sort|na"]);
        assert_eq!(
            stages("::walk task |\n::where comm == \"a|b;c\" |"),
            ["|::walk|task", "|::where|comm|==|a|b;c", ""]
        );
        assert_eq!(stages("::where a != 1 || b !~ x | ::count"), ["|::where|a|!=|1||||b|!~|x", "|::count"]);
    }

    #[test]
    fn addresses_and_other_commands() {
        assert_eq!(stages("a+b,3/20X"), ["a+b,3|/20X"]);
        assert_eq!(stages("*/4/(a+8)=K"), ["*/4/(a+8)|/K"]);
        assert_eq!(stages("a==b>>2>x"), ["a==b>>2|>x"]);
        assert_eq!(stages("<rip::dis ! grep 'a|b"), ["<rip|::dis", "|!grep 'a|b"]);
        assert_eq!(stages("! 'cat x' | ::what"), ["|!'cat x'", "|::what"]);
        assert_eq!(stages("a$<bufctl"), ["a|$<bufctl"]);
        assert_eq!(stages("$c"), ["|::$c"]);
        assert_eq!(stages("::print 'struct fo"), ["|::print|struct fo"]);
        assert_eq!(stages("1::echo $[a|b] c"), ["1|::echo|$[a|b]|c"]);
        assert_eq!(stages("'a;b'=K // a; ::x"), ["'a;b'|/K "]);
        assert_eq!(stages(""), [""]);
    }
}
