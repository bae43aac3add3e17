use minato_wire::ecs::{
    ContainerDefinition, CreateClusterRequest, CreateServiceRequest,
    CreateTaskSetRequest, DeploymentController, DeploymentControllerType,
    ListTagsForResourceRequest, RegisterTaskDefinitionRequest, Scale,
    SchedulingStrategy, Tag, TagResourceRequest, UpdateServiceRequest,
};

use super::*;
use crate::services::ecs::{clusters, services, tags, task_definitions};
use crate::testing::{ACCOUNT, REGION, TestBed};

/// A cluster with a definition `web` and an external service `web`.
async fn bed() -> TestBed {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    clusters::create_cluster(cx, &scope, CreateClusterRequest::default())
        .await
        .unwrap();
    let input = RegisterTaskDefinitionRequest {
        family: Some("web".into()),
        container_definitions: Some(vec![ContainerDefinition {
            name: Some("app".into()),
            image: Some("busybox".into()),
            memory: Some(50),
            ..Default::default()
        }]),
        ..Default::default()
    };
    task_definitions::register_task_definition(cx, &scope, input)
        .await
        .unwrap();
    services::create_service(cx, &scope, external("web")).await.unwrap();
    bed
}

fn external(name: &str) -> CreateServiceRequest {
    CreateServiceRequest {
        service_name: Some(name.into()),
        desired_count: Some(4),
        deployment_controller: Some(DeploymentController {
            r#type: Some(DeploymentControllerType::External),
        }),
        ..Default::default()
    }
}

fn scaled(percent: f64) -> CreateTaskSetRequest {
    CreateTaskSetRequest {
        service: Some("web".into()),
        cluster: Some("default".into()),
        task_definition: Some("web".into()),
        scale: Some(Scale { value: Some(percent), unit: None }),
        ..Default::default()
    }
}

async fn create(
    bed: &TestBed,
    input: CreateTaskSetRequest,
) -> Result<ecs::TaskSet, ApiError> {
    let answer = create_task_set(&bed.cx, &bed.scope(), input).await?;
    Ok(answer.task_set.unwrap())
}

async fn describe(bed: &TestBed, sets: &[&str]) -> DescribeTaskSetsResponse {
    let input = DescribeTaskSetsRequest {
        service: Some("web".into()),
        task_sets: Some(sets.iter().map(|it| (*it).to_owned()).collect()),
        include: Some(vec![TaskSetField::Tags]),
        ..Default::default()
    };
    describe_task_sets(&bed.cx, &bed.scope(), input).await.unwrap()
}

async fn service_of(bed: &TestBed) -> ecs::Service {
    let input = ecs::DescribeServicesRequest {
        services: Some(vec!["web".into()]),
        ..Default::default()
    };
    let (cx, scope) = (&bed.cx, bed.scope());
    let found = services::describe_services(cx, &scope, input).await.unwrap();
    found.services.unwrap().remove(0)
}

#[tokio::test]
async fn a_new_set_has_the_documented_shape() {
    let bed = bed().await;
    let set = create(&bed, scaled(30.0)).await.unwrap();
    let id = set.id.clone().unwrap();
    let digits = id.strip_prefix("ecs-svc/").unwrap();
    assert_eq!(digits.len(), 19);
    let now = bed.scope().now;
    let base = format!("arn:aws:ecs:{REGION}:{ACCOUNT}");
    assert_eq!(
        serde_json::to_value(&set).unwrap(),
        serde_json::json!({
            "id": id,
            "taskSetArn": format!("{base}:task-set/default/web/{id}"),
            "serviceArn": format!("{base}:service/default/web"),
            "clusterArn": format!("{base}:cluster/default"),
            "status": "ACTIVE",
            "taskDefinition": format!("{base}:task-definition/web:1"),
            "computedDesiredCount": 2,
            "pendingCount": 0,
            "runningCount": 0,
            "createdAt": now,
            "updatedAt": now,
            "launchType": "EC2",
            "loadBalancers": [],
            "serviceRegistries": [],
            "scale": {"value": 30.0, "unit": "PERCENT"},
            "stabilityStatus": "STABILIZING",
            "stabilityStatusAt": now,
            "tags": [],
        })
    );
    let service = service_of(&bed).await;
    assert_eq!(service.deployments, Some(vec![]));
    assert_eq!(service.task_sets.unwrap().len(), 1);
    assert_eq!(service.task_definition, None);
    assert_eq!(service.launch_type, None);
}

