//! A client of data channels, in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use minato_e2e::Site;
use serde_json::{Value, json};

pub(crate) const CLIENT: &str = include_str!("exec_client.py");

/// The client of `exec_client.py`.
pub(crate) struct Client {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn start(site: &Site) -> Client {
        let mut process = site
            .command("python3")
            .args(["-c", CLIENT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Client { process, orders, answers }
    }

    /// Opens the session of an `ExecuteCommand`'s answer.
    pub(crate) fn open(site: &Site, answer: &Value) -> Client {
        let mut client = Client::start(site);
        client.connect(&answer["session"]);
        client
    }

    pub(crate) fn connect(&mut self, session: &Value) {
        let url = session["streamUrl"].clone();
        let token = session["tokenValue"].clone();
        self.ask(json!({"do": "connect", "url": url, "token": token}));
    }

    /// Gives an order that must be obeyed; the client's state after it.
    pub(crate) fn ask(&mut self, order: Value) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["error"].is_null(), "{order}: {answer}");
        answer["state"].take()
    }

    /// Types a text.
    pub(crate) fn types(&mut self, text: &str) {
        self.ask(json!({"do": "type", "text": text}));
    }

    /// Waits until the terminal has shown a text.
    pub(crate) fn shows(&mut self, text: &str) -> Value {
        self.ask(json!({"do": "shows", "text": text}))
    }

    /// Waits for the end of the session.
    pub(crate) fn closed(&mut self) -> Value {
        self.ask(json!({"do": "closed"}))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
