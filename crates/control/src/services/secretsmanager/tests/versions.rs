use std::collections::BTreeMap;

use minato_wire::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    NOT_FOUND, START, bed, code, describe, ok, put, refused, relabel, stages, v,
};
use crate::seal::{SEAL_KEY_BYTES, SealKey};
use crate::services::secretsmanager::rows::{
    CURRENT, DAY_MS, PREVIOUS, SecretRow, Version,
};
use crate::testing::{ACCOUNT, REGION};

#[tokio::test]
async fn a_put_moves_the_labels() {
    let bed = bed().await;
    bed.clock.advance_ms(1000);
    let answer = put(&bed, 2, json!(null)).await;
    assert_eq!(answer["VersionId"], v(2));
    assert_eq!(answer["VersionStages"], json!(["AWSCURRENT"]));
    assert_eq!(
        stages(&bed).await,
        json!({(v(1)): ["AWSPREVIOUS"], (v(2)): ["AWSCURRENT"]})
    );
    put(&bed, 3, json!(["AWSPENDING", "x"])).await;
    put(&bed, 4, json!(["AWSCURRENT", "AWSPREVIOUS", "x"])).await;
    assert_eq!(
        stages(&bed).await,
        json!({
            (v(2)): ["AWSPREVIOUS"], (v(3)): ["AWSPENDING"],
            (v(4)): ["AWSCURRENT", "x"],
        })
    );
    let before = describe(&bed, "db").await;
    assert_eq!(before["LastChangedDate"], START + 1);
    bed.clock.advance_ms(1000);
    let again = put(&bed, 4, json!(["other"])).await;
    assert_eq!(again["VersionStages"], json!(["AWSCURRENT", "x"]));
    assert_eq!(describe(&bed, "db").await, before, "nothing is done twice");
}

#[tokio::test]
async fn labels_and_versions_have_quotas() {
    let bed = bed().await;
    let labels: Vec<String> = (0..19).map(|n| format!("l{n}")).collect();
    put(&bed, 2, json!(labels)).await;
    let input = json!({
        "SecretId": "db", "SecretString": "x", "VersionStages": ["more"],
    });
    let limit = "LimitExceededException";
    assert_eq!(code(&bed, "PutSecretValue", input).await, limit);
    let input = json!({
        "SecretId": "db", "VersionStage": "more", "MoveToVersionId": v(1),
    });
    let operation = "UpdateSecretVersionStage";
    assert_eq!(code(&bed, operation, input).await, limit);
    // A label that only moves is no further one.
    for number in 3..=100 {
        put(&bed, number, json!(["l0"])).await;
    }
    let input = json!({
        "SecretId": "db", "SecretString": "x", "VersionStages": ["l0"],
    });
    assert_eq!(code(&bed, "PutSecretValue", input).await, limit);
    bed.clock.advance_ms(DAY_MS);
    put(&bed, 101, json!(["l0"])).await;
    let all = json!({"SecretId": "db", "IncludeDeprecated": true});
    let all = ok(&bed, "ListSecretVersionIds", all).await;
    let all = all["Versions"].as_array().unwrap();
    assert_eq!(all.len(), 100);
    let ids: Vec<_> = all.iter().map(|it| &it["VersionId"]).collect();
    assert_eq!(ids[..2], [&json!(v(1)), &json!(v(2))], "they have labels");
    assert_eq!(ids[2], &json!(v(4)), "the oldest without is gone");
}

#[tokio::test]
async fn labels_are_attached_moved_and_removed() {
    let bed = bed().await;
    put(&bed, 2, json!(null)).await;
    put(&bed, 3, json!(["x"])).await;
    let update = async |stage, from, to| {
        let input = relabel(stage, from, to);
        let answer = ok(&bed, "UpdateSecretVersionStage", input).await;
        assert_eq!(answer["Name"], "db");
        stages(&bed).await
    };
    update("new", None, Some(3)).await;
    update("new", None, Some(3)).await;
    assert_eq!(
        update("x", Some(3), Some(1)).await,
        json!({
            (v(1)): ["AWSPREVIOUS", "x"], (v(2)): ["AWSCURRENT"],
            (v(3)): ["new"],
        })
    );
    // Back to the version before.
    assert_eq!(
        update("AWSCURRENT", Some(2), Some(1)).await,
        json!({
            (v(1)): ["AWSCURRENT", "x"], (v(2)): ["AWSPREVIOUS"],
            (v(3)): ["new"],
        })
    );
    update("AWSPREVIOUS", Some(2), None).await;
    assert_eq!(
        update("x", Some(1), None).await,
        json!({(v(1)): ["AWSCURRENT"], (v(3)): ["new"]})
    );
}

