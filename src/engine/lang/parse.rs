//! Statements: `[addr][,count] stage | stage … [! shell]`, stage by stage.
//!
//! The rules are mdb's (its lexer's states become the functions below): after `::name` come words, after a verb comes
//! a format list, after an unquoted `!` comes shell text up to the newline or `;`.
//!
//! Deviations from mdb:
//! - a line is read statement by statement ([`Statements`]) so that `0t10$d; 10=D` sees the new radix, but [`parse`]
//!   reads a whole text with one radix;
//! - a pipeline may go on on the next line after `|`;
//! - unknown format letters are refused before anything runs;
//! - commands are looked up later, so an unknown one is not a syntax error.

use super::{
    ast::Expr,
    ast::{FormatCount, FormatItem, Spanned, Stage, StageKind, Statement, Word, WordKind},
    error::SyntaxError,
    expr, format,
    lex::{self, Cursor},
};

/// Reads every statement of a text; `radix` (2 to 16) is that of numbers without a prefix.
///
/// ```
/// use engine::lang::{ast::StageKind, parse};
/// let statements = parse("::walk dentry | ::print -a d_name.name ! head", 16)?;
/// assert_eq!(statements[0].stages.len(), 2);
/// assert_eq!(statements[0].shell.as_deref(), Some("head"));
/// # Ok::<(), engine::lang::SyntaxError>(())
/// ```
pub fn parse(text: &str, radix: u32) -> Result<Vec<Statement>, SyntaxError> {
    let mut statements = Statements::new(text);
    let mut all = Vec::new();
    while let Some(statement) = statements.next(radix)? {
        all.push(statement);
    }
    Ok(all)
}

/// Reads a lone expression, such as a word that a command takes as a number.
pub fn parse_expr(text: &str, radix: u32) -> Result<Spanned<Expr>, SyntaxError> {
    let mut cur = Cursor::new(text);
    let found = expr::expression(&mut cur, radix)?;
    match cur.peek() {
        None => Ok(found),
        Some('/') => Err(expr::division(&cur)),
        Some(_) => Err(expr::trailing(&cur)),
    }
}

/// Is the text only not finished: an open quote or parenthesis, a `|` at its end?
pub fn is_incomplete(text: &str) -> bool {
    matches!(parse(text, 16), Err(error) if error.incomplete)
}

/// Lines in which the end of a command is looked for.
const MAX_LINES: usize = 500;

/// The commands of a file, each with the number of the line that it begins in: a line, or several if one is not finished
/// by itself.
pub fn commands(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut rest, mut number) = (text, 1);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = rest.match_indices('\n').map(|(at, _)| at).chain((!rest.ends_with('\n')).then_some(rest.len()));
        // a quote that nobody closes goes on to the end, which is not looked for line by line
        let end = ends.take(MAX_LINES).find(|end| !is_incomplete(&rest[..*end])).unwrap_or(rest.len());
        let (command, first) = (&rest[..end], number);
        rest = rest.get(end + 1..).unwrap_or_default();
        number += command.matches('\n').count() + 1;
        Some((first, command.trim_end_matches('\r')))
    })
}

/// The statements of a text, read one at a time so that each may change how the next is read.
#[derive(Clone)]
pub struct Statements<'a> {
    cur: Cursor<'a>,
}

impl<'a> Statements<'a> {
    /// Starts at the beginning of `text`; spans are byte offsets into it.
    pub fn new(text: &'a str) -> Self {
        Statements { cur: Cursor::new(text) }
    }

    /// The next statement, or none at the end. After an error the rest of the line is given up.
    pub fn next(&mut self, radix: u32) -> Result<Option<Statement>, SyntaxError> {
        loop {
            self.cur.skip_lines();
            if !self.cur.eat(";") {
                break;
            }
        }
        if self.cur.peek().is_none() {
            return Ok(None);
        }
        let found = Parser { cur: &mut self.cur, radix }.statement();
        if found.is_err() {
            self.cur.take_while(|c| c != '\n');
        }
        found.map(Some)
    }

