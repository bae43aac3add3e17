//! What becomes of log options: plans, or refusals that name them.

use serde_json::{Value, json};

use super::*;
use crate::task::plan::{GelfCompression, SyslogFormat};

fn decode(driver: &str, options: Value) -> Result<LogPlan, String> {
    let config = acs::LogConfig {
        r#type: driver.into(),
        config: serde_json::from_value(options).unwrap(),
    };
    let owner =
        LogOwner { task_id: "t1", name: "app", id: "t1-7", image: "busybox" };
    decode_log(Some(&config), owner).map_err(|error| error.to_string())
}

fn remote(driver: &str, options: Value) -> RemotePlan {
    let LogPlan::Remote(plan) = decode(driver, options).unwrap() else {
        panic!("{driver} is sent by nobody");
    };
    *plan
}

#[test]
fn addresses_are_read_with_their_default_ports() {
    let tcp = |text: &str| LogAddress::Tcp(text.into());
    for (driver, options, address) in [
        ("fluentd", json!({}), tcp("127.0.0.1:24224")),
        ("fluentd", json!({"fluentd-address": "logs:9"}), tcp("logs:9")),
        ("fluentd", json!({"fluentd-address": "tcp://a"}), tcp("a:24224")),
        (
            "fluentd",
            json!({"fluentd-address": "unix:///run/f.sock"}),
            LogAddress::Unix("/run/f.sock".into()),
        ),
        ("syslog", json!({}), LogAddress::Unixgram("/dev/log".into())),
        ("syslog", json!({"syslog-address": "tcp://[::1]"}), tcp("[::1]:514")),
        (
            "syslog",
            json!({"syslog-address": "udp://h:1514"}),
            LogAddress::Udp("h:1514".into()),
        ),
        (
            "syslog",
            json!({"syslog-address": "unixgram:///x"}),
            LogAddress::Unixgram("/x".into()),
        ),
        (
            "gelf",
            json!({"gelf-address": "udp://g:12201"}),
            LogAddress::Udp("g:12201".into()),
        ),
        ("gelf", json!({"gelf-address": "tcp://g:1"}), tcp("g:1")),
        (
            "journald",
            json!({}),
            LogAddress::Unixgram("/run/systemd/journal/socket".into()),
        ),
    ] {
        assert_eq!(remote(driver, options).address, address, "{driver}");
    }
}

#[test]
fn options_have_their_effect() {
    let plan = remote(
        "fluentd",
        json!({
            "fluentd-async": "true", "fluentd-buffer-limit": "8k",
            "fluentd-retry-wait": "20", "fluentd-max-retries": "3",
            "fluentd-request-ack": "true", "mode": "non-blocking",
            "fluentd-async-reconnect-interval": "5000",
            "labels": "a,b", "env-regex": "^X", "max-buffer-size": "1m",
        }),
    );
    assert!(!plan.must_connect);
    assert_eq!(plan.batch_max, BATCH_MAX);
    assert_eq!(plan.retry_wait, Duration::from_millis(20));
    assert_eq!(plan.max_attempts, 4);
    assert_eq!(plan.reconnect_every, Some(Duration::from_secs(5)));
    assert_eq!(plan.max_buffer_bytes, Some(1 << 20));
    assert_eq!(plan.extras.labels, ["a", "b"]);
    assert_eq!(plan.extras.env_regex.as_deref(), Some("^X"));
    let form = RecordForm::Forward { sub_second: false, is_acknowledged: true };
    assert_eq!(plan.form, form);
    let limit = json!({"fluentd-buffer-limit": "10"});
    assert_eq!(remote("fluentd", limit).batch_max, 10);
    let plan = remote(
        "syslog",
        json!({"syslog-facility": "local0", "syslog-format": "rfc5424"}),
    );
    let (facility, format) = (16, SyslogFormat::Rfc5424);
    assert_eq!(plan.form, RecordForm::Syslog { facility, format });
    assert!(plan.must_connect);
    let plan = remote("gelf", json!({"gelf-address": "udp://g:1"}));
    let compression = GelfCompression::Gzip(1);
    assert_eq!(plan.form, RecordForm::Gelf { compression });
}

