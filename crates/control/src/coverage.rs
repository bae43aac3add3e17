//! One verdict for every operation of every service we serve.
//!
//! The verdicts stand beside the handlers, in each service's `operations!`
//! list; a test walks the AWS models and fails if one is missing, and
//! `docs/coverage.md` is printed from here. [`members`] says the same of every
//! member of a task definition.

mod members;
#[cfg(test)]
mod security;

use minato_wire::model::Service;

/// How much of an operation works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All that AWS documents.
    Full,
    /// It works, but for what the text says.
    Partial(&'static str),
    /// It answers with a modelled error; the text says why.
    Refused(&'static str),
}

/// A service and the verdicts on its operations.
#[derive(Clone, Copy, Debug)]
pub struct ServiceCoverage {
    /// The service.
    pub service: &'static Service,
    /// Operation names with their verdicts.
    pub verdicts: &'static [(&'static str, Support)],
    /// Why all the operations that this build has no shapes for are refused,
    /// where there are too many to give each a reason of its own.
    pub others: Option<&'static str>,
}

/// Every service we serve.
pub fn all() -> Vec<ServiceCoverage> {
    crate::services::coverage()
}

/// The table as Markdown, as `docs/coverage.md` holds it.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Coverage\n\nOne verdict for every operation of every API that \
         Minato serves. Printed by `minato doctor --coverage`; a test keeps \
         this file equal to it.\n",
    );
    for coverage in all() {
        let mut rows: Vec<_> = coverage.verdicts.to_vec();
        rows.sort_unstable_by_key(|(name, _)| *name);
        let served = rows
            .iter()
            .filter(|(_, support)| !matches!(support, Support::Refused(_)))
            .count();
        text.push_str(&format!(
            "\n## {} ({served} of {} served)\n\n\
             | operation | verdict | |\n|---|---|---|\n",
            coverage.service.name,
            coverage.service.operation_names().count()
        ));
        for (name, support) in rows {
            let (verdict, note) = match support {
                Support::Full => ("full", ""),
                Support::Partial(note) => ("partial", note),
                Support::Refused(note) => ("refused", note),
            };
            text.push_str(&format!("| {name} | {verdict} | {note} |\n"));
        }
        if let Some(why) = coverage.others {
            text.push_str(&format!("| all others | refused | {why} |\n"));
        }
    }
    text.push_str(members::MARKDOWN);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_table_is_this_one() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/coverage.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            committed,
            markdown(),
            "UPDATE_GOLDEN=1 cargo test -p minato-control coverage writes it"
        );
    }

    #[test]
    fn every_operation_of_the_models_has_one_verdict() {
        for coverage in all() {
            let model: BTreeSet<&str> =
                coverage.service.operation_names().collect();
            let others: BTreeSet<&str> = match coverage.others {
                Some(_) => coverage.service.unserved.iter().copied().collect(),
                None => BTreeSet::new(),
            };
            let ours: Vec<&str> =
                coverage.verdicts.iter().map(|(name, _)| *name).collect();
            let unique: BTreeSet<&str> = ours.iter().copied().collect();
            let name = coverage.service.name;
            assert_eq!(ours.len(), unique.len(), "{name}: a verdict twice");
            let missing: Vec<_> = model
                .difference(&unique)
                .filter(|name| !others.contains(**name))
                .collect();
            assert!(missing.is_empty(), "{name}: no verdict on {missing:?}");
            let stale: Vec<_> = unique.difference(&model).collect();
            assert!(stale.is_empty(), "{name}: not in the model: {stale:?}");
        }
    }
}
