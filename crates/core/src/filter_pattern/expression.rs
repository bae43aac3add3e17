//! `&&`, `||` and parentheses over conditions of any kind.

use super::InvalidFilterPattern;
use super::cursor::Cursor;

/// How deep parentheses may nest; AWS documents no number, and nobody
/// writes ten.
const MAX_DEPTH: usize = 64;

/// Conditions joined by `&&` and `||`.
#[derive(Debug, Clone)]
pub(super) enum Expression<C> {
    Condition(C),
    All(Vec<Expression<C>>),
    Any(Vec<Expression<C>>),
}

impl<C> Expression<C> {
    /// Parses alternatives; `&&` binds tighter than `||`.
    pub(super) fn parse<F>(
        cursor: &mut Cursor<'_>,
        condition: &mut F,
    ) -> Result<Expression<C>, InvalidFilterPattern>
    where
        F: FnMut(&mut Cursor<'_>) -> Result<C, InvalidFilterPattern>,
    {
        any(cursor, condition, 0)
    }

    pub(super) fn holds(&self, condition: &impl Fn(&C) -> bool) -> bool {
        match self {
            Expression::Condition(c) => condition(c),
            Expression::All(all) => all.iter().all(|e| e.holds(condition)),
            Expression::Any(any) => any.iter().any(|e| e.holds(condition)),
        }
    }

    pub(super) fn look(&self, see: &mut impl FnMut(&C)) {
        match self {
            Expression::Condition(c) => see(c),
            Expression::All(list) | Expression::Any(list) => {
                list.iter().for_each(|e| e.look(see));
            }
        }
    }

    pub(super) fn visit(&mut self, see: &mut impl FnMut(&mut C)) {
        match self {
            Expression::Condition(c) => see(c),
            Expression::All(list) | Expression::Any(list) => {
                list.iter_mut().for_each(|e| e.visit(see));
            }
        }
    }
}

fn any<C, F>(
    cursor: &mut Cursor<'_>,
    condition: &mut F,
    depth: usize,
) -> Result<Expression<C>, InvalidFilterPattern>
where
    F: FnMut(&mut Cursor<'_>) -> Result<C, InvalidFilterPattern>,
{
    let first = all(cursor, condition, depth)?;
    let mut list = vec![first];
    loop {
        cursor.skip_space();
        if !cursor.eat("||") {
            return Ok(single_or(list, Expression::Any));
        }
        list.push(all(cursor, condition, depth)?);
    }
}

fn all<C, F>(
    cursor: &mut Cursor<'_>,
    condition: &mut F,
    depth: usize,
) -> Result<Expression<C>, InvalidFilterPattern>
where
    F: FnMut(&mut Cursor<'_>) -> Result<C, InvalidFilterPattern>,
{
    let first = one(cursor, condition, depth)?;
    let mut list = vec![first];
    loop {
        cursor.skip_space();
        if !cursor.eat("&&") {
            return Ok(single_or(list, Expression::All));
        }
        list.push(one(cursor, condition, depth)?);
    }
}

fn one<C, F>(
    cursor: &mut Cursor<'_>,
    condition: &mut F,
    depth: usize,
) -> Result<Expression<C>, InvalidFilterPattern>
where
    F: FnMut(&mut Cursor<'_>) -> Result<C, InvalidFilterPattern>,
{
    cursor.skip_space();
    if !cursor.eat("(") {
        return Ok(Expression::Condition(condition(cursor)?));
    }
    if depth >= MAX_DEPTH {
        return Err(InvalidFilterPattern::Quota {
            what: "nested parentheses",
            limit: MAX_DEPTH,
        });
    }
    let inner = any(cursor, condition, depth + 1)?;
    cursor.skip_space();
    cursor.need(")", "')'")?;
    Ok(inner)
}

fn single_or<C>(
    mut list: Vec<Expression<C>>,
    join: fn(Vec<Expression<C>>) -> Expression<C>,
) -> Expression<C> {
    match (list.pop(), list.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            list.push(last);
            join(list)
        }
        (None, _) => join(list),
    }
}
