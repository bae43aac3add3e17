//! Capacity that is taken back, and capacity providers of a service.

use minato_wire::ecs::{
    AutoScalingGroupProvider, AwsVpcConfiguration,
    CapacityProviderStrategyItem, CreateCapacityProviderRequest,
    CreateServiceRequest, NetworkConfiguration,
    PutClusterCapacityProvidersRequest, TaskStopCode,
};
use minato_wire::minato::{
    InterruptSpotTasksRequest, InterruptSpotTasksResponse,
};

use super::super::*;
use super::play::{Play, web};
use crate::services::ec2::defaults;
use crate::services::ecs::{capacity_providers, clusters};
use crate::services::minato::spot::interrupt_spot_tasks;
use crate::testing::{ACCOUNT, REGION};

async fn interrupt(
    play: &Play,
    input: InterruptSpotTasksRequest,
) -> Result<InterruptSpotTasksResponse, ApiError> {
    let scope = play.bed.scope();
    interrupt_spot_tasks(&play.bed.cx, &scope, input).await
}

/// A service of three, all on Spot capacity.
async fn on_spot() -> Play {
    let play = Play::new(2).await;
    play.define("web", 50, false).await;
    play.create(web(3)).await;
    play.agent().await;
    for task in play.tasks() {
        let spot = Some("FARGATE_SPOT".to_owned());
        play.change(&task, |row| row.task.capacity_provider_name = spot).await;
    }
    play
}

#[tokio::test]
async fn an_interrupted_task_is_replaced() {
    let play = on_spot().await;
    let oldest = play.tasks()[0].id.clone();
    let input = InterruptSpotTasksRequest {
        service: Some("web".into()),
        count: Some(1),
        ..Default::default()
    };
    let answer = interrupt(&play, input).await.unwrap();
    assert!(answer.task_arns.unwrap()[0].ends_with(&oldest));
    play.settle().await;
    let tasks = play.tasks();
    let gone = tasks.iter().find(|task| task.id == oldest).unwrap();
    assert_eq!(gone.task.stop_code, Some(TaskStopCode::SpotInterruption));
    assert_eq!(
        gone.task.stopped_reason.as_deref(),
        Some("Your Spot Task was interrupted.")
    );
    assert_eq!(gone.last_status(), "STOPPING");
    assert_eq!(play.live().len(), 3, "another one comes at once");
    play.agent().await;
    assert_eq!(play.count("RUNNING"), 3);
    // It is no failure of the deployment's.
    assert_eq!(play.service().deployments[0].failed_tasks, 0);
}

#[tokio::test]
async fn a_whole_service_can_be_interrupted() {
    let play = on_spot().await;
    let input = InterruptSpotTasksRequest {
        service: Some("web".into()),
        ..Default::default()
    };
    let answer = interrupt(&play, input).await.unwrap();
    assert_eq!(answer.task_arns.unwrap().len(), 3);
    play.settle().await;
    assert_eq!(play.live().len(), 3);
}

#[tokio::test]
async fn only_spot_tasks_that_run_can_be_interrupted() {
    let play = on_spot().await;
    let task = play.tasks()[0].clone();
    play.change(&task, |row| row.task.capacity_provider_name = None).await;
    let tasks = |id: &str| InterruptSpotTasksRequest {
        tasks: Some(vec![id.to_owned()]),
        ..Default::default()
    };
    let both = InterruptSpotTasksRequest {
        service: Some("web".into()),
        ..tasks(&task.id)
    };
    let counted =
        InterruptSpotTasksRequest { count: Some(1), ..tasks(&task.id) };
    let nobody = InterruptSpotTasksRequest {
        service: Some("nobody".into()),
        ..Default::default()
    };
    for input in [
        tasks(&task.id),
        tasks("nonsense"),
        tasks(&"0".repeat(32)),
        InterruptSpotTasksRequest::default(),
        both,
        counted,
        nobody,
    ] {
        assert!(interrupt(&play, input.clone()).await.is_err(), "{input:?}");
    }
    assert_eq!(play.live().len(), 3, "nothing was stopped");
    let spot = play.tasks()[1].id.clone();
    interrupt(&play, tasks(&spot)).await.unwrap();
    assert!(interrupt(&play, tasks(&spot)).await.is_err(), "it is stopping");
}

