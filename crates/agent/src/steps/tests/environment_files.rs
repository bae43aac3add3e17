//! Environment files.

use minato_client::Credentials;
use minato_wire::Timestamp;
use minato_wire::acs::IamRoleCredentials;

use super::*;
use crate::objects::S3Config;
use crate::objects::fake::FakeS3;
use crate::test_support::services;

/// The container of a task with these files, brought up.
async fn with_files(
    launch_type: &str,
    files: &[&str],
    s3: Option<S3Config>,
    sent: Option<&str>,
) -> (Fixture, ContainerContext, Result<(), UpError>) {
    let rig = Rig::new();
    let mut task = full_task("bridge");
    task.launch_type = Some(launch_type.into());
    task.execution_role_credentials = Some(IamRoleCredentials {
        credentials_id: "execution".into(),
        ..IamRoleCredentials::default()
    });
    let files = files.iter().map(
        |key| json!({"type": "s3", "value": format!("arn:aws:s3:::b/{key}")}),
    );
    let files: Vec<Value> = files.collect();
    task.containers[0].environment_files =
        serde_json::from_value(json!(files)).unwrap();
    let mut services = services(&rig.runtime, &rig.api, rig.dir.path());
    Arc::get_mut(&mut services).unwrap().config.s3 = s3;
    if let Some(id) = sent {
        let set = IamRoleCredentials {
            credentials_id: id.into(),
            access_key_id: Some("ASIAEXECUTION".into()),
            secret_access_key: Some("hush".into()),
            session_token: Some("of the role".into()),
            ..IamRoleCredentials::default()
        };
        services.credentials.put(set, Timestamp::from_millis(0));
    }
    let plan = Arc::new(decode_task(&task).unwrap());
    let dir = rig.dir.path().join("tasks").join(TASK_ID);
    let fixture = Fixture { task: TaskContext { services, plan, dir }, rig };
    let mut task_facts = TaskFacts::default();
    up(&task_steps(), &fixture.task, &mut task_facts).await.unwrap();
    let cx = fixture.container(task_facts);
    let mut facts = ContainerFacts::default();
    let ended = up(&container_steps(), &cx, &mut facts).await;
    (fixture, cx, ended)
}

fn why(ended: Result<(), UpError>) -> String {
    match ended {
        Err(UpError::Failed { step: "environment files", error }) => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_environment_beats_files_and_the_first_file_the_others() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/1.env", 200, b"A=file\nB=first\nPATH=/file\n");
    s3.answer("/b/dir/2.env", 200, b"#\nB=second\nC=second\n");
    let files = ["1.env", "dir/2.env"];
    let (fixture, cx, ended) =
        with_files("EC2", &files, Some(s3.config()), Some("execution")).await;
    ended.unwrap();
    let mut facts = ContainerFacts::default();
    image::PullImage.up(&cx, &mut facts).await.unwrap();
    address::Address.up(&cx, &mut facts).await.unwrap();
    let env = container_spec(&cx, &facts).unwrap().env;
    for pair in ["A=1", "B=first", "C=second", "PATH=/x"] {
        assert!(env.contains(&pair.to_owned()), "{pair} in {env:?}");
    }
    assert!(!format!("{cx:?}").contains("second"));
    // In the execution role's name, once for each file.
    let asked = s3.asked();
    assert_eq!(asked.len(), 2);
    for (_, headers) in asked {
        let signed = headers["authorization"].to_str().unwrap();
        assert!(signed.contains("Credential=ASIAEXECUTION/"), "{signed}");
        assert_eq!(headers["x-amz-security-token"], "of the role");
    }
    drop(fixture);
}

#[tokio::test]
async fn an_operators_key_takes_the_roles_place() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/1.env", 200, b"A=file");
    let credentials = Credentials {
        access_key_id: "OPERATOR".into(),
        secret_access_key: "hush".into(),
        session_token: None,
    };
    let config = S3Config { credentials: Some(credentials), ..s3.config() };
    let (_fixture, _, ended) =
        with_files("EC2", &["1.env"], Some(config), None).await;
    ended.unwrap();
    let (_, headers) = &s3.asked()[0];
    let signed = headers["authorization"].to_str().unwrap();
    assert!(signed.contains("Credential=OPERATOR/"), "{signed}");
    assert!(!headers.contains_key("x-amz-security-token"));
}

#[tokio::test]
async fn a_file_that_cannot_be_had_ends_the_task_with_ecs_words() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/bad.env", 200, b"A=\xff");
    let missing = "unable to download env file with key none.env from bucket \
                   b, error: NoSuchKey: The specified key does not exist. \
                   (status code 404)";
    let both = format!(
        "ResourceInitializationError: {missing};unable to read env file with \
         key bad.env from bucket b, error: it is not UTF-8"
    );
    let fargate = format!(
        "ResourceInitializationError: failed to download env files: file \
         download command: non empty error stream: {missing}"
    );
    for (launch_type, files, expected) in [
        ("EC2", &["none.env", "bad.env"][..], both),
        ("FARGATE", &["none.env"][..], fargate),
    ] {
        let config = Some(s3.config());
        let (fixture, _, ended) =
            with_files(launch_type, files, config, Some("execution")).await;
        assert_eq!(why(ended), expected);
        let calls = fixture.rig.runtime.calls();
        assert!(!calls.iter().any(|call| call.starts_with("pull")));
    }
    let (_fixture, _, ended) =
        with_files("EC2", &["a.env"], None, Some("execution")).await;
    assert!(why(ended).contains("no endpoint of S3"));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_never_come_are_not_waited_for_for_ever() {
    let s3 = FakeS3::start().await;
    for sent in [None, Some("other")] {
        let config = Some(s3.config());
        let (_fixture, _, ended) =
            with_files("EC2", &["a.env"], config, sent).await;
        assert_eq!(
            why(ended),
            "ResourceInitializationError: environment file resource: unable \
             to find execution role credentials"
        );
    }
    assert!(s3.asked().is_empty());
}

#[tokio::test]
async fn a_container_that_has_started_needs_no_file_again() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/1.env", 200, b"A=file");
    let config = Some(s3.config());
    let (fixture, cx, ended) =
        with_files("EC2", &["1.env"], config, Some("execution")).await;
    ended.unwrap();
    // A new agent, which has fetched nothing.
    let cx = ContainerContext { files: FileCell::default(), ..cx };
    let mut facts =
        ContainerFacts { started_at_ms: Some(1), ..Default::default() };
    let fetch = super::super::environment_files::FetchFiles;
    fetch.up(&cx, &mut facts).await.unwrap();
    assert_eq!(s3.asked().len(), 1);
    facts.started_at_ms = None;
    fetch.up(&cx, &mut facts).await.unwrap();
    assert_eq!(s3.asked().len(), 2);
    drop(fixture);
}

#[test]
fn what_names_no_object_is_refused() {
    for (given, expected) in [
        (json!({"type": "ftp", "value": "arn:aws:s3:::b/a.env"}), "of type"),
        (json!({"type": "s3", "value": "arn:aws:s3:::b"}), "not the ARN"),
        (json!({"type": "s3", "value": "arn:aws:s3:::/a.env"}), "not the ARN"),
        (json!({"type": "s3", "value": "s3://b/a.env"}), "not the ARN"),
    ] {
        let mut task = full_task("bridge");
        task.containers[0].environment_files =
            serde_json::from_value(json!([given])).unwrap();
        let error = decode_task(&task).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
