//! What clients in good faith see.

use http::{HeaderMap, HeaderValue, Method};
use minato_client::CallError;
use minato_wire::sigv4::{Signer, presign, sign};

use super::*;

fn signer(service: &'static str) -> Signer<'static> {
    Signer {
        access_key_id: "AKIDEXAMPLE",
        secret: "secret",
        session_token: None,
        region: "eu-west-1",
        service,
        now: NOW,
    }
}

fn form(service: &'static str, body: &'static str) -> Request<Bytes> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("minato"));
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    let signer = signer(service);
    let post = Method::POST;
    sign(&signer, &post, ("/", None), &mut headers, body.as_bytes()).unwrap();
    let mut request = Request::new(Bytes::from_static(body.as_bytes()));
    *request.method_mut() = post;
    *request.headers_mut() = headers;
    request
}

fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

async fn list(client: &ApiClient) -> Result<Vec<String>, CallError> {
    let input = ecs::ListClustersRequest::default();
    let output: ecs::ListClustersResponse =
        client.call(&ecs::SERVICE, "ListClusters", &input).await?;
    Ok(output.cluster_arns.unwrap_or_default())
}

fn in_memory(trust: Trust, secret: &str) -> ApiClient {
    client_over(gateway(trust), Endpoint::in_memory(), secret)
}

#[tokio::test]
async fn a_signed_call_reaches_the_backend_in_memory() {
    let arns = list(&in_memory(Trust::Signatures, "secret")).await.unwrap();
    assert_eq!(arns, ["eu-west-1", "arn:aws:iam::000000000000:root"]);
}

#[tokio::test]
async fn a_signed_call_reaches_the_backend_over_http() {
    let running = Running::start(Limits::default()).await;
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_unless_any_will_do() {
    let error = list(&in_memory(Trust::Signatures, "wrong")).await.unwrap_err();
    assert_eq!(error.code(), Some("InvalidSignatureException"));
    let anyone = Trust::AnyCredentials(caller("anyone"));
    let arns = list(&in_memory(anyone.clone(), "wrong")).await.unwrap();
    // The key is known, so it is its owner.
    assert_eq!(arns[1], "arn:aws:iam::000000000000:root");
    let stranger = Credentials {
        access_key_id: "test".into(),
        secret_access_key: "test".into(),
        session_token: Some("any".into()),
    };
    let client = in_memory(anyone, "").with_credentials(stranger.clone());
    let arns = list(&client).await.unwrap();
    assert_eq!(arns[1], "arn:aws:iam::000000000000:anyone");
    let client = in_memory(Trust::Signatures, "").with_credentials(stranger);
    let error = list(&client).await.unwrap_err();
    assert_eq!(error.code(), Some("UnrecognizedClientException"));
}

#[tokio::test]
async fn an_unsigned_call_is_refused_in_its_protocol() {
    for trust in [Trust::Signatures, Trust::AnyCredentials(caller("a"))] {
        let gateway = gateway(trust);
        let mut request = Request::new(Bytes::from_static(b"{}"));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(
            "x-amz-target",
            HeaderValue::from_static(
                "AmazonEC2ContainerServiceV20141113.ListClusters",
            ),
        );
        let response = gateway.answer(request).await;
        assert_eq!(response.status(), 400);
        assert_eq!(
            text(&response),
            r#"{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}"#
        );
        let body = "Action=GetCallerIdentity&Version=2011-06-15";
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        let response = gateway.answer(request).await;
        assert_eq!(response.status(), 403);
        let text = text(&response);
        assert!(text.contains("<Code>MissingAuthenticationToken</Code>"));
    }
}

#[tokio::test]
async fn query_calls_are_answered_in_xml() {
    let gateway = gateway(Trust::Signatures);
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let response = gateway.answer(form("sts", body)).await;
    assert_eq!(response.status(), 200);
    assert!(text(&response).contains("<UserId>AKIDEXAMPLE</UserId>"));
    let id = response.headers()["x-amzn-requestid"].to_str().unwrap();
    let written = format!("<RequestId>{id}</RequestId>");
    assert!(text(&response).contains(&written));

    let response = gateway.answer(form("ec2", "Action=RunInstances")).await;
    assert_eq!(response.status(), 400);
    let text = text(&response);
    assert!(text.contains("<Response>\n"), "{text}");
    assert!(text.contains("<Code>UnsupportedOperation</Code>"), "{text}");
}

#[tokio::test]
async fn a_scope_of_another_service_is_refused() {
    let gateway = gateway(Trust::Signatures);
    let client = client_over(gateway.clone(), Endpoint::in_memory(), "secret");
    // Signed for IAM, sent to STS's action: IAM has no such action.
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let response = gateway.answer(form("iam", body)).await;
    assert!(text(&response).contains("<Code>InvalidAction</Code>"));
    assert!(list(&client).await.is_ok());
}

#[tokio::test]
async fn a_presigned_get_is_answered() {
    let query = "Action=GetCallerIdentity&Version=2011-06-15";
    let query =
        presign(&signer("sts"), "minato", ("/", Some(query)), 60).unwrap();
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = format!("http://minato/?{query}").parse().unwrap();
    let response = gateway(Trust::Signatures).answer(request).await;
    assert_eq!(response.status(), 200, "{}", text(&response));
}

#[tokio::test]
async fn a_panic_and_a_failure_tell_no_details() {
    let client = in_memory(Trust::Signatures, "secret");
    for (operation, input) in [
        ("DescribeTasks", json!({"tasks": ["a"]})),
        ("StopTask", json!({"task": "a"})),
    ] {
        let error = client
            .call_value(&ecs::SERVICE, operation, &input)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some("ServerException"));
        let error = error.api_error().unwrap();
        assert_eq!(error.status(), 500);
        assert!(!error.message().contains("secret"), "{}", error.message());
    }
    assert!(list(&client).await.is_ok());
}

#[tokio::test]
async fn inputs_are_validated_before_the_backend_sees_them() {
    let client = in_memory(Trust::Signatures, "secret");
    let call = |input| {
        let client = client.clone();
        async move { client.call_value(&ecs::SERVICE, "RunTask", &input).await }
    };
    let error = call(json!({"taskDefinition": 7})).await.unwrap_err();
    assert_eq!(error.code(), Some("SerializationException"));
    let echoed =
        call(json!({"taskDefinition": "a", "count": null, "x": 1})).await;
    assert_eq!(echoed.unwrap(), json!({"taskDefinition": "a"}));
}

#[tokio::test]
async fn health_needs_no_signature_and_other_methods_get_no_answer() {
    let gateway = gateway(Trust::Signatures);
    let request = |method: Method, path: &str| {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    let response =
        gateway.answer(request(Method::GET, crate::HEALTH_PATH)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(&response), r#"{"status":"ok"}"#);
    let response = gateway.answer(request(Method::DELETE, "/")).await;
    assert_eq!(response.status(), 405);
    let response = gateway.answer(request(Method::GET, "/")).await;
    assert_eq!(response.status(), 400);
}
