use minato_store::Key;
use minato_wire::Blob;
use serde_json::json;

use super::{
    NOT_FOUND, START, TODAY, bed, code, describe, get, many, ok, put, refused,
    stages, v,
};
use crate::services::secretsmanager::rows::{DAY_MS, SecretRow};
use crate::testing::{ACCOUNT, REGION, TestBed};

#[tokio::test]
async fn a_value_is_read_by_version_and_by_label() {
    let bed = bed().await;
    put(&bed, 2, json!(null)).await;
    let value = ok(&bed, "GetSecretValue", json!({"SecretId": "db"})).await;
    assert_eq!(value["Name"], "db");
    assert_eq!(value["SecretString"], "value 2");
    assert_eq!(value["VersionId"], v(2));
    assert_eq!(value["VersionStages"], json!(["AWSCURRENT"]));
    assert_eq!(value["CreatedDate"], START);
    assert_eq!(value.get("SecretBinary"), None);
    for extra in [
        json!({"VersionId": v(1)}),
        json!({"VersionStage": "AWSPREVIOUS"}),
        json!({"VersionId": v(1), "VersionStage": "AWSPREVIOUS"}),
    ] {
        let mut input = extra;
        input["SecretId"] = json!("db");
        assert_eq!(get(&bed, input).await, "one");
    }
    let missing = "ResourceNotFoundException: Secrets Manager can't find the \
                   specified secret value for";
    for (extra, expected) in [
        (json!({"VersionId": v(9)}), format!("{missing} VersionId: {}", v(9))),
        (json!({"VersionStage": "x"}), format!("{missing} staging label: x")),
        (
            json!({"VersionId": v(1), "VersionStage": "AWSCURRENT"}),
            "InvalidRequestException: You provided a VersionStage that is not \
             associated to the provided VersionId."
                .to_owned(),
        ),
    ] {
        let mut input = extra;
        input["SecretId"] = json!("db");
        assert_eq!(refused(&bed, "GetSecretValue", input).await, expected);
    }
}

#[tokio::test]
async fn binary_values_stay_binary() {
    let bed = bed().await;
    let input = json!({"SecretId": "db", "SecretBinary": "AP8H"});
    ok(&bed, "PutSecretValue", input).await;
    let value = ok(&bed, "GetSecretValue", json!({"SecretId": "db"})).await;
    assert_eq!(value["SecretBinary"], "AP8H");
    assert_eq!(value.get("SecretString"), None);
}

#[tokio::test]
async fn a_read_is_noted_by_the_day_and_is_no_change() {
    let bed = bed().await;
    put(&bed, 2, json!(["new"])).await;
    assert_eq!(describe(&bed, "db").await.get("LastAccessedDate"), None);
    bed.clock.advance_ms(1000);
    get(&bed, json!({"SecretId": "db"})).await;
    let seen = describe(&bed, "db").await;
    assert_eq!(seen["LastAccessedDate"], TODAY);
    assert_eq!(seen["LastChangedDate"], START);
    let list = json!({"SecretId": "db"});
    let list = ok(&bed, "ListSecretVersionIds", list).await;
    assert_eq!(list["Versions"][0]["LastAccessedDate"], TODAY);
    assert_eq!(list["Versions"][1].get("LastAccessedDate"), None);
    bed.clock.advance_ms(DAY_MS);
    let input = json!({"SecretIdList": ["db"]});
    ok(&bed, "BatchGetSecretValue", input).await;
    let seen = describe(&bed, "db").await;
    assert_eq!(seen["LastAccessedDate"], TODAY + DAY_MS / 1000);
}

#[tokio::test]
async fn odd_values_are_not_put() {
    let bed = bed().await;
    let cases = [
        (json!({}), "InvalidRequestException"),
        (
            json!({"SecretString": "a", "SecretBinary": "AA=="}),
            "InvalidParameterException",
        ),
        (
            json!({"SecretString": "x".repeat(65_537)}),
            "InvalidParameterException",
        ),
        (
            json!({"SecretString": "x", "RotationToken": "t"}),
            "InvalidParameterException",
        ),
        (
            json!({"SecretString": "x", "ClientRequestToken": v(1)}),
            "ResourceExistsException",
        ),
        (
            json!({"SecretBinary": "b25l", "ClientRequestToken": v(1)}),
            "ResourceExistsException",
        ),
    ];
    for (extra, expected) in cases {
        let mut input = extra;
        input["SecretId"] = json!("db");
        assert_eq!(code(&bed, "PutSecretValue", input).await, expected);
    }
    let input = json!({"SecretId": "none", "SecretString": "x"});
    assert_eq!(refused(&bed, "PutSecretValue", input).await, NOT_FOUND);
    assert_eq!(stages(&bed).await, json!({(v(1)): ["AWSCURRENT"]}));
}

