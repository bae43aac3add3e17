use minato_wire::ApiError;
use serde_json::{Value, json};

use crate::testing::TestBed;

async fn call(
    bed: &TestBed,
    operation: &str,
    input: Value,
) -> Result<Value, ApiError> {
    crate::services::logs::dispatch(&bed.cx, &bed.scope(), operation, input)
        .await
}

async fn ok(bed: &TestBed, operation: &str, input: Value) -> Value {
    let done = call(bed, operation, input).await;
    done.unwrap_or_else(|e| panic!("{operation}: {e:?}"))
}

async fn bed() -> TestBed {
    let bed = TestBed::new();
    for name in ["g", "h"] {
        ok(&bed, "CreateLogGroup", json!({"logGroupName": name})).await;
    }
    bed
}

fn with(base: &Value, more: Value) -> Value {
    let mut input = base.clone();
    let more = more.as_object().unwrap().clone();
    input.as_object_mut().unwrap().extend(more);
    input
}

#[tokio::test]
async fn metric_filters_are_kept_counted_and_deleted() {
    let bed = bed().await;
    let metric = json!([{
        "metricName": "M", "metricNamespace": "N", "metricValue": "$.ms",
        "unit": "Milliseconds",
    }]);
    let base = json!({
        "logGroupName": "g", "filterName": "f",
        "filterPattern": "{ $.ms > 1 }", "metricTransformations": metric,
    });
    for (group, name) in [("g", "f"), ("g", "e"), ("h", "f")] {
        let names = json!({"logGroupName": group, "filterName": name});
        ok(&bed, "PutMetricFilter", with(&base, names)).await;
    }
    let found = ok(&bed, "DescribeMetricFilters", json!({"limit": 2})).await;
    let filters = found["metricFilters"].as_array().unwrap();
    assert_eq!(filters[0]["filterName"], "e");
    assert_eq!(filters[1]["metricTransformations"], metric);
    let token = found["nextToken"].clone();
    let next = json!({"limit": 2, "nextToken": token});
    let found = ok(&bed, "DescribeMetricFilters", next).await;
    assert_eq!(found["metricFilters"][0]["logGroupName"], "h");
    assert_eq!(found.get("nextToken"), None);
    let by_metric = json!({"metricName": "M", "metricNamespace": "X"});
    let found = ok(&bed, "DescribeMetricFilters", by_metric).await;
    assert_eq!(found["metricFilters"], json!([]));
    let groups = ok(&bed, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["metricFilterCount"], 2);
    let wrong_dimensions = json!([{
        "metricName": "M", "metricNamespace": "N", "metricValue": "1",
        "dimensions": {"a": "$.a"}, "defaultValue": 0.0,
    }]);
    for wrong in [
        json!({"filterPattern": "{ $.a"}),
        json!({"metricTransformations": wrong_dimensions}),
        json!({"metricTransformations": [{
            "metricName": "M", "metricNamespace": "N", "metricValue": "x",
        }]}),
        json!({"applyOnTransformedLogs": true}),
    ] {
        let error = call(&bed, "PutMetricFilter", with(&base, wrong)).await;
        assert_eq!(error.unwrap_err().code(), "InvalidParameterException");
    }
    let names = json!({"logGroupName": "g", "filterName": "e"});
    ok(&bed, "DeleteMetricFilter", names.clone()).await;
    let error = call(&bed, "DeleteMetricFilter", names).await.unwrap_err();
    assert_eq!(error.code(), "ResourceNotFoundException");
    // A group takes its filters along.
    ok(&bed, "DeleteLogGroup", json!({"logGroupName": "g"})).await;
    let found = ok(&bed, "DescribeMetricFilters", json!({})).await;
    assert_eq!(found["metricFilters"].as_array().unwrap().len(), 1);
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn a_group_has_a_hundred_metric_filters_at_most() {
    let bed = bed().await;
    for number in 0..=100 {
        let input = json!({
            "logGroupName": "g", "filterName": format!("f{number}"),
            "filterPattern": "", "metricTransformations": [{
                "metricName": "M", "metricNamespace": "N", "metricValue": "1",
            }],
        });
        let put = call(&bed, "PutMetricFilter", input).await;
        match number {
            100 => {
                assert_eq!(put.unwrap_err().code(), "LimitExceededException");
            }
            _ => assert!(put.is_ok()),
        }
    }
}

#[tokio::test]
async fn metric_filters_are_tested_with_their_values() {
    let bed = TestBed::new();
    let input = json!({
        "filterPattern": "{ $.ms > 1 && $.who = \"a*\" }",
        "logEventMessages": [
            r#"{"ms":1,"who":"ann"}"#, r#"{"ms":2,"who":"ann"}"#, "x",
        ],
    });
    let found = ok(&bed, "TestMetricFilter", input).await;
    assert_eq!(
        found["matches"],
        json!([{
            "eventNumber": 2, "eventMessage": r#"{"ms":2,"who":"ann"}"#,
            "extractedValues": {"$.ms": "2", "$.who": "ann"},
        }])
    );
    let input = json!({
        "filterPattern": "[ip, ..., status=5*]",
        "logEventMessages": ["1.2.3.4 x y 503"],
    });
    let found = ok(&bed, "TestMetricFilter", input).await;
    assert_eq!(
        found["matches"][0]["extractedValues"],
        json!({"$ip": "1.2.3.4", "$status": "503"})
    );
}

#[tokio::test]
async fn subscription_filters_are_checked_and_kept() {
    let bed = bed().await;
    let lambda = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let stream = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let role = "arn:aws:iam::000000000000:role/r";
    let base = json!({
        "logGroupName": "g", "filterName": "a", "filterPattern": "ERROR",
        "destinationArn": lambda,
    });
    ok(&bed, "PutSubscriptionFilter", base.clone()).await;
    let kinesis = json!({
        "filterName": "b", "destinationArn": stream, "roleArn": role,
        "distribution": "Random",
    });
    ok(&bed, "PutSubscriptionFilter", with(&base, kinesis)).await;
    for (wrong, code) in [
        (json!({"filterName": "c"}), "LimitExceededException"),
        (json!({"roleArn": role}), "InvalidParameterException"),
        (json!({"destinationArn": stream}), "InvalidParameterException"),
        (json!({"destinationArn": "x"}), "InvalidParameterException"),
        (json!({"logGroupName": "no"}), "ResourceNotFoundException"),
    ] {
        let input = with(&base, wrong);
        let error = call(&bed, "PutSubscriptionFilter", input.clone()).await;
        assert_eq!(error.unwrap_err().code(), code, "{input}");
    }
    let group = json!({"logGroupName": "g"});
    let found = ok(&bed, "DescribeSubscriptionFilters", group.clone()).await;
    let filters = found["subscriptionFilters"].as_array().unwrap();
    assert_eq!(filters[0]["distribution"], "ByLogStream");
    assert_eq!(filters[1]["roleArn"], role);
    let names = json!({"logGroupName": "g", "filterName": "a"});
    ok(&bed, "DeleteSubscriptionFilter", names.clone()).await;
    let error = call(&bed, "DeleteSubscriptionFilter", names).await;
    assert_eq!(error.unwrap_err().code(), "ResourceNotFoundException");
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn policies_of_the_account_are_kept() {
    let bed = TestBed::new();
    let base = json!({"policyName": "p", "policyDocument": "{}"});
    ok(&bed, "PutResourcePolicy", base.clone()).await;
    for number in 1..10 {
        let name = json!({"policyName": format!("p{number}")});
        ok(&bed, "PutResourcePolicy", with(&base, name)).await;
    }
    let eleventh = with(&base, json!({"policyName": "x"}));
    let error = call(&bed, "PutResourcePolicy", eleventh).await.unwrap_err();
    assert_eq!(error.code(), "LimitExceededException");
    let scoped = with(&base, json!({"resourceArn": "arn:x"}));
    let error = call(&bed, "PutResourcePolicy", scoped).await.unwrap_err();
    assert_eq!(error.code(), "InvalidParameterException");
    let found = ok(&bed, "DescribeResourcePolicies", json!({"limit": 1})).await;
    assert_eq!(found["resourcePolicies"][0]["policyDocument"], "{}");
    assert!(found["nextToken"].is_string());
    let name = json!({"policyName": "p"});
    ok(&bed, "DeleteResourcePolicy", name.clone()).await;
    let error = call(&bed, "DeleteResourcePolicy", name).await.unwrap_err();
    assert_eq!(error.code(), "ResourceNotFoundException");
    let tasks = ok(&bed, "DescribeExportTasks", json!({})).await;
    assert_eq!(tasks["exportTasks"], json!([]));
    let error = call(&bed, "CreateExportTask", json!({})).await.unwrap_err();
    assert!(error.message().contains("export to S3 is not built"));
}