#[tokio::test]
async fn labels_are_not_moved_behind_their_holders_back() {
    let bed = bed().await;
    put(&bed, 2, json!(null)).await;
    let before = stages(&bed).await;
    let update = async |stage, from, to| {
        let input = relabel(stage, from, to);
        refused(&bed, "UpdateSecretVersionStage", input).await
    };
    assert_eq!(
        update("AWSCURRENT", None, Some(1)).await,
        format!(
            "InvalidParameterException: The parameter RemoveFromVersionId \
             can't be empty. Staging label AWSCURRENT is currently attached \
             to version {}, so you must explicitly reference that version in \
             RemoveFromVersionId.",
            v(2)
        )
    );
    assert_eq!(
        update("AWSCURRENT", Some(2), None).await,
        "InvalidParameterException: You can only move staging label \
         AWSCURRENT to a different secret version. It can't be completely \
         removed."
    );
    let invalid = "InvalidParameterException: ";
    for (stage, from, to) in [
        ("AWSCURRENT", Some(1), Some(1)),
        ("AWSCURRENT", Some(1), Some(2)),
        ("x", Some(1), Some(2)),
        ("x", Some(1), None),
        ("x", None, None),
        ("AWSCURRENT", None, None),
        ("AWSPREVIOUS", Some(1), Some(2)),
    ] {
        let error = update(stage, from, to).await;
        assert!(error.starts_with(invalid), "{stage} {from:?} {to:?}");
    }
    let missing = format!(
        "ResourceNotFoundException: Secrets Manager can't find the specified \
         secret value for VersionId: {}",
        v(9)
    );
    assert_eq!(update("x", None, Some(9)).await, missing);
    assert_eq!(update("x", Some(9), Some(1)).await, missing);
    assert_eq!(stages(&bed).await, before);
}

#[tokio::test]
async fn versions_are_listed_and_the_deprecated_on_demand() {
    let bed = bed().await;
    put(&bed, 2, json!(null)).await;
    put(&bed, 3, json!(null)).await;
    let list = async |extra: Value| {
        let mut input = extra;
        input["SecretId"] = json!("db");
        let output = ok(&bed, "ListSecretVersionIds", input).await;
        let ids = output["Versions"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|it| it["VersionId"].clone()).collect();
        (json!(ids), output)
    };
    let (ids, output) = list(json!({})).await;
    assert_eq!(ids, json!([v(2), v(3)]));
    assert_eq!(output["Name"], "db");
    assert_eq!(
        output["Versions"][0],
        json!({
            "VersionId": v(2), "VersionStages": ["AWSPREVIOUS"],
            "CreatedDate": START, "KmsKeyIds": ["DefaultEncryptionKey"],
        })
    );
    let all = json!({"IncludeDeprecated": true, "MaxResults": 2});
    let (ids, output) = list(all.clone()).await;
    assert_eq!(ids, json!([v(1), v(2)]));
    assert_eq!(output["Versions"][0]["VersionStages"], json!([]));
    let mut rest = all;
    rest["NextToken"] = output["NextToken"].clone();
    let (ids, output) = list(rest).await;
    assert_eq!(ids, json!([v(3)]));
    assert_eq!(output.get("NextToken"), None);
    let operation = "ListSecretVersionIds";
    let odd = json!({"SecretId": "db", "NextToken": "x"});
    let invalid = "InvalidNextTokenException";
    assert_eq!(code(&bed, operation, odd).await, invalid);
    let none = json!({"SecretId": "none"});
    assert_eq!(refused(&bed, operation, none).await, NOT_FOUND);
    ok(&bed, "DeleteSecret", json!({"SecretId": "db"})).await;
    assert_eq!(list(json!({})).await.0, json!([v(2), v(3)]));
}

fn row_of(versions: usize) -> SecretRow {
    let key = SealKey::new([7; SEAL_KEY_BYTES]);
    let version = Version {
        value: key.seal("here", b"value").unwrap(),
        is_binary: false,
        stages: [].into(),
        created_at: Timestamp::from_millis(0),
        accessed_at: None,
    };
    SecretRow {
        account: ACCOUNT.into(),
        region: REGION.into(),
        name: "db".into(),
        suffix: "aaaaaa".into(),
        description: None,
        kms_key_id: None,
        tags: BTreeMap::new(),
        versions: (0..versions).map(|n| (v(n), version.clone())).collect(),
        rotation: None,
        policy: None,
        created_at: Timestamp::from_millis(0),
        changed_at: Timestamp::from_millis(0),
        accessed_at: None,
        deleted_at: None,
        gone_at: None,
    }
}

fn holders(row: &SecretRow, stage: &str) -> Vec<String> {
    let holds = |it: &Version| it.stages.contains(stage);
    let holders = row.versions.iter().filter(|(_, it)| holds(it));
    holders.map(|(id, _)| id.clone()).collect()
}

const LABELS: [&str; 4] = [CURRENT, PREVIOUS, "AWSPENDING", "x"];

proptest! {
    #[test]
    fn a_label_has_one_holder_and_the_current_version_is_not_previous(
        moves in prop::collection::vec((0..LABELS.len(), 0_usize..5), 1..40),
    ) {
        // The last of the ids is no version's.
        let mut row = row_of(4);
        let mut has_current = false;
        for (label, version) in moves {
            let (label, known) = (LABELS[label], version < 4);
            let before = row.clone();
            row.label(label, &v(version));
            for label in LABELS {
                prop_assert!(holders(&row, label).len() <= 1);
            }
            let current = holders(&row, CURRENT);
            has_current |= label == CURRENT && known;
            prop_assert_eq!(current.is_empty(), !has_current);
            if has_current {
                prop_assert_ne!(&current, &holders(&row, PREVIOUS));
            }
            let was = holders(&before, CURRENT);
            if label == CURRENT && !was.is_empty() && was != current {
                prop_assert_eq!(holders(&row, PREVIOUS), was);
            }
            let is_previous = label == PREVIOUS && current == [v(version)];
            if known && !is_previous {
                prop_assert_eq!(holders(&row, label), [v(version)]);
            } else {
                prop_assert_eq!(row, before.clone());
                row = before;
            }
        }
    }
}
