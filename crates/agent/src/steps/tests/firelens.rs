//! A log router's configuration from S3.

use minato_wire::Timestamp;
use minato_wire::acs::IamRoleCredentials;

use super::*;
use crate::objects::S3Config;
use crate::objects::fake::FakeS3;
use crate::test_support::services;

const ARN: &str = "arn:aws:s3:::b/dir/extra.conf";

/// A log router whose further configuration is this object.
fn router(arn: &str, s3: Option<S3Config>, has_role: bool) -> Fixture {
    let rig = Rig::new();
    let mut task = task(json!([{
        "name": "router", "image": "router",
        "firelensConfiguration": {"type": "fluentbit", "options": {
            "config-file-type": "s3", "config-file-value": arn,
        }},
    }]));
    task.network_mode = Some("none".into());
    let set = IamRoleCredentials {
        credentials_id: "execution".into(),
        access_key_id: Some("ASIAEXECUTION".into()),
        secret_access_key: Some("hush".into()),
        ..IamRoleCredentials::default()
    };
    task.execution_role_credentials = has_role.then(|| set.clone());
    let mut services = services(&rig.runtime, &rig.api, rig.dir.path());
    Arc::get_mut(&mut services).unwrap().config.s3 = s3;
    services.credentials.put(set, Timestamp::from_millis(0));
    let plan = Arc::new(decode_task(&task).unwrap());
    let dir = rig.dir.path().join("tasks").join(TASK_ID);
    Fixture { task: TaskContext { services, plan, dir }, rig }
}

async fn brought_up(
    fixture: &Fixture,
) -> (ContainerContext, ContainerFacts, Result<(), UpError>) {
    let mut task_facts = TaskFacts::default();
    up(&task_steps(), &fixture.task, &mut task_facts).await.unwrap();
    let cx = fixture.container(task_facts);
    let mut facts = ContainerFacts::default();
    let ended = up(&container_steps(), &cx, &mut facts).await;
    (cx, facts, ended)
}

#[tokio::test]
async fn a_router_gets_its_configuration_from_s3() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/dir/extra.conf", 200, b"[SERVICE]\n");
    let fixture = router(ARN, Some(s3.config()), true);
    let (cx, mut facts, ended) = brought_up(&fixture).await;
    ended.unwrap();
    let (_, headers) = &s3.asked()[0];
    let signed = headers["authorization"].to_str().unwrap();
    assert!(signed.contains("Credential=ASIAEXECUTION/"), "{signed}");

    let spec = container_spec(&cx, &facts).unwrap();
    let text_at = |path: &str| {
        let mut mounts = spec.mounts.iter();
        let mount = mounts.find(|it| it.destination.ends_with(path)).unwrap();
        std::fs::read_to_string(&mount.source).unwrap()
    };
    assert_eq!(text_at("fluent-bit/etc/external.conf"), "[SERVICE]\n");
    let generated = text_at("fluent-bit/etc/fluent-bit.conf");
    let include = "\n@INCLUDE /fluent-bit/etc/external.conf\n";
    assert!(generated.contains(include), "{generated}");

    // A new agent, which has fetched nothing, takes the router over with the
    // files that it has.
    facts.started_at_ms = Some(1);
    let cx =
        ContainerContext { router_config: RouterConfigCell::default(), ..cx };
    up(&container_steps(), &cx, &mut facts).await.unwrap();
    assert_eq!(s3.asked().len(), 1);
    assert_eq!(text_at("fluent-bit/etc/external.conf"), "[SERVICE]\n");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_be_had_ends_the_task_with_ecs_words() {
    let s3 = FakeS3::start().await;
    let config = || Some(s3.config());
    for (arn, s3, has_role, expected) in [
        (
            ARN,
            config(),
            true,
            "unable to download s3 config dir/extra.conf from bucket b: \
             NoSuchKey: The specified key does not exist. (status code 404)",
        ),
        (
            "extra.conf",
            config(),
            true,
            "unable to parse bucket and key from s3 arn: \"extra.conf\" is \
             not the ARN of an object in S3",
        ),
        (ARN, config(), false, "unable to get execution role credentials"),
        (ARN, None, true, "this agent knows no endpoint of S3 (--s3-endpoint)"),
    ] {
        let fixture = router(arn, s3, has_role);
        let (_, _, ended) = brought_up(&fixture).await;
        let expected = format!(
            "ResourceInitializationError: unable to download firelens s3 \
             config file: {expected}"
        );
        match ended {
            Err(UpError::Failed { step: "firelens configuration", error }) => {
                assert_eq!(error.to_string(), expected);
            }
            other => panic!("{other:?}"),
        }
        let calls = fixture.rig.runtime.calls();
        assert!(!calls.iter().any(|call| call.starts_with("pull")));
    }
}
