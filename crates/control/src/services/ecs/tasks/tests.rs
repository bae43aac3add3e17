//! RunTask and StartTask, up to the rows they leave.

use std::collections::BTreeMap;

use minato_wire::ecs::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition,
    CreateClusterRequest, LaunchType, NetworkConfiguration, NetworkMode,
    RegisterTaskDefinitionRequest, RunTaskRequest, StartTaskRequest,
    TaskOverride,
};

use super::{run_task, start_task};
use crate::services::ec2::defaults;
use crate::services::ec2::rows::SubnetRow;
use crate::services::ecs::{clusters, task_definitions};
use crate::tables::{ContainerInstance, Host, Task, namespace};
use crate::testing::{ACCOUNT, REGION, TestBed, instance};

/// A cluster of an instance in each of these zones, and the definition `web`,
/// which wants an interface of its own. Gives a subnet of each zone there is.
async fn bed(zones: &[&'static str]) -> (TestBed, BTreeMap<String, String>) {
    let bed = TestBed::new();
    let (cx, scope) = (&bed.cx, bed.scope());
    let input = CreateClusterRequest::default();
    clusters::create_cluster(cx, &scope, input).await.unwrap();
    let container = ContainerDefinition {
        name: Some("app".into()),
        image: Some("busybox".into()),
        memory: Some(128),
        ..Default::default()
    };
    let input = RegisterTaskDefinitionRequest {
        family: Some("web".into()),
        network_mode: Some(NetworkMode::Awsvpc),
        cpu: Some("256".into()),
        memory: Some("512".into()),
        requires_compatibilities: Some(vec![
            Compatibility::Fargate,
            Compatibility::Ec2,
        ]),
        container_definitions: Some(vec![container]),
        ..Default::default()
    };
    let register = task_definitions::register_task_definition;
    let registered = register(cx, &scope, input).await.unwrap();
    let needed = registered.task_definition.unwrap().requires_attributes;
    let needed: Vec<String> =
        needed.into_iter().flatten().filter_map(|one| one.name).collect();
    let rows: Vec<(Host, ContainerInstance)> = zones
        .iter()
        .enumerate()
        .map(|(number, zone)| {
            let (mut host, row) = instance(number, zone);
            let needed = needed.iter().map(|name| (name.clone(), None));
            host.attributes.extend(needed);
            (host, row)
        })
        .collect();
    let put = cx.transact(move |tx| {
        defaults::ensure(tx, ACCOUNT, REGION);
        for (host, instance) in rows {
            tx.put(host);
            tx.put(instance);
        }
        Ok(())
    });
    put.await.unwrap();
    let rows = cx.snapshot();
    let subnets = rows.scan::<SubnetRow>(&namespace(ACCOUNT, REGION));
    let subnets = subnets.map(|row| (row.zone.clone(), row.id.clone()));
    (bed, subnets.collect())
}

fn in_subnets(subnets: Vec<String>) -> Option<NetworkConfiguration> {
    Some(NetworkConfiguration {
        awsvpc_configuration: Some(AwsVpcConfiguration {
            subnets: Some(subnets),
            ..Default::default()
        }),
    })
}

/// For each task its host's zone and its subnets' zones.
fn zones_of_tasks(
    bed: &TestBed,
    subnets: &BTreeMap<String, String>,
) -> Vec<(String, Vec<String>)> {
    let rows = bed.cx.snapshot();
    let zone = |wanted: &String| {
        let mut all = subnets.iter();
        all.find(|(_, id)| *id == wanted).unwrap().0.clone()
    };
    rows.scan::<Task>(&namespace(ACCOUNT, REGION))
        .map(|task| {
            let host = Host::key_of(ACCOUNT, REGION, &task.host);
            let host = rows.get::<Host>(&host).unwrap();
            let of_host = host.attributes["ecs.availability-zone"].clone();
            let shown = task.task.attachments.as_ref().unwrap()[0].clone();
            let shown = shown.details.unwrap()[0].value.clone();
            assert_eq!(shown.as_ref(), task.subnets.first());
            (of_host.unwrap(), task.subnets.iter().map(zone).collect())
        })
        .collect()
}

#[tokio::test]
async fn a_task_on_an_instance_is_in_a_subnet_of_the_instances_zone() {
    let (bed, subnets) = bed(&["us-east-1a", "us-east-1b"]).await;
    let input = RunTaskRequest {
        task_definition: Some("web".into()),
        launch_type: Some(LaunchType::Ec2),
        count: Some(4),
        network_configuration: in_subnets(subnets.values().cloned().collect()),
        ..Default::default()
    };
    let ran = run_task(&bed.cx, &bed.scope(), input).await.unwrap();
    assert_eq!(ran.failures.unwrap(), []);
    let zones = zones_of_tasks(&bed, &subnets);
    assert_eq!(zones.len(), 4);
    for (of_host, of_subnets) in &zones {
        assert_eq!(of_subnets, std::slice::from_ref(of_host));
    }
}

#[tokio::test]
async fn fargate_tasks_of_a_call_are_spread_over_the_zones_of_its_subnets() {
    let (bed, subnets) = bed(&["us-east-1a"]).await;
    let two = ["us-east-1b", "us-east-1c"].map(|it| subnets[it].clone());
    let input = RunTaskRequest {
        task_definition: Some("web".into()),
        launch_type: Some(LaunchType::Fargate),
        count: Some(4),
        network_configuration: in_subnets(two.to_vec()),
        ..Default::default()
    };
    run_task(&bed.cx, &bed.scope(), input).await.unwrap();
    let zones = zones_of_tasks(&bed, &subnets);
    let mut firsts: Vec<&str> =
        zones.iter().map(|(_, subnets)| subnets[0].as_str()).collect();
    firsts.sort_unstable();
    let (b, c) = ("us-east-1b", "us-east-1c");
    assert_eq!(firsts, [b, b, c, c]);
}

#[tokio::test]
async fn a_named_instance_must_be_in_the_zone_of_a_subnet() {
    let (bed, subnets) = bed(&["us-east-1a", "us-east-1b"]).await;
    let both = [0, 1].map(|number| format!("{number:032x}"));
    let input = StartTaskRequest {
        task_definition: Some("web".into()),
        container_instances: Some(both.to_vec()),
        network_configuration: in_subnets(vec![subnets["us-east-1b"].clone()]),
        ..Default::default()
    };
    let started = start_task(&bed.cx, &bed.scope(), input).await.unwrap();
    let failures = started.failures.unwrap();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].arn.as_ref().unwrap().ends_with(&both[0]));
    let b = "us-east-1b".to_owned();
    assert_eq!(zones_of_tasks(&bed, &subnets), [(b.clone(), vec![b])]);
}

#[tokio::test]
async fn commands_are_run_only_in_tasks_with_a_role() {
    let (bed, subnets) = bed(&["us-east-1a"]).await;
    let input = RunTaskRequest {
        task_definition: Some("web".into()),
        enable_execute_command: Some(true),
        network_configuration: in_subnets(subnets.values().cloned().collect()),
        ..Default::default()
    };
    let refused = run_task(&bed.cx, &bed.scope(), input.clone()).await;
    let refused = format!("{:?}", refused.unwrap_err());
    assert!(refused.contains("InvalidParameterException"), "{refused}");
    let why = "The execute command failed because a valid task role is not \
               being used. Specify a valid task role in your task definition \
               or as a task override and try again.";
    assert!(refused.contains(why), "{refused}");
    let role = "arn:aws:iam::000000000000:role/task";
    let with_role = RunTaskRequest {
        overrides: Some(TaskOverride {
            task_role_arn: Some(role.into()),
            ..Default::default()
        }),
        ..input
    };
    run_task(&bed.cx, &bed.scope(), with_role).await.unwrap();
}
