use serde_json::json;

use super::{
    LEAVING, NOT_FOUND, START, bed, code, db, describe, get, ok, refused,
    relabel,
};
use crate::services::secretsmanager::rows::{DAY_MS, SecretRow};
use crate::services::secretsmanager::sweep;
use crate::testing::{ACCOUNT, TestBed};

#[tokio::test]
async fn a_secret_can_be_restored_until_its_window_ends() {
    let bed = bed().await;
    let arn = describe(&bed, "db").await["ARN"].clone();
    let delete = json!({"SecretId": "db", "RecoveryWindowInDays": 7});
    let answer = ok(&bed, "DeleteSecret", delete.clone()).await;
    assert_eq!(answer["ARN"], arn);
    assert_eq!(answer["DeletionDate"], START + 7 * DAY_MS / 1000);
    assert_eq!(describe(&bed, "db").await["DeletedDate"], START);
    assert_eq!(
        refused(&bed, "DeleteSecret", delete.clone()).await,
        "InvalidRequestException: You can't perform this operation on the \
         secret because it was already scheduled for deletion."
    );
    bed.clock.advance_ms(7 * DAY_MS - 1);
    let id = json!({"SecretId": "db"});
    let answer = ok(&bed, "RestoreSecret", id.clone()).await;
    bed.clock.advance_ms(1);
    assert_eq!((&answer["ARN"], &answer["Name"]), (&arn, &json!("db")));
    assert_eq!(describe(&bed, "db").await.get("DeletedDate"), None);
    assert_eq!(get(&bed, id.clone()).await, "one");
    ok(&bed, "RestoreSecret", id.clone()).await;
    ok(&bed, "DeleteSecret", delete).await;
    bed.clock.advance_ms(7 * DAY_MS);
    for operation in
        ["RestoreSecret", "DescribeSecret", "GetSecretValue", "DeleteSecret"]
    {
        assert_eq!(refused(&bed, operation, id.clone()).await, NOT_FOUND);
    }
    // The same name, another secret.
    let made = ok(&bed, "CreateSecret", db()).await;
    assert_ne!(made["ARN"], arn);
    let old = json!({"SecretId": arn});
    assert_eq!(refused(&bed, "GetSecretValue", old).await, NOT_FOUND);
    let answer = ok(&bed, "DeleteSecret", id).await;
    assert_eq!(answer["DeletionDate"], START + 44 * DAY_MS / 1000);
}

#[tokio::test]
async fn a_secret_to_be_deleted_is_left_alone() {
    let bed = bed().await;
    ok(&bed, "DeleteSecret", json!({"SecretId": "db"})).await;
    let policy = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Principal": {"AWS": ACCOUNT},
        "Action": "secretsmanager:*", "Resource": "*",
    }});
    for (operation, extra) in [
        ("GetSecretValue", json!({})),
        ("PutSecretValue", json!({"SecretString": "x"})),
        ("UpdateSecret", json!({"Description": "x"})),
        ("UpdateSecretVersionStage", relabel("x", None, Some(1))),
        ("TagResource", json!({"Tags": [{"Key": "a", "Value": "b"}]})),
        ("UntagResource", json!({"TagKeys": ["a"]})),
        ("PutResourcePolicy", json!({"ResourcePolicy": policy.to_string()})),
        ("GetResourcePolicy", json!({})),
        ("DeleteResourcePolicy", json!({})),
        (
            "RotateSecret",
            json!({"RotateImmediately": false, "RotationLambdaARN": "f"}),
        ),
        ("CancelRotateSecret", json!({})),
    ] {
        let mut input = extra;
        input["SecretId"] = json!("db");
        assert_eq!(refused(&bed, operation, input).await, LEAVING);
    }
}

#[tokio::test]
async fn a_forced_deletion_is_at_once_and_can_be_repeated() {
    let bed = bed().await;
    let force = json!({"SecretId": "db", "ForceDeleteWithoutRecovery": true});
    let answer = ok(&bed, "DeleteSecret", force.clone()).await;
    assert_eq!(answer["DeletionDate"], START);
    let id = json!({"SecretId": "db"});
    assert_eq!(refused(&bed, "DescribeSecret", id.clone()).await, NOT_FOUND);
    assert_eq!(
        ok(&bed, "DeleteSecret", force.clone()).await,
        json!({"Name": "db", "DeletionDate": START})
    );
    let arn = answer["ARN"].clone();
    let by_arn = json!({"SecretId": arn, "ForceDeleteWithoutRecovery": true});
    assert_eq!(
        ok(&bed, "DeleteSecret", by_arn).await,
        json!({"ARN": arn, "DeletionDate": START})
    );
    ok(&bed, "CreateSecret", db()).await;
    ok(&bed, "DeleteSecret", id.clone()).await;
    ok(&bed, "DeleteSecret", force).await;
    assert_eq!(refused(&bed, "RestoreSecret", id).await, NOT_FOUND);
    ok(&bed, "CreateSecret", db()).await;
    let invalid = "InvalidParameterException";
    for extra in [
        json!({"RecoveryWindowInDays": 6}),
        json!({"RecoveryWindowInDays": 31}),
        json!({"RecoveryWindowInDays": 0}),
        json!({
            "RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": true,
        }),
    ] {
        let mut input = extra;
        input["SecretId"] = json!("db");
        assert_eq!(code(&bed, "DeleteSecret", input).await, invalid);
    }
    let input = json!({
        "SecretId": "db", "RecoveryWindowInDays": 30,
        "ForceDeleteWithoutRecovery": false,
    });
    ok(&bed, "DeleteSecret", input).await;
}

#[tokio::test]
async fn a_sweep_removes_what_is_gone_and_nothing_else() {
    let bed = TestBed::new();
    for name in ["gone", "leaving", "kept"] {
        ok(&bed, "CreateSecret", json!({"Name": name})).await;
    }
    let days = |name: &str, days: i64| json!({"SecretId": name, "RecoveryWindowInDays": days});
    ok(&bed, "DeleteSecret", days("gone", 7)).await;
    ok(&bed, "DeleteSecret", days("leaving", 8)).await;
    sweep::pass(&bed.cx).await;
    assert_eq!(bed.cx.snapshot().count::<SecretRow>(), 3);
    bed.clock.advance_ms(7 * DAY_MS);
    sweep::pass(&bed.cx).await;
    let rows = bed.cx.snapshot();
    let left = rows.scan::<SecretRow>(&minato_store::Key::root());
    let left: Vec<String> = left.map(|row| row.name.clone()).collect();
    assert_eq!(left, ["kept", "leaving"]);
}
