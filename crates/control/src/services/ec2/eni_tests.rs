use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use minato_store::{Row, Store, StoreOptions, Tables, TransactError};
use minato_wire::Timestamp;
use proptest::prelude::*;

use super::defaults::{default_subnets, ensure};
use super::eni::*;
use super::rows::*;

const ACCOUNT: &str = "000000000000";
const REGION: &str = "us-east-1";

fn open(directory: &tempfile::TempDir) -> Store {
    let tables = super::tables(Tables::new());
    let store =
        Store::open_dir(directory.path(), tables, StoreOptions::default())
            .unwrap();
    store
        .transact_blocking(|tx| {
            ensure(tx, ACCOUNT, REGION);
            // Repeating it changes nothing.
            ensure(tx, ACCOUNT, REGION);
            Ok::<_, AllocateEniError>(())
        })
        .unwrap();
    store
}

fn request(number: u128, subnet_id: &str) -> EniRequest {
    EniRequest {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        id: number,
        subnet_id: subnet_id.to_owned(),
        security_groups: vec![],
        attachment_id: format!("attachment-{number}"),
        task_arn: "arn:aws:ecs:us-east-1:000000000000:task/default/1"
            .to_owned(),
        wants_ipv6: false,
        now: Timestamp::from_millis(1),
    }
}

fn allocate(
    store: &Store,
    request: EniRequest,
) -> Result<EniRow, AllocateEniError> {
    store.transact_blocking(|tx| allocate_eni(tx, request)).map_err(|error| {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Store(error) => panic!("{error}"),
        }
    })
}

fn first_subnet() -> String {
    default_subnets(ACCOUNT, REGION)[0].id.clone()
}

/// Makes the first subnet a /28: eleven addresses to give out.
fn shrink(store: &Store) -> String {
    let subnet = first_subnet();
    let id = subnet.clone();
    store
        .transact_blocking(move |tx| {
            let rows: Vec<_> =
                tx.scan::<SubnetRow>(&minato_store::Key::root()).collect();
            let row = rows.iter().find(|row| row.id == id).unwrap();
            let cidr = Cidr { prefix: 28, ..row.cidr };
            tx.put(SubnetRow { cidr, ..(**row).clone() });
            Ok::<_, AllocateEniError>(())
        })
        .unwrap();
    subnet
}

#[test]
fn the_first_interface_gets_the_first_free_address() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let eni = allocate(&store, request(7, &first_subnet())).unwrap();
    assert_eq!(eni.private_ip, Ipv4Addr::new(172, 31, 0, 4));
    assert_eq!(eni.mac, "02:ec:ac:1f:00:04");
    assert_eq!(eni.id, "eni-00000000000000007");
    assert_eq!(eni.security_groups.len(), 1, "the default group");
    assert_eq!(eni.private_dns_name(), "ip-172-31-0-4.ec2.internal");
    assert_eq!(
        eni.description,
        "arn:aws:ecs:us-east-1:000000000000:attachment/attachment-7"
    );
}

#[test]
fn a_released_address_rests_before_it_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let subnet = first_subnet();
    let first = allocate(&store, request(1, &subnet)).unwrap();
    let id = first.id.clone();
    store
        .transact_blocking(move |tx| {
            assert!(release_eni(tx, ACCOUNT, REGION, &id).is_some());
            assert!(release_eni(tx, ACCOUNT, REGION, &id).is_none());
            Ok::<_, AllocateEniError>(())
        })
        .unwrap();
    let second = allocate(&store, request(2, &subnet)).unwrap();
    assert_ne!(first.private_ip, second.private_ip);
}

#[test]
fn a_full_subnet_says_so_and_frees_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let subnet = shrink(&store);
    let all: Vec<EniRow> = (0..11)
        .map(|n| allocate(&store, request(n, &subnet)).unwrap())
        .collect();
    let addresses: BTreeSet<Ipv4Addr> =
        all.iter().map(|eni| eni.private_ip).collect();
    assert_eq!(addresses.len(), 11);
    assert_eq!(addresses.first(), Some(&Ipv4Addr::new(172, 31, 0, 4)));
    assert_eq!(addresses.last(), Some(&Ipv4Addr::new(172, 31, 0, 14)));
    let full = allocate(&store, request(99, &subnet)).unwrap_err();
    assert_eq!(
        full,
        AllocateEniError::SubnetFull { subnet_id: subnet.clone() }
    );
    let gone = all[3].clone();
    let id = gone.id.clone();
    store
        .transact_blocking(move |tx| {
            release_eni(tx, ACCOUNT, REGION, &id);
            Ok::<_, AllocateEniError>(())
        })
        .unwrap();
    let again = allocate(&store, request(100, &subnet)).unwrap();
    assert_eq!(again.private_ip, gone.private_ip);
}

#[test]
fn two_accounts_never_share_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store
        .transact_blocking(|tx| {
            ensure(tx, "111111111111", "eu-west-1");
            Ok::<_, AllocateEniError>(())
        })
        .unwrap();
    let ours = allocate(&store, request(1, &first_subnet())).unwrap();
    let theirs = &default_subnets("111111111111", "eu-west-1")[0];
    let theirs = EniRequest {
        account: "111111111111".to_owned(),
        region: "eu-west-1".to_owned(),
        ..request(2, &theirs.id)
    };
    let theirs = allocate(&store, theirs).unwrap();
    assert_ne!(ours.private_ip, theirs.private_ip);
    assert_eq!(
        theirs.private_dns_name(),
        "ip-172-31-0-5.eu-west-1.compute.internal"
    );
}

