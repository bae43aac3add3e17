use minato_wire::ApiError;
use serde_json::{Value, json};

use crate::testing::TestBed;

const DAY: i64 = 24 * 60 * 60 * 1000;

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

fn now(bed: &TestBed) -> i64 {
    bed.scope().now.as_millis()
}

/// A group `g` with a stream `s`.
async fn bed() -> TestBed {
    let bed = TestBed::new();
    ok(&bed, "CreateLogGroup", json!({"logGroupName": "g"})).await;
    stream(&bed, "s").await;
    bed
}

async fn stream(bed: &TestBed, name: &str) {
    let input = json!({"logGroupName": "g", "logStreamName": name});
    ok(bed, "CreateLogStream", input).await;
}

async fn put(bed: &TestBed, stream: &str, events: &[(i64, &str)]) -> Value {
    let events: Vec<Value> = events
        .iter()
        .map(|(at, text)| json!({"timestamp": at, "message": text}))
        .collect();
    let input = json!({
        "logGroupName": "g", "logStreamName": stream, "logEvents": events,
    });
    ok(bed, "PutLogEvents", input).await
}

fn texts(output: &Value) -> Vec<&str> {
    let events = output["events"].as_array().unwrap();
    events.iter().map(|event| event["message"].as_str().unwrap()).collect()
}

fn names<'a>(output: &'a Value, list: &str, name: &str) -> Vec<&'a str> {
    let list = output[list].as_array().unwrap();
    list.iter().map(|item| item[name].as_str().unwrap()).collect()
}

