//! The control plane itself, and what its handlers share.

use std::sync::Arc;

use bytes::Bytes;
use minato_core::env::{Clock, Ids};
use minato_store::{Snapshot, Store, StoreError, TransactError, Tx};
use minato_wire::{ApiError, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::{Backend, Call, Caller, Credential, EventStream, Verified};
use crate::config::Config;
use crate::fleet::Fleet;
use crate::logs::LogStore;
use crate::services::ec2::defaults::{self, DefaultSubnet, PlaceVpcError};
use crate::services::logs::insights::Queries;
use crate::services::logs::tail::LiveTails;
use crate::sessions::Router;
use crate::sessions::exec::{DataChannel, Exchange};
use crate::{reconcilers, services};

/// What every handler, reconciler and session works with.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) logs: LogStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    /// The hosts as placement sees them.
    pub(crate) fleet: Arc<Fleet>,
    /// What brings changed tasks to the sessions of their hosts.
    pub(crate) router: Arc<Router>,
    /// Sessions of ECS Exec.
    pub(crate) exec: Arc<Exchange>,
    /// Queries of Logs Insights.
    pub(crate) queries: Arc<Queries>,
    /// Sessions of Live Tail.
    pub(crate) tails: Arc<LiveTails>,
}

impl Context {
    /// The newest committed state.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }

    /// Ids for new tasks: for each the task's, its attachment's and those of
    /// as many containers as a task may have.
    pub(crate) fn ids_for_tasks(&self, count: usize) -> Vec<Vec<u128>> {
        /// A task and its network interface, and ten containers (quota
        /// "containers per task definition").
        const IDS: usize = 2 + 10;
        let one = || (0..IDS).map(|_| self.ids.uuid()).collect();
        (0..count).map(|_| one()).collect()
    }

    /// Numbers for ids that are made within a transaction.
    pub(crate) fn draw(&self, count: usize) -> Draw {
        Draw((0..count).map(|_| self.ids.uuid()).collect())
    }

    /// Runs a transaction whose refusal is already an API error.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.store
            .transact(change)
            .await
            .map_err(|error: TransactError<ApiError>| error.flatten(unstored))
    }
}

/// Random numbers that came with a command, so that what it makes of them can
/// be made again.
#[derive(Debug)]
pub(crate) struct Draw(Vec<u128>);

impl Draw {
    /// The next number. Whoever draws more than was asked for gets zeros,
    /// which is a mistake that tests see.
    pub(crate) fn next(&mut self) -> u128 {
        debug_assert!(!self.0.is_empty(), "more numbers than were drawn");
        self.0.pop().unwrap_or_default()
    }
}

/// The store could not keep a change: the caller must not believe it did.
fn unstored(error: StoreError) -> ApiError {
    ApiError::new(
        "ServerException",
        500,
        "Service Unavailable. Please try again later.",
    )
    .with_internal(error.to_string())
}

/// Who calls, where and when: the part of a call that handlers read.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) caller: Caller,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) now: Timestamp,
    /// How the caller named this server, with its port.
    pub(crate) authority: Option<String>,
}

impl Scope {
    pub(crate) fn of(call: &Call) -> Scope {
        Scope {
            caller: call.caller.clone(),
            account: call.caller.account.clone(),
            region: call.region.clone(),
            now: call.received_at,
            authority: call.authority.clone(),
        }
    }
}

/// Why a control plane could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenControlError {
    /// The store refused the first write.
    #[error("could not prepare the store")]
    Prepare(#[source] StoreError),
}

/// The control plane of one Minato.
#[derive(Clone)]
pub struct ControlPlane {
    context: Arc<Context>,
    stop: CancellationToken,
    /// Ends the service scheduler alone.
    rest: CancellationToken,
    running: TaskTracker,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Opens the control plane over a store and starts its reconcilers.
    ///
    /// Must be called within a tokio runtime.
    pub async fn open(
        config: Config,
        store: Store,
        logs: LogStore,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<ControlPlane, OpenControlError> {
        let context = Arc::new(Context {
            config,
            store,
            logs,
            clock,
            ids,
            fleet: Arc::default(),
            router: Arc::default(),
            exec: Arc::default(),
            queries: Arc::default(),
            tails: Arc::default(),
        });
        reconcilers::forget_connections(&context)
            .await
            .map_err(OpenControlError::Prepare)?;
        let stop = CancellationToken::new();
        let control = ControlPlane {
            context,
            rest: stop.child_token(),
            stop,
            running: TaskTracker::new(),
        };
        let ControlPlane { context, stop, rest, running } = &control;
        let router = Arc::clone(&context.router);
        running.spawn(router.run(context.store.watch(), stop.clone()));
        reconcilers::spawn(context, running, stop, rest);
        Ok(control)
    }

    /// The subnets of an account's default VPC in a region, which is made if
    /// it is missing and moved to `cidr` if that is given.
    pub async fn default_network(
        &self,
        account: &str,
        region: &str,
        cidr: Option<&str>,
    ) -> Result<Vec<DefaultSubnet>, PlaceVpcError> {
        defaults::place(&self.context, account, region, cidr).await
    }

    /// Has the service scheduler do nothing more until the next start, so
    /// that tasks which are stopped now stay stopped. What services ask for
    /// stands: the next start brings their tasks back.
    pub fn rest(&self) {
        self.rest.cancel();
    }

    /// Stops reconcilers and sessions and waits for them, then closes the log
    /// storage.
    pub async fn close(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
        self.context.queries.close();
        self.context.logs.close().await;
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn running(&self) -> &TaskTracker {
        &self.running
    }

    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }
}

impl Backend for ControlPlane {
    fn credential(&self, access_key_id: &str) -> Option<Credential> {
        services::credential(&self.context, access_key_id)
    }

    async fn call(&self, call: Verified<Call>) -> Result<Value, ApiError> {
        services::dispatch(&self.context, call.into_inner()).await
    }

    async fn stream(
        &self,
        call: Verified<Call>,
    ) -> Result<EventStream, ApiError> {
        let call = call.into_inner();
        services::stream(&self.context, call, &self.running, &self.stop).await
    }

    fn open_data_channel(
        &self,
        session_id: &str,
        opening: &str,
    ) -> Result<DataChannel, Bytes> {
        self.admit_client(session_id, opening)
    }
}
