//! FireLens: what a log router finds in its container.

use std::time::Duration;

use minato_e2e::{IMAGE, wait_for};
use serde_json::{Value, json};

use crate::s3_server::{SECRET, WithS3};

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";

/// A router that shows its files, and a container whose output it would take.
fn router(kind: &str, config: &str, object: &str) -> Value {
    let wait = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let show = format!(
        "config={config}; cat $config; cat ${{config%/*}}/external.conf
         echo END; {wait}"
    );
    json!({
        "family": kind,
        "networkMode": "bridge",
        "executionRoleArn": ROLE,
        "containerDefinitions": [{
            "name": "router", "image": IMAGE, "cpu": 16, "memory": 16,
            "command": ["/bin/sh", "-c", show],
            "firelensConfiguration": {"type": kind, "options": {
                "config-file-type": "s3",
                "config-file-value": format!("arn:aws:s3:::conf/{object}"),
            }},
        }, {
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 16,
            "command": ["/bin/sh", "-c", wait],
            "logConfiguration": {"logDriver": "awsfirelens"},
        }]
    })
}

#[test]
fn a_router_includes_its_configuration_from_s3() {
    let mut s3 = WithS3::start(SECRET, &[]).unwrap();
    s3.put("conf/some/extra.conf", "# from the bucket\n");
    for (kind, config, include) in [
        (
            "fluentbit",
            "/fluent-bit/etc/fluent-bit.conf",
            "@INCLUDE /fluent-bit/etc/external.conf",
        ),
        (
            "fluentd",
            "/fluentd/etc/fluent.conf",
            "@include /fluentd/etc/external.conf",
        ),
    ] {
        let wanted = router(kind, config, "some/extra.conf");
        let arn = s3.site.start_task(wanted, "EC2").unwrap();
        s3.site.wait_task(&arn, "RUNNING").unwrap();
        let id = arn.rsplit('/').next().unwrap().to_owned();
        let said = wait_for(Duration::from_secs(30), || {
            let logs = s3.site.minato(&["logs", &id]).unwrap();
            logs.contains("END").then_some(logs)
        });
        let said = said.unwrap_or_else(|| panic!("{}", s3.site.log()));
        assert!(said.contains(include), "{said}");
        assert!(said.contains("# from the bucket"), "{said}");
        s3.site.stop_task(&arn).unwrap();
    }

    let config = "/fluentd/etc/fluent.conf";
    let wanted = router("fluentd", config, "none.conf");
    let arn = s3.site.start_task(wanted, "EC2").unwrap();
    let task = s3.site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
    let said = task["stoppedReason"].as_str().unwrap();
    let reason = "ResourceInitializationError: unable to download firelens s3 \
                  config file: unable to download s3 config none.conf from \
                  bucket conf: NoSuchKey: ";
    assert!(said.starts_with(reason), "{said}");
    s3.site.finish().unwrap();
}
