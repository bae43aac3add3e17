//! What changes networks: what it leaves behind, and what it refuses.

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
    let answer = call(bed, operation, input).await;
    answer.unwrap_or_else(|error| panic!("{operation}: {error:?}"))
}

/// Says that each of these calls is refused with its code.
async fn refused(bed: &TestBed, calls: Vec<(&str, Value, &str)>) {
    for (operation, input, code) in calls {
        match call(bed, operation, input.clone()).await {
            Ok(answer) => panic!("{operation} {input}: {answer}"),
            Err(error) => assert_eq!(error.code(), code, "{operation} {input}"),
        }
    }
}

fn text(answer: &Value, path: &str) -> String {
    let value = answer.pointer(path).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("{path} of {answer}")).to_owned()
}

async fn new_vpc(bed: &TestBed, block: &str) -> String {
    let made = ok(bed, "CreateVpc", json!({"CidrBlock": block})).await;
    text(&made, "/Vpc/VpcId")
}

async fn new_group(bed: &TestBed, name: &str, vpc: Option<&str>) -> String {
    let input = json!({"GroupName": name, "Description": "x", "VpcId": vpc});
    text(&ok(bed, "CreateSecurityGroup", input).await, "/GroupId")
}

/// An interface of a task in a subnet, with these groups.
async fn new_eni(bed: &TestBed, subnet: &str, groups: &[&str]) {
    let request = EniRequest {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        id: 5,
        subnet_id: subnet.to_owned(),
        security_groups: groups.iter().map(|it| (*it).to_owned()).collect(),
        attachment_id: "9".to_owned(),
        task_arn: "arn:task".to_owned(),
        wants_ipv6: true,
        now: bed.scope().now,
    };
    let put = bed.cx.transact(|tx| Ok(allocate_eni(tx, request).unwrap()));
    put.await.unwrap();
}

#[tokio::test]
async fn vpcs_have_a_range_that_nothing_else_has() {
    let bed = TestBed::new();
    let vpc = new_vpc(&bed, "10.1.0.0/16").await;
    let vpcs = ok(&bed, "DescribeVpcs", json!({"VpcIds": [vpc]})).await;
    assert_eq!(vpcs["Vpcs"][0]["CidrBlock"], "10.1.0.0/16");
    let block = |block: &str| json!({"CidrBlock": block});
    let with = |member: &str, value: Value| {
        let mut input = block("10.2.0.0/16");
        input[member] = value;
        input
    };
    let unserved = "UnsupportedOperation";
    refused(
        &bed,
        vec![
            ("CreateVpc", json!({}), "MissingParameter"),
            ("CreateVpc", block("ten"), "InvalidParameterValue"),
            ("CreateVpc", block("10.0.0.0/8"), "InvalidVpc.Range"),
            ("CreateVpc", block("10.2.0.0/29"), "InvalidVpc.Range"),
            ("CreateVpc", block("127.0.0.0/16"), "InvalidVpc.Range"),
            ("CreateVpc", block("172.31.0.0/20"), "InvalidVpc.Range"),
            ("CreateVpc", block("10.1.128.0/20"), "InvalidVpc.Range"),
            ("CreateVpc", with("Ipv6Pool", json!("ipv6pool-1")), unserved),
            ("CreateVpc", with("Ipv4NetmaskLength", json!(20)), unserved),
            (
                "CreateVpc",
                with("InstanceTenancy", json!("dedicated")),
                unserved,
            ),
            ("CreateVpc", with("DryRun", json!(true)), "DryRunOperation"),
            (
                "AssociateVpcCidrBlock",
                json!({"VpcId": vpc, "CidrBlock": "10.9.0.0/16"}),
                unserved,
            ),
        ],
    )
    .await;
    // The default one is the fifth.
    for number in 2..5 {
        new_vpc(&bed, &format!("10.{number}.0.0/16")).await;
    }
    let sixth = ("CreateVpc", block("10.9.0.0/16"), "VpcLimitExceeded");
    refused(&bed, vec![sixth]).await;
}

