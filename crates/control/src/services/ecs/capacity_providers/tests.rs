use minato_wire::ecs::{
    Attribute, AutoScalingGroupProvider, AutoScalingGroupProviderUpdate,
    CapacityProviderStrategyItem, CapacityProviderUpdateStatus,
    ContainerDefinition, CreateCapacityProviderRequest, CreateClusterRequest,
    DeleteCapacityProviderRequest, ListTagsForResourceRequest, ManagedDraining,
    PutClusterCapacityProvidersRequest, RegisterContainerInstanceRequest,
    RegisterTaskDefinitionRequest, Resource, RunTaskRequest, RunTaskResponse,
    Tag, TagResourceRequest, UpdateCapacityProviderRequest,
};

use super::*;
use crate::services::ecs::{clusters, register, tags, task_definitions, tasks};
use crate::testing::{ACCOUNT, REGION, TestBed};

fn group_arn(name: &str) -> String {
    format!(
        "arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:\
         0f3c:autoScalingGroupName/{name}"
    )
}

fn of_group(name: &str, group: &str) -> CreateCapacityProviderRequest {
    CreateCapacityProviderRequest {
        name: Some(name.to_owned()),
        auto_scaling_group_provider: Some(AutoScalingGroupProvider {
            auto_scaling_group_arn: Some(group.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn create(
    bed: &TestBed,
    input: CreateCapacityProviderRequest,
) -> Result<ecs::CapacityProvider, ApiError> {
    let answer = create_capacity_provider(&bed.cx, &bed.scope(), input).await?;
    Ok(answer.capacity_provider.unwrap())
}

async fn describe(
    bed: &TestBed,
    names: &[&str],
) -> DescribeCapacityProvidersResponse {
    let input = DescribeCapacityProvidersRequest {
        capacity_providers: Some(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ),
        include: Some(vec![CapacityProviderField::Tags]),
        ..Default::default()
    };
    describe_capacity_providers(&bed.cx, &bed.scope(), input).await.unwrap()
}

async fn associate(bed: &TestBed, names: &[&str]) -> Result<(), ApiError> {
    let input = PutClusterCapacityProvidersRequest {
        capacity_providers: Some(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ),
        default_capacity_provider_strategy: Some(vec![]),
        ..Default::default()
    };
    clusters::put_cluster_capacity_providers(&bed.cx, &bed.scope(), input)
        .await
        .map(|_| ())
}

async fn delete(
    bed: &TestBed,
    name: &str,
) -> Result<ecs::CapacityProvider, ApiError> {
    let input = DeleteCapacityProviderRequest {
        capacity_provider: Some(name.to_owned()),
        ..Default::default()
    };
    let answer = delete_capacity_provider(&bed.cx, &bed.scope(), input).await?;
    Ok(answer.capacity_provider.unwrap())
}

#[tokio::test]
async fn a_new_provider_has_the_documented_shape() {
    let bed = TestBed::new();
    let input = CreateCapacityProviderRequest {
        tags: Some(vec![Tag {
            key: Some("team".into()),
            value: Some("x".into()),
        }]),
        ..of_group("fleet", &group_arn("web"))
    };
    let shape = serde_json::json!({
        "capacityProviderArn":
            format!("arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/fleet"),
        "name": "fleet",
        "status": "ACTIVE",
        "autoScalingGroupProvider": {
            "autoScalingGroupArn": group_arn("web"),
            "managedScaling": {
                "status": "DISABLED",
                "targetCapacity": 100,
                "minimumScalingStepSize": 1,
                "maximumScalingStepSize": 10000,
                "instanceWarmupPeriod": 300,
            },
            "managedTerminationProtection": "DISABLED",
            "managedDraining": "ENABLED",
        },
        "tags": [{"key": "team", "value": "x"}],
        "type": "EC2_AUTOSCALING",
    });
    let created = create(&bed, input).await.unwrap();
    assert_eq!(serde_json::to_value(&created).unwrap(), shape);
    let all = describe(&bed, &[]).await.capacity_providers.unwrap();
    let names: Vec<_> = all.iter().filter_map(|it| it.name.clone()).collect();
    assert_eq!(names, ["FARGATE", "FARGATE_SPOT", "fleet"]);
    assert_eq!(serde_json::to_value(&all[2]).unwrap(), shape);
}

#[tokio::test]
async fn wrong_providers_are_refused() {
    let bed = TestBed::new();
    create(&bed, of_group("fleet", "web")).await.unwrap();
    for (input, code) in [
        (of_group("fleet", "other"), "ClientException"),
        // The same group, by its ARN.
        (of_group("second", &group_arn("web")), "ClientException"),
        (of_group("fargate-mine", "g"), "InvalidParameterException"),
        (of_group("a b", "g"), "InvalidParameterException"),
        (of_group("x", "arn:aws:nonsense"), "InvalidParameterException"),
        (
            CreateCapacityProviderRequest {
                cluster: Some("default".into()),
                ..of_group("x", "g")
            },
            "InvalidParameterException",
        ),
        (
            CreateCapacityProviderRequest {
                name: Some("x".into()),
                ..Default::default()
            },
            "InvalidParameterException",
        ),
        (
            CreateCapacityProviderRequest {
                managed_instances_provider: Some(Default::default()),
                name: Some("x".into()),
                ..Default::default()
            },
            "UnsupportedFeatureException",
        ),
    ] {
        let error = create(&bed, input.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{input:?}");
    }
}

#[tokio::test]
async fn an_update_answers_what_was_and_describes_what_is() {
    let bed = TestBed::new();
    create(&bed, of_group("fleet", "web")).await.unwrap();
    let update = |name: &str| UpdateCapacityProviderRequest {
        name: Some(name.to_owned()),
        auto_scaling_group_provider: Some(AutoScalingGroupProviderUpdate {
            managed_draining: Some(ManagedDraining::Disabled),
            ..Default::default()
        }),
        ..Default::default()
    };
    let (cx, scope) = (&bed.cx, bed.scope());
    let answer =
        update_capacity_provider(cx, &scope, update("fleet")).await.unwrap();
    let answer = answer.capacity_provider.unwrap();
    assert_eq!(
        answer.update_status,
        Some(CapacityProviderUpdateStatus::UpdateInProgress)
    );
    let draining = |provider: &ecs::CapacityProvider| {
        provider.auto_scaling_group_provider.clone().unwrap().managed_draining
    };
    assert_eq!(draining(&answer), Some(ManagedDraining::Enabled));
    let now = describe(&bed, &["fleet"]).await.capacity_providers.unwrap();
    assert_eq!(draining(&now[0]), Some(ManagedDraining::Disabled));
    assert_eq!(
        now[0].update_status,
        Some(CapacityProviderUpdateStatus::UpdateComplete)
    );
    for name in ["nobody", "FARGATE"] {
        let refused = update_capacity_provider(cx, &scope, update(name)).await;
        assert_eq!(refused.unwrap_err().code(), "ClientException");
    }
}

#[tokio::test]
async fn one_in_use_cannot_be_deleted_and_a_deleted_one_is_inactive() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    clusters::create_cluster(cx, &scope, CreateClusterRequest::default())
        .await
        .unwrap();
    create(&bed, of_group("fleet", "web")).await.unwrap();
    assert!(associate(&bed, &["nobody"]).await.is_err());
    associate(&bed, &["fleet", "FARGATE"]).await.unwrap();
    assert!(delete(&bed, "fleet").await.is_err());
    assert!(delete(&bed, "FARGATE").await.is_err());
    assert!(delete(&bed, "nobody").await.is_err());
    associate(&bed, &[]).await.unwrap();
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/fleet");
    let answer = delete(&bed, &arn).await.unwrap();
    assert_eq!(
        answer.update_status,
        Some(CapacityProviderUpdateStatus::DeleteInProgress)
    );
    let told = describe(&bed, &["fleet", "nobody"]).await;
    let gone = &told.capacity_providers.unwrap()[0];
    assert_eq!(gone.status, Some(CapacityProviderStatus::Inactive));
    let failures = told.failures.unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].reason.as_deref(), Some("MISSING"));
    let all = describe(&bed, &[]).await.capacity_providers.unwrap();
    assert_eq!(all.len(), 2);
    assert!(associate(&bed, &["fleet"]).await.is_err());
    // The name, and the group, are free again.
    create(&bed, of_group("fleet", "web")).await.unwrap();
}

#[tokio::test]
async fn providers_have_tags() {
    let bed = TestBed::new();
    let arn = create(&bed, of_group("fleet", "web")).await.unwrap();
    let arn = arn.capacity_provider_arn;
    let (cx, scope) = (&bed.cx, bed.scope());
    let tag = Tag { key: Some("a".into()), value: Some("b".into()) };
    let input = |arn: Option<String>| TagResourceRequest {
        resource_arn: arn,
        tags: Some(vec![tag.clone()]),
    };
    tags::tag_resource(cx, &scope, input(arn.clone())).await.unwrap();
    let listed = ListTagsForResourceRequest { resource_arn: arn };
    let listed = tags::list_tags_for_resource(cx, &scope, listed).await;
    assert_eq!(listed.unwrap().tags.unwrap(), std::slice::from_ref(&tag));
    let fargate =
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/FARGATE");
    let refused = tags::tag_resource(cx, &scope, input(Some(fargate))).await;
    assert_eq!(refused.unwrap_err().code(), "ResourceNotFoundException");
}

/// Registers an agent that says of which group its host is.
async fn register(bed: &TestBed, group: &str) -> ecs::ContainerInstance {
    let resource = |name: &str, value: i32| Resource {
        name: Some(name.into()),
        r#type: Some("INTEGER".into()),
        integer_value: Some(value),
        ..Default::default()
    };
    let input = RegisterContainerInstanceRequest {
        total_resources: Some(vec![
            resource("CPU", 1024),
            resource("MEMORY", 1000),
        ]),
        attributes: Some(vec![Attribute {
            name: Some(GROUP_ATTRIBUTE.into()),
            value: Some(group.into()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let answer =
        register::register_container_instance(&bed.cx, &bed.scope(), input)
            .await;
    answer.unwrap().container_instance.unwrap()
}

/// Agents count as there once a session is up; none is in these tests.
async fn connect_all(bed: &TestBed) {
    let put = bed.cx.transact(|tx| -> Result<(), ApiError> {
        let hosts: Vec<_> = tx
            .scan::<crate::tables::Host>(&minato_store::Key::root())
            .collect();
        for host in hosts {
            tx.put(crate::tables::Host {
                is_connected: true,
                ..crate::tables::Host::clone(&host)
            });
        }
        Ok(())
    });
    put.await.unwrap();
}

async fn run(
    bed: &TestBed,
    count: i32,
    strategy: &[(&str, i32)],
) -> Result<RunTaskResponse, ApiError> {
    let items =
        strategy.iter().map(|(name, weight)| CapacityProviderStrategyItem {
            capacity_provider: Some((*name).to_owned()),
            weight: Some(*weight),
            base: None,
        });
    let input = RunTaskRequest {
        task_definition: Some("job".into()),
        count: Some(count),
        capacity_provider_strategy: Some(items.collect()),
        ..Default::default()
    };
    tasks::run_task(&bed.cx, &bed.scope(), input).await
}

#[tokio::test]
async fn tasks_of_a_strategy_go_to_the_instances_of_its_providers() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    // One that was there before its provider is its provider's all the same.
    let early = register(&bed, "web").await;
    assert_eq!(early.capacity_provider_name, None);
    for (name, group) in [("a", "web"), ("b", "batch"), ("c", "empty")] {
        create(&bed, of_group(name, group)).await.unwrap();
    }
    associate(&bed, &["a", "b", "c"]).await.unwrap();
    let late = register(&bed, "batch").await;
    assert_eq!(late.capacity_provider_name.as_deref(), Some("b"));
    connect_all(&bed).await;
    let input = RegisterTaskDefinitionRequest {
        family: Some("job".into()),
        container_definitions: Some(vec![ContainerDefinition {
            name: Some("app".into()),
            image: Some("busybox".into()),
            memory: Some(100),
            ..Default::default()
        }]),
        ..Default::default()
    };
    task_definitions::register_task_definition(cx, &scope, input)
        .await
        .unwrap();
    let placed = run(&bed, 4, &[("a", 1), ("b", 3)]).await.unwrap();
    let on = |name: &str, arn: &Option<String>| {
        let tasks = placed.tasks.iter().flatten();
        tasks
            .filter(|task| task.capacity_provider_name.as_deref() == Some(name))
            .filter(|task| task.container_instance_arn == *arn)
            .filter(|task| task.launch_type == Some(ecs::LaunchType::Ec2))
            .count()
    };
    assert_eq!(on("a", &early.container_instance_arn), 1);
    assert_eq!(on("b", &late.container_instance_arn), 3);
    // What one provider lacks, another's instances do not give.
    let short = run(&bed, 10, &[("a", 1)]).await.unwrap();
    assert_eq!(short.tasks.unwrap().len(), 9);
    assert_eq!(
        short.failures.unwrap()[0].reason.as_deref(),
        Some("RESOURCE:MEMORY")
    );
    let half = run(&bed, 2, &[("b", 1), ("c", 1)]).await.unwrap();
    assert_eq!(half.tasks.unwrap().len(), 1);
    assert_eq!(
        half.failures.unwrap()[0].reason.as_deref(),
        Some("EMPTY CAPACITY PROVIDER")
    );
    let error = run(&bed, 1, &[("c", 1)]).await.unwrap_err();
    assert_eq!(
        error.message(),
        "No Container Instances were found in your capacity provider."
    );
    // In use: it stays.
    assert_eq!(
        associate(&bed, &["a"]).await.unwrap_err().code(),
        "ResourceInUseException"
    );
}
