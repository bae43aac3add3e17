//! A task's proxy, from strings to rules.
//!
//! The properties are those of `proxyConfiguration`
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ProxyConfiguration.html>);
//! others are for a later proxy than App Mesh's, and mean nothing here.

use std::str::FromStr;

use minato_wire::acs;

use super::decode::{DecodeTaskError, malformed, unsupported};
use super::plan::NetworkPlan;
use crate::runtime::fault::{IpRange, ProxyRules};

/// What is called directly whatever the definition says, as upstream: the task
/// endpoint and the instance's metadata.
const ALWAYS_IGNORED: [&str; 2] = ["169.254.170.2", "169.254.169.254"];
/// Entries in a list; each is a rule in the kernel.
const LIST_MAX: usize = 64;

/// The rules of a task's proxy, where it has one.
pub(super) fn decode_proxy(
    task: &acs::Task,
    network: &NetworkPlan,
) -> Result<Option<ProxyRules>, DecodeTaskError> {
    let Some(proxy) = &task.proxy_configuration else { return Ok(None) };
    match proxy.r#type.as_deref() {
        None | Some("" | "APPMESH") => {}
        Some(other) => {
            return Err(unsupported(format!("a proxy of type {other:?}")));
        }
    }
    if !matches!(network, NetworkPlan::Awsvpc(_)) {
        return Err(malformed("a proxy outside of network mode awsvpc"));
    }
    let container = proxy.container_name.as_deref().unwrap_or_default();
    if !task.containers.iter().any(|one| one.name == container) {
        return Err(malformed(format!("the proxy {container:?} is missing")));
    }
    let one =
        |name| list(proxy, name).map(|list: Vec<u32>| list.first().copied());
    let port = |name| {
        let ports: Vec<u16> = ports(proxy, name)?;
        let first = ports.first().copied();
        first.ok_or_else(|| malformed(format!("the proxy has no {name}")))
    };
    let mut ranges: Vec<IpRange> = list(proxy, "EgressIgnoredIPs")?;
    let always = ALWAYS_IGNORED.iter();
    ranges.extend(always.filter_map(|ip| ip.parse::<IpRange>().ok()));
    let rules = ProxyRules {
        ignored_uid: one("IgnoredUID")?,
        ignored_gid: one("IgnoredGID")?,
        ingress_port: port("ProxyIngressPort")?,
        egress_port: port("ProxyEgressPort")?,
        app_ports: ports(proxy, "AppPorts")?,
        egress_ignored_ports: ports(proxy, "EgressIgnoredPorts")?,
        egress_ignored_ranges: ranges,
    };
    // Its own connections would come back to it for ever.
    if rules.ignored_uid.is_none() && rules.ignored_gid.is_none() {
        return Err(malformed("the proxy has no IgnoredUID and no IgnoredGID"));
    }
    Ok(Some(rules))
}

fn ports(
    proxy: &acs::ProxyConfiguration,
    name: &str,
) -> Result<Vec<u16>, DecodeTaskError> {
    let ports: Vec<u16> = list(proxy, name)?;
    if ports.contains(&0) {
        return Err(malformed(format!("port 0 in the proxy's {name}")));
    }
    Ok(ports)
}

/// The entries of a property, which commas part.
fn list<T: FromStr>(
    proxy: &acs::ProxyConfiguration,
    name: &str,
) -> Result<Vec<T>, DecodeTaskError> {
    let text = proxy.properties.get(name).map_or("", String::as_str);
    let entries = text.split(',').map(str::trim).filter(|e| !e.is_empty());
    let entries: Vec<T> = entries
        .map(|entry| {
            let wrong =
                |_| malformed(format!("{entry:?} in the proxy's {name}"));
            entry.parse().map_err(wrong)
        })
        .collect::<Result<_, _>>()?;
    if entries.len() > LIST_MAX {
        return Err(unsupported(format!(
            "more than {LIST_MAX} entries in the proxy's {name}"
        )));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::decode::decode_task;
    use super::*;
    use crate::test_support::task;

    fn meshed(properties: &[(&str, &str)]) -> acs::Task {
        let mut task = task(json!([{"name": "app", "image": "app"}]));
        task.network_mode = Some("awsvpc".into());
        task.elastic_network_interfaces = serde_json::from_value(json!([{
            "attachmentArn": "arn:a", "ec2Id": "eni-1",
            "macAddress": "02:00:00:00:00:01",
            "ipv4Addresses":
                [{"primary": true, "privateAddress": "10.0.0.5"}],
            "subnetGatewayIpv4Address": "10.0.0.1/24",
        }]))
        .unwrap();
        let mut all: std::collections::BTreeMap<String, String> = [
            ("IgnoredUID", "1337"),
            ("ProxyIngressPort", "15000"),
            ("ProxyEgressPort", "15001"),
            ("AppPorts", "80, 81"),
            ("EgressIgnoredIPs", "10.0.0.0/8,fd00::1"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        for (name, value) in properties {
            all.insert((*name).into(), (*value).into());
        }
        task.proxy_configuration = Some(acs::ProxyConfiguration {
            r#type: Some("APPMESH".into()),
            container_name: Some("app".into()),
            properties: all,
        });
        task
    }

    #[test]
    fn properties_become_rules() {
        let given = [("IgnoredGID", ""), ("EgressIgnoredPorts", "22")];
        let plan = decode_task(&meshed(&given)).unwrap();
        let ranges = ["10.0.0.0/8", "fd00::1"].into_iter();
        let expected = ProxyRules {
            ignored_uid: Some(1337),
            ignored_gid: None,
            ingress_port: 15_000,
            egress_port: 15_001,
            app_ports: vec![80, 81],
            egress_ignored_ports: vec![22],
            egress_ignored_ranges: ranges
                .chain(ALWAYS_IGNORED)
                .map(|text| text.parse().unwrap())
                .collect(),
        };
        assert_eq!(plan.proxy, Some(expected));
        let plain = task(json!([{"name": "app", "image": "app"}]));
        assert_eq!(decode_task(&plain).unwrap().proxy, None);
    }

    #[test]
    fn bad_properties_are_told() {
        let many = vec!["1"; LIST_MAX + 1].join(",");
        for (name, value) in [
            ("IgnoredUID", ""),
            ("IgnoredUID", "root"),
            ("ProxyIngressPort", ""),
            ("ProxyEgressPort", "65536"),
            ("AppPorts", "80,0"),
            ("AppPorts", &many),
            ("EgressIgnoredIPs", "10.0.0.0/33"),
        ] {
            let error = decode_task(&meshed(&[(name, value)])).unwrap_err();
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
        let mut elsewhere = meshed(&[]);
        elsewhere.network_mode = Some("host".into());
        assert!(decode_task(&elsewhere).is_err());
        let mut other = meshed(&[]);
        let proxy = other.proxy_configuration.as_mut().unwrap();
        proxy.container_name = Some("ghost".into());
        assert!(decode_task(&other).is_err());
    }
}