#[tokio::test]
async fn a_vpc_goes_when_nothing_is_in_it() {
    let bed = TestBed::new();
    let vpc = new_vpc(&bed, "10.1.0.0/16").await;
    let this = || json!({"VpcId": vpc});
    let subnet = json!({"VpcId": vpc, "CidrBlock": "10.1.0.0/24"});
    let made = ok(&bed, "CreateSubnet", subnet).await;
    let subnet = text(&made, "/Subnet/SubnetId");
    let in_use = "DependencyViolation";
    refused(&bed, vec![("DeleteVpc", this(), in_use)]).await;
    ok(&bed, "DeleteSubnet", json!({"SubnetId": subnet})).await;
    let group = new_group(&bed, "web", Some(&vpc)).await;
    refused(&bed, vec![("DeleteVpc", this(), in_use)]).await;
    ok(&bed, "DeleteSecurityGroup", json!({"GroupId": group})).await;
    ok(&bed, "DeleteVpc", this()).await;
    // Its default group went with it.
    let filter = json!({"Filters": [{"Name": "vpc-id", "Values": [vpc]}]});
    let groups = ok(&bed, "DescribeSecurityGroups", filter).await;
    assert_eq!(groups["SecurityGroups"], json!([]));
    let default = ok(&bed, "DescribeVpcs", json!({})).await;
    let default = json!({"VpcId": text(&default, "/Vpcs/0/VpcId")});
    refused(
        &bed,
        vec![
            ("DeleteVpc", this(), "InvalidVpcID.NotFound"),
            ("DeleteVpc", json!({"VpcId": "x"}), "InvalidVpcID.Malformed"),
            ("DeleteVpc", default, "OperationNotPermitted"),
        ],
    )
    .await;
}

#[tokio::test]
async fn attributes_of_a_vpc_are_changed_one_at_a_time() {
    let bed = TestBed::new();
    let vpc = new_vpc(&bed, "10.1.0.0/16").await;
    let on = |is_on: bool| json!({"Value": is_on});
    let names = json!({"VpcId": vpc, "EnableDnsHostnames": on(true)});
    ok(&bed, "ModifyVpcAttribute", names.clone()).await;
    let ask = json!({"VpcId": vpc, "Attribute": "enableDnsHostnames"});
    let shown = ok(&bed, "DescribeVpcAttribute", ask).await;
    assert_eq!(shown["EnableDnsHostnames"]["Value"], true);
    let mut both = names;
    both["EnableDnsSupport"] = on(false);
    let mut none = both.clone();
    none["VpcId"] = json!("vpc-1");
    none["EnableDnsHostnames"] = Value::Null;
    let metrics =
        json!({"VpcId": vpc, "EnableNetworkAddressUsageMetrics": on(true)});
    let modify = "ModifyVpcAttribute";
    refused(
        &bed,
        vec![
            (modify, both, "InvalidParameterCombination"),
            (modify, json!({"VpcId": vpc}), "MissingParameter"),
            (modify, metrics, "UnsupportedOperation"),
            (modify, none, "InvalidVpcID.NotFound"),
        ],
    )
    .await;
}

