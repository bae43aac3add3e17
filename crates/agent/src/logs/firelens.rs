//! FireLens: the configuration of a task's log router.
//!
//! The text is that of the upstream agent, byte for byte
//! (`github.com/awslabs/go-config-generator-for-fluentd-and-fluentbit`, and
//! what the agent was seen to write): inputs, filters, the task's names, the
//! user's own file, outputs.

use std::fmt::{self, Write as _};

use crate::task::plan::{
    ContainerPlan, IncludePlan, NetworkPlan, RouterKind, RouterOutput,
    RouterPlan, TaskPlan,
};

/// The port on which a router takes records over TCP.
pub(crate) const PORT: u16 = 24224;
/// The router's socket, in the router.
const SOCKET: &str = "/var/run/fluent.sock";
/// What the router's health check sends.
const HEALTH_TAG: &str = "firelens-healthcheck";
/// The buffer of the socket's input, in MiB, where the router has no limit.
const BUFFER_MIB: u64 = 25;
/// Options that are no output plugin's.
const INCLUDE: &str = "include-pattern";
const EXCLUDE: &str = "exclude-pattern";

/// Where a router has its configuration.
pub(crate) fn config_path(kind: RouterKind) -> &'static str {
    match kind {
        RouterKind::Fluentd => "/fluentd/etc/fluent.conf",
        RouterKind::FluentBit => "/fluent-bit/etc/fluent-bit.conf",
    }
}

/// Where a router has the configuration that was fetched for it.
pub(crate) fn external_path(kind: RouterKind) -> &'static str {
    match kind {
        RouterKind::Fluentd => "/fluentd/etc/external.conf",
        RouterKind::FluentBit => "/fluent-bit/etc/external.conf",
    }
}

/// The path of the further configuration, in the router.
fn include_path(plan: &RouterPlan) -> Option<&str> {
    Some(match plan.include.as_ref()? {
        IncludePlan::File(path) => path,
        IncludePlan::Object(_) => external_path(plan.kind),
    })
}

/// The address on which a router takes records over TCP, if it does.
fn bind_address(network: &NetworkPlan) -> Option<&'static str> {
    match network {
        NetworkPlan::Bridge => Some("0.0.0.0"),
        NetworkPlan::Awsvpc(_) => Some("127.0.0.1"),
        NetworkPlan::Host | NetworkPlan::None => None,
    }
}

/// A router's configuration.
pub(crate) fn config(
    task: &TaskPlan,
    router: &ContainerPlan,
    plan: &RouterPlan,
    cluster: &str,
) -> Result<String, MissingOutputKey> {
    for output in &plan.outputs {
        let key = plan.kind.output_key();
        let is_nameless = !output.options.contains_key(key)
            && plugin_options(plan, output).next().is_some();
        if is_nameless {
            let container = output.container.clone();
            let kind = plan.kind.as_str();
            return Err(MissingOutputKey { container, key, kind });
        }
    }
    let fields = [
        ("ecs_cluster", cluster.to_owned()),
        ("ecs_task_arn", task.arn.clone()),
        ("ecs_task_definition", format!("{}:{}", task.family, task.revision)),
    ];
    let fields: &[_] = if plan.has_metadata { &fields } else { &[] };
    let bind = bind_address(&task.network);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match plan.kind {
        RouterKind::Fluentd => fluentd(&mut text, plan, bind, fields),
        RouterKind::FluentBit => {
            let limit = router.memory_reservation_bytes.or(router.memory_bytes);
            let buffer = limit.map_or(BUFFER_MIB, |bytes| (bytes / 2) >> 20);
            fluent_bit(&mut text, plan, bind, fields, buffer)
        }
    };
    Ok(text)
}

/// A container's options do not say where its output is to go.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unable to generate firelens config file: unable to apply log options of \
     container {container} to firelens config: missing output key {key} which \
     is required for firelens configuration of type {kind}"
)]
pub(crate) struct MissingOutputKey {
    container: String,
    key: &'static str,
    kind: &'static str,
}

/// The options of an output plugin alone.
fn plugin_options(
    plan: &RouterPlan,
    output: &RouterOutput,
) -> impl Iterator<Item = (String, String)> {
    let key = plan.kind.output_key();
    let options = output.options.clone().into_iter();
    options.filter(move |(name, _)| {
        name != key && name != INCLUDE && name != EXCLUDE
    })
}

/// Patterns of an option, by container.
fn patterns<'a>(
    plan: &'a RouterPlan,
    option: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    plan.outputs.iter().filter_map(move |output| {
        Some((&*output.container, &**output.options.get(option)?))
    })
}

