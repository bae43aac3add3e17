use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use minato_core::env::Clock;
use minato_wire::sigv4::{Expected, Key, KeyCache, RequestParts, Unverified};
use minato_wire::{Timestamp, ecs, sts};
use serde_json::json;

use super::*;

struct Noon;

const NOON: Timestamp = Timestamp::from_millis(1_795_350_000_000);

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        NOON
    }
}

type Seen = Arc<Mutex<Vec<Request<Bytes>>>>;

/// A client whose every call gets this answer.
fn answered(status: u16, body: &'static str) -> (ApiClient, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let service = tower::service_fn(move |request: Request<Bytes>| {
        kept.lock().unwrap().push(request);
        let response =
            Response::builder().status(status).body(Bytes::from(body));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    (client(service), seen)
}

fn client<S>(service: S) -> ApiClient
where
    S: tower::Service<Request<Bytes>, Response = Response<Bytes>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "secret".into(),
        session_token: Some("token".into()),
    };
    ApiClient::new(
        service,
        Endpoint::in_memory(),
        credentials,
        "us-east-1",
        Arc::new(Noon),
    )
}

async fn list(
    client: &ApiClient,
) -> Result<ecs::ListClustersResponse, CallError> {
    let input = ecs::ListClustersRequest::default();
    client.call(&ecs::SERVICE, "ListClusters", &input).await
}

#[tokio::test]
async fn a_call_is_signed_and_its_answer_typed() {
    let (client, seen) = answered(200, r#"{"clusterArns":["a"]}"#);
    let output = list(&client).await.unwrap();
    assert_eq!(output.cluster_arns, Some(vec!["a".to_owned()]));
    let seen = seen.lock().unwrap();
    let request = &seen[0];
    assert_eq!(request.body().as_ref(), b"{}");
    assert_eq!(
        request.headers()["x-amz-target"],
        "AmazonEC2ContainerServiceV20141113.ListClusters"
    );
    let parts = RequestParts {
        method: request.method(),
        path: request.uri().path(),
        query: None,
        headers: request.headers(),
        body: request.body(),
    };
    let key = Key {
        secret: "secret",
        session_token: Some("token"),
        expires_at: None,
    };
    let proof = Unverified::parse(&parts)
        .unwrap()
        .verify(
            &parts,
            key,
            Expected::of(&ecs::SERVICE),
            NOON,
            &KeyCache::new(),
        )
        .unwrap();
    assert_eq!(proof.region(), "us-east-1");
}

#[tokio::test]
async fn errors_of_the_api_are_read() {
    let body = r#"{"__type":"com.amazonaws.ecs#ConflictException",
        "message":"no","resourceIds":["a"]}"#;
    let (client, _) = answered(400, body);
    let error = list(&client).await.unwrap_err();
    assert_eq!(error.code(), Some("ConflictException"));
    assert_eq!(error.to_string(), "ConflictException: no");
    assert!(!error.is_retryable());
    let fields = error.api_error().unwrap().fields();
    assert_eq!(fields["resourceIds"], json!(["a"]));

    let (client, _) = answered(502, "<html>");
    let error = list(&client).await.unwrap_err();
    assert_eq!(error.code(), Some("Http502"));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_answer_that_is_not_the_operations_is_an_error() {
    let (client, _) = answered(200, r#"{"clusterArns":7}"#);
    assert!(matches!(list(&client).await, Err(CallError::Decode { .. })));
    let (client, _) = answered(200, "<html>");
    assert!(matches!(list(&client).await, Err(CallError::Decode { .. })));
    let (client, _) = answered(200, "");
    assert!(list(&client).await.is_ok());
}

#[tokio::test]
async fn only_known_json_operations_are_called() {
    let (client, seen) = answered(200, "{}");
    for (service, operation) in
        [(&ecs::SERVICE, "Nope"), (&sts::SERVICE, "GetCallerIdentity")]
    {
        let error = client
            .call_value(service, operation, &json!({}))
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::NoOperation { .. }));
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends() {
    let service = tower::service_fn(|_: Request<Bytes>| {
        std::future::pending::<Result<Response<Bytes>, Infallible>>()
    });
    let client = client(service).with_timeout(Duration::from_secs(3));
    let error = list(&client).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_refused_connection_is_a_transport_error() {
    // Bound and closed again: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let client = ApiClient::new(
        HttpTransport::new(),
        Endpoint::parse(&url).unwrap(),
        Credentials {
            access_key_id: "a".into(),
            secret_access_key: "b".into(),
            session_token: None,
        },
        "us-east-1",
        Arc::new(Noon),
    );
    let error = list(&client).await.unwrap_err();
    assert!(matches!(error, CallError::Transport { .. }), "{error:?}");
}

#[test]
fn endpoints_are_read() {
    let endpoint = Endpoint::parse("http://127.0.0.1:4566/").unwrap();
    assert_eq!(endpoint.to_string(), "http://127.0.0.1:4566");
    for url in ["", "127.0.0.1", "https://a", "http://a/b", "ftp://a"] {
        assert!(Endpoint::parse(url).is_err(), "{url}");
    }
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let (client, _) = answered(200, "");
    let text = format!("{client:?}");
    assert!(!text.contains("secret\"") && !text.contains("token\""), "{text}");
}
