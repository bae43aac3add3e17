//! Volumes of tasks, from the call to what is left of them.

use minato_store::Key;
use minato_wire::ApiError;
use serde_json::{Value, json};

use super::pass;
use crate::services::{ec2, ecs, minato};
use crate::tables::Task;
use crate::testing::{TestBed, instance};

/// A cluster of one instance with these attributes beside the usual, and the
/// definition `db`, which has a volume to configure.
async fn bed(attributes: &[&str]) -> TestBed {
    let bed = TestBed::new();
    call(&bed, "ecs", "CreateCluster", json!({})).await;
    let definition = json!({
        "family": "db",
        "volumes": [{"name": "data", "configuredAtLaunch": true}],
        "containerDefinitions": [{
            "name": "app", "image": "busybox", "memory": 128,
            "mountPoints": [
                {"sourceVolume": "data", "containerPath": "/data"},
            ],
        }],
    });
    let made = call(&bed, "ecs", "RegisterTaskDefinition", definition).await;
    let needed = made["taskDefinition"]["requiresAttributes"].clone();
    let (mut host, row) = instance(1, "us-east-1a");
    let names = needed.as_array().unwrap().iter();
    let names = names.map(|one| one["name"].as_str().unwrap().to_owned());
    host.attributes.extend(names.map(|name| (name, None)));
    let more = attributes.iter().map(|name| ((*name).to_owned(), None));
    host.attributes.extend(more);
    let put = bed.cx.transact(move |tx| -> Result<(), ApiError> {
        tx.put(host);
        tx.put(row);
        Ok(())
    });
    put.await.unwrap();
    bed
}

