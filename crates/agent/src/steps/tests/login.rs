//! Private registries.

use std::path::Path;

use super::*;
use crate::runtime::RegistryLogin;

const HUB: &str = "arn:aws:secretsmanager:eu-west-1:1:secret:hub-AbCdEf";

fn asm(secret: &str, region: Option<&str>) -> Value {
    json!({"type": "asm", "asmAuthData": {
        "credentialsParameter": secret, "region": region,
    }})
}

/// A task whose container has these `repositoryCredentials`.
fn private(launch_type: &str, given: Value) -> minato_wire::acs::Task {
    let mut task = full_task("bridge");
    task.launch_type = Some(launch_type.into());
    task.containers[0].registry_authentication =
        serde_json::from_value(given).unwrap();
    task
}

/// Whether any file below the directory has the text.
fn has_text(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return has_text(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[tokio::test(start_paused = true)]
async fn the_registry_is_shown_what_the_secret_holds() {
    for (given, region) in [
        (asm(HUB, Some("eu-west-1")), "eu-west-1"),
        (asm("hub", None), "us-east-1"),
        (asm("hub", Some("")), "us-east-1"),
    ] {
        let (fixture, ended) = brought_up(&private("EC2", given)).await;
        ended.unwrap();
        let world = fixture.rig.runtime.world.lock();
        let (username, password) = ("me".into(), "hunter2".into());
        let login = RegistryLogin { username, password };
        assert!(!format!("{login:?}").contains("hunter2"));
        assert_eq!(world.logins.get("web"), Some(&login));
        let state = fixture.rig.api.state.lock();
        let asked = state.calls.iter().zip(&state.regions);
        let regions: Vec<_> = asked
            .filter(|((name, _), _)| name == "GetSecretValue")
            .map(|(_, region)| region.as_str())
            .collect();
        assert_eq!(regions, [region]);
    }
    let (fixture, ended) = brought_up(&full_task("bridge")).await;
    ended.unwrap();
    assert!(fixture.rig.runtime.world.lock().logins.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_is_fetched_again_only_while_the_image_is_not_here() {
    let task = private("EC2", asm("hub", None));
    let (fixture, ended) = brought_up(&task).await;
    ended.unwrap();
    let cx = fixture.container(TaskFacts::default());
    let fetched = || fixture.rig.api.calls("GetSecretValue").len();
    let mut facts = ContainerFacts::default();
    for _ in 0..2 {
        image::PullImage.up(&cx, &mut facts).await.unwrap();
        assert_eq!(fetched(), 2);
    }
    // A call without an answer is repeated.
    fixture.rig.api.fail_next("GetSecretValue", "InternalFailure");
    facts.image = None;
    image::PullImage.up(&cx, &mut facts).await.unwrap();
    assert_eq!(fetched(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_password_is_in_no_file() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(private("EC2", asm(HUB, None))).await.unwrap();
    rig.reported("RUNNING").await;
    assert!(rig.runtime.world.lock().logins.contains_key("web"));
    // The task is on disk, and of the secret only its name.
    assert!(has_text(rig.dir.path(), HUB));
    assert!(!has_text(rig.dir.path(), "hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_does_not_do_stops_the_pull() {
    let none = "arn:aws:secretsmanager:us-east-1:1:secret:no-AbCdEf";
    let other = "arn:aws:secretsmanager:us-east-1:1:secret:db-AbCdEf";
    let fargate = "ResourceInitializationError: unable to pull secrets or \
                   registry auth: execution resource retrieval failed: unable \
                   to retrieve secret from asm: ";
    let missing = format!(
        "asm fetching secret from the service for {none}: \
         ResourceNotFoundException: "
    );
    let malformed =
        "asm fetching username: AuthorizationData is malformed, empty field";
    for (launch_type, before) in [("EC2", ""), ("FARGATE", fargate)] {
        for (secret, why) in [(none, &*missing), (other, malformed)] {
            let task = private(launch_type, asm(secret, None));
            let (fixture, ended) = brought_up(&task).await;
            let Err(UpError::Failed { step: "image", error }) = ended else {
                panic!("{ended:?}");
            };
            let error = error.to_string();
            assert!(error.starts_with(&format!("{before}{why}")), "{error}");
            let calls = fixture.rig.runtime.calls();
            assert!(!calls.iter().any(|call| call.starts_with("pull")));
        }
    }
}

#[test]
fn what_says_nothing_of_a_secret_is_refused() {
    for (given, expected) in [
        (
            json!({"type": "ecr"}),
            "registry authentication with ECR is not supported by this agent",
        ),
        (json!({"type": "asm"}), "no credentialsParameter for container web"),
        (asm("", None), "no credentialsParameter for container web"),
        (json!({}), "registry authentication None"),
    ] {
        let error = decode_task(&private("EC2", given)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
