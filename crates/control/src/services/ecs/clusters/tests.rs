use minato_wire::ecs::{
    CapacityProviderStrategyItem, ClusterField,
    ClusterServiceConnectDefaultsRequest, ClusterSetting, ClusterSettingName,
    DescribeClustersRequest, Tag,
};
use serde_json::{Value, json};

use super::*;
use crate::testing::{ACCOUNT, REGION, TestBed};

fn named(name: &str) -> CreateClusterRequest {
    CreateClusterRequest {
        cluster_name: Some(name.to_owned()),
        ..Default::default()
    }
}

async fn create(
    bed: &TestBed,
    input: CreateClusterRequest,
) -> minato_wire::ecs::Cluster {
    let answer = create_cluster(&bed.cx, &bed.scope(), input).await;
    answer.unwrap().cluster.unwrap()
}

async fn describe(
    bed: &TestBed,
    names: &[&str],
    include: Vec<ClusterField>,
) -> DescribeClustersResponse {
    let input = DescribeClustersRequest {
        clusters: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        include: Some(include),
    };
    describe_clusters(&bed.cx, &bed.scope(), input).await.unwrap()
}

#[tokio::test]
async fn a_new_cluster_has_the_documented_shape() {
    let bed = TestBed::new();
    let cluster = create(&bed, CreateClusterRequest::default()).await;
    assert_eq!(
        serde_json::to_value(&cluster).unwrap(),
        serde_json::json!({
            "clusterArn":
                format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/default"),
            "clusterName": "default",
            "status": "ACTIVE",
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": 0,
            "pendingTasksCount": 0,
            "activeServicesCount": 0,
            "statistics": [],
            "tags": [],
            "settings": [{"name": "containerInsights", "value": "disabled"}],
            "capacityProviders": [],
            "defaultCapacityProviderStrategy": [],
        })
    );
}