#[tokio::test]
async fn subnets_are_within_their_vpc_and_apart() {
    let bed = TestBed::new();
    let vpc = new_vpc(&bed, "10.1.0.0/16").await;
    let with = |members: Value| {
        let mut input = json!({"VpcId": vpc, "CidrBlock": "10.1.8.0/24"});
        let members = members.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(members);
        input
    };
    let made = json!({"CidrBlock": "10.1.0.0/24",
                      "AvailabilityZone": "us-east-1b"});
    let made = ok(&bed, "CreateSubnet", with(made)).await;
    assert_eq!(made["Subnet"]["AvailableIpAddressCount"], 251);
    assert_eq!(made["Subnet"]["AvailabilityZone"], "us-east-1b");
    let subnet = text(&made, "/Subnet/SubnetId");
    let create = "CreateSubnet";
    let block = |block: &str| with(json!({"CidrBlock": block}));
    let unserved = "UnsupportedOperation";
    refused(
        &bed,
        vec![
            (create, block("10.2.0.0/24"), "InvalidSubnet.Range"),
            (create, block("10.1.0.0/15"), "InvalidSubnet.Range"),
            (create, block("10.1.0.128/25"), "InvalidSubnet.Conflict"),
            (
                create,
                with(json!({"AvailabilityZone": "mars-1a"})),
                "InvalidParameterValue",
            ),
            (create, with(json!({"VpcId": "vpc-1"})), "InvalidVpcID.NotFound"),
            (
                create,
                with(json!({
                    "CidrBlock": "10.1.9.0/24", "Ipv6CidrBlock": "fd00::/64",
                })),
                "InvalidSubnet.Range",
            ),
            (create, with(json!({"Ipv6Native": true})), unserved),
            (
                "AssociateSubnetCidrBlock",
                json!({"SubnetId": subnet, "Ipv6CidrBlock": "fd00::/64"}),
                "InvalidSubnet.Range",
            ),
        ],
    )
    .await;

    let modify = "ModifySubnetAttribute";
    let change =
        |name: &str| json!({"SubnetId": subnet, name: {"Value": true}});
    ok(&bed, modify, change("MapPublicIpOnLaunch")).await;
    let ask = json!({"SubnetIds": [subnet]});
    let shown = ok(&bed, "DescribeSubnets", ask).await;
    assert_eq!(shown["Subnets"][0]["MapPublicIpOnLaunch"], true);
    let ipv6 = change("AssignIpv6AddressOnCreation");
    refused(&bed, vec![(modify, ipv6, "InvalidParameterValue")]).await;

    // Not while a task is in it.
    new_eni(&bed, &subnet, &[]).await;
    let default = default_subnets(ACCOUNT, REGION)[0].id.clone();
    let delete = "DeleteSubnet";
    let this = |id: &str| json!({"SubnetId": id});
    refused(
        &bed,
        vec![
            (delete, this(&subnet), "DependencyViolation"),
            (delete, this(&default), "OperationNotPermitted"),
            (delete, this("subnet-1"), "InvalidSubnetID.NotFound"),
        ],
    )
    .await;
}

#[tokio::test]
async fn groups_have_names_of_their_own_and_stay_while_they_are_used() {
    let bed = TestBed::new();
    let web = new_group(&bed, "web", None).await;
    let named = |name: &str| json!({"GroupName": name, "Description": "x"});
    let create = "CreateSecurityGroup";
    let wrong = "InvalidParameterValue";
    refused(
        &bed,
        vec![
            (create, named("web"), "InvalidGroup.Duplicate"),
            (create, named("default"), wrong),
            (create, named("sg-x"), wrong),
            (create, named("é"), wrong),
            (create, named(&"x".repeat(256)), wrong),
            (create, named(""), "MissingParameter"),
            (create, json!({"GroupName": "a"}), "MissingParameter"),
        ],
    )
    .await;
    // The same name in another VPC is another group.
    let vpc = new_vpc(&bed, "10.1.0.0/16").await;
    let other = new_group(&bed, "web", Some(&vpc)).await;
    assert_ne!(other, web);

    let from = json!([{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
                       "UserIdGroupPairs": [{"GroupId": web}]}]);
    let db = new_group(&bed, "db", None).await;
    let rule = json!({"GroupId": db, "IpPermissions": from});
    ok(&bed, "AuthorizeSecurityGroupIngress", rule.clone()).await;
    let subnet = default_subnets(ACCOUNT, REGION)[0].id.clone();
    new_eni(&bed, &subnet, &[&db]).await;
    let delete = "DeleteSecurityGroup";
    let this = |id: &str| json!({"GroupId": id});
    refused(
        &bed,
        vec![
            (delete, this(&web), "DependencyViolation"),
            (delete, this(&db), "DependencyViolation"),
            (delete, json!({"GroupName": "default"}), "CannotDelete"),
            (delete, this("sg-1"), "InvalidGroup.NotFound"),
            (delete, this("x"), "InvalidGroupId.Malformed"),
            (delete, json!({}), "MissingParameter"),
        ],
    )
    .await;
    ok(&bed, "RevokeSecurityGroupIngress", rule).await;
    ok(&bed, delete, this(&web)).await;
}

