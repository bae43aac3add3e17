//! A private registry: its image runs for who shows what a secret holds.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use minato_e2e::{Site, image_archive};
use serde_json::{Value, json};

const SERVER: &str = include_str!("registry.py");
const PORT: &str = "5000";
const IMAGE: &str = "127.0.0.1:5000/team/private:1";
const PASSWORD: &str = "hunter2-of-the-registry";
const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";

/// Ends when it is dropped.
struct Registry(Child);

impl Registry {
    fn start(site: &Site) -> Registry {
        let archive = image_archive().to_string_lossy();
        let login = format!("me:{PASSWORD}");
        let mut child = site
            .command("python3")
            .args(["-c", SERVER, &archive, PORT, &login])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let registry = Registry(child);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // What it says further is for who runs it by hand.
        std::thread::spawn(move || said.lines().for_each(drop));
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn definition(secret: Option<&Value>) -> Value {
    let mut definition = json!({
        "family": "private",
        "networkMode": "bridge",
        "executionRoleArn": ROLE,
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 16,
            "command": ["/bin/sh", "-c", "exit 7"],
        }]
    });
    if let Some(secret) = secret {
        definition["containerDefinitions"][0]["repositoryCredentials"] =
            json!({ "credentialsParameter": secret });
    }
    definition
}

/// A secret with a user and this password; its ARN.
fn keep(site: &mut Site, name: &str, password: &str) -> Value {
    let value = json!({"username": "me", "password": password}).to_string();
    let input = json!({"Name": name, "SecretString": value});
    site.call("secretsmanager", "create_secret", input).unwrap()["ARN"].take()
}

#[test]
fn an_image_of_a_private_registry_runs_with_its_secret() {
    let mut site = Site::start().unwrap();
    let _registry = Registry::start(&site);
    let wrong = keep(&mut site, "wrong", "another");
    for secret in [None, Some(&wrong)] {
        let arn = site.start_task(definition(secret), "EC2").unwrap();
        let task = site.wait_task(&arn, "STOPPED").unwrap();
        assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
        let said = task["containers"][0]["reason"].as_str().unwrap();
        assert!(said.starts_with("CannotPullContainerError"), "{said}");
        assert!(said.contains("401") || said.contains("nauthorized"), "{said}");
    }
    let right = keep(&mut site, "right", PASSWORD);
    let arn = site.start_task(definition(Some(&right)), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 7, "{task}");
    let digest = task["containers"][0]["imageDigest"].as_str();
    assert!(digest.is_some_and(|it| it.starts_with("sha256:")), "{task}");
    assert!(!site.log().contains(PASSWORD), "{}", site.log());
    site.finish().unwrap();
}
