//! Reading expressions. From loose to tight: `or`, `and`, `not`, comparisons,
//! `+ -`, `* / %`, `^`, a sign.

use super::InvalidQuery;
use super::ast::{Arithmetic, Comparison, Expr};
use super::function::Function;
use super::lexer::{Kind, Token};
use super::parser::Parser;
use super::pattern::{Like, compile, plain_text};
use super::scope::TIMESTAMP;
use super::time::Period;
use super::value::Value;

/// How deep parentheses, calls and signs may nest; AWS documents no number,
/// and nobody writes ten.
const MAX_DEPTH: usize = 48;
/// Elements of a list behind `in`.
const MAX_LIST: usize = 1000;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Expr, InvalidQuery> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let here = self.peek()?;
            return Err(self.error_at(&here, "the query nests too deep"));
        }
        let expression = self.any();
        self.depth -= 1;
        expression
    }

    fn any(&mut self) -> Result<Expr, InvalidQuery> {
        let mut list = vec![self.all()?];
        while self.eat_word("or")? {
            list.push(self.all()?);
        }
        Ok(single_or(list, Expr::Any))
    }

    fn all(&mut self) -> Result<Expr, InvalidQuery> {
        let mut list = vec![self.negation()?];
        while self.eat_word("and")? {
            list.push(self.negation()?);
        }
        Ok(single_or(list, Expr::All))
    }

    fn negation(&mut self) -> Result<Expr, InvalidQuery> {
        let mut is_negated = false;
        while self.eat_word("not")? {
            is_negated = !is_negated;
        }
        let inner = self.comparison()?;
        Ok(if is_negated { Expr::Not(Box::new(inner)) } else { inner })
    }

    fn comparison(&mut self) -> Result<Expr, InvalidQuery> {
        let left = self.sum()?;
        let next = self.peek()?;
        if let Some(comparison) = comparison_of(&next) {
            self.next()?;
            let right = self.sum()?;
            let sides = (Box::new(left), Box::new(right));
            return Ok(Expr::Compare(comparison, sides.0, sides.1));
        }
        if next.is_symbol("=~") {
            self.next()?;
            return self.like(left);
        }
        let negated = next.is_word("not");
        let mut ahead = self.lexer.clone();
        if negated {
            ahead.next()?;
        }
        let word = ahead.next()?;
        let found = if word.is_word("like") {
            self.lexer = ahead;
            self.like(left)?
        } else if word.is_word("in") {
            self.lexer = ahead;
            self.list(left)?
        } else {
            return Ok(left);
        };
        Ok(if negated { Expr::Not(Box::new(found)) } else { found })
    }

    /// What `like` and `=~` look for.
    fn like(&mut self, value: Expr) -> Result<Expr, InvalidQuery> {
        let value = Box::new(value);
        if let Some((text, start, end)) = self.regex()? {
            if let Some(plain) = plain_text(&text) {
                return Ok(Expr::Like(value, Like::new(plain)));
            }
            let regex =
                compile(&text).map_err(|why| self.error(start, end, why))?;
            return Ok(Expr::Matches(value, regex));
        }
        let token = self.next()?;
        match &token.kind {
            Kind::Text(text) => Ok(Expr::Like(value, Like::new(text))),
            _ => Err(self.unexpected(&token, "text or a regular expression")),
        }
    }

    /// The list behind `in`.
    fn list(&mut self, value: Expr) -> Result<Expr, InvalidQuery> {
        let open = self.next()?;
        let close = match open.kind {
            Kind::Symbol("[") => "]",
            Kind::Symbol("(") => ")",
            _ => return Err(self.unexpected(&open, "[")),
        };
        let mut list = vec![];
        if !self.peek()?.is_symbol(close) {
            loop {
                list.push(self.expression()?);
                if list.len() > MAX_LIST {
                    return Err(self.error_at(&open, "the list is too long"));
                }
                if !self.eat_symbol(",")? {
                    break;
                }
            }
        }
        self.need_symbol(close)?;
        Ok(Expr::In(Box::new(value), list))
    }

    fn sum(&mut self) -> Result<Expr, InvalidQuery> {
        let first = self.product()?;
        let mut rest = vec![];
        loop {
            let operator = match self.peek()?.kind {
                Kind::Symbol("+") => Arithmetic::Add,
                Kind::Symbol("-") => Arithmetic::Subtract,
                _ => return Ok(chain(first, rest)),
            };
            self.next()?;
            rest.push((operator, self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr, InvalidQuery> {
        let first = self.power()?;
        let mut rest = vec![];
        loop {
            let operator = match self.peek()?.kind {
                Kind::Symbol("*") => Arithmetic::Multiply,
                Kind::Symbol("/") => Arithmetic::Divide,
                Kind::Symbol("%") => Arithmetic::Remainder,
                _ => return Ok(chain(first, rest)),
            };
            self.next()?;
            rest.push((operator, self.power()?));
        }
    }

    fn power(&mut self) -> Result<Expr, InvalidQuery> {
        let first = self.signed()?;
        let mut rest = vec![];
        while self.eat_symbol("^")? {
            rest.push((Arithmetic::Power, self.signed()?));
        }
        Ok(chain(first, rest))
    }

    fn signed(&mut self) -> Result<Expr, InvalidQuery> {
        let mut is_negative = false;
        while self.eat_symbol("-")? {
            is_negative = !is_negative;
        }
        let inner = self.primary()?;
        Ok(match (is_negative, inner) {
            (true, Expr::Literal(Value::Number(number))) => {
                Expr::Literal(Value::Number(-number))
            }
            (true, inner) => Expr::Minus(Box::new(inner)),
            (false, inner) => inner,
        })
    }

    pub(super) fn primary(&mut self) -> Result<Expr, InvalidQuery> {
        let token = self.next()?;
        match &token.kind {
            Kind::Symbol("(") => {
                let inner = self.expression()?;
                self.need_symbol(")")?;
                Ok(inner)
            }
            Kind::Text(text) => {
                Ok(Expr::Literal(Value::Text(text.clone().into())))
            }
            Kind::Number(number, unit) if unit.is_empty() => {
                Ok(Expr::Literal(Value::Number(*number)))
            }
            Kind::Quoted(name) => Ok(Expr::Field(self.names.read(name))),
            Kind::Word(_) if self.peek()?.is_symbol("(") => self.call(&token),
            Kind::Word(word) if word.eq_ignore_ascii_case("true") => {
                Ok(Expr::Literal(Value::Bool(true)))
            }
            Kind::Word(word) if word.eq_ignore_ascii_case("false") => {
                Ok(Expr::Literal(Value::Bool(false)))
            }
            Kind::Word(word) if is_reserved(word) => {
                Err(self.unexpected(&token, "a value"))
            }
            Kind::Word(name) => Ok(Expr::Field(self.names.read(name))),
            Kind::Number(..) | Kind::Symbol(_) | Kind::End => {
                Err(self.unexpected(&token, "a value"))
            }
        }
    }

    /// A call, whose name was taken.
    fn call(&mut self, name: &Token) -> Result<Expr, InvalidQuery> {
        if self.names.aggregated
            && let Some(column) = self.column(name)?
        {
            return Ok(Expr::Field(column));
        }
        self.need_symbol("(")?;
        let Kind::Word(word) = &name.kind else {
            return Err(self.unexpected(name, "a function"));
        };
        let (function, least, most) = match word.to_ascii_lowercase().as_str() {
            "bin" => {
                let period = self.period()?;
                self.need_symbol(")")?;
                // Behind `stats` the events' times are gone.
                let at = match self.names.aggregated {
                    true => Expr::Field(self.names.read("@timestamp")),
                    false => Expr::Field(TIMESTAMP),
                };
                return Ok(Expr::Call(Function::DateFloor(period), vec![at]));
            }
            "datefloor" | "dateceil" => {
                let at = self.expression()?;
                self.need_symbol(",")?;
                let period = self.period()?;
                self.need_symbol(")")?;
                let is_floor = word.eq_ignore_ascii_case("datefloor");
                let function = match is_floor {
                    true => Function::DateFloor(period),
                    false => Function::DateCeil(period),
                };
                return Ok(Expr::Call(function, vec![at]));
            }
            _ => Function::named(word).ok_or_else(|| {
                self.error_at(name, format!("unknown function {word}"))
            })?,
        };
        let mut arguments = vec![];
        if !self.peek()?.is_symbol(")") {
            loop {
                arguments.push(self.expression()?);
                if !self.eat_symbol(",")? {
                    break;
                }
            }
        }
        let close = self.need_symbol(")")?;
        if arguments.len() < least || arguments.len() > most {
            let text = format!("wrong number of arguments of {word}");
            return Err(self.error(name.start, close.end, text));
        }
        Ok(Expr::Call(function, arguments))
    }

    /// The column of `stats` that is called as this call is written, which is
    /// then taken whole: `sort count(*)`.
    fn column(&mut self, name: &Token) -> Result<Option<usize>, InvalidQuery> {
        let mut ahead = self.lexer.clone();
        let mut open = 0_usize;
        loop {
            let token = ahead.next()?;
            match token.kind {
                Kind::Symbol("(") => open += 1,
                Kind::Symbol(")") => open -= 1,
                Kind::End => return Ok(None),
                _ => {}
            }
            if open == 0 {
                let text = self.source(name.start, token.end);
                let found = self.names.column(&text);
                if found.is_some() {
                    self.lexer = ahead;
                }
                return Ok(found);
            }
        }
    }

    pub(super) fn period(&mut self) -> Result<Period, InvalidQuery> {
        let token = self.next()?;
        let (number, unit) = match &token.kind {
            Kind::Number(number, unit) if unit.is_empty() => {
                let Kind::Word(unit) = self.peek()?.kind else {
                    return Err(self.unexpected(&token, "a period"));
                };
                self.next()?;
                (*number, unit)
            }
            Kind::Number(number, unit) => (*number, unit.clone()),
            // `bin(d)` is not in the guide; `1` is what it could mean.
            Kind::Word(unit) => (1.0, unit.clone()),
            _ => return Err(self.unexpected(&token, "a period")),
        };
        Period::new(number, &unit)
            .ok_or_else(|| self.error_at(&token, "invalid period"))
    }
}

fn comparison_of(token: &Token) -> Option<Comparison> {
    let Kind::Symbol(symbol) = token.kind else { return None };
    Some(match symbol {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// Words that are never fields; a field of that name needs backticks.
fn is_reserved(word: &str) -> bool {
    const WORDS: [&str; 6] = ["and", "as", "by", "in", "like", "or"];
    WORDS.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

fn chain(first: Expr, rest: Vec<(Arithmetic, Expr)>) -> Expr {
    match rest.is_empty() {
        true => first,
        false => Expr::Chain(Box::new(first), rest),
    }
}

fn single_or(mut list: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match (list.pop(), list.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            list.push(last);
            join(list)
        }
        (None, _) => join(list),
    }
}