async fn call(bed: &TestBed, service: &str, name: &str, input: Value) -> Value {
    let (cx, scope) = (&bed.cx, bed.scope());
    let answer = match service {
        "ecs" => ecs::dispatch(cx, &scope, name, input).await,
        "ec2" => ec2::dispatch(cx, &scope, name, input).await,
        _ => minato::dispatch(cx, &scope, name, input).await,
    };
    answer.unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

async fn refused(bed: &TestBed, name: &str, input: Value) -> ApiError {
    let scope = bed.scope();
    ec2::dispatch(&bed.cx, &scope, name, input).await.unwrap_err()
}

async fn run(bed: &TestBed, managed: Value) -> Value {
    let mut whole = json!({
        "roleArn": "arn:aws:iam::1:role/ebs", "sizeInGiB": 2,
        "filesystemType": "ext4",
    });
    let members = whole.as_object_mut().unwrap();
    members.extend(managed.as_object().unwrap().clone());
    let input = json!({"taskDefinition": "db", "volumeConfigurations": [
        {"name": "data", "managedEBSVolume": whole},
    ]});
    call(bed, "ecs", "RunTask", input).await
}

fn row(bed: &TestBed) -> Task {
    let rows = bed.cx.snapshot();
    let mut tasks = rows.scan::<Task>(&Key::root());
    Task::clone(&tasks.next().unwrap())
}

fn attachment(bed: &TestBed) -> (String, Vec<(String, String)>) {
    let attachments = row(bed).task.attachments.unwrap();
    assert_eq!(attachments.len(), 1);
    let one = attachments.into_iter().next().unwrap();
    assert_eq!(one.r#type.as_deref(), Some("AmazonElasticBlockStorage"));
    let details = one.details.unwrap().into_iter();
    let details = details.map(|one| (one.name.unwrap(), one.value.unwrap()));
    (one.status.unwrap(), details.collect())
}

async fn report(bed: &TestBed, task: &Value, status: &str) {
    let containers = json!([{"containerName": "app", "status": status}]);
    let input = json!({
        "task": task["taskArn"], "status": status, "containers": containers,
    });
    call(bed, "ecs", "SubmitTaskStateChange", input).await;
}

#[tokio::test]
async fn a_volume_lives_as_long_as_its_task_or_longer() {
    for delete in [true, false] {
        let bed = bed(&[]).await;
        let policy = json!({"terminationPolicy":
            {"deleteOnTermination": delete}});
        let task = run(&bed, policy).await["tasks"][0].clone();
        assert_eq!(task["lastStatus"], "PROVISIONING");
        let (status, details) = attachment(&bed);
        assert_eq!(status, "PRECREATED");
        let names: Vec<_> = details.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["roleArn", "volumeName", "deleteOnTermination"]);

        assert!(pass(&bed.cx).await);
        assert_eq!(row(&bed).last_status(), "PENDING");
        let (status, details) = attachment(&bed);
        assert_eq!(status, "ATTACHING");
        let (name, id) = &details[0];
        assert_eq!(name, "volumeId");
        let volumes = call(&bed, "ec2", "DescribeVolumes", json!({})).await;
        let volume = &volumes["Volumes"][0];
        assert_eq!(volume["VolumeId"], id.as_str());
        assert_eq!(volume["State"], "in-use");
        assert_eq!(volume["Size"], 2);
        assert_eq!(volume["VolumeType"], "gp3");
        assert_eq!(volume["Tags"][0]["Key"], "AmazonECSCreated");
        let asked = json!({"VolumeId": id});
        let error = refused(&bed, "DeleteVolume", asked.clone()).await;
        assert_eq!(error.code(), "VolumeInUse");

        report(&bed, &task, "RUNNING").await;
        assert_eq!(attachment(&bed).0, "ATTACHED");
        report(&bed, &task, "STOPPED").await;
        assert_eq!(row(&bed).last_status(), "DEPROVISIONING");
        assert!(pass(&bed.cx).await);
        assert_eq!(row(&bed).last_status(), "STOPPED");
        let volumes = call(&bed, "ec2", "DescribeVolumes", json!({})).await;
        let volumes = volumes["Volumes"].as_array().unwrap().clone();
        if delete {
            assert_eq!(attachment(&bed).0, "DELETED");
            assert!(volumes.is_empty());
        } else {
            assert_eq!(attachment(&bed).0, "DETACHED");
            assert_eq!(volumes[0]["State"], "available");
            deleted_by_hand(&bed, asked).await;
        }
    }
}

/// Its row goes when its host has removed the file, and nobody sees it before.
async fn deleted_by_hand(bed: &TestBed, asked: Value) {
    let id = asked["VolumeId"].clone();
    let kept = json!({"volumeIds": [id, "vol-1"]});
    let swept = call(bed, "minato", "SweepVolumes", kept.clone()).await;
    assert_eq!(swept["deletedVolumeIds"], json!([]));
    call(bed, "ec2", "DeleteVolume", asked.clone()).await;
    let error = refused(bed, "DeleteVolume", asked).await;
    assert_eq!(error.code(), "InvalidVolume.NotFound");
    let volumes = call(bed, "ec2", "DescribeVolumes", json!({})).await;
    assert_eq!(volumes["Volumes"], json!([]));
    let swept = call(bed, "minato", "SweepVolumes", kept.clone()).await;
    assert_eq!(swept["deletedVolumeIds"], json!([id]));
    let told = json!({"removedVolumeIds": [id]});
    call(bed, "minato", "SweepVolumes", told).await;
    let swept = call(bed, "minato", "SweepVolumes", kept).await;
    assert_eq!(swept["deletedVolumeIds"], json!([]));
}

#[tokio::test]
async fn a_host_must_be_able_to_make_the_file_system() {
    let bed = bed(&[]).await;
    let xfs = json!({"filesystemType": "xfs"});
    let answer = run(&bed, xfs.clone()).await;
    assert_eq!(answer["tasks"], json!([]));
    let reason = answer["failures"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("ATTRIBUTE"), "{reason}");
    let able = self::bed(&["minato.capability.ebs-xfs"]).await;
    let answer = run(&able, xfs).await;
    assert_eq!(answer["failures"], json!([]));
}

#[tokio::test]
async fn a_service_starts_none_without_its_volume() {
    let bed = bed(&[]).await;
    let create = |volumes: Value| {
        json!({
            "serviceName": "db", "taskDefinition": "db", "desiredCount": 1,
            "volumeConfigurations": volumes,
        })
    };
    let (cx, scope) = (&bed.cx, bed.scope());
    let none = ecs::dispatch(cx, &scope, "CreateService", create(json!([])));
    let error = none.await.unwrap_err();
    assert_eq!(error.code(), "InvalidParameterException");
    let volumes = json!([{"name": "data", "managedEBSVolume": {
        "roleArn": "arn:aws:iam::1:role/ebs", "sizeInGiB": 2,
    }}]);
    let input = create(volumes.clone());
    let made = call(&bed, "ecs", "CreateService", input).await;
    let shown = &made["service"]["deployments"][0];
    assert_eq!(shown["volumeConfigurations"], volumes, "{made:#}");
}