#[tokio::test]
async fn groups_are_made_described_and_deleted() {
    let bed = bed().await;
    let again = json!({"logGroupName": "g"});
    assert_eq!(
        refused(&bed, "CreateLogGroup", again.clone()).await,
        "ResourceAlreadyExistsException: The specified log group already \
         exists"
    );
    put(&bed, "s", &[(now(&bed), "12345")]).await;
    let groups = ok(&bed, "DescribeLogGroups", json!({})).await;
    let group = &groups["logGroups"][0];
    assert_eq!(
        group["arn"],
        "arn:aws:logs:us-east-1:000000000000:log-group:g:*"
    );
    assert_eq!(
        group["logGroupArn"],
        "arn:aws:logs:us-east-1:000000000000:log-group:g"
    );
    assert_eq!(group["storedBytes"], 31);
    assert_eq!(group["metricFilterCount"], 0);
    assert_eq!(group["logGroupClass"], "STANDARD");
    assert_eq!(group["creationTime"], now(&bed));
    assert_eq!(group.get("retentionInDays"), None);
    ok(&bed, "DeleteLogGroup", again.clone()).await;
    assert_eq!(
        refused(&bed, "DeleteLogGroup", again.clone()).await,
        "ResourceNotFoundException: The specified log group does not exist."
    );
    // A group of the same name starts empty.
    ok(&bed, "CreateLogGroup", again).await;
    let streams = json!({"logGroupName": "g"});
    let streams = ok(&bed, "DescribeLogStreams", streams).await;
    assert_eq!(streams["logStreams"], json!([]));
    stream(&bed, "s").await;
    let input = json!({"logGroupName": "g", "logStreamName": "s"});
    assert!(texts(&ok(&bed, "GetLogEvents", input).await).is_empty());
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn groups_are_listed_by_prefix_pattern_and_page() {
    let bed = TestBed::new();
    for name in ["/ecs/web", "/ecs/db", "/aws/x", "Web"] {
        ok(&bed, "CreateLogGroup", json!({"logGroupName": name})).await;
    }
    let list = async |input: Value| {
        let output = ok(&bed, "DescribeLogGroups", input).await;
        let names = names(&output, "logGroups", "logGroupName").join(" ");
        (names, output["nextToken"].as_str().map(str::to_owned))
    };
    assert_eq!(list(json!({})).await.0, "/aws/x /ecs/db /ecs/web Web");
    let prefix = json!({"logGroupNamePrefix": "/ecs"});
    assert_eq!(list(prefix).await.0, "/ecs/db /ecs/web");
    let pattern = json!({"logGroupNamePattern": "eb"});
    assert_eq!(list(pattern).await.0, "/ecs/web Web");
    let (first, token) = list(json!({"limit": 3})).await;
    assert_eq!(first, "/aws/x /ecs/db /ecs/web");
    let (rest, end) = list(json!({"limit": 3, "nextToken": token})).await;
    assert_eq!((rest.as_str(), end), ("Web", None));
    let both = json!({"logGroupNamePrefix": "a", "logGroupNamePattern": "b"});
    assert!(call(&bed, "DescribeLogGroups", both).await.is_err());
    let odd = json!({"nextToken": "nonsense"});
    assert_eq!(
        refused(&bed, "DescribeLogGroups", odd).await,
        "InvalidParameterException: The specified nextToken is invalid."
    );
    let input = json!({"logGroupNamePattern": "^/aws|db"});
    let output = ok(&bed, "ListLogGroups", input).await;
    let found = names(&output, "logGroups", "logGroupName");
    assert_eq!(found, ["/aws/x", "/ecs/db"]);
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn streams_are_listed_by_name_and_by_last_event() {
    let bed = bed().await;
    for name in ["a", "b", "c"] {
        stream(&bed, name).await;
    }
    let at = now(&bed);
    put(&bed, "b", &[(at, "x"), (at + 5, "y")]).await;
    put(&bed, "c", &[(at + 2, "z")]).await;
    let list = async |input: Value| {
        let mut input = input;
        input["logGroupName"] = json!("g");
        ok(&bed, "DescribeLogStreams", input).await
    };
    let output = list(json!({})).await;
    assert_eq!(
        names(&output, "logStreams", "logStreamName"),
        ["a", "b", "c", "s"]
    );
    let b = &output["logStreams"][1];
    assert_eq!(b["firstEventTimestamp"], at);
    assert_eq!(b["lastEventTimestamp"], at + 5);
    assert_eq!(b["lastIngestionTime"], at);
    assert_eq!(b["storedBytes"], 0);
    assert_eq!(
        b["arn"],
        "arn:aws:logs:us-east-1:000000000000:log-group:g:log-stream:b"
    );
    assert_eq!(b["uploadSequenceToken"].as_str().unwrap().len(), 56);
    let order = json!({"orderBy": "LastEventTime", "descending": true});
    let output = list(order.clone()).await;
    assert_eq!(
        names(&output, "logStreams", "logStreamName"),
        ["b", "c", "s", "a"]
    );
    let mut page = order;
    page["limit"] = json!(3);
    let output = list(page.clone()).await;
    page["nextToken"] = output["nextToken"].clone();
    let output = list(page).await;
    assert_eq!(names(&output, "logStreams", "logStreamName"), ["a"]);
    assert_eq!(output.get("nextToken"), None);
    let both = json!({
        "logGroupName": "g", "orderBy": "LastEventTime",
        "logStreamNamePrefix": "a",
    });
    assert_eq!(
        refused(&bed, "DescribeLogStreams", both).await,
        "InvalidParameterException: Cannot order by LastEventTime with a \
         logStreamNamePrefix."
    );
    let again = json!({"logGroupName": "g", "logStreamName": "a"});
    assert_eq!(
        refused(&bed, "CreateLogStream", again.clone()).await,
        "ResourceAlreadyExistsException: The specified log stream already \
         exists"
    );
    ok(&bed, "DeleteLogStream", again.clone()).await;
    assert_eq!(
        refused(&bed, "DeleteLogStream", again).await,
        "ResourceNotFoundException: The specified log stream does not exist."
    );
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn get_log_events_walks_both_ways_and_stays_at_the_ends() {
    let bed = bed().await;
    let at = now(&bed);
    let all: Vec<(i64, String)> =
        (0..6).map(|n| (at + n, format!("m{n}"))).collect();
    let all: Vec<(i64, &str)> =
        all.iter().map(|(at, text)| (*at, text.as_str())).collect();
    put(&bed, "s", &all).await;
    let get = async |extra: Value| {
        let mut input =
            json!({"logGroupName": "g", "logStreamName": "s", "limit": 2});
        for (name, value) in extra.as_object().unwrap() {
            input[name] = value.clone();
        }
        ok(&bed, "GetLogEvents", input).await
    };
    let tail = get(json!({})).await;
    assert_eq!(texts(&tail), ["m4", "m5"]);
    let end = tail["nextForwardToken"].clone();
    let same = get(json!({"nextToken": end})).await;
    assert!(texts(&same).is_empty());
    assert_eq!(same["nextForwardToken"], end, "the same token at the end");
    let back = json!({"nextToken": tail["nextBackwardToken"]});
    let before = get(back).await;
    assert_eq!(texts(&before), ["m2", "m3"]);
    let head = get(json!({"startFromHead": true})).await;
    assert_eq!(texts(&head), ["m0", "m1"]);
    let on = json!({"nextToken": head["nextForwardToken"]});
    assert_eq!(texts(&get(on).await), ["m2", "m3"]);
    let start = head["nextBackwardToken"].clone();
    let same = get(json!({"nextToken": start})).await;
    assert!(texts(&same).is_empty());
    assert_eq!(same["nextBackwardToken"], start);
    // A follower at the end sees what comes in.
    put(&bed, "s", &[(at + 9, "late")]).await;
    assert_eq!(texts(&get(json!({"nextToken": end})).await), ["late"]);
    let range = json!({"startTime": at + 1, "endTime": at + 2});
    assert_eq!(texts(&get(range).await), ["m1"], "the end is excluded");
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:g:*";
    let by_arn = json!({"logGroupIdentifier": arn, "logStreamName": "s"});
    assert_eq!(texts(&ok(&bed, "GetLogEvents", by_arn).await).len(), 7);
    let odd = json!({
        "logGroupName": "g", "logStreamName": "s", "nextToken": "f/1",
    });
    assert!(call(&bed, "GetLogEvents", odd).await.is_err());
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn an_empty_stream_can_be_followed() {
    let bed = bed().await;
    let input = json!({"logGroupName": "g", "logStreamName": "s"});
    let empty = ok(&bed, "GetLogEvents", input).await;
    put(&bed, "s", &[(now(&bed), "first")]).await;
    let input = json!({
        "logGroupName": "g", "logStreamName": "s",
        "nextToken": empty["nextForwardToken"],
    });
    assert_eq!(texts(&ok(&bed, "GetLogEvents", input).await), ["first"]);
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn filter_log_events_interleaves_streams() {
    let bed = bed().await;
    stream(&bed, "web/1").await;
    stream(&bed, "web/2").await;
    let at = now(&bed);
    put(&bed, "web/1", &[(at, "ERROR a"), (at + 2, "info b")]).await;
    put(&bed, "web/2", &[(at + 1, "ERROR c"), (at + 3, "ERROR d")]).await;
    put(&bed, "s", &[(at + 1, "ERROR e")]).await;
    let filter = async |extra: Value| {
        let mut input = extra;
        input["logGroupName"] = json!("g");
        ok(&bed, "FilterLogEvents", input).await
    };
    let everything = filter(json!({})).await;
    assert_eq!(
        texts(&everything),
        ["ERROR a", "ERROR c", "ERROR e", "info b", "ERROR d"]
    );
    assert_eq!(everything["searchedLogStreams"], json!([]));
    assert_eq!(everything["events"][1]["logStreamName"], "web/2");
    let ids: std::collections::BTreeSet<_> =
        names(&everything, "events", "eventId").into_iter().collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|id| id.len() == 56));
    let errors = json!({
        "filterPattern": "ERROR", "logStreamNamePrefix": "web/", "limit": 2,
    });
    let first = filter(errors.clone()).await;
    assert_eq!(texts(&first), ["ERROR a", "ERROR c"]);
    let mut rest = errors;
    rest["nextToken"] = first["nextToken"].clone();
    let rest = filter(rest).await;
    assert_eq!(texts(&rest), ["ERROR d"]);
    assert_eq!(rest.get("nextToken"), None);
    let named = json!({"logStreamNames": ["s"], "startTime": at});
    assert_eq!(texts(&filter(named).await), ["ERROR e"]);
    let range = json!({"startTime": at + 1, "endTime": at + 2});
    assert_eq!(
        texts(&filter(range).await),
        ["ERROR c", "ERROR e", "info b"],
        "the end is included"
    );
    let unknown = json!({"logGroupName": "g", "logStreamNames": ["nope"]});
    assert_eq!(
        refused(&bed, "FilterLogEvents", unknown).await,
        "ResourceNotFoundException: The specified log stream does not exist."
    );
    let odd = json!({"logGroupName": "g", "filterPattern": "{"});
    assert!(
        refused(&bed, "FilterLogEvents", odd)
            .await
            .starts_with("InvalidParameterException: Invalid filter pattern")
    );
    // Deleted streams disappear at once.
    let gone = json!({"logGroupName": "g", "logStreamName": "web/2"});
    ok(&bed, "DeleteLogStream", gone).await;
    assert_eq!(texts(&filter(json!({})).await).len(), 3);
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn put_log_events_says_what_it_drops() {
    let bed = bed().await;
    let at = now(&bed);
    let output = put(&bed, "s", &[(at - 15 * DAY, "old")]).await;
    assert_eq!(
        output["rejectedLogEventsInfo"],
        json!({"tooOldLogEventEndIndex": 1})
    );
    assert_eq!(output["nextSequenceToken"].as_str().unwrap().len(), 56);
    let nowhere = |group: &str, stream: &str| {
        json!({
            "logGroupName": group, "logStreamName": stream,
            "logEvents": [{"timestamp": at, "message": "x"}],
        })
    };
    assert_eq!(
        refused(&bed, "PutLogEvents", nowhere("nope", "s")).await,
        "ResourceNotFoundException: The specified log group does not exist."
    );
    assert_eq!(
        refused(&bed, "PutLogEvents", nowhere("g", "nope")).await,
        "ResourceNotFoundException: The specified log stream does not exist."
    );
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn retention_hides_and_then_removes() {
    let bed = bed().await;
    let at = now(&bed);
    put(&bed, "s", &[(at, "old")]).await;
    let odd = json!({"logGroupName": "g", "retentionInDays": 2});
    assert!(
        refused(&bed, "PutRetentionPolicy", odd).await.contains(
            "Member must satisfy enum value set: [1, 3, 5, 7, 14, 30"
        )
    );
    let day = json!({"logGroupName": "g", "retentionInDays": 1});
    ok(&bed, "PutRetentionPolicy", day).await;
    let groups = ok(&bed, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["retentionInDays"], 1);
    bed.clock.advance_ms(DAY + 1);
    let get = json!({"logGroupName": "g", "logStreamName": "s"});
    let output = ok(&bed, "GetLogEvents", get.clone()).await;
    assert!(texts(&output).is_empty(), "expired events are not shown");
    // The first pass seals the old segment, a later one removes it.
    let gone = async {
        loop {
            super::sweep::pass(&bed.cx).await;
            let groups = ok(&bed, "DescribeLogGroups", json!({})).await;
            if groups["logGroups"][0]["storedBytes"] == 0 {
                break;
            }
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, gone).await.unwrap();
    ok(&bed, "DeleteRetentionPolicy", json!({"logGroupName": "g"})).await;
    let groups = ok(&bed, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0].get("retentionInDays"), None);
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn tags_by_arn_and_by_name() {
    let bed = bed().await;
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:g";
    let tag = json!({"resourceArn": arn, "tags": {"a": "1", "b": "2"}});
    ok(&bed, "TagResource", tag).await;
    let untag = json!({"logGroupName": "g", "tags": ["a", "zz"]});
    ok(&bed, "UntagLogGroup", untag).await;
    let by_arn = json!({"resourceArn": arn});
    let tags = ok(&bed, "ListTagsForResource", by_arn).await;
    assert_eq!(tags["tags"], json!({"b": "2"}));
    let many: serde_json::Map<String, Value> =
        (0..50).map(|n| (format!("k{n}"), json!("v"))).collect();
    let many = json!({"resourceArn": arn, "tags": many});
    assert!(
        refused(&bed, "TagResource", many)
            .await
            .starts_with("TooManyTagsException")
    );
    let reserved = json!({"logGroupName": "g", "tags": {"AWS:x": "1"}});
    assert!(call(&bed, "TagLogGroup", reserved).await.is_err());
    let other = "arn:aws:logs:us-east-1:000000000000:log-group:other";
    let other = json!({"resourceArn": other});
    assert!(
        refused(&bed, "ListTagsForResource", other)
            .await
            .starts_with("ResourceNotFoundException")
    );
    bed.cx.logs.close().await;
}

#[tokio::test]
async fn what_is_not_built_is_refused() {
    let bed = TestBed::new();
    let key = json!({"logGroupName": "g", "kmsKeyId": "k"});
    assert!(
        refused(&bed, "CreateLogGroup", key)
            .await
            .starts_with("InvalidParameterException: Minato does not support")
    );
    assert!(
        refused(&bed, "GetLogGroupFields", json!({}))
            .await
            .contains("fields are discovered by queries alone")
    );
    bed.cx.logs.close().await;
}
