use serde_json::{Value, json};

use super::{call, code, names, ok, put, with};
use crate::testing::TestBed;

#[tokio::test]
async fn pages_of_paths_and_descriptions_follow_each_other() {
    let bed = TestBed::new();
    for number in 0..12 {
        put(&bed, &format!("/p/{number:02}"), "v").await;
    }
    let input = json!({"Path": "/p"});
    let first = ok(&bed, "GetParametersByPath", input.clone()).await;
    assert_eq!(first["Parameters"].as_array().unwrap().len(), 10);
    let next = with(input.clone(), "NextToken", first["NextToken"].clone());
    let rest = ok(&bed, "GetParametersByPath", next).await;
    assert_eq!(
        (names(&rest).as_str(), rest.get("NextToken")),
        ("/p/10 /p/11", None)
    );
    let input = json!({"MaxResults": 7});
    let page = ok(&bed, "DescribeParameters", input.clone()).await;
    assert!(names(&page).ends_with("/p/06"));
    let token = page["NextToken"].clone();
    // The parameter that the token names may be gone.
    ok(&bed, "DeleteParameter", json!({"Name": "/p/06"})).await;
    let next = with(input.clone(), "NextToken", token);
    let page = ok(&bed, "DescribeParameters", next).await;
    assert_eq!(names(&page), "/p/07 /p/08 /p/09 /p/10 /p/11");
    assert_eq!(page.get("NextToken"), None);
    for token in [json!("x"), first["NextToken"].clone()] {
        let input = with(input.clone(), "NextToken", token);
        let code = code(&bed, "DescribeParameters", input).await;
        assert_eq!(code, "InvalidNextToken");
    }
}

/// Parameters that differ in what filters look at.
async fn filterable() -> TestBed {
    let bed = TestBed::new();
    for (name, r#type, tier) in [
        ("/app/db/url", "String", "Standard"),
        ("/app/db/password", "SecureString", "Standard"),
        ("/app/list", "StringList", "Advanced"),
        ("flat", "String", "Standard"),
    ] {
        let input = json!({
            "Name": name, "Value": "v", "Type": r#type, "Tier": tier,
            "Tags": [{"Key": "of", "Value": name}],
        });
        ok(&bed, "PutParameter", input).await;
    }
    bed
}

#[tokio::test]
async fn parameters_are_described_by_filters() {
    let bed = filterable().await;
    let list = async |filters: Value| {
        let input = json!({"ParameterFilters": filters});
        match call(&bed, "DescribeParameters", input).await {
            Ok(output) => names(&output),
            Err(error) => error.code().to_owned(),
        }
    };
    let filter = |key: &str, option: Option<&str>, values: &[&str]| {
        let filter = json!({"Key": key, "Values": values});
        match option {
            Some(option) => json!([with(filter, "Option", option)]),
            None => json!([filter]),
        }
    };
    let app = "/app/db/password /app/db/url /app/list";
    for (key, option, values, expected) in [
        ("Name", None, &["flat", "/app/list"][..], "/app/list flat"),
        (
            "Name",
            Some("BeginsWith"),
            &["/app/db"],
            "/app/db/password /app/db/url",
        ),
        ("Name", Some("Contains"), &["l"], "/app/db/url /app/list flat"),
        ("Type", None, &["StringList"], "/app/list"),
        ("Type", Some("BeginsWith"), &["Se"], "/app/db/password"),
        ("Type", None, &["Int"], "InvalidFilterValue"),
        ("Type", Some("Contains"), &["S"], "InvalidFilterOption"),
        ("Type", None, &[], "InvalidFilterValue"),
        ("KeyId", None, &["alias/aws/ssm"], "/app/db/password"),
        ("Path", None, &["/app"], "/app/list"),
        ("Path", Some("OneLevel"), &["/"], "flat"),
        ("Path", Some("Recursive"), &["/app"], app),
        ("Path", Some("Equals"), &["/app"], "InvalidFilterOption"),
        ("Path", None, &["app"], "InvalidFilterValue"),
        ("Tier", None, &["Advanced"], "/app/list"),
        ("Tier", None, &["Cheap"], "InvalidFilterValue"),
        ("DataType", None, &["aws:ec2:image"], ""),
        (
            "DataType",
            Some("BeginsWith"),
            &["te"],
            "/app/db/password /app/db/url /app/list flat",
        ),
        ("tag:of", None, &["flat"], "flat"),
        ("tag:of", Some("BeginsWith"), &["/app"], app),
        ("tag:none", None, &[], ""),
        ("Label", None, &["l"], "InvalidFilterKey"),
        ("Color", None, &["l"], "InvalidFilterKey"),
    ] {
        let found = list(filter(key, option, values)).await;
        assert_eq!(found, expected, "{key} {option:?} {values:?}");
    }
}

#[tokio::test]
async fn filters_join_and_have_an_older_form() {
    let bed = filterable().await;
    let two = json!([
        {"Key": "Type", "Values": ["String"]},
        {"Key": "Path", "Option": "Recursive", "Values": ["/app"]},
    ]);
    let two = json!({"ParameterFilters": two});
    let output = ok(&bed, "DescribeParameters", two).await;
    assert_eq!(names(&output), "/app/db/url");
    let old = json!([{"Key": "Type", "Values": ["String"]}]);
    let old = json!({"Filters": old});
    let output = ok(&bed, "DescribeParameters", old.clone()).await;
    assert_eq!(names(&output), "/app/db/url flat");
    let new = json!([{"Key": "Type", "Values": ["String"]}]);
    let both = with(old, "ParameterFilters", new);
    let code = code(&bed, "DescribeParameters", both).await;
    assert_eq!(code, "ValidationException");
    let shared = ok(&bed, "DescribeParameters", json!({"Shared": true})).await;
    assert_eq!(shared, json!({"Parameters": []}));
}
