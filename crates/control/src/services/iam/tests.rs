use minato_wire::ApiError;
use serde_json::{Value, json};

use crate::testing::TestBed;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const EXECUTION: &str =
    "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy";

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

async fn code(bed: &TestBed, operation: &str, input: Value) -> (String, u16) {
    let error = call(bed, operation, input).await.unwrap_err();
    (error.code().to_owned(), error.status())
}

fn role(name: &str) -> Value {
    json!({"RoleName": name, "AssumeRolePolicyDocument": TRUST})
}

#[tokio::test]
async fn a_role_from_creation_to_deletion() {
    let bed = TestBed::new();
    let created = ok(&bed, "CreateRole", role("exec")).await;
    let created = &created["Role"];
    assert_eq!(created["Arn"], "arn:aws:iam::000000000000:role/exec");
    let id = created["RoleId"].as_str().unwrap();
    assert!(id.starts_with("AROA") && id.len() == 21, "{id}");
    assert_eq!(created["MaxSessionDuration"], 3600);
    let trust = created["AssumeRolePolicyDocument"].as_str().unwrap();
    assert!(trust.starts_with("%7B%22Version%22%3A%222012-10-17%22"));
    let again = code(&bed, "CreateRole", role("EXEC")).await;
    assert_eq!(again, ("EntityAlreadyExists".to_owned(), 409));
    let attach = json!({"RoleName": "exec", "PolicyArn": EXECUTION});
    ok(&bed, "AttachRolePolicy", attach.clone()).await;
    ok(&bed, "AttachRolePolicy", attach.clone()).await;
    let name = json!({"RoleName": "exec"});
    let attached = ok(&bed, "ListAttachedRolePolicies", name.clone()).await;
    assert_eq!(
        attached["AttachedPolicies"],
        json!([{
            "PolicyName": "AmazonECSTaskExecutionRolePolicy",
            "PolicyArn": EXECUTION,
        }])
    );
    let conflict = code(&bed, "DeleteRole", name.clone()).await;
    assert_eq!(conflict, ("DeleteConflict".to_owned(), 409));
    ok(&bed, "DetachRolePolicy", attach.clone()).await;
    assert_eq!(code(&bed, "DetachRolePolicy", attach).await.0, "NoSuchEntity");
    let inline = json!({
        "RoleName": "exec", "PolicyName": "p", "PolicyDocument": TRUST,
    });
    ok(&bed, "PutRolePolicy", inline.clone()).await;
    let got = ok(&bed, "GetRolePolicy", inline.clone()).await;
    assert_eq!(got["PolicyName"], "p");
    assert_eq!(code(&bed, "DeleteRole", name.clone()).await.1, 409);
    ok(&bed, "DeleteRolePolicy", inline.clone()).await;
    assert_eq!(code(&bed, "GetRolePolicy", inline).await.1, 404);
    let update = json!({"RoleName": "exec", "Description": "d"});
    ok(&bed, "UpdateRole", update).await;
    let tags =
        json!({"RoleName": "exec", "Tags": [{"Key": "k", "Value": "v"}]});
    ok(&bed, "TagRole", tags).await;
    let got = ok(&bed, "GetRole", name.clone()).await;
    assert_eq!(got["Role"]["Description"], "d");
    assert_eq!(got["Role"]["Tags"], json!([{"Key": "k", "Value": "v"}]));
    let profiles = ok(&bed, "ListInstanceProfilesForRole", name.clone()).await;
    assert_eq!(profiles["InstanceProfiles"], json!([]));
    ok(&bed, "DeleteRole", name.clone()).await;
    let gone = call(&bed, "GetRole", name).await.unwrap_err();
    assert_eq!(gone.message(), "The role with name exec cannot be found.");
    assert_eq!((gone.code(), gone.status()), ("NoSuchEntity", 404));
}

#[tokio::test]
async fn roles_are_listed_by_page_and_path() {
    let bed = TestBed::new();
    for name in ["c", "a", "b"] {
        ok(&bed, "CreateRole", role(name)).await;
    }
    let mut pathed = role("d");
    pathed["Path"] = json!("/team/");
    ok(&bed, "CreateRole", pathed).await;
    let first = ok(&bed, "ListRoles", json!({"MaxItems": 3})).await;
    assert_eq!(first["IsTruncated"], true);
    let rest = json!({"MaxItems": 3, "Marker": first["Marker"]});
    let rest = ok(&bed, "ListRoles", rest).await;
    assert_eq!(rest["Roles"].as_array().unwrap().len(), 1);
    assert_eq!(
        rest["Roles"][0]["Arn"],
        "arn:aws:iam::000000000000:role/team/d"
    );
    assert_eq!(rest["IsTruncated"], false);
    let team = json!({"PathPrefix": "/team/"});
    let team = ok(&bed, "ListRoles", team).await;
    assert_eq!(team["Roles"].as_array().unwrap().len(), 1);
    let odd = code(&bed, "ListRoles", json!({"Marker": "zz"})).await;
    assert_eq!(odd.0, "ValidationError");
}

