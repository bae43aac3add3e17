//! The claims of `docs/security.md`: each names the tests that try to break
//! it, by their file below `crates/` and their function.

use std::path::Path;

const MARKDOWN: &str = include_str!("../../../../docs/security.md");

/// What comes after holds no claims.
const END: &str = "## What is not protected";

#[test]
fn every_claim_names_tests_that_are_there() {
    let crates = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let (claims, _) = MARKDOWN.split_once(END).unwrap();
    // A claim is a paragraph that begins in bold.
    let claims = claims.split("\n\n").filter(|text| text.starts_with("**"));
    let mut count = 0;
    for claim in claims {
        let (said, tests) = claim.split_once("\ntest: ").unwrap_or_else(|| {
            panic!("a claim without a test: {claim}");
        });
        assert!(!tests.contains('\n'), "tests are the last line: {said}");
        for test in tests.split(", ") {
            let test = test.trim().trim_matches('`');
            let (file, name) = test.split_once("::").unwrap();
            let text = std::fs::read_to_string(crates.join(file));
            let text = text.unwrap_or_else(|e| panic!("{test}: {e}"));
            let function = format!("fn {name}(");
            assert!(text.contains(&function), "there is no {test}");
            count += 1;
        }
    }
    assert!(count > 0, "no claim was found");
}