#[tokio::test]
async fn many_values_are_read_by_a_list() {
    let bed = many().await;
    ok(&bed, "CreateSecret", json!({"Name": "empty"})).await;
    ok(&bed, "DeleteSecret", json!({"SecretId": "Database"})).await;
    let ids = json!(["web/token", "none", "empty", "Database"]);
    let input = json!({"SecretIdList": ids});
    let output = ok(&bed, "BatchGetSecretValue", input).await;
    let values = output["SecretValues"].as_array().unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!(values[0]["SecretString"], "web/token");
    assert_eq!(values[0]["VersionStages"], json!(["AWSCURRENT"]));
    let errors: Vec<_> = output["Errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["SecretId"], &it["ErrorCode"]))
        .collect();
    assert_eq!(
        errors,
        [
            (&json!("none"), &json!("ResourceNotFoundException")),
            (&json!("empty"), &json!("ResourceNotFoundException")),
            (&json!("Database"), &json!("InvalidRequestException")),
        ]
    );
    let filters = json!([{"Key": "name", "Values": ["w"]}]);
    let invalid = "InvalidParameterException";
    for odd in [
        json!({}),
        json!({"SecretIdList": ["web/token"], "Filters": filters}),
        json!({"SecretIdList": ["web/token"], "MaxResults": 1}),
        json!({"SecretIdList": ["web/token"], "NextToken": "x"}),
    ] {
        assert_eq!(code(&bed, "BatchGetSecretValue", odd).await, invalid);
    }
}

#[tokio::test]
async fn many_values_are_read_by_filters() {
    let bed = many().await;
    let mut input = json!({
        "Filters": [{"Key": "name", "Values": ["web/"]}], "MaxResults": 1,
    });
    let first = ok(&bed, "BatchGetSecretValue", input.clone()).await;
    assert_eq!(first["SecretValues"][0]["Name"], "web/credsDatabase1");
    input["NextToken"] = first["NextToken"].clone();
    let rest = ok(&bed, "BatchGetSecretValue", input.clone()).await;
    assert_eq!(rest["SecretValues"].as_array().unwrap().len(), 1);
    assert_eq!(rest["SecretValues"][0]["Name"], "web/token");
    assert_eq!(rest["Errors"], json!([]));
    assert_eq!(rest.get("NextToken"), None);
    input["NextToken"] = json!("x");
    let invalid = "InvalidNextTokenException";
    assert_eq!(code(&bed, "BatchGetSecretValue", input).await, invalid);
}

#[tokio::test]
async fn no_value_lies_in_the_store_in_clear() {
    let bed = TestBed::new();
    let [text, put, update] =
        ["plain text created", "plain text put", "plain text updated"];
    let binary = b"plain binary";
    let input = json!({"Name": "db", "SecretString": text});
    ok(&bed, "CreateSecret", input).await;
    let input = json!({"SecretId": "db", "SecretString": put});
    ok(&bed, "PutSecretValue", input).await;
    let input = json!({"SecretId": "db", "SecretString": update});
    ok(&bed, "UpdateSecret", input).await;
    let binary64 = serde_json::to_value(Blob(binary.to_vec()));
    let binary64 = binary64.unwrap();
    let input = json!({"Name": "bin", "SecretBinary": binary64});
    ok(&bed, "CreateSecret", input).await;
    get(&bed, json!({"SecretId": "db"})).await;
    let snapshot = bed.cx.snapshot();
    let prefix = Key::of([ACCOUNT, REGION]);
    let rows: Vec<_> = snapshot.scan::<SecretRow>(&prefix).collect();
    assert_eq!(rows.len(), 2);
    let versions: usize = rows.iter().map(|row| row.versions.len()).sum();
    assert_eq!(versions, 4);
    let values: [&[u8]; 4] =
        [text.as_bytes(), put.as_bytes(), update.as_bytes(), binary];
    for row in rows {
        let shown = format!("{row:?}{}", serde_json::to_string(&*row).unwrap());
        for value in values {
            let plain = String::from_utf8_lossy(value);
            let blob = Blob(value.to_vec());
            let base64 = serde_json::to_string(&blob).unwrap();
            let bytes = format!("{value:?}");
            for form in [&*plain, base64.trim_matches('"'), &bytes] {
                let form = form.trim_matches(['[', ']', '=']);
                assert!(!shown.contains(form), "{plain}");
            }
        }
    }
}
