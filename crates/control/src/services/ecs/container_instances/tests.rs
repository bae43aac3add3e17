use minato_wire::ecs::{
    Attribute, DeleteAttributesRequest, ListAttributesRequest,
    ListTagsForResourceRequest, PutAttributesRequest,
    RegisterContainerInstanceRequest, Resource, Tag, TagResourceRequest,
    TargetType, UntagResourceRequest,
};

use super::super::{attributes, register, tags};
use super::*;
use crate::testing::TestBed;

fn resource(name: &str, value: i32) -> Resource {
    Resource {
        name: Some(name.to_owned()),
        r#type: Some("INTEGER".to_owned()),
        integer_value: Some(value),
        ..Default::default()
    }
}

fn attribute(name: &str, value: Option<&str>) -> Attribute {
    Attribute {
        name: Some(name.to_owned()),
        value: value.map(str::to_owned),
        ..Default::default()
    }
}

pub(crate) fn registration() -> RegisterContainerInstanceRequest {
    RegisterContainerInstanceRequest {
        total_resources: Some(vec![
            resource("CPU", 2048),
            resource("MEMORY", 4096),
        ]),
        attributes: Some(vec![
            attribute("ecs.os-type", Some("linux")),
            attribute("ecs.capability.task-eni", None),
        ]),
        ..Default::default()
    }
}

/// Registers an instance in `default` and gives its ARN.
async fn registered(bed: &TestBed) -> String {
    let answer = register::register_container_instance(
        &bed.cx,
        &bed.scope(),
        registration(),
    )
    .await;
    let instance = answer.unwrap().container_instance.unwrap();
    instance.container_instance_arn.unwrap()
}

async fn list(
    bed: &TestBed,
    filter: &str,
    status: Option<ContainerInstanceStatus>,
) -> Result<Vec<String>, ApiError> {
    let input = ListContainerInstancesRequest {
        filter: Some(filter.to_owned()),
        status,
        ..Default::default()
    };
    list_container_instances(&bed.cx, &bed.scope(), input)
        .await
        .map(|answer| answer.container_instance_arns.unwrap())
}

async fn set_state(
    bed: &TestBed,
    arn: &str,
    status: ContainerInstanceStatus,
) -> Result<UpdateContainerInstancesStateResponse, ApiError> {
    let input = UpdateContainerInstancesStateRequest {
        container_instances: Some(vec![arn.to_owned()]),
        status: Some(status),
        ..Default::default()
    };
    update_container_instances_state(&bed.cx, &bed.scope(), input).await
}

#[tokio::test]
async fn filters_are_cluster_queries() {
    let bed = TestBed::new();
    let arn = registered(&bed).await;
    for filter in [
        "",
        "attribute:ecs.os-type == linux",
        "attribute:ecs.capability.task-eni exists",
        "runningTasksCount == 0 and agentConnected == false",
        "ec2InstanceId =~ mi-.*",
    ] {
        let found = list(&bed, filter, None).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&arn), "{filter}");
    }
    let none = list(&bed, "attribute:ecs.os-type == windows", None).await;
    assert!(none.unwrap().is_empty());
    let broken = list(&bed, "os == linux", None).await.unwrap_err();
    assert_eq!(broken.code(), "InvalidParameterException");
    assert!(broken.message().contains("unknown subject 'os'"));
}

#[tokio::test]
async fn instances_drain_and_return() {
    let bed = TestBed::new();
    let arn = registered(&bed).await;
    let draining = ContainerInstanceStatus::Draining;
    let drained = set_state(&bed, &arn, draining).await.unwrap();
    let instance = &drained.container_instances.unwrap()[0];
    assert_eq!(instance.status.as_deref(), Some("DRAINING"));
    let found = list(&bed, "", Some(draining)).await.unwrap();
    assert_eq!(found.len(), 1);
    let active = ContainerInstanceStatus::Active;
    assert!(list(&bed, "", Some(active)).await.unwrap().is_empty());
    let back = set_state(&bed, &arn, active).await.unwrap();
    let instance = &back.container_instances.unwrap()[0];
    assert_eq!(instance.status.as_deref(), Some("ACTIVE"));
    let missing = set_state(&bed, &"0".repeat(32), active).await.unwrap();
    let failure = &missing.failures.unwrap()[0];
    assert_eq!(failure.reason.as_deref(), Some("MISSING"));
    let wrong = ContainerInstanceStatus::Registering;
    let refused = set_state(&bed, &arn, wrong).await.unwrap_err();
    assert!(refused.message().contains("one of [ACTIVE, DRAINING]"));
}

