use std::net::Ipv4Addr;

use minato_store::{Row, Tx};
use minato_wire::Timestamp;

use super::*;
use crate::services::ec2::rows::{Cidr, RuleSpec, Tags};
use crate::testing::{ACCOUNT, REGION, TestBed, instance, task_on};

fn peer(number: usize) -> Peer {
    let (host, instance) = instance(number, "us-east-1a");
    Peer {
        instance: instance.key(),
        host: host.key(),
        account: ACCOUNT.into(),
        region: REGION.into(),
        host_id: host.id,
        instance_arn: "i".into(),
        cluster_arn: "c".into(),
    }
}

fn group(id: &str, peers: &[&str]) -> SecurityGroupRow {
    let rules = peers.iter().map(|peer| Rule {
        id: format!("sgr-{peer}"),
        spec: RuleSpec {
            is_egress: false,
            protocol: "tcp".into(),
            from_port: 80,
            to_port: 81,
            peer: RulePeer::Group((*peer).to_owned()),
        },
        description: None,
        tags: Tags::new(),
    });
    SecurityGroupRow {
        account: ACCOUNT.into(),
        region: REGION.into(),
        id: id.into(),
        vpc_id: "vpc-1".into(),
        name: id.into(),
        description: id.into(),
        rules: rules.collect(),
        tags: Tags::new(),
    }
}

fn eni(last: u8, groups: &[&str]) -> EniRow {
    EniRow {
        account: ACCOUNT.into(),
        region: REGION.into(),
        id: format!("eni-{last}"),
        subnet_id: "subnet-1".into(),
        vpc_id: "vpc-1".into(),
        zone: "us-east-1a".into(),
        zone_id: "use1-az1".into(),
        private_ip: Ipv4Addr::new(172, 31, 0, last),
        ipv6: None,
        mac: String::new(),
        security_groups: groups.iter().map(|it| (*it).to_owned()).collect(),
        description: String::new(),
        attachment_id: String::new(),
        task_arn: String::new(),
        created_at: Timestamp::from_millis(0),
        tags: Tags::new(),
    }
}

fn subnet(account: &str, id: &str, third: u8) -> SubnetRow {
    SubnetRow {
        account: account.into(),
        region: REGION.into(),
        id: id.into(),
        vpc_id: "vpc-1".into(),
        cidr: Cidr { base: Ipv4Addr::new(172, 31, third, 0), prefix: 24 },
        zone: "us-east-1a".into(),
        zone_id: "use1-az1".into(),
        default_for_zone: true,
        next_offset: 4,
        ipv6: None,
        assign_ipv6: false,
        map_public_ip: None,
        tags: Tags::new(),
    }
}

/// A task with an interface, on a host.
fn start(tx: &mut Tx, number: usize, last: u8, groups: &[&str]) {
    let row = eni(last, groups);
    let mut task =
        task_on(&peer(number).host_id, &format!("t{last}"), "PENDING");
    task.network_interface = Some(row.id.clone());
    tx.put(row);
    tx.put(task);
}

async fn apply(bed: &TestBed, change: impl FnOnce(&mut Tx) + Send + 'static) {
    let done = bed.cx.transact(move |tx| {
        change(tx);
        Ok(())
    });
    done.await.unwrap();
}

/// Two hosts: `web` on the first, `db`, which takes `web`, on the second.
async fn two_hosts() -> TestBed {
    let bed = TestBed::new();
    apply(&bed, |tx| {
        tx.put(subnet("111111111111", "subnet-0", 0));
        tx.put(subnet(ACCOUNT, "subnet-1", 0));
        tx.put(subnet("111111111111", "subnet-2", 1));
        tx.put(group("sg-web", &[]));
        tx.put(group("sg-db", &["sg-web"]));
        tx.put(group("sg-other", &["sg-other"]));
        start(tx, 0, 7, &["sg-web"]);
        start(tx, 0, 8, &["sg-web"]);
        start(tx, 1, 9, &["sg-db"]);
        start(tx, 2, 10, &["sg-other"]);
    })
    .await;
    bed
}

#[tokio::test]
async fn a_host_hears_of_its_own_groups_and_of_those_they_refer_to() {
    let bed = two_hosts().await;
    let rows = bed.cx.snapshot();
    let (web, _) = firewall(&rows, &peer(0));
    assert_eq!(web.groups.len(), 1);
    assert_eq!(web.members, vec![], "its rules refer to none");
    let addresses: Vec<_> =
        web.interfaces.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(addresses, ["172.31.0.7", "172.31.0.8"]);
    let (db, _) = firewall(&rows, &peer(1));
    assert_eq!(db.groups[0].id, "sg-db");
    assert_eq!(
        db.groups[0].ingress,
        vec![FirewallRule {
            protocol: "tcp".into(),
            from_port: Some(80),
            to_port: Some(81),
            group_id: Some("sg-web".into()),
            ..FirewallRule::default()
        }]
    );
    assert_eq!(db.groups[0].egress, vec![]);
    assert_eq!(
        db.members,
        vec![FirewallMembers {
            group_id: "sg-web".into(),
            addresses: vec!["172.31.0.7".into(), "172.31.0.8".into()],
        }]
    );
    assert_eq!(db.interfaces[0].group_ids, ["sg-db"]);
    assert_eq!(db.revision, rows.revision());
    // Each block once, the host's own first.
    let subnets: Vec<_> = db
        .subnets
        .iter()
        .map(|it| (it.id.as_str(), it.cidr.as_str(), it.gateway.as_str()))
        .collect();
    assert_eq!(
        subnets,
        [
            ("subnet-1", "172.31.0.0/24", "172.31.0.1"),
            ("subnet-2", "172.31.1.0/24", "172.31.1.1"),
        ]
    );
}