    /// How many bytes were read.
    pub fn offset(&self) -> usize {
        self.cur.pos
    }
}

struct Parser<'c, 'a> {
    cur: &'c mut Cursor<'a>,
    radix: u32,
}

/// What `! …` turned out to be.
enum Shell {
    Tail(String),
    Quoted(Stage),
}

impl Parser<'_, '_> {
    fn statement(&mut self) -> Result<Statement, SyntaxError> {
        let mut statement = Statement { addr: None, count: None, stages: Vec::new(), shell: None, shell_source: false };
        if !self.at_command() && self.cur.peek() != Some(',') {
            statement.addr = Some(expr::expression(self.cur, self.radix)?);
        }
        self.cur.skip_blanks();
        if self.cur.eat(",") {
            self.cur.skip_blanks();
            statement.count = Some(expr::expression(self.cur, self.radix)?);
        }
        self.cur.skip_blanks();
        if !self.cur.at_end() && self.cur.peek() != Some('!') {
            if !self.at_command() {
                return Err(expr::trailing(self.cur));
            }
            statement.stages.push(self.stage()?);
        }
        self.pipeline(&mut statement)?;
        Ok(statement)
    }

    /// The stages after the first, and the shell at the end.
    fn pipeline(&mut self, statement: &mut Statement) -> Result<(), SyntaxError> {
        loop {
            self.cur.skip_blanks();
            if self.cur.at_end() {
                return Ok(());
            }
            if self.cur.peek() == Some('!') && !self.shell(statement)? {
                return Ok(());
            }
            if !self.cur.eat("|") {
                return Err(self.not_a_pipe());
            }
            self.cur.skip_lines();
            if !self.at_command() || self.cur.peek() == Some('!') {
                return Err(self.no_stage());
            }
            statement.stages.push(self.stage()?);
        }
    }

    fn not_a_pipe(&self) -> SyntaxError {
        let error = expr::unexpected(self.cur, "after a command").expected(&["|", "!", ";", "the end of the line"]);
        match self.cur.peek() {
            Some(')') => self.cur.error(") unmatched"),
            _ => error,
        }
    }

    fn no_stage(&self) -> SyntaxError {
        let error = self
            .cur
            .error(format!("a command must follow |, not {}", self.cur.describe()))
            .expected(&["::command", "a verb"])
            .incomplete(self.cur.peek().is_none());
        match self.cur.peek() {
            Some('!') => error.hint("the shell follows the pipeline directly, without |: ::ps ! grep sshd"),
            Some(c) if c.is_ascii_alphanumeric() => error.hint("commands begin with ::, shell commands with !"),
            _ => error,
        }
    }

    /// At a character that begins a command rather than an expression.
    fn at_command(&self) -> bool {
        matches!(self.cur.peek(), Some(':' | '$' | '/' | '\\' | '@' | '?' | '=' | '>' | '!'))
    }

    /// `! text`, `!< text`, `! 'text'`, `! 'text' | …` at the `!`: true if the pipeline goes on, with the `|`.
    fn shell(&mut self, statement: &mut Statement) -> Result<bool, SyntaxError> {
        let start = self.cur.pos;
        self.cur.bump();
        let source = self.cur.eat("<");
        match self.shell_text(start)? {
            Shell::Tail(text) => {
                statement.shell = Some(text);
                statement.shell_source = source;
                Ok(false)
            }
            Shell::Quoted(stage) if source => {
                Err(SyntaxError::new(stage.span, "| cannot follow !<").hint("!< must be the last part of its line"))
            }
            Shell::Quoted(stage) => {
                statement.stages.push(stage);
                Ok(true)
            }
        }
    }

