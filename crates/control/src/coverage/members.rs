//! One verdict for every member of a task definition, and the tests that show
//! it: what a container gets, or who refuses.

/// The rows, as `docs/coverage.md` has them.
///
/// A row is of all leaves below its member. A test is named by its file below
/// `crates/` and its function.
pub(super) const MARKDOWN: &str = include_str!("members.md");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use minato_wire::model::Shape;

    use super::*;

    struct Row<'a> {
        members: Vec<&'a str>,
        verdict: &'a str,
        tests: Vec<&'a str>,
    }

    fn rows() -> Vec<Row<'static>> {
        let lines = MARKDOWN.lines().filter(|line| line.starts_with("| `"));
        let rows = lines.map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert_eq!(cells.len(), 4, "member, verdict, note, tests: {line}");
            let marked = |cell: &'static str| -> Vec<&str> {
                cell.split('`').skip(1).step_by(2).collect()
            };
            let (members, tests) = (marked(cells[0]), marked(cells[3]));
            Row { members, verdict: cells[1], tests }
        });
        rows.collect()
    }

    /// The paths of all members that have none themselves.
    fn leaves(shape: &'static Shape, path: &str, found: &mut Vec<String>) {
        match shape {
            Shape::Structure(structure) => {
                for member in structure.members {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}", member.name);
                    leaves(member.shape, &path, found);
                }
            }
            Shape::List(list) => {
                leaves(list.member, &format!("{path}[]"), found);
            }
            Shape::Map(_)
            | Shape::String(_)
            | Shape::Integer(_)
            | Shape::Long(_)
            | Shape::Double(_)
            | Shape::Boolean
            | Shape::Timestamp
            | Shape::Blob
            | Shape::Document => found.push(path.to_owned()),
        }
    }

    fn is_of(member: &str, leaf: &str) -> bool {
        let rest = leaf.strip_prefix(member);
        rest.is_some_and(|it| it.is_empty() || it.starts_with(['.', '[']))
    }

    #[test]
    fn every_member_of_a_task_definition_has_one_verdict() {
        let ecs = crate::coverage::all().into_iter().find(|one| {
            one.service.operation("RegisterTaskDefinition").is_some()
        });
        let operation =
            ecs.unwrap().service.operation("RegisterTaskDefinition").unwrap();
        let mut found = vec![];
        leaves(operation.input.unwrap(), "", &mut found);
        let rows = rows();
        for leaf in &found {
            let of = rows.iter().flat_map(|row| &row.members);
            let of: Vec<_> = of.filter(|member| is_of(member, leaf)).collect();
            assert_eq!(of.len(), 1, "rows on {leaf}: {of:?}");
        }
        for member in rows.iter().flat_map(|row| &row.members) {
            let is_there = found.iter().any(|leaf| is_of(member, leaf));
            assert!(is_there, "{member} is not in the model");
        }
    }

    #[test]
    fn every_verdict_is_shown_by_a_test_that_is_there() {
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for row in rows() {
            let Row { members, verdict, tests } = row;
            assert!(
                ["full", "partial", "refused", "kept"].contains(&verdict),
                "{members:?}: {verdict}"
            );
            assert!(!tests.is_empty(), "{members:?} has no test");
            for test in tests {
                let (file, name) = test.split_once("::").unwrap();
                let file = Path::new(crates).join(file);
                let text = std::fs::read_to_string(&file);
                let text = text.unwrap_or_else(|e| panic!("{test}: {e}"));
                let function = format!("fn {name}(");
                assert!(text.contains(&function), "there is no {test}");
            }
        }
    }
}