fn fluent_bit(
    text: &mut String,
    plan: &RouterPlan,
    bind: Option<&str>,
    fields: &[(&str, String)],
    buffer_mib: u64,
) -> fmt::Result {
    write!(
        text,
        "\n[INPUT]\n    Name forward\n    Mem_Buf_Limit {buffer_mib}MB\n    \
         unix_path {SOCKET}\n"
    )?;
    if let Some(bind) = bind {
        write!(
            text,
            "\n[INPUT]\n    Name forward\n    Listen {bind}\n    Port {PORT}\n\
             \n[INPUT]\n    Name tcp\n    Tag {HEALTH_TAG}\n    \
             Listen 127.0.0.1\n    Port 8877\n"
        )?;
    }
    for (option, word) in [(INCLUDE, "Regex "), (EXCLUDE, "Exclude")] {
        for (container, pattern) in patterns(plan, option) {
            write!(
                text,
                "\n[FILTER]\n    Name   grep\n    \
                 Match {container}-firelens*\n    {word} log {pattern}\n"
            )?;
        }
    }
    if !fields.is_empty() {
        write!(text, "\n[FILTER]\n    Name record_modifier\n    Match *\n")?;
        for (name, value) in fields {
            writeln!(text, "    Record {name} {value}")?;
        }
    }
    if let Some(path) = include_path(plan) {
        write!(text, "\n@INCLUDE {path}\n")?;
    }
    if bind.is_some() {
        write!(text, "\n[OUTPUT]\n    Name null\n    Match {HEALTH_TAG}\n")?;
    }
    for output in &plan.outputs {
        let Some(name) = output.options.get("Name") else { continue };
        let container = &output.container;
        write!(
            text,
            "\n[OUTPUT]\n    Name {name}\n    Match {container}-firelens*\n"
        )?;
        for (name, value) in plugin_options(plan, output) {
            writeln!(text, "    {name} {value}")?;
        }
    }
    Ok(())
}