#[tokio::test]
async fn rules_are_added_once_and_taken_back() {
    let bed = TestBed::new();
    let web = new_group(&bed, "web", None).await;
    let vpc = new_vpc(&bed, "10.1.0.0/16").await;
    let strict = new_group(&bed, "strict", Some(&vpc)).await;
    let port = |group: &str, port: u16| {
        json!({"GroupId": group, "IpPermissions": [{
            "IpProtocol": "tcp", "FromPort": port, "ToPort": port,
            "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}],
            "Ipv6Ranges": [{"CidrIpv6": "2001:DB8::1/32"}],
        }]})
    };
    let (authorize, revoke) =
        ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress");
    let added = ok(&bed, authorize, port(&web, 80)).await;
    let rules = added["SecurityGroupRules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "{added}");
    assert_eq!(rules[1]["CidrIpv6"], "2001:db8::/32");
    let elsewhere = json!({"GroupId": web, "IpPermissions": [{
        "IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": strict}]}]});
    refused(
        &bed,
        vec![
            (authorize, port(&web, 80), "InvalidPermission.Duplicate"),
            (authorize, json!({"GroupId": web}), "MissingParameter"),
            (authorize, elsewhere, "InvalidGroup.NotFound"),
            (authorize, port("sg-1", 80), "InvalidGroup.NotFound"),
            (revoke, json!({"GroupId": web}), "MissingParameter"),
            // Only in the default VPC is one that is not there no error.
            (revoke, port(&strict, 80), "InvalidPermission.NotFound"),
        ],
    )
    .await;
    let unknown = ok(&bed, revoke, port(&web, 81)).await;
    let unknown = &unknown["UnknownIpPermissions"];
    assert_eq!(unknown.as_array().map(Vec::len), Some(1), "{unknown}");
    let by_id = json!({"GroupId": web,
        "SecurityGroupRuleIds": [rules[0]["SecurityGroupRuleId"]]});
    let gone = ok(&bed, revoke, by_id.clone()).await;
    assert_eq!(gone["RevokedSecurityGroupRules"][0]["CidrIpv4"], "10.0.0.0/8");
    let again = (revoke, by_id, "InvalidSecurityGroupRuleId.NotFound");
    refused(&bed, vec![again]).await;
    let shown = ok(&bed, "DescribeSecurityGroups", json!({"GroupIds": [web]}));
    let shown = shown.await;
    let left = &shown["SecurityGroups"][0]["IpPermissions"];
    assert_eq!(left[0]["IpRanges"], json!([]), "{left}");
    assert_eq!(left[0]["Ipv6Ranges"][0]["CidrIpv6"], "2001:db8::/32");
    // What one call adds is added whole or not at all.
    let ranges = (0..61).map(|n| json!({"CidrIp": format!("10.0.{n}.0/24")}));
    let ranges: Vec<Value> = ranges.collect();
    let many = json!({"GroupId": web, "IpPermissions": [
        {"IpProtocol": "-1", "IpRanges": ranges}]});
    let code = "RulesPerSecurityGroupLimitExceeded";
    refused(&bed, vec![(authorize, many, code)]).await;
}

