use minato_wire::ecs::{
    AutoScalingGroupProvider, CreateCapacityProviderRequest,
    CreateClusterRequest, CreateDaemonRequest, DaemonAlarmConfiguration,
    DaemonContainerDefinition, DaemonDeploymentConfiguration, DaemonStatus,
    DaemonTaskDefinitionRevisionFilter, DaemonTaskDefinitionStatus,
    DeleteDaemonRequest, DeleteDaemonTaskDefinitionRequest,
    DescribeDaemonDeploymentsRequest, DescribeDaemonRequest,
    DescribeDaemonRevisionsRequest, DescribeDaemonTaskDefinitionRequest,
    ListDaemonDeploymentsRequest, ListDaemonTaskDefinitionsRequest,
    ListDaemonsRequest, ListTagsForResourceRequest,
    ListTaskDefinitionFamiliesRequest, ListTaskDefinitionsRequest,
    PutClusterCapacityProvidersRequest, RegisterDaemonTaskDefinitionRequest,
    SortOrder, Tag, TagResourceRequest, UpdateDaemonRequest,
};
use minato_wire::{ApiError, ecs};

use super::*;
use crate::services::ecs::{
    capacity_providers, clusters, tags, task_definitions,
};
use crate::testing::{ACCOUNT, REGION, TestBed};

fn arn(kind: &str, rest: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{rest}")
}

