use minato_store::Key;
use minato_wire::ApiError;
use serde_json::{Value, json};

use super::rows::SessionRow;
use crate::testing::TestBed;

const ROLE: &str = "arn:aws:iam::000000000000:role/team/deploy";

async fn call(
    bed: &TestBed,
    operation: &str,
    input: Value,
) -> Result<Value, ApiError> {
    super::dispatch(&bed.cx, &bed.scope(), operation, input).await
}

async fn bed() -> TestBed {
    let bed = TestBed::new();
    let role = json!({
        "RoleName": "deploy", "Path": "/team/",
        "AssumeRolePolicyDocument":
            r#"{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}"#,
    });
    let scope = bed.scope();
    crate::services::iam::dispatch(&bed.cx, &scope, "CreateRole", role)
        .await
        .unwrap();
    bed
}

fn assume() -> Value {
    json!({"RoleArn": ROLE, "RoleSessionName": "ci"})
}

#[tokio::test]
async fn the_caller_is_who_signed() {
    let bed = TestBed::new();
    let who = call(&bed, "GetCallerIdentity", json!({})).await.unwrap();
    assert_eq!(who["Account"], "000000000000");
    assert_eq!(who["Arn"], "arn:aws:iam::000000000000:root");
}

#[tokio::test]
async fn an_assumed_role_has_a_credential_until_it_expires() {
    let bed = bed().await;
    let output = call(&bed, "AssumeRole", assume()).await.unwrap();
    assert_eq!(
        output["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::000000000000:assumed-role/deploy/ci"
    );
    let key = output["Credentials"]["AccessKeyId"].as_str().unwrap();
    assert!(key.starts_with("ASIA") && key.len() == 20, "{key}");
    let secret = output["Credentials"]["SecretAccessKey"].as_str().unwrap();
    assert_eq!(secret.len(), 40);
    let credential = super::credential(&bed.cx, key).unwrap();
    assert_eq!(credential.secret, secret);
    assert_eq!(
        credential.session_token.as_deref(),
        output["Credentials"]["SessionToken"].as_str()
    );
    let expires = credential.expires_at.unwrap();
    assert_eq!(expires, bed.scope().now.plus_millis(3_600_000));
    let id = output["AssumedRoleUser"]["AssumedRoleId"].as_str().unwrap();
    assert!(id.starts_with("AROA") && id.ends_with(":ci"));
    assert_eq!(credential.caller.user_id, id);
    // The next one clears away what is over.
    bed.clock.advance_ms(3_600_000);
    call(&bed, "AssumeRole", assume()).await.unwrap();
    let left = bed.cx.snapshot().scan::<SessionRow>(&Key::root()).count();
    assert_eq!(left, 1);
    assert!(super::credential(&bed.cx, key).is_none());
}

#[tokio::test]
async fn roles_that_are_not_there_cannot_be_told_from_forbidden_ones() {
    let bed = bed().await;
    // The path is part of the ARN, so this is another role.
    let input = json!({
        "RoleArn": "arn:aws:iam::000000000000:role/deploy",
        "RoleSessionName": "ci",
    });
    let error = call(&bed, "AssumeRole", input).await.unwrap_err();
    assert_eq!((error.code(), error.status()), ("AccessDenied", 403));
    assert!(error.message().contains("sts:AssumeRole on resource"));
}

#[tokio::test]
async fn promises_that_cannot_be_kept_are_not_made() {
    let bed = bed().await;
    for (name, value, code) in [
        ("DurationSeconds", json!(3601), "ValidationError"),
        ("Policy", json!("{}"), "ValidationError"),
        ("Tags", json!([{"Key": "a", "Value": "b"}]), "ValidationError"),
        ("TokenCode", json!("123456"), "AccessDenied"),
        ("RoleArn", json!("arn:aws:iam::1:user/x"), "ValidationError"),
    ] {
        let mut input = assume();
        input[name] = value;
        let error = call(&bed, "AssumeRole", input).await.unwrap_err();
        assert_eq!(error.code(), code, "{name}");
    }
}

#[tokio::test]
async fn session_tokens_are_for_long_term_credentials() {
    let bed = bed().await;
    let output = call(&bed, "GetSessionToken", json!({})).await.unwrap();
    let key = output["Credentials"]["AccessKeyId"].as_str().unwrap();
    let credential = super::credential(&bed.cx, key).unwrap();
    assert_eq!(credential.caller.arn, "arn:aws:iam::000000000000:root");
    let mut scope = bed.scope();
    scope.caller = credential.caller;
    let error = super::dispatch(&bed.cx, &scope, "GetSessionToken", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "AccessDenied");
}
