use minato_wire::ssm::ParameterTier;
use serde_json::json;

use super::super::dispatch;
use super::super::rows::ParameterRow;
use super::{call, code, get, ok, over, put, refused, with};
use crate::testing::{ACCOUNT, REGION, TestBed};

#[tokio::test]
async fn names_have_their_form() {
    let bed = TestBed::new();
    let put_code = async |name: &str| {
        let input = json!({"Name": name, "Value": "v", "Type": "String"});
        match call(&bed, "PutParameter", input).await {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code().to_owned(),
        }
    };
    let deep = |levels: usize| "/l".repeat(levels);
    let bare = "arn:aws:ssm:us-east-1:000000000000:parameter/".len();
    let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/x";
    for name in [
        "",
        "a/b",
        "/a//b",
        "/a/",
        "/",
        "a b",
        "a:1",
        "é",
        arn,
        "awsome",
        "/aws/x",
        "SSM-x",
        "/Ssm",
        &"x".repeat(1012 - bare),
    ] {
        assert_eq!(put_code(name).await, "ValidationException", "{name}");
    }
    let too_deep = "HierarchyLevelLimitExceededException";
    assert_eq!(put_code(&deep(16)).await, too_deep);
    for name in
        ["A_b.c-9", "/my/aws", "xssm", &deep(15), &"x".repeat(1011 - bare)]
    {
        assert_eq!(put_code(name).await, "ok", "{name}");
    }
    let input = json!({"Name": "a/b", "Value": "v", "Type": "String"});
    assert_eq!(
        refused(&bed, "PutParameter", input).await,
        "ValidationException: Parameter name must be a fully qualified name."
    );
    // Both spellings have one ARN, so there is one parameter.
    for (name, overwrite) in [("/xssm", true), ("/A_b.c-9", false)] {
        let input = json!({
            "Name": name, "Value": "v", "Type": "String",
            "Overwrite": overwrite,
        });
        let code = code(&bed, "PutParameter", input).await;
        assert_eq!(code, "ParameterAlreadyExists");
    }
    for name in ["{test}-test", "a b", "x/y", "x:"] {
        let code = code(&bed, "GetParameter", json!({"Name": name})).await;
        assert_eq!(code, "ValidationException", "{name}");
    }
}