#[tokio::test]
async fn a_rule_is_changed_in_its_place() {
    let bed = TestBed::new();
    let web = new_group(&bed, "web", None).await;
    let open = json!({"GroupId": web, "IpPermissions": [{
        "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
        "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "11.0.0.0/8"}],
    }]});
    let added = ok(&bed, "AuthorizeSecurityGroupIngress", open).await;
    let id = text(&added, "/SecurityGroupRules/0/SecurityGroupRuleId");
    let modify = "ModifySecurityGroupRules";
    let to = |id: &str, member: &str, peer: &str| {
        json!({"GroupId": web, "SecurityGroupRules": [{
            "SecurityGroupRuleId": id, "SecurityGroupRule": {
                "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
                "Description": "now", member: peer,
        }}]})
    };
    ok(&bed, modify, to(&id, "CidrIpv4", "12.0.0.0/8")).await;
    let describe = "DescribeSecurityGroupRules";
    let ask = || json!({"SecurityGroupRuleIds": [id]});
    let rule = ok(&bed, describe, ask()).await["SecurityGroupRules"][0].take();
    assert_eq!(rule["CidrIpv4"], "12.0.0.0/8");
    assert_eq!(rule["Description"], "now");
    refused(
        &bed,
        vec![
            (modify, json!({"GroupId": web}), "MissingParameter"),
            (
                modify,
                to("sgr-1", "CidrIpv4", "12.0.0.0/8"),
                "InvalidSecurityGroupRuleId.NotFound",
            ),
            (
                modify,
                to(&id, "CidrIpv4", "11.0.0.0/8"),
                "InvalidPermission.Duplicate",
            ),
            (modify, to(&id, "CidrIpv6", "::/0"), "InvalidParameterValue"),
        ],
    )
    .await;

    let update = "UpdateSecurityGroupRuleDescriptionsIngress";
    let named = |id: &str| {
        json!({"GroupId": web, "SecurityGroupRuleDescriptions":
            [{"SecurityGroupRuleId": id, "Description": "later"}]})
    };
    ok(&bed, update, named(&id)).await;
    let rule = ok(&bed, describe, ask()).await["SecurityGroupRules"][0].take();
    assert_eq!(rule["Description"], "later");
    // Not by the operation of the other direction.
    let egress = "UpdateSecurityGroupRuleDescriptionsEgress";
    let none = "InvalidSecurityGroupRuleId.NotFound";
    let neither = json!({"GroupId": web});
    refused(
        &bed,
        vec![
            (egress, named(&id), none),
            (update, neither, "InvalidParameterCombination"),
        ],
    )
    .await;
}

#[tokio::test]
async fn tags_are_set_on_all_resources_of_a_call_or_on_none() {
    let bed = TestBed::new();
    let web = new_group(&bed, "web", None).await;
    let subnet = default_subnets(ACCOUNT, REGION)[0].id.clone();
    let tag = |ids: &[&str], key: &str, value: &str| json!({"Resources": ids, "Tags": [{"Key": key, "Value": value}]});
    let create = "CreateTags";
    ok(&bed, create, tag(&[&web, &subnet], "team", "a")).await;
    ok(&bed, create, tag(&[&web], "stage", "test")).await;
    let wrong = "InvalidParameterValue";
    refused(
        &bed,
        vec![
            (
                create,
                tag(&[&web, "vpc-1"], "lost", "x"),
                "InvalidVpcID.NotFound",
            ),
            (create, tag(&[&web, "i-1"], "lost", "x"), "InvalidID"),
            (create, tag(&[&web], "aws:x", "x"), wrong),
            (create, tag(&[&web], "", "x"), wrong),
            (create, tag(&[&web], "x", &"y".repeat(257)), wrong),
            (create, tag(&[], "x", "y"), "MissingParameter"),
            (create, json!({"Resources": [web]}), "MissingParameter"),
        ],
    )
    .await;
    let of_web = json!({"Filters":
        [{"Name": "resource-id", "Values": [web]}]});
    let keys = |answer: &Value| -> Vec<String> {
        let tags = answer["Tags"].as_array().unwrap().iter();
        tags.map(|tag| text(tag, "/Key")).collect()
    };
    let shown = ok(&bed, "DescribeTags", of_web.clone()).await;
    assert_eq!(keys(&shown), ["stage", "team"]);
    // A value says that only the tag with it goes.
    let delete = "DeleteTags";
    ok(&bed, delete, tag(&[&web], "team", "b")).await;
    ok(&bed, delete, tag(&[&web], "stage", "test")).await;
    let shown = ok(&bed, "DescribeTags", of_web.clone()).await;
    assert_eq!(keys(&shown), ["team"]);
    ok(&bed, delete, json!({"Resources": [web]})).await;
    let shown = ok(&bed, "DescribeTags", of_web).await;
    assert_eq!(shown["Tags"], json!([]));
}
