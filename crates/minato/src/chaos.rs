//! `minato chaos`: what a service has to live through at AWS, on demand.

use std::process::ExitCode;

use anyhow::{Result, bail};
use minato_wire::minato::{
    InterruptSpotTasksRequest, InterruptSpotTasksResponse,
};

use crate::api::{Api, block_on};
use crate::args::ChaosCommand;
use crate::home::Home;
use crate::out::say;

pub(crate) fn run(home: &Home, command: &ChaosCommand) -> Result<ExitCode> {
    let api = Api::of(home)?;
    let ChaosCommand::Spot { what, count } = command;
    block_on(async {
        let input = victims(&api, what, *count).await?;
        let answer: InterruptSpotTasksResponse =
            api.minato("InterruptSpotTasks", &input).await?;
        for arn in answer.task_arns.unwrap_or_default() {
            let id = arn.rsplit('/').next().unwrap_or_default();
            say!("{id} interrupted")?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What a name means: a service, if there is one of that name, else a task.
async fn victims(
    api: &Api,
    what: &str,
    count: Option<i32>,
) -> Result<InterruptSpotTasksRequest> {
    let mut services = api.services(what).await?;
    services.retain(|one| one.status.as_deref() == Some("ACTIVE"));
    match &services[..] {
        [service] => Ok(InterruptSpotTasksRequest {
            cluster: service.cluster_arn.clone(),
            service: service.service_name.clone(),
            count,
            tasks: None,
        }),
        [_, _, ..] => bail!(
            "{} clusters have a service {what}; give its ARN",
            services.len()
        ),
        [] if count.is_some() => {
            bail!("there is no service {what}, and --count is for services")
        }
        [] => {
            let task = api.find(what).await?;
            Ok(InterruptSpotTasksRequest {
                cluster: task.cluster_arn.clone(),
                tasks: Some(task.task_arn.clone().into_iter().collect()),
                ..Default::default()
            })
        }
    }
}
