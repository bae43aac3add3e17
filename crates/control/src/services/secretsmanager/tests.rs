mod deletion;
mod list;
mod password;
mod policies;
mod secrets;
mod values;
mod versions;

use minato_wire::ApiError;
use serde_json::{Value, json};

use crate::testing::TestBed;

const NOT_FOUND: &str = "ResourceNotFoundException: Secrets Manager can't \
                         find the specified secret.";
const LEAVING: &str = "InvalidRequestException: You can't perform this \
                       operation on the secret because it was marked for \
                       deletion.";
/// The start of the clock and of its day, in seconds.
const START: i64 = 1_700_000_000;
const TODAY: i64 = 1_699_920_000;

async fn call(
    bed: &TestBed,
    operation: &str,
    input: Value,
) -> Result<Value, ApiError> {
    super::dispatch(&bed.cx, &bed.scope(), operation, input).await
}

async fn ok(bed: &TestBed, operation: &str, input: Value) -> Value {
    call(bed, operation, input)
        .await
        .unwrap_or_else(|e| panic!("{operation}: {e:?}"))
}

async fn refused(bed: &TestBed, operation: &str, input: Value) -> String {
    let error = call(bed, operation, input).await.unwrap_err();
    format!("{}: {}", error.code(), error.message())
}

async fn code(bed: &TestBed, operation: &str, input: Value) -> String {
    let error = call(bed, operation, input).await.unwrap_err();
    error.code().to_owned()
}

/// The id of a version.
fn v(number: usize) -> String {
    format!("{number:032}")
}

/// A secret `db` with the value `one` as version 1.
async fn bed() -> TestBed {
    let bed = TestBed::new();
    ok(&bed, "CreateSecret", db()).await;
    bed
}

fn db() -> Value {
    json!({
        "Name": "db", "SecretString": "one", "ClientRequestToken": v(1),
    })
}

async fn put(bed: &TestBed, number: usize, stages: Value) -> Value {
    let input = json!({
        "SecretId": "db", "SecretString": format!("value {number}"),
        "ClientRequestToken": v(number), "VersionStages": stages,
    });
    ok(bed, "PutSecretValue", input).await
}

async fn get(bed: &TestBed, input: Value) -> String {
    let output = ok(bed, "GetSecretValue", input).await;
    output["SecretString"].as_str().unwrap().to_owned()
}

async fn describe(bed: &TestBed, id: &str) -> Value {
    ok(bed, "DescribeSecret", json!({"SecretId": id})).await
}

async fn stages(bed: &TestBed) -> Value {
    describe(bed, "db").await["VersionIdsToStages"].clone()
}

/// An input of UpdateSecretVersionStage.
fn relabel(stage: &str, from: Option<usize>, to: Option<usize>) -> Value {
    json!({
        "SecretId": "db", "VersionStage": stage,
        "RemoveFromVersionId": from.map(v), "MoveToVersionId": to.map(v),
    })
}

/// Secrets to look for, each a second younger than the one before.
async fn many() -> TestBed {
    let bed = TestBed::new();
    let secrets = [
        ("web/credsDatabase1", "My basic description", "env", "Prod"),
        ("web/token", "Description of my secret", "environment", "test"),
        ("Database", "something else", "team", "prod-2"),
    ];
    for (name, description, key, value) in secrets {
        let input = json!({
            "Name": name, "Description": description, "SecretString": name,
            "Tags": [{"Key": key, "Value": value}],
        });
        ok(&bed, "CreateSecret", input).await;
        bed.clock.advance_ms(1000);
    }
    bed
}
