mod describe;
mod get;
mod put;

use minato_wire::ApiError;
use serde_json::{Value, json};

use crate::testing::{ACCOUNT, REGION, TestBed};

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

/// The code of a refusal.
async fn code(bed: &TestBed, operation: &str, input: Value) -> String {
    call(bed, operation, input).await.unwrap_err().code().to_owned()
}

/// Puts a String.
async fn put(bed: &TestBed, name: &str, value: &str) -> Value {
    let input = json!({
        "Name": name, "Value": value, "Type": "String", "Overwrite": true,
    });
    ok(bed, "PutParameter", input).await
}

/// A put without a type, over what there is.
fn over(name: &str, value: &str) -> Value {
    json!({"Name": name, "Value": value, "Overwrite": true})
}

fn with(mut input: Value, member: &str, value: impl Into<Value>) -> Value {
    input[member] = value.into();
    input
}

async fn get(bed: &TestBed, name: &str) -> Value {
    let input = json!({"Name": name, "WithDecryption": true});
    ok(bed, "GetParameter", input).await["Parameter"].clone()
}

fn names(output: &Value) -> String {
    let list = output["Parameters"].as_array().unwrap();
    let names = list.iter().map(|one| one["Name"].as_str().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_parameter_is_put_read_and_deleted() {
    let bed = TestBed::new();
    let input = json!({"Name": " /app/url ", "Value": "v", "Type": "String"});
    let output = ok(&bed, "PutParameter", input.clone()).await;
    assert_eq!(output, json!({"Version": 1, "Tier": "Standard"}));
    let now = bed.scope().now.as_secs();
    let shown = get(&bed, "/app/url").await;
    assert_eq!(
        shown,
        json!({
            "Name": "/app/url", "Type": "String", "Value": "v", "Version": 1,
            "LastModifiedDate": shown["LastModifiedDate"],
            "ARN": "arn:aws:ssm:us-east-1:000000000000:parameter/app/url",
            "DataType": "text",
        })
    );
    assert_eq!(shown["LastModifiedDate"].as_f64().unwrap(), now as f64);
    assert_eq!(
        refused(&bed, "PutParameter", input).await,
        "ParameterAlreadyExists: The parameter already exists. To overwrite \
         this value, set the overwrite option in the request to true."
    );
    let output = ok(&bed, "PutParameter", over("/app/url", "w")).await;
    assert_eq!(output["Version"], 2);
    assert_eq!(get(&bed, "/app/url").await["Value"], "w");
    let name = json!({"Name": "/app/url"});
    assert_eq!(ok(&bed, "DeleteParameter", name.clone()).await, json!({}));
    for operation in ["DeleteParameter", "GetParameter", "GetParameterHistory"]
    {
        let code = code(&bed, operation, name.clone()).await;
        assert_eq!(code, "ParameterNotFound", "{operation}");
    }
    // One of the same name begins anew.
    assert_eq!(put(&bed, "/app/url", "x").await["Version"], 1);
    put(&bed, "b", "x").await;
    let input = json!({"Names": ["/app/url", "none", "b"]});
    assert_eq!(
        ok(&bed, "DeleteParameters", input).await,
        json!({
            "DeletedParameters": ["/app/url", "b"],
            "InvalidParameters": ["none"],
        })
    );
}

#[tokio::test]
async fn labels_are_given_moved_and_taken() {
    let bed = TestBed::new();
    put(&bed, "p", "one").await;
    put(&bed, "p", "two").await;
    let label = |version: Option<i64>, labels: Value| {
        let input = json!({"Name": "p", "Labels": labels});
        match version {
            Some(version) => with(input, "ParameterVersion", version),
            None => input,
        }
    };
    let bad = json!(["aws-x", "SSMx", "1x", "a b", "é"]);
    let mut all = bad.as_array().unwrap().clone();
    all.push(json!("Prod_1.x-"));
    let output =
        ok(&bed, "LabelParameterVersion", label(None, json!(all))).await;
    assert_eq!(output, json!({"InvalidLabels": bad, "ParameterVersion": 2}));
    assert_eq!(get(&bed, "p:Prod_1.x-").await["Value"], "two");
    // A label is on one version.
    let input = label(Some(1), json!(["Prod_1.x-"]));
    ok(&bed, "LabelParameterVersion", input).await;
    assert_eq!(get(&bed, "p:Prod_1.x-").await["Value"], "one");
    let many: Vec<String> = (0..10).map(|n| format!("l{n}")).collect();
    let input = label(Some(1), json!(many));
    let limit = "ParameterVersionLabelLimitExceeded";
    assert_eq!(code(&bed, "LabelParameterVersion", input).await, limit);
    let input = label(Some(2), json!(many));
    ok(&bed, "LabelParameterVersion", input.clone()).await;
    ok(&bed, "LabelParameterVersion", input).await;
    let output = ok(&bed, "GetParameterHistory", json!({"Name": "p"})).await;
    assert_eq!(output["Parameters"][0]["Labels"], json!(["Prod_1.x-"]));
    assert_eq!(output["Parameters"][1]["Labels"], json!(many));
    let input = label(Some(1), json!(["Prod_1.x-", "l0"]));
    let output = ok(&bed, "UnlabelParameterVersion", input).await;
    assert_eq!(
        output,
        json!({"RemovedLabels": ["Prod_1.x-"], "InvalidLabels": ["l0"]})
    );
    for operation in ["LabelParameterVersion", "UnlabelParameterVersion"] {
        for (name, version, expected) in [
            ("p", 9, "ParameterVersionNotFound"),
            ("q", 1, "ParameterNotFound"),
            ("p:1", 1, "ValidationException"),
        ] {
            let input = label(Some(version), json!(["x"]));
            let input = with(input, "Name", name);
            let code = code(&bed, operation, input).await;
            assert_eq!(code, expected, "{operation} {name}");
        }
    }
}

#[tokio::test]
async fn tags_are_added_listed_and_removed() {
    let bed = TestBed::new();
    let input = json!({
        "Name": "p", "Value": "v", "Type": "String",
        "Tags": [{"Key": "a", "Value": "1"}],
    });
    ok(&bed, "PutParameter", input).await;
    let of = json!({"ResourceType": "Parameter", "ResourceId": "p"});
    let add = |tags: Value| with(of.clone(), "Tags", tags);
    let tags = json!([
        {"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"},
    ]);
    ok(&bed, "AddTagsToResource", add(tags.clone())).await;
    let output = ok(&bed, "ListTagsForResource", of.clone()).await;
    assert_eq!(output, json!({"TagList": tags}));
    // A new version keeps them.
    put(&bed, "p", "w").await;
    let input = with(of.clone(), "TagKeys", json!(["a", "none"]));
    ok(&bed, "RemoveTagsFromResource", input).await;
    let output = ok(&bed, "ListTagsForResource", of.clone()).await;
    assert_eq!(output, json!({"TagList": [{"Key": "b", "Value": "3"}]}));
    let many: Vec<Value> =
        (0..50).map(|n| json!({"Key": format!("k{n}"), "Value": ""})).collect();
    for (tags, expected) in [
        (json!(many), "TooManyTagsError"),
        (json!([{"Key": "AWS:x", "Value": ""}]), "ValidationException"),
        (
            json!([{"Key": "x", "Value": ""}, {"Key": "x", "Value": ""}]),
            "ValidationException",
        ),
    ] {
        let code = code(&bed, "AddTagsToResource", add(tags)).await;
        assert_eq!(code, expected);
    }
    ok(&bed, "AddTagsToResource", add(json!(many[1..]))).await;
    for operation in
        ["AddTagsToResource", "ListTagsForResource", "RemoveTagsFromResource"]
    {
        for (member, value, expected) in [
            ("ResourceType", "Document", "InvalidResourceType"),
            ("ResourceId", "none", "InvalidResourceId"),
        ] {
            let input = with(of.clone(), member, value);
            let code = code(&bed, operation, input).await;
            assert_eq!(code, expected, "{operation}");
        }
    }
}

#[tokio::test]
async fn accounts_and_regions_see_their_own_parameters() {
    let bed = TestBed::new();
    put(&bed, "p", "v").await;
    for (account, region) in [("111111111111", REGION), (ACCOUNT, "cn-north-1")]
    {
        let mut scope = bed.scope();
        account.clone_into(&mut scope.account);
        region.clone_into(&mut scope.region);
        let call = async |operation: &str, input: Value| {
            super::dispatch(&bed.cx, &scope, operation, input).await
        };
        let output = call("DescribeParameters", json!({})).await.unwrap();
        assert_eq!(output, json!({"Parameters": []}));
        for operation in ["GetParameter", "DeleteParameter"] {
            let error = call(operation, json!({"Name": "p"})).await;
            assert_eq!(error.unwrap_err().code(), "ParameterNotFound");
        }
    }
    assert_eq!(get(&bed, "p").await["Value"], "v");
}

#[tokio::test]
async fn other_operations_are_refused() {
    let bed = TestBed::new();
    assert_eq!(
        refused(&bed, "SendCommand", json!({})).await,
        "UnknownOperationException: Minato does not know SendCommand."
    );
}