#[tokio::test]
async fn a_policy_and_its_versions() {
    let bed = TestBed::new();
    let create = json!({"PolicyName": "p", "PolicyDocument": TRUST});
    let created = ok(&bed, "CreatePolicy", create.clone()).await;
    let arn = created["Policy"]["Arn"].as_str().unwrap().to_owned();
    assert_eq!(arn, "arn:aws:iam::000000000000:policy/p");
    assert_eq!(code(&bed, "CreatePolicy", create).await.1, 409);
    let version = json!({
        "PolicyArn": arn, "PolicyDocument": TRUST, "SetAsDefault": true,
    });
    for _ in 0..4 {
        ok(&bed, "CreatePolicyVersion", version.clone()).await;
    }
    let full = code(&bed, "CreatePolicyVersion", version).await;
    assert_eq!(full.0, "LimitExceeded");
    let by_arn = json!({"PolicyArn": arn});
    let got = ok(&bed, "GetPolicy", by_arn.clone()).await;
    assert_eq!(got["Policy"]["DefaultVersionId"], "v5");
    let versions = ok(&bed, "ListPolicyVersions", by_arn.clone()).await;
    assert_eq!(versions["Versions"][0]["VersionId"], "v5");
    assert_eq!(versions["Versions"].as_array().unwrap().len(), 5);
    let at = |version: &str| json!({"PolicyArn": arn, "VersionId": version});
    let default = code(&bed, "DeletePolicyVersion", at("v5")).await;
    assert_eq!(default.0, "DeleteConflict");
    ok(&bed, "SetDefaultPolicyVersion", at("v1")).await;
    for version in ["v2", "v3", "v4", "v5"] {
        assert_eq!(code(&bed, "DeletePolicy", by_arn.clone()).await.1, 409);
        ok(&bed, "DeletePolicyVersion", at(version)).await;
    }
    assert_eq!(code(&bed, "GetPolicyVersion", at("v9")).await.1, 404);
    ok(&bed, "CreateRole", role("r")).await;
    let attach = json!({"RoleName": "r", "PolicyArn": arn});
    ok(&bed, "AttachRolePolicy", attach.clone()).await;
    let listed = json!({"Scope": "Local", "OnlyAttached": true});
    let listed = ok(&bed, "ListPolicies", listed).await;
    assert_eq!(listed["Policies"][0]["AttachmentCount"], 1);
    assert_eq!(
        code(&bed, "DeletePolicy", by_arn.clone()).await.0,
        "DeleteConflict"
    );
    ok(&bed, "DetachRolePolicy", attach.clone()).await;
    ok(&bed, "DeletePolicy", by_arn).await;
    let gone = code(&bed, "AttachRolePolicy", attach).await;
    assert_eq!(gone, ("NoSuchEntity".to_owned(), 404));
}

#[tokio::test]
async fn policies_of_aws_exist_by_arn() {
    let bed = TestBed::new();
    let by_arn = json!({"PolicyArn": EXECUTION, "VersionId": "v1"});
    let policy = ok(&bed, "GetPolicy", by_arn.clone()).await;
    assert_eq!(policy["Policy"]["Path"], "/service-role/");
    let version = ok(&bed, "GetPolicyVersion", by_arn).await;
    let document = version["PolicyVersion"]["Document"].as_str().unwrap();
    assert!(document.contains("ecr%3AGetAuthorizationToken"));
    let aws = ok(&bed, "ListPolicies", json!({"Scope": "AWS"})).await;
    assert_eq!(aws["Policies"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn malformed_documents_are_refused() {
    let bed = TestBed::new();
    for document in [
        "not json",
        "[]",
        "{}",
        r#"{"Statement":[]}"#,
        r#"{"Statement":[{"Effect":"Maybe"}]}"#,
        r#"{"Version":"1999","Statement":[{"Effect":"Allow"}]}"#,
    ] {
        let input =
            json!({"RoleName": "x", "AssumeRolePolicyDocument": document});
        let refused = code(&bed, "CreateRole", input).await;
        assert_eq!(refused.0, "MalformedPolicyDocument", "{document}");
    }
}
