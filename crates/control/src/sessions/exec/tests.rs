//! Tokens, and frames from one side to the other.

use std::time::Duration;

use minato_wire::ssm_channel::{Link, Message, MessageType, PayloadType, Role};
use tokio_util::task::TaskTracker;

use super::*;
use crate::testing::{ACCOUNT, REGION, TestBed};

const LONG: Duration = Duration::from_secs(60);

fn host() -> Key {
    crate::tables::Host::key_of(ACCOUNT, REGION, "h")
}

fn target(container: &str) -> Target {
    Target {
        account: ACCOUNT.into(),
        region: REGION.into(),
        host: host(),
        task_arn: "task".into(),
        container: container.into(),
        command: "sh".into(),
        logging: SessionLogging::Default,
    }
}

struct Play {
    bed: TestBed,
    orders: Orders,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Play {
    fn new() -> Play {
        let bed = TestBed::new();
        let orders = bed.cx.exec.take_orders(host());
        let (running, stop) = (TaskTracker::new(), CancellationToken::new());
        Play { bed, orders, running, stop }
    }

    fn begin(&self, id: &str, token: &str) -> Result<(), BeginError> {
        let now = self.bed.clock_now();
        self.bed.cx.exec.begin(id, token, target("web"), now)
    }

    fn admit(
        &self,
        id: &str,
        token: &str,
    ) -> Result<DataChannel, RefusedClient> {
        let opening =
            OpenDataChannel { token_value: token.into(), ..Default::default() };
        let order = || ("m".to_owned(), "agent".to_owned());
        let now = self.bed.clock_now();
        let exec = &self.bed.cx.exec;
        let (channel, relay) = exec.admit(id, &opening, order, now)?;
        if let Some(relay) = relay {
            let (cx, stop) = (Arc::clone(&self.bed.cx), self.stop.clone());
            self.running.spawn(relay.run(cx, stop));
        }
        Ok(channel)
    }

    fn join(&self, id: &str, token: &str) -> Option<DataChannel> {
        self.bed.cx.exec.join(id, token)
    }

    /// A session with both sides.
    async fn session(&mut self) -> (DataChannel, DataChannel) {
        self.begin("s", "t").unwrap();
        let client = self.admit("s", "t").unwrap();
        let order = within(self.orders.next()).await.unwrap();
        assert_eq!(order.session_id, "s");
        (client, self.join("s", &order.token_value).unwrap())
    }
}

impl TestBed {
    fn clock_now(&self) -> Timestamp {
        self.cx.clock.now()
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("in time")
}

fn frame(role: Role, text: &'static str) -> Bytes {
    Link::new(role, 1).send(PayloadType::Output, text.into(), 1)
}

async fn next_type(channel: &mut DataChannel) -> Option<MessageType> {
    let frame = within(channel.incoming.recv()).await?;
    Some(Message::decode(&frame).unwrap().r#type)
}

async fn last_words(channel: &mut DataChannel) -> String {
    let frame = within(channel.incoming.recv()).await.unwrap();
    let message = Message::decode(&frame).unwrap();
    assert_eq!(message.r#type, MessageType::ChannelClosed);
    let closed: ChannelClosed =
        serde_json::from_slice(&message.payload).unwrap();
    assert!(within(channel.incoming.recv()).await.is_none());
    closed.output
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_once_and_for_a_minute() {
    let mut play = Play::new();
    play.begin("s", "t").unwrap();
    assert_eq!(play.admit("s", "u").unwrap_err(), RefusedClient::Token);
    assert_eq!(play.admit("x", "t").unwrap_err(), RefusedClient::Token);
    assert!(play.join("s", "t").is_none(), "before the client");
    let _client = play.admit("s", "t").unwrap();
    assert_eq!(play.admit("s", "t").unwrap_err(), RefusedClient::Token);
    let order = within(play.orders.next()).await.unwrap();
    assert_eq!(order.container_name, "web");
    assert_eq!(order.command, "sh");
    assert_eq!(order.logging, SessionLogging::Default);
    assert!(play.join("s", "t").is_none(), "the client's token");
    assert!(play.join("s", &order.token_value).is_some());
    assert!(play.join("s", &order.token_value).is_none(), "a second time");
    play.begin("late", "t").unwrap();
    play.bed.clock.advance_ms(TOKEN_LIFE_MS);
    assert_eq!(play.admit("late", "t").unwrap_err(), RefusedClient::Token);
    // What nobody came to is forgotten.
    play.begin("other", "t").unwrap();
    assert!(!play.bed.cx.exec.0.lock().sessions.contains_key("late"));
}

#[tokio::test(start_paused = true)]
async fn sessions_need_an_agent_and_are_limited() {
    let mut play = Play::new();
    for number in 0..PER_CONTAINER_MAX {
        play.begin(&format!("s{number}"), "t").unwrap();
    }
    assert_eq!(play.begin("more", "t"), Err(BeginError::TooMany));
    let now = play.bed.clock_now();
    let other = play.bed.cx.exec.begin("other", "t", target("db"), now);
    assert_eq!(other, Ok(()));
    // A new agent takes over; the old one's end changes nothing.
    let exec = Arc::clone(&play.bed.cx.exec);
    let old = std::mem::replace(&mut play.orders, exec.take_orders(host()));
    drop(old);
    let _client = play.admit("s0", "t").unwrap();
    assert!(within(play.orders.next()).await.is_some());
    play.orders = exec.take_orders(crate::tables::Host::key_of("a", "b", "c"));
    assert_eq!(play.begin("late", "t"), Err(BeginError::NotConnected));
    assert_eq!(play.admit("s1", "t").unwrap_err(), RefusedClient::NotConnected);
}

#[tokio::test(start_paused = true)]
async fn frames_pass_and_the_end_ends_both() {
    let mut play = Play::new();
    let (mut client, mut agent) = play.session().await;
    let (typed, shown) = (frame(Role::Client, "a"), frame(Role::Agent, "b"));
    client.outgoing.send(typed.clone()).await.unwrap();
    assert_eq!(within(agent.incoming.recv()).await, Some(typed));
    agent.outgoing.send(shown.clone()).await.unwrap();
    assert_eq!(within(client.incoming.recv()).await, Some(shown));
    // What clients have no business to say is not passed on.
    let mut link = Link::new(Role::Client, 1);
    for kind in [MessageType::PausePublication, MessageType::ChannelClosed] {
        let frame = link.control(kind, "{}".into(), 1);
        client.outgoing.send(frame).await.unwrap();
    }
    client.outgoing.send("garbage".into()).await.unwrap();
    client.outgoing.send(frame(Role::Client, "c")).await.unwrap();
    let input = MessageType::InputStreamData;
    assert_eq!(next_type(&mut agent).await, Some(input));
    let end = ChannelClosed::new("s", "done", Some(3)).frame(1, 1);
    agent.outgoing.send(end).await.unwrap();
    assert_eq!(last_words(&mut client).await, "done");
    assert!(within(agent.incoming.recv()).await.is_none());
    let (exec, now) = (&play.bed.cx.exec, play.bed.clock_now());
    assert!(!exec.renew(ACCOUNT, REGION, "s", "new", now));
}

#[tokio::test(start_paused = true)]
async fn a_client_may_come_back_with_a_new_token_and_takes_over() {
    let mut play = Play::new();
    let (client, mut agent) = play.session().await;
    drop(client);
    let pause = MessageType::PausePublication;
    assert_eq!(next_type(&mut agent).await, Some(pause));
    let now = play.bed.clock_now();
    let exec = Arc::clone(&play.bed.cx.exec);
    assert!(!exec.renew("111111111111", REGION, "s", "no", now), "others");
    assert!(exec.renew(ACCOUNT, REGION, "s", "new", now));
    let mut second = play.admit("s", "new").unwrap();
    let start = MessageType::StartPublication;
    assert_eq!(next_type(&mut agent).await, Some(start));
    // The second is still there when the third comes.
    assert!(exec.renew(ACCOUNT, REGION, "s", "newer", now));
    let mut third = play.admit("s", "newer").unwrap();
    assert!(within(second.incoming.recv()).await.is_none());
    assert_eq!(next_type(&mut agent).await, Some(start));
    agent.outgoing.send(frame(Role::Agent, "x")).await.unwrap();
    let output = MessageType::OutputStreamData;
    assert_eq!(next_type(&mut third).await, Some(output));
    exec.terminate("111111111111", REGION, "s");
    exec.terminate(ACCOUNT, REGION, "s");
    assert_eq!(last_words(&mut third).await, "");
    assert!(within(agent.incoming.recv()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_stays_away_ends_the_session_after_a_while() {
    let mut play = Play::new();
    let (client, mut agent) = play.session().await;
    drop(client);
    let pause = MessageType::PausePublication;
    assert_eq!(next_type(&mut agent).await, Some(pause));
    let gone = agent.incoming.recv();
    assert!(within(gone).await.is_none());
    // An agent that never comes, and one that dies.
    let mut play = Play::new();
    play.begin("s", "t").unwrap();
    let mut client = play.admit("s", "t").unwrap();
    assert!(last_words(&mut client).await.contains("did not answer"));
    let (mut client, agent) = play.session().await;
    drop(agent);
    assert!(last_words(&mut client).await.contains("unexpectedly"));
    let (mut client, _agent) = play.session().await;
    play.stop.cancel();
    assert!(last_words(&mut client).await.contains("shutting down"));
}

#[tokio::test(start_paused = true)]
async fn a_side_that_does_not_read_does_not_hold_up_the_other_way() {
    let mut play = Play::new();
    let (client, mut agent) = play.session().await;
    // Until nothing more is taken: the client does not read.
    let mut sent = 0;
    let full = Duration::from_secs(5);
    let shown = frame(Role::Agent, "b");
    while tokio::time::timeout(full, agent.outgoing.send(shown.clone()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 100, "no end");
    }
    let typed = frame(Role::Client, "a");
    client.outgoing.send(typed.clone()).await.unwrap();
    assert_eq!(within(agent.incoming.recv()).await, Some(typed));
}