#[test]
fn unknown_subnets_and_groups_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let error = allocate(&store, request(1, "subnet-0dead")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The subnet ID 'subnet-0dead' does not exist"
    );
    let groups = EniRequest {
        security_groups: vec!["sg-0dead".to_owned()],
        ..request(1, &first_subnet())
    };
    let error = allocate(&store, groups).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The security group 'sg-0dead' does not exist"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_address_is_ever_given_twice(
        steps in prop::collection::vec(any::<Option<u8>>(), 1..60),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        let subnet = shrink(&store);
        let mut live: Vec<EniRow> = vec![];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Some(which) if !live.is_empty() => {
                    let gone = live.remove(usize::from(which) % live.len());
                    store.transact_blocking(move |tx| {
                        release_eni(tx, ACCOUNT, REGION, &gone.id);
                        Ok::<_, AllocateEniError>(())
                    }).unwrap();
                }
                _ => match allocate(&store, request(number as u128, &subnet)) {
                    Ok(eni) => {
                        prop_assert!(live.iter().all(
                            |other| other.private_ip != eni.private_ip));
                        live.push(eni);
                    }
                    Err(error) => {
                        prop_assert_eq!(live.len(), 11, "{}", error);
                    }
                },
            }
        }
        let rows = store.snapshot()
            .scan::<EniRow>(&minato_store::Key::root()).count();
        prop_assert_eq!(rows, live.len());
    }
}

/// Gives the first subnet an IPv6 block.
fn dual_stack(store: &Store) -> (String, Cidr6) {
    let (subnet, cidr) = (first_subnet(), Cidr6::parse("fd12::/64").unwrap());
    let id = subnet.clone();
    store
        .transact_blocking(move |tx| {
            let rows: Vec<_> =
                tx.scan::<SubnetRow>(&minato_store::Key::root()).collect();
            let row = rows.iter().find(|row| row.id == id).unwrap();
            let association_id = "subnet-cidr-assoc-1".to_owned();
            let ipv6 = Some(Ipv6Block { association_id, cidr });
            tx.put(SubnetRow { ipv6, assign_ipv6: true, ..(**row).clone() });
            Ok::<_, AllocateEniError>(())
        })
        .unwrap();
    (subnet, cidr)
}

fn dual(number: u128, subnet: &str) -> EniRequest {
    EniRequest { wants_ipv6: true, ..request(number, subnet) }
}

#[test]
fn an_ipv6_address_is_given_where_task_and_subnet_want_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let (subnet, cidr) = dual_stack(&store);
    let eni = allocate(&store, dual(9, &subnet)).unwrap();
    assert!(cidr.holds(Cidr6::around(eni.ipv6.unwrap(), 128)));
    assert_eq!(allocate(&store, request(10, &subnet)).unwrap().ipv6, None);
    let other = default_subnets(ACCOUNT, REGION)[1].id.clone();
    assert_eq!(allocate(&store, dual(11, &other)).unwrap().ipv6, None);
}

/// As EC2 keeps the first four and the last of a subnet.
#[test]
fn addresses_that_are_kept_are_not_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let (subnet, cidr) = dual_stack(&store);
    // The lowest and the highest, and numbers that would be beyond.
    let mut given: Vec<Ipv6Addr> = vec![];
    for number in [0, u64::MAX - 5, u64::MAX - 4, u64::MAX] {
        let eni = allocate(&store, dual(number.into(), &subnet)).unwrap();
        given.push(eni.ipv6.unwrap());
    }
    let last = u128::from(u64::MAX);
    assert_eq!(given[0], cidr.at(4));
    assert_eq!(given[1], cidr.at(last - 1));
    assert!(given.iter().all(|it| *it != cidr.at(last)), "{given:?}");
    let first: Vec<_> = (0..4).map(|n| cidr.at(n)).collect();
    assert!(given.iter().all(|it| !first.contains(it)), "{given:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Numbers of few values, so that most of them meet one that is taken.
    #[test]
    fn no_ipv6_address_is_ever_given_twice(
        steps in prop::collection::vec((any::<bool>(), 0_u8..6), 1..60),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        let (subnet, _) = dual_stack(&store);
        let mut live: Vec<EniRow> = vec![];
        for (at, (gives_back, number)) in (0_u128..).zip(steps) {
            if gives_back && !live.is_empty() {
                let gone = live.remove(usize::from(number) % live.len());
                store.transact_blocking(move |tx| {
                    release_eni(tx, ACCOUNT, REGION, &gone.id);
                    Ok::<_, AllocateEniError>(())
                }).unwrap();
                continue;
            }
            // The same when folded, but another number and another id.
            let number = (at << 64) | (at ^ u128::from(number));
            let eni = allocate(&store, dual(number, &subnet)).unwrap();
            prop_assert!(eni.ipv6.is_some());
            prop_assert!(live.iter().all(|other| other.ipv6 != eni.ipv6));
            live.retain(|other| other.id != eni.id);
            live.push(eni);
        }
    }
}

#[test]
fn cidrs_know_their_addresses() {
    let cidr = Cidr { base: Ipv4Addr::new(172, 31, 16, 0), prefix: 20 };
    assert_eq!(usable(cidr), 4091);
    assert_eq!(gateway(cidr), Ipv4Addr::new(172, 31, 16, 1));
    assert_eq!(cidr.to_string(), "172.31.16.0/20");
    let row = default_subnets(ACCOUNT, REGION);
    assert_eq!(row.len(), 3);
    assert_eq!(VpcRow::TABLE, "ec2-vpc");
}
