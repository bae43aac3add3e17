use serde_json::{Value, json};

use super::{
    NOT_FOUND, START, bed, call, code, db, describe, get, ok, refused, stages,
    v,
};
use crate::testing::TestBed;

#[tokio::test]
async fn a_secret_is_created_and_described() {
    let bed = TestBed::new();
    let input = json!({
        "Name": "app/db_1+=.@-x", "SecretString": "s",
        "Description": "mine", "KmsKeyId": "alias/k",
        "ClientRequestToken": v(7), "Tags": [{"Key": "a", "Value": "b"}],
    });
    let made = ok(&bed, "CreateSecret", input).await;
    assert_eq!(made["Name"], "app/db_1+=.@-x");
    assert_eq!(made["VersionId"], v(7));
    let arn = made["ARN"].as_str().unwrap();
    let (head, suffix) = arn.rsplit_once('-').unwrap();
    assert_eq!(
        head,
        "arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db_1+=.@-x"
    );
    assert_eq!(suffix.len(), 6);
    assert!(suffix.chars().all(|c| c.is_ascii_alphanumeric()));
    assert_eq!(
        describe(&bed, arn).await,
        json!({
            "ARN": arn, "Name": "app/db_1+=.@-x", "Description": "mine",
            "KmsKeyId": "alias/k", "CreatedDate": START,
            "LastChangedDate": START,
            "Tags": [{"Key": "a", "Value": "b"}],
            "VersionIdsToStages": {(v(7)): ["AWSCURRENT"]},
        })
    );
}

#[tokio::test]
async fn a_secret_can_be_created_without_a_value() {
    let bed = TestBed::new();
    let made = ok(&bed, "CreateSecret", json!({"Name": "e"})).await;
    assert_eq!(made.get("VersionId"), None);
    assert_eq!(describe(&bed, "e").await.get("VersionIdsToStages"), None);
    assert_eq!(
        refused(&bed, "GetSecretValue", json!({"SecretId": "e"})).await,
        "ResourceNotFoundException: Secrets Manager can't find the specified \
         secret value for staging label: AWSCURRENT"
    );
    // Its first version is current, whatever its labels.
    let put = json!({
        "SecretId": "e", "SecretString": "x", "VersionStages": ["mine"],
    });
    let put = ok(&bed, "PutSecretValue", put).await;
    assert_eq!(put["VersionStages"], json!(["AWSCURRENT", "mine"]));
    let id = put["VersionId"].as_str().unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(get(&bed, json!({"SecretId": "e"})).await, "x");
}

#[tokio::test]
async fn the_same_creation_again_makes_nothing_new() {
    let bed = bed().await;
    let before = describe(&bed, "db").await;
    bed.clock.advance_ms(1000);
    let again = ok(&bed, "CreateSecret", db()).await;
    assert_eq!(again["ARN"], before["ARN"]);
    assert_eq!(again["VersionId"], v(1));
    assert_eq!(describe(&bed, "db").await, before);
    let exists = "ResourceExistsException";
    for (name, value) in [
        ("SecretString", json!("two")),
        ("ClientRequestToken", json!(v(2))),
        ("Description", json!("other")),
        ("SecretString", Value::Null),
    ] {
        let mut input = db();
        input[name] = value;
        assert_eq!(code(&bed, "CreateSecret", input).await, exists);
    }
    let mut binary = db();
    binary["SecretString"] = Value::Null;
    binary["SecretBinary"] = json!("b25l");
    assert_eq!(code(&bed, "CreateSecret", binary).await, exists);
    assert_eq!(
        refused(&bed, "CreateSecret", json!({"Name": "db"})).await,
        "ResourceExistsException: The operation failed because the secret db \
         already exists."
    );
    ok(&bed, "DeleteSecret", json!({"SecretId": "db"})).await;
    assert_eq!(
        refused(&bed, "CreateSecret", db()).await,
        "InvalidRequestException: You can't create this secret because a \
         secret with this name is already scheduled for deletion."
    );
}

#[tokio::test]
async fn odd_secrets_are_not_created() {
    let bed = TestBed::new();
    let tags = |count: usize| -> Vec<Value> {
        let tag = |n| json!({"Key": format!("k{n}"), "Value": "v"});
        (0..count).map(tag).collect()
    };
    let invalid = "InvalidParameterException";
    for input in [
        json!({"Name": "a b"}),
        json!({"Name": "a:b"}),
        json!({"Name": "gehe\u{ed}m"}),
        json!({"Name": ""}),
        json!({"Name": "a", "SecretString": "x", "SecretBinary": "eA=="}),
        json!({"Name": "a", "SecretString": "x".repeat(65_537)}),
        json!({"Name": "a", "SecretString": "\u{e9}".repeat(32_769)}),
        json!({"Name": "a", "Tags": tags(51)}),
        json!({"Name": "a", "Tags": [{"Key": "aws:x", "Value": "v"}]}),
        json!({"Name": "a", "Tags": [{"Key": "AWS:x", "Value": "v"}]}),
        json!({"Name": "a", "Type": "Partner"}),
    ] {
        assert_eq!(code(&bed, "CreateSecret", input).await, invalid);
    }
    let replicas = json!({
        "Name": "a", "AddReplicaRegions": [{"Region": "eu-west-1"}],
    });
    let request = "InvalidRequestException";
    assert_eq!(code(&bed, "CreateSecret", replicas).await, request);
    let most = json!({
        "Name": "a", "SecretString": "x".repeat(65_536), "Tags": tags(50),
    });
    ok(&bed, "CreateSecret", most).await;
}

