//! What the tests of this crate share: a context over a store of its own, a
//! clock that stands still and ids that count.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use minato_core::env::{Clock, Ids};
use minato_core::placement::ZONE_ATTRIBUTE;
use minato_store::{Store, StoreOptions};
use minato_wire::Timestamp;
use minato_wire::ecs::Attribute;
use tempfile::TempDir;

use crate::call::Caller;
use crate::config::Config;
use crate::context::{Context, Scope};
use crate::logs::LogStore;
use crate::seal::{SEAL_KEY_BYTES, SealKey};
use crate::services::ecs::tasks::launch::EXEC_ATTRIBUTE;
use crate::tables::{ContainerInstance, Host, Needs, Task, TaskDefinition};

/// The account of every test.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The region of every test.
pub(crate) const REGION: &str = "us-east-1";

/// A clock that moves when it is told to.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    /// Moves the clock on.
    pub(crate) fn advance_ms(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug, Default)]
struct TestIds(AtomicU64);

impl Ids for TestIds {
    fn uuid(&self) -> u128 {
        let next = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        // EC2's ids are both halves together, so these differ.
        u128::from(next) << 64 | u128::from(next) << 32 | u128::from(next)
    }
}

/// A control plane's inside, without reconcilers or sessions.
pub(crate) struct TestBed {
    /// What handlers take.
    pub(crate) cx: Arc<Context>,
    /// Its clock.
    pub(crate) clock: Arc<TestClock>,
    /// Keeps the store's directory.
    _dir: TempDir,
}

impl TestBed {
    pub(crate) fn new() -> TestBed {
        let dir = tempfile::tempdir().unwrap();
        let tables = crate::tables::tables();
        let store =
            Store::open_dir(dir.path(), tables, StoreOptions::default())
                .unwrap();
        let start = AtomicI64::new(1_700_000_000_000);
        let clock = Arc::new(TestClock(start));
        let cx = Arc::new(Context {
            config: Config::new(
                ACCOUNT,
                REGION,
                SealKey::new([7; SEAL_KEY_BYTES]),
            ),
            store,
            logs: LogStore::open(&dir.path().join("logs")).unwrap(),
            clock: Arc::<TestClock>::clone(&clock),
            ids: Arc::new(TestIds::default()),
            fleet: Arc::default(),
            router: Arc::default(),
            exec: Arc::default(),
            queries: Arc::default(),
            tails: Arc::default(),
        });
        TestBed { cx, clock, _dir: dir }
    }

    /// The scope of a call by the account's root, now.
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            caller: Caller {
                account: ACCOUNT.to_owned(),
                arn: format!("arn:aws:iam::{ACCOUNT}:root"),
                user_id: ACCOUNT.to_owned(),
                access_key_id: "AKIAMINATOTEST".to_owned(),
            },
            account: ACCOUNT.to_owned(),
            region: REGION.to_owned(),
            now: self.clock.now(),
            authority: Some("127.0.0.1:4566".to_owned()),
        }
    }
}

/// The row of a task on a host, in cluster `c0`.
pub(crate) fn task_on(host: &str, id: &str, status: &str) -> Task {
    Task {
        account: ACCOUNT.into(),
        region: REGION.into(),
        cluster: "c0".into(),
        id: id.into(),
        host: host.into(),
        task: minato_wire::ecs::Task {
            last_status: Some(status.into()),
            ..Default::default()
        },
        family: "f".into(),
        revision: 1,
        needs: Needs::default(),
        subnets: vec![],
        security_groups: vec![],
        network_interface: None,
        dual_stack: true,
        volume: None,
        service: None,
    }
}

/// A host of 4 cores and 8 GiB in a zone, and its registration in the cluster
/// `default`.
pub(crate) fn instance(number: usize, zone: &str) -> (Host, ContainerInstance) {
    let id = format!("{number:032x}");
    let (name, value) = (ZONE_ATTRIBUTE.to_owned(), Some(zone.to_owned()));
    let host = Host {
        account: ACCOUNT.into(),
        region: REGION.into(),
        id: id.clone(),
        cluster: "default".into(),
        cpu: 4096,
        memory_mib: 8192,
        reserved_ports: [].into(),
        reserved_ports_udp: [].into(),
        attributes: [
            (name.clone(), value.clone()),
            (EXEC_ATTRIBUTE.to_owned(), None),
        ]
        .into(),
        is_connected: true,
        offers_fargate: true,
    };
    let attribute = Attribute { name: Some(name), value, ..Default::default() };
    let instance = ContainerInstance {
        account: ACCOUNT.into(),
        region: REGION.into(),
        cluster: "default".into(),
        host: id.clone(),
        id,
        status: "ACTIVE".into(),
        ec2_instance_id: "i-1".into(),
        attributes: vec![attribute],
        custom_attributes: vec![],
        registered_resources: vec![],
        version_info: None,
        capacity_provider: None,
        tags: vec![],
        registered_at: Timestamp::from_millis(0),
        version: 1,
    };
    (host, instance)
}

/// The definition of the tasks that [`task_on`] makes, with these roles.
pub(crate) fn definition(
    task_role: Option<&str>,
    execution_role: Option<&str>,
) -> TaskDefinition {
    TaskDefinition {
        account: ACCOUNT.into(),
        region: REGION.into(),
        family: "f".into(),
        revision: 1,
        definition: minato_wire::ecs::TaskDefinition {
            task_role_arn: task_role.map(str::to_owned),
            execution_role_arn: execution_role.map(str::to_owned),
            ..Default::default()
        },
        tags: vec![],
    }
}
