//! FireLens: what a task's log router is to do for the other containers.
//!
//! As the upstream agent has it: containers with driver `awsfirelens` wait for
//! the router's start, and their log options become the router's outputs;
//! secret ones go by the router's environment.

use minato_wire::acs;

use super::container_decode::decode_secret;
use super::decode::{DecodeTaskError, malformed, unsupported};
use super::plan::{
    Condition, ContainerPlan, Dependency, IncludePlan, LogAddress, LogPlan,
    RouterKind, RouterOutput, RouterPlan,
};

/// Options of the driver that are no output plugin's.
const DRIVER_OPTIONS: [&str; 3] =
    ["log-driver-buffer-limit", "mode", "max-buffer-size"];

/// The target of a secret that is a log option.
pub(crate) const LOG_SECRET: &str = "LOG_DRIVER";

/// Connects the containers of a task with its router.
pub(crate) fn decode_firelens(
    task: &acs::Task,
    plans: &mut [ContainerPlan],
) -> Result<(), DecodeTaskError> {
    for (container, plan) in task.containers.iter().zip(&*plans) {
        let has_secrets = log_secrets(container).next().is_some();
        if has_secrets && !is_routed(plan) {
            return Err(unsupported(format!(
                "secretOptions of the log driver of container {}",
                plan.name
            )));
        }
    }
    let is_router = |one: &acs::Container| one.firelens_configuration.is_some();
    let routers = task.containers.iter().filter(|it| is_router(it)).count();
    let router = match task.containers.iter().position(is_router) {
        None if plans.iter().any(is_routed) => {
            return Err(malformed(
                "unable to initialize firelens resource because there's no \
                 firelens container",
            ));
        }
        None => return Ok(()),
        Some(_) if routers > 1 => {
            return Err(malformed("more than one firelens container"));
        }
        Some(index) => index,
    };
    let mut plan = router_plan(&task.containers[router])?;
    let mut secrets = vec![];
    for (index, container) in task.containers.iter().enumerate() {
        if !is_routed(&plans[index]) {
            continue;
        }
        plan.outputs.push(output(index, container, plan.kind)?);
        for secret in log_secrets(container) {
            let name = variable(&secret.name, index);
            let known = decode_secret(secret)?;
            secrets.push(super::plan::SecretPlan { name, ..known });
        }
    }
    if plan.kind == RouterKind::Fluentd {
        // Fluentd's image gives up root by it, and could not use the socket.
        let env = &mut plans[router].environment;
        env.insert("FLUENT_UID".to_owned(), "0".to_owned());
    }
    plans[router].secrets.extend(secrets);
    plans[router].router = Some(plan);
    wait_for_router(plans, router);
    Ok(())
}

fn is_routed(plan: &ContainerPlan) -> bool {
    matches!(&plan.log, LogPlan::Remote(to) if to.address == LogAddress::Router)
}

fn log_secrets(
    container: &acs::Container,
) -> impl Iterator<Item = &acs::Secret> {
    let secrets = container.secrets.iter();
    secrets.filter(|one| one.target.as_deref() == Some(LOG_SECRET))
}

/// The router's variable for a secret log option: with the container's
/// number, as its name may have characters that a variable cannot.
fn variable(option: &str, index: usize) -> String {
    format!("{option}_{index}")
}

fn router_plan(
    container: &acs::Container,
) -> Result<RouterPlan, DecodeTaskError> {
    let config = container.firelens_configuration.clone().unwrap_or_default();
    let kind = match config.r#type.as_deref() {
        Some("fluentd") => RouterKind::Fluentd,
        Some("fluentbit") => RouterKind::FluentBit,
        other => {
            return Err(malformed(format!("firelensConfiguration {other:?}")));
        }
    };
    let (mut has_metadata, mut file_type, mut file) = (true, None, None);
    for (name, value) in config.options {
        match name.as_str() {
            "enable-ecs-log-metadata" => has_metadata = value != "false",
            "config-file-type" => file_type = Some(value),
            "config-file-value" => file = Some(value),
            other => {
                return Err(unsupported(format!("FireLens option {other}")));
            }
        }
    }
    let include = match (file_type.as_deref(), file) {
        (None, None) => None,
        (Some("file"), Some(path)) => Some(IncludePlan::File(path)),
        (Some("s3"), Some(arn)) => Some(IncludePlan::Object(arn)),
        (kind, _) => {
            return Err(malformed(format!("config-file-type {kind:?}")));
        }
    };
    Ok(RouterPlan { kind, has_metadata, include, outputs: vec![] })
}

fn output(
    index: usize,
    container: &acs::Container,
    kind: RouterKind,
) -> Result<RouterOutput, DecodeTaskError> {
    let docker = container.docker_config.clone().unwrap_or_default();
    let host = docker.host_config().map_err(|error| {
        malformed(format!(
            "hostConfig of container {}: {error}",
            container.name
        ))
    })?;
    let config = host.log_config.unwrap_or_default();
    let mut options = config.config;
    for name in DRIVER_OPTIONS {
        options.remove(name);
    }
    for secret in log_secrets(container) {
        let variable = variable(&secret.name, index);
        let value = match kind {
            RouterKind::Fluentd => format!("\"#{{ENV['{variable}']}}\""),
            RouterKind::FluentBit => format!("${{{variable}}}"),
        };
        options.insert(secret.name.clone(), value);
    }
    Ok(RouterOutput { container: container.name.clone(), options })
}

