//! Words to checked expressions, by recursive descent.

use minato_wire::Timestamp;
use regex::RegexBuilder;

use super::lexer::{Lexer, Token};
use super::{
    AttributeTest, DEPTH_MAX, EXPRESSION_LENGTH_MAX, Node, Order, QueryError,
    QueryProblem, Test, TextArgument, TextTest,
};

/// A compiled pattern may take this much memory: an expression is at most
/// 2000 characters, and counted repetitions are what makes programs large.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn parse(source: &str) -> Result<Node, QueryError> {
    if source.chars().count() > EXPRESSION_LENGTH_MAX {
        return Err(QueryError {
            position: EXPRESSION_LENGTH_MAX,
            problem: QueryProblem::TooLong,
        });
    }
    if source.trim().is_empty() {
        return Err(QueryError { position: 0, problem: QueryProblem::Empty });
    }
    let mut parser = Parser::new(source)?;
    let node = parser.or(0)?;
    if parser.token != Token::End {
        return Err(parser.unexpected("'and', 'or' or the end"));
    }
    Ok(node)
}

struct Parser {
    lexer: Lexer,
    /// The token not yet used, and where it begins.
    token: Token,
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Order(Order),
    In { negated: bool },
    Matches { negated: bool },
    Exists { negated: bool },
}

impl Operator {
    const fn name(self) -> &'static str {
        match self {
            Operator::Order(order) => order.symbol(),
            Operator::In { negated: false } => "in",
            Operator::In { negated: true } => "!in",
            Operator::Matches { negated: false } => "=~",
            Operator::Matches { negated: true } => "!~",
            Operator::Exists { negated: false } => "exists",
            Operator::Exists { negated: true } => "!exists",
        }
    }
}

impl Parser {
    fn new(source: &str) -> Result<Parser, QueryError> {
        let mut lexer = Lexer::new(source);
        let (at, token) = lexer.next()?;
        Ok(Parser { lexer, token, at })
    }

