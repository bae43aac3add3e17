use minato_store::Key;
use minato_wire::Blob;
use serde_json::{Value, json};

use super::super::rows::ParameterRow;
use super::{call, code, get, names, ok, over, put, refused, with};
use crate::testing::{ACCOUNT, REGION, TestBed};

#[tokio::test]
async fn selectors_and_arns_name_versions() {
    let bed = TestBed::new();
    for (name, value) in [("/a/b", "one"), ("/a/b", "two"), ("flat", "f")] {
        put(&bed, name, value).await;
    }
    let label = json!({
        "Name": "/a/b", "ParameterVersion": 1, "Labels": ["prod"],
    });
    ok(&bed, "LabelParameterVersion", label).await;
    let arn = "arn:aws:ssm:us-east-1:000000000000:parameter";
    for (name, value, selector) in [
        ("/a/b", "two", Value::Null),
        ("/a/b:1", "one", json!(":1")),
        ("/a/b:prod", "one", json!(":prod")),
        (&format!("{arn}/a/b"), "two", Value::Null),
        (&format!("{arn}/a/b:2"), "two", json!(":2")),
        (&format!("{arn}/flat"), "f", Value::Null),
    ] {
        let shown = get(&bed, name).await;
        assert_eq!(shown["Value"], value, "{name}");
        assert_eq!(shown["Selector"], selector, "{name}");
        assert!(!shown["ARN"].as_str().unwrap().ends_with(":2"));
    }
    let refused = async |name: &str| {
        refused(&bed, "GetParameter", json!({"Name": name})).await
    };
    assert_eq!(
        refused("/a/b:5").await,
        "ParameterVersionNotFound: Systems Manager could not find version 5 \
         of /a/b. Verify the version and try again."
    );
    assert_eq!(
        refused("/a/b:test").await,
        "ParameterVersionNotFound: Systems Manager could not find label test \
         for parameter /a/b. Verify the label and try again."
    );
    let huge = refused("/a/b:99999999999999999999").await;
    assert!(huge.starts_with("ParameterVersionNotFound"));
    for name in [
        "/a",
        "/flat",
        "arn:aws:ssm:us-east-1:111111111111:parameter/flat",
        "arn:aws:ssm:eu-west-1:000000000000:parameter/flat",
        "arn:aws-cn:ssm:us-east-1:000000000000:parameter/flat",
    ] {
        let refused = refused(name).await;
        assert!(refused.starts_with("ParameterNotFound"), "{name}: {refused}");
    }
    let odd = refused("arn:aws:s3:us-east-1:000000000000:parameter/x").await;
    assert!(odd.starts_with("ValidationException"));
}

#[tokio::test]
async fn several_parameters_are_read_at_once() {
    let bed = TestBed::new();
    for name in ["b", "/a", "c"] {
        put(&bed, name, "v").await;
    }
    let input = json!({"Names": ["c", "none", "b:1", "/a", "b:9"]});
    let output = ok(&bed, "GetParameters", input).await;
    assert_eq!(names(&output), "/a b c");
    assert_eq!(output["Parameters"][1]["Selector"], ":1");
    assert_eq!(output["InvalidParameters"], json!(["none", "b:9"]));
    for list in [json!(["b", "b"]), json!(["b", "a b"])] {
        let code = code(&bed, "GetParameters", json!({"Names": list})).await;
        assert_eq!(code, "ValidationException");
    }
}

#[tokio::test]
async fn secure_strings_are_shown_as_kept_unless_decrypted() {
    let bed = TestBed::new();
    let input =
        json!({"Name": "/s/x", "Value": "hush", "Type": "SecureString"});
    ok(&bed, "PutParameter", input).await;
    put(&bed, "/s/y", "hush").await;
    let key = ParameterRow::key_of(ACCOUNT, REGION, "/s/x");
    let row = bed.cx.snapshot().get::<ParameterRow>(&key).unwrap();
    let kept = serde_json::to_value(row.newest.value.ciphertext()).unwrap();
    for (operation, input) in [
        ("GetParameters", json!({"Names": ["/s/x", "/s/y"]})),
        ("GetParametersByPath", json!({"Path": "/s"})),
    ] {
        let output = ok(&bed, operation, input.clone()).await;
        assert_eq!(output["Parameters"][0]["Value"], kept, "{operation}");
        assert_eq!(output["Parameters"][1]["Value"], "hush", "{operation}");
        let decrypted = with(input, "WithDecryption", true);
        let output = ok(&bed, operation, decrypted).await;
        assert_eq!(output["Parameters"][0]["Value"], "hush", "{operation}");
    }
    let input = json!({"Name": "/s/x"});
    let output = ok(&bed, "GetParameter", input.clone()).await;
    assert_eq!(output["Parameter"]["Value"], kept);
    let output = ok(&bed, "GetParameterHistory", input.clone()).await;
    assert_eq!(output["Parameters"][0]["Value"], kept);
    assert_eq!(output["Parameters"][0]["KeyId"], "alias/aws/ssm");
    let input = with(input, "WithDecryption", true);
    let output = ok(&bed, "GetParameterHistory", input).await;
    assert_eq!(output["Parameters"][0]["Value"], "hush");
}