    /// The text after `!`: unquoted up to the end of the statement, or quoted; quoted and followed by `|` is a stage.
    fn shell_text(&mut self, start: usize) -> Result<Shell, SyntaxError> {
        self.cur.skip_blanks();
        let text_start = self.cur.pos;
        if !matches!(self.cur.peek(), Some('\'' | '"')) {
            let text = self.cur.take_while(|c| c != '\n' && c != ';').trim_end();
            return match text.is_empty() {
                true => Err(SyntaxError::new(start..text_start, "a shell command must follow !")),
                false => Ok(Shell::Tail(text.to_string())),
            };
        }
        let text = lex::quoted(self.cur)?;
        let span = start..self.cur.pos;
        if text.trim().is_empty() {
            return Err(SyntaxError::new(span, "a shell command must follow !"));
        }
        self.cur.skip_blanks();
        match self.cur.peek() {
            Some('|') => Ok(Shell::Quoted(Stage { kind: StageKind::Shell(text), span })),
            _ if self.cur.at_end() => Ok(Shell::Tail(text)),
            Some('!') => Err(self
                .cur
                .error("a shell command cannot be followed by !")
                .hint("join a command to it with |; join shell commands within one: ! 'a | b'")),
            _ => Err(expr::unexpected(self.cur, "after a quoted shell command")
                .expected(&["|", ";", "the end of the line"])
                .hint("without quotes the shell command goes on to the end of the line")),
        }
    }

    /// One stage, at its first character.
    fn stage(&mut self) -> Result<Stage, SyntaxError> {
        let start = self.cur.pos;
        let kind = match self.cur.peek() {
            Some(':') => self.dcmd()?,
            Some('$') => self.dollar()?,
            Some('>') => self.assign()?,
            Some(verb) => {
                self.cur.bump();
                self.verb(verb)?
            }
            None => return Err(self.no_stage()),
        };
        Ok(Stage { kind, span: start..self.cur.pos })
    }

    /// ``::name``, ``::module`name``, `:c` and their words.
    fn dcmd(&mut self) -> Result<StageKind, SyntaxError> {
        if !self.cur.eat("::") {
            return self.letter_dcmd();
        }
        let start = self.cur.pos;
        let text = self.cur.take_while(lex::is_name);
        let name_span = start..self.cur.pos;
        let (module, name) = match text.rsplit_once('`') {
            Some((module, name)) => (Some(module), name),
            None => (None, text),
        };
        if name.is_empty() || module.is_some_and(str::is_empty) {
            let span = if text.is_empty() { self.cur.here() } else { name_span };
            return Err(SyntaxError::new(span, "a command name must follow ::").hint("::help, ::module`name"));
        }
        let (module, name) = (module.map(String::from), name.to_string());
        Ok(StageKind::Dcmd { module, name, name_span, args: self.words()? })
    }

    /// `$c` or `:c`: the letter may touch what follows.
    fn letter_dcmd(&mut self) -> Result<StageKind, SyntaxError> {
        let start = self.cur.pos;
        let sigil = self.cur.bump().unwrap_or('$');
        let is_command = |c: char| c.is_ascii_alphabetic() || matches!(c, '?' | '%' | '@' | '^' | '_' | '`');
        let letter = match self.cur.peek() {
            Some(c) if is_command(c) => self.cur.bump().unwrap_or('?'),
            _ if sigil == '$' && (self.cur.at_end() || self.cur.peek().is_some_and(|c| " \t|!".contains(c))) => '?',
            _ => {
                let error = expr::unexpected(self.cur, &format!("after {sigil}")).expected(&["a command letter"]);
                return Err(match self.cur.peek() {
                    Some('[') => error.hint("$[…] belongs to the arguments of a command"),
                    _ => error,
                });
            }
        };
        let name_span = start..self.cur.pos;
        Ok(StageKind::Dcmd { module: None, name: format!("{sigil}{letter}"), name_span, args: self.words()? })
    }