    /// Takes the token at hand and reads the next one.
    fn advance(&mut self) -> Result<Token, QueryError> {
        let (at, next) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn unexpected(&self, expected: &'static str) -> QueryError {
        let found = self.token.describe();
        self.error(QueryProblem::Unexpected { expected, found })
    }

    fn error(&self, problem: QueryProblem) -> QueryError {
        QueryError { position: self.at, problem }
    }

    fn at_word(&self, wanted: &str) -> bool {
        matches!(&self.token, Token::Word(word)
            if word.eq_ignore_ascii_case(wanted))
    }

    fn or(&mut self, depth: usize) -> Result<Node, QueryError> {
        let mut nodes = vec![self.and(depth)?];
        while self.token == Token::OrOr || self.at_word("or") {
            self.advance()?;
            nodes.push(self.and(depth)?);
        }
        Ok(single_or(nodes, Node::Or))
    }

    fn and(&mut self, depth: usize) -> Result<Node, QueryError> {
        let mut nodes = vec![self.unary(depth)?];
        while self.token == Token::AndAnd || self.at_word("and") {
            self.advance()?;
            nodes.push(self.unary(depth)?);
        }
        Ok(single_or(nodes, Node::And))
    }

    fn unary(&mut self, depth: usize) -> Result<Node, QueryError> {
        if depth >= DEPTH_MAX {
            return Err(self.error(QueryProblem::TooDeep));
        }
        if self.token == Token::Bang || self.at_word("not") {
            self.advance()?;
            return Ok(Node::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.token == Token::Open {
            self.advance()?;
            let node = self.or(depth + 1)?;
            if self.token != Token::Close {
                return Err(self.unexpected("'and', 'or' or ')'"));
            }
            self.advance()?;
            return Ok(node);
        }
        self.comparison().map(Node::Test)
    }

    fn comparison(&mut self) -> Result<Test, QueryError> {
        let Token::Word(subject) = &self.token else {
            return Err(self.unexpected("a comparison"));
        };
        let subject = subject.clone();
        if let Some(name) = subject.strip_prefix("attribute:") {
            if !is_attribute_name(name) {
                return Err(
                    self.error(QueryProblem::BadAttributeName(name.to_owned()))
                );
            }
            self.advance()?;
            return Ok(Test::Attribute(name.to_owned(), self.attribute()?));
        }
        match subject.as_str() {
            "task:group" => self.text_after("task:group").map(Test::TaskGroup),
            "agentConnected" => {
                let test = self.text_after("agentConnected")?;
                Ok(Test::AgentConnected(test))
            }
            "ec2InstanceId" => {
                self.text_after("ec2InstanceId").map(Test::Ec2InstanceId)
            }
            "agentVersion" => {
                let (order, at, value) = self.order_after("agentVersion")?;
                let parts =
                    value.split('.').all(|part| part.parse::<u32>().is_ok());
                if !parts {
                    return Err(wrong(at, value, "a version such as 1.2.3"));
                }
                Ok(Test::AgentVersion(order, value))
            }
            "registeredAt" => {
                let (order, at, value) = self.order_after("registeredAt")?;
                match Timestamp::from_iso(&value) {
                    Some(time) => Ok(Test::RegisteredAt(order, time)),
                    None => Err(wrong(at, value, "a time in ISO 8601")),
                }
            }
            "runningTasksCount" => {
                let (order, at, value) =
                    self.order_after("runningTasksCount")?;
                match value.parse() {
                    Ok(count) => Ok(Test::RunningTasksCount(order, count)),
                    Err(_) => Err(wrong(at, value, "a whole number")),
                }
            }
            _ => Err(self.error(QueryProblem::UnknownSubject(subject))),
        }
    }

    /// The subject is used up; reads the rest of an attribute's comparison.
    fn attribute(&mut self) -> Result<AttributeTest, QueryError> {
        let operator = self.operator()?;
        match operator {
            Operator::Exists { negated } => {
                Ok(AttributeTest::Exists { negated })
            }
            Operator::Order(order @ (Order::Equal | Order::NotEqual)) => {
                let to = TextArgument::Equal(self.literal()?.1);
                let negated = order == Order::NotEqual;
                Ok(AttributeTest::Text(TextTest { negated, to }))
            }
            Operator::Order(order) => {
                Ok(AttributeTest::Order(order, self.literal()?.1))
            }
            Operator::In { .. } | Operator::Matches { .. } => {
                self.text_argument(operator).map(AttributeTest::Text)
            }
        }
    }

    /// A comparison of text: `==`, `in`, `=~` and their negations.
    fn text_after(
        &mut self,
        subject: &'static str,
    ) -> Result<TextTest, QueryError> {
        self.advance()?;
        let at = self.at;
        let operator = self.operator()?;
        match operator {
            Operator::Order(Order::Equal | Order::NotEqual)
            | Operator::In { .. }
            | Operator::Matches { .. } => self.text_argument(operator),
            Operator::Order(
                Order::Greater
                | Order::GreaterOrEqual
                | Order::Less
                | Order::LessOrEqual,
            )
            | Operator::Exists { .. } => {
                Err(wrong_operator(at, subject, operator))
            }
        }
    }

    /// A comparison of things that have an order.
    fn order_after(
        &mut self,
        subject: &'static str,
    ) -> Result<(Order, usize, String), QueryError> {
        self.advance()?;
        let at = self.at;
        match self.operator()? {
            Operator::Order(order) => {
                let (at, value) = self.literal()?;
                Ok((order, at, value))
            }
            operator @ (Operator::In { .. }
            | Operator::Matches { .. }
            | Operator::Exists { .. }) => {
                Err(wrong_operator(at, subject, operator))
            }
        }
    }

    fn text_argument(
        &mut self,
        operator: Operator,
    ) -> Result<TextTest, QueryError> {
        let (negated, to) = match operator {
            Operator::In { negated } => {
                (negated, TextArgument::In(self.list()?))
            }
            Operator::Matches { negated } => (negated, self.pattern()?),
            Operator::Order(order) => {
                let to = TextArgument::Equal(self.literal()?.1);
                (order == Order::NotEqual, to)
            }
            Operator::Exists { .. } => {
                return Err(self.unexpected("an argument"));
            }
        };
        Ok(TextTest { negated, to })
    }

    /// Reads the operator. After `=~` and `!~` the token at hand is the
    /// pattern, which has rules of its own.
    fn operator(&mut self) -> Result<Operator, QueryError> {
        let negated = self.token == Token::Bang;
        if negated {
            self.advance()?;
        }
        let operator = match (&self.token, negated) {
            (Token::Symbol(symbol), false) => symbol_operator(symbol),
            (Token::Word(word), _) => word_operator(word, negated),
            _ => None,
        };
        let Some(operator) = operator else {
            return Err(self.unexpected("an operator"));
        };
        if let Operator::Matches { .. } = operator {
            let (at, token) = self.lexer.pattern()?;
            (self.at, self.token) = (at, token);
        } else {
            self.advance()?;
        }
        Ok(operator)
    }

    fn literal(&mut self) -> Result<(usize, String), QueryError> {
        let at = self.at;
        let (Token::Word(text) | Token::Quoted(text)) = &self.token else {
            return Err(self.unexpected("a value"));
        };
        let text = text.clone();
        self.advance()?;
        Ok((at, text))
    }

    fn list(&mut self) -> Result<Vec<String>, QueryError> {
        if self.token != Token::ListOpen {
            return Err(self.unexpected("a list such as [a, b]"));
        }
        self.advance()?;
        let mut values = vec![self.literal()?.1];
        while self.token == Token::Comma {
            self.advance()?;
            values.push(self.literal()?.1);
        }
        if self.token != Token::ListClose {
            return Err(self.unexpected("',' or ']'"));
        }
        self.advance()?;
        Ok(values)
    }

    fn pattern(&mut self) -> Result<TextArgument, QueryError> {
        let (at, pattern) = self.literal()?;
        let regex = RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        // The pattern must stand alone too: `a)|(?:b` would otherwise pass.
        let alone = regex_syntax_ok(&pattern);
        match regex {
            Ok(regex) if alone => Ok(TextArgument::Matches { pattern, regex }),
            _ => Err(QueryError {
                position: at,
                problem: QueryProblem::BadPattern(pattern),
            }),
        }
    }
}

fn regex_syntax_ok(pattern: &str) -> bool {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().is_ok()
}

fn single_or(mut nodes: Vec<Node>, make: fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1
        && let Some(node) = nodes.pop()
    {
        return node;
    }
    make(nodes)
}

fn symbol_operator(symbol: &str) -> Option<Operator> {
    Some(match symbol {
        "==" => Operator::Order(Order::Equal),
        "!=" => Operator::Order(Order::NotEqual),
        ">" => Operator::Order(Order::Greater),
        ">=" => Operator::Order(Order::GreaterOrEqual),
        "<" => Operator::Order(Order::Less),
        "<=" => Operator::Order(Order::LessOrEqual),
        "=~" => Operator::Matches { negated: false },
        "!~" => Operator::Matches { negated: true },
        _ => return None,
    })
}

fn word_operator(word: &str, negated: bool) -> Option<Operator> {
    Some(match word {
        "in" => Operator::In { negated },
        "exists" => Operator::Exists { negated },
        _ if negated => return None,
        "not_in" => Operator::In { negated: true },
        "not_exists" => Operator::Exists { negated: true },
        "equals" => Operator::Order(Order::Equal),
        "not_equals" => Operator::Order(Order::NotEqual),
        "greater_than" => Operator::Order(Order::Greater),
        "greater_than_equal" => Operator::Order(Order::GreaterOrEqual),
        "less_than" => Operator::Order(Order::Less),
        "less_than_equal" => Operator::Order(Order::LessOrEqual),
        "matches" => Operator::Matches { negated: false },
        "not_matches" => Operator::Matches { negated: true },
        _ => return None,
    })
}

fn is_attribute_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '-' | '_' | '/' | '\\' | '.')
        })
}

fn wrong(
    position: usize,
    argument: String,
    expected: &'static str,
) -> QueryError {
    let problem = QueryProblem::WrongArgument { argument, expected };
    QueryError { position, problem }
}

fn wrong_operator(
    position: usize,
    subject: &'static str,
    operator: Operator,
) -> QueryError {
    let operator = operator.name();
    let problem = QueryProblem::WrongOperator { subject, operator };
    QueryError { position, problem }
}
