//! ECS Exec: shells in running containers.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use minato_e2e::{IMAGE, Site, minato_program, run_to_end, wait_for};
use serde_json::{Value, json};

use crate::exec_client::{CLIENT, Client};

const PATIENCE: Duration = Duration::from_secs(60);

fn definition() -> Value {
    json!({
        "family": "exec",
        "taskRoleArn": "arn:aws:iam::000000000000:role/exec",
        "containerDefinitions": [
            {
                "name": "app", "image": IMAGE, "memory": 128, "user": "1000",
                "environment": [{"name": "GREETING", "value": "hello"}],
                "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
            },
            {
                "name": "side", "image": IMAGE, "memory": 32,
                "essential": false,
                "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
            }
        ]
    })
}

/// A task that commands can be run in; its ARN.
fn start(site: &mut Site, is_enabled: bool) -> String {
    site.call("ecs", "register_task_definition", definition()).unwrap();
    let input = json!({
        "taskDefinition": "exec", "launchType": "EC2",
        "enableExecuteCommand": is_enabled
    });
    let answer = site.call("ecs", "run_task", input).unwrap();
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    site.wait_task(&arn, "RUNNING").unwrap();
    arn
}

fn execute(site: &mut Site, task: &str, command: &str) -> Value {
    let input = json!({
        "task": task, "container": "app", "command": command,
        "interactive": true
    });
    site.call("ecs", "execute_command", input).unwrap()
}

fn refusal(site: &mut Site, input: Value) -> (String, String) {
    let boto = site.boto().unwrap();
    let error = boto.call("ecs", "execute_command", input).unwrap_err();
    (error.code, error.message)
}

/// Whether a process with these words runs anywhere on the machine.
fn is_running(words: &str) -> bool {
    let wanted = words.replace(' ', "\0");
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline"));
        let line = line.unwrap_or_default();
        String::from_utf8_lossy(&line).starts_with(&wanted)
    })
}

#[test]
fn a_shell_in_a_container_is_as_the_plugin_expects_it() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, true);
    let shown = site.task(&task).unwrap();
    for container in shown["containers"].as_array().unwrap() {
        let agent = &container["managedAgents"][0];
        assert_eq!(agent["name"], "ExecuteCommandAgent", "{shown:#}");
        assert_eq!(agent["lastStatus"], "RUNNING", "{shown:#}");
        assert!(agent["lastStartedAt"].is_number(), "{shown:#}");
    }
    let answer = execute(&mut site, &task, "/bin/sh");
    assert_eq!(answer["taskArn"], json!(task));
    assert_eq!(answer["containerName"], "app");
    assert_eq!(answer["interactive"], true);
    assert!(answer["containerArn"].as_str().unwrap().contains(":container/"));
    let session = &answer["session"];
    let id = session["sessionId"].as_str().unwrap();
    assert!(id.starts_with("ecs-execute-command-"), "{id}");
    assert_eq!(
        session["streamUrl"],
        format!(
            "ws://127.0.0.1:4566/v1/data-channel/{id}?role=publish_subscribe"
        )
    );
    let mut client = Client::open(&site, &answer);
    // The prompt of root, who is not the container's own user.
    client.shows("# ");
    client.types("stty size; id -u; echo $GREETING-$TERM; tty\r");
    client.shows("30 100\r\n0\r\nhello-xterm-256color\r\n/dev/pts/0");
    client.ask(json!({"do": "size", "cols": 132, "rows": 43}));
    client.types("stty size\r");
    client.shows("43 132");
    client.types("sleep 98765\r");
    wait_for(PATIENCE, || is_running("sleep 98765").then_some(())).unwrap();
    client.types("\u{3}");
    client.types("echo code-$?\r");
    client.shows("code-130");
    assert!(!is_running("sleep 98765"));
    client.types("exit 3\r");
    let state = client.closed();
    assert_eq!(state["closed"]["Output"], "");
    assert_eq!(state["closed"]["SessionId"], json!(id));
    assert_eq!(state["unacked"], 0, "{state}");
    // A command that ends at once shows all it had to say.
    let answer = execute(&mut site, &task, "sh -c 'echo one; echo \"t  wo\"'");
    let mut client = Client::open(&site, &answer);
    assert_eq!(client.closed()["shown"], "one\r\nt  wo\r\n");
    let answer = execute(&mut site, &task, "/no/such");
    let mut client = Client::open(&site, &answer);
    let why = client.closed()["closed"]["Output"].to_string();
    assert!(why.contains("No such file or directory"), "{why}");
    drop(client);
    site.stop_task(&task).unwrap();
    site.finish().unwrap();
}

