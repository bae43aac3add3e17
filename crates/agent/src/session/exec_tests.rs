//! Commands in containers, over data channels.

use bytes::Bytes;
use minato_wire::ssm_channel::{
    ChannelClosed, Link, Message, MessageType, PayloadType, Role,
};

use super::*;

const NOW: i64 = 1_700_000_000_000;

/// A client that does what the plugin does.
#[derive(Debug)]
pub(super) struct Client {
    to_agent: mpsc::Sender<Bytes>,
    from_agent: mpsc::Receiver<Bytes>,
    link: Link,
    shown: String,
    closed: Option<ChannelClosed>,
}

impl Client {
    pub(super) fn new(
        to_agent: mpsc::Sender<Bytes>,
        from_agent: mpsc::Receiver<Bytes>,
    ) -> Client {
        let link = Link::new(Role::Client, 1);
        Client {
            to_agent,
            from_agent,
            link,
            shown: String::new(),
            closed: None,
        }
    }

    async fn say(&mut self, kind: PayloadType, payload: &str) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let frame = self.link.send(kind, payload, NOW);
        self.to_agent.send(frame).await.unwrap();
    }

    /// Takes frames until something is so, or the channel is closed.
    async fn until(&mut self, is_so: impl Fn(&Client) -> bool) {
        while !is_so(self) {
            let wait = Duration::from_secs(60);
            let frame = tokio::time::timeout(wait, self.from_agent.recv());
            let Some(frame) = frame.await.expect("a frame in time") else {
                panic!("closed: {self:?}");
            };
            let message = Message::decode(&frame).unwrap();
            if message.r#type == MessageType::ChannelClosed {
                let closed = serde_json::from_slice(&message.payload);
                self.closed = Some(closed.unwrap());
                continue;
            }
            let taken = self.link.take(message, true, NOW);
            if let Some(frame) = taken.answer {
                self.to_agent.send(frame).await.unwrap();
            }
            for (kind, payload) in taken.delivered {
                match kind {
                    PayloadType::HandshakeRequest => {
                        self.say(PayloadType::HandshakeResponse, "{}").await;
                    }
                    PayloadType::HandshakeComplete => {
                        let size = r#"{"cols":70,"rows":9}"#;
                        self.say(PayloadType::Size, size).await;
                    }
                    PayloadType::None
                    | PayloadType::Output
                    | PayloadType::Size
                    | PayloadType::HandshakeResponse
                    | PayloadType::Other(_) => {
                        self.shown += str::from_utf8(&payload).unwrap()
                    }
                }
            }
        }
    }

    async fn shows(&mut self, text: &str) {
        self.until(|it| it.shown.contains(text)).await;
    }

    async fn ends(&mut self) -> ChannelClosed {
        self.until(|it| it.closed.is_some()).await;
        self.closed.clone().unwrap()
    }
}

/// A task that runs, and a session in its container.
async fn session(command: &str, container: &str) -> (Talk, Client) {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    let task = task(json!([{
        "name": "web", "image": "web",
        "managedAgents": [{"name": "ExecuteCommandAgent"}],
    }]));
    let task = serde_json::to_value(task).unwrap();
    server.send("PayloadMessage", payload(1, json!([task]))).await;
    server.receive().await;
    let report = talk.rig.reported("RUNNING").await;
    assert_eq!(
        report["managedAgents"],
        json!([{
            "containerName": "web", "status": "RUNNING",
            "managedAgentName": "ExecuteCommandAgent",
        }])
    );
    server
        .send(
            "ExecuteCommandMessage",
            json!({
                "messageId": "e1", "sessionId": "s1", "tokenValue": "t1",
                "taskArn": TASK_ARN, "containerName": container,
                "command": command,
            }),
        )
        .await;
    let take = || talk.connector.execs.lock().pop();
    let (session, token, client) = talk.rig.until("opened", take).await;
    assert_eq!((session.as_str(), token.as_str()), ("s1", "t1"));
    // The server's end keeps the connection open.
    tokio::spawn(
        async move { while server.from_agent.recv().await.is_some() {} },
    );
    (talk, client)
}

#[tokio::test(start_paused = true)]
async fn a_command_is_talked_to_and_its_end_is_told() {
    let (talk, mut client) = session("sh -c 'a b'", "web").await;
    client.shows("sh|-c|a b 70x9").await;
    client.say(PayloadType::Output, "hello").await;
    client.shows("hello").await;
    client.say(PayloadType::Size, r#"{"cols":1,"rows":2}"#).await;
    client.shows("1x2").await;
    client.say(PayloadType::Output, "q").await;
    let closed = client.ends().await;
    assert_eq!((closed.output.as_str(), closed.exit_code), ("", Some(3)));
    assert!(client.shown.ends_with('q'), "{}", client.shown);
    let calls = talk.rig.runtime.calls();
    assert_eq!(
        calls.iter().filter(|it| it.starts_with("exec_terminal")).count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_run_is_told_on_the_channel() {
    for (command, container, why) in [
        ("sh", "db", "The container db is not on this host."),
        (" ", "web", "Commands cannot be empty."),
        (
            "sh '",
            "web",
            "The command cannot be read: a quotation is not closed.",
        ),
    ] {
        let (_talk, mut client) = session(command, container).await;
        assert_eq!(client.ends().await.output, why);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_the_session() {
    let (_talk, mut client) = session("sh", "web").await;
    client.shows("sh").await;
    let Client { to_agent, mut from_agent, .. } = client;
    drop(to_agent);
    let ended = async { while from_agent.recv().await.is_some() {} };
    let wait = Duration::from_secs(60);
    tokio::time::timeout(wait, ended).await.expect("the agent's end");
}
