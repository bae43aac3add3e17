use minato_wire::ApiError;
use serde_json::{Value, json};

use super::defaults::default_subnets;
use super::eni::{EniRequest, allocate_eni};
use super::rows::Cidr6;
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

/// The code of a refused call.
async fn refused(bed: &TestBed, operation: &str, input: Value) -> String {
    match call(bed, operation, input.clone()).await {
        Ok(answer) => panic!("{operation} {input}: {answer}"),
        Err(error) => error.code().to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The id and the IPv6 block of a new VPC.
async fn new_vpc(bed: &TestBed, block: &str) -> (String, String) {
    let input =
        json!({"CidrBlock": block, "AmazonProvidedIpv6CidrBlock": true});
    let made = ok(bed, "CreateVpc", input).await;
    let blocks = &made["Vpc"]["Ipv6CidrBlockAssociationSet"];
    assert_eq!(blocks[0]["Ipv6CidrBlockState"]["State"], "associated");
    assert_eq!(blocks[0]["Ipv6Pool"], "Amazon");
    (text(&made["Vpc"]["VpcId"]), text(&blocks[0]["Ipv6CidrBlock"]))
}

/// A /64 of a /56.
fn part(block: &str, number: u8) -> String {
    let base = Cidr6::parse(block).unwrap();
    Cidr6::around(base.at(u128::from(number) << 64), 64).to_string()
}

#[tokio::test]
async fn vpcs_have_different_parts_of_one_local_range() {
    let bed = TestBed::new();
    let (_, a) = new_vpc(&bed, "10.1.0.0/16").await;
    let (second, b) = new_vpc(&bed, "10.2.0.0/16").await;
    for block in [&a, &b] {
        assert!(block.starts_with("fd") && block.ends_with("/56"), "{block}");
    }
    assert_ne!(a, b);
    let site =
        |block: &str| Cidr6::around(Cidr6::parse(block).unwrap().base, 48);
    assert_eq!(site(&a), site(&b));
    // What was given back may be had again.
    ok(&bed, "DeleteVpc", json!({"VpcId": second})).await;
    assert_eq!(new_vpc(&bed, "10.3.0.0/16").await.1, b);
    let filter = json!({"Filters": [{
        "Name": "ipv6-cidr-block-association.ipv6-cidr-block", "Values": [a],
    }]});
    let found = ok(&bed, "DescribeVpcs", filter).await;
    assert_eq!(found["Vpcs"].as_array().unwrap().len(), 1);
    let routes = ok(
        &bed,
        "DescribeRouteTables",
        json!({"Filters": [{
            "Name": "route.destination-ipv6-cidr-block", "Values": [a],
        }]}),
    )
    .await;
    assert_eq!(
        routes["RouteTables"][0]["Routes"][1]["GatewayId"], "local",
        "{routes:#}"
    );
}

#[tokio::test]
async fn a_vpcs_own_block_needs_a_pool() {
    let bed = TestBed::new();
    for (more, code) in [
        (json!({"Ipv6CidrBlock": "fd00::/56"}), "MissingParameter"),
        (
            json!({"Ipv6CidrBlock": "fd00::/56", "Ipv6Pool": "p"}),
            "UnsupportedOperation",
        ),
        (
            json!({"AmazonProvidedIpv6CidrBlock": true, "Ipv6Pool": "p"}),
            "InvalidParameterCombination",
        ),
        (
            json!({"Ipv6CidrBlockNetworkBorderGroup": "elsewhere"}),
            "InvalidParameterValue",
        ),
        (json!({"Ipv6IpamPoolId": "i"}), "UnsupportedOperation"),
    ] {
        let mut input = json!({"CidrBlock": "10.1.0.0/16"});
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        assert_eq!(refused(&bed, "CreateVpc", input).await, code, "{more}");
    }
}

#[tokio::test]
async fn subnets_have_a_part_of_their_vpcs_block() {
    let bed = TestBed::new();
    let (vpc, block) = new_vpc(&bed, "10.1.0.0/16").await;
    let subnet = |cidr: &str, ipv6: &str| json!({"VpcId": vpc, "CidrBlock": cidr, "Ipv6CidrBlock": ipv6});
    let create = "CreateSubnet";
    let first = part(&block, 1);
    let made = ok(&bed, create, subnet("10.1.1.0/24", &first)).await;
    let shown = &made["Subnet"];
    assert_eq!(shown["AssignIpv6AddressOnCreation"], false);
    let association = &shown["Ipv6CidrBlockAssociationSet"][0];
    assert_eq!(association["Ipv6CidrBlock"], first.as_str());
    for (ipv6, code) in [
        (first.as_str(), "InvalidSubnet.Conflict"),
        ("fd00:1::/64", "InvalidSubnet.Range"),
        (block.as_str(), "InvalidSubnet.Range"),
        ("::/129", "InvalidParameterValue"),
    ] {
        let input = subnet("10.1.2.0/24", ipv6);
        assert_eq!(refused(&bed, create, input).await, code, "{ipv6}");
    }
    let native = json!({"VpcId": vpc, "Ipv6Native": true});
    assert_eq!(refused(&bed, create, native).await, "UnsupportedOperation");
    let modify = "ModifySubnetAttribute";
    let assign = |id: &str, value: bool| json!({"SubnetId": id, "AssignIpv6AddressOnCreation": {"Value": value}});
    ok(&bed, modify, assign(&text(&shown["SubnetId"]), true)).await;
    let ids = json!({"SubnetIds": [shown["SubnetId"]]});
    let now = ok(&bed, "DescribeSubnets", ids).await;
    assert_eq!(now["Subnets"][0]["AssignIpv6AddressOnCreation"], true);
    // Without a block there is nothing to assign.
    let plain = &default_subnets(ACCOUNT, REGION)[0].id;
    let code = refused(&bed, modify, assign(plain, true)).await;
    assert_eq!(code, "InvalidParameterValue");
    ok(&bed, modify, assign(plain, false)).await;
}

async fn allocate(bed: &TestBed, subnet: &str) -> String {
    let request = EniRequest {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        id: 77,
        subnet_id: subnet.to_owned(),
        security_groups: vec![],
        attachment_id: "9".to_owned(),
        task_arn: "arn:task".to_owned(),
        wants_ipv6: true,
        now: bed.scope().now,
    };
    let put = bed.cx.transact(|tx| Ok(allocate_eni(tx, request).unwrap().id));
    put.await.unwrap()
}

#[tokio::test]
async fn the_default_vpc_gets_a_block_and_gives_it_back() {
    let bed = TestBed::new();
    let vpcs = ok(&bed, "DescribeVpcs", json!({})).await;
    let vpc = text(&vpcs["Vpcs"][0]["VpcId"]);
    assert_eq!(vpcs["Vpcs"][0]["Ipv6CidrBlockAssociationSet"], json!([]));
    let subnet = default_subnets(ACCOUNT, REGION)[0].id.clone();
    let to_vpc = json!({"VpcId": vpc, "AmazonProvidedIpv6CidrBlock": true});
    let made = ok(&bed, "AssociateVpcCidrBlock", to_vpc.clone()).await;
    let of_vpc = &made["Ipv6CidrBlockAssociation"];
    let again = refused(&bed, "AssociateVpcCidrBlock", to_vpc).await;
    assert_eq!(again, "CidrLimitExceeded");
    let block = part(&text(&of_vpc["Ipv6CidrBlock"]), 7);
    let to_subnet = json!({"SubnetId": subnet, "Ipv6CidrBlock": block});
    let operation = "AssociateSubnetCidrBlock";
    let made = ok(&bed, operation, to_subnet.clone()).await;
    let of_subnet = &made["Ipv6CidrBlockAssociation"];
    let again = refused(&bed, operation, to_subnet).await;
    assert_eq!(again, "CidrLimitExceeded");
    ok(
        &bed,
        "ModifySubnetAttribute",
        json!({
            "SubnetId": subnet, "AssignIpv6AddressOnCreation": {"Value": true},
        }),
    )
    .await;
    // An interface holds the subnet's, and that the VPC's.
    let eni = allocate(&bed, &subnet).await;
    let ids = json!({"NetworkInterfaceIds": [eni]});
    let shown = ok(&bed, "DescribeNetworkInterfaces", ids).await;
    let shown = &shown["NetworkInterfaces"][0];
    let address = text(&shown["Ipv6Addresses"][0]["Ipv6Address"]);
    let inside = Cidr6::parse(&format!("{address}/128")).unwrap();
    assert!(Cidr6::parse(&block).unwrap().holds(inside), "{address}");
    let filter = json!({"Filters": [{
        "Name": "ipv6-addresses.ipv6-address", "Values": [address],
    }]});
    let found = ok(&bed, "DescribeNetworkInterfaces", filter).await;
    assert_eq!(found["NetworkInterfaces"].as_array().unwrap().len(), 1);
    let id = |of: &Value| json!({"AssociationId": of["AssociationId"]});
    let (from_vpc, from_subnet) =
        ("DisassociateVpcCidrBlock", "DisassociateSubnetCidrBlock");
    let code = refused(&bed, from_subnet, id(of_subnet)).await;
    assert_eq!(code, "DependencyViolation");
    let code = refused(&bed, from_vpc, id(of_vpc)).await;
    assert_eq!(code, "DependencyViolation");
    let gone = bed.cx.transact(move |tx| {
        super::eni::release_eni(tx, ACCOUNT, REGION, &eni);
        Ok(())
    });
    gone.await.unwrap();
    ok(&bed, from_subnet, id(of_subnet)).await;
    ok(&bed, from_vpc, id(of_vpc)).await;
    for (operation, code) in [
        (from_subnet, "InvalidSubnetCidrBlockAssociationID.NotFound"),
        (from_vpc, "InvalidVpcCidrBlockAssociationID.NotFound"),
    ] {
        let input = json!({"AssociationId": "none"});
        assert_eq!(refused(&bed, operation, input).await, code);
    }
    let vpcs = ok(&bed, "DescribeVpcs", json!({})).await;
    let own = &vpcs["Vpcs"][0]["CidrBlockAssociationSet"][0];
    let code = refused(&bed, from_vpc, id(own)).await;
    assert_eq!(code, "OperationNotPermitted");
}

/// The egress of a group, by family.
async fn egress(bed: &TestBed, group: &str) -> Vec<(Value, Value)> {
    let input = json!({"GroupIds": [group]});
    let shown = ok(bed, "DescribeSecurityGroups", input).await;
    let all = &shown["SecurityGroups"][0]["IpPermissionsEgress"];
    let all = all.as_array().unwrap().iter();
    all.map(|it| (it["IpRanges"].clone(), it["Ipv6Ranges"].clone())).collect()
}

#[tokio::test]
async fn new_groups_let_all_out_by_ipv6_where_the_vpc_has_it() {
    let bed = TestBed::new();
    let (vpc, _) = new_vpc(&bed, "10.1.0.0/16").await;
    let both =
        vec![(json!([{"CidrIp": "0.0.0.0/0"}]), json!([{"CidrIpv6": "::/0"}]))];
    let filter = json!({"Filters": [{"Name": "vpc-id", "Values": [vpc]}]});
    let groups = ok(&bed, "DescribeSecurityGroups", filter).await;
    let default = text(&groups["SecurityGroups"][0]["GroupId"]);
    assert_eq!(egress(&bed, &default).await, both);
    let create = "CreateSecurityGroup";
    let input = |name: &str, vpc: Option<&str>| json!({"GroupName": name, "Description": "x", "VpcId": vpc});
    let own = ok(&bed, create, input("own", Some(&vpc))).await;
    assert_eq!(egress(&bed, &text(&own["GroupId"])).await, both);
    // Groups of a VPC that gets a block later, unless they were changed.
    let as_new = ok(&bed, create, input("as-new", None)).await;
    let changed = ok(&bed, create, input("changed", None)).await;
    let (as_new, changed) =
        (text(&as_new["GroupId"]), text(&changed["GroupId"]));
    let only_v4 = vec![(both[0].0.clone(), json!([]))];
    assert_eq!(egress(&bed, &as_new).await, only_v4);
    ok(
        &bed,
        "RevokeSecurityGroupEgress",
        json!({
            "GroupId": changed, "IpPermissions": [
                {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            ],
        }),
    )
    .await;
    let vpcs = ok(
        &bed,
        "DescribeVpcs",
        json!({"Filters": [
            {"Name": "is-default", "Values": ["true"]},
        ]}),
    )
    .await;
    ok(&bed, "AssociateVpcCidrBlock", json!({
        "VpcId": vpcs["Vpcs"][0]["VpcId"], "AmazonProvidedIpv6CidrBlock": true,
    }))
    .await;
    assert_eq!(egress(&bed, &as_new).await, both);
    assert_eq!(egress(&bed, &changed).await, vec![]);
}
