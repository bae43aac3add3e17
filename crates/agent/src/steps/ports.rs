//! The container's ports on the host.
//!
//! In bridge mode the engine publishes them and chooses the dynamic ones; in
//! host mode a container's port *is* the host's; in the other modes there is
//! nothing to publish.

use futures_util::future::BoxFuture;

use super::address::is_bridged;
use super::{ContainerContext, Step, StepError};
use crate::runtime::PublishPort;
use crate::task::plan::NetworkPlan;
use crate::task::record::{Binding, ContainerFacts};

pub(super) struct Ports;

const KIND: &str = "CannotStartContainerError";

impl Step<ContainerContext, ContainerFacts> for Ports {
    fn name(&self) -> &'static str {
        "ports"
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if cx.task.plan.network == NetworkPlan::Host {
                facts.bindings = host_bindings(cx);
                return Ok(());
            }
            let address = facts.address.clone().filter(|_| is_bridged(cx));
            let Some(address) = address else { return Ok(()) };
            for port in &cx.plan.ports {
                // A repeated step keeps the port it was given.
                let known = facts.bindings.iter().position(|binding| {
                    binding.container_port == port.container_port
                        && binding.count == port.count
                        && binding.protocol == port.protocol
                        && matches!(port.host_port, 0)
                });
                let wanted = known
                    .and_then(|at| facts.bindings.get(at))
                    .map_or(port.host_port, |binding| binding.host_port);
                let publish = PublishPort {
                    owner: cx.plan.id.clone(),
                    protocol: port.protocol,
                    host_port: wanted,
                    container_ip: address.ip,
                    container_port: port.container_port,
                    count: port.count,
                };
                let host_port = cx
                    .task
                    .services
                    .runtime
                    .port_publish(&publish)
                    .await
                    .map_err(StepError::of(KIND))?;
                let binding = Binding {
                    host_port,
                    container_port: port.container_port,
                    count: port.count,
                    protocol: port.protocol,
                };
                if !facts.bindings.contains(&binding) {
                    facts.bindings.push(binding);
                }
            }
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a ContainerContext,
        // The bindings stay on record: STOPPED tasks still tell them.
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if !is_bridged(cx) {
                return Ok(());
            }
            cx.task
                .services
                .runtime
                .ports_unpublish(&cx.plan.id)
                .await
                .map_err(StepError::of(KIND))
        })
    }
}

fn host_bindings(cx: &ContainerContext) -> Vec<Binding> {
    cx.plan
        .ports
        .iter()
        .map(|port| Binding {
            host_port: port.container_port,
            container_port: port.container_port,
            count: port.count,
            protocol: port.protocol,
        })
        .collect()
}