fn fluentd(
    text: &mut String,
    plan: &RouterPlan,
    bind: Option<&str>,
    fields: &[(&str, String)],
) -> fmt::Result {
    write!(text, "\n<source>\n    @type unix\n    path {SOCKET}\n</source>\n")?;
    if let Some(bind) = bind {
        write!(
            text,
            "\n<source>\n    @type forward\n    bind {bind}\n    port {PORT}\n\
             </source>\n"
        )?;
    }
    for (option, word) in [(INCLUDE, "regexp"), (EXCLUDE, "exclude")] {
        for (container, pattern) in patterns(plan, option) {
            write!(
                text,
                "\n<filter {container}-firelens**>\n    @type  grep\n    \
                 <{word}>\n        key log\n        pattern /{pattern}/\n    \
                 </{word}>\n</filter>\n"
            )?;
        }
    }
    if !fields.is_empty() {
        write!(
            text,
            "\n<filter **>\n    @type record_transformer\n    <record>\n"
        )?;
        for (name, value) in fields {
            writeln!(text, "        {name} {value}")?;
        }
        write!(text, "    </record>\n</filter>\n")?;
    }
    if let Some(path) = include_path(plan) {
        write!(text, "\n@include {path}\n")?;
    }
    for output in &plan.outputs {
        let Some(name) = output.options.get("@type") else { continue };
        let container = &output.container;
        write!(text, "\n<match {container}-firelens**>\n    @type {name}\n")?;
        for (name, value) in plugin_options(plan, output) {
            writeln!(text, "    {name} {value}")?;
        }
        text.push_str("</match>\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::task::plan::{InterfacePlan, IpcPlan, PidPlan};

    fn output(container: &str, options: &[(&str, &str)]) -> RouterOutput {
        let options = options.iter();
        let options: BTreeMap<String, String> = options
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        RouterOutput { container: container.into(), options }
    }

    fn task(network: NetworkPlan) -> TaskPlan {
        TaskPlan {
            arn: "arn:aws:ecs:us-east-1:1:task/default/0123".into(),
            id: "0123".into(),
            cluster_arn: String::new(),
            family: "fam".into(),
            revision: "1".into(),
            launch_type: "EC2".into(),
            credentials_id: None,
            execution_credentials_id: None,
            network,
            pid: PidPlan::Own,
            ipc: IpcPlan::Own,
            cpus: None,
            memory_bytes: None,
            disk_bytes: None,
            fault_injection: false,
            proxy: None,
            volumes: BTreeMap::new(),
            containers: vec![],
        }
    }

    fn awsvpc() -> NetworkPlan {
        NetworkPlan::Awsvpc(InterfacePlan {
            attachment_arn: String::new(),
            mac: String::new(),
            ip: [10, 0, 0, 5].into(),
            prefix_len: 24,
            gateway: [10, 0, 0, 1].into(),
            ipv6: None,
            nameservers: vec![],
            search: vec![],
            private_dns_name: None,
        })
    }

    fn full(kind: RouterKind) -> RouterPlan {
        let key = kind.output_key();
        RouterPlan {
            kind,
            has_metadata: true,
            include: Some(IncludePlan::File("/extra.conf".into())),
            outputs: vec![
                output(
                    "app",
                    &[
                        (key, "stdout"),
                        ("region", "us-west-2"),
                        ("apikey", "${apikey_0}"),
                        ("include-pattern", "^[a-z]"),
                        ("exclude-pattern", "debug"),
                    ],
                ),
                output("quiet", &[]),
            ],
        }
    }

    fn of(
        network: NetworkPlan,
        plan: &RouterPlan,
        router: &ContainerPlan,
    ) -> Result<String, MissingOutputKey> {
        config(&task(network), router, plan, "default")
    }

    /// What the upstream agent was seen to write for the same task.
    #[test]
    fn fluent_bit_s_file_is_the_upstream_agent_s() {
        let router = ContainerPlan {
            memory_reservation_bytes: Some(128 << 20),
            memory_bytes: Some(512 << 20),
            ..ContainerPlan::default()
        };
        let plan = full(RouterKind::FluentBit);
        let text = of(NetworkPlan::Bridge, &plan, &router).unwrap();
        assert_eq!(text, include_str!("golden/fluent-bit.conf"));
    }

    #[test]
    fn fluentd_s_file_is_the_upstream_agent_s() {
        let plan = full(RouterKind::Fluentd);
        let router = ContainerPlan::default();
        let text = of(awsvpc(), &plan, &router).unwrap();
        assert_eq!(text, include_str!("golden/fluent.conf"));
    }

    #[test]
    fn a_fetched_configuration_stands_in_the_place_of_a_file() {
        let arn = "arn:aws:s3:::b/extra.conf".to_owned();
        for (kind, golden, path) in [
            (
                RouterKind::FluentBit,
                include_str!("golden/fluent-bit.conf"),
                "@INCLUDE /fluent-bit/etc/external.conf",
            ),
            (
                RouterKind::Fluentd,
                include_str!("golden/fluent.conf"),
                "@include /fluentd/etc/external.conf",
            ),
        ] {
            let include = Some(IncludePlan::Object(arn.clone()));
            let plan = RouterPlan { include, ..full(kind) };
            let (network, router) = match kind {
                RouterKind::FluentBit => {
                    let limit = Some(128 << 20);
                    (
                        NetworkPlan::Bridge,
                        ContainerPlan {
                            memory_reservation_bytes: limit,
                            ..ContainerPlan::default()
                        },
                    )
                }
                RouterKind::Fluentd => (awsvpc(), ContainerPlan::default()),
            };
            let text = of(network, &plan, &router).unwrap();
            let (word, _) = path.split_once(' ').unwrap();
            let file = format!("{word} /extra.conf");
            assert_eq!(text, golden.replace(&file, path));
        }
    }

    #[test]
    fn without_a_network_of_its_own_there_is_the_socket_alone() {
        let plan = RouterPlan {
            has_metadata: false,
            include: None,
            outputs: vec![],
            ..full(RouterKind::FluentBit)
        };
        let router = ContainerPlan::default();
        let text = of(NetworkPlan::Host, &plan, &router).unwrap();
        let expected = "\n[INPUT]\n    Name forward\n    Mem_Buf_Limit 25MB\n    \
                        unix_path /var/run/fluent.sock\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn options_without_a_plugin_are_an_error() {
        let router = ContainerPlan::default();
        for (kind, wrong) in
            [(RouterKind::FluentBit, "@type"), (RouterKind::Fluentd, "Name")]
        {
            let outputs = vec![output("app", &[(wrong, "stdout")])];
            let plan = RouterPlan { outputs, ..full(kind) };
            let error = of(NetworkPlan::Host, &plan, &router).unwrap_err();
            let text = error.to_string();
            let key = kind.output_key();
            let expected = format!("missing output key {key} which");
            assert!(text.contains(&expected), "{text}");
        }
        // A filter needs none.
        let outputs = vec![output("app", &[("include-pattern", "x")])];
        let plan = RouterPlan { outputs, ..full(RouterKind::FluentBit) };
        assert!(of(NetworkPlan::Host, &plan, &router).is_ok());
    }
}
