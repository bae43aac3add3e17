//! What an expression gives for one row.

use std::cmp::Ordering;

use super::ast::{Arithmetic, Comparison, Expr, Slot};
use super::value::Value;

impl Expr {
    /// The value for a row's values. `now` is when the query began, in
    /// milliseconds.
    pub(super) fn value<'r>(
        &'r self,
        row: &'r [Value<'_>],
        now: i64,
    ) -> Value<'r> {
        match self {
            Expr::Literal(value) => value.borrow(),
            Expr::Field(slot) => {
                row.get(*slot).map_or(Value::Null, Value::borrow)
            }
            Expr::Minus(inner) => {
                let number = inner.value(row, now).number();
                number.map_or(Value::Null, |n| Value::Number(-n))
            }
            Expr::Chain(first, rest) => {
                let mut sum = first.value(row, now).number();
                for (operator, next) in rest {
                    let next = next.value(row, now).number();
                    sum = sum.zip(next).and_then(|(a, b)| operator.of(a, b));
                }
                sum.map_or(Value::Null, Value::Number)
            }
            Expr::Call(function, arguments) => {
                let arguments = arguments.iter().map(|a| a.value(row, now));
                function.call(arguments.collect(), now)
            }
            Expr::Not(_)
            | Expr::All(_)
            | Expr::Any(_)
            | Expr::Compare(..)
            | Expr::In(..)
            | Expr::Like(..)
            | Expr::Matches(..) => Value::Bool(self.holds(row, now)),
        }
    }

    /// Shows the slots that the expression reads to `see`.
    pub(super) fn reads(&self, see: &mut dyn FnMut(Slot)) {
        match self {
            Expr::Literal(_) => {}
            Expr::Field(slot) => see(*slot),
            Expr::Not(inner)
            | Expr::Minus(inner)
            | Expr::Like(inner, _)
            | Expr::Matches(inner, _) => inner.reads(see),
            Expr::All(list) | Expr::Any(list) | Expr::Call(_, list) => {
                for inner in list {
                    inner.reads(see);
                }
            }
            Expr::Chain(first, rest) => {
                first.reads(see);
                for (_, inner) in rest {
                    inner.reads(see);
                }
            }
            Expr::Compare(_, a, b) => {
                a.reads(see);
                b.reads(see);
            }
            Expr::In(value, list) => {
                value.reads(see);
                for inner in list {
                    inner.reads(see);
                }
            }
        }
    }

    /// Whether the expression is true of a row.
    pub(super) fn holds(&self, row: &[Value<'_>], now: i64) -> bool {
        match self {
            Expr::Not(inner) => !inner.holds(row, now),
            Expr::All(all) => all.iter().all(|e| e.holds(row, now)),
            Expr::Any(any) => any.iter().any(|e| e.holds(row, now)),
            Expr::Compare(comparison, a, b) => {
                let (a, b) = (a.value(row, now), b.value(row, now));
                comparison.holds(a.compare(&b))
            }
            Expr::In(value, list) => {
                let value = value.value(row, now);
                list.iter().any(|one| {
                    let order = value.compare(&one.value(row, now));
                    order == Some(Ordering::Equal)
                })
            }
            Expr::Like(value, like) => {
                let value = value.value(row, now);
                value.text().is_some_and(|t| like.matches(t.as_bytes()))
            }
            Expr::Matches(value, regex) => {
                let value = value.value(row, now);
                value.text().is_some_and(|text| regex.is_match(&text))
            }
            Expr::Literal(_)
            | Expr::Field(_)
            | Expr::Minus(_)
            | Expr::Chain(..)
            | Expr::Call(..) => self.value(row, now).is_true(),
        }
    }
}

impl Arithmetic {
    fn of(self, a: f64, b: f64) -> Option<f64> {
        let number = match self {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide => a / b,
            Arithmetic::Remainder => a % b,
            Arithmetic::Power => a.powf(b),
        };
        // A division by zero has no value, rather than `inf` or `NaN`.
        number.is_finite().then_some(number)
    }
}

impl Comparison {
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Comparison::Equal => order == Some(Ordering::Equal),
            // True of a missing field too: it is not equal to anything.
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrEqual => {
                matches!(order, Some(Ordering::Less | Ordering::Equal))
            }
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => {
                matches!(order, Some(Ordering::Greater | Ordering::Equal))
            }
        }
    }
}
