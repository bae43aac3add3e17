//! `minato rehearse` as its users have it: exit codes, what it prints, and
//! the picture.

use std::path::Path;
use std::process::{Command, Output};

use minato_e2e::{minato_program, repository, run_to_end};

const PLAN: &str = "
play: 3m
hosts: [{name: host, count: 2, zones: [a, b]}]
services:
  web: {desiredCount: 2}
events:
  - {at: 1m, deploy: web}
expect:
  web: {lowestHealthy: 2, rollout: COMPLETED}
";

/// What the plan above comes to, to the letter: a play is its plan and its
/// seed, on every machine.
const STORY: &str = "\
2 hosts, 1 services, played for 3:00.0 at the pace of Minato, seed 1

   0:00.1  web   has started 2 tasks: (task 64c70b) (task ce45a3).
   0:05.1  web   (deployment ecs-svc/9389095449273263368) deployment completed.
   0:05.1  web   has reached a steady state.
   0:05.1  web   2 of 2 healthy
   1:00.0  PLAN  deploy a new revision of web
   1:00.1  web   has started 2 tasks: (task 4e3adb) (task bc2ab3).
   1:05.1  web   has stopped 2 running tasks: (task ce45a3) (task 64c70b).
   1:05.1  web   (deployment ecs-svc/9516178518153747369) deployment completed.
   1:05.1  web   has reached a steady state.

web: lowest healthy 2 (at 0:05.1), never below its minimum of 2; steady since \
1:05.1; 2 of 2 healthy at the end, rollout COMPLETED
kept    web: at least 2 healthy; the lowest was 2
kept    web: rollout COMPLETED; it is COMPLETED
";

fn rehearse(plan: &Path, svg: Option<&Path>) -> Output {
    let mut command = Command::new(minato_program().unwrap());
    command.arg("rehearse").arg(plan);
    if let Some(svg) = svg {
        command.arg("--svg").arg(svg);
    }
    run_to_end(&mut command, b"").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The texts of a picture, as an XML parser that is not ours reads them.
fn texts_of_svg(file: &Path) -> String {
    let read = "
import sys, xml.etree.ElementTree as tree
svg = '{http://www.w3.org/2000/svg}'
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == svg + 'svg', root.tag
assert root.find('.//' + svg + 'path') is not None
print('\\n'.join(''.join(one.itertext()) for one in root.iter(svg + 'text')))
";
    let mut python = Command::new("python3");
    let read = run_to_end(python.arg("-c").arg(read).arg(file), b"").unwrap();
    assert!(read.status.success(), "{}", text(&read.stderr));
    text(&read.stdout)
}

#[test]
fn a_plan_that_comes_out_as_expected_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, svg) = (dir.path().join("plan.yaml"), dir.path().join("a.svg"));
    std::fs::write(&plan, PLAN).unwrap();
    let played = rehearse(&plan, Some(&svg));
    assert_eq!(text(&played.stderr), "");
    assert_eq!(text(&played.stdout), STORY);
    assert_eq!(played.status.code(), Some(0));
    let texts = texts_of_svg(&svg);
    assert!(texts.contains("deploy a new revision of web"), "{texts}");
}

#[test]
fn the_examples_have_pictures_that_others_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let examples = repository().join("examples/rehearse");
    for entry in std::fs::read_dir(examples).unwrap() {
        let plan = entry.unwrap().path();
        let svg = dir.path().join("a.svg");
        let played = rehearse(&plan, Some(&svg));
        assert_eq!(played.status.code(), Some(0), "{}", text(&played.stderr));
        assert!(!texts_of_svg(&svg).is_empty());
    }
}

#[test]
fn a_broken_expectation_fails() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.yaml");
    let asked = PLAN.replace("lowestHealthy: 2", "lowestHealthy: 3");
    std::fs::write(&plan, asked).unwrap();
    let played = rehearse(&plan, None);
    assert_eq!(played.status.code(), Some(1));
    let told = text(&played.stdout);
    let broken = "BROKEN  web: at least 3 healthy; the lowest was 2";
    assert!(told.contains(broken), "{told}");
}

#[test]
fn a_wrong_plan_is_refused_before_anything_is_played() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, svg) = (dir.path().join("plan.yaml"), dir.path().join("a.svg"));
    std::fs::write(&plan, PLAN.replace("deploy: web", "deploy: wep")).unwrap();
    let played = rehearse(&plan, Some(&svg));
    assert_eq!(played.status.code(), Some(2), "a mistake of the user's");
    assert_eq!(text(&played.stdout), "");
    let told = text(&played.stderr);
    assert!(
        told.contains("plan.yaml:7:22: there is no service `wep`"),
        "{told}"
    );
    assert!(told.contains("\n  |                      ^^^"), "{told}");
    assert!(!svg.exists());
}

#[test]
fn what_is_no_plan_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let large = file("large", &vec![b' '; (1 << 20) + 1]);
    let binary = file("binary", b"hosts: \xff");
    let endless = Path::new("/dev/zero").to_owned();
    let missing = dir.path().join("missing");
    for (path, told) in [
        (large, "too large to be a plan"),
        (endless, "too large to be a plan"),
        (binary, "invalid utf-8"),
        (missing, "No such file"),
        (dir.path().to_owned(), "Is a directory"),
    ] {
        let played = rehearse(&path, None);
        assert_eq!(played.status.code(), Some(1), "{}", path.display());
        let shown = text(&played.stderr);
        assert!(shown.contains(told), "{told:?} is not in {shown}");
    }
}
