use serde_json::{Value, json};

use super::{START, code, get, many, ok};
use crate::services::secretsmanager::rows::DAY_MS;

fn names(output: &Value) -> String {
    let list = output["SecretList"].as_array().unwrap();
    let names: Vec<_> =
        list.iter().map(|it| it["Name"].as_str().unwrap()).collect();
    names.join(" ")
}

#[tokio::test]
async fn secrets_are_listed_by_filters() {
    let bed = many().await;
    let all = "web/credsDatabase1 web/token Database";
    for (key, values, expected) in [
        ("name", json!(["web/"]), "web/credsDatabase1 web/token"),
        ("name", json!(["Web"]), ""),
        ("name", json!(["!web/"]), "Database"),
        ("name", json!(["Data", "web/t"]), "web/token Database"),
        ("name", json!(["web/", "!web/t"]), "web/credsDatabase1"),
        (
            "description",
            json!(["My Description"]),
            "web/credsDatabase1 web/token",
        ),
        ("description", json!(["SOME"]), "Database"),
        ("description", json!(["!my"]), "Database"),
        ("tag-key", json!(["env"]), "web/credsDatabase1 web/token"),
        ("tag-key", json!(["Env"]), ""),
        ("tag-value", json!(["prod"]), "Database"),
        ("tag-value", json!(["!prod"]), "web/credsDatabase1 web/token"),
        ("primary-region", json!(["us-"]), all),
        ("primary-region", json!(["eu-"]), ""),
        ("owning-service", json!(["rds"]), ""),
        ("owning-service", json!(["!rds"]), all),
        ("all", json!(["token#892"]), "web/token"),
        ("all", json!(["DATABASE"]), "web/credsDatabase1 Database"),
        ("all", json!(["credsDatabase#892"]), "web/credsDatabase1 Database"),
        ("all", json!(["credsdatabase1"]), "web/credsDatabase1"),
        ("all", json!(["TEAM"]), "Database"),
        ("all", json!(["Test_else"]), "web/token Database"),
        ("all", json!(["!else"]), "web/credsDatabase1 web/token"),
    ] {
        let input = json!({
            "Filters": [{"Key": key, "Values": values}], "SortOrder": "asc",
        });
        let found = names(&ok(&bed, "ListSecrets", input).await);
        assert_eq!(found, expected, "{key} {values}");
    }
    let both = json!({"Filters": [
        {"Key": "name", "Values": ["web"]},
        {"Key": "tag-value", "Values": ["test"]},
    ]});
    assert_eq!(names(&ok(&bed, "ListSecrets", both).await), "web/token");
}

#[tokio::test]
async fn secrets_are_sorted() {
    let bed = many().await;
    get(&bed, json!({"SecretId": "web/token"})).await;
    let input = json!({"SecretId": "web/credsDatabase1", "Description": "x"});
    ok(&bed, "UpdateSecret", input).await;
    for (by, order, expected) in [
        (json!(null), "desc", "Database web/token web/credsDatabase1"),
        (json!("created-date"), "asc", "web/credsDatabase1 web/token Database"),
        (json!("name"), "asc", "Database web/credsDatabase1 web/token"),
        (
            json!("last-accessed-date"),
            "desc",
            "web/token web/credsDatabase1 Database",
        ),
        (
            json!("last-changed-date"),
            "asc",
            "web/token Database web/credsDatabase1",
        ),
    ] {
        let input = json!({"SortBy": by, "SortOrder": order});
        let found = names(&ok(&bed, "ListSecrets", input).await);
        assert_eq!(found, expected, "{by} {order}");
    }
    let found = names(&ok(&bed, "ListSecrets", json!({})).await);
    assert_eq!(found, "Database web/token web/credsDatabase1");
}

#[tokio::test]
async fn secrets_are_listed_in_pages() {
    let bed = many().await;
    let output = ok(&bed, "ListSecrets", json!({"MaxResults": 2})).await;
    assert_eq!(names(&output), "Database web/token");
    let next = json!({"MaxResults": 2, "NextToken": output["NextToken"]});
    let output = ok(&bed, "ListSecrets", next).await;
    assert_eq!(names(&output), "web/credsDatabase1");
    assert_eq!(output.get("NextToken"), None);
    for token in ["x", "zz", "0a"] {
        let odd = json!({"NextToken": token});
        let invalid = "InvalidNextTokenException";
        assert_eq!(code(&bed, "ListSecrets", odd).await, invalid);
    }
    let entry = &output["SecretList"][0];
    assert_eq!(entry["CreatedDate"], START);
    assert_eq!(entry["Tags"], json!([{"Key": "env", "Value": "Prod"}]));
    let versions = entry["SecretVersionsToStages"].as_object().unwrap();
    assert_eq!(versions.values().collect::<Vec<_>>(), [&json!(["AWSCURRENT"])]);
    ok(&bed, "DeleteSecret", json!({"SecretId": "Database"})).await;
    let found = names(&ok(&bed, "ListSecrets", json!({})).await);
    assert_eq!(found, "web/token web/credsDatabase1");
    let all = json!({"IncludePlannedDeletion": true});
    let output = ok(&bed, "ListSecrets", all.clone()).await;
    assert_eq!(names(&output), "Database web/token web/credsDatabase1");
    assert_eq!(output["SecretList"][0]["DeletedDate"], START + 3);
    bed.clock.advance_ms(30 * DAY_MS);
    let found = names(&ok(&bed, "ListSecrets", all).await);
    assert_eq!(found, "web/token web/credsDatabase1");
}