#[tokio::test]
async fn secrets_are_found_by_name_arn_and_part_of_it() {
    let bed = bed().await;
    let arn = describe(&bed, "db").await["ARN"].as_str().unwrap().to_owned();
    let (partial, suffix) = arn.rsplit_once('-').unwrap();
    for id in ["db", &arn, partial] {
        assert_eq!(get(&bed, json!({"SecretId": id})).await, "one");
    }
    for id in [
        "other".to_owned(),
        format!("db-{suffix}"),
        format!("{partial}-aaaaaa"),
        arn.replace("us-east-1", "eu-west-1"),
        arn.replace("000000000000", "111111111111"),
        arn.replace(":secret:", ":other:"),
        arn.replace("arn:aws:", "arn:aws-cn:"),
    ] {
        let input = json!({"SecretId": id});
        assert_eq!(refused(&bed, "GetSecretValue", input).await, NOT_FOUND);
    }
    // A name may end as an ARN does.
    let input = json!({"Name": "my-secret", "SecretString": "mine"});
    let made = ok(&bed, "CreateSecret", input).await;
    let whole = made["ARN"].as_str().unwrap();
    let partial = whole.rsplit_once('-').unwrap().0;
    for id in [whole, partial] {
        assert_eq!(get(&bed, json!({"SecretId": id})).await, "mine");
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    let bed = bed().await;
    bed.clock.advance_ms(1000);
    let update = async |extra: Value| {
        let mut input = extra;
        input["SecretId"] = json!("db");
        ok(&bed, "UpdateSecret", input).await
    };
    let answer =
        update(json!({"Description": "d", "KmsKeyId": "alias/k"})).await;
    assert_eq!(answer.get("VersionId"), None);
    let seen = describe(&bed, "db").await;
    assert_eq!(seen["Description"], "d");
    assert_eq!(seen["KmsKeyId"], "alias/k");
    assert_eq!(seen["LastChangedDate"], START + 1);
    assert_eq!(seen["VersionIdsToStages"], json!({(v(1)): ["AWSCURRENT"]}));
    let value = json!({"SecretString": "two", "ClientRequestToken": v(2)});
    assert_eq!(update(value.clone()).await["VersionId"], v(2));
    assert_eq!(get(&bed, json!({"SecretId": "db"})).await, "two");
    assert_eq!(
        stages(&bed).await,
        json!({(v(1)): ["AWSPREVIOUS"], (v(2)): ["AWSCURRENT"]})
    );
    update(json!({"Description": "", "KmsKeyId": ""})).await;
    let seen = describe(&bed, "db").await;
    assert_eq!(seen.get("Description"), None);
    assert_eq!(seen.get("KmsKeyId"), None);
    let mut again = value;
    again["SecretId"] = json!("db");
    let exists = "ResourceExistsException";
    assert_eq!(code(&bed, "UpdateSecret", again).await, exists);
    let invalid = "InvalidParameterException";
    for input in [
        json!({"SecretId": "db", "Type": "Partner"}),
        json!({"SecretId": "db", "SecretString": "a", "SecretBinary": "AA=="}),
    ] {
        assert_eq!(code(&bed, "UpdateSecret", input).await, invalid);
    }
    let none = json!({"SecretId": "none"});
    assert_eq!(refused(&bed, "UpdateSecret", none).await, NOT_FOUND);
}

#[tokio::test]
async fn tags_are_added_replaced_and_removed() {
    let bed = bed().await;
    bed.clock.advance_ms(1000);
    let tag = async |tags: Value| {
        let input = json!({"SecretId": "db", "Tags": tags});
        call(&bed, "TagResource", input).await
    };
    let pair = |key: &str, value: &str| json!({"Key": key, "Value": value});
    tag(json!([pair("b", "1"), pair("a", "1")])).await.unwrap();
    tag(json!([pair("b", "2"), pair("B", "")])).await.unwrap();
    let seen = describe(&bed, "db").await;
    let expected = json!([pair("B", ""), pair("a", "1"), pair("b", "2")]);
    assert_eq!(seen["Tags"], expected);
    assert_eq!(seen["LastChangedDate"], START + 1);
    let more: Vec<Value> =
        (0..48).map(|n| pair(&format!("k{n}"), "")).collect();
    for odd in [json!(more), json!([pair("aws:a", "")])] {
        let error = tag(odd).await.unwrap_err();
        assert_eq!(error.code(), "InvalidParameterException");
    }
    assert_eq!(describe(&bed, "db").await, seen, "all or nothing");
    bed.clock.advance_ms(1000);
    let untag = async |keys: Value| {
        let input = json!({"SecretId": "db", "TagKeys": keys});
        ok(&bed, "UntagResource", input).await;
        describe(&bed, "db").await
    };
    assert_eq!(untag(json!(["none"])).await, seen);
    let seen = untag(json!(["B", "b", "none"])).await;
    assert_eq!(seen["Tags"], json!([pair("a", "1")]));
    assert_eq!(seen["LastChangedDate"], START + 2);
}

#[tokio::test]
async fn replication_is_refused() {
    let bed = bed().await;
    for operation in [
        "RemoveRegionsFromReplication",
        "ReplicateSecretToRegions",
        "StopReplicationToReplica",
    ] {
        assert_eq!(
            refused(&bed, operation, json!({"SecretId": "db"})).await,
            format!(
                "InvalidRequestException: Minato does not serve {operation}: \
                 a secret lives in one region here."
            )
        );
    }
}