#[tokio::test]
async fn a_put_says_what_it_may() {
    let bed = TestBed::new();
    let new = json!({"Name": "p", "Value": "v"});
    assert_eq!(
        refused(&bed, "PutParameter", new.clone()).await,
        "ValidationException: A parameter type is required when you create a \
         parameter."
    );
    let new = with(new, "Type", "String");
    let tags = json!([{"Key": "k", "Value": "v"}]);
    for (member, value, expected) in [
        ("Value", json!(""), "ValidationException"),
        ("Value", json!("a {{ssm:x}}"), "ValidationException"),
        ("KeyId", json!("alias/mine"), "ValidationException"),
        ("DataType", json!("aws:ec2:image"), "ValidationException"),
        ("Policies", json!("[{}]"), "InvalidPolicyTypeException"),
    ] {
        let input = with(new.clone(), member, value);
        let code = code(&bed, "PutParameter", input).await;
        assert_eq!(code, expected, "{member}");
    }
    let both = with(with(new.clone(), "Tags", tags), "Overwrite", true);
    let message = refused(&bed, "PutParameter", both).await;
    assert!(message.contains("tags and overwrite can't be used together"));
    ok(&bed, "PutParameter", with(new, "Policies", "[]")).await;
    let other = with(over("p", "w"), "Type", "StringList");
    let code = code(&bed, "PutParameter", other).await;
    assert_eq!(code, "HierarchyTypeMismatchException");
    assert_eq!(get(&bed, "p").await["Version"], 1);
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_mention() {
    let bed = TestBed::new();
    let input = json!({
        "Name": "p", "Value": "1", "Type": "SecureString",
        "Description": "d", "AllowedPattern": "[0-9]+",
        "KeyId": "alias/mine", "Tier": "Advanced",
    });
    ok(&bed, "PutParameter", input).await;
    let output = ok(&bed, "PutParameter", over("p", "2")).await;
    assert_eq!(output, json!({"Version": 2, "Tier": "Advanced"}));
    let output = ok(&bed, "DescribeParameters", json!({})).await;
    let shown = &output["Parameters"][0];
    assert_eq!(
        *shown,
        json!({
            "Name": "p", "Type": "SecureString", "KeyId": "alias/aws/ssm",
            "ARN": "arn:aws:ssm:us-east-1:000000000000:parameter/p",
            "LastModifiedDate": shown["LastModifiedDate"],
            "LastModifiedUser": "arn:aws:iam::000000000000:root",
            "Description": "d", "AllowedPattern": "[0-9]+", "Version": 2,
            "Tier": "Advanced", "Policies": [], "DataType": "text",
        })
    );
    assert_eq!(
        code(&bed, "PutParameter", over("p", "x")).await,
        "ParameterPatternMismatchException"
    );
    let cleared = with(over("p", "x"), "AllowedPattern", "");
    ok(&bed, "PutParameter", with(cleared, "Description", "")).await;
    let output = ok(&bed, "DescribeParameters", json!({})).await;
    assert_eq!(output["Parameters"][0].get("AllowedPattern"), None);
    assert_eq!(output["Parameters"][0].get("Description"), None);
}

#[tokio::test]
async fn values_fit_the_whole_pattern() {
    let bed = TestBed::new();
    let with_pattern = |pattern: &str| {
        let input = json!({"Name": "p", "Value": "12a", "Type": "String"});
        with(input, "AllowedPattern", pattern)
    };
    assert_eq!(
        refused(&bed, "PutParameter", with_pattern(r"\d+")).await,
        "ParameterPatternMismatchException: Parameter value, cannot be \
         validated against allowedPattern: \\d+"
    );
    for pattern in ["(", "a)|(?:.*", "(?=x)", r"(\w{999}){999}"] {
        assert_eq!(
            code(&bed, "PutParameter", with_pattern(pattern)).await,
            "InvalidAllowedPatternException",
            "{pattern}"
        );
    }
    ok(&bed, "PutParameter", with_pattern(r"^\d+a|x$")).await;
}

#[tokio::test]
async fn tiers_bound_values_and_never_go_back() {
    let bed = TestBed::new();
    let tier = async |name: &str, size: usize, tier: Option<&str>| {
        let mut input = with(over(name, &"x".repeat(size)), "Type", "String");
        if let Some(tier) = tier {
            input = with(input, "Tier", tier);
        }
        match call(&bed, "PutParameter", input).await {
            Ok(output) => output["Tier"].as_str().unwrap().to_owned(),
            Err(error) => format!("{}: {}", error.code(), error.message()),
        }
    };
    assert_eq!(tier("s", 4096, None).await, "Standard");
    assert_eq!(
        tier("s", 4097, None).await,
        "ValidationException: Standard tier parameters support a maximum \
         parameter value of 4096 characters. To create a larger parameter \
         value, upgrade the parameter to use the advanced-parameter tier. \
         For more information, see \
         https://docs.aws.amazon.com/systems-manager/latest/userguide/\
         parameter-store-advanced-parameters.html"
    );
    let intelligent = Some("Intelligent-Tiering");
    assert_eq!(tier("s", 4096, intelligent).await, "Standard");
    assert_eq!(tier("s", 4097, intelligent).await, "Advanced");
    assert_eq!(tier("s", 1, intelligent).await, "Advanced");
    assert_eq!(tier("s", 1, None).await, "Advanced");
    let back = tier("s", 1, Some("Standard")).await;
    assert!(back.starts_with("ValidationException: This parameter uses the"));
    assert_eq!(tier("t", 1, Some("Standard")).await, "Standard");
    assert_eq!(tier("t", 8192, Some("Advanced")).await, "Advanced");
    for asked in [Some("Advanced"), intelligent] {
        let long = tier("t", 8193, asked).await;
        assert!(long.starts_with("ValidationException: Advanced tier"));
    }
}

#[tokio::test]
async fn an_account_has_so_many_standard_parameters() {
    let bed = TestBed::new();
    put(&bed, "p", "v").await;
    let key = ParameterRow::key_of(ACCOUNT, REGION, "p");
    let row = bed.cx.snapshot().get::<ParameterRow>(&key).unwrap();
    let fill = move |tx: &mut minato_store::Tx| {
        for number in 1..10_000 {
            let name = format!("p{number}");
            tx.put(ParameterRow { name, ..ParameterRow::clone(&row) });
        }
        Ok(())
    };
    bed.cx.transact(fill).await.unwrap();
    let new = json!({"Name": "q", "Value": "v", "Type": "String"});
    assert_eq!(
        code(&bed, "PutParameter", new.clone()).await,
        "ParameterLimitExceeded"
    );
    // Versions are no parameters, and other regions count for themselves.
    put(&bed, "p7", "w").await;
    let mut elsewhere = bed.scope();
    elsewhere.region = "eu-west-1".to_owned();
    dispatch(&bed.cx, &elsewhere, "PutParameter", new.clone()).await.unwrap();
    let clever = with(new.clone(), "Tier", "Intelligent-Tiering");
    let output = ok(&bed, "PutParameter", clever).await;
    assert_eq!(output["Tier"], ParameterTier::Advanced.as_str());
    ok(&bed, "DeleteParameter", json!({"Name": "p9999"})).await;
    ok(&bed, "PutParameter", with(new, "Name", "r")).await;
}

#[tokio::test]
async fn a_hundred_versions_are_kept_and_labelled_ones_are_not_dropped() {
    let bed = TestBed::new();
    for number in 1..=101 {
        assert_eq!(put(&bed, "p", "v").await["Version"], number);
    }
    let oldest = code(&bed, "GetParameter", json!({"Name": "p:1"})).await;
    assert_eq!(oldest, "ParameterVersionNotFound");
    assert_eq!(get(&bed, "p:2").await["Version"], 2);
    let label = json!({"Name": "p", "ParameterVersion": 2, "Labels": ["l"]});
    ok(&bed, "LabelParameterVersion", label.clone()).await;
    assert_eq!(
        refused(&bed, "PutParameter", over("p", "w")).await,
        "ParameterMaxVersionLimitExceeded: You attempted to create a new \
         version of p by calling the PutParameter API with the overwrite \
         flag. Version 2, the oldest version, can't be deleted because it \
         has a label associated with it. Move the label to another version \
         of the parameter, and try again."
    );
    ok(&bed, "LabelParameterVersion", with(label, "ParameterVersion", 3)).await;
    assert_eq!(put(&bed, "p", "w").await["Version"], 102);
    let input = json!({"Name": "p"});
    let first = ok(&bed, "GetParameterHistory", input.clone()).await;
    let list = first["Parameters"].as_array().unwrap();
    assert_eq!((list.len(), &list[0]["Version"]), (50, &json!(3)));
    assert_eq!(list[0]["Labels"], json!(["l"]));
    assert_eq!(list[1]["Labels"], json!([]));
    assert_eq!(list[1]["LastModifiedUser"], "arn:aws:iam::000000000000:root");
    let next = with(input.clone(), "NextToken", first["NextToken"].clone());
    let second = ok(&bed, "GetParameterHistory", next).await;
    let list = second["Parameters"].as_array().unwrap();
    assert_eq!((list.len(), &list[49]["Version"]), (50, &json!(102)));
    assert_eq!(list[49]["Value"], "w");
    assert_eq!(second.get("NextToken"), None);
    let bad = with(input, "NextToken", "bad");
    let code = code(&bed, "GetParameterHistory", bad).await;
    assert_eq!(code, "InvalidNextToken");
}