#[tokio::test]
async fn an_external_service_leaves_what_is_run_to_its_sets() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    for input in [
        CreateServiceRequest {
            task_definition: Some("web".into()),
            ..external("other")
        },
        CreateServiceRequest {
            launch_type: Some(ecs::LaunchType::Fargate),
            ..external("other")
        },
        CreateServiceRequest {
            scheduling_strategy: Some(SchedulingStrategy::Daemon),
            ..external("other")
        },
    ] {
        let refused = services::create_service(cx, &scope, input).await;
        assert_eq!(refused.unwrap_err().code(), "InvalidParameterException");
    }
    let of_web = || UpdateServiceRequest {
        service: Some("web".into()),
        ..Default::default()
    };
    for input in [
        UpdateServiceRequest {
            task_definition: Some("web".into()),
            ..of_web()
        },
        UpdateServiceRequest { force_new_deployment: Some(true), ..of_web() },
        UpdateServiceRequest { desired_count: Some(-1), ..of_web() },
    ] {
        let refused = services::update_service(cx, &scope, input).await;
        assert_eq!(refused.unwrap_err().code(), "InvalidParameterException");
    }
    create(&bed, scaled(50.0)).await.unwrap();
    let more = UpdateServiceRequest { desired_count: Some(9), ..of_web() };
    services::update_service(cx, &scope, more).await.unwrap();
    let sets = describe(&bed, &[]).await.task_sets.unwrap();
    assert_eq!(sets[0].computed_desired_count, Some(5));
}

#[tokio::test]
async fn wrong_sets_are_refused() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    let rolling = CreateServiceRequest {
        service_name: Some("rolling".into()),
        task_definition: Some("web".into()),
        desired_count: Some(1),
        ..Default::default()
    };
    services::create_service(cx, &scope, rolling).await.unwrap();
    let invalid = "InvalidParameterException";
    for (input, code) in [
        (
            CreateTaskSetRequest {
                service: Some("rolling".into()),
                ..scaled(1.0)
            },
            invalid,
        ),
        (
            CreateTaskSetRequest {
                service: Some("nobody".into()),
                ..scaled(1.0)
            },
            "ServiceNotFoundException",
        ),
        (scaled(101.0), invalid),
        (scaled(-1.0), invalid),
        (
            CreateTaskSetRequest {
                client_token: Some("x".repeat(37)),
                ..scaled(1.0)
            },
            invalid,
        ),
        (
            CreateTaskSetRequest {
                external_id: Some("x".repeat(256)),
                ..scaled(1.0)
            },
            invalid,
        ),
        (
            CreateTaskSetRequest {
                load_balancers: Some(vec![ecs::LoadBalancer::default()]),
                ..scaled(1.0)
            },
            "UnsupportedFeatureException",
        ),
        (
            CreateTaskSetRequest {
                task_definition: Some("nothing".into()),
                ..scaled(1.0)
            },
            "ClientException",
        ),
    ] {
        let error = create(&bed, input.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{input:?}");
    }
    for _ in 0..5 {
        create(&bed, scaled(0.0)).await.unwrap();
    }
    let sixth = create(&bed, scaled(0.0)).await.unwrap_err();
    assert_eq!(sixth.code(), "LimitExceededException");
}

