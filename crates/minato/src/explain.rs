//! `minato explain`: why a task or a service is not as it should be, in one
//! paragraph.

mod hosts;
mod service;

use std::process::ExitCode;

use anyhow::Result;
use minato_wire::ecs::{self, TaskStopCode};

use crate::api::{Api, block_on, id_of};
use crate::args::ExplainArgs;
use crate::home::Home;
use crate::out::say;

pub(crate) fn run(home: &Home, args: &ExplainArgs) -> Result<ExitCode> {
    let api = Api::of(home)?;
    let text = block_on(async {
        let services = api.services(&args.what).await?;
        if services.is_empty() {
            let task = api.find(&args.what).await?;
            let whereabouts = whereabouts(&api, &task).await?;
            return Ok(paragraph(&task) + &whereabouts);
        }
        let tasks = api.tasks(true).await?;
        let mut told = vec![];
        for service in &services {
            let mut text = service::paragraph(service, &tasks);
            if !service::is_settled(service) {
                text.push_str(&hosts::considered(&api, service).await?);
            }
            told.push(text);
        }
        Ok(told.join("\n\n"))
    })?;
    say!("{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// Where a task is that is not over, and whether its host is well.
async fn whereabouts(api: &Api, task: &ecs::Task) -> Result<String> {
    let Some(arn) = &task.container_instance_arn else {
        return Ok(String::new());
    };
    if task.last_status.as_deref() == Some("STOPPED") {
        return Ok(String::new());
    }
    let found: ecs::DescribeContainerInstancesResponse = api
        .ecs(
            "DescribeContainerInstances",
            &ecs::DescribeContainerInstancesRequest {
                cluster: task.cluster_arn.clone(),
                container_instances: Some(vec![arn.clone()]),
                ..Default::default()
            },
        )
        .await?;
    let id: String = arn.rsplit('/').next().unwrap_or_default().to_owned();
    let id: String = id.chars().take(12).collect();
    let instances = found.container_instances.unwrap_or_default();
    let Some(instance) = instances.first() else {
        return Ok(format!(" Its host {id} is gone."));
    };
    let agent = match instance.agent_connected {
        Some(true) => "whose agent is connected",
        Some(false) | None => "whose agent is not connected",
    };
    let status = instance.status.as_deref().unwrap_or_default();
    Ok(format!(" It is on host {id}, which is {status} and {agent}."))
}

/// The whole story of a task in one paragraph.
pub(crate) fn paragraph(task: &ecs::Task) -> String {
    let id: String = id_of(task).chars().take(12).collect();
    let status = task.last_status.as_deref().unwrap_or("unknown");
    let mut text = match status {
        "RUNNING" => format!("Task {id} is running; nothing is wrong with it."),
        "PROVISIONING" => format!(
            "Task {id} waits for its network interface, which takes a moment."
        ),
        "PENDING" => {
            format!("Task {id} is with its host's agent{}.", pending(task))
        }
        "STOPPED" => format!("Task {id} has stopped: {}.", stopped(task)),
        other => format!(
            "Task {id} is {other}, on its way to STOPPED: {}.",
            stopped(task)
        ),
    };
    for container in task.containers.iter().flatten() {
        let sentence = container_story(container);
        if !sentence.is_empty() {
            text.push(' ');
            text.push_str(&sentence);
        }
    }
    text
}

/// What a task with the agent is waiting for.
fn pending(task: &ecs::Task) -> &'static str {
    match (task.pull_started_at, task.pull_stopped_at) {
        (None, _) => ", which has not begun to pull its images",
        (Some(_), None) => ", which is pulling its images",
        (Some(_), Some(_)) => {
            ", which has its images and starts its containers in the order \
             that dependsOn asks for"
        }
    }
}

/// Why a task stops or has stopped.
fn stopped(task: &ecs::Task) -> String {
    let reason = task.stopped_reason.as_deref().unwrap_or("no reason is known");
    let who = match task.stop_code {
        Some(TaskStopCode::UserInitiated) => "somebody asked for it",
        Some(TaskStopCode::EssentialContainerExited) => {
            "a container without which it makes no sense has ended"
        }
        Some(TaskStopCode::TaskFailedToStart) => "it could not be started",
        Some(TaskStopCode::ServiceSchedulerInitiated) => {
            "its service did not want it any more"
        }
        Some(TaskStopCode::SpotInterruption) => {
            "its Spot capacity was taken back"
        }
        Some(TaskStopCode::TerminationNotice) => "its host went away",
        None => "no stop code is known",
    };
    format!("{who} ({})", reason.trim_end_matches('.'))
}

fn container_story(container: &ecs::Container) -> String {
    let name = container.name.as_deref().unwrap_or_default();
    let reason = container.reason.as_deref().unwrap_or_default();
    let reason = reason.trim_end_matches('.');
    let meaning = match container.exit_code {
        None if reason.is_empty() => return String::new(),
        None => return format!("Container {name} never ran: {reason}."),
        Some(0) => "it ended well",
        Some(126) => "its command could not be executed",
        Some(127) => "its command was not found",
        Some(137) => "it was killed",
        Some(139) => "it crashed with a segmentation fault",
        Some(143) => "it was asked to end and did",
        Some(_) => "it ended with an error of its own",
    };
    let code = container.exit_code.unwrap_or(0);
    if reason.is_empty() {
        format!("Container {name} exited with {code}: {meaning}.")
    } else {
        format!("Container {name} exited with {code}: {meaning} ({reason}).")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_out_of_memory_says_so() {
        let task = ecs::Task {
            task_arn: Some("arn:aws:ecs:r:a:task/default/0123456789ab".into()),
            last_status: Some("STOPPED".into()),
            stop_code: Some(TaskStopCode::EssentialContainerExited),
            stopped_reason: Some("Essential container in task exited".into()),
            containers: Some(vec![ecs::Container {
                name: Some("web".into()),
                exit_code: Some(137),
                reason: Some(
                    "OutOfMemoryError: Container killed due to memory usage"
                        .into(),
                ),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let text = paragraph(&task);
        assert!(text.starts_with("Task 0123456789ab has stopped"), "{text}");
        assert!(text.contains("it was killed (OutOfMemoryError"), "{text}");
    }
}
