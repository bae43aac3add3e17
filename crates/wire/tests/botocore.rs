//! botocore as the oracle: what it signs we verify, what it sends we read,
//! what we write it reads.
//!
//! Needs `python3` with botocore (`MINATO_PYTHON` names another interpreter);
//! `scripts/test` installs it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the report"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use minato_wire::model::Service;
use minato_wire::protocol::{self, Target};
use minato_wire::sigv4::{
    AuthError, Expected, Key, KeyCache, Proof, RequestParts, Unverified,
};
use minato_wire::{
    ApiError, Timestamp, ec2, ecs, iam, logs, secretsmanager, ssm, sts,
};
use serde_json::{Value, json};

const SERVICES: &[&Service] = &[
    &ecs::SERVICE,
    &logs::SERVICE,
    &sts::SERVICE,
    &ec2::SERVICE,
    &iam::SERVICE,
    &secretsmanager::SERVICE,
    &ssm::SERVICE,
];

/// Runs the script with one JSON document a line, both ways.
fn botocore(verb: &str, input: &[Value]) -> Vec<Value> {
    let python =
        std::env::var("MINATO_PYTHON").unwrap_or_else(|_| "python3".into());
    let script =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/botocore_oracle.py");
    let mut child = Command::new(python)
        .args([script, verb])
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let lines: String =
        input.iter().map(|document| format!("{document}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the script fails; is botocore there?");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn headers(object: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in object.as_object().unwrap() {
        headers.insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
        );
    }
    headers
}

/// The time botocore signed at.
fn signed_at(headers: &HeaderMap, query: Option<&str>) -> Timestamp {
    let text = match headers.get("x-amz-date") {
        Some(date) => date.to_str().unwrap(),
        None => {
            let (_, rest) = query.unwrap().split_once("X-Amz-Date=").unwrap();
            &rest[..16]
        }
    };
    let iso = format!(
        "{}-{}-{}:{}:{}",
        &text[..4],
        &text[4..6],
        &text[6..11],
        &text[11..13],
        &text[13..]
    );
    Timestamp::from_iso(&iso).unwrap()
}

fn check(case: &Value, body: &[u8]) -> Result<Proof, AuthError> {
    let url = case["url"].as_str().unwrap();
    let target = url.strip_prefix("http://127.0.0.1:4566").unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let headers = headers(&case["headers"]);
    let method: Method = case["method"].as_str().unwrap().parse().unwrap();
    let parts =
        RequestParts { method: &method, path, query, headers: &headers, body };
    let key = Key {
        secret: "secret",
        session_token: (case["key"] == "token").then_some("to/ken+=="),
        expires_at: None,
    };
    Unverified::parse(&parts)?.verify(
        &parts,
        key,
        Expected::of(&ecs::SERVICE),
        signed_at(&headers, query),
        &KeyCache::new(),
    )
}

#[test]
fn what_botocore_signs_and_presigns_is_verified() {
    let cases = botocore("sign", &[]);
    assert_eq!(cases.len(), 14);
    for case in &cases {
        let mut body: Vec<u8> =
            serde_json::from_value(case["body"].clone()).unwrap();
        let shown = (&case["method"], &case["url"], &case["headers"]);
        let proof = check(case, &body);
        assert!(proof.is_ok(), "{proof:?} {shown:?}");
        body.push(b'!');
        assert_eq!(check(case, &body), Err(AuthError::Mismatch), "{shown:?}");
    }
}

/// What an operation answers, and what botocore should make of it.
fn answers() -> Vec<(&'static Service, &'static str, Value, Value)> {
    let time = 1_731_955_207;
    let iso = "2024-11-18T18:40:07+00:00";
    vec![
        (
            &sts::SERVICE,
            "GetCallerIdentity",
            json!({"Account": "1", "Arn": "a&<b>\"'", "UserId": "é"}),
            json!({"Account": "1", "Arn": "a&<b>\"'", "UserId": "é"}),
        ),
        (
            &iam::SERVICE,
            "ListRoles",
            json!({"IsTruncated": false, "Roles": [
                {"RoleName": "r", "CreateDate": time, "Tags": [],
                 "MaxSessionDuration": 3600},
                {"RoleName": "s", "Tags": [{"Key": "k", "Value": ""}]}]}),
            json!({"IsTruncated": false, "Roles": [
                {"RoleName": "r", "CreateDate": iso, "Tags": [],
                 "MaxSessionDuration": 3600},
                {"RoleName": "s", "Tags": [{"Key": "k", "Value": ""}]}]}),
        ),
        (
            &ec2::SERVICE,
            "DescribeSubnets",
            json!({"Subnets": [{"SubnetId": "s", "DefaultForAz": true,
                "AvailableIpAddressCount": 250,
                "Tags": [{"Key": "k", "Value": "v"}]}]}),
            json!({"Subnets": [{"SubnetId": "s", "DefaultForAz": true,
                "AvailableIpAddressCount": 250,
                "Tags": [{"Key": "k", "Value": "v"}]}]}),
        ),
        (
            &ecs::SERVICE,
            "ListClusters",
            json!({"clusterArns": ["a"]}),
            json!({"clusterArns": ["a"]}),
        ),
        (
            &logs::SERVICE,
            "DescribeLogGroups",
            json!({"logGroups": [{"logGroupName": "g", "creationTime": 1}]}),
            json!({"logGroups": [{"logGroupName": "g", "creationTime": 1}]}),
        ),
    ]
}

fn as_case(
    service: &Service,
    operation: &str,
    response: &http::Response<bytes::Bytes>,
) -> Value {
    let headers: serde_json::Map<String, Value> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    json!({
        "service": service.name, "operation": operation,
        "status": response.status().as_u16(), "headers": headers,
        "body": std::str::from_utf8(response.body()).unwrap(),
    })
}

#[test]
fn botocore_reads_our_answers() {
    let answers = answers();
    let cases: Vec<Value> = answers
        .iter()
        .map(|(service, name, output, _)| {
            let operation = service.operation(name).unwrap();
            let response = protocol::encode(
                service,
                service.protocol,
                operation,
                output,
                "id-1",
            );
            as_case(service, name, &response)
        })
        .collect();
    let parsed = botocore("parse", &cases);
    assert_eq!(parsed.len(), answers.len());
    for (mut parsed, (service, name, _, expected)) in
        parsed.into_iter().zip(answers)
    {
        let metadata = parsed
            .as_object_mut()
            .and_then(|parsed| parsed.remove("ResponseMetadata"))
            .unwrap();
        assert_eq!(metadata["RequestId"], "id-1", "{} {name}", service.name);
        assert_eq!(parsed, expected, "{} {name}", service.name);
    }
}

#[test]
fn botocore_reads_our_errors() {
    let named = [
        (&sts::SERVICE, "GetCallerIdentity"),
        (&ec2::SERVICE, "DescribeSubnets"),
        (&ecs::SERVICE, "ListClusters"),
        (&logs::SERVICE, "DescribeLogGroups"),
    ];
    let error = ApiError::new("SomeError", 400, "No <b>\u{1} & \"c\".");
    let cases: Vec<Value> = named
        .iter()
        .map(|(service, name)| {
            let response = protocol::encode_error(
                Some(service),
                service.protocol,
                &error,
                "id-1",
            );
            as_case(service, name, &response)
        })
        .collect();
    let parsed = botocore("parse", &cases);
    assert_eq!(parsed.len(), named.len());
    for parsed in parsed {
        assert_eq!(parsed["Error"]["Code"], "SomeError", "{parsed}");
        let message = parsed["Error"]["Message"].as_str().unwrap();
        assert!(message.starts_with("No <b>"), "{message}");
        assert!(message.ends_with(" & \"c\"."), "{message}");
        assert_eq!(parsed["ResponseMetadata"]["RequestId"], "id-1");
    }
}

#[test]
fn we_read_what_botocore_sends() {
    let sent = [
        (
            &iam::SERVICE,
            "CreateRole",
            json!({"RoleName": "r", "AssumeRolePolicyDocument": "{\"a\": 1}",
                "MaxSessionDuration": 3600,
                "Tags": [{"Key": "k+", "Value": "é +="}]}),
        ),
        (
            &ec2::SERVICE,
            "DescribeSubnets",
            json!({"SubnetIds": ["subnet-1", "subnet-2"], "DryRun": true,
                "Filters": [{"Name": "vpc-id", "Values": ["v", "w"]}]}),
        ),
        (
            &sts::SERVICE,
            "AssumeRole",
            json!({"RoleArn": "arn:aws:iam::000000000000:role/r",
                "RoleSessionName": "session", "TransitiveTagKeys": ["a", "b"]}),
        ),
        (
            &ecs::SERVICE,
            "RunTask",
            json!({"taskDefinition": "web", "count": 2, "tags": []}),
        ),
        (
            &logs::SERVICE,
            "FilterLogEvents",
            json!({"logGroupName": "g", "startTime": 1, "interleaved": true}),
        ),
    ];
    let cases: Vec<Value> = sent
        .iter()
        .map(|(service, operation, params)| {
            json!({"service": service.name, "operation": operation,
                "params": params})
        })
        .collect();
    let requests = botocore("serialize", &cases);
    assert_eq!(requests.len(), sent.len());
    for (request, (service, name, params)) in requests.iter().zip(&sent) {
        let body = request["body"].as_str().unwrap();
        let headers = headers(&request["headers"]);
        let parts = RequestParts {
            method: &Method::POST,
            path: "/",
            query: None,
            headers: &headers,
            body: body.as_bytes(),
        };
        let scope = Some(service.signing_name);
        let route = protocol::route(SERVICES, &parts, scope).unwrap();
        let Target::Operation(operation) = route.target.clone() else {
            panic!("{name} is not served");
        };
        assert_eq!(operation.name, *name);
        let input =
            protocol::decode(&route, operation, body.as_bytes()).unwrap();
        assert_eq!(&input, params, "{body}");
    }
}