#[test]
fn much_and_binary_data_come_through_both_ways() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, true);
    let all = "sh -c 'stty raw; i=0; while [ $i -lt 256 ]; do \
        printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done'";
    let answer = execute(&mut site, &task, all);
    let mut client = Client::open(&site, &answer);
    let state = client.closed();
    assert_eq!(state["length"], 256, "{state}");
    // SHA-256 of the bytes 0 to 255 in order.
    assert_eq!(
        state["sha256"],
        "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"
    );
    // A paste of 1 MiB in lines, which a terminal takes as they are.
    let answer = execute(&mut site, &task, "/bin/sh");
    let mut client = Client::open(&site, &answer);
    // The shell reads ahead: the paste is not for it.
    client.types(
        "stty -echo; echo rea''dy; cat > /tmp/paste; wc -c /tmp/paste\r",
    );
    client.shows("ready");
    let line = "x".repeat(1023) + "\n";
    client.ask(json!({"do": "type", "text": line, "times": 1024}));
    client.types("\u{4}");
    client.shows("1048576 /tmp/paste");
    // Much output, of which the last bytes are seen too.
    client.ask(json!({"do": "forget"}));
    client.types("head -c 20000000 /dev/zero | tr '\\0' y; echo; echo over\r");
    let state = client.shows("over");
    assert!(state["length"].as_u64().unwrap() >= 20_000_000, "{state}");
    client.types("exit\r");
    client.closed();
    drop(client);
    site.stop_task(&task).unwrap();
    site.finish().unwrap();
}

#[test]
fn a_session_outlives_its_socket_for_a_while_and_no_longer() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, true);
    let answer = execute(&mut site, &task, "/bin/sh");
    let id = answer["session"]["sessionId"].clone();
    let mut client = Client::open(&site, &answer);
    client.shows("# ");
    client.types("NAME=kept; stty -echo\r");
    // What is said while nobody acknowledges comes again after the loss.
    client.ask(json!({"do": "acks", "are_sent": false}));
    client.types("i=0; while [ $i -lt 300 ]; do echo line-$i; i=$((i+1)); done; echo e''nd\r");
    client.shows("end");
    client.ask(json!({"do": "drop"}));
    let resumed =
        site.call("ssm", "resume_session", json!({ "SessionId": id })).unwrap();
    assert_eq!(resumed["SessionId"], id);
    assert_eq!(resumed["StreamUrl"], answer["session"]["streamUrl"]);
    client.ask(json!({"do": "acks", "are_sent": true}));
    client.connect(&json!({
        "streamUrl": resumed["StreamUrl"], "tokenValue": resumed["TokenValue"]
    }));
    client.types("echo $NAME\r");
    let state = client.shows("kept");
    let shown = state["shown"].as_str().unwrap();
    assert_eq!(shown.matches("line-299\r\n").count(), 1, "{shown}");
    // A client that does not come back: all that it left is killed.
    client.types("sleep 87654 & sleep 87653\r");
    let both = || is_running("sleep 87654") && is_running("sleep 87653");
    wait_for(PATIENCE, || both().then_some(())).unwrap();
    client.ask(json!({"do": "drop"}));
    let none = || !is_running("sleep 87654") && !is_running("sleep 87653");
    wait_for(PATIENCE, || none().then_some(())).unwrap();
    let resumed =
        site.call("ssm", "resume_session", json!({ "SessionId": id })).unwrap();
    assert!(resumed["TokenValue"].is_null(), "{resumed}");
    // One that is ended by the API is told so.
    let answer = execute(&mut site, &task, "sleep 76543");
    let mut client = Client::open(&site, &answer);
    wait_for(PATIENCE, || is_running("sleep 76543").then_some(())).unwrap();
    let id = answer["session"]["sessionId"].clone();
    let ended = site
        .call("ssm", "terminate_session", json!({ "SessionId": id }))
        .unwrap();
    assert_eq!(ended["SessionId"], id);
    client.closed();
    wait_for(PATIENCE, || (!is_running("sleep 76543")).then_some(())).unwrap();
    // The task's end ends a session.
    let answer = execute(&mut site, &task, "/bin/sh");
    let mut client = Client::open(&site, &answer);
    client.shows("# ");
    site.stop_task(&task).unwrap();
    client.closed();
    drop(client);
    site.finish().unwrap();
}