#[tokio::test]
async fn no_value_is_kept_in_clear() {
    let bed = TestBed::new();
    for (name, r#type) in
        [("a", "String"), ("b", "StringList"), ("c", "SecureString")]
    {
        for value in ["first,plaintext", "other,plaintext"] {
            let input = with(over(name, value), "Type", r#type);
            ok(&bed, "PutParameter", input).await;
        }
    }
    let snapshot = bed.cx.snapshot();
    let rows: Vec<String> = snapshot
        .scan::<ParameterRow>(&Key::root())
        .map(|row| serde_json::to_string(&*row).unwrap() + &format!("{row:?}"))
        .collect();
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert!(!row.contains("plaintext"), "{row}");
        // Nor as bytes or their base64, which both forms of a row have.
        for value in ["first,plaintext", "other,plaintext"] {
            let bytes = format!("{:?}", value.as_bytes());
            assert!(!row.contains(bytes.trim_matches(['[', ']'])), "{row}");
            let blob = Blob(value.as_bytes().to_vec());
            let base64 = serde_json::to_string(&blob).unwrap();
            assert!(!row.contains(base64.trim_matches('"')), "{row}");
        }
    }
}

#[tokio::test]
async fn a_value_opens_only_as_the_version_it_was_put_as() {
    let bed = TestBed::new();
    for (name, value) in [("a", "hush"), ("a", "new"), ("b", "loud")] {
        put(&bed, name, value).await;
    }
    let swap = |tx: &mut minato_store::Tx| {
        let row = |name: &str| {
            let key = ParameterRow::key_of(ACCOUNT, REGION, name);
            ParameterRow::clone(&tx.get::<ParameterRow>(&key).unwrap())
        };
        let (mut a, mut b) = (row("a"), row("b"));
        b.newest.value = a.older[0].value.clone();
        a.newest.value = a.older[0].value.clone();
        tx.put(a);
        tx.put(b);
        Ok(())
    };
    bed.cx.transact(swap).await.unwrap();
    for name in ["a", "b"] {
        let error = call(&bed, "GetParameter", json!({"Name": name}))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "InternalServerError");
        assert!(!format!("{error:?}").contains("hush"));
    }
    assert_eq!(get(&bed, "a:1").await["Value"], "hush");
}

#[tokio::test]
async fn paths_are_read_by_level_filter_and_page() {
    let bed = TestBed::new();
    for name in ["/a/x", "/a/y/z", "/a/y/w", "/ab/x", "/a", "flat"] {
        put(&bed, name, "v").await;
    }
    let input = json!({"Name": "/a/s", "Value": "v", "Type": "SecureString"});
    ok(&bed, "PutParameter", input).await;
    let list = async |input: Value| {
        names(&ok(&bed, "GetParametersByPath", input).await)
    };
    let path = |path: &str| json!({"Path": path});
    let deep = |path: &str| json!({"Path": path, "Recursive": true});
    assert_eq!(list(path("/a")).await, "/a/s /a/x");
    assert_eq!(list(deep("/a/")).await, "/a/s /a/x /a/y/w /a/y/z");
    assert_eq!(list(path("/")).await, "/a flat");
    let all = "/a /a/s /a/x /a/y/w /a/y/z /ab/x flat";
    assert_eq!(list(deep("/")).await, all);
    assert_eq!(list(path("/none")).await, "");
    for odd in ["a", "", "/a//b", "/a b"] {
        let code = code(&bed, "GetParametersByPath", path(odd)).await;
        assert_eq!(code, "ValidationException", "{odd}");
    }
    put(&bed, "/a/x", "w").await;
    let label = json!({
        "Name": "/a/x", "ParameterVersion": 1, "Labels": ["old"],
    });
    ok(&bed, "LabelParameterVersion", label).await;
    let filter = |key: &str, option: &str, value: &str| {
        let filter = json!({"Key": key, "Option": option, "Values": [value]});
        with(deep("/a"), "ParameterFilters", json!([filter]))
    };
    assert_eq!(list(filter("Type", "Equals", "SecureString")).await, "/a/s");
    assert_eq!(list(filter("Type", "BeginsWith", "Sec")).await, "/a/s");
    assert_eq!(list(filter("KeyId", "BeginsWith", "alias/")).await, "/a/s");
    let by_label = filter("Label", "Equals", "old");
    let output = ok(&bed, "GetParametersByPath", by_label).await;
    let shown = &output["Parameters"][0];
    assert_eq!(shown["Value"], "v");
    assert_eq!(
        (&shown["Version"], &shown["Selector"]),
        (&json!(1), &json!(":old"))
    );
    for (key, option, value, expected) in [
        ("Name", "Equals", "x", "InvalidFilterKey"),
        ("Path", "Recursive", "/a", "InvalidFilterKey"),
        ("tag:k", "Equals", "v", "InvalidFilterKey"),
        ("Label", "BeginsWith", "o", "InvalidFilterOption"),
        ("Type", "Contains", "S", "InvalidFilterOption"),
        ("Type", "Equals", "Integer", "InvalidFilterValue"),
    ] {
        let input = filter(key, option, value);
        let code = code(&bed, "GetParametersByPath", input).await;
        assert_eq!(code, expected, "{key} {option}");
    }
}
