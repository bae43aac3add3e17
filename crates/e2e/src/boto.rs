//! A stock boto3 in a process of its own, asked line by line: starting
//! Python for each call would take most of the tests' time.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

const WORKER: &str = r#"
import sys, json, boto3, datetime
from botocore.exceptions import ClientError
clients = {}
def plain(value):
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return str(value)
for line in sys.stdin:
    ask = json.loads(line)
    service = ask['service']
    try:
        client = clients.get(service) or boto3.client(service)
        clients[service] = client
        if ask['how'] == 'wait':
            client.get_waiter(ask['name']).wait(**ask['input'])
            answer = {}
        elif ask['how'] == 'pages':
            answer = list(client.get_paginator(ask['name']).paginate(**ask['input']))
        else:
            answer = getattr(client, ask['name'])(**ask['input'])
            answer.pop('ResponseMetadata', None)
        reply = {'answer': answer}
    except ClientError as error:
        reply = {'error': {
            'class': type(error).__name__,
            'code': error.response['Error']['Code'],
            'message': error.response['Error']['Message']}}
    except Exception as error:
        reply = {'error': {
            'class': type(error).__name__, 'code': '', 'message': str(error)}}
    print(json.dumps(reply, default=plain), flush=True)
"#;

/// What boto3 raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The class of the exception.
    pub class: String,
    /// The error's code, if the service answered.
    pub code: String,
    /// The text for people.
    pub message: String,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for CallError {}

/// A running boto3.
#[derive(Debug)]
pub struct Boto {
    process: Child,
    asks: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Boto {
    /// Starts the worker with a command that runs Python.
    pub fn start(mut python: Command) -> Result<Boto> {
        let mut process = python
            .args(["-c", WORKER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not run python3")?;
        let asks = process.stdin.take().context("no input")?;
        let replies = process.stdout.take().context("no output")?;
        Ok(Boto { process, asks, replies: BufReader::new(replies) })
    }

    /// Calls an operation by its boto3 name, such as `run_task`.
    pub fn call(
        &mut self,
        service: &str,
        name: &str,
        input: Value,
    ) -> Result<Value, CallError> {
        self.ask("call", service, name, input)
    }

    /// Runs a waiter.
    pub fn wait(
        &mut self,
        service: &str,
        name: &str,
        input: Value,
    ) -> Result<Value, CallError> {
        self.ask("wait", service, name, input)
    }

    /// All pages of a paginator.
    pub fn pages(
        &mut self,
        service: &str,
        name: &str,
        input: Value,
    ) -> Result<Value, CallError> {
        self.ask("pages", service, name, input)
    }

    fn ask(
        &mut self,
        how: &str,
        service: &str,
        name: &str,
        input: Value,
    ) -> Result<Value, CallError> {
        let ask = json!({
            "how": how, "service": service, "name": name, "input": input
        });
        let mut reply = self.exchange(&ask).unwrap_or_else(|error| {
            json!({ "error": { "class": "Worker", "message": error.to_string() } })
        });
        let error = reply["error"].take();
        if error.is_null() {
            return Ok(reply["answer"].take());
        }
        let text = |name: &str| error[name].as_str().unwrap_or("").to_owned();
        Err(CallError {
            class: text("class"),
            code: text("code"),
            message: text("message"),
        })
    }

    fn exchange(&mut self, ask: &Value) -> Result<Value> {
        writeln!(self.asks, "{ask}")?;
        self.asks.flush()?;
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Boto {
    fn drop(&mut self) {
        // It keeps nothing that an orderly end would save.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
