//! Reading a query: its commands, and what they show.

use super::InvalidQuery;
use super::aggregate::Aggregate;
use super::ast::{Assignment, Command, Expr, Slot, SortKey, Stat};
use super::lexer::{Kind, Lexer, Token};
use super::pattern::{Glob, How, Parse, compile};
use super::scope::{MESSAGE, Names, SlotInfo, TIMESTAMP};
use super::value::whole;

/// Commands of one query. AWS documents no number beyond the query's 10,000
/// characters.
const MAX_COMMANDS: usize = 64;
/// Names of one query, which make the width of a row.
const MAX_NAMES: usize = 512;
/// The most rows that `limit` may ask for (`StartQuery`, `limit`).
pub(super) const MAX_LIMIT: usize = 100_000;

/// Reads a query from left to right.
#[derive(Clone, Debug)]
pub(super) struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) names: Names,
    pub(super) depth: usize,
    shown: Shown,
}

/// What the rows will show, so far.
#[derive(Clone, Debug, Default)]
struct Shown {
    slots: Vec<Slot>,
    /// By `parse`, which adds to what is shown without naming the rest.
    parsed: Vec<Slot>,
    /// `fields` or `stats` has named them.
    named: bool,
    /// `display` has: what comes later adds nothing.
    displayed: bool,
}

impl Shown {
    fn add(&mut self, slots: &[Slot]) {
        for slot in slots {
            if !self.slots.contains(slot) {
                self.slots.push(*slot);
            }
        }
    }
}

/// A query as it was read, before it is planned.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) commands: Vec<Command>,
    pub(super) slots: Vec<SlotInfo>,
    pub(super) shown: Vec<Slot>,
}

