//! All tasks of a service revision run one version of an image.

use minato_wire::ecs::{
    ContainerDefinition, ContainerStateChange, RegisterTaskDefinitionRequest,
    SubmitTaskStateChangeRequest, UpdateServiceRequest, VersionConsistency,
};

use super::play::{Play, web};
use crate::services::ecs::services::pinned;
use crate::services::ecs::task_definitions::register_task_definition;
use crate::services::ecs::tasks::submit_task_state_change;
use crate::tables::Task;

/// A definition of one container that is pinned and one that is not.
async fn define(play: &Play) {
    let container = |name: &str, is_pinned: bool| ContainerDefinition {
        name: Some(name.into()),
        image: Some(format!("team/{name}:stable")),
        memory: Some(16),
        version_consistency: (!is_pinned)
            .then_some(VersionConsistency::Disabled),
        ..Default::default()
    };
    let input = RegisterTaskDefinitionRequest {
        family: Some("web".into()),
        container_definitions: Some(vec![
            container("app", true),
            container("side", false),
        ]),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    register_task_definition(cx, &scope, input).await.unwrap();
}

/// The agent says which images it runs.
async fn tell(play: &Play, task: &Task, digest: &str) {
    let change = |name: &str| ContainerStateChange {
        container_name: Some(name.into()),
        image_digest: Some(format!("sha256:{digest}-{name}")),
        status: Some("RUNNING".into()),
        ..Default::default()
    };
    let input = SubmitTaskStateChangeRequest {
        cluster: Some(task.cluster.clone()),
        task: Some(task.arn()),
        status: Some("RUNNING".into()),
        containers: Some(vec![change("app"), change("side")]),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    submit_task_state_change(cx, &scope, input).await.unwrap();
}

fn images(play: &Play, task: &Task) -> Vec<(String, String)> {
    let pinned = pinned::of_task(&play.bed.cx.snapshot(), task);
    pinned.into_iter().collect()
}

#[tokio::test]
async fn the_first_task_decides_for_the_revision() {
    let play = Play::new(2).await;
    define(&play).await;
    play.create(web(2)).await;
    let tasks = play.live();
    assert!(images(&play, &tasks[0]).is_empty());
    tell(&play, &tasks[0], "first").await;
    // Of what is pinned only, and whoever comes later changes nothing.
    let first = [("app".into(), "team/app@sha256:first-app".into())];
    assert_eq!(images(&play, &tasks[1]), first);
    tell(&play, &tasks[1], "second").await;
    assert_eq!(images(&play, &tasks[1]), first);
    // A new deployment asks the tag anew; the former one's tasks do not.
    play.settle().await;
    play.update(UpdateServiceRequest {
        force_new_deployment: Some(true),
        ..Default::default()
    })
    .await;
    let fresh = play.live().into_iter().find(|task| {
        let service = task.service.as_ref();
        service.map(|it| &it.deployment)
            != tasks[0].service.as_ref().map(|it| &it.deployment)
    });
    let fresh = fresh.expect("the new deployment has started a task");
    assert!(images(&play, &fresh).is_empty());
    assert_eq!(images(&play, &tasks[0]), first);
}
