//! CloudWatch Logs by stock clients: Insights, Live Tail, filters.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use minato_e2e::{Site, wait_for};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "events need the time")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A group `web` with the stream `s`.
fn with_group(site: &mut Site) -> Result<()> {
    let group = json!({"logGroupName": "web"});
    site.call("logs", "create_log_group", group)?;
    let stream = json!({"logGroupName": "web", "logStreamName": "s"});
    site.call("logs", "create_log_stream", stream)?;
    Ok(())
}

fn put(site: &mut Site, messages: &[String]) -> Result<()> {
    let at = now_ms();
    let event = |text: &String| json!({"timestamp": at, "message": text});
    let events: Vec<Value> = messages.iter().map(event).collect();
    let input = json!({
        "logGroupName": "web", "logStreamName": "s", "logEvents": events,
    });
    site.call("logs", "put_log_events", input)?;
    Ok(())
}

#[test]
fn insights_answers_boto3_and_the_cli() {
    let mut site = Site::start().unwrap();
    with_group(&mut site).unwrap();
    let lines: Vec<String> = (0..50)
        .map(|n| format!(r#"{{"status":{},"ms":{n}}}"#, 200 + n % 2 * 300))
        .collect();
    put(&mut site, &lines).unwrap();
    let end = now_ms() / 1000 + 60;
    let started = site
        .call(
            "logs",
            "start_query",
            json!({
                "logGroupNames": ["web"], "startTime": end - 3600,
                "endTime": end, "queryString":
                    "filter status = 500 | stats count(*) as n, max(ms) as worst",
            }),
        )
        .unwrap();
    let id = started["queryId"].clone();
    let found = wait_for(PATIENCE, || {
        let input = json!({"queryId": id});
        let found = site.call("logs", "get_query_results", input).unwrap();
        (found["status"] == "Complete").then_some(found)
    })
    .unwrap();
    assert_eq!(
        found["results"],
        json!([[
            {"field": "n", "value": "25"}, {"field": "worst", "value": "49"},
        ]])
    );
    assert_eq!(found["statistics"]["recordsScanned"], 50.0);

    let (from, to) = ((end - 3600).to_string(), end.to_string());
    let started = site
        .aws(&[
            "logs",
            "start-query",
            "--log-group-name",
            "web",
            "--start-time",
            &from,
            "--end-time",
            &to,
            "--query-string",
            "fields ms | sort ms desc | limit 2",
        ])
        .unwrap();
    let id = started["queryId"].as_str().unwrap().to_owned();
    let found = wait_for(PATIENCE, || {
        let ask = ["logs", "get-query-results", "--query-id", &id];
        let found = site.aws(&ask).unwrap();
        (found["status"] == "Complete").then_some(found)
    })
    .unwrap();
    assert_eq!(found["results"][0][0]["value"], "49");
    assert_eq!(found["results"][1][0]["value"], "48");
    let pointer = found["results"][0][1]["value"].as_str().unwrap();
    let ask = ["logs", "get-log-record", "--log-record-pointer", pointer];
    let record = site.aws(&ask).unwrap();
    assert_eq!(record["logRecord"]["ms"], "49");

    let wrong = site.boto().unwrap().call(
        "logs",
        "start_query",
        json!({
            "logGroupName": "web", "startTime": 0, "endTime": end,
            "queryString": "fields @message | wrong",
        }),
    );
    assert_eq!(wrong.unwrap_err().code, "MalformedQueryException");
    site.finish().unwrap();
}

#[test]
fn filters_and_definitions_survive_a_crash() {
    let mut site = Site::start().unwrap();
    with_group(&mut site).unwrap();
    let metric = json!([{
        "metricName": "Errors", "metricNamespace": "Web", "metricValue": "1",
    }]);
    let filter = json!({
        "logGroupName": "web", "filterName": "errors",
        "filterPattern": "ERROR", "metricTransformations": metric,
    });
    site.call("logs", "put_metric_filter", filter).unwrap();
    let filter = json!({
        "logGroupName": "web", "filterName": "all", "filterPattern": "",
        "destinationArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
    });
    site.call("logs", "put_subscription_filter", filter).unwrap();
    let definition = json!({"name": "last", "queryString": "limit 1"});
    site.call("logs", "put_query_definition", definition).unwrap();
    site.kill_minato().unwrap();
    site.up().unwrap();
    let found =
        site.call("logs", "describe_metric_filters", json!({})).unwrap();
    assert_eq!(found["metricFilters"][0]["metricTransformations"], metric);
    let group = json!({"logGroupName": "web"});
    let found =
        site.call("logs", "describe_subscription_filters", group).unwrap();
    assert_eq!(found["subscriptionFilters"][0]["filterName"], "all");
    let found =
        site.call("logs", "describe_query_definitions", json!({})).unwrap();
    assert_eq!(found["queryDefinitions"][0]["queryString"], "limit 1");
    let tested = site
        .aws(&[
            "logs",
            "test-metric-filter",
            "--filter-pattern",
            "{ $.a = 1 }",
            "--log-event-messages",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
        ])
        .unwrap();
    assert_eq!(tested["matches"][0]["extractedValues"]["$.a"], "1");
    assert_eq!(tested["matches"].as_array().unwrap().len(), 1);
    site.finish().unwrap();
}

const TAIL: &str = r#"
import json, sys, boto3
logs = boto3.client('logs')
arn = 'arn:aws:logs:us-east-1:000000000000:log-group:web'
answer = logs.start_live_tail(
    logGroupIdentifiers=[arn], logEventFilterPattern='ERROR')
for event in answer['responseStream']:
    if 'sessionStart' in event:
        print(json.dumps(event['sessionStart']), flush=True)
    else:
        update = event['sessionUpdate']
        assert update['sessionMetadata']['sampled'] is False, update
        for one in update['sessionResults']:
            print(json.dumps(one), flush=True)
            answer['responseStream'].close()
            sys.exit()
"#;

#[test]
fn live_tail_is_followed_by_boto3() {
    let mut site = Site::start().unwrap();
    with_group(&mut site).unwrap();
    let mut python = site.command("python3");
    let said = site.dir().join("tail.json");
    let file = std::fs::File::create(&said).unwrap();
    let mut child = python.args(["-c", TAIL]).stdout(file).spawn().unwrap();
    let read = || std::fs::read_to_string(&said).unwrap();
    let begun =
        wait_for(PATIENCE, || read().contains("sessionId").then_some(()));
    assert!(begun.is_some(), "{}", site.log());
    put(&mut site, &["fine".to_owned(), "one ERROR".to_owned()]).unwrap();
    let ended = wait_for(PATIENCE, || child.try_wait().unwrap());
    let text = read();
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(ended.is_some_and(|status| status.success()), "{text}");
    let event: Value =
        serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(event["message"], "one ERROR");
    assert_eq!(event["logStreamName"], "s");
    assert_eq!(event["logGroupIdentifier"], "000000000000:web");
    site.finish().unwrap();
}

#[test]
fn live_tail_is_followed_by_the_cli() {
    let mut site = Site::start().unwrap();
    with_group(&mut site).unwrap();
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:web";
    let said = site.dir().join("tail.txt");
    let file = std::fs::File::create(&said).unwrap();
    let mut aws = site.command("aws");
    let mut child = aws
        .args(["logs", "start-live-tail", "--log-group-identifiers", arn])
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(file)
        .spawn()
        .unwrap();
    // It does not say when it has begun: events are put until it shows one.
    let mut count = 0;
    let seen = wait_for(PATIENCE, || {
        count += 1;
        put(&mut site, &[format!("event {count}")]).ok()?;
        let text = std::fs::read_to_string(&said).unwrap();
        text.contains("event").then_some(())
    });
    child.kill().unwrap();
    child.wait().context("aws").unwrap();
    assert!(seen.is_some(), "{}", site.log());
    site.finish().unwrap();
}