#[tokio::test]
async fn a_host_without_interfaces_hears_of_subnets_only() {
    let bed = two_hosts().await;
    let (none, interest) = firewall(&bed.cx.snapshot(), &peer(3));
    assert_eq!((none.groups.len(), none.members.len()), (0, 0));
    assert_eq!(none.subnets.len(), 2);
    assert_eq!(interest, Interest::default());
}

/// Which of the hosts 0, 1 and 2 a change matters to.
async fn touched(
    bed: &TestBed,
    change: impl FnOnce(&mut Tx) + Send + 'static,
) -> Vec<usize> {
    let rows = bed.cx.snapshot();
    let interests = (0..3).map(|it| firewall(&rows, &peer(it)).1);
    let interests: Vec<Interest> = interests.collect();
    let mut watch = bed.cx.store.watch();
    apply(bed, change).await;
    let minato_store::Changes::Rows(commits) = watch.changes() else {
        panic!("fell behind");
    };
    let mut touched = Touched::default();
    commits.iter().for_each(|commit| touched.add(commit));
    (0..3).filter(|it| touched.matters_to(&interests[*it])).collect()
}

#[tokio::test]
async fn changes_matter_to_those_whose_firewall_they_change() {
    let bed = two_hosts().await;
    let a_member = touched(&bed, |tx| start(tx, 2, 20, &["sg-web"])).await;
    // `web` came to the third host with it, which is told with the task.
    assert_eq!(a_member, [1]);
    let gone = touched(&bed, |tx| {
        tx.delete::<EniRow>(&eni(8, &[]).key());
    });
    assert_eq!(gone.await, [1]);
    let a_rule =
        touched(&bed, |tx| drop(tx.put(group("sg-db", &["sg-db"])))).await;
    assert_eq!(a_rule, [1]);
    let a_shared_rule =
        touched(&bed, |tx| drop(tx.put(group("sg-web", &["sg-db"])))).await;
    assert_eq!(a_shared_rule, [0, 2]);
    let a_subnet =
        touched(&bed, |tx| drop(tx.put(subnet(ACCOUNT, "subnet-9", 9)))).await;
    assert_eq!(a_subnet, [0, 1, 2]);
    let a_place = touched(&bed, |tx| {
        let row = subnet(ACCOUNT, "subnet-9", 9);
        tx.put(SubnetRow { next_offset: 5, ..row });
    });
    assert_eq!(a_place.await, Vec::<usize>::new());
}

#[tokio::test]
async fn hosts_are_members_of_the_default_group() {
    let bed = TestBed::new();
    apply(&bed, |tx| {
        tx.put(subnet(ACCOUNT, "subnet-1", 0));
        tx.put(subnet(ACCOUNT, "subnet-2", 16));
        tx.put(SubnetRow {
            vpc_id: "vpc-2".into(),
            ..subnet(ACCOUNT, "subnet-3", 32)
        });
        let default = group("sg-1", &["sg-1", "sg-2"]);
        tx.put(SecurityGroupRow { name: "default".into(), ..default });
        tx.put(group("sg-2", &[]));
        start(tx, 0, 7, &["sg-1", "sg-2"]);
    })
    .await;
    let (firewall, _) = firewall(&bed.cx.snapshot(), &peer(0));
    let members = |id: &str| {
        let mut all = firewall.members.iter();
        all.find(|it| it.group_id == id).unwrap().addresses.clone()
    };
    assert_eq!(members("sg-1"), ["172.31.0.1", "172.31.16.1", "172.31.0.7"]);
    assert_eq!(members("sg-2"), ["172.31.0.7"]);
}

#[tokio::test]
async fn hosts_hear_of_ipv6_as_of_ipv4() {
    use crate::services::ec2::rows::{Cidr6, Ipv6Block};
    let bed = two_hosts().await;
    let change = |tx: &mut Tx| {
        let row = subnet(ACCOUNT, "subnet-1", 0);
        let ipv6 = Some(Ipv6Block {
            association_id: "subnet-cidr-assoc-1".into(),
            cidr: Cidr6::parse("fd12::/64").unwrap(),
        });
        tx.put(SubnetRow { ipv6, ..row });
    };
    assert_eq!(touched(&bed, change).await, [0, 1, 2]);
    apply(&bed, |tx| {
        let row = eni(7, &["sg-web"]);
        tx.put(EniRow { ipv6: Some("fd12::7".parse().unwrap()), ..row });
    })
    .await;
    let rows = bed.cx.snapshot();
    let (web, _) = firewall(&rows, &peer(0));
    assert_eq!(web.subnets[0].cidr_ipv6.as_deref(), Some("fd12::/64"));
    assert_eq!(web.subnets[0].gateway_ipv6.as_deref(), Some("fd12::1"));
    assert_eq!(web.subnets[1].cidr_ipv6, None);
    assert_eq!(web.interfaces[0].address_ipv6.as_deref(), Some("fd12::7"));
    assert_eq!(web.interfaces[1].address_ipv6, None);
    let (db, _) = firewall(&rows, &peer(1));
    assert_eq!(
        db.members[0].addresses,
        ["172.31.0.7", "fd12::7", "172.31.0.8"]
    );
}
