//! Task definitions that people really use: those AWS would take register
//! and come back equal, the others are refused for the right reason.
//!
//! They belong to their authors, under licences of all kinds, so they stay
//! outside the repository, in `shared/real-taskdefs` beside the clone. Where
//! that is missing the test has nothing to do; in CI that is a failure.

#![expect(clippy::unwrap_used, reason = "helpers of tests, not tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minato_core::task_definition::normalise_and_check;
use minato_wire::ecs::RegisterTaskDefinitionRequest;
use serde_json::Value;

/// Files that AWS would refuse, and why.
const REFUSED: &[(&str, &str)] = &[
    // Incomplete files: a part of a definition, a template, broken JSON.
    ("AQ_naoto_momose_LaravelHandsOn.json", "Container list cannot be empty"),
    (
        "CS3219_AY2223S1_T33_cs3219_project_ay2223s1_g33.json",
        "Container.image should not be null",
    ),
    ("fluent_bit_dynatrace_task_definition.json", "not JSON"),
    (
        "kayac_tests_ecs_task_def.json",
        "Container.image contains invalid characters",
    ),
    (
        "kayac_tests_ecs_task_def_multiple_plugins.json",
        "Container.image contains invalid characters",
    ),
    (
        "kayac_tests_run_test_td.json",
        "Container.image contains invalid characters",
    ),
    ("kayac_tests_td.json", "Container.image contains invalid characters"),
    (
        "kayac_tests_td_in_tags.json",
        "Container.image contains invalid characters",
    ),
    (
        "kayac_tests_td_plain.json",
        "Container.image contains invalid characters",
    ),
    (
        "kayac_tests_td_plain_in_tags.json",
        "Container.image contains invalid characters",
    ),
    // So are its roles.
    ("kayac_tests_ci_ecs_task_def_daemon.json", "Role is not valid"),
    // `secretOptions` is an object where the model has a list.
    ("fluent_bit_logstash_task_definition.json", "expected a sequence"),
    ("fluent_bit_signalfx_task_definition.json", "expected a sequence"),
    // In awsvpc the host has no ports to map.
    (
        "AlexDiru_rust_backend_aws.json",
        "host ports and container ports in port mappings must match",
    ),
    (
        "aws_samples_kibana_kibana_ec2.json",
        "host ports and container ports in port mappings must match",
    ),
    (
        "aws_samples_tomcat_tomcat_ec2.json",
        "host ports and container ports in port mappings must match",
    ),
    // Older than the rule.
    (
        "aws_samples_gunicorn_gunicorn_fargate.json",
        "to have execution role ARN to support log driver awslogs",
    ),
    (
        "aws_samples_jetty_jetty_fargate.json",
        "to have execution role ARN to support log driver awslogs",
    ),
    (
        "aws_samples_kibana_kibana_fargate.json",
        "to have execution role ARN to support log driver awslogs",
    ),
    (
        "aws_samples_nginx_nginx_fargate.json",
        "to have execution role ARN to support log driver awslogs",
    ),
    (
        "aws_samples_tomcat_tomcat_fargate.json",
        "to have execution role ARN to support log driver awslogs",
    ),
    (
        "aws_samples_wildfly_wildfly_fargate.json",
        "to have execution role ARN to support log driver awslogs",
    ),
    // Fargate reads the configuration of its log router from a file only.
    (
        "splitting_log_streams_fluentd_task_definition.json",
        "config-file-type s3",
    ),
];

fn folder() -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/real-taskdefs"))
        .find(|folder| folder.is_dir())
}

/// Every file as the input a client would send: bare, or taken out of the
/// answer of `DescribeTaskDefinition`.
fn definitions(folder: &Path) -> BTreeMap<String, Result<Value, String>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|e| e.path().extension().is_some_and(|e| e == "json"))
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let value = serde_json::from_str::<Value>(&text)
                .map(|mut value| match value.get_mut("taskDefinition") {
                    Some(inner) => inner.take(),
                    None => value,
                })
                .map_err(|error| format!("not JSON: {error}"));
            (entry.file_name().into_string().unwrap(), value)
        })
        .collect()
}

fn register(input: &Value) -> Result<Value, String> {
    let mut input = input.clone();
    drop_nulls(&mut input);
    let request: RegisterTaskDefinitionRequest =
        serde_json::from_value(input).map_err(|error| error.to_string())?;
    let registered =
        normalise_and_check(request).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(registered).unwrap())
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

