//! Task definitions that people really use, brought to RUNNING with all they
//! say. What cannot be had here is stood in for: the image by one that waits,
//! secrets, log groups and objects in S3 by some of the same names, accounts
//! by this one.
//!
//! The files belong to their authors and stay outside the repository; see
//! `core/tests/real_task_definitions.rs`, which says what AWS refuses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use minato_e2e::{STANDINS, Site, standin_archives};
use serde_json::{Value, json};

use crate::s3_server::{SECRET, WithS3};

/// The file system of `fluent_bit_efs` and that of `Aethernet`.
const FILE_SYSTEMS: [&str; 2] = ["fs-c3c9bcbb", "fs-0bd3a463a25a5632b"];

/// Roles of other accounts could not be assumed.
const ROLE: &str = "arn:aws:iam::000000000000:role/standin";

const NO_ROLE: &str =
    "to have execution role ARN to support log driver awslogs";
const PORTS_DIFFER: &str =
    "host ports and container ports in port mappings must match";
const NO_PROXY: &str =
    "proxyConfiguration container 'envoy' is not a container";

/// Files that do not register even with what stands in, and why: AWS or its
/// clients refuse them for the same reasons.
const REFUSED: &[(&str, &str)] = &[
    (
        "AQ_naoto_momose_LaravelHandsOn.json",
        "Invalid type for parameter containerDefinitions",
    ),
    ("AlexDiru_rust_backend_aws.json", PORTS_DIFFER),
    ("aws_samples_gunicorn_gunicorn_fargate.json", NO_ROLE),
    ("aws_samples_jetty_jetty_fargate.json", NO_ROLE),
    ("aws_samples_kibana_kibana_ec2.json", PORTS_DIFFER),
    ("aws_samples_kibana_kibana_fargate.json", NO_ROLE),
    ("aws_samples_nginx_nginx_fargate.json", NO_ROLE),
    ("aws_samples_tomcat_tomcat_ec2.json", PORTS_DIFFER),
    ("aws_samples_tomcat_tomcat_fargate.json", NO_ROLE),
    ("aws_samples_wildfly_wildfly_fargate.json", NO_ROLE),
    ("fluent_bit_logstash_task_definition.json", "Invalid type for parameter"),
    ("fluent_bit_signalfx_task_definition.json", "Invalid type for parameter"),
    ("kayac_tests_run_test_td.json", NO_PROXY),
    ("kayac_tests_td.json", NO_PROXY),
    ("kayac_tests_td_in_tags.json", NO_PROXY),
    ("kayac_tests_td_plain.json", NO_PROXY),
    ("kayac_tests_td_plain_in_tags.json", NO_PROXY),
    (
        "splitting_log_streams_fluentd_task_definition.json",
        "config-file-type s3",
    ),
];

/// Configurations of log routers in S3, as some files name them.
const OBJECTS: [&str; 3] = ["extra.conf", "tail.conf", "tcp.conf"];

fn folder() -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/real-taskdefs"))
        .find(|folder| folder.is_dir())
}

/// The definitions by the names of their files; what is no JSON is left out.
fn definitions(folder: &Path) -> Vec<(String, Value)> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut found: Vec<(String, Value)> = files
        .filter_map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let mut value: Value = serde_json::from_str(&text).ok()?;
            if value.get("taskDefinition").is_some() {
                value = value["taskDefinition"].take();
            }
            let name = path.file_name()?.to_string_lossy().into_owned();
            value.is_object().then_some((name, value))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Takes out what only answers have, which boto3 refuses to send.
