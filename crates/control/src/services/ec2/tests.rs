use minato_wire::ApiError;
use serde_json::{Value, json};

use super::defaults::default_subnets;
use super::eni::{EniRequest, allocate_eni};
use crate::testing::{ACCOUNT, REGION, TestBed};

async fn call(
    bed: &TestBed,
    operation: &str,
    input: Value,
) -> Result<Value, ApiError> {
    super::dispatch(&bed.cx, &bed.scope(), operation, input).await
}

async fn ok(bed: &TestBed, operation: &str, input: Value) -> Value {
    call(bed, operation, input)
        .await
        .unwrap_or_else(|e| panic!("{operation}: {e:?}"))
}

fn filter(name: &str, value: &str) -> Value {
    json!({"Filters": [{"Name": name, "Values": [value]}]})
}

#[tokio::test]
async fn the_default_network_is_there_when_first_asked_for() {
    let bed = TestBed::new();
    let vpcs = ok(&bed, "DescribeVpcs", filter("is-default", "true")).await;
    let vpc = &vpcs["Vpcs"][0];
    assert_eq!(vpc["CidrBlock"], "172.31.0.0/16");
    assert_eq!(vpc["IsDefault"], true);
    let of_vpc = filter("vpc-id", vpc["VpcId"].as_str().unwrap());
    let subnets = ok(&bed, "DescribeSubnets", of_vpc.clone()).await;
    let subnets = subnets["Subnets"].as_array().unwrap();
    assert_eq!(subnets.len(), 3);
    assert!(subnets.iter().all(|s| s["AvailableIpAddressCount"] == 4091));
    let groups = ok(&bed, "DescribeSecurityGroups", of_vpc).await;
    assert_eq!(groups["SecurityGroups"][0]["GroupName"], "default");
    let rule = &groups["SecurityGroups"][0]["IpPermissionsEgress"][0];
    assert_eq!(rule["IpRanges"][0]["CidrIp"], "0.0.0.0/0");
    let zones = ok(&bed, "DescribeAvailabilityZones", json!({})).await;
    let names: Vec<_> = zones["AvailabilityZones"]
        .as_array()
        .unwrap()
        .iter()
        .map(|zone| zone["ZoneName"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["us-east-1a", "us-east-1b", "us-east-1c"]);
}

#[tokio::test]
async fn interfaces_are_found_by_what_ecs_tells_of_them() {
    let bed = TestBed::new();
    ok(&bed, "DescribeVpcs", json!({})).await;
    let subnet = default_subnets(ACCOUNT, REGION)[1].id.clone();
    let request = EniRequest {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        id: 5,
        subnet_id: subnet.clone(),
        security_groups: vec![],
        attachment_id: "9".to_owned(),
        task_arn: "arn:task".to_owned(),
        wants_ipv6: false,
        now: bed.scope().now,
    };
    let eni = bed
        .cx
        .transact(|tx| Ok(allocate_eni(tx, request).unwrap()))
        .await
        .unwrap();
    let by_id = json!({"NetworkInterfaceIds": [eni.id]});
    let found = ok(&bed, "DescribeNetworkInterfaces", by_id).await;
    let found = &found["NetworkInterfaces"][0];
    assert_eq!(found["PrivateIpAddress"], "172.31.16.4");
    assert_eq!(found["Status"], "in-use");
    assert_eq!(found["Groups"][0]["GroupName"], "default");
    assert_eq!(
        found["Description"],
        "arn:aws:ecs:us-east-1:000000000000:attachment/9"
    );
    let wild = filter("addresses.private-ip-address", "172.31.16.*");
    let found = ok(&bed, "DescribeNetworkInterfaces", wild).await;
    assert_eq!(found["NetworkInterfaces"].as_array().unwrap().len(), 1);
    let by_id = json!({"SubnetIds": [subnet]});
    let subnets = ok(&bed, "DescribeSubnets", by_id).await;
    assert_eq!(subnets["Subnets"][0]["AvailableIpAddressCount"], 4090);
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let bed = TestBed::new();
    for (operation, input, code) in [
        ("DescribeVpcs", json!({"VpcIds": ["vpc-1"]}), "InvalidVpcID.NotFound"),
        ("DescribeVpcs", json!({"VpcIds": ["x"]}), "InvalidVpcID.Malformed"),
        (
            "DescribeSubnets",
            json!({"SubnetIds": ["subnet-1"]}),
            "InvalidSubnetID.NotFound",
        ),
        (
            "DescribeSecurityGroups",
            json!({"GroupNames": ["nope"]}),
            "InvalidGroup.NotFound",
        ),
        (
            "DescribeNetworkInterfaces",
            json!({"NetworkInterfaceIds": ["eni-1"]}),
            "InvalidNetworkInterfaceID.NotFound",
        ),
        ("DescribeVpcs", filter("no-such", "x"), "InvalidParameterValue"),
        ("DescribeVpcs", json!({"DryRun": true}), "DryRunOperation"),
        ("DescribeVpcs", json!({"MaxResults": 1}), "InvalidParameterValue"),
        ("DescribeVpcs", json!({"NextToken": "zz"}), "InvalidPaginationToken"),
        (
            "DescribeAvailabilityZones",
            json!({"ZoneNames": ["mars-1a"]}),
            "InvalidParameterValue",
        ),
    ] {
        let error = call(&bed, operation, input.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{operation} {input}");
    }
    let none = filter("tag:Name", "*");
    let vpcs = ok(&bed, "DescribeVpcs", none).await;
    assert_eq!(vpcs["Vpcs"], json!([]));
}
