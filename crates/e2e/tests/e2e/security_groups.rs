//! Security groups and VPCs: who reaches whom, through stock clients.

use std::fs;
use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

/// How long a change may take to reach the kernel.
const SOON: Duration = Duration::from_secs(10);
/// What the server's page says.
const PAGE: &str = "welcome";

/// An EC2 call that must succeed.
fn ec2(site: &mut Site, operation: &str, input: Value) -> Value {
    site.call("ec2", operation, input).unwrap()
}

/// An EC2 call that must fail; its error's code.
fn refused(site: &mut Site, operation: &str, input: Value) -> String {
    let boto = site.boto().unwrap();
    boto.call("ec2", operation, input).unwrap_err().code
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn create_group(site: &mut Site, name: &str, vpc: Option<&str>) -> String {
    let mut input = json!({"GroupName": name, "Description": name});
    if let Some(vpc) = vpc {
        input["VpcId"] = json!(vpc);
    }
    text(&ec2(site, "create_security_group", input)["GroupId"])
}

/// Input about TCP's port 80 between a group and another.
fn port_80(group: &str, peer: &str) -> Value {
    json!({"GroupId": group, "IpPermissions": [{
        "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
        "UserIdGroupPairs": [{"GroupId": peer}],
    }]})
}

/// A running task with an interface of its own.
#[derive(Clone, Debug)]
struct Node {
    arn: String,
    address: String,
    pid: String,
}

/// Starts a web server; every task is one, so that each can be both ends.
fn start(site: &mut Site, name: &str, subnet: &str, groups: &[&str]) -> Node {
    let script = format!(
        "echo {PAGE} > /tmp/index.html; exec httpd -f -p 80 -h /tmp -r {name}"
    );
    let definition = json!({
        "family": name, "networkMode": "awsvpc",
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 32, "stopTimeout": 2,
            "command": ["/bin/sh", "-c", script],
        }],
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    let mut network = json!({"subnets": [subnet]});
    if !groups.is_empty() {
        network["securityGroups"] = json!(groups);
    }
    let input = json!({
        "taskDefinition": name, "launchType": "EC2",
        "networkConfiguration": {"awsvpcConfiguration": network},
    });
    let ran = site.call("ecs", "run_task", input).unwrap();
    assert_eq!(ran["failures"], json!([]), "{ran:#}");
    let arn = text(&ran["tasks"][0]["taskArn"]);
    let task = site.wait_task(&arn, "RUNNING").unwrap();
    let interface = &task["containers"][0]["networkInterfaces"][0];
    let address = text(&interface["privateIpv4Address"]);
    let pid = wait_for(SOON, || process(site, name)).unwrap();
    Node { arn, address, pid }
}

/// The process of the site that serves as `name`.
pub(crate) fn process(site: &Site, name: &str) -> Option<String> {
    let processes = site.traces().unwrap().processes();
    let is_it = |pid: &&i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(b"httpd".as_slice())
            && words.any(|word| word == name.as_bytes())
    };
    processes.iter().find(is_it).map(i32::to_string)
}

/// What a new connection to the server brings.
fn get(site: &Site, from: Option<&Node>, to: &Node) -> bool {
    let url = format!("http://{}/", to.address);
    // Debian's static busybox crashes on wget's own `-T`.
    let wget = ["timeout", "1", "busybox", "wget", "-q", "-O", "-", &url];
    let said = match from {
        Some(node) => {
            let enter = ["-t", &node.pid, "-n"];
            site.run("nsenter", &[&enter[..], &wget[..]].concat())
        }
        None => site.run(wget[0], &wget[1..]),
    };
    said.is_ok_and(|said| said.contains(PAGE))
}

/// Waits until a new connection from a task works, or does not.
fn wait_reach(site: &Site, from: &Node, to: &Node, is_open: bool) {
    let is_there = || (get(site, Some(from), to) == is_open).then_some(());
    let found = wait_for(SOON, is_there);
    assert!(
        found.is_some(),
        "{} to {} is never {is_open}; Minato said: {}",
        from.address,
        to.address,
        site.log()
    );
}

fn first_subnet(site: &mut Site) -> String {
    let subnets = ec2(site, "describe_subnets", json!({}));
    text(&subnets["Subnets"][0]["SubnetId"])
}

