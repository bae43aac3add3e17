//! Which tasks get an IPv6 address with their interface.

use minato_store::Key;
use minato_wire::ApiError;
use serde_json::{Value, json};

use super::pass;
use crate::services::ec2::defaults::default_subnets;
use crate::services::{ec2, ecs};
use crate::sessions::payload;
use crate::tables::Task;
use crate::testing::{ACCOUNT, REGION, TestBed, instance};

async fn call(bed: &TestBed, service: &str, name: &str, input: Value) -> Value {
    let (cx, scope) = (&bed.cx, bed.scope());
    let answer = match service {
        "ecs" => ecs::dispatch(cx, &scope, name, input).await,
        _ => ec2::dispatch(cx, &scope, name, input).await,
    };
    answer.unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

/// A cluster of one instance, with IPv6 or not, and the definition `web`,
/// whose tasks go to a subnet with an IPv6 block.
async fn bed(has_ipv6: bool) -> TestBed {
    let bed = TestBed::new();
    call(&bed, "ecs", "CreateCluster", json!({})).await;
    let definition = json!({
        "family": "web", "networkMode": "awsvpc",
        "containerDefinitions":
            [{"name": "app", "image": "busybox", "memory": 128}],
    });
    let made = call(&bed, "ecs", "RegisterTaskDefinition", definition).await;
    let needed = made["taskDefinition"]["requiresAttributes"].clone();
    let (mut host, row) = instance(1, "us-east-1a");
    let names = needed.as_array().unwrap().iter();
    let names = names.map(|one| one["name"].as_str().unwrap().to_owned());
    host.attributes.extend(names.map(|name| (name, None)));
    if has_ipv6 {
        let name = "ecs.capability.task-eni.ipv6".to_owned();
        host.attributes.insert(name, None);
    }
    let put = bed.cx.transact(move |tx| -> Result<(), ApiError> {
        tx.put(host);
        tx.put(row);
        Ok(())
    });
    put.await.unwrap();
    let filter = json!({"Filters":
        [{"Name": "is-default", "Values": ["true"]}]});
    let vpcs = call(&bed, "ec2", "DescribeVpcs", filter).await;
    let made = call(&bed, "ec2", "AssociateVpcCidrBlock", json!({
        "VpcId": vpcs["Vpcs"][0]["VpcId"], "AmazonProvidedIpv6CidrBlock": true,
    }))
    .await;
    let block = &made["Ipv6CidrBlockAssociation"]["Ipv6CidrBlock"];
    let block = block.as_str().unwrap().replace("/56", "/64");
    let subnet = subnet();
    call(
        &bed,
        "ec2",
        "AssociateSubnetCidrBlock",
        json!({
            "SubnetId": subnet, "Ipv6CidrBlock": block,
        }),
    )
    .await;
    assign(&bed, true).await;
    bed
}

fn subnet() -> String {
    default_subnets(ACCOUNT, REGION)[0].id.clone()
}

async fn assign(bed: &TestBed, value: bool) {
    call(bed, "ec2", "ModifySubnetAttribute", json!({
        "SubnetId": subnet(), "AssignIpv6AddressOnCreation": {"Value": value},
    }))
    .await;
}

/// A task with its interface: as the API shows it, and as its agent hears it.
async fn run(bed: &TestBed) -> (Value, Value) {
    let input = json!({
        "taskDefinition": "web", "launchType": "EC2",
        "networkConfiguration":
            {"awsvpcConfiguration": {"subnets": [subnet()]}},
    });
    let ran = call(bed, "ecs", "RunTask", input).await;
    assert_eq!(ran["failures"], json!([]), "{ran:#}");
    let arn = &ran["tasks"][0]["taskArn"];
    assert!(pass(&bed.cx).await);
    let input = json!({"tasks": [arn]});
    let shown = call(bed, "ecs", "DescribeTasks", input).await;
    let rows = bed.cx.snapshot();
    let mut tasks = rows.scan::<Task>(&Key::root());
    let row = tasks.find(|row| row.arn() == *arn).unwrap();
    let told = payload::task(&rows, &row).unwrap();
    let told = serde_json::to_value(&told.elastic_network_interfaces[0]);
    (shown["tasks"][0].clone(), told.unwrap())
}

fn address(shown: &Value) -> &Value {
    &shown["containers"][0]["networkInterfaces"][0]["ipv6Address"]
}

#[tokio::test]
async fn an_interface_has_ipv6_where_all_agree() {
    let bed = bed(true).await;
    let (shown, told) = run(&bed).await;
    let given = address(&shown).as_str().unwrap();
    assert!(given.starts_with("fd"), "{given}");
    let details = shown["attachments"][0]["details"].as_array().unwrap();
    let detail = json!({"name": "ipv6Address", "value": given});
    assert!(details.contains(&detail), "{details:#?}");
    assert_eq!(
        told["ipv6Addresses"],
        json!([{"address": given, "primary": true}])
    );
    let gateway = told["subnetGatewayIpv6Address"].as_str().unwrap();
    assert!(gateway.ends_with("::1/64"), "{gateway}");
    // Not the next one, where the subnet does not give any.
    assign(&bed, false).await;
    let (shown, told) = run(&bed).await;
    assert_eq!(*address(&shown), Value::Null);
    assert_eq!(told["ipv6Addresses"], json!([]));
    assert_eq!(told["subnetGatewayIpv6Address"], Value::Null);
}

#[tokio::test]
async fn a_host_without_ipv6_gets_tasks_without_it() {
    let bed = bed(false).await;
    assert_eq!(*address(&run(&bed).await.0), Value::Null);
}

#[tokio::test]
async fn the_account_setting_decides_when_a_task_is_started() {
    let bed = bed(true).await;
    for (value, is_given) in [("disabled", false), ("enabled", true)] {
        let input = json!({"name": "dualStackIPv6", "value": value});
        call(&bed, "ecs", "PutAccountSettingDefault", input).await;
        let (shown, _) = run(&bed).await;
        assert_eq!(address(&shown).is_string(), is_given, "{value}");
    }
}
