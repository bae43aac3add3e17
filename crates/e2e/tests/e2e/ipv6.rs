//! IPv6 from the VPC to the packet, through the stock AWS CLI and boto3.

use std::fs;
use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

use crate::security_groups::{process, text};

/// How long a change may take to reach the kernel.
const SOON: Duration = Duration::from_secs(10);
/// What the server's page says.
const PAGE: &str = "welcome";

fn aws(site: &Site, args: &[&str]) -> Value {
    site.aws(args).unwrap_or_else(|error| panic!("{args:?}: {error:#}"))
}

/// A running task, what DescribeTasks says of it, and a process in it.
struct Node {
    arn: String,
    shown: Value,
    pid: String,
}

impl Node {
    fn interface(&self) -> &Value {
        &self.shown["containers"][0]["networkInterfaces"][0]
    }

    fn ipv6(&self) -> String {
        text(&self.interface()["ipv6Address"])
    }
}

/// Starts a web server that listens on both families.
fn start(site: &mut Site, name: &str, subnet: &str, group: &str) -> Node {
    let script = format!(
        "echo {PAGE} > /tmp/index.html; \
         exec httpd -f -p '[::]:80' -h /tmp -r {name}"
    );
    let definition = json!({
        "family": name, "networkMode": "awsvpc",
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 32,
            "stopTimeout": 2, "command": ["/bin/sh", "-c", script],
        }],
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    let input = json!({
        "taskDefinition": name, "launchType": "EC2",
        "networkConfiguration": {"awsvpcConfiguration": {
            "subnets": [subnet], "securityGroups": [group],
        }},
    });
    let ran = site.call("ecs", "run_task", input).unwrap();
    assert_eq!(ran["failures"], json!([]), "{ran:#}");
    let arn = text(&ran["tasks"][0]["taskArn"]);
    let shown = site.wait_task(&arn, "RUNNING").unwrap();
    let pid = wait_for(SOON, || process(site, name)).unwrap();
    Node { arn, shown, pid }
}

/// What a new connection from a task to a server brings.
fn get(site: &Site, from: &Node, host: &str) -> bool {
    let url = format!("http://{host}/");
    let wget = ["timeout", "1", "busybox", "wget", "-q", "-O", "-", &url];
    let enter = ["-t", from.pid.as_str(), "-n"];
    let said = site.run("nsenter", &[&enter[..], &wget[..]].concat());
    said.is_ok_and(|said| said.contains(PAGE))
}

fn wait_reach(site: &Site, from: &Node, host: &str, is_open: bool) {
    let is_there = || (get(site, from, host) == is_open).then_some(());
    let found = wait_for(SOON, is_there);
    assert!(
        found.is_some(),
        "{host} is never {is_open}; Minato said: {}",
        site.log()
    );
}

/// What the metadata endpoint says of the task's network.
fn metadata(site: &Site, node: &Node) -> Value {
    let environ = fs::read(format!("/proc/{}/environ", node.pid)).unwrap();
    let uri = environ
        .split(|byte| *byte == 0)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .find_map(|line| line.strip_prefix("ECS_CONTAINER_METADATA_URI_V4="))
        .unwrap_or_else(|| panic!("no metadata for {}", node.arn))
        .to_owned();
    let wget = ["busybox", "wget", "-q", "-O", "-", &uri];
    let enter = ["-t", node.pid.as_str(), "-n"];
    let said = site.run("nsenter", &[&enter[..], &wget[..]].concat()).unwrap();
    let shown: Value = serde_json::from_str(&said).unwrap();
    shown["Networks"][0].clone()
}

