//! Secrets: the services that keep them, as stock clients use them, and the
//! variables that containers get of them.

use std::path::Path;

use minato_e2e::{IMAGE, Site};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
/// What must be found nowhere.
const PASSWORD: &str = "correct-horse-battery-staple";
const TOKEN: &str = "zebra-crossing-at-midnight";

fn definition(family: &str, secrets: Value, command: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "bridge",
        "executionRoleArn": ROLE,
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 16,
            "environment": [{"name": "PLAIN", "value": "seen"}],
            "secrets": secrets,
            "command": ["/bin/sh", "-c", command],
        }]
    })
}

/// Files below a directory whose bytes hold a text.
pub(crate) fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Runs the AWS CLI: words, separated by spaces.
fn aws(site: &Site, words: &str) -> Value {
    site.aws(&words.split(' ').collect::<Vec<_>>()).unwrap()
}

fn nowhere_on_disk(site: &Site) {
    for text in [PASSWORD, TOKEN] {
        assert_eq!(files_with(site.dir(), text), Vec::<String>::new());
        assert!(!site.log().contains(text), "logged");
    }
}

/// Makes the secret `app/db` and the parameter `/app/token`.
fn keep_two(site: &Site) -> (String, String) {
    let old = json!({"user": "before", "password": "old"}).to_string();
    let made = site
        .aws(&[
            "secretsmanager",
            "create-secret",
            "--name",
            "app/db",
            "--secret-string",
            &old,
            "--tags",
            "Key=team,Value=blue",
        ])
        .unwrap();
    let arn = made["ARN"].as_str().unwrap().to_owned();
    let new = json!({"user": "minato", "password": PASSWORD}).to_string();
    site.aws(&[
        "secretsmanager",
        "put-secret-value",
        "--secret-id",
        "app/db",
        "--secret-string",
        &new,
    ])
    .unwrap();
    site.aws(&[
        "ssm",
        "put-parameter",
        "--name",
        "/app/token",
        "--type",
        "SecureString",
        "--value",
        TOKEN,
    ])
    .unwrap();
    let parameter =
        site.aws(&["ssm", "get-parameter", "--name", "/app/token"]).unwrap();
    let parameter = &parameter["Parameter"];
    assert_ne!(parameter["Value"], TOKEN, "not without --with-decryption");
    (arn, parameter["ARN"].as_str().unwrap().to_owned())
}