#[test]
fn who_may_not_is_refused() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, true);
    let answer = execute(&mut site, &task, "/bin/sh");
    // A wrong token, then the right one, then the same again.
    let mut wrong = answer["session"].clone();
    wrong["tokenValue"] = json!("0123");
    let why = "The session's token is wrong, used or expired.";
    let mut client = Client::start(&site);
    client.connect(&wrong);
    let state = client.closed();
    assert_eq!(state["closed"]["Output"], why);
    assert_eq!(state["length"], 0);
    let mut owner = Client::open(&site, &answer);
    owner.shows("# ");
    let mut client = Client::open(&site, &answer);
    assert_eq!(client.closed()["closed"]["Output"], why);
    owner.types("echo st''ill\r");
    owner.shows("still");
    // Frames that are none hurt nobody.
    owner.ask(json!({"do": "raw", "opcode": 2, "hex": "00"}));
    owner.ask(json!({"do": "raw", "opcode": 2, "hex": "ff".repeat(200)}));
    owner.types("echo un''hurt\r");
    owner.shows("unhurt");
    owner.types("exit\r");
    owner.closed();
    drop((owner, client));

    let ask = |change: Value| {
        let mut input = json!({
            "task": task, "container": "app", "command": "sh",
            "interactive": true
        });
        for (name, value) in change.as_object().unwrap() {
            input[name] = value.clone();
        }
        input
    };
    let invalid = "InvalidParameterException";
    for (change, code, why) in [
        (json!({"interactive": false}), invalid, "Interactive"),
        (json!({"command": "  "}), invalid, "empty"),
        (json!({"container": "db"}), invalid, "container name db"),
        (json!({"container": ""}), invalid, "more than one container"),
        (json!({"task": "0".repeat(32)}), invalid, "not found"),
        (json!({"cluster": "none"}), "ClusterNotFoundException", ""),
    ] {
        let (said, message) = refusal(&mut site, ask(change));
        assert_eq!(said, code, "{message}");
        assert!(message.contains(why), "{message}");
    }
    site.stop_task(&task).unwrap();
    let (code, message) = refusal(&mut site, ask(json!({})));
    assert_eq!(code, invalid);
    assert!(message.contains("not running"), "{message}");
    let other = start(&mut site, false);
    assert_eq!(site.task(&other).unwrap()["enableExecuteCommand"], false);
    let (code, message) = refusal(&mut site, ask(json!({"task": other})));
    assert_eq!(code, invalid);
    assert_eq!(
        message,
        "The execute command failed because execute command was not enabled \
         when the task was run or the execute command agent isn’t running. \
         Wait and try again or run a new task with execute command enabled \
         and try again."
    );
    site.stop_task(&other).unwrap();
    site.finish().unwrap();
}

#[test]
fn the_aws_cli_and_minato_exec_run_commands() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, true);
    // The AWS CLI, with a stand-in for the plugin.
    let plugin = site.dir().join("session-manager-plugin");
    std::fs::write(&plugin, format!("#!/usr/bin/env python3\n{CLIENT}"))
        .unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&plugin, mode).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut aws = site.command("aws");
    aws.args(["ecs", "execute-command", "--cluster", "default", "--task"])
        .args([&task, "--container", "app", "--interactive"])
        .args(["--command", "/bin/sh"])
        .env("PATH", format!("{}:{path}", site.dir().display()))
        .env("PLUGIN_TYPES", "echo via-$((40+2)); exit\r");
    let output = run_to_end(&mut aws, b"").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{complaint}");
    assert!(said.contains("via-42"), "{said}{complaint}");
    // Ours needs none, and ends as the command ends.
    let id = task.rsplit('/').next().unwrap();
    let program = minato_program().unwrap();
    let exec = |words: &[&str], input: &str| {
        let mut command = site.command(&program.to_string_lossy());
        command.args(["exec", &id[..8], "--container", "app"]).args(words);
        let output = run_to_end(&mut command, input.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text, error)
    };
    let (code, text, error) =
        exec(&["--", "sh", "-c", "echo \"it's $GREETING\"; exit 7"], "");
    assert_eq!((code, text.as_str()), (Some(7), "it's hello\r\n"), "{error}");
    let (code, text, error) = exec(&[], "echo $((6*7))\n");
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("\n42\r\n"), "{text}{error}");
    let (code, _, error) = exec(&["--", "/no/such"], "");
    assert_eq!(code, Some(1));
    assert!(error.contains("No such file or directory"), "{error}");
    // With a terminal of its own, whose size the command sees.
    let script = format!(
        "stty rows 33 cols 77; exec {} exec {} --container app -- sh -c \
         'stty size; exit 5'",
        program.display(),
        &id[..8],
    );
    let mut terminal = site.command("script");
    terminal.args(["-qec", &script, "/dev/null"]);
    let ran = run_to_end(&mut terminal, b"").unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(text.contains("33 77"), "{text}");
    assert_eq!(ran.status.code(), Some(5), "{text}");
    site.stop_task(&task).unwrap();
    site.finish().unwrap();
}