/// Unless the router waits for something itself, which could go in a circle.
fn wait_for_router(plans: &mut [ContainerPlan], router: usize) {
    if !plans[router].depends_on.is_empty() {
        return;
    }
    let name = plans[router].name.clone();
    for (index, plan) in plans.iter_mut().enumerate() {
        let waits = plan.depends_on.iter().any(|one| one.container == name);
        if index != router && is_routed(plan) && !waits {
            plan.depends_on.push(Dependency {
                container: name.clone(),
                condition: Condition::Start,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::task::decode::decode_task;
    use crate::task::plan::TaskPlan;
    use crate::test_support::task;

    fn app(name: &str, options: Value, more: Value) -> Value {
        let log = json!({"Type": "awsfirelens", "Config": options});
        let host = json!({"LogConfig": log}).to_string();
        let mut app = json!({
            "name": name, "image": "app",
            "dockerConfig": {"hostConfig": host},
        });
        let more = more.as_object().unwrap().clone();
        app.as_object_mut().unwrap().extend(more);
        app
    }

    fn router(kind: &str, options: Value, more: Value) -> Value {
        let mut router = json!({
            "name": "router", "image": "router",
            "firelensConfiguration": {"type": kind, "options": options},
        });
        let more = more.as_object().unwrap().clone();
        router.as_object_mut().unwrap().extend(more);
        router
    }

    fn plan(containers: Value) -> Result<TaskPlan, String> {
        decode_task(&task(containers)).map_err(|error| error.to_string())
    }

    #[test]
    fn containers_wait_for_the_router_and_are_its_outputs() {
        let options = json!({
            "Name": "stdout", "mode": "non-blocking",
            "log-driver-buffer-limit": "5",
        });
        let none = || json!({});
        let plan = plan(json!([
            app("app", options, none()),
            router("fluentbit", none(), none()),
            {"name": "other", "image": "other"},
        ]))
        .unwrap();
        let start = |plan: &ContainerPlan| {
            let all = plan.depends_on.iter();
            all.map(|it| (it.container.clone(), it.condition)).collect()
        };
        let waits: Vec<Vec<_>> = plan.containers.iter().map(start).collect();
        let expected = vec![("router".to_owned(), Condition::Start)];
        assert_eq!(waits, [expected, vec![], vec![]]);
        let router = plan.containers[1].router.as_ref().unwrap();
        assert_eq!(router.outputs.len(), 1);
        let options: Vec<_> = router.outputs[0].options.iter().collect();
        assert_eq!(options.len(), 1, "{options:?}");
        assert!(!plan.containers[1].environment.contains_key("FLUENT_UID"));
    }

    #[test]
    fn a_router_that_waits_is_waited_for_by_nobody() {
        let first = json!({"dependsOn": [
            {"containerName": "first", "condition": "START"}
        ]});
        let none = || json!({});
        let plan = plan(json!([
            app("app", none(), none()),
            router("fluentd", none(), first),
            {"name": "first", "image": "first"},
        ]))
        .unwrap();
        assert!(plan.containers[0].depends_on.is_empty());
        assert_eq!(plan.containers[1].environment["FLUENT_UID"], "0");
    }

    #[test]
    fn secret_options_go_by_the_router_s_environment() {
        let secrets = || {
            json!({"secrets": [
                {"name": "OWN", "provider": "ssm", "valueFrom": "/own",
                 "target": "CONTAINER"},
                {"name": "apikey", "provider": "asm", "valueFrom": "arn",
                 "target": "LOG_DRIVER"},
            ]})
        };
        let none = || json!({});
        for (kind, value) in [
            ("fluentbit", "${apikey_1}"),
            ("fluentd", "\"#{ENV['apikey_1']}\""),
        ] {
            let plan = plan(json!([
                router(kind, none(), none()),
                app("app", none(), secrets()),
            ]))
            .unwrap();
            let [router, app] = &plan.containers[..] else { panic!() };
            let names = |plan: &ContainerPlan| -> Vec<String> {
                plan.secrets.iter().map(|it| it.name.clone()).collect()
            };
            assert_eq!(names(app), ["OWN"]);
            assert_eq!(names(router), ["apikey_1"]);
            let outputs = &router.router.as_ref().unwrap().outputs;
            assert_eq!(outputs[0].options["apikey"], value);
        }
        let host = json!({"LogConfig": {"Type": "json-file"}}).to_string();
        let mut plain = app("app", none(), secrets());
        plain["dockerConfig"] = json!({"hostConfig": host});
        let error = plan(json!([plain])).unwrap_err();
        assert!(error.contains("secretOptions"), "{error}");
    }

    #[test]
    fn a_further_configuration_is_a_file_or_an_object() {
        let include = |kind: &str| {
            let options = json!({"config-file-type": kind,
                "config-file-value": "x"});
            let router = router("fluentd", options, json!({}));
            let plan = plan(json!([router])).unwrap();
            plan.containers[0].router.as_ref().unwrap().include.clone()
        };
        assert_eq!(include("file"), Some(IncludePlan::File("x".into())));
        assert_eq!(include("s3"), Some(IncludePlan::Object("x".into())));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let none = || json!({});
        let file = |kind: &str| json!({"config-file-type": kind, "config-file-value": "x"});
        for (containers, word) in [
            (json!([app("app", none(), none())]), "no firelens container"),
            (json!([router("logstash", none(), none())]), "logstash"),
            (json!([router("fluentd", file("ftp"), none())]), "ftp"),
            (json!([router("fluentd", json!({"x": "y"}), none())]), "x"),
        ] {
            let error = plan(containers).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
