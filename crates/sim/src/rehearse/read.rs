//! Reads members of a plan and says what is wrong with them, and where.

use std::time::Duration;

use serde_json::Value as Json;

use super::PlanError;
use super::yaml::{At, Node, Value};

/// The members of a group, taken one by one.
pub(super) struct Members<'a> {
    of: &'a str,
    at: At,
    all: &'a [(Node, Node)],
}

impl<'a> Members<'a> {
    pub(super) fn of(
        node: &'a Node,
        of: &'a str,
    ) -> Result<Members<'a>, PlanError> {
        match &node.value {
            Value::Map(all) => Ok(Members { of, at: node.at, all }),
            Value::Scalar(_) | Value::List(_) => Err(node.at.error(format!(
                "{of} is a group of members (name: value), not {}",
                node.kind()
            ))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.take(name).is_some()
    }

    pub(super) fn take(&self, name: &str) -> Option<&'a Node> {
        let mut all = self.all.iter();
        all.find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    pub(super) fn need(&self, name: &str) -> Result<&'a Node, PlanError> {
        self.take(name).ok_or_else(|| {
            self.at.error(format!("{} needs the member `{name}`", self.of))
        })
    }

    /// Where a member stands; the group, if it is not there.
    pub(super) fn at(&self, name: &str) -> At {
        self.take(name).map_or(self.at, |node| node.at)
    }

    /// No member but these is there.
    pub(super) fn end(&self, known: &[&str]) -> Result<(), PlanError> {
        let unknown = self.all.iter().find(|(key, _)| {
            key.text().is_none_or(|name| !known.contains(&name))
        });
        let Some((key, _)) = unknown else { return Ok(()) };
        let name = key.text().unwrap_or_default();
        let hint = nearest(name, known).map_or_else(
            || format!("it has {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let of = self.of;
        Err(key.at.error(format!("{of} has no member `{name}`; {hint}")))
    }
}

/// Typed members; the default where a member is absent.
impl Members<'_> {
    pub(super) fn number(
        &self,
        name: &str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<u64, PlanError> {
        let given = self.optional_number(name, least, most)?;
        Ok(given.unwrap_or(default))
    }

    pub(super) fn optional_number(
        &self,
        name: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, PlanError> {
        self.take(name).map(|node| node.number(least, most)).transpose()
    }

    pub(super) fn duration(
        &self,
        name: &str,
        default: Duration,
    ) -> Result<Duration, PlanError> {
        Ok(self.optional_duration(name)?.unwrap_or(default))
    }

    pub(super) fn optional_duration(
        &self,
        name: &str,
    ) -> Result<Option<Duration>, PlanError> {
        self.take(name).map(Node::duration).transpose()
    }

    pub(super) fn choice(
        &self,
        name: &str,
        default: &str,
        all: &[&str],
    ) -> Result<String, PlanError> {
        let given = self.optional_choice(name, all)?;
        Ok(given.unwrap_or_else(|| default.to_owned()))
    }

    pub(super) fn optional_choice(
        &self,
        name: &str,
        all: &[&str],
    ) -> Result<Option<String>, PlanError> {
        self.take(name).map(|node| one_of(node, name, all)).transpose()
    }

    pub(super) fn flag(
        &self,
        name: &str,
        default: bool,
    ) -> Result<bool, PlanError> {
        match self.take(name) {
            None => Ok(default),
            Some(node) => match node.text() {
                Some("true") => Ok(true),
                Some("false") => Ok(false),
                _ => Err(node.at.error(format!("{name} is true or false"))),
            },
        }
    }
}

impl Node {
    /// A whole number within bounds.
    pub(super) fn number(
        &self,
        least: u64,
        most: u64,
    ) -> Result<u64, PlanError> {
        let number = self.text().and_then(|text| text.parse::<u64>().ok());
        number.filter(|number| (least..=most).contains(number)).ok_or_else(
            || {
                self.at.error(format!(
                    "this must be a whole number from {least} to {most}"
                ))
            },
        )
    }

    /// A time: `90s`, `1m30s`, `2h`, `500ms`.
    pub(super) fn duration(&self) -> Result<Duration, PlanError> {
        let parsed = self.text().and_then(duration);
        parsed.ok_or_else(|| {
            self.at.error("this must be a time, such as 500ms, 90s or 1m30s")
        })
    }

    /// A name of letters, digits, hyphens and underscores.
    pub(super) fn name(&self, of: &str) -> Result<String, PlanError> {
        let text = self.text().filter(|text| minato_core::name::is_name(text));
        text.map(str::to_owned).ok_or_else(|| {
            self.at.error(format!(
                "{of} has letters, digits, hyphens and underscores"
            ))
        })
    }
}

/// The longest time that is understood, in milliseconds: a year.
const DURATION_MAX_MS: u64 = 366 * 24 * 3600 * 1000;

fn duration(text: &str) -> Option<Duration> {
    let mut left = text;
    let mut millis = 0_u64;
    while !left.is_empty() {
        let digits = left.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, rest) = left.split_at(digits);
        let unit = rest
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(factor)?;
        millis = millis.checked_add(part)?;
        left = rest;
    }
    (!text.is_empty() && millis <= DURATION_MAX_MS)
        .then(|| Duration::from_millis(millis))
}

/// The items of a list.
pub(super) fn list<'a>(
    node: &'a Node,
    of: &str,
) -> Result<&'a [Node], PlanError> {
    match &node.value {
        Value::List(items) => Ok(items),
        Value::Scalar(_) | Value::Map(_) => {
            let text = format!("`{of}` is a list, not {}", node.kind());
            Err(node.at.error(text))
        }
    }
}

/// The members of a group whose names are the user's own.
pub(super) fn children<'a>(
    node: &'a Node,
    of: &'a str,
) -> Result<impl Iterator<Item = (&'a Node, &'a Node)>, PlanError> {
    let members = Members::of(node, of)?;
    Ok(members.all.iter().map(|(key, value)| (key, value)))
}

/// A text that is one of several.
pub(super) fn one_of(
    node: &Node,
    of: &str,
    all: &[&str],
) -> Result<String, PlanError> {
    /// So many names are listed.
    const LISTED: usize = 8;
    let Some(text) = node.text() else {
        let text = format!("{of} is a single name, not {}", node.kind());
        return Err(node.at.error(text));
    };
    if all.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = match nearest(text, all) {
        Some(near) => format!("did you mean `{near}`?"),
        None if all.len() <= LISTED => {
            format!("it is one of {}", all.join(", "))
        }
        None => format!("there are {} to {}", all[0], all[all.len() - 1]),
    };
    Err(node.at.error(format!("there is no {of} `{text}`; {hint}")))
}

/// The name that was likely meant.
fn nearest<'a>(given: &str, all: &[&'a str]) -> Option<&'a str> {
    /// How alike two names must be.
    const ALIKE: f64 = 0.8;
    let alike = |name: &&str| {
        strsim::jaro_winkler(&given.to_lowercase(), &name.to_lowercase())
    };
    let best = all.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= ALIKE).then_some(*best)
}

/// A node as the API takes it.
pub(super) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(members) => Json::Object(
            members
                .iter()
                .map(|(key, value)| {
                    let name = key.text().unwrap_or_default().to_owned();
                    (name, json(value))
                })
                .collect(),
        ),
    }
}