fn only_input(definition: &mut Value) {
    let Value::Object(members) = definition else { return };
    for answered in [
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
        "deregisteredAt",
    ] {
        members.remove(answered);
    }
    let tags = members.get("tags").and_then(Value::as_array);
    if tags.is_some_and(Vec::is_empty) {
        members.remove("tags");
    }
    drop_nulls(definition);
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The lists of a container that name secrets.
fn secrets(container: &mut Value) -> impl Iterator<Item = &mut Value> {
    let Value::Object(members) = container else { unreachable!() };
    let lists =
        members.iter_mut().filter_map(|(name, member)| match name.as_str() {
            "secrets" => Some(member),
            "logConfiguration" => member.get_mut("secretOptions"),
            _ => None,
        });
    lists.flat_map(|list| list.as_array_mut().into_iter().flatten())
}

/// Makes a secret or parameter of the name that `given` has; what to say for
/// it here.
fn stand_in_for_secret(site: &mut Site, given: &str) -> Result<String> {
    if !given.contains(":secretsmanager:") {
        let name = given.rsplit_once(":parameter").map_or(given, |it| it.1);
        let parameter = json!({
            "Name": name, "Value": "a value", "Type": "SecureString",
            "Overwrite": true
        });
        site.call("ssm", "put_parameter", parameter)?;
        return Ok(name.to_owned());
    }
    let parts: Vec<&str> = given.split(':').collect();
    let name = parts.get(6).context("a secret's name")?;
    let name = name.rsplit_once('-').map_or(*name, |it| it.0);
    let name = &name.replace(['$', '{', '}'], "");
    let key = parts.get(7).filter(|key| !key.is_empty()).unwrap_or(&"key");
    let known = site.call("secretsmanager", "list_secrets", json!({}))?;
    let known = known["SecretList"].as_array().context("a list")?;
    let known = known.iter().find(|secret| secret["Name"] == **name).cloned();
    // Several containers may use one secret, each another key of it.
    let (arn, mut value) = match known {
        Some(known) => {
            let ask = json!({ "SecretId": name });
            let value = site.call("secretsmanager", "get_secret_value", ask)?;
            let value = value["SecretString"].as_str().context("a string")?;
            (known["ARN"].clone(), serde_json::from_str(value)?)
        }
        None => {
            let ask = json!({ "Name": name, "SecretString": "{}" });
            let made = site.call("secretsmanager", "create_secret", ask)?;
            (made["ARN"].clone(), json!({}))
        }
    };
    value[*key] = json!("a value");
    let put = json!({ "SecretId": name, "SecretString": value.to_string() });
    site.call("secretsmanager", "put_secret_value", put)?;
    let arn = arn.as_str().context("an ARN")?;
    Ok([&[arn], parts.get(7..).unwrap_or_default()].concat().join(":"))
}

/// Prepares what the definition names outside itself.
fn stand_in(site: &mut Site, definition: &mut Value) -> Result<()> {
    only_input(definition);
    for role in ["taskRoleArn", "executionRoleArn"] {
        if definition.get(role).is_some() {
            definition[role] = json!(ROLE);
        }
    }
    let containers = definition["containerDefinitions"].as_array_mut();
    for container in containers.into_iter().flatten() {
        let is_ecr = container["image"]
            .as_str()
            .is_some_and(|image| image.contains(".dkr.ecr."));
        container["image"] = json!(STANDINS[usize::from(is_ecr)]);
        for secret in secrets(container) {
            let given = secret["valueFrom"].as_str().context("a reference")?;
            secret["valueFrom"] = json!(stand_in_for_secret(site, given)?);
        }
        let options = container
            .get_mut("logConfiguration")
            .and_then(|log| log.get_mut("options")?.as_object_mut());
        if let Some(options) = options
            && options.contains_key("awslogs-group")
        {
            options.insert("awslogs-create-group".into(), json!("true"));
            // Some say `<aws_region>`.
            let is_template = |region: &Value| {
                region.as_str().is_some_and(|region| region.contains('<'))
            };
            if options.get("awslogs-region").is_some_and(is_template) {
                options.insert("awslogs-region".into(), json!("us-east-1"));
            }
        }
        drop_nulls(container);
    }
    Ok(())
}

fn bring_up(site: &mut Site, mut definition: Value) -> Result<()> {
    stand_in(site, &mut definition)?;
    let is_fargate = definition["requiresCompatibilities"]
        .as_array()
        .is_some_and(|list| list.iter().any(|it| it == "FARGATE"));
    let launch_type = if is_fargate { "FARGATE" } else { "EC2" };
    let containers = definition["containerDefinitions"].as_array();
    let names: BTreeSet<String> = containers
        .into_iter()
        .flatten()
        .map(|container| container["name"].to_string())
        .collect();
    let arn = site.start_task(definition, launch_type)?;
    let task = site.wait_task(&arn, "RUNNING")?;
    let containers = task["containers"].as_array().context("containers")?;
    let running: BTreeSet<String> = containers
        .iter()
        .filter(|container| container["lastStatus"] == "RUNNING")
        .map(|container| container["name"].to_string())
        .collect();
    ensure!(running == names, "not all of it runs: {task:#}");
    site.stop_task(&arn)?;
    Ok(())
}

#[test]
fn real_definitions_run() {
    let Some(folder) = folder() else {
        assert!(std::env::var_os("CI").is_none(), "no real definitions");
        return;
    };
    let own = tempfile::tempdir().unwrap();
    let mut arguments = vec![];
    for file_system in FILE_SYSTEMS {
        let directory = own.path().join(file_system);
        std::fs::create_dir(&directory).unwrap();
        arguments.push("--efs".to_owned());
        arguments.push(format!("{file_system}={}", directory.display()));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut s3 = WithS3::start(SECRET, &arguments).unwrap();
    for object in OBJECTS {
        s3.put(&format!("yourbucket/yourdirectory/{object}"), "# nothing\n");
    }
    let site = &mut s3.site;
    for archive in standin_archives() {
        let archive = archive.to_string_lossy();
        site.minato(&["image", "load", &archive]).unwrap();
    }
    let mut wrong = vec![];
    for (file, definition) in definitions(&folder) {
        let refusal = REFUSED.iter().find(|(name, _)| *name == file);
        match (bring_up(site, definition), refusal) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{file} registers now")),
            (Err(error), refusal) => {
                let text = format!("{error:#}");
                let is_known = refusal.is_some_and(|(_, why)| {
                    text.contains("register_task_definition")
                        && text.contains(why)
                });
                if !is_known {
                    wrong.push(format!("{file}: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    s3.site.finish().unwrap();
}
