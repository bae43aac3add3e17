use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{ec2, ecs, iam, logs, secretsmanager, ssm, sts};

const SERVICES: &[&Service] = &[
    &ecs::SERVICE,
    &logs::SERVICE,
    &sts::SERVICE,
    &ec2::SERVICE,
    &iam::SERVICE,
    &secretsmanager::SERVICE,
    &ssm::SERVICE,
];
const ID: &str = "8f3c0000-0000-4000-8000-000000000000";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Routes and decodes; errors come as their code and message.
fn take(
    headers: &HeaderMap,
    query: Option<&str>,
    body: &[u8],
    scope: Option<&str>,
) -> Result<(&'static str, &'static str, Value), (String, String)> {
    let told =
        |error: ApiError| (error.code().to_owned(), error.message().to_owned());
    let request =
        RequestParts { method: &Method::POST, path: "/", query, headers, body };
    let route = route(SERVICES, &request, scope)
        .map_err(|no_route| told(no_route.error))?;
    let Target::Operation(operation) = route.target.clone() else {
        return Err(("unserved".into(), String::new()));
    };
    let input = decode(&route, operation, body).map_err(told)?;
    Ok((route.service.name, operation.name, input))
}

fn json_call(
    target: &str,
    body: &str,
) -> Result<(&'static str, &'static str, Value), (String, String)> {
    let headers = headers(&[
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target),
    ]);
    take(&headers, None, body.as_bytes(), None)
}

fn ecs_call(operation: &str, body: &str) -> Result<Value, (String, String)> {
    let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
    json_call(&target, body).map(|(_, _, input)| input)
}

fn form_call(
    scope: &str,
    body: &str,
) -> Result<(&'static str, &'static str, Value), (String, String)> {
    take(&HeaderMap::new(), None, body.as_bytes(), Some(scope))
}

