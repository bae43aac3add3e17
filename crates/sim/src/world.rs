//! One simulated world: a control plane that dies, and those who use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minato_client::{ApiClient, CallError, Credentials, Endpoint};
use minato_control::logs::LogStore;
use minato_control::seal::{SEAL_KEY_BYTES, SealKey};
use minato_control::{
    Caller, Config, ControlPlane, Credential, coverage, tables,
};
use minato_core::env::{Clock, Ids};
use minato_core::service::Pace;
use minato_gateway::{Gateway, Trust};
use minato_store::{Store, StoreOptions};
use minato_wire::{ecs, minato};
use parking_lot::Mutex;
use serde_json::Value;

use crate::chance::{SeededIds, VirtualClock};
use crate::disk::Disk;

pub(crate) const ACCOUNT: &str = "000000000000";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const CLUSTER: &str = "default";
const KEY_ID: &str = "AKIASIMULATED";
const SECRET: &str = "only ever used in memory";

/// A process of the control plane.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) control: ControlPlane,
    pub(crate) store: Store,
    client: ApiClient,
}

pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) clock: Arc<VirtualClock>,
    ids: Arc<SeededIds>,
    process: Mutex<Option<Process>>,
    has_faults: AtomicBool,
    /// Container instances whose machines are gone.
    dead: Mutex<Vec<String>>,
    /// The tasks whose containers run, and whether they do their work: what
    /// is so, whatever the control plane believes.
    serving: Mutex<BTreeMap<String, bool>>,
    pace: Pace,
    logs: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(seed: u64, pace: Pace) -> std::io::Result<World> {
        Ok(World {
            disk: Disk::default(),
            clock: Arc::new(VirtualClock::new()),
            ids: Arc::new(SeededIds::new(seed)),
            process: Mutex::new(None),
            has_faults: AtomicBool::new(true),
            dead: Mutex::new(vec![]),
            serving: Mutex::new(BTreeMap::new()),
            pace,
            logs: tempfile::tempdir()?,
        })
    }

    /// Starts a control plane over what the disk has.
    pub(crate) async fn start(&self) -> Result<Process, String> {
        self.disk.revive();
        let options = StoreOptions::default();
        let journal = Box::new(self.disk.clone());
        let store = Store::open_inline(journal, tables::tables(), options)
            .map_err(|error| format!("the store did not open: {error}"))?;
        let logs = LogStore::open(self.logs.path())
            .map_err(|error| format!("the logs did not open: {error}"))?;
        let clock: Arc<dyn Clock> = Arc::<VirtualClock>::clone(&self.clock);
        let ids: Arc<dyn Ids> = Arc::<SeededIds>::clone(&self.ids);
        let config =
            Config { credentials: vec![root()], pace: self.pace, ..config() };
        let control = ControlPlane::open(
            config,
            store.clone(),
            logs,
            Arc::clone(&clock),
            Arc::clone(&ids),
        )
        .await
        .map_err(|error| format!("no control plane: {error}"))?;
        let services = coverage::all().into_iter().map(|one| one.service);
        let gateway = Gateway::new(
            control.clone(),
            services.collect(),
            Trust::Signatures,
            Arc::clone(&clock),
            ids,
        );
        let credentials = Credentials {
            access_key_id: KEY_ID.to_owned(),
            secret_access_key: SECRET.to_owned(),
            session_token: None,
        };
        let endpoint = Endpoint::in_memory();
        let client =
            ApiClient::new(gateway, endpoint, credentials, REGION, clock);
        let process = Process { control, store, client };
        *self.process.lock() = Some(process.clone());
        Ok(process)
    }

    /// Takes the control plane away, with all that was not on the disk.
    pub(crate) async fn kill(&self) {
        let process = self.process.lock().take();
        if let Some(process) = process {
            // Nothing that it still tries to write gets there.
            self.disk.die_after(0, false);
            process.control.close().await;
        }
    }

    pub(crate) fn control(&self) -> Option<ControlPlane> {
        self.process.lock().as_ref().map(|process| process.control.clone())
    }

    /// Calls ECS with a signed request; the error is the API's code, or
    /// nothing if no answer came.
    pub(crate) async fn call(
        &self,
        operation: &str,
        input: Value,
    ) -> Result<Value, Option<String>> {
        let process = self.process.lock().clone();
        let Some(Process { client, .. }) = process else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Err(None);
        };
        client
            .call_value(&ecs::SERVICE, operation, &input)
            .await
            .map_err(|error| error.code().map(str::to_owned))
    }

    /// Calls ECS; the error is what the API said, in full.
    pub(crate) async fn try_call(
        &self,
        operation: &str,
        input: Value,
    ) -> Result<Value, String> {
        let process = self.process.lock().clone();
        let Some(Process { client, .. }) = process else {
            return Err("the control plane is down".to_owned());
        };
        let called = client.call_value(&ecs::SERVICE, operation, &input).await;
        called.map_err(|error| {
            if let CallError::Api(error) = error {
                return format!("{}: {}", error.code(), error.message());
            }
            error.to_string()
        })
    }

    /// Calls Minato's own API.
    pub(crate) async fn call_minato(
        &self,
        operation: &str,
        input: Value,
    ) -> Result<Value, Option<String>> {
        let process = self.process.lock().clone();
        let Some(Process { client, .. }) = process else { return Err(None) };
        client
            .call_value(&minato::SERVICE, operation, &input)
            .await
            .map_err(|error| error.code().map(str::to_owned))
    }

    /// Notes that a task runs and whether it does its work, or that it does
    /// not run.
    pub(crate) fn serves(&self, arn: &str, serves: Option<bool>) {
        let mut serving = self.serving.lock();
        match serves {
            Some(serves) => serving.insert(arn.to_owned(), serves),
            None => serving.remove(arn),
        };
    }

    /// The tasks that do their work.
    pub(crate) fn serving(&self) -> Vec<String> {
        let serving = self.serving.lock();
        let all = serving.iter().filter(|(_, serves)| **serves);
        all.map(|(arn, _)| arn.clone()).collect()
    }

    pub(crate) fn has_faults(&self) -> bool {
        self.has_faults.load(Ordering::SeqCst)
    }

    pub(crate) fn heal(&self) {
        self.has_faults.store(false, Ordering::SeqCst);
    }

    /// Remembers a machine that is gone, until somebody deregisters it.
    pub(crate) fn mourn(&self, arn: String) {
        self.dead.lock().push(arn);
    }

    pub(crate) fn dead(&self) -> Option<String> {
        self.dead.lock().pop()
    }
}

fn config() -> Config {
    Config::new(ACCOUNT, REGION, SealKey::new([0; SEAL_KEY_BYTES]))
}

fn root() -> Credential {
    Credential {
        secret: SECRET.to_owned(),
        session_token: None,
        expires_at: None,
        caller: Caller {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:root"),
            user_id: ACCOUNT.to_owned(),
            access_key_id: KEY_ID.to_owned(),
        },
    }
}
