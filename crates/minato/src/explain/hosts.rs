//! Which hosts were considered for a service's next task, what each lacks,
//! and what would make it fit.

use anyhow::Result;
use minato_wire::ecs;
use minato_wire::minato::{
    ConsideredHost, ExplainPlacementRequest, ExplainPlacementResponse, HostLack,
};

use crate::api::Api;

/// The most hosts that are listed; the nearest to fitting come first.
const LISTED_MAX: usize = 20;

/// Asks the control plane, and tells it as lines after the paragraph.
pub(super) async fn considered(
    api: &Api,
    service: &ecs::Service,
) -> Result<String> {
    let answer: ExplainPlacementResponse = api
        .minato(
            "ExplainPlacement",
            &ExplainPlacementRequest {
                cluster: service.cluster_arn.clone(),
                service: service.service_name.clone(),
            },
        )
        .await?;
    Ok(table(&answer))
}

fn table(answer: &ExplainPlacementResponse) -> String {
    let Some(definition) = &answer.task_definition else {
        return String::new();
    };
    let mut text = format!(
        "\n\nHosts considered for one more task of {} ({} CPU units, {} MiB):",
        definition.rsplit('/').next().unwrap_or_default(),
        answer.cpu.unwrap_or(0),
        answer.memory.unwrap_or(0),
    );
    let mut hosts = answer.hosts.clone().unwrap_or_default();
    if hosts.is_empty() {
        text.push_str(" none, for no host is registered in its cluster.");
        return text;
    }
    hosts.sort_by_key(|host| lacks(host).len());
    for host in hosts.iter().take(LISTED_MAX) {
        let id = host.host.as_deref().unwrap_or_default();
        let id: String = id.chars().take(12).collect();
        let zone = host.availability_zone.as_deref().unwrap_or("-");
        let lacking: Vec<String> = lacks(host).iter().map(shown).collect();
        let verdict = if lacking.is_empty() {
            "could take it now".to_owned()
        } else {
            lacking.join("; ")
        };
        text.push_str(&format!("\n  {id}  {zone}  {verdict}"));
    }
    if let Some(more) = hosts.len().checked_sub(LISTED_MAX + 1) {
        text.push_str(&format!("\n  and {} others", more + 1));
    }
    // The first lacks least.
    let mut advice: Vec<&str> = vec![];
    for lack in lacks(&hosts[0]) {
        let cure = cure(lack.reason.as_deref().unwrap_or_default());
        if !advice.contains(&cure) {
            advice.push(cure);
        }
    }
    if !advice.is_empty() {
        let id = hosts[0].host.as_deref().unwrap_or_default();
        let id: String = id.chars().take(12).collect();
        text.push_str(&format!(
            "\nIt would fit on {id} if you {}.",
            advice.join(" and ")
        ));
    }
    text
}

fn lacks(host: &ConsideredHost) -> &[HostLack] {
    host.lacks.as_deref().unwrap_or_default()
}

fn shown(lack: &HostLack) -> String {
    let reason = lack.reason.as_deref().unwrap_or_default();
    let detail = lack.detail.as_deref().unwrap_or_default();
    let detail = detail.trim_end_matches('.');
    // Constraints' reasons are sentences.
    format!("{}: {detail}", reason.trim_end_matches('.'))
}

/// What would do away with a lack.
fn cure(reason: &str) -> &'static str {
    match reason {
        "AGENT" => "brought its agent back",
        "STATUS" => "set the instance ACTIVE again",
        "CAPACITY_PROVIDER" => {
            "registered it with the provider's Auto Scaling group (minato up \
             --auto-scaling-group)"
        }
        "ATTRIBUTE" => {
            "gave it the attributes (put-attributes) or did without them in \
             the task definition"
        }
        "LOCATION" => "named a subnet in its zone",
        "RESOURCE:CPU" => {
            "stopped tasks that hold CPU units there or asked for fewer"
        }
        "RESOURCE:MEMORY" => {
            "stopped tasks that hold memory there or asked for less"
        }
        "RESOURCE:PORTS" | "RESOURCE:PORTS_UDP" => {
            "stopped what holds the port or left the host port to Minato \
             (hostPort 0)"
        }
        "RESOURCE:GPU" => "asked for no GPU",
        "RESOURCE:ENI" => "stopped a task with a network interface there",
        reason if reason.starts_with("DistinctInstance") => {
            "dropped distinctInstance or added a host"
        }
        _ => "changed the placement constraint or the host's attributes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str, lacks: &[(&str, &str)]) -> ConsideredHost {
        let lacks = lacks.iter().map(|(reason, detail)| HostLack {
            reason: Some((*reason).to_owned()),
            detail: Some((*detail).to_owned()),
        });
        ConsideredHost {
            host: Some(id.to_owned()),
            availability_zone: Some("us-east-1a".to_owned()),
            lacks: Some(lacks.collect()),
        }
    }

    #[test]
    fn hosts_are_listed_nearest_first_with_a_way_out() {
        let answer = ExplainPlacementResponse {
            task_definition: Some("arn:…:task-definition/web:3".to_owned()),
            cpu: Some(256),
            memory: Some(512),
            hosts: Some(vec![
                host(
                    "bbbb",
                    &[
                        ("AGENT", "The container agent is not connected."),
                        ("STATUS", "The instance is DRAINING."),
                    ],
                ),
                host(
                    "aaaa",
                    &[("RESOURCE:MEMORY", "512 MiB are needed, 100 are free.")],
                ),
            ]),
        };
        insta::assert_snapshot!(table(&answer).trim_start(), @r"
        Hosts considered for one more task of web:3 (256 CPU units, 512 MiB):
          aaaa  us-east-1a  RESOURCE:MEMORY: 512 MiB are needed, 100 are free
          bbbb  us-east-1a  AGENT: The container agent is not connected; STATUS: The instance is DRAINING
        It would fit on aaaa if you stopped tasks that hold memory there or asked for less.
        ");
        let none =
            ExplainPlacementResponse { hosts: Some(vec![]), ..answer.clone() };
        assert!(table(&none).contains("no host is registered"));
        let many = ExplainPlacementResponse {
            hosts: Some(vec![host("a", &[]); 23]),
            ..answer
        };
        let told = table(&many);
        assert!(told.contains("could take it now"), "{told}");
        assert!(told.contains("and 3 others"), "{told}");
        assert!(!told.contains("would fit"), "{told}");
    }
}
