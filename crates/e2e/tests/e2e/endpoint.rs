//! What containers ask at 169.254.170.2.

use minato_e2e::{IMAGE, Site};
use serde_json::{Value, json};

fn asking(mode: &str, command: &str) -> Value {
    json!({
        "family": format!("asking-{mode}"),
        "networkMode": mode,
        "containerDefinitions": [{
            "name": "ask", "image": IMAGE, "cpu": 16, "memory": 32,
            "command": ["/bin/sh", "-c", command],
        }]
    })
}

/// What a task that runs the command prints before it ends well.
fn said(site: &mut Site, mode: &str, command: &str) -> (String, String) {
    let arn = site.start_task(asking(mode, command), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{mode}: {task} {said}");
    (arn, said)
}

#[test]
fn tasks_read_their_metadata_in_every_network_of_their_own() {
    let mut site = Site::start().unwrap();
    for mode in ["bridge", "awsvpc"] {
        let command = "wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/task && \
                       wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/stats && \
                       echo; echo api $AWS_ENDPOINT_URL";
        let (arn, said) = said(&mut site, mode, command);
        assert!(said.contains(&format!("\"TaskARN\":\"{arn}\"")), "{said}");
        let network = format!("\"NetworkMode\":\"{mode}\"");
        assert!(said.contains(&network), "{said}");
        assert!(said.contains("\"total_usage\""), "{said}");
        assert!(said.contains("api http://169.254.170.2"), "{said}");
    }
    site.finish().unwrap();
}

#[test]
fn a_killed_minato_answers_again_and_the_api_variable_can_be_left_out() {
    let mut site = Site::start_with(&["--no-endpoint-injection"]).unwrap();
    let command = "while true; do \
                       wget -q -O - $ECS_CONTAINER_METADATA_URI_V4 \
                           > /dev/null && echo asked; \
                       sleep 0.2; \
                   done";
    let mut definition = asking("bridge", command);
    definition["containerDefinitions"][0]["stopTimeout"] = json!(2);
    let arn = site.start_task(definition, "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let count = |site: &Site| {
        let said = site.minato(&["logs", &arn]).unwrap();
        said.matches("asked").count()
    };
    let grows = |site: &Site, from: usize| {
        let patience = std::time::Duration::from_secs(20);
        let is_answered = minato_e2e::wait_for(patience, || {
            (count(site) > from).then_some(())
        });
        assert!(is_answered.is_some(), "{}", site.log());
    };
    grows(&site, 0);
    site.kill_minato().unwrap();
    site.up().unwrap();
    let before = count(&site);
    grows(&site, before);
    site.stop_task(&arn).unwrap();
    let (_, said) = said(&mut site, "bridge", "env");
    assert!(!said.contains("AWS_ENDPOINT_URL"), "{said}");
    assert!(said.contains("ECS_AGENT_URI=http://169.254.170.2/api/"));
    site.finish().unwrap();
}
