//! Characters to words.

use super::{QueryError, QueryProblem};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    ListOpen,
    ListClose,
    Comma,
    /// `!` alone, or before a word.
    Bang,
    AndAnd,
    OrOr,
    /// `==`, `!=`, `>`, `>=`, `<`, `<=`, `=~`, `!~`.
    Symbol(&'static str),
    Word(String),
    Quoted(String),
    End,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Open => "'('".into(),
            Token::Close => "')'".into(),
            Token::ListOpen => "'['".into(),
            Token::ListClose => "']'".into(),
            Token::Comma => "','".into(),
            Token::Bang => "'!'".into(),
            Token::AndAnd => "'&&'".into(),
            Token::OrOr => "'||'".into(),
            Token::Symbol(symbol) => format!("'{symbol}'"),
            Token::Word(word) | Token::Quoted(word) => format!("'{word}'"),
            Token::End => "the end".into(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    pub(super) fn new(source: &str) -> Lexer {
        Lexer { chars: source.chars().collect(), at: 0 }
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token), QueryError> {
        self.skip_space();
        let start = self.at;
        let Some(first) = self.peek(0) else {
            return Ok((start, Token::End));
        };
        let token = match (first, self.peek(1)) {
            ('(', _) => self.take(1, Token::Open),
            (')', _) => self.take(1, Token::Close),
            ('[', _) => self.take(1, Token::ListOpen),
            (']', _) => self.take(1, Token::ListClose),
            (',', _) => self.take(1, Token::Comma),
            ('&', Some('&')) => self.take(2, Token::AndAnd),
            ('|', Some('|')) => self.take(2, Token::OrOr),
            ('=', Some('=')) => self.take(2, Token::Symbol("==")),
            ('!', Some('=')) => self.take(2, Token::Symbol("!=")),
            ('=', Some('~')) => self.take(2, Token::Symbol("=~")),
            ('!', Some('~')) => self.take(2, Token::Symbol("!~")),
            ('>', Some('=')) => self.take(2, Token::Symbol(">=")),
            ('<', Some('=')) => self.take(2, Token::Symbol("<=")),
            ('>', _) => self.take(1, Token::Symbol(">")),
            ('<', _) => self.take(1, Token::Symbol("<")),
            ('!', _) => self.take(1, Token::Bang),
            ('\'' | '"', _) => self.quoted(first)?,
            _ => Token::Word(self.word()?),
        };
        Ok((start, token))
    }

    /// The argument of `=~` and `!~`: a quoted string, or everything up to
    /// white space, in which square brackets are part of the pattern.
    pub(super) fn pattern(&mut self) -> Result<(usize, Token), QueryError> {
        self.skip_space();
        let start = self.at;
        match self.peek(0) {
            None => Ok((start, Token::End)),
            Some(quote @ ('\'' | '"')) => Ok((start, self.quoted(quote)?)),
            Some(_) => {
                let mut word = String::new();
                while let Some(c) = self.peek(0) {
                    if c.is_whitespace() || matches!(c, '(' | ')') {
                        break;
                    }
                    word.push(c);
                    self.at += 1;
                }
                if word.is_empty() {
                    return self.next();
                }
                Ok((start, Token::Word(word)))
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take(&mut self, count: usize, token: Token) -> Token {
        self.at += count;
        token
    }

    fn skip_space(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, QueryError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == quote {
                return Ok(Token::Quoted(text));
            }
            text.push(c);
        }
        Err(QueryError {
            position: start,
            problem: QueryProblem::UnclosedQuote,
        })
    }

    fn word(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut word = String::new();
        while let Some(c) = self.peek(0) {
            let pair = (c, self.peek(1));
            if c.is_whitespace()
                || "()[],'\"=!<>~".contains(c)
                || matches!(pair, ('&', Some('&')) | ('|', Some('|')))
            {
                break;
            }
            word.push(c);
            self.at += 1;
        }
        if word.is_empty() {
            let found = self.peek(0).map(String::from).unwrap_or_default();
            return Err(QueryError {
                position: start,
                problem: QueryProblem::Unexpected {
                    expected: "a comparison",
                    found: format!("'{found}'"),
                },
            });
        }
        Ok(word)
    }
}