/// Reads a whole query.
pub(super) fn parse(text: &str) -> Result<Parsed, InvalidQuery> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        names: Names::new(),
        depth: 0,
        shown: Shown::default(),
    };
    let mut commands = vec![];
    loop {
        commands.push(parser.command()?);
        let token = parser.next()?;
        match token.kind {
            Kind::End => break,
            Kind::Symbol("|") if parser.peek()?.kind == Kind::End => break,
            Kind::Symbol("|") if commands.len() < MAX_COMMANDS => {}
            Kind::Symbol("|") => {
                return Err(parser.error_at(&token, "too many commands"));
            }
            _ => return Err(parser.unexpected(&token, "| or the end")),
        }
        if parser.names.count() > MAX_NAMES {
            return Err(parser.error_at(&token, "too many fields"));
        }
    }
    let mut shown = parser.shown;
    if !shown.named && !shown.displayed {
        shown.slots = vec![
            parser.names.read("@timestamp"),
            parser.names.read("@message"),
        ];
    }
    if !shown.displayed {
        let parsed = std::mem::take(&mut shown.parsed);
        shown.add(&parsed);
    }
    let shown = shown.slots;
    Ok(Parsed { commands, slots: parser.names.into_slots(), shown })
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Result<Token, InvalidQuery> {
        self.lexer.peek()
    }

    pub(super) fn next(&mut self) -> Result<Token, InvalidQuery> {
        self.lexer.next()
    }

    pub(super) fn regex(
        &mut self,
    ) -> Result<Option<(String, usize, usize)>, InvalidQuery> {
        self.lexer.regex()
    }

    pub(super) fn error(
        &self,
        start: usize,
        end: usize,
        message: impl Into<String>,
    ) -> InvalidQuery {
        self.lexer.error(start, end, message)
    }

    pub(super) fn error_at(
        &self,
        token: &Token,
        message: impl Into<String>,
    ) -> InvalidQuery {
        self.error(token.start, token.end, message)
    }

    pub(super) fn unexpected(
        &self,
        token: &Token,
        wanted: &str,
    ) -> InvalidQuery {
        let found = self.lexer.slice(token.start, token.end);
        let found = if found.is_empty() { "the end" } else { found };
        let text = format!("unexpected symbol found {found}, wanted {wanted}");
        self.error_at(token, text)
    }

    pub(super) fn eat_word(
        &mut self,
        word: &str,
    ) -> Result<bool, InvalidQuery> {
        let comes = self.peek()?.is_word(word);
        if comes {
            self.next()?;
        }
        Ok(comes)
    }

    pub(super) fn eat_symbol(
        &mut self,
        symbol: &str,
    ) -> Result<bool, InvalidQuery> {
        let comes = self.peek()?.is_symbol(symbol);
        if comes {
            self.next()?;
        }
        Ok(comes)
    }

    pub(super) fn need_symbol(
        &mut self,
        symbol: &str,
    ) -> Result<Token, InvalidQuery> {
        let token = self.next()?;
        match token.is_symbol(symbol) {
            true => Ok(token),
            false => Err(self.unexpected(&token, symbol)),
        }
    }

    /// Source text without white space, as columns without a name are called.
    pub(super) fn source(&self, start: usize, end: usize) -> String {
        let text = self.lexer.slice(start, end);
        let is_plain = !text.contains(['"', '\'', '`', '#']);
        match is_plain {
            true => text.split_whitespace().collect(),
            false => text.trim().to_owned(),
        }
    }

    fn command(&mut self) -> Result<Command, InvalidQuery> {
        let token = self.next()?;
        let Kind::Word(word) = &token.kind else {
            return Err(self.unexpected(&token, "a command"));
        };
        match word.to_ascii_lowercase().as_str() {
            "fields" => {
                let columns = self.columns()?;
                if !self.shown.displayed {
                    self.shown.named = true;
                    self.shown.add(&slots(&columns));
                }
                Ok(Command::Compute(columns))
            }
            "display" => {
                let columns = self.columns()?;
                self.shown.displayed = true;
                self.shown.slots = slots(&columns);
                Ok(Command::Compute(columns))
            }
            "filter" => self.expression().map(Command::Filter),
            "parse" => self.parse(),
            "stats" => self.stats(),
            "sort" | "order" => self.sort(),
            "limit" => self.limit(),
            "dedup" => self.dedup(),
            other => {
                let text = match other {
                    "anomaly" | "diff" | "filterindex" | "join" | "lookup"
                    | "pattern" | "source" | "unmask" | "unnest" => {
                        format!("Minato does not support the command {word}")
                    }
                    _ => format!("unexpected symbol found {word}"),
                };
                Err(self.error_at(&token, text))
            }
        }
    }

    /// `a, b as c, strlen(d)`.
    fn columns(&mut self) -> Result<Vec<Assignment>, InvalidQuery> {
        let mut columns = vec![];
        loop {
            columns.push(self.column_of()?);
            if !self.eat_symbol(",")? {
                return Ok(columns);
            }
        }
    }

    fn column_of(&mut self) -> Result<Assignment, InvalidQuery> {
        let first = self.peek()?;
        let value = self.expression()?;
        let end = self.lexer.position();
        if let Some(name) = self.alias()? {
            let slot = self.names.define(&name);
            return Ok(Assignment { slot, value: Some(value) });
        }
        if let Expr::Field(slot) = value {
            return Ok(Assignment { slot, value: None });
        }
        let name = self.source(first.start, end);
        let slot = self.names.define(&name);
        Ok(Assignment { slot, value: Some(value) })
    }

    fn alias(&mut self) -> Result<Option<String>, InvalidQuery> {
        if !self.eat_word("as")? {
            return Ok(None);
        }
        self.name().map(Some)
    }

    fn name(&mut self) -> Result<String, InvalidQuery> {
        let token = self.next()?;
        match token.kind {
            Kind::Word(name) | Kind::Quoted(name) => Ok(name),
            Kind::Text(_) | Kind::Number(..) | Kind::Symbol(_) | Kind::End => {
                Err(self.unexpected(&token, "a name"))
            }
        }
    }

    fn parse(&mut self) -> Result<Command, InvalidQuery> {
        let next = self.peek()?;
        let has_field =
            !matches!(next.kind, Kind::Text(_)) && !next.is_symbol("/");
        let from = match has_field {
            true => self.primary()?,
            false => Expr::Field(self.names.read("@message")),
        };
        let (how, names) = match self.regex()? {
            Some((text, start, end)) => self.parse_regex(&text, start, end)?,
            None => self.parse_glob()?,
        };
        let define = |name: &String| self.names.define(name);
        let slots: Vec<Slot> = names.iter().map(define).collect();
        for slot in &slots {
            if !self.shown.parsed.contains(slot) {
                self.shown.parsed.push(*slot);
            }
        }
        Ok(Command::Parse(Parse { from, how, slots }))
    }

    fn parse_regex(
        &mut self,
        text: &str,
        start: usize,
        end: usize,
    ) -> Result<(How, Vec<String>), InvalidQuery> {
        let regex = compile(text).map_err(|why| self.error(start, end, why))?;
        let named: Vec<(usize, String)> = regex
            .capture_names()
            .enumerate()
            .filter_map(|(at, name)| Some((at, name?.to_owned())))
            .collect();
        let given = match self.peek()?.is_word("as") {
            true => self.names_behind_as()?,
            false => vec![],
        };
        if given.is_empty() && named.is_empty() {
            let text = "the regular expression has no named groups";
            return Err(self.error(start, end, text));
        }
        if given.is_empty() {
            let (groups, names) = named.into_iter().unzip();
            return Ok((How::Regex(regex, groups), names));
        }
        let groups: Vec<usize> = (1..regex.captures_len()).collect();
        if groups.len() != given.len() {
            let text = "there are not as many names as groups";
            return Err(self.error(start, end, text));
        }
        Ok((How::Regex(regex, groups), given))
    }

    fn parse_glob(&mut self) -> Result<(How, Vec<String>), InvalidQuery> {
        let token = self.next()?;
        let Kind::Text(text) = &token.kind else {
            let wanted = "text or a regular expression";
            return Err(self.unexpected(&token, wanted));
        };
        let glob = Glob::new(text)
            .ok_or_else(|| self.error_at(&token, "there is no wildcard"))?;
        let names = self.names_behind_as()?;
        if names.len() != glob.wildcards() {
            let text = "there are not as many names as wildcards";
            return Err(self.error_at(&token, text));
        }
        Ok((How::Glob(glob), names))
    }

    fn names_behind_as(&mut self) -> Result<Vec<String>, InvalidQuery> {
        if !self.eat_word("as")? {
            let token = self.peek()?;
            return Err(self.unexpected(&token, "as"));
        }
        let mut names = vec![self.name()?];
        while self.eat_symbol(",")? {
            names.push(self.name()?);
        }
        Ok(names)
    }

    fn stats(&mut self) -> Result<Command, InvalidQuery> {
        let mut found = vec![];
        loop {
            found.push(self.stat()?);
            if !self.eat_symbol(",")? {
                break;
            }
        }
        let mut by = vec![];
        if self.eat_word("by")? {
            loop {
                let first = self.peek()?;
                let value = self.expression()?;
                let end = self.lexer.position();
                let name = match self.alias()? {
                    Some(name) => name,
                    None => self.by_name(first.start, end),
                };
                by.push((name, value));
                if !self.eat_symbol(",")? {
                    break;
                }
            }
        }
        // Read in the old scope, named in the new one.
        self.names.aggregate();
        let by: Vec<Assignment> = by
            .into_iter()
            .map(|(name, value)| Assignment {
                slot: self.names.define(&name),
                value: Some(value),
            })
            .collect();
        let stats: Vec<Stat> = found
            .into_iter()
            .map(|(name, aggregate, argument)| Stat {
                slot: self.names.define(&name),
                aggregate,
                argument,
            })
            .collect();
        self.shown = Shown { named: true, ..Shown::default() };
        self.shown.add(&slots(&by));
        let made: Vec<Slot> = stats.iter().map(|stat| stat.slot).collect();
        self.shown.add(&made);
        Ok(Command::Stats { by, stats })
    }

    /// What a grouping without an alias is called.
    fn by_name(&self, start: usize, end: usize) -> String {
        let text = self.source(start, end);
        let quoted = text.strip_prefix('`').and_then(|t| t.strip_suffix('`'));
        quoted.map_or(text.clone(), str::to_owned)
    }

    fn stat(
        &mut self,
    ) -> Result<(String, Aggregate, Option<Expr>), InvalidQuery> {
        let first = self.next()?;
        let Kind::Word(word) = &first.kind else {
            return Err(self.unexpected(&first, "an aggregate function"));
        };
        let mut aggregate = Aggregate::named(word).ok_or_else(|| {
            let text = format!("unknown aggregate function {word}");
            self.error_at(&first, text)
        })?;
        self.need_symbol("(")?;
        let mut argument = None;
        let next = self.peek()?;
        if aggregate == Aggregate::Count && next.is_symbol("*") {
            self.next()?;
            aggregate = Aggregate::CountAll;
        } else if aggregate == Aggregate::Count && next.is_symbol(")") {
            aggregate = Aggregate::CountAll;
        } else {
            argument = Some(self.expression()?);
        }
        if matches!(aggregate, Aggregate::Pct(_)) {
            self.need_symbol(",")?;
            let token = self.next()?;
            let Kind::Number(percent @ 0.0..=100.0, _) = token.kind else {
                return Err(self.unexpected(&token, "a percentage"));
            };
            aggregate = Aggregate::Pct(percent / 100.0);
        }
        let close = self.need_symbol(")")?;
        let name = match self.alias()? {
            Some(name) => name,
            None => self.source(first.start, close.end),
        };
        Ok((name, aggregate, argument))
    }

    fn sort(&mut self) -> Result<Command, InvalidQuery> {
        self.eat_word("by")?;
        let mut keys = vec![];
        loop {
            let value = self.expression()?;
            let descending = self.eat_word("desc")?;
            if !descending {
                self.eat_word("asc")?;
            }
            keys.push(SortKey { value, descending });
            if !self.eat_symbol(",")? {
                return Ok(Command::Sort(keys));
            }
        }
    }

    fn limit(&mut self) -> Result<Command, InvalidQuery> {
        let token = self.next()?;
        if let Kind::Number(number, unit) = &token.kind
            && unit.is_empty()
            && number.fract() == 0.0
            && let Ok(limit @ 1..=MAX_LIMIT) = usize::try_from(whole(*number))
        {
            return Ok(Command::Limit(limit));
        }
        let wanted = "a whole number from 1 to 100000";
        Err(self.unexpected(&token, wanted))
    }

    fn dedup(&mut self) -> Result<Command, InvalidQuery> {
        let mut by = vec![self.expression()?];
        while self.eat_symbol(",")? {
            by.push(self.expression()?);
        }
        Ok(Command::Dedup(by))
    }
}

fn slots(columns: &[Assignment]) -> Vec<Slot> {
    columns.iter().map(|column| column.slot).collect()
}

/// Whether an expression is the time or the message itself.
pub(super) fn is_timestamp(value: &Expr) -> bool {
    matches!(value, Expr::Field(TIMESTAMP))
}

/// Whether an expression is the message itself.
pub(super) fn is_message(value: &Expr) -> bool {
    matches!(value, Expr::Field(MESSAGE))
}