/// Whether everything of `given` is in `echoed`, which may say more.
fn difference(path: &str, given: &Value, echoed: &Value) -> Option<String> {
    match (given, echoed) {
        (Value::Object(given), Value::Object(echoed)) => {
            given.iter().find_map(|(key, given)| {
                let path = format!("{path}.{key}");
                match echoed.get(key) {
                    Some(echoed) => difference(&path, given, echoed),
                    None => Some(format!("{path} is not echoed")),
                }
            })
        }
        (Value::Array(given), Value::Array(echoed)) => {
            if given.len() != echoed.len() {
                return Some(format!("{path} has another length"));
            }
            given.iter().zip(echoed).enumerate().find_map(|(index, (g, e))| {
                difference(&format!("{path}[{index}]"), g, e)
            })
        }
        (given, echoed) if given == echoed => None,
        (given, echoed) => Some(format!("{path}: {given} became {echoed}")),
    }
}

/// Takes out what is no input, and what is echoed in another form.
fn comparable(input: &Value) -> Value {
    let mut input = input.clone();
    drop_nulls(&mut input);
    let Value::Object(members) = &mut input else {
        return input;
    };
    for member in [
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
        "deregisteredAt",
        "tags",
        "cpu",
        "memory",
    ] {
        members.remove(member);
    }
    let list = members.get("requiresCompatibilities");
    if list.and_then(Value::as_array).is_some_and(Vec::is_empty) {
        members.remove("requiresCompatibilities");
    }
    let fixed = members
        .get("networkMode")
        .and_then(Value::as_str)
        .is_some_and(|mode| mode == "awsvpc" || mode == "host");
    if fixed && let Some(containers) = members.get_mut("containerDefinitions") {
        drop_dynamic_ports(containers);
    }
    input
}

/// A host port of 0 is echoed as the container's where they are the same.
fn drop_dynamic_ports(containers: &mut Value) {
    let containers = containers.as_array_mut().into_iter().flatten();
    for container in containers {
        let mappings = container
            .get_mut("portMappings")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for mapping in mappings {
            if mapping.get("hostPort") == Some(&Value::from(0))
                && let Some(members) = mapping.as_object_mut()
            {
                members.remove("hostPort");
            }
        }
    }
}

/// Answers of the real service that are complete: what it derived, we must.
const CAPTURED: &[&str] = &[
    "8tako8tako8_twitter_rails_api.json",
    "Abdelali12_codes_ecs_opentelemetry.json",
];

#[test]
fn what_aws_derives_is_derived() {
    let Some(folder) = folder() else {
        return;
    };
    let definitions = definitions(&folder);
    for file in CAPTURED {
        let given = definitions[*file].as_ref().unwrap();
        let echoed = register(given).unwrap();
        assert_eq!(names(&echoed), names(given), "{file}");
        assert_eq!(
            echoed["compatibilities"], given["compatibilities"],
            "{file}"
        );
    }
}

/// The names in `requiresAttributes`; their order means nothing.
fn names(definition: &Value) -> Vec<&str> {
    let list = definition["requiresAttributes"].as_array().unwrap();
    let mut names: Vec<&str> =
        list.iter().map(|each| each["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_aws_takes_comes_back_equal_and_the_rest_is_refused() {
    let Some(folder) = folder() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "shared/real-taskdefs is missing beside the clone"
        );
        return;
    };
    let refused: BTreeMap<&str, &str> = REFUSED.iter().copied().collect();
    let definitions = definitions(&folder);
    assert!(definitions.len() >= 80, "{}", definitions.len());
    let mut wrong = vec![];
    for (file, input) in &definitions {
        let outcome = input.as_ref().map_err(Clone::clone).and_then(register);
        match (outcome, refused.get(file.as_str())) {
            (Ok(_), Some(reason)) => {
                wrong.push(format!("{file}: accepted, not refused: {reason}"));
            }
            (Err(error), Some(reason)) if error.contains(reason) => {}
            (Err(error), _) => wrong.push(format!("{file}: {error}")),
            (Ok(echoed), None) => {
                let given = comparable(input.as_ref().unwrap());
                if let Some(found) = difference("", &given, &echoed) {
                    wrong.push(format!("{file}: {found}"));
                }
            }
        }
    }
    for file in refused.keys() {
        assert!(definitions.contains_key(*file), "{file} is gone");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
