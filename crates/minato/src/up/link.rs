//! What joins the agent to the control plane of its own process: the session
//! channels, and API calls that never leave memory.

use std::fmt;

use futures_util::future::BoxFuture;
use minato_agent::api::{Api, ApiCall, ApiCallError, ApiService};
use minato_agent::session::{
    Channel, ConnectError, Connector, DataChannel, Hello,
};
use minato_client::{ApiClient, CallError, Credentials};
use minato_control::{
    AgentHello, AgentLink, ControlPlane, OpenSessionError, SessionKind,
};
use minato_wire::{ecs, logs, minato, secretsmanager, ssm};
use serde_json::Value;

/// Opens sessions as channels.
pub(super) struct InProcess {
    control: ControlPlane,
    account: String,
    region: String,
}

impl InProcess {
    pub(super) fn new(
        control: ControlPlane,
        account: &str,
        region: &str,
    ) -> InProcess {
        InProcess {
            control,
            account: account.to_owned(),
            region: region.to_owned(),
        }
    }

    fn open(
        &self,
        kind: SessionKind,
        hello: &Hello,
    ) -> Result<Channel, ConnectError> {
        let hello = AgentHello {
            account: self.account.clone(),
            region: self.region.clone(),
            container_instance_arn: hello.container_instance_arn.clone(),
            agent_version: hello.agent_version.clone(),
            agent_hash: String::new(),
            docker_version: format!("Minato {}", hello.agent_version),
        };
        match self.control.open_session(kind, hello) {
            Ok(AgentLink { incoming, outgoing }) => {
                Ok(Channel { sender: outgoing, receiver: incoming })
            }
            Err(error @ OpenSessionError::InactiveInstance { .. }) => {
                Err(ConnectError::Inactive { message: error.to_string() })
            }
            Err(error @ OpenSessionError::UnknownInstance { .. }) => {
                Err(ConnectError::Failed { message: error.to_string() })
            }
        }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

impl Connector for InProcess {
    fn open_acs<'a>(
        &'a self,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Channel, ConnectError>> {
        Box::pin(async move { self.open(SessionKind::Acs, hello) })
    }

    fn open_tcs<'a>(
        &'a self,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Channel, ConnectError>> {
        Box::pin(async move { self.open(SessionKind::Tcs, hello) })
    }

    fn open_exec<'a>(
        &'a self,
        session_id: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<DataChannel, ConnectError>> {
        let joined = self.control.join_exec_session(session_id, token);
        let channel = joined.map(|ends| DataChannel {
            sender: ends.outgoing,
            receiver: ends.incoming,
        });
        Box::pin(async move {
            channel.ok_or_else(|| ConnectError::Failed {
                message: "the session is over".to_owned(),
            })
        })
    }
}

/// The agent's API calls, signed like everybody's.
#[derive(Debug)]
pub(super) struct ClientApi {
    client: ApiClient,
}

impl ClientApi {
    pub(super) fn new(client: ApiClient) -> ClientApi {
        ClientApi { client }
    }
}

impl Api for ClientApi {
    fn call_as<'a>(
        &'a self,
        role: Option<Credentials>,
        service: ApiService,
        region: &'a str,
        operation: &'static str,
        input: Value,
    ) -> ApiCall<'a> {
        Box::pin(async move {
            let service = match service {
                ApiService::Ecs => &ecs::SERVICE,
                ApiService::Logs => &logs::SERVICE,
                ApiService::Minato => &minato::SERVICE,
                ApiService::SecretsManager => &secretsmanager::SERVICE,
                ApiService::Ssm => &ssm::SERVICE,
            };
            let mut client = self.client.in_region(region);
            if let Some(role) = role {
                client = client.with_credentials(role);
            }
            let called = client.call_value(service, operation, &input).await;
            called.map_err(|error| {
                if let CallError::Api(error) = error {
                    return ApiCallError {
                        code: Some(error.code().to_owned()),
                        message: error.message().to_owned(),
                    };
                }
                ApiCallError { code: None, message: error.to_string() }
            })
        })
    }
}
