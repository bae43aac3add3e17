//! The agent's parts put together.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use minato_core::env::{Clock, Ids};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::api::Api;
use crate::backoff::Backoff;
use crate::config::AgentConfig;
use crate::endpoint::{self, Endpoint, EndpointSocket};
use crate::engine::{TaskEngine, TaskView};
use crate::firewall;
use crate::runtime::Runtime;
use crate::session::register::{Identity, RegisterError, discover, register};
use crate::session::{Connector, CredentialSets, Hello, run_acs};
use crate::sweep;
use crate::telemetry::run_tcs;

/// The world, as the agent's parts see it.
pub struct Services {
    /// The container engine.
    pub runtime: Arc<dyn Runtime>,
    /// The control plane's API.
    pub api: Arc<dyn Api>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub ids: Arc<dyn Ids>,
    /// Credentials of the tasks' roles, as the control plane sends them.
    pub credentials: Arc<CredentialSets>,
    /// Settings.
    pub config: AgentConfig,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartAgentError {
    /// Its files cannot be read.
    #[error("could not read the agent's files in {}", .dir.display())]
    Files {
        /// The agent's directory.
        dir: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The task endpoint cannot be served.
    #[error("could not serve the task endpoint")]
    Endpoint {
        /// Why.
        source: io::Error,
    },
    /// The control plane does not take it.
    #[error("could not register this host")]
    Register {
        /// Why.
        source: RegisterError,
    },
}

/// A running agent. Dropping it ends the agent; containers go on, and the
/// next agent finds them.
#[derive(Debug)]
pub struct Agent {
    engine: TaskEngine,
    credentials: Arc<CredentialSets>,
    identity: Identity,
    session: JoinHandle<()>,
    /// Ends with the agent.
    _serving: Option<AbortOnDropHandle<()>>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl Agent {
    /// Takes over this host's tasks, registers the host and begins to listen.
    ///
    /// Returns once the host is registered, which it tries until the control
    /// plane can be reached; the tasks are looked after all the while, and
    /// `socket` answers them.
    pub async fn start(
        services: Arc<Services>,
        connector: Arc<dyn Connector>,
        socket: Option<EndpointSocket>,
    ) -> Result<Agent, StartAgentError> {
        // Before the tasks: none of them is to be reached by others than
        // before.
        firewall::resume(&services).await;
        let engine =
            TaskEngine::open(Arc::clone(&services)).map_err(|source| {
                let dir = services.config.dir.clone();
                StartAgentError::Files { dir, source }
            })?;
        let credentials = Arc::clone(&services.credentials);
        let endpoint = match socket {
            Some(socket) => Some(
                serve_endpoint(&services, &engine, &credentials, socket)
                    .map_err(|source| StartAgentError::Endpoint { source })?,
            ),
            None => None,
        };
        let identity = register(&services)
            .await
            .map_err(|source| StartAgentError::Register { source })?;
        let serving = endpoint.map(|(endpoint, serving)| {
            endpoint.set_container_instance(&identity.container_instance_arn);
            serving
        });
        let session = tokio::spawn(converse(
            services,
            engine.clone(),
            Arc::clone(&credentials),
            connector,
            identity.clone(),
        ));
        Ok(Agent { engine, credentials, identity, session, _serving: serving })
    }

    /// The container instance's ARN.
    pub fn container_instance_arn(&self) -> &str {
        &self.identity.container_instance_arn
    }

    /// Every task that has not stopped, or has more to report.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.engine.tasks()
    }

    /// Credentials of the tasks' roles.
    pub fn credentials(&self) -> &CredentialSets {
        &self.credentials
    }
}

/// Begins to answer containers.
fn serve_endpoint(
    services: &Arc<Services>,
    engine: &TaskEngine,
    credentials: &Arc<CredentialSets>,
    socket: EndpointSocket,
) -> io::Result<(Arc<Endpoint>, AbortOnDropHandle<()>)> {
    let EndpointSocket { listener, fallback } = socket;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let endpoint = Arc::new(Endpoint::new(
        Arc::clone(services),
        engine.clone(),
        Arc::clone(credentials),
        fallback,
    ));
    let serving = endpoint::serve(listener, Arc::clone(&endpoint));
    Ok((endpoint, AbortOnDropHandle::new(tokio::spawn(serving))))
}

/// Both conversations with the control plane, for ever.
async fn converse(
    services: Arc<Services>,
    engine: TaskEngine,
    credentials: Arc<CredentialSets>,
    connector: Arc<dyn Connector>,
    identity: Identity,
) {
    let mut backoff =
        Backoff::new(Duration::from_millis(250), Duration::from_secs(60), 2.0);
    let (acs, tcs) = loop {
        match discover(&services, &identity).await {
            Ok(endpoints) => break endpoints,
            Err(error) => tracing::warn!(%error, "where to talk is unknown"),
        }
        tokio::time::sleep(backoff.next_delay(services.ids.seed())).await;
    };
    let hello = Hello {
        endpoint: tcs,
        cluster: identity.cluster.clone(),
        container_instance_arn: identity.container_instance_arn.clone(),
        send_credentials: false,
        agent_version: services.config.version.clone(),
    };
    let telemetry = run_tcs(
        Arc::clone(&services),
        engine.clone(),
        Arc::clone(&connector),
        hello,
    );
    let sweep = sweep::run(Arc::clone(&services), engine.clone());
    let work = run_acs(services, engine, credentials, connector, identity, acs);
    tokio::join!(work, telemetry, sweep);
}