#[tokio::test]
async fn creating_again_gives_the_first() {
    let bed = TestBed::new();
    let tagged = CreateClusterRequest {
        tags: Some(vec![Tag { key: Some("a".into()), value: None }]),
        ..named("web")
    };
    create(&bed, tagged).await;
    let again = create(&bed, named("web")).await;
    assert_eq!(again.tags.unwrap().len(), 1);
    let input = ListClustersRequest::default();
    let listed = list_clusters(&bed.cx, &bed.scope(), input).await.unwrap();
    assert_eq!(listed.cluster_arns.unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_input_is_refused() {
    let bed = TestBed::new();
    let setting = |value: &str| CreateClusterRequest {
        settings: Some(vec![ClusterSetting {
            name: Some(ClusterSettingName::ContainerInsights),
            value: Some(value.to_owned()),
        }]),
        ..Default::default()
    };
    let providers = |names: &[&str]| CreateClusterRequest {
        capacity_providers: Some(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ),
        ..Default::default()
    };
    let strategy = CreateClusterRequest {
        default_capacity_provider_strategy: Some(vec![
            CapacityProviderStrategyItem {
                capacity_provider: Some("FARGATE".into()),
                weight: Some(1),
                base: None,
            },
        ]),
        ..Default::default()
    };
    let namespace = CreateClusterRequest {
        service_connect_defaults: Some(ClusterServiceConnectDefaultsRequest {
            namespace: Some("local".into()),
        }),
        ..Default::default()
    };
    let exec = |exec: Value| CreateClusterRequest {
        configuration: serde_json::from_value(
            json!({"executeCommandConfiguration": exec}),
        )
        .unwrap(),
        ..Default::default()
    };
    let log = |to: Value| {
        exec(json!({"logging": "OVERRIDE", "logConfiguration": to}))
    };
    for (input, code) in [
        (exec(json!({"logging": "OVERRIDE"})), "InvalidParameterException"),
        (log(json!({})), "InvalidParameterException"),
        (
            log(json!({"s3KeyPrefix": "p", "cloudWatchLogGroupName": "g"})),
            "InvalidParameterException",
        ),
        (
            log(
                json!({"s3BucketName": "b", "cloudWatchEncryptionEnabled": true}),
            ),
            "InvalidParameterException",
        ),
        (named("a b"), "InvalidParameterException"),
        (setting("on"), "InvalidParameterException"),
        (providers(&["mine"]), "InvalidParameterException"),
        (strategy, "InvalidParameterException"),
        (namespace, "NamespaceNotFoundException"),
    ] {
        let refused = create_cluster(&bed.cx, &bed.scope(), input).await;
        assert_eq!(refused.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn describing_shows_what_was_asked_for() {
    let bed = TestBed::new();
    create(&bed, named("web")).await;
    let plain = describe(&bed, &["web"], vec![]).await;
    let cluster = &plain.clusters.unwrap()[0];
    assert_eq!(cluster.settings.as_deref(), Some(&[][..]));
    assert_eq!(cluster.statistics.as_deref(), Some(&[][..]));
    let full = describe(
        &bed,
        &[&format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/web"), "nobody"],
        ClusterField::ALL.to_vec(),
    )
    .await;
    let cluster = &full.clusters.unwrap()[0];
    assert_eq!(cluster.settings.as_ref().unwrap().len(), 1);
    assert_eq!(cluster.statistics.as_ref().unwrap().len(), 8);
    let failures = full.failures.unwrap();
    assert_eq!(failures[0].reason.as_deref(), Some("MISSING"));
    assert_eq!(
        failures[0].arn.as_deref(),
        Some("arn:aws:ecs:us-east-1:000000000000:cluster/nobody")
    );
    let elsewhere = "arn:aws:ecs:eu-west-1:000000000000:cluster/web";
    let other = describe(&bed, &[elsewhere], vec![]).await;
    assert_eq!(other.failures.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_cluster_is_described_and_not_listed_and_may_come_back() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    create(&bed, named("web")).await;
    let delete = || DeleteClusterRequest { cluster: Some("web".into()) };
    let gone = delete_cluster(cx, &scope, delete()).await.unwrap();
    assert_eq!(gone.cluster.unwrap().status.as_deref(), Some("INACTIVE"));
    let again = delete_cluster(cx, &scope, delete()).await;
    assert_eq!(again.unwrap_err().code(), "ClusterNotFoundException");
    let listed = list_clusters(cx, &scope, ListClustersRequest::default());
    assert!(listed.await.unwrap().cluster_arns.unwrap().is_empty());
    let shown = describe(&bed, &["web"], vec![]).await.clusters.unwrap();
    assert_eq!(shown[0].status.as_deref(), Some("INACTIVE"));
    let back = create(&bed, named("web")).await;
    assert_eq!(back.status.as_deref(), Some("ACTIVE"));
}

#[tokio::test]
async fn a_cluster_with_instances_stays() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    let input = super::super::container_instances::tests::registration();
    super::super::register::register_container_instance(cx, &scope, input)
        .await
        .unwrap();
    let input = DeleteClusterRequest { cluster: Some("default".into()) };
    let refused = delete_cluster(cx, &scope, input).await.unwrap_err();
    assert_eq!(refused.code(), "ClusterContainsContainerInstancesException");
    let shown = describe(&bed, &["default"], vec![]).await.clusters.unwrap();
    assert_eq!(shown[0].registered_container_instances_count, Some(1));
}

#[tokio::test]
async fn providers_and_settings_change() {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    create(&bed, named("web")).await;
    let input = PutClusterCapacityProvidersRequest {
        cluster: Some("web".into()),
        capacity_providers: Some(vec!["FARGATE".into()]),
        default_capacity_provider_strategy: Some(vec![
            CapacityProviderStrategyItem {
                capacity_provider: Some("FARGATE".into()),
                weight: Some(1),
                base: None,
            },
        ]),
    };
    let put = put_cluster_capacity_providers(cx, &scope, input).await;
    let cluster = put.unwrap().cluster.unwrap();
    let strategy = cluster.default_capacity_provider_strategy.unwrap();
    assert_eq!(strategy[0].base, Some(0));
    let input = UpdateClusterSettingsRequest {
        cluster: Some("web".into()),
        settings: Some(vec![ClusterSetting {
            name: Some(ClusterSettingName::ContainerInsights),
            value: Some("enhanced".into()),
        }]),
    };
    let changed = update_cluster_settings(cx, &scope, input).await.unwrap();
    let settings = changed.cluster.unwrap().settings.unwrap();
    assert_eq!(settings[0].value.as_deref(), Some("enhanced"));
    let input = UpdateClusterRequest {
        cluster: Some("nobody".into()),
        ..Default::default()
    };
    let refused = update_cluster(cx, &scope, input).await.unwrap_err();
    assert_eq!(refused.message(), "Cluster not found.");
}

#[tokio::test]
async fn clusters_are_paged() {
    let bed = TestBed::new();
    for n in 0..5 {
        create(&bed, named(&format!("c{n}"))).await;
    }
    let mut seen = vec![];
    let mut token = None;
    loop {
        let input =
            ListClustersRequest { max_results: Some(2), next_token: token };
        let page = list_clusters(&bed.cx, &bed.scope(), input).await.unwrap();
        seen.extend(page.cluster_arns.unwrap());
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
}

#[tokio::test]
async fn a_cluster_is_in_the_partition_of_its_region() {
    let bed = TestBed::new();
    for (region, partition) in
        [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
    {
        let scope = Scope { region: region.into(), ..bed.scope() };
        let made = create_cluster(&bed.cx, &scope, named("web")).await.unwrap();
        let arn = made.cluster.unwrap().cluster_arn.unwrap();
        let expected = format!("arn:{partition}:ecs:{region}:{ACCOUNT}");
        assert_eq!(arn, format!("{expected}:cluster/web"));
        let input = DescribeClustersRequest {
            clusters: Some(vec![arn.clone(), "gone".into()]),
            ..Default::default()
        };
        let found = describe_clusters(&bed.cx, &scope, input).await.unwrap();
        let shown = found.clusters.unwrap();
        assert_eq!(shown[0].cluster_arn.as_ref(), Some(&arn));
        let failure = &found.failures.unwrap()[0];
        let gone = format!("{expected}:cluster/gone");
        assert_eq!(failure.arn.as_ref(), Some(&gone));
    }
}