#[tokio::test]
async fn a_service_keeps_the_ratio_of_its_groups() {
    let play = Play::new(4).await;
    play.define("web", 50, false).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    for name in ["a", "b"] {
        let input = CreateCapacityProviderRequest {
            name: Some(name.into()),
            auto_scaling_group_provider: Some(AutoScalingGroupProvider {
                auto_scaling_group_arn: Some(name.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        capacity_providers::create_capacity_provider(cx, &scope, input)
            .await
            .unwrap();
    }
    // Hosts 0 and 1 are of group a, 2 of b, 3 of none.
    let put = cx.transact(|tx| -> Result<(), ApiError> {
        let all: Vec<_> = tx.scan::<ContainerInstance>(&Key::root()).collect();
        for (row, group) in all.iter().zip(["a", "a", "b"]) {
            let mut row = ContainerInstance::clone(row);
            row.attributes.push(minato_wire::ecs::Attribute {
                name: Some("minato.auto-scaling-group".into()),
                value: Some(group.into()),
                ..Default::default()
            });
            tx.put(row);
        }
        Ok(())
    });
    put.await.unwrap();
    let item = |name: &str, weight| CapacityProviderStrategyItem {
        capacity_provider: Some(name.into()),
        weight: Some(weight),
        base: None,
    };
    let input = PutClusterCapacityProvidersRequest {
        cluster: Some("default".into()),
        capacity_providers: Some(vec!["a".into(), "b".into()]),
        default_capacity_provider_strategy: Some(vec![
            item("a", 1),
            item("b", 2),
        ]),
    };
    clusters::put_cluster_capacity_providers(cx, &scope, input).await.unwrap();
    play.create(CreateServiceRequest { ..web(9) }).await;
    let on = |name: &str| {
        let tasks = play.live();
        let of = tasks.iter().filter(|task| {
            task.task.capacity_provider_name.as_deref() == Some(name)
        });
        let hosts: Vec<String> = of.map(|task| task.host.clone()).collect();
        hosts
    };
    assert_eq!((on("a").len(), on("b").len()), (3, 6));
    assert!(on("a").iter().all(|host| host <= &format!("{:032x}", 1)));
    assert!(on("b").iter().all(|host| *host == format!("{:032x}", 2)));
    let service = play.service();
    assert_eq!(service.service.launch_type, None);
}

/// A service of three, one of them on FARGATE and two on FARGATE_SPOT, in
/// three zones.
async fn on_both(play: &Play) {
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let subnets = defaults::place(cx, ACCOUNT, REGION, None).await.unwrap();
    let subnets = subnets[..3].iter().map(|subnet| subnet.id.clone());
    let put = PutClusterCapacityProvidersRequest {
        cluster: Some("default".into()),
        capacity_providers: Some(vec!["FARGATE".into(), "FARGATE_SPOT".into()]),
        default_capacity_provider_strategy: Some(vec![]),
    };
    clusters::put_cluster_capacity_providers(cx, &scope, put).await.unwrap();
    let item = |name: &str, weight| CapacityProviderStrategyItem {
        capacity_provider: Some(name.into()),
        weight: Some(weight),
        base: None,
    };
    let awsvpc = AwsVpcConfiguration {
        subnets: Some(subnets.collect()),
        ..Default::default()
    };
    let input = CreateServiceRequest {
        capacity_provider_strategy: Some(vec![
            item("FARGATE", 1),
            item("FARGATE_SPOT", 2),
        ]),
        network_configuration: Some(NetworkConfiguration {
            awsvpc_configuration: Some(awsvpc),
        }),
        ..web(3)
    };
    play.create(input).await;
}

#[tokio::test]
async fn zones_are_balanced_without_a_quarrel_over_capacity_providers() {
    let play = Play::new(1).await;
    play.define_awsvpc().await;
    on_both(&play).await;
    let come_up = async || {
        crate::reconcilers::provision::pass(&play.bed.cx).await;
        play.agent().await;
    };
    come_up().await;
    assert_eq!(play.count("RUNNING"), 3, "{:?}", play.events());
    // Both of Spot are in one zone, and the third zone has none.
    let provider = |task: &Task| {
        let of = task.task.capacity_provider_name.clone();
        of.unwrap_or_default()
    };
    for task in play.live() {
        let is_spot = provider(&task) == "FARGATE_SPOT";
        let zone = if is_spot { "us-east-1a" } else { "us-east-1c" };
        let zone = Some(zone.to_owned());
        play.change(&task, |row| row.task.availability_zone = zone).await;
    }
    play.settle().await;
    for _ in 0..8 {
        come_up().await;
    }
    let at = play.live().into_iter().map(|task| {
        (task.task.availability_zone.clone().unwrap(), provider(&task))
    });
    let (spot, plain) = ("FARGATE_SPOT".to_owned(), "FARGATE".to_owned());
    let balanced = [
        ("us-east-1a".to_owned(), spot.clone()),
        ("us-east-1b".to_owned(), spot),
        ("us-east-1c".to_owned(), plain),
    ];
    assert_eq!(at.collect::<BTreeSet<_>>(), balanced.into());
    let rounds = play.events();
    let rounds = rounds.iter().filter(|it| it.contains("AZ Rebalance"));
    assert_eq!(rounds.count(), 1);
}

#[tokio::test]
async fn every_host_is_explained() {
    let play = Play::new(3).await;
    play.define("big", 900, false).await;
    let input =
        CreateServiceRequest { task_definition: Some("big".into()), ..web(4) };
    play.create(input).await;
    assert_eq!(play.live().len(), 3);
    let put = play.bed.cx.transact(|tx| -> Result<(), ApiError> {
        let all: Vec<_> = tx.scan::<ContainerInstance>(&Key::root()).collect();
        let mut row = ContainerInstance::clone(&all[0]);
        row.status = "DRAINING".into();
        tx.put(row);
        Ok(())
    });
    put.await.unwrap();
    let input = minato_wire::minato::ExplainPlacementRequest {
        service: Some("web".into()),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let told = crate::services::minato::explain::explain_placement(
        cx,
        &scope,
        input.clone(),
    );
    let told = told.await.unwrap();
    assert!(told.task_definition.unwrap().ends_with("/big:1"));
    assert_eq!(told.memory, Some(900));
    let lacks: Vec<Vec<String>> = told
        .hosts
        .unwrap()
        .into_iter()
        .map(|host| {
            let lacks = host.lacks.unwrap().into_iter();
            lacks.map(|lack| lack.reason.unwrap()).collect()
        })
        .collect();
    assert_eq!(
        lacks,
        [
            vec!["STATUS", "RESOURCE:MEMORY"],
            vec!["RESOURCE:MEMORY"],
            vec!["RESOURCE:MEMORY"]
        ]
    );
    let nobody = minato_wire::minato::ExplainPlacementRequest {
        service: Some("nobody".into()),
        ..input
    };
    let error =
        crate::services::minato::explain::explain_placement(cx, &scope, nobody)
            .await
            .unwrap_err();
    assert_eq!(error.code(), "ServiceNotFoundException");
}