#[test]
fn security_groups_open_and_close_at_once() {
    let mut site = Site::start().unwrap();
    let subnet = first_subnet(&mut site);
    let servers = create_group(&mut site, "servers", None);
    let clients = create_group(&mut site, "clients", None);
    let server = start(&mut site, "server", &subnet, &[&servers]);
    let client = start(&mut site, "client", &subnet, &[&clients]);
    // It serves, and nobody gets there.
    let itself = Node { address: "127.0.0.1".to_owned(), ..server.clone() };
    assert!(get(&site, Some(&server), &itself));
    assert!(!get(&site, Some(&client), &server));
    assert!(!get(&site, None, &server));

    let rule = port_80(&servers, &clients);
    let ingress = "authorize_security_group_ingress";
    let added = ec2(&mut site, ingress, rule.clone());
    let shown = &added["SecurityGroupRules"][0];
    assert_eq!(shown["ReferencedGroupInfo"]["GroupId"], clients, "{added:#}");
    wait_reach(&site, &client, &server, true);
    assert!(!get(&site, None, &server));
    // The other way stays shut.
    assert!(!get(&site, Some(&server), &client));
    let code = refused(&mut site, ingress, rule.clone());
    assert_eq!(code, "InvalidPermission.Duplicate");
    for group in [&servers, &clients] {
        let input = json!({"GroupId": group});
        let code = refused(&mut site, "delete_security_group", input);
        assert_eq!(code, "DependencyViolation");
    }

    ec2(&mut site, "revoke_security_group_ingress", rule.clone());
    wait_reach(&site, &client, &server, false);
    ec2(&mut site, ingress, rule);
    wait_reach(&site, &client, &server, true);
    let everything = json!({"GroupId": clients, "IpPermissions": [{
        "IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    }]});
    ec2(&mut site, "revoke_security_group_egress", everything);
    wait_reach(&site, &client, &server, false);
    let out = port_80(&clients, &servers);
    ec2(&mut site, "authorize_security_group_egress", out);
    wait_reach(&site, &client, &server, true);

    for node in [&server, &client] {
        site.stop_task(&node.arn).unwrap();
    }
    // Each refers to the other: rules first.
    let out = port_80(&clients, &servers);
    ec2(&mut site, "revoke_security_group_egress", out);
    for group in [&servers, &clients] {
        let input = json!({"GroupId": group});
        let gone = wait_for(SOON, || {
            site.call("ec2", "delete_security_group", input.clone()).ok()
        });
        gone.unwrap_or_else(|| panic!("{group} stays"));
    }
    site.finish().unwrap();
}

#[test]
fn security_groups_hold_without_minato_and_after_it() {
    let mut site = Site::start().unwrap();
    let subnet = first_subnet(&mut site);
    let shut = create_group(&mut site, "shut", None);
    // Two of the default group, and one that allows nothing in.
    let one = start(&mut site, "one", &subnet, &[]);
    let two = start(&mut site, "two", &subnet, &[]);
    let closed = start(&mut site, "closed", &subnet, &[&shut]);
    let check = |site: &Site| {
        assert!(get(site, Some(&one), &two) && get(site, Some(&two), &one));
        assert!(!get(site, Some(&one), &closed));
        assert!(!get(site, Some(&closed), &one));
        // The host is in the default group.
        assert!(get(site, None, &one) && !get(site, None, &closed));
    };
    wait_reach(&site, &one, &two, true);
    check(&site);
    site.kill_minato().unwrap();
    check(&site);
    site.up().unwrap();
    check(&site);
    // And it is still obeyed.
    let rule = json!({
        "GroupId": shut, "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
        "CidrIp": format!("{}/32", one.address),
    });
    ec2(&mut site, "authorize_security_group_ingress", rule.clone());
    wait_reach(&site, &one, &closed, true);
    assert!(!get(&site, Some(&two), &closed));
    ec2(&mut site, "revoke_security_group_ingress", rule);
    wait_reach(&site, &one, &closed, false);
    site.finish().unwrap();
}

#[test]
fn security_groups_of_a_vpc_of_one_s_own() {
    let mut site = Site::start().unwrap();
    let vpc =
        ec2(&mut site, "create_vpc", json!({"CidrBlock": "10.77.0.0/16"}));
    let vpc = text(&vpc["Vpc"]["VpcId"]);
    let input = json!({"VpcId": vpc, "CidrBlock": "10.77.1.0/24"});
    let subnet = ec2(&mut site, "create_subnet", input.clone());
    let subnet = text(&subnet["Subnet"]["SubnetId"]);
    let code = refused(&mut site, "create_subnet", input);
    assert_eq!(code, "InvalidSubnet.Conflict");
    let group = create_group(&mut site, "own", Some(&vpc));
    let one = start(&mut site, "one", &subnet, &[&group]);
    let two = start(&mut site, "two", &subnet, &[&group]);
    assert!(one.address.starts_with("10.77.1."), "{}", one.address);
    assert!(!get(&site, Some(&one), &two));
    let rule = port_80(&group, &group);
    ec2(&mut site, "authorize_security_group_ingress", rule);
    wait_reach(&site, &one, &two, true);
    assert!(!get(&site, None, &two));
    for (operation, input) in [
        ("delete_subnet", json!({"SubnetId": subnet})),
        ("delete_security_group", json!({"GroupId": group})),
        ("delete_vpc", json!({"VpcId": vpc})),
    ] {
        let code = refused(&mut site, operation, input.clone());
        assert_eq!(code, "DependencyViolation", "{operation}");
    }
    for node in [&one, &two] {
        site.stop_task(&node.arn).unwrap();
    }
    for (operation, input) in [
        ("delete_subnet", json!({"SubnetId": subnet})),
        ("delete_security_group", json!({"GroupId": group})),
        ("delete_vpc", json!({"VpcId": vpc})),
    ] {
        let gone =
            wait_for(SOON, || site.call("ec2", operation, input.clone()).ok());
        gone.unwrap_or_else(|| panic!("{operation} never succeeds"));
    }
    site.finish().unwrap();
}
