use minato_wire::ecs::{
    ContainerDefinition, ListTaskDefinitionFamiliesRequest,
    ListTaskDefinitionsRequest, SortOrder, Tag, TaskDefinitionFamilyStatus,
};

use super::*;
use crate::testing::TestBed;

fn input(family: &str) -> RegisterTaskDefinitionRequest {
    RegisterTaskDefinitionRequest {
        family: Some(family.to_owned()),
        container_definitions: Some(vec![ContainerDefinition {
            name: Some("app".into()),
            image: Some("nginx".into()),
            memory: Some(64),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

async fn register(bed: &TestBed, family: &str) -> ecs::TaskDefinition {
    let answer =
        register_task_definition(&bed.cx, &bed.scope(), input(family)).await;
    answer.unwrap().task_definition.unwrap()
}

async fn deregister(
    bed: &TestBed,
    given: &str,
) -> Result<ecs::TaskDefinition, ApiError> {
    let input = DeregisterTaskDefinitionRequest {
        task_definition: Some(given.to_owned()),
    };
    deregister_task_definition(&bed.cx, &bed.scope(), input)
        .await
        .map(|answer| answer.task_definition.unwrap())
}

async fn describe(
    bed: &TestBed,
    given: &str,
) -> Result<DescribeTaskDefinitionResponse, ApiError> {
    let input = DescribeTaskDefinitionRequest {
        task_definition: Some(given.to_owned()),
        include: Some(vec![TaskDefinitionField::Tags]),
    };
    describe_task_definition(&bed.cx, &bed.scope(), input).await
}

async fn list(
    bed: &TestBed,
    family: Option<&str>,
    sort: SortOrder,
    size: i32,
) -> Vec<String> {
    let mut names = vec![];
    let mut token = None;
    loop {
        let input = ListTaskDefinitionsRequest {
            family_prefix: family.map(str::to_owned),
            sort: Some(sort),
            max_results: Some(size),
            next_token: token,
            status: None,
        };
        let page = list_task_definitions(&bed.cx, &bed.scope(), input).await;
        let page = page.unwrap();
        names.extend(page.task_definition_arns.unwrap());
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    names
        .into_iter()
        .map(|arn| arn.rsplit('/').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn revisions_count_up_and_are_never_used_again() {
    let bed = TestBed::new();
    let first = register(&bed, "web").await;
    assert_eq!(
        first.task_definition_arn.as_deref(),
        Some("arn:aws:ecs:us-east-1:000000000000:task-definition/web:1")
    );
    assert_eq!(first.status, Some(TaskDefinitionStatus::Active));
    assert_eq!(first.registered_at, Some(bed.scope().now));
    assert_eq!(
        first.registered_by.as_deref(),
        Some("arn:aws:iam::000000000000:root")
    );
    deregister(&bed, "web:1").await.unwrap();
    let input = DeleteTaskDefinitionsRequest {
        task_definitions: Some(vec!["web:1".into()]),
    };
    delete_task_definitions(&bed.cx, &bed.scope(), input).await.unwrap();
    assert_eq!(register(&bed, "web").await.revision, Some(2));
}

#[tokio::test]
async fn a_broken_rule_registers_nothing() {
    let bed = TestBed::new();
    let mut broken = input("web");
    broken.container_definitions.as_mut().unwrap()[0].memory = None;
    let refused = register_task_definition(&bed.cx, &bed.scope(), broken).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "ClientException");
    assert!(refused.message().contains("At least one of 'memory'"));
    assert_eq!(register(&bed, "web").await.revision, Some(1));
}

#[tokio::test]
async fn a_family_means_its_newest_active_revision() {
    let bed = TestBed::new();
    for _ in 0..3 {
        register(&bed, "web").await;
    }
    deregister(&bed, "web:3").await.unwrap();
    let revision = |answer: DescribeTaskDefinitionResponse| {
        answer.task_definition.unwrap().revision.unwrap()
    };
    assert_eq!(revision(describe(&bed, "web").await.unwrap()), 2);
    assert_eq!(revision(describe(&bed, "web:3").await.unwrap()), 3);
    let arn = "arn:aws:ecs:us-east-1:000000000000:task-definition/web";
    assert_eq!(revision(describe(&bed, arn).await.unwrap()), 2);
    let elsewhere = "arn:aws:ecs:eu-west-1:000000000000:task-definition/web";
    for unknown in ["nobody", "web:9", "web:x", elsewhere, ""] {
        let error = describe(&bed, unknown).await.unwrap_err();
        assert_eq!(error.code(), "ClientException");
        assert_eq!(error.message(), "Unable to describe task definition.");
    }
}

#[tokio::test]
async fn tags_stand_beside_the_definition() {
    let bed = TestBed::new();
    let tagged = RegisterTaskDefinitionRequest {
        tags: Some(vec![Tag {
            key: Some("stage".into()),
            value: Some("prod".into()),
        }]),
        ..input("web")
    };
    let answer = register_task_definition(&bed.cx, &bed.scope(), tagged).await;
    assert_eq!(answer.unwrap().tags.unwrap().len(), 1);
    let shown = describe(&bed, "web").await.unwrap();
    assert_eq!(shown.tags.unwrap()[0].value.as_deref(), Some("prod"));
}

#[tokio::test]
async fn deregistering_needs_a_revision_and_may_be_repeated() {
    let bed = TestBed::new();
    register(&bed, "web").await;
    let message = |result: Result<ecs::TaskDefinition, ApiError>| {
        result.unwrap_err().message().to_owned()
    };
    assert_eq!(message(deregister(&bed, "web").await), "Revision is missing.");
    assert_eq!(
        message(deregister(&bed, "web:x").await),
        "Invalid revision number. Number: x"
    );
    assert_eq!(
        message(deregister(&bed, "web:2").await),
        "The specified task definition does not exist."
    );
    let first = deregister(&bed, "web:1").await.unwrap();
    assert_eq!(first.status, Some(TaskDefinitionStatus::Inactive));
    assert!(first.deregistered_at.is_some());
    assert_eq!(deregister(&bed, "web:1").await.unwrap(), first);
}

#[tokio::test]
async fn deleting_says_why_not() {
    let bed = TestBed::new();
    register(&bed, "web").await;
    register(&bed, "web").await;
    deregister(&bed, "web:1").await.unwrap();
    let delete = |names: Vec<&str>| {
        let input = DeleteTaskDefinitionsRequest {
            task_definitions: Some(
                names.into_iter().map(str::to_owned).collect(),
            ),
        };
        let scope = bed.scope();
        let cx = std::sync::Arc::clone(&bed.cx);
        async move { delete_task_definitions(&cx, &scope, input).await }
    };
    let answer = delete(vec!["web:1", "web:2", "web:3", "web"]).await.unwrap();
    let deleted = answer.task_definitions.unwrap();
    assert_eq!(deleted[0].status, Some(TaskDefinitionStatus::DeleteInProgress));
    assert!(deleted[0].delete_requested_at.is_some());
    let reasons: Vec<String> = answer
        .failures
        .unwrap()
        .into_iter()
        .map(|failure| failure.reason.unwrap())
        .collect();
    assert!(reasons[0].contains("still in ACTIVE status"));
    assert!(reasons[1].contains("does not exist"));
    assert!(reasons[2].contains("identifier is invalid"));
    assert!(delete(vec![]).await.is_err());
    assert!(delete(vec!["a:1"; 11]).await.is_err());
}

#[tokio::test]
async fn lists_go_by_family_and_number_both_ways() {
    let bed = TestBed::new();
    for _ in 0..11 {
        register(&bed, "web").await;
    }
    register(&bed, "web-1").await;
    register(&bed, "api").await;
    let up = list(&bed, None, SortOrder::Asc, 3).await;
    let mut expected = vec!["api:1".to_owned()];
    expected.extend((1..=11).map(|n| format!("web:{n}")));
    expected.push("web-1:1".to_owned());
    assert_eq!(up, expected);
    let mut down = list(&bed, None, SortOrder::Desc, 4).await;
    down.reverse();
    assert_eq!(down, expected);
    // The prefix is a whole family.
    let web = list(&bed, Some("web"), SortOrder::Asc, 100).await;
    assert_eq!(web.len(), 11);
    assert!(list(&bed, Some("we"), SortOrder::Asc, 9).await.is_empty());
}

#[tokio::test]
async fn families_are_listed_by_prefix_and_status() {
    let bed = TestBed::new();
    for family in ["web", "web-1", "api"] {
        register(&bed, family).await;
    }
    deregister(&bed, "web-1:1").await.unwrap();
    let families = |prefix: &str, status| {
        let input = ListTaskDefinitionFamiliesRequest {
            family_prefix: Some(prefix.to_owned()),
            status,
            ..Default::default()
        };
        let (cx, scope) = (std::sync::Arc::clone(&bed.cx), bed.scope());
        async move {
            let listed = list_task_definition_families(&cx, &scope, input);
            listed.await.unwrap().families.unwrap()
        }
    };
    let active = Some(TaskDefinitionFamilyStatus::Active);
    let inactive = Some(TaskDefinitionFamilyStatus::Inactive);
    assert_eq!(families("", None).await, ["api", "web", "web-1"]);
    assert_eq!(families("w", None).await, ["web", "web-1"]);
    assert_eq!(families("", active).await, ["api", "web"]);
    assert_eq!(families("", inactive).await, ["web-1"]);
}