#[tokio::test]
async fn a_deregistered_instance_is_described_and_not_listed() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    let arn = registered(&bed).await;
    let input = DeregisterContainerInstanceRequest {
        container_instance: Some(arn.clone()),
        ..Default::default()
    };
    let gone = deregister_container_instance(cx, &scope, input).await.unwrap();
    let gone = gone.container_instance.unwrap();
    assert_eq!(gone.status.as_deref(), Some("INACTIVE"));
    assert_eq!(gone.agent_connected, Some(false));
    assert!(list(&bed, "", None).await.unwrap().is_empty());
    let active = ContainerInstanceStatus::Active;
    let refused = set_state(&bed, &arn, active).await.unwrap();
    let failure = &refused.failures.unwrap()[0];
    assert_eq!(failure.reason.as_deref(), Some("INACTIVE"));
    let describe = |given: Vec<String>| {
        let input = DescribeContainerInstancesRequest {
            container_instances: Some(given),
            ..Default::default()
        };
        describe_container_instances(cx, &scope, input)
    };
    let shown = describe(vec![arn, "nobody".into()]).await.unwrap();
    assert_eq!(shown.container_instances.unwrap().len(), 1);
    assert_eq!(shown.failures.unwrap().len(), 1);
    let empty = describe(vec![]).await.unwrap_err();
    assert_eq!(empty.message(), "Container Instances cannot be empty.");
}

#[tokio::test]
async fn users_give_attributes_and_take_them_back() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    let arn = registered(&bed).await;
    let put = |name: &str, value: Option<&str>, target: &str| {
        let one = Attribute {
            target_id: Some(target.to_owned()),
            ..attribute(name, value)
        };
        let input = PutAttributesRequest {
            attributes: Some(vec![one]),
            ..Default::default()
        };
        attributes::put_attributes(cx, &scope, input)
    };
    put("stack", Some("dev"), &arn).await.unwrap();
    put("stack", Some("prod"), &arn).await.unwrap();
    let found = list(&bed, "attribute:stack == prod", None).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&arn));
    for (name, value) in
        [("a b", None), ("ecs.x", None), ("a", Some(" b")), ("", None)]
    {
        assert!(put(name, value, &arn).await.is_err(), "{name}");
    }
    let unknown = put("a", None, "nobody").await.unwrap_err();
    assert_eq!(unknown.code(), "TargetNotFoundException");
    assert_eq!(unknown.message(), "Could not find nobody");
    for n in 0..9 {
        put(&format!("a{n}"), None, &arn).await.unwrap();
    }
    let full = put("one-more", None, &arn).await.unwrap_err();
    assert_eq!(full.code(), "AttributeLimitExceededException");

    let listing = || ListAttributesRequest {
        target_type: Some(TargetType::ContainerInstance),
        attribute_name: Some("stack".to_owned()),
        ..Default::default()
    };
    let listed = attributes::list_attributes(cx, &scope, listing()).await;
    let listed = listed.unwrap().attributes.unwrap();
    assert_eq!(listed[0].value.as_deref(), Some("prod"));
    assert_eq!(listed[0].target_id.as_deref(), Some(arn.as_str()));
    let input = DeleteAttributesRequest {
        attributes: Some(vec![Attribute {
            target_id: Some(arn),
            ..attribute("stack", None)
        }]),
        ..Default::default()
    };
    attributes::delete_attributes(cx, &scope, input).await.unwrap();
    let listed = attributes::list_attributes(cx, &scope, listing()).await;
    assert!(listed.unwrap().attributes.unwrap().is_empty());
}

#[tokio::test]
async fn tags_are_put_over_and_taken_away() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    let arn = registered(&bed).await;
    let tag = |key: &str, value: &str| Tag {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let put = |arn: &str, all: Vec<Tag>| {
        let input = TagResourceRequest {
            resource_arn: Some(arn.to_owned()),
            tags: Some(all),
        };
        tags::tag_resource(cx, &scope, input)
    };
    let cluster = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    for resource in [arn.as_str(), cluster] {
        put(resource, vec![tag("a", "1"), tag("b", "2")]).await.unwrap();
        put(resource, vec![tag("a", "3")]).await.unwrap();
        let input = UntagResourceRequest {
            resource_arn: Some(resource.to_owned()),
            tag_keys: Some(vec!["b".to_owned()]),
        };
        tags::untag_resource(cx, &scope, input).await.unwrap();
        let input = ListTagsForResourceRequest {
            resource_arn: Some(resource.to_owned()),
        };
        let left = tags::list_tags_for_resource(cx, &scope, input).await;
        assert_eq!(left.unwrap().tags.unwrap(), [tag("a", "3")]);
    }
    for (resource, code) in [
        ("default", "InvalidParameterException"),
        ("arn:aws:s3:::bucket", "InvalidParameterException"),
        (
            "arn:aws:ecs:us-east-1:000000000000:cluster/nobody",
            "ClusterNotFoundException",
        ),
        (
            "arn:aws:ecs:us-east-1:000000000000:service/default/web",
            "ResourceNotFoundException",
        ),
        (
            "arn:aws:ecs:eu-west-1:000000000000:cluster/default",
            "ResourceNotFoundException",
        ),
        (
            "arn:aws:ecs:us-east-1:000000000000:task-definition/web:1",
            "ResourceNotFoundException",
        ),
    ] {
        let refused = put(resource, vec![tag("a", "1")]).await.unwrap_err();
        assert_eq!(refused.code(), code, "{resource}");
    }
    let many = (0..51).map(|n| tag(&format!("k{n}"), "")).collect();
    assert!(put(&arn, many).await.is_err());
    assert!(put(&arn, vec![tag("aws:x", "1")]).await.is_err());
}
