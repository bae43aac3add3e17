use std::time::Duration;

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

async fn refused(bed: &TestBed, operation: &str, input: Value) -> ApiError {
    call(bed, operation, input).await.unwrap_err()
}

fn now(bed: &TestBed) -> i64 {
    bed.scope().now.as_millis()
}

/// A group `g` with a stream `s` and these messages, a second apart from an
/// hour ago.
async fn bed(messages: &[&str]) -> TestBed {
    let bed = TestBed::new();
    ok(&bed, "CreateLogGroup", json!({"logGroupName": "g"})).await;
    let stream = json!({"logGroupName": "g", "logStreamName": "s"});
    ok(&bed, "CreateLogStream", stream).await;
    let start = now(&bed) - 3_600_000;
    let events: Vec<Value> = (0..)
        .zip(messages)
        .map(|(at, text)| {
            json!({"timestamp": start + at * 1000_i64, "message": text})
        })
        .collect();
    let input = json!({
        "logGroupName": "g", "logStreamName": "s", "logEvents": events,
    });
    ok(&bed, "PutLogEvents", input).await;
    bed
}

async fn start(bed: &TestBed, query: &str) -> String {
    let end = now(bed) / 1000;
    let input = json!({
        "logGroupName": "g", "startTime": end - 7200, "endTime": end,
        "queryString": query,
    });
    let started = ok(bed, "StartQuery", input).await;
    started["queryId"].as_str().unwrap().to_owned()
}