fn refused(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

fn body(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

#[test]
fn a_json_call_is_decoded() {
    let input = ecs_call("RunTask", r#"{"taskDefinition":"a","x":1}"#).unwrap();
    assert_eq!(input, json!({"taskDefinition": "a"}));
    assert_eq!(ecs_call("ListClusters", "").unwrap(), json!({}));
    let (service, operation, _) =
        json_call("Logs_20140328.CreateLogGroup", r#"{"logGroupName":"g"}"#)
            .unwrap();
    assert_eq!((service, operation), ("logs", "CreateLogGroup"));
}

#[test]
fn what_is_no_operation_or_no_json_is_refused() {
    let unknown = refused("UnknownOperationException", "");
    assert_eq!(ecs_call("Nope", "{}").unwrap_err(), unknown);
    assert_eq!(json_call("Nope.ListTasks", "{}").unwrap_err(), unknown);
    assert_eq!(json_call("", "{}").unwrap_err(), unknown);
    let deep = "[".repeat(100_000);
    let inner = format!(r#"{{"cluster":{deep}"#);
    for body in ["{", "[]", "7", "\"a\"", "{}}", deep.as_str(), &inner] {
        let (code, _) = ecs_call("ListTasks", body).unwrap_err();
        assert_eq!(code, "SerializationException");
    }
}

#[test]
fn ecs_words_what_is_wrong() {
    let serialization = |text| refused("SerializationException", text);
    let client = |text| refused("ClientException", text);
    let parameter = |text| refused("InvalidParameterException", text);
    for (operation, body, expected) in [
        (
            "RunTask",
            r#"{"taskDefinition":1}"#,
            serialization("NUMBER_VALUE can not be converted to a String"),
        ),
        (
            "RunTask",
            r#"{"taskDefinition":"a","count":"1"}"#,
            serialization("STRING_VALUE can not be converted to an Integer"),
        ),
        (
            "DescribeTasks",
            r#"{"tasks":"a"}"#,
            serialization("Expected list or null"),
        ),
        ("RunTask", "{}", parameter("TaskDefinition can not be blank.")),
        (
            "RunTask",
            r#"{"taskDefinition":"a","launchType":"X"}"#,
            parameter(
                "launch type should be one of \
                 [EC2,FARGATE,EXTERNAL,MANAGED_INSTANCES]",
            ),
        ),
        (
            "RegisterTaskDefinition",
            r#"{"family":"f","containerDefinitions":[{"volumesFrom":[],
                "secrets":[{"name":"a"}]}]}"#,
            client("Secret.valueFrom should not be null or empty."),
        ),
    ] {
        assert_eq!(ecs_call(operation, body).unwrap_err(), expected);
    }
}

#[test]
fn logs_words_what_is_wrong() {
    let call = |body| json_call("Logs_20140328.CreateLogGroup", body);
    assert_eq!(
        call("{}").unwrap_err(),
        refused(
            "InvalidParameterException",
            "1 validation error detected: Value null at 'logGroupName' \
             failed to satisfy constraint: Member must not be null"
        )
    );
    assert_eq!(
        call(r#"{"logGroupName":"a b"}"#).unwrap_err().1,
        r"1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+"
    );
    assert_eq!(
        call(r#"{"logGroupName":""}"#).unwrap_err().1,
        "2 validation errors detected: Value '' at 'logGroupName' failed to \
         satisfy constraint: Member must have length greater than or equal \
         to 1; Value '' at 'logGroupName' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: \
         [\\.\\-_/#A-Za-z0-9]+"
    );
}

#[test]
fn query_parameters_are_shaped() {
    let (service, operation, input) = form_call(
        "iam",
        "Action=CreateRole&Version=2010-05-08&RoleName=r%2B1&Path=%2F\
         &AssumeRolePolicyDocument=%7B%7D&MaxSessionDuration=3600\
         &Tags.member.2.Key=b&Tags.member.2.Value=\
         &Tags.member.1.Key=a&Tags.member.1.Value=1",
    )
    .unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!((service, operation), ("iam", "CreateRole"));
    assert_eq!(
        input,
        json!({"RoleName": "r+1", "Path": "/",
            "AssumeRolePolicyDocument": "{}", "MaxSessionDuration": 3600,
            "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]})
    );
}

#[test]
fn ec2_parameters_are_shaped() {
    let (_, operation, input) = form_call(
        "ec2",
        "Action=DescribeSubnets&Version=2016-11-15&SubnetId.1=subnet-a\
         &SubnetId.2=subnet-b&Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-a\
         &DryRun=false&MaxResults=5",
    )
    .unwrap();
    assert_eq!(operation, "DescribeSubnets");
    assert_eq!(
        input,
        json!({"SubnetIds": ["subnet-a", "subnet-b"], "DryRun": false,
            "MaxResults": 5, "Filters": [{"Name": "vpc-id",
            "Values": ["vpc-a"]}]})
    );
}

#[test]
fn query_words_what_is_wrong() {
    for (scope, body, code, message) in [
        (
            "sts",
            "Action=Nope&Version=2011-06-15",
            "InvalidAction",
            "Could not find operation Nope for version 2011-06-15",
        ),
        (
            "sts",
            "Action=GetCallerIdentity&Version=2001-01-01",
            "InvalidAction",
            "Could not find operation GetCallerIdentity for version \
             2001-01-01",
        ),
        (
            "ec2",
            "Action=Nope",
            "InvalidAction",
            "The action Nope is not valid for this web service.",
        ),
        ("sts", "Version=1", "MissingAction", ""),
        (
            "ec2",
            "Action=DescribeSubnets&MaxResults=x",
            "InvalidParameterValue",
            "Value (x) for parameter MaxResults is invalid.",
        ),
        (
            "sts",
            "Action=AssumeRole&RoleArn=arn:aws:iam::1:role/r\
             &RoleSessionName=s&DurationSeconds=x",
            "MalformedInput",
            "Invalid value 'x' for DurationSeconds",
        ),
        (
            "sts",
            "Action=AssumeRole&RoleArn=arn:aws:iam::123456789012:role/r",
            "ValidationError",
            "1 validation error detected: Value null at 'roleSessionName' \
             failed to satisfy constraint: Member must not be null",
        ),
        (
            "sts",
            "Action=a&Action=b",
            "MalformedQueryString",
            "Duplicate parameter Action.",
        ),
        (
            "sts",
            "Action=%FF",
            "MalformedQueryString",
            "A parameter is not UTF-8.",
        ),
    ] {
        let error = form_call(scope, body).unwrap_err();
        assert_eq!(error, refused(code, message), "{body}");
    }
}

#[test]
fn form_parameters_have_limits() {
    let refuse = |parameters: &str| {
        let body = format!("Action=AssumeRole&{parameters}");
        let (code, message) = form_call("sts", &body).unwrap_err();
        assert_eq!(code, "MalformedQueryString");
        message
    };
    assert_eq!(refuse("a=1&a=2"), "Duplicate parameter a.");
    let many: String = (0..10_001).map(|n| format!("a{n}=&")).collect();
    assert_eq!(refuse(&many), "Too many parameters.");
    let deep = format!("{}=1", "a.".repeat(100));
    assert_eq!(refuse(&deep), "Parameter nested too deeply.");
    // Few parameters, but a tree of many parts.
    let tree: String =
        (0..2000).map(|n| format!("a{n}{}=&", ".b".repeat(20))).collect();
    assert_eq!(refuse(&tree), "Too many parameters.");
}

#[test]
fn a_service_without_a_scope_is_found_by_its_version() {
    let (service, ..) = take(
        &HeaderMap::new(),
        Some("Action=GetCallerIdentity&Version=2011-06-15"),
        b"",
        None,
    )
    .unwrap();
    assert_eq!(service, "sts");
    let (code, _) = take(&HeaderMap::new(), None, b"{}", None).unwrap_err();
    assert_eq!(code, "UnknownOperationException");
}

#[test]
fn operations_without_shapes_are_told_apart() {
    let error = form_call("sts", "Action=GetAccessKeyInfo").unwrap_err();
    assert_eq!(error.0, "unserved");
}

fn operation(service: &'static Service, name: &str) -> &'static Operation {
    service.operation(name).unwrap()
}

#[test]
fn json_answers_are_written_as_aws_does() {
    let version = Protocol::AwsJson(JsonVersion::V1_1);
    let operation = operation(&ecs::SERVICE, "ListClusters");
    let output = json!({"clusterArns": []});
    let response = encode(&ecs::SERVICE, version, operation, &output, ID);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-amzn-requestid"], ID);
    let content_type = &response.headers()["content-type"];
    assert_eq!(content_type, "application/x-amz-json-1.1");
    assert_eq!(body(&response), r#"{"clusterArns":[]}"#);
    let tag = super::tests::operation(&ecs::SERVICE, "TagResource");
    let response = encode(&ecs::SERVICE, version, tag, &Value::Null, ID);
    assert_eq!(body(&response), "{}");

    let error = ApiError::new("ConflictException", 400, "No \"way\".")
        .with_field("resourceIds", json!(["a"]))
        .with_internal("not for clients");
    let response = encode_error(Some(&ecs::SERVICE), version, &error, ID);
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["x-amzn-errortype"], "ConflictException");
    assert_eq!(
        body(&response),
        r#"{"__type":"ConflictException","message":"No \"way\".","resourceIds":["a"]}"#
    );
}

#[test]
fn query_answers_are_written_as_aws_does() {
    let operation = operation(&sts::SERVICE, "GetCallerIdentity");
    let output = json!({"UserId": "AIDA", "Account": "000000000000",
        "Arn": "arn:aws:iam::000000000000:user/a&b"});
    let response =
        encode(&sts::SERVICE, Protocol::Query, operation, &output, ID);
    assert_eq!(response.headers()["content-type"], "text/xml");
    assert_eq!(
        body(&response),
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
        \x20 <GetCallerIdentityResult>\n\
        \x20   <UserId>AIDA</UserId>\n\
        \x20   <Account>000000000000</Account>\n\
        \x20   <Arn>arn:aws:iam::000000000000:user/a&amp;b</Arn>\n\
        \x20 </GetCallerIdentityResult>\n\
        \x20 <ResponseMetadata>\n\
        \x20   <RequestId>8f3c0000-0000-4000-8000-000000000000</RequestId>\n\
        \x20 </ResponseMetadata>\n\
        </GetCallerIdentityResponse>\n"
    );
    let error = ApiError::new("InvalidClientTokenId", 403, "No <token>\0");
    let response =
        encode_error(Some(&sts::SERVICE), Protocol::Query, &error, ID);
    assert_eq!(response.status(), 403);
    assert_eq!(
        body(&response),
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
        \x20 <Error>\n\
        \x20   <Type>Sender</Type>\n\
        \x20   <Code>InvalidClientTokenId</Code>\n\
        \x20   <Message>No &lt;token&gt;\u{fffd}</Message>\n\
        \x20 </Error>\n\
        \x20 <RequestId>8f3c0000-0000-4000-8000-000000000000</RequestId>\n\
        </ErrorResponse>\n"
    );
}

#[test]
fn ec2_answers_are_written_as_aws_does() {
    let operation = operation(&ec2::SERVICE, "DescribeVpcs");
    let output = json!({"Vpcs": [{"VpcId": "vpc-1", "IsDefault": true,
        "Tags": []}]});
    let response =
        encode(&ec2::SERVICE, Protocol::Ec2Query, operation, &output, ID);
    let text = body(&response);
    assert!(text.starts_with(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n\
        \x20   <requestId>8f3c0000-0000-4000-8000-000000000000</requestId>\n"
    ), "{text}");
    for part in [
        "    <vpcSet>\n        <item>\n",
        "<vpcId>vpc-1</vpcId>",
        "<isDefault>true</isDefault>",
        "<tagSet/>",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let error = ApiError::new("InvalidVpcID.NotFound", 400, "no");
    let response = encode_error(None, Protocol::Ec2Query, &error, ID);
    assert_eq!(
        body(&response),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>\n    <Errors>\n        \
         <Error>\n            <Code>InvalidVpcID.NotFound</Code>\n            \
         <Message>no</Message>\n        </Error>\n    </Errors>\n    \
         <RequestID>8f3c0000-0000-4000-8000-000000000000</RequestID>\n</Response>\n"
    );
}

#[test]
fn times_in_xml_are_iso() {
    let get_role = operation(&iam::SERVICE, "GetRole");
    let output = json!({"Role": {"RoleName": "r",
        "CreateDate": 1_731_955_207.123}});
    let response =
        encode(&iam::SERVICE, Protocol::Query, get_role, &output, ID);
    let text = body(&response);
    let time = "<CreateDate>2024-11-18T18:40:07Z</CreateDate>";
    assert!(text.contains(time), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        query in proptest::option::of("[ -~]{0,60}"),
        target in "[ -~]{0,60}",
        is_json in any::<bool>(),
        scope in prop_oneof![Just("ec2"), Just("sts"), Just("iam"), Just("x")],
    ) {
        let mut map = HeaderMap::new();
        if is_json {
            map = headers(&[("x-amz-target", &target)]);
        }
        let _ = take(&map, query.as_deref(), &body, Some(scope));
    }

    #[test]
    fn no_json_text_panics(body in r#"[{}\[\]",:a-z0-9 .e-]{0,80}"#) {
        let _ = ecs_call("RegisterTaskDefinition", &body);
    }

    #[test]
    fn no_form_panics(
        pairs in proptest::collection::vec(
            ("(Tags|Filter|SubnetId|RoleName|a)(\\.(member|1|2|0|99999999999|Name|Value|)){0,4}",
             "[a-zA-Z0-9%+=.]{0,8}"), 0..12),
    ) {
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let pairs = pairs.join("&");
        for (scope, action) in
            [("iam", "CreateRole"), ("ec2", "DescribeSubnets")]
        {
            let _ = form_call(scope, &format!("Action={action}&{pairs}"));
        }
    }
}
