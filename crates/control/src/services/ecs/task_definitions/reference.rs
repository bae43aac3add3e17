//! How callers name a task definition: `family`, `family:revision` or an ARN.

use crate::context::Scope;

/// A named task definition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub(super) family: &'a str,
    pub(super) revision: Revision<'a>,
}

/// The revision named.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Revision<'a> {
    /// None: the newest active one where that makes sense.
    Newest,
    /// This one.
    Number(u32),
    /// Text that is no revision.
    Wrong(&'a str),
}

impl<'a> Reference<'a> {
    /// Reads a reference; `None` if it is none, or an ARN of elsewhere.
    pub(super) fn parse(scope: &Scope, given: &'a str) -> Option<Self> {
        let name = if given.starts_with("arn:") {
            let (head, name) = given.split_once(":task-definition/")?;
            let mut parts = head.split(':').skip(3);
            let here = parts.next() == Some(scope.region.as_str())
                && parts.next() == Some(scope.account.as_str());
            here.then_some(name)?
        } else {
            given
        };
        let (family, revision) = match name.split_once(':') {
            None => (name, Revision::Newest),
            Some((family, digits)) => match digits.parse() {
                Ok(number) if number > 0 => (family, Revision::Number(number)),
                _ => (family, Revision::Wrong(digits)),
            },
        };
        let good = minato_core::name::is_name(family);
        good.then_some(Reference { family, revision })
    }
}