/// The results of a query once it has ended.
async fn ended(bed: &TestBed, id: &str) -> Value {
    let look = async {
        loop {
            let input = json!({"queryId": id});
            let found = ok(bed, "GetQueryResults", input).await;
            let status = found["status"].as_str().unwrap();
            if !matches!(status, "Scheduled" | "Running") {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, look).await.unwrap()
}

fn rows(results: &Value) -> Vec<String> {
    let show = |field: &Value| {
        let text = |name: &str| field[name].as_str().unwrap().to_owned();
        format!("{}={}", text("field"), text("value"))
    };
    let row = |row: &Value| {
        let fields = row.as_array().unwrap().iter();
        let shown = fields.filter(|field| field["field"] != "@ptr");
        shown.map(show).collect::<Vec<_>>().join(" ")
    };
    results["results"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn queries_run_and_give_rows_with_pointers() {
    let bed = bed(&[r#"{"a":{"b":1}}"#, "ERROR x", "fine"]).await;
    let id = start(&bed, "fields @message | filter a.b = 1").await;
    let found = ended(&bed, &id).await;
    assert_eq!(found["status"], "Complete");
    assert_eq!(found["queryLanguage"], "CWLI");
    assert_eq!(rows(&found), [r#"@message={"a":{"b":1}}"#]);
    let statistics = &found["statistics"];
    assert_eq!(statistics["recordsScanned"], 3.0);
    assert_eq!(statistics["recordsMatched"], 1.0);
    assert_eq!(statistics["bytesScanned"], 24.0);
    assert_eq!(statistics["logGroupsScanned"], 1.0);
    let pointer = found["results"][0][1]["value"].clone();
    let input = json!({"logRecordPointer": pointer});
    let record = ok(&bed, "GetLogRecord", input).await;
    assert_eq!(record["logRecord"]["a.b"], "1");
    assert_eq!(record["logRecord"]["@logStream"], "s");
    assert_eq!(record["logRecord"]["@log"], "000000000000:g");
    let wrong = json!({"logRecordPointer": "x"});
    let error = refused(&bed, "GetLogRecord", wrong).await;
    assert_eq!(error.code(), "InvalidParameterException");

    let id = start(&bed, "stats count(*) as n by bin(1h)").await;
    let found = ended(&bed, &id).await;
    assert_eq!(rows(&found).len(), 1);
    assert!(rows(&found)[0].ends_with(" n=3"));
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn a_range_includes_both_ends_and_streams_that_exist() {
    let bed = bed(&["a", "b", "c"]).await;
    let first = (now(&bed) - 3_600_000) / 1000;
    let asked = async |from: i64, to: i64| {
        let input = json!({
            "logGroupIdentifiers":
                ["arn:aws:logs:us-east-1:000000000000:log-group:g"],
            "startTime": from, "endTime": to, "limit": 2,
            "queryString": "fields @message | sort @timestamp asc",
        });
        let id = ok(&bed, "StartQuery", input).await["queryId"].clone();
        rows(&ended(&bed, id.as_str().unwrap()).await)
    };
    assert_eq!(asked(first, first + 1).await, ["@message=a", "@message=b"]);
    assert_eq!(asked(first + 1, first + 9).await, ["@message=b", "@message=c"]);
    assert_eq!(asked(first, first + 9).await, ["@message=a", "@message=b"]);
    let stream = json!({"logGroupName": "g", "logStreamName": "s"});
    ok(&bed, "DeleteLogStream", stream).await;
    assert!(asked(first, first + 9).await.is_empty());
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn results_are_paged() {
    let bed = bed(&["a", "b", "c"]).await;
    let id = start(&bed, "fields @message").await;
    ended(&bed, &id).await;
    let input = json!({"queryId": id, "maxItems": 2});
    let page = ok(&bed, "GetQueryResults", input).await;
    assert_eq!(rows(&page), ["@message=c", "@message=b"]);
    let token = page["nextToken"].clone();
    let input = json!({"queryId": id, "maxItems": 2, "nextToken": token});
    let page = ok(&bed, "GetQueryResults", input).await;
    assert_eq!(rows(&page), ["@message=a"]);
    assert_eq!(page.get("nextToken"), None);
    let input = json!({"queryId": id, "nextToken": "zz"});
    let error = refused(&bed, "GetQueryResults", input).await;
    assert_eq!(error.code(), "InvalidParameterException");
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn wrong_queries_are_refused_with_their_place() {
    let bed = bed(&[]).await;
    let end = now(&bed) / 1000;
    let error = refused(
        &bed,
        "StartQuery",
        json!({
            "logGroupNames": ["g"], "startTime": 0, "endTime": end,
            "queryString": "fields @message | limitt 5",
        }),
    )
    .await;
    assert_eq!(error.code(), "MalformedQueryException");
    let compile = &error.fields()["queryCompileError"];
    assert_eq!(compile["location"]["startCharOffset"], 18);
    assert_eq!(compile["location"]["endCharOffset"], 24);
    assert_eq!(compile["message"], "unexpected symbol found limitt");
    for (more, code) in [
        (json!({}), "InvalidParameterException"),
        (json!({"logGroupName": "no"}), "ResourceNotFoundException"),
        (
            json!({"logGroupName": "g", "logGroupNames": ["g"]}),
            "InvalidParameterException",
        ),
        (
            json!({"logGroupName": "g", "queryLanguage": "SQL"}),
            "InvalidParameterException",
        ),
        (
            json!({"logGroupName": "g", "startTime": end + 1}),
            "InvalidParameterException",
        ),
    ] {
        let mut input = json!({
            "startTime": 0, "endTime": end, "queryString": "limit 1",
        });
        let more = more.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(more);
        let error = refused(&bed, "StartQuery", input.clone()).await;
        assert_eq!(error.code(), code, "{input}");
    }
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn queries_are_described_and_stopped() {
    let bed = bed(&["a"]).await;
    let first = start(&bed, "limit 1").await;
    ended(&bed, &first).await;
    let second = start(&bed, "limit 2").await;
    ended(&bed, &second).await;
    let found = ok(&bed, "DescribeQueries", json!({})).await;
    let queries = found["queries"].as_array().unwrap();
    assert_eq!(queries[0]["queryId"], second);
    assert_eq!(queries[1]["queryString"], "limit 1");
    assert_eq!(queries[1]["status"], "Complete");
    assert_eq!(queries[1]["logGroupName"], "g");
    let input = json!({"maxResults": 1});
    let page = ok(&bed, "DescribeQueries", input).await;
    let input = json!({"maxResults": 1, "nextToken": page["nextToken"]});
    let page = ok(&bed, "DescribeQueries", input).await;
    assert_eq!(page["queries"][0]["queryId"], first);
    let running = json!({"status": "Running"});
    let found = ok(&bed, "DescribeQueries", running).await;
    assert_eq!(found["queries"], json!([]));
    let error = refused(&bed, "StopQuery", json!({"queryId": first})).await;
    assert_eq!(error.message(), "The specified query is not running.");
    let error = refused(&bed, "StopQuery", json!({"queryId": "x"})).await;
    assert_eq!(error.code(), "ResourceNotFoundException");
    // One that has no turn yet is stopped at once.
    let third = start(&bed, "limit 3").await;
    let stopped = call(&bed, "StopQuery", json!({"queryId": third})).await;
    let status = ended(&bed, &third).await["status"].clone();
    let right = if stopped.is_ok() { "Cancelled" } else { "Complete" };
    assert_eq!(status, right);
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn definitions_are_put_described_and_deleted() {
    let bed = TestBed::new();
    let put = async |more: Value| {
        let mut input = json!({"name": "n", "queryString": "limit 1"});
        let more = more.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(more);
        call(&bed, "PutQueryDefinition", input).await
    };
    let token = "0123456789-0123456789-0123456789-0123";
    let first = put(json!({"clientToken": token})).await.unwrap();
    let again = put(json!({"clientToken": token})).await.unwrap();
    assert_eq!(first, again);
    let id = first["queryDefinitionId"].clone();
    let change = json!({
        "queryDefinitionId": id, "name": "m", "logGroupNames": ["g"],
    });
    put(change).await.unwrap();
    put(json!({"name": "other"})).await.unwrap();
    let unknown = json!({"queryDefinitionId": "x"});
    let error = put(unknown).await.unwrap_err();
    assert_eq!(error.code(), "ResourceNotFoundException");
    let input = json!({"queryDefinitionNamePrefix": "m"});
    let found = ok(&bed, "DescribeQueryDefinitions", input).await;
    let found = found["queryDefinitions"].as_array().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["logGroupNames"], json!(["g"]));
    let input = json!({"maxResults": 1});
    let page = ok(&bed, "DescribeQueryDefinitions", input).await;
    let input = json!({"maxResults": 1, "nextToken": page["nextToken"]});
    let page = ok(&bed, "DescribeQueryDefinitions", input).await;
    assert_eq!(page["queryDefinitions"][0]["name"], "other");
    let input = json!({"queryDefinitionId": id});
    let gone = ok(&bed, "DeleteQueryDefinition", input.clone()).await;
    assert_eq!(gone["success"], true);
    let error = refused(&bed, "DeleteQueryDefinition", input).await;
    assert_eq!(error.code(), "ResourceNotFoundException");
}