#[test]
fn a_container_of_a_router_has_the_upstream_agent_s_tag() {
    let options = json!({
        "Name": "stdout", "anything": "at all",
        "log-driver-buffer-limit": "7", "mode": "non-blocking",
    });
    let plan = remote("awsfirelens", options);
    assert_eq!(plan.address, LogAddress::Router);
    assert_eq!(plan.tag.render(|_| String::new()), "app-firelens-t1");
    assert_eq!(plan.batch_max, 7);
    assert_eq!(plan.max_buffer_bytes, Some(DEFAULT_BUFFER_BYTES));
    assert!(!plan.must_connect);
}

#[test]
fn json_files_are_written_as_docker_writes_them() {
    let options = json!({"max-size": "1k", "max-file": "3", "tag": "x"});
    let plan = decode("json-file", options).unwrap();
    let LogPlan::JsonFile { max_size_bytes, max_files, lines } = plan else {
        panic!("{plan:?}");
    };
    assert_eq!((max_size_bytes, max_files), (1024, 3));
    let address =
        LogAddress::Files { max_size_bytes: Some(1024), max_files: 3 };
    assert_eq!(lines.unwrap().address, address);
}

#[test]
fn streams_are_named_as_given() {
    for (options, stream) in [
        (json!({"awslogs-stream": "s"}), "s"),
        (json!({"awslogs-stream-prefix": "p"}), "p/app/t1"),
        (json!({"tag": "{{.Name}}:{{.ImageName}}"}), "app_busybox"),
        (json!({}), "t1-7"),
    ] {
        let mut all = json!({"awslogs-group": "g", "awslogs-region": "r"});
        let more = options.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        let LogPlan::Awslogs(plan) = decode("awslogs", all).unwrap() else {
            panic!("not of CloudWatch Logs");
        };
        assert_eq!(plan.stream, stream);
    }
}

/// Nothing is accepted and then ignored.
#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let aws = |name: &str, value: &str| {
        json!({
            "awslogs-group": "g", "awslogs-region": "r", name: value,
        })
    };
    for (driver, options, word) in [
        ("splunk", json!({}), "log driver splunk"),
        ("fluentd", json!({"fluentd-x": "1"}), "fluentd-x"),
        ("fluentd", json!({"fluentd-address": "tls://a"}), "TLS"),
        ("fluentd", json!({"fluentd-address": "http://a"}), "http://a"),
        ("fluentd", json!({"fluentd-address": "a:70000"}), "a:70000"),
        ("fluentd", json!({"fluentd-address": "unix://x"}), "unix://x"),
        ("fluentd", json!({"fluentd-retry-wait": "soon"}), "soon"),
        ("fluentd", json!({"fluentd-async": "perhaps"}), "perhaps"),
        (
            "fluentd",
            json!({"fluentd-async-reconnect-interval": "1"}),
            "interval",
        ),
        ("fluentd", json!({"tag": "{{.Nope}}"}), "{{.Nope}}"),
        ("fluentd", json!({"env-regex": "("}), "env-regex"),
        ("fluentd", json!({"mode": "other"}), "mode"),
        ("syslog", json!({"syslog-address": "tcp+tls://a"}), "TLS"),
        ("syslog", json!({"syslog-tls-cert": "/x"}), "syslog-tls-cert"),
        ("syslog", json!({"syslog-address": "nowhere"}), "nowhere"),
        ("syslog", json!({"syslog-facility": "x"}), "syslog-facility"),
        ("syslog", json!({"syslog-format": "x"}), "syslog-format"),
        ("gelf", json!({}), "gelf-address"),
        ("gelf", json!({"gelf-address": "udp://host"}), "host"),
        (
            "gelf",
            json!({
                "gelf-address": "tcp://h:1", "gelf-compression-type": "gzip",
            }),
            "gelf-compression-type",
        ),
        ("json-file", json!({"compress": "true"}), "compress"),
        ("json-file", json!({"max-file": "0"}), "max-file"),
        ("none", json!({"tag": "x"}), "tag"),
        ("awslogs", json!({}), "awslogs-group"),
        ("awslogs", aws("awslogs-endpoint", "http://x"), "awslogs-endpoint"),
        ("awslogs", aws("awslogs-format", "xml"), "awslogs-format"),
        ("awslogs", aws("awslogs-multiline-pattern", "("), "multiline"),
        ("awslogs", aws("tag", "{{.ImageID}}"), "image"),
        ("awslogs", aws("awslogs-force-flush-interval-seconds", "0"), "flush"),
    ] {
        let error = decode(driver, options.clone()).unwrap_err();
        assert!(error.contains(word), "{driver} {options}: {error}");
    }
}