#[test]
fn containers_get_secrets_that_no_disk_holds() {
    let mut site = Site::start().unwrap();
    let (secret, parameter) = keep_two(&site);
    let of =
        |name: &str, from: String| json!({"name": name, "valueFrom": from});
    let secrets = json!([
        of("WHOLE", secret.clone()),
        of("PASSWORD", format!("{secret}:password::")),
        of("BEFORE", format!("{secret}:user:AWSPREVIOUS:")),
        of("BY_NAME", "/app/token".into()),
        of("BY_ARN", parameter),
    ]);
    let whole = json!({"user": "minato", "password": PASSWORD}).to_string();
    // The container compares; what it prints is on the disk.
    let shell = r#"W="{\"password\":\"$PASSWORD\",\"user\":\"minato\"}"
        [ "$WHOLE" = "$W" ] && echo whole
        [ "$BY_NAME" = "$BY_ARN" ] && echo same
        echo "$BEFORE $PLAIN ${#PASSWORD} ${#BY_ARN}"
        trap 'exit 0' TERM; while :; do sleep 0.1; done"#;
    let wanted = definition("kept", secrets, shell);
    let arn = site.start_task(wanted, "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let id = arn.rsplit('/').next().unwrap().to_owned();
    let expected = format!("before seen {} {}", PASSWORD.len(), TOKEN.len());
    let logs = minato_e2e::wait_for(std::time::Duration::from_secs(30), || {
        let logs = site.minato(&["logs", &id]).unwrap();
        logs.contains(&expected).then_some(logs)
    })
    .unwrap_or_else(|| panic!("{}", site.minato(&["logs", &id]).unwrap()));
    assert!(logs.contains("app | whole") && logs.contains("app | same"));
    nowhere_on_disk(&site);

    // Killed and started again: sealed values open, and the container, which
    // ran on, has not lost its variables.
    site.kill_minato().unwrap();
    nowhere_on_disk(&site);
    site.up().unwrap();
    let read = site
        .aws(&["secretsmanager", "get-secret-value", "--secret-id", "app/db"])
        .unwrap();
    assert_eq!(read["SecretString"], whole);
    site.wait_task(&arn, "RUNNING").unwrap();
    site.stop_task(&arn).unwrap();
    nowhere_on_disk(&site);
    site.finish().unwrap();
}

#[test]
fn a_missing_secret_stops_the_task_and_says_so() {
    let mut site = Site::start().unwrap();
    let missing = "arn:aws:secretsmanager:us-east-1:000000000000:\
                   secret:nothing-AbCdEf";
    let cases = [
        (
            missing,
            "Fetching secret data from AWS Secrets Manager in region \
                   us-east-1: secret arn:aws:secretsmanager:us-east-1:\
                   000000000000:secret:nothing-AbCdEf: \
                   ResourceNotFoundException: Secrets Manager can't find the \
                   specified secret.",
        ),
        (
            "/no/such",
            "Fetching secret data from SSM Parameter Store in \
                      us-east-1: invalid parameters: /no/such",
        ),
    ];
    for (from, reason) in cases {
        let secrets = json!([{"name": "S", "valueFrom": from}]);
        let wanted = definition("missing", secrets, "sleep 1000");
        let arn = site.start_task(wanted, "EC2").unwrap();
        let task = site.wait_task(&arn, "STOPPED").unwrap();
        assert_eq!(task["stopCode"], "TaskFailedToStart", "{task:#}");
        let said = task["stoppedReason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
    }
    site.finish().unwrap();
}

#[test]
fn the_cli_s_secrets_flows_work() {
    let site = Site::start().unwrap();
    keep_two(&site);
    let secret = |operation: &str, more: &str| {
        let words = format!("{operation} --secret-id app/db{more}");
        aws(&site, &format!("secretsmanager {words}"))
    };
    let described = secret("describe-secret", "");
    assert_eq!(described["Tags"], json!([{"Key": "team", "Value": "blue"}]));
    let stages = described["VersionIdsToStages"].as_object().unwrap();
    assert_eq!(stages.len(), 2, "{described:#}");
    let before = secret("get-secret-value", " --version-stage AWSPREVIOUS");
    assert!(before["SecretString"].as_str().unwrap().contains("before"));
    let password = aws(
        &site,
        "secretsmanager get-random-password --password-length 20 \
         --exclude-punctuation",
    );
    assert_eq!(password["RandomPassword"].as_str().unwrap().len(), 20);
    secret("delete-secret", " --recovery-window-in-days 7");
    let read = ["secretsmanager", "get-secret-value", "--secret-id", "app/db"];
    let refused = format!("{:#}", site.aws(&read).unwrap_err());
    assert!(refused.contains("InvalidRequestException"), "{refused}");
    secret("restore-secret", "");
    let found = "secretsmanager list-secrets --filters Key=tag-key,Values=team";
    let listed = aws(&site, found);
    assert_eq!(listed["SecretList"].as_array().unwrap().len(), 1);
    site.finish().unwrap();
}

#[test]
fn the_cli_s_parameter_flows_work() {
    let mut site = Site::start().unwrap();
    for number in 0..12 {
        let name = format!("/many/{number}");
        let input = json!({"Name": name, "Type": "String", "Value": "v"});
        site.call("ssm", "put_parameter", input).unwrap();
    }
    let input = json!({"Path": "/many", "Recursive": true});
    let pages = site.boto().unwrap();
    let pages = pages.pages("ssm", "get_parameters_by_path", input).unwrap();
    let count = |page: &Value| page["Parameters"].as_array().unwrap().len();
    let counts: Vec<usize> =
        pages.as_array().unwrap().iter().map(count).collect();
    assert_eq!(counts, [10, 2]);
    let changed =
        aws(&site, "ssm put-parameter --name /many/1 --value w --overwrite");
    assert_eq!(changed["Version"], 2);
    aws(
        &site,
        "ssm label-parameter-version --name /many/1 --parameter-version 1 \
         --labels first",
    );
    let both =
        aws(&site, "ssm get-parameters --names /many/1:first /many/1 /none");
    let values = both["Parameters"].as_array().unwrap().iter();
    let values: Vec<_> = values.map(|it| it["Value"].clone()).collect();
    assert_eq!(values, ["v", "w"], "{both:#}");
    assert_eq!(both["InvalidParameters"], json!(["/none"]));
    let history = aws(&site, "ssm get-parameter-history --name /many/1");
    assert_eq!(history["Parameters"].as_array().unwrap().len(), 2);
    aws(&site, "ssm delete-parameter --name /many/1");
    let get = ["ssm", "get-parameter", "--name", "/many/1"];
    let refused = format!("{:#}", site.aws(&get).unwrap_err());
    assert!(refused.contains("ParameterNotFound"), "{refused}");
    site.finish().unwrap();
}
