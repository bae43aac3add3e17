//! The gateway with a backend of its own, in memory and on a socket.

mod data_channel;
mod hostile;
mod requests;
mod stock_client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use minato_client::{ApiClient, Credentials, Endpoint, HttpTransport};
use minato_control::DataChannel;
use minato_control::call::{Backend, Call, Caller, Credential, Verified};
use minato_core::env::{Clock, Ids};
use minato_wire::model::Service;
use minato_wire::{
    ApiError, Timestamp, ec2, ecs, iam, logs, secretsmanager, ssm, sts,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Gateway, Limits, Server, Trust};

const NOW: Timestamp = Timestamp::from_millis(1_795_350_290_000);

/// Nothing here takes that long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(20);

struct Env(AtomicU64);

impl Clock for Env {
    fn now(&self) -> Timestamp {
        NOW
    }
}

impl Ids for Env {
    fn uuid(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn caller(name: &str) -> Caller {
    Caller {
        account: "000000000000".into(),
        arn: format!("arn:aws:iam::000000000000:{name}"),
        user_id: name.into(),
        access_key_id: String::new(),
    }
}

/// Knows one access key; `DescribeTasks` panics, `StopTask` fails.
#[derive(Default)]
struct Echo;

impl Backend for Echo {
    fn credential(&self, access_key_id: &str) -> Option<Credential> {
        (access_key_id == "AKIDEXAMPLE").then(|| Credential {
            secret: "secret".into(),
            session_token: None,
            expires_at: None,
            caller: caller("root"),
        })
    }

    async fn call(&self, call: Verified<Call>) -> Result<Value, ApiError> {
        let call = call.into_inner();
        match call.operation.name {
            "DescribeTasks" => panic!("secret detail"),
            "StopTask" => Err(ApiError::new("ServerException", 500, "Sorry.")
                .with_internal("secret detail")),
            "GetCallerIdentity" => Ok(json!({
                "Arn": call.caller.arn, "Account": call.caller.account,
                "UserId": call.caller.access_key_id,
            })),
            "ListClusters" => {
                Ok(json!({"clusterArns": [call.region, call.caller.arn]}))
            }
            _ => Ok(call.input),
        }
    }

    /// Sends back what it gets, from who opens with `in`.
    fn open_data_channel(
        &self,
        session_id: &str,
        opening: &str,
    ) -> Result<DataChannel, Bytes> {
        if opening != "in" {
            let refusal = format!("{session_id}: not {opening}");
            return Err(Bytes::from(refusal));
        }
        let (outgoing, incoming) = tokio::sync::mpsc::channel(4);
        Ok(DataChannel { incoming, outgoing })
    }
}

fn services() -> Vec<&'static Service> {
    vec![
        &ecs::SERVICE,
        &logs::SERVICE,
        &sts::SERVICE,
        &ec2::SERVICE,
        &iam::SERVICE,
        &secretsmanager::SERVICE,
        &ssm::SERVICE,
    ]
}

fn gateway(trust: Trust) -> Gateway<Echo> {
    let env = Arc::new(Env(AtomicU64::new(1)));
    Gateway::new(Echo, services(), trust, Arc::<Env>::clone(&env), env)
}

fn client_over<S>(transport: S, endpoint: Endpoint, secret: &str) -> ApiClient
where
    S: tower::Service<Request<Bytes>, Response = Response<Bytes>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<minato_client::BoxError>,
    S::Future: Send + 'static,
{
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: secret.into(),
        session_token: None,
    };
    let clock = Arc::new(Env(AtomicU64::new(0)));
    ApiClient::new(transport, endpoint, credentials, "eu-west-1", clock)
}

/// A server on a port of its own, stopped by [`Running::stop`].
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    async fn start(limits: Limits) -> Running {
        Running::over(gateway(Trust::Signatures), limits).await
    }

    async fn over(gateway: Gateway<Echo>, limits: Limits) -> Running {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any, gateway, limits).await.unwrap();
        let address = server.local_addr();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(server.serve(stop.clone()));
        tasks.close();
        Running { address, stop, tasks }
    }

    fn client(&self) -> ApiClient {
        let url = format!("http://{}", self.address);
        let endpoint = Endpoint::parse(&url).unwrap();
        client_over(HttpTransport::new(), endpoint, "secret")
            .with_timeout(DEADLINE)
    }

    /// Shows that others are still answered.
    async fn assert_answers(&self) {
        let input = ecs::ListClustersRequest::default();
        let output: ecs::ListClustersResponse = self
            .client()
            .call(&ecs::SERVICE, "ListClusters", &input)
            .await
            .unwrap();
        let arns = output.cluster_arns.unwrap();
        assert_eq!(arns[0], "eu-west-1");
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.tasks.wait()).await.unwrap();
    }
}