async fn register(bed: &TestBed, family: &str) -> Result<String, ApiError> {
    let input = RegisterDaemonTaskDefinitionRequest {
        family: Some(family.to_owned()),
        container_definitions: Some(vec![DaemonContainerDefinition {
            name: Some("agent".into()),
            image: Some("agent:1".into()),
            memory: Some(64),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let (cx, scope) = (&bed.cx, bed.scope());
    let made = register_daemon_task_definition(cx, &scope, input).await?;
    Ok(made.daemon_task_definition_arn.unwrap())
}

/// A cluster with the provider `fleet`, and a definition.
async fn bed() -> TestBed {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    clusters::create_cluster(cx, &scope, CreateClusterRequest::default())
        .await
        .unwrap();
    let input = CreateCapacityProviderRequest {
        name: Some("fleet".into()),
        auto_scaling_group_provider: Some(AutoScalingGroupProvider {
            auto_scaling_group_arn: Some("group".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    capacity_providers::create_capacity_provider(cx, &scope, input)
        .await
        .unwrap();
    let input = PutClusterCapacityProvidersRequest {
        cluster: Some("default".into()),
        capacity_providers: Some(vec!["fleet".into(), "FARGATE".into()]),
        default_capacity_provider_strategy: Some(vec![]),
    };
    clusters::put_cluster_capacity_providers(cx, &scope, input).await.unwrap();
    register(&bed, "agent").await.unwrap();
    bed
}

fn daemon(name: &str) -> CreateDaemonRequest {
    CreateDaemonRequest {
        daemon_name: Some(name.into()),
        daemon_task_definition_arn: Some(arn(
            "daemon-task-definition",
            "agent:1",
        )),
        capacity_provider_arns: Some(vec![arn("capacity-provider", "fleet")]),
        ..Default::default()
    }
}

async fn create(
    bed: &TestBed,
    input: CreateDaemonRequest,
) -> Result<ecs::CreateDaemonResponse, ApiError> {
    create_daemon(&bed.cx, &bed.scope(), input).await
}

#[tokio::test]
async fn definitions_are_registered_listed_and_deleted() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    let second = register(&bed, "agent").await.unwrap();
    assert_eq!(second, arn("daemon-task-definition", "agent:2"));
    register(&bed, "logs").await.unwrap();
    let input = DescribeDaemonTaskDefinitionRequest {
        daemon_task_definition: Some("agent".into()),
    };
    let found = describe_daemon_task_definition(cx, &scope, input).await;
    let found = found.unwrap().daemon_task_definition.unwrap();
    assert_eq!(found.revision, Some(2));
    assert_eq!(found.status, Some(DaemonTaskDefinitionStatus::Active));
    let containers = found.container_definitions.unwrap();
    assert_eq!(containers[0].essential, Some(true), "defaults are shown");

    let listed = |input: ListDaemonTaskDefinitionsRequest| {
        let bed = &bed;
        async move {
            let scope = bed.scope();
            let found =
                list_daemon_task_definitions(&bed.cx, &scope, input).await;
            let found = found.unwrap();
            let all = found.daemon_task_definitions.unwrap().into_iter();
            let names = all.map(|it| {
                let arn = it.arn.unwrap();
                arn.rsplit('/').next().unwrap().to_owned()
            });
            (names.collect::<Vec<_>>(), found.next_token)
        }
    };
    let all = ListDaemonTaskDefinitionsRequest::default();
    assert_eq!(listed(all.clone()).await.0, ["agent:1", "agent:2", "logs:1"]);
    let newest = ListDaemonTaskDefinitionsRequest {
        revision: Some(DaemonTaskDefinitionRevisionFilter::LastRegistered),
        sort: Some(ecs::SortOrder::Desc),
        ..all.clone()
    };
    assert_eq!(listed(newest).await.0, ["logs:1", "agent:2"]);
    let two = ListDaemonTaskDefinitionsRequest {
        max_results: Some(2),
        ..all.clone()
    };
    let (first, token) = listed(two.clone()).await;
    assert_eq!(first, ["agent:1", "agent:2"]);
    let rest = ListDaemonTaskDefinitionsRequest { next_token: token, ..two };
    assert_eq!(listed(rest).await, (vec!["logs:1".to_owned()], None));

    let delete = |given: &str| DeleteDaemonTaskDefinitionRequest {
        daemon_task_definition: Some(given.to_owned()),
    };
    delete_daemon_task_definition(cx, &scope, delete("agent:2")).await.unwrap();
    let again = delete_daemon_task_definition(cx, &scope, delete("agent:2"));
    assert_eq!(again.await.unwrap_err().code(), "ClientException");
    assert_eq!(listed(all).await.0, ["agent:1", "logs:1"]);

    // They are nobody's ordinary task definitions.
    let input = ListTaskDefinitionsRequest::default();
    let found =
        task_definitions::list_task_definitions(cx, &scope, input).await;
    assert_eq!(found.unwrap().task_definition_arns, Some(vec![]));
    let input = ListTaskDefinitionFamiliesRequest::default();
    let found =
        task_definitions::list_task_definition_families(cx, &scope, input)
            .await;
    assert_eq!(found.unwrap().families, Some(vec![]));
}

#[tokio::test]
async fn a_daemon_is_created_updated_and_deleted() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    let made = create(&bed, daemon("agent")).await.unwrap();
    let daemon_arn = made.daemon_arn.clone().unwrap();
    assert_eq!(daemon_arn, arn("daemon", "default/agent"));
    assert_eq!(made.status, Some(DaemonStatus::Active));
    let describe =
        || DescribeDaemonRequest { daemon_arn: Some(daemon_arn.clone()) };
    let found = describe_daemon(cx, &scope, describe()).await.unwrap();
    let found = found.daemon.unwrap();
    assert_eq!(found.deployment_arn, made.deployment_arn);
    let revisions = found.current_revisions.unwrap();
    assert_eq!(revisions[0].total_running_count, Some(0));
    let provider = &revisions[0].capacity_providers.as_ref().unwrap()[0];
    assert_eq!(provider.arn, Some(arn("capacity-provider", "fleet")));
    let input = DescribeDaemonRevisionsRequest {
        daemon_revision_arns: Some(vec![
            revisions[0].arn.clone().unwrap(),
            arn("daemon-revision", "default/agent/12"),
        ]),
    };
    let found = describe_daemon_revisions(cx, &scope, input).await.unwrap();
    let images = found.daemon_revisions.unwrap()[0].container_images.clone();
    assert_eq!(images.unwrap()[0].image.as_deref(), Some("agent:1"));
    assert_eq!(found.failures.unwrap().len(), 1);

    let input = UpdateDaemonRequest {
        daemon_arn: Some(daemon_arn.clone()),
        daemon_task_definition_arn: Some("agent:1".into()),
        capacity_provider_arns: Some(vec!["fleet".into()]),
        ..Default::default()
    };
    let updated = update_daemon(cx, &scope, input.clone()).await.unwrap();
    assert_ne!(updated.deployment_arn, made.deployment_arn);
    let input_list = ListDaemonDeploymentsRequest {
        daemon_arn: Some(daemon_arn.clone()),
        ..Default::default()
    };
    let all = list_daemon_deployments(cx, &scope, input_list).await.unwrap();
    let all = all.daemon_deployments.unwrap();
    assert_eq!(all.len(), 2);
    let superseded = DescribeDaemonDeploymentsRequest {
        daemon_deployment_arns: Some(vec![made.deployment_arn.unwrap()]),
    };
    let found = describe_daemon_deployments(cx, &scope, superseded).await;
    let found = found.unwrap().daemon_deployments.unwrap();
    assert_eq!(found[0].status, Some(ecs::DaemonDeploymentStatus::Stopped));

    let delete =
        || DeleteDaemonRequest { daemon_arn: Some(daemon_arn.clone()) };
    let gone = delete_daemon(cx, &scope, delete()).await.unwrap();
    assert_eq!(gone.status, Some(DaemonStatus::DeleteInProgress));
    let again = delete_daemon(cx, &scope, delete()).await.unwrap_err();
    assert_eq!(again.code(), "DaemonNotActiveException");
    let late = update_daemon(cx, &scope, input).await.unwrap_err();
    assert_eq!(late.code(), "DaemonNotActiveException");
    let nobody = DescribeDaemonRequest {
        daemon_arn: Some(arn("daemon", "default/nobody")),
    };
    let error = describe_daemon(cx, &scope, nobody).await.unwrap_err();
    assert_eq!(error.code(), "DaemonNotFoundException");
}

#[tokio::test]
async fn wrong_daemons_are_refused() {
    let bed = bed().await;
    let configured = |drain: f64, bake: i32| CreateDaemonRequest {
        deployment_configuration: Some(DaemonDeploymentConfiguration {
            drain_percent: Some(drain),
            bake_time_in_minutes: Some(bake),
            alarms: None,
        }),
        ..daemon("x")
    };
    let alarmed = CreateDaemonRequest {
        deployment_configuration: Some(DaemonDeploymentConfiguration {
            alarms: Some(DaemonAlarmConfiguration {
                enable: Some(true),
                alarm_names: Some(vec!["a".into()]),
            }),
            ..Default::default()
        }),
        ..daemon("x")
    };
    let on = |provider: &str| CreateDaemonRequest {
        capacity_provider_arns: Some(vec![provider.to_owned()]),
        ..daemon("x")
    };
    let invalid = "InvalidParameterException";
    for (input, code) in [
        (daemon("a b"), invalid),
        (on("FARGATE"), invalid),
        (on("nobody"), invalid),
        (
            CreateDaemonRequest {
                capacity_provider_arns: Some(vec![]),
                ..daemon("x")
            },
            invalid,
        ),
        (
            CreateDaemonRequest {
                daemon_task_definition_arn: Some("nothing:1".into()),
                ..daemon("x")
            },
            "ClientException",
        ),
        (
            CreateDaemonRequest {
                cluster_arn: Some("nowhere".into()),
                ..daemon("x")
            },
            "ClusterNotFoundException",
        ),
        (configured(101.0, 0), invalid),
        (configured(10.0, -1), invalid),
        (configured(10.0, 1441), invalid),
        (alarmed, "UnsupportedFeatureException"),
    ] {
        let error = create(&bed, input.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{input:?}");
    }
    let once = CreateDaemonRequest {
        client_token: Some("once".into()),
        ..daemon("agent")
    };
    let first = create(&bed, once.clone()).await.unwrap();
    let again = create(&bed, once).await.unwrap();
    assert_eq!(first.deployment_arn, again.deployment_arn);
    assert!(create(&bed, daemon("agent")).await.is_err(), "the name is taken");
}

#[tokio::test]
async fn daemons_are_listed_and_tagged() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    for name in ["a", "b", "c"] {
        create(&bed, daemon(name)).await.unwrap();
    }
    let listed = |input: ListDaemonsRequest| {
        let bed = &bed;
        async move {
            let found = list_daemons(&bed.cx, &bed.scope(), input).await?;
            let all = found.daemon_summaries_list.unwrap();
            Ok::<_, ApiError>((all.len(), found.next_token))
        }
    };
    let two = ListDaemonsRequest {
        cluster_arn: Some("default".into()),
        max_results: Some(2),
        ..Default::default()
    };
    let (count, token) = listed(two.clone()).await.unwrap();
    assert_eq!(count, 2);
    let rest = ListDaemonsRequest { next_token: token, ..two };
    assert_eq!(listed(rest).await.unwrap(), (1, None));
    let of_others = ListDaemonsRequest {
        capacity_provider_arns: Some(vec!["other".into()]),
        ..Default::default()
    };
    assert_eq!(listed(of_others).await.unwrap(), (0, None));
    let tag = Tag { key: Some("a".into()), value: Some("b".into()) };
    for arn in
        [arn("daemon", "default/a"), arn("daemon-task-definition", "agent:1")]
    {
        let input = TagResourceRequest {
            resource_arn: Some(arn.clone()),
            tags: Some(vec![tag.clone()]),
        };
        tags::tag_resource(cx, &scope, input).await.unwrap();
        let input = ListTagsForResourceRequest { resource_arn: Some(arn) };
        let found = tags::list_tags_for_resource(cx, &scope, input).await;
        assert_eq!(found.unwrap().tags.unwrap(), std::slice::from_ref(&tag));
    }
}

#[tokio::test]
async fn a_loop_that_lists_and_deletes_sees_every_definition() {
    for sort in [SortOrder::Asc, SortOrder::Desc] {
        let bed = bed().await;
        for _ in 0..3 {
            register(&bed, "agent").await.unwrap();
        }
        let (cx, scope) = (&bed.cx, bed.scope());
        let mut input = ListDaemonTaskDefinitionsRequest {
            max_results: Some(2),
            sort: Some(sort),
            ..Default::default()
        };
        let mut seen = vec![];
        loop {
            let found = list_daemon_task_definitions(cx, &scope, input.clone());
            let found = found.await.unwrap();
            for row in found.daemon_task_definitions.unwrap() {
                seen.extend(row.arn.clone());
                let delete = DeleteDaemonTaskDefinitionRequest {
                    daemon_task_definition: row.arn,
                };
                delete_daemon_task_definition(cx, &scope, delete)
                    .await
                    .unwrap();
            }
            input.next_token = found.next_token;
            if input.next_token.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