/// A VPC with IPv6 and a subnet that assigns addresses, and their blocks.
fn dual_stack_subnet(site: &Site) -> (String, String, String) {
    let vpc = aws(
        site,
        &[
            "ec2",
            "create-vpc",
            "--cidr-block",
            "10.77.0.0/16",
            "--amazon-provided-ipv6-cidr-block",
        ],
    );
    let vpc = text(&vpc["Vpc"]["VpcId"]);
    let shown = aws(site, &["ec2", "describe-vpcs", "--vpc-ids", &vpc]);
    let block = &shown["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0];
    assert_eq!(block["Ipv6CidrBlockState"]["State"], "associated");
    let block = text(&block["Ipv6CidrBlock"]);
    let part = block.replace("/56", "/64");
    let subnet = aws(
        site,
        &[
            "ec2",
            "create-subnet",
            "--vpc-id",
            &vpc,
            "--cidr-block",
            "10.77.1.0/24",
            "--ipv6-cidr-block",
            &part,
        ],
    );
    let subnet = text(&subnet["Subnet"]["SubnetId"]);
    let modify = [
        "ec2",
        "modify-subnet-attribute",
        "--subnet-id",
        &subnet,
        "--assign-ipv6-address-on-creation",
    ];
    aws(site, &modify);
    (vpc, subnet, part)
}

/// The address that task, attachment, interface and metadata agree about.
fn shown_alike(site: &Site, node: &Node, block: &str) -> String {
    let address = node.ipv6();
    let details = node.shown["attachments"][0]["details"].clone();
    let told = details.as_array().unwrap().iter();
    let mut told = told.filter(|it| it["name"] == "ipv6Address");
    assert_eq!(told.next().unwrap()["value"], address.as_str());
    let filter = format!("Name=ipv6-addresses.ipv6-address,Values={address}");
    let shown = aws(
        site,
        &["ec2", "describe-network-interfaces", "--filters", &filter],
    );
    let shown = shown["NetworkInterfaces"].as_array().unwrap();
    assert_eq!(shown.len(), 1);
    let has = metadata(site, node);
    assert_eq!(has["IPv6Addresses"], json!([address]), "{has:#}");
    assert_eq!(has["IPv6SubnetCIDRBlock"], block, "{has:#}");
    address
}

#[test]
fn tasks_of_a_dual_stack_subnet_reach_each_other_by_ipv6() {
    let mut site = Site::start().unwrap();
    let (vpc, subnet, block) = dual_stack_subnet(&site);
    let group = aws(
        &site,
        &[
            "ec2",
            "create-security-group",
            "--group-name",
            "own",
            "--description",
            "own",
            "--vpc-id",
            &vpc,
        ],
    );
    let group = text(&group["GroupId"]);
    let one = start(&mut site, "one", &subnet, &group);
    let two = start(&mut site, "two", &subnet, &group);
    let address = shown_alike(&site, &two, &block);

    // Nothing in, then only what the group says, then nothing again.
    let url = format!("[{address}]");
    assert!(get(&site, &two, &url), "itself");
    assert!(!get(&site, &one, &url));
    let permission = json!([{
        "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
        "Ipv6Ranges": [{"CidrIpv6": block}],
    }])
    .to_string();
    let rule = |operation: &str| {
        let args = ["ec2", operation, "--group-id", &group];
        let more = ["--ip-permissions", &permission];
        aws(&site, &[&args[..], &more[..]].concat())
    };
    rule("authorize-security-group-ingress");
    wait_reach(&site, &one, &url, true);
    let ipv4 = text(&two.interface()["privateIpv4Address"]);
    assert!(!get(&site, &one, &ipv4), "the rule is of IPv6");
    rule("revoke-security-group-ingress");
    wait_reach(&site, &one, &url, false);
    // A group that refers to itself lets both families in.
    let members = json!({"GroupId": group, "IpPermissions": [{
        "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
        "UserIdGroupPairs": [{"GroupId": group}],
    }]});
    site.call("ec2", "authorize_security_group_ingress", members).unwrap();
    wait_reach(&site, &one, &url, true);
    wait_reach(&site, &one, &ipv4, true);
    // Without Minato, too, and after it.
    site.kill_minato().unwrap();
    assert!(get(&site, &one, &url));
    site.up().unwrap();
    assert!(get(&site, &one, &url));

    for node in [&one, &two] {
        site.stop_task(&node.arn).unwrap();
    }
    for args in [
        ["ec2", "delete-subnet", "--subnet-id", &subnet],
        ["ec2", "delete-security-group", "--group-id", &group],
        ["ec2", "delete-vpc", "--vpc-id", &vpc],
    ] {
        let gone = wait_for(SOON, || site.aws(&args).ok());
        gone.unwrap_or_else(|| panic!("{args:?} never succeeds"));
    }
    site.finish().unwrap();
}

#[test]
fn the_account_setting_keeps_tasks_to_ipv4() {
    let mut site = Site::start().unwrap();
    let (vpc, subnet, _) = dual_stack_subnet(&site);
    let filter = format!("Name=vpc-id,Values={vpc}");
    let groups =
        aws(&site, &["ec2", "describe-security-groups", "--filters", &filter]);
    let group = text(&groups["SecurityGroups"][0]["GroupId"]);
    let set = |site: &Site, value: &str| {
        let args = ["ecs", "put-account-setting", "--name", "dualStackIPv6"];
        let set = aws(site, &[&args[..], &["--value", value]].concat());
        assert_eq!(set["setting"]["value"], value);
    };
    set(&site, "disabled");
    let one = start(&mut site, "one", &subnet, &group);
    assert_eq!(one.interface()["ipv6Address"], Value::Null);
    assert_eq!(metadata(&site, &one)["IPv6Addresses"], Value::Null);
    set(&site, "enabled");
    let two = start(&mut site, "two", &subnet, &group);
    assert!(two.ipv6().starts_with("fd"), "{}", two.ipv6());
    site.finish().unwrap();
}
