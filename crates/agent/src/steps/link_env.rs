//! The variables by which Docker tells a container of those it is linked to.
//!
//! Names and forms are those of moby's `daemon/links`. Left out is what the
//! image of the linked container says (`EXPOSE` and `ENV`), and its secrets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::ContainerContext;
use crate::task::plan::ContainerPlan;

/// The variables of all links of a container.
pub(super) fn variables(cx: &ContainerContext) -> Vec<(String, String)> {
    let mut all = vec![];
    for link in &cx.plan.links {
        // Only those that run are known by an address.
        if let Some((_, ip)) = cx.links.get(&link.alias)
            && let Some(linked) = cx.task.plan.container(&link.container)
        {
            all.extend(of_link(&cx.plan.name, &link.alias, *ip, linked));
        }
    }
    all
}

fn of_link(
    own_name: &str,
    alias: &str,
    ip: Ipv4Addr,
    linked: &ContainerPlan,
) -> Vec<(String, String)> {
    let prefix = alias.replace('-', "_").to_uppercase();
    let ports: BTreeSet<_> = linked
        .ports
        .iter()
        .flat_map(|port| {
            let ports = port.container_port..=port.last();
            ports.map(|number| (number, port.protocol.as_str()))
        })
        .collect();
    let mut all = vec![];
    // The first port is the link's.
    if let Some((port, protocol)) = ports.first() {
        let url = format!("{protocol}://{ip}:{port}");
        all.push((format!("{prefix}_PORT"), url));
    }
    for (port, protocol) in ports {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        all.push((format!("{name}_ADDR"), ip.to_string()));
        all.push((format!("{name}_PORT"), port.to_string()));
        all.push((format!("{name}_PROTO"), protocol.to_owned()));
        all.push((name, format!("{protocol}://{ip}:{port}")));
    }
    all.push((format!("{prefix}_NAME"), format!("/{own_name}/{alias}")));
    for (name, value) in &linked.environment {
        if !matches!(name.as_str(), "HOME" | "PATH") {
            all.push((format!("{prefix}_ENV_{name}"), value.clone()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::PortProtocol;
    use crate::task::plan::PortPlan;

    #[test]
    fn a_link_is_told_by_its_alias() {
        let port = |container_port, protocol| PortPlan {
            container_port,
            host_port: 0,
            count: 1,
            protocol,
        };
        let environment =
            [("PATH", "/x"), ("USER", "me")].map(|(k, v)| (k.into(), v.into()));
        let linked = ContainerPlan {
            ports: vec![
                port(6379, PortProtocol::Tcp),
                port(53, PortProtocol::Udp),
            ],
            environment: environment.into(),
            ..ContainerPlan::default()
        };
        let mut told: Vec<String> =
            of_link("app", "my-db", Ipv4Addr::new(10, 0, 0, 2), &linked)
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
        told.sort();
        assert_eq!(
            told,
            [
                "MY_DB_ENV_USER=me",
                "MY_DB_NAME=/app/my-db",
                "MY_DB_PORT=udp://10.0.0.2:53",
                "MY_DB_PORT_53_UDP=udp://10.0.0.2:53",
                "MY_DB_PORT_53_UDP_ADDR=10.0.0.2",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_6379_TCP=tcp://10.0.0.2:6379",
                "MY_DB_PORT_6379_TCP_ADDR=10.0.0.2",
                "MY_DB_PORT_6379_TCP_PORT=6379",
                "MY_DB_PORT_6379_TCP_PROTO=tcp",
            ]
        );
    }
}