#[tokio::test]
async fn a_token_makes_one_set() {
    let bed = bed().await;
    let input = CreateTaskSetRequest {
        client_token: Some("once".into()),
        ..scaled(50.0)
    };
    let first = create(&bed, input.clone()).await.unwrap();
    let again = create(&bed, input.clone()).await.unwrap();
    assert_eq!(first.id, again.id);
    let other = CreateTaskSetRequest {
        scale: Some(Scale { value: Some(60.0), unit: None }),
        ..input
    };
    let error = create(&bed, other).await.unwrap_err();
    assert_eq!(error.code(), "InvalidParameterException");
    assert_eq!(describe(&bed, &[]).await.task_sets.unwrap().len(), 1);
}

#[tokio::test]
async fn one_set_is_primary_and_shown_by_the_service() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    let first = create(&bed, scaled(100.0)).await.unwrap();
    let second = create(&bed, scaled(0.0)).await.unwrap();
    let primary = |set: &Option<String>| UpdateServicePrimaryTaskSetRequest {
        service: Some("web".into()),
        primary_task_set: set.clone(),
        ..Default::default()
    };
    for (set, other) in [(&first, &second), (&second, &first)] {
        let answer =
            update_service_primary_task_set(cx, &scope, primary(&set.id))
                .await
                .unwrap();
        let status = answer.task_set.unwrap().status;
        assert_eq!(status.as_deref(), Some("PRIMARY"));
        let id = other.task_set_arn.clone().unwrap();
        let shown = describe(&bed, &[&id]).await.task_sets.unwrap();
        assert_eq!(shown[0].status.as_deref(), Some("ACTIVE"));
    }
    let service = service_of(&bed).await;
    assert!(service.task_definition.unwrap().ends_with("/web:1"));
    assert_eq!(service.launch_type, Some(ecs::LaunchType::Ec2));
    let nobody = primary(&Some("ecs-svc/1".into()));
    let error = update_service_primary_task_set(cx, &scope, nobody).await;
    assert_eq!(error.unwrap_err().code(), "TaskSetNotFoundException");

    // The primary goes by force only, and its service shows nothing then.
    let delete = |force| DeleteTaskSetRequest {
        service: Some("web".into()),
        task_set: second.id.clone(),
        force,
        ..Default::default()
    };
    assert!(delete_task_set(cx, &scope, delete(None)).await.is_err());
    let gone = delete_task_set(cx, &scope, delete(Some(true))).await.unwrap();
    let status = gone.task_set.unwrap().status;
    assert_eq!(status.as_deref(), Some("DRAINING"));
    assert_eq!(service_of(&bed).await.task_definition, None);
    let again = delete_task_set(cx, &scope, delete(Some(true))).await;
    assert_eq!(again.unwrap_err().code(), "TaskSetNotFoundException");
}

#[tokio::test]
async fn sets_have_tags_and_unknown_ones_are_failures() {
    let bed = bed().await;
    let (cx, scope) = (&bed.cx, bed.scope());
    let set = create(&bed, scaled(0.0)).await.unwrap();
    let tag = Tag { key: Some("a".into()), value: Some("b".into()) };
    let input = |arn: &Option<String>| TagResourceRequest {
        resource_arn: arn.clone(),
        tags: Some(vec![tag.clone()]),
    };
    tags::tag_resource(cx, &scope, input(&set.task_set_arn)).await.unwrap();
    let listed = ListTagsForResourceRequest { resource_arn: set.task_set_arn };
    let listed = tags::list_tags_for_resource(cx, &scope, listed).await;
    assert_eq!(listed.unwrap().tags.unwrap(), std::slice::from_ref(&tag));
    let found = describe(&bed, &[&set.id.unwrap(), "ecs-svc/12"]).await;
    let tags = found.task_sets.unwrap()[0].tags.clone();
    assert_eq!(tags.unwrap(), std::slice::from_ref(&tag));
    let failures = found.failures.unwrap();
    assert_eq!(failures.len(), 1);
    let arn = failures[0].arn.as_deref().unwrap();
    assert!(arn.ends_with(":task-set/default/web/ecs-svc/12"), "{arn}");
    let wrong = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-set/default/web");
    let error = tags::tag_resource(cx, &scope, input(&Some(wrong))).await;
    assert_eq!(error.unwrap_err().code(), "InvalidParameterException");
}