    /// `$c`, `$<file`, `$<<file`, `$>file`.
    fn dollar(&mut self) -> Result<StageKind, SyntaxError> {
        let Some(sigil) = ["$<<", "$<", "$>"].into_iter().find(|sigil| self.cur.rest().starts_with(sigil)) else {
            return self.letter_dcmd();
        };
        self.cur.eat(sigil);
        let mut words = self.texts("a file name")?.into_iter();
        let name = words.next().map(|word| word.node).unwrap_or_default();
        match words.next() {
            Some(more) => Err(SyntaxError::new(more.span, format!("only one file name may follow {sigil}"))),
            None => Ok(StageKind::File { sigil: sigil.into(), name }),
        }
    }

    /// `>name`, `>/c/name`.
    fn assign(&mut self) -> Result<StageKind, SyntaxError> {
        let start = self.cur.pos;
        self.cur.bump();
        let size = match self.cur.peek() {
            Some('/') => Some(expr::cast_size(self.cur)?),
            _ => None,
        };
        let words = self.texts("a variable name")?;
        let [name] = words.as_slice() else {
            return Err(SyntaxError::new(start..self.cur.pos, "expected a single variable name following '>'"));
        };
        match name.node.chars().find(|&c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '`')) {
            Some(bad) => {
                Err(SyntaxError::new(name.span.clone(), format!("'{bad}' may not be used in a variable name")))
            }
            None => Ok(StageKind::Assign { name: name.node.clone(), size }),
        }
    }

    /// Argument words up to `|`, `!`, `;` or the end of the line.
    fn words(&mut self) -> Result<Vec<Word>, SyntaxError> {
        let mut words = Vec::new();
        loop {
            self.cur.skip_blanks();
            if self.cur.at_end() || lex::at_pipe(self.cur) {
                return Ok(words);
            }
            let start = self.cur.pos;
            let kind = match self.cur.eat("$[") {
                true => WordKind::Immediate(self.immediate(start)?.node),
                false => WordKind::Text(lex::word(self.cur)?.node),
            };
            let span = start..self.cur.pos;
            words.push(Word { kind, raw: self.cur.src[span.clone()].to_string(), span });
        }
    }

    /// Words that must be texts.
    fn texts(&mut self, what: &str) -> Result<Vec<Spanned<String>>, SyntaxError> {
        self.words()?
            .into_iter()
            .map(|word| match word.kind {
                WordKind::Text(node) => Ok(Spanned { node, span: word.span }),
                WordKind::Immediate(_) => {
                    Err(SyntaxError::new(word.span, "an expression cannot stand here").expected(&[what]))
                }
            })
            .collect()
    }

    /// The expression of `$[expr]`, behind the bracket; the span is that of the whole.
    fn immediate(&mut self, start: usize) -> Result<Spanned<Expr>, SyntaxError> {
        let unmatched = || SyntaxError::new(start..start + 2, "$[ unmatched").incomplete(true);
        let inner = expr::expression(self.cur, self.radix)
            .map_err(|error| if self.cur.peek().is_none() && !error.incomplete { unmatched() } else { error })?;
        match self.cur.peek() {
            Some(']') => {
                self.cur.bump();
                Ok(Spanned { node: inner.node, span: start..self.cur.pos })
            }
            None => Err(unmatched()),
            Some('\n' | ';' | '!') => Err(unmatched().incomplete(false)),
            Some('/') => Err(expr::division(self.cur)),
            Some(_) => Err(expr::trailing(self.cur)),
        }
    }

    /// What follows a verb: a format list, or values if the first letter writes or searches.
    fn verb(&mut self, verb: char) -> Result<StageKind, SyntaxError> {
        self.cur.skip_blanks();
        let valued = verb != '=' && self.cur.peek().is_some_and(format::takes_values);
        let format = if valued { self.values()? } else { self.format_list()? };
        if verb == '=' && format.is_empty() {
            let error = self.cur.error("expected one or more format characters following '='");
            return Err(error.hint("=X prints in hex, =D in decimal; ::formats lists the letters"));
        }
        Ok(StageKind::Verb { verb, format })
    }

    /// A write or search letter and its values, each a word that is an expression.
    fn values(&mut self) -> Result<Vec<FormatItem>, SyntaxError> {
        let start = self.cur.pos;
        let letter = self.cur.bump().unwrap_or('L');
        let span = start..self.cur.pos;
        let mut items = vec![FormatItem::Letter { letter, count: FormatCount::One, span: span.clone() }];
        for word in self.words()? {
            let node = match word.kind {
                WordKind::Immediate(node) => node,
                WordKind::Text(text) => {
                    let unquoted = self.cur.src.get(word.span.clone()) == Some(&text);
                    let place = |mut error: SyntaxError| {
                        // within quotes the offsets are not the line's: point at the word
                        error.span = match unquoted {
                            true => error.span.start + word.span.start..error.span.end + word.span.start,
                            false => word.span.clone(),
                        };
                        error.incomplete = false;
                        error
                    };
                    parse_expr(&text, self.radix).map_err(place)?.node
                }
            };
            items.push(FormatItem::Value(Spanned { node, span: word.span }));
        }
        let search = format::searches(letter);
        match items.len() {
            1 if search => Err(SyntaxError::new(span, format!("expected value following {letter}"))),
            4.. if search => Err(SyntaxError::new(span, format!("only value and mask may follow {letter}"))),
            _ => Ok(items),
        }
    }

    /// Letters, decimal counts, `$[expr]` counts, `"text"`.
    fn format_list(&mut self) -> Result<Vec<FormatItem>, SyntaxError> {
        let mut items = Vec::new();
        let mut count: Option<Spanned<FormatCount>> = None;
        loop {
            self.cur.skip_blanks();
            let start = self.cur.pos;
            if self.cur.at_end() || matches!(self.cur.peek(), Some('|' | '!')) {
                return match count {
                    Some(count) => Err(self.lone_count(count)),
                    None => Ok(items),
                };
            }
            match self.cur.peek() {
                Some('"') => {
                    items.push(FormatItem::Text(lex::quoted(self.cur)?));
                    count = None;
                }
                Some('$') if self.cur.eat("$[") => {
                    let found = self.immediate(start)?;
                    count = Some(Spanned { node: FormatCount::Computed(found.node), span: found.span });
                }
                Some(c) if c.is_ascii_digit() => {
                    let digits = self.cur.take_while(|c| c.is_ascii_digit());
                    let span = start..self.cur.pos;
                    let Ok(number) = digits.parse() else {
                        return Err(SyntaxError::new(span, "repeat count is too large"));
                    };
                    count = Some(Spanned { node: FormatCount::Number(number), span });
                }
                _ => items.push(self.format_letter(count.take())?),
            }
        }
    }

    fn format_letter(&mut self, count: Option<Spanned<FormatCount>>) -> Result<FormatItem, SyntaxError> {
        let span = self.cur.here();
        let letter = self.cur.peek().unwrap_or(' ');
        if !format::prints(letter) {
            let error = self.cur.error(format!("invalid format character -- '{letter}'"));
            return Err(match letter {
                _ if format::takes_values(letter) => error.hint("it takes a value and comes right after / \\ or ?"),
                '(' | '.' | '<' | '_' => error.hint("after a verb come format letters; division is %, modulus is %%"),
                '\'' => error.hint("text in a format list stands in double quotes"),
                _ => error.hint("::formats lists the letters"),
            });
        }
        self.cur.bump();
        Ok(FormatItem::Letter { letter, count: count.map_or(FormatCount::One, |count| count.node), span })
    }

    /// A count that no letter follows: most likely `10/2` was meant as a division.
    fn lone_count(&self, count: Spanned<FormatCount>) -> SyntaxError {
        let error =
            SyntaxError::new(count.span, "a repeat count without a format letter").expected(&["a format letter"]);
        error.hint("'/' is the verb that prints memory; division is %, modulus is %%")
    }
}
