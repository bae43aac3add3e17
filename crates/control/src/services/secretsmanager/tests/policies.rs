use serde_json::{Value, json};

use super::{NOT_FOUND, START, bed, call, code, describe, ok, refused};
use crate::services::secretsmanager::rows::DAY_MS;
use crate::testing::ACCOUNT;

/// A policy for a principal under a condition.
fn policy(principal: Value, condition: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": principal, "Condition": condition,
        "Action": "secretsmanager:GetSecretValue", "Resource": "*",
    }]})
    .to_string()
}

#[tokio::test]
async fn policies_are_kept_unless_they_are_public() {
    let bed = bed().await;
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let mine = policy(json!({"AWS": root}), Value::Null);
    let put = async |policy: &str, block: Option<bool>| {
        let input = json!({
            "SecretId": "db", "ResourcePolicy": policy,
            "BlockPublicPolicy": block,
        });
        let answer = call(&bed, "PutResourcePolicy", input).await;
        answer.map_err(|e| e.code().to_owned())
    };
    let kept = async || {
        let input = json!({"SecretId": "db"});
        ok(&bed, "GetResourcePolicy", input).await
    };
    assert_eq!(kept().await.get("ResourcePolicy"), None);
    assert_eq!(put(&mine, Some(true)).await.unwrap()["Name"], "db");
    assert_eq!(kept().await["ResourcePolicy"], mine);
    let not = json!({"Statement": {
        "Effect": "Allow", "NotPrincipal": {"AWS": root}, "Action": "*",
    }});
    for public in [
        policy(json!("*"), Value::Null),
        policy(json!({"AWS": "*"}), Value::Null),
        policy(json!({"AWS": [root, "*"]}), Value::Null),
        not.to_string(),
    ] {
        let blocked = Err("PublicPolicyException".to_owned());
        assert_eq!(put(&public, Some(true)).await, blocked);
        assert_eq!(kept().await["ResourcePolicy"], mine);
        put(&public, None).await.unwrap();
        put(&mine, Some(false)).await.unwrap();
    }
    let condition = json!({"StringEquals": {"aws:SourceAccount": ACCOUNT}});
    put(&policy(json!("*"), condition), Some(true)).await.unwrap();
    for odd in ["", "{", "[]", "{}", r#"{"Statement":[]}"#] {
        let malformed = Err("MalformedPolicyDocumentException".to_owned());
        assert_eq!(put(odd, None).await, malformed);
    }
    let id = json!({"SecretId": "db"});
    ok(&bed, "DeleteResourcePolicy", id.clone()).await;
    ok(&bed, "DeleteResourcePolicy", id).await;
    assert_eq!(kept().await.get("ResourcePolicy"), None);
}

#[tokio::test]
async fn policies_are_validated() {
    let bed = bed().await;
    let operation = "ValidateResourcePolicy";
    let mine = policy(json!({"AWS": ACCOUNT}), Value::Null);
    let input = json!({"SecretId": "db", "ResourcePolicy": mine});
    let answer = ok(&bed, operation, input).await;
    assert_eq!(answer["PolicyValidationPassed"], true);
    assert_eq!(answer["ValidationErrors"], json!([]));
    let public = policy(json!("*"), Value::Null);
    let input = json!({"ResourcePolicy": public});
    let answer = ok(&bed, operation, input).await;
    assert_eq!(answer["PolicyValidationPassed"], false);
    let errors = answer["ValidationErrors"].as_array().unwrap();
    assert_eq!(errors.len(), 1);
    let input = json!({"SecretId": "none", "ResourcePolicy": public});
    assert_eq!(refused(&bed, operation, input).await, NOT_FOUND);
    let input = json!({"ResourcePolicy": "{"});
    let malformed = "MalformedPolicyDocumentException";
    assert_eq!(code(&bed, operation, input).await, malformed);
}

#[tokio::test]
async fn rotation_is_recorded_and_cancelled() {
    let bed = bed().await;
    let rotate = async |extra: Value| {
        let mut input = extra;
        input["SecretId"] = json!("db");
        if input.get("RotateImmediately").is_none() {
            input["RotateImmediately"] = json!(false);
        }
        let answer = call(&bed, "RotateSecret", input).await;
        answer.map_err(|e| e.code().to_owned())
    };
    let request = Err("InvalidRequestException".to_owned());
    assert_eq!(rotate(json!({})).await, request, "no function is known");
    let days = json!({"AutomaticallyAfterDays": 10});
    let set = json!({"RotationLambdaARN": "f", "RotationRules": days});
    let mut at_once = set.clone();
    at_once["RotateImmediately"] = json!(true);
    assert_eq!(rotate(at_once).await, request);
    assert_eq!(describe(&bed, "db").await.get("RotationEnabled"), None);
    rotate(set).await.unwrap();
    let seen = describe(&bed, "db").await;
    assert_eq!(seen["RotationEnabled"], true);
    assert_eq!(seen["RotationLambdaARN"], "f");
    assert_eq!(seen["RotationRules"], days);
    assert_eq!(seen["NextRotationDate"], START + 10 * DAY_MS / 1000);
    assert_eq!(seen.get("LastRotatedDate"), None);
    let list = ok(&bed, "ListSecrets", json!({})).await;
    assert_eq!(list["SecretList"][0]["RotationRules"], days);
    let id = json!({"SecretId": "db"});
    ok(&bed, "CancelRotateSecret", id).await;
    let seen = describe(&bed, "db").await;
    assert_eq!(seen["RotationEnabled"], false);
    assert_eq!(seen["RotationRules"], days);
    assert_eq!(seen.get("NextRotationDate"), None);
    // The function is remembered.
    let rate = json!({"ScheduleExpression": "rate(4 hours)"});
    rotate(json!({"RotationRules": rate})).await.unwrap();
    let seen = describe(&bed, "db").await;
    assert_eq!(seen["RotationLambdaARN"], "f");
    assert_eq!(seen["RotationRules"], rate);
    let invalid = Err("InvalidParameterException".to_owned());
    for odd in [
        json!({"RotationRules": {"AutomaticallyAfterDays": 0}}),
        json!({"RotationRules": {"AutomaticallyAfterDays": 1001}}),
        json!({"RotationRules": {"ScheduleExpression": "daily"}}),
        json!({"RotationRules": {"ScheduleExpression": "rate(1 day"}}),
        json!({"RotationRules": {
            "AutomaticallyAfterDays": 1, "ScheduleExpression": "rate(1 day)",
        }}),
        json!({"ExternalSecretRotationRoleArn": "r"}),
    ] {
        assert_eq!(rotate(odd).await, invalid);
    }
}
