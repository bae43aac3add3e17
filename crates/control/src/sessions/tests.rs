//! What an agent is told of its tasks' roles.

use std::time::Duration;

use minato_store::Row as _;
use minato_wire::acs::{
    IamRoleCredentialsMessage, Message, RoleType, Task as PayloadTask,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::services::sts;
use crate::services::sts::rows::{SessionRow, TaskRoles};
use crate::tables::{Task, TaskDefinition};
use crate::testing::{TestBed, definition, instance, task_on};

const APP: &str = "arn:aws:iam::000000000000:role/app";
const EXEC: &str = "arn:aws:iam::000000000000:role/exec";
/// Far longer than a frame takes to come.
const LONG: Duration = Duration::from_secs(20);

/// A host with one task, and what runs sessions.
struct Play {
    bed: TestBed,
    hello: AgentHello,
    task: Task,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Play {
    async fn new(status: &str, definition: TaskDefinition) -> Play {
        let bed = TestBed::new();
        let (host, instance) = instance(0, "us-east-1a");
        let hello = AgentHello {
            account: host.account.clone(),
            region: host.region.clone(),
            container_instance_arn: instance.arn(),
            ..AgentHello::default()
        };
        let mut task = task_on(&host.id, "0a", status);
        task.task.desired_status = Some("RUNNING".into());
        if status == "RUNNING" {
            task.task.started_at = Some(bed.cx.clock.now());
        }
        let row = task.clone();
        let put = bed.cx.transact(move |tx| {
            tx.put(host);
            tx.put(instance);
            tx.put(definition);
            tx.put(row);
            Ok(())
        });
        put.await.unwrap();
        let (running, stop) = (TaskTracker::new(), CancellationToken::new());
        let router = Arc::clone(&bed.cx.router);
        running.spawn(router.run(bed.cx.store.watch(), stop.clone()));
        Play { bed, hello, task, running, stop }
    }

    fn connect(&self) -> AgentLink {
        let cx = Arc::clone(&self.bed.cx);
        let peer = peer(&cx, &self.hello).unwrap();
        let (to_agent, incoming) = mpsc::channel(FRAMES_MAX);
        let (outgoing, from_agent) = mpsc::channel(FRAMES_MAX);
        let hello = self.hello.clone();
        let session = acs::Session::new(cx, peer, to_agent, hello);
        self.running.spawn(session.run(from_agent, self.stop.clone()));
        AgentLink { incoming, outgoing }
    }

    fn row(&self) -> Arc<Task> {
        self.bed.cx.snapshot().get::<Task>(&self.task.key()).unwrap()
    }

    fn works(&self, access_key_id: &str) -> bool {
        sts::credential(&self.bed.cx, access_key_id).is_some()
    }

    async fn close(self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}

/// The next message that is a payload or brings credentials.
async fn next(link: &mut AgentLink) -> Message {
    let read = async {
        loop {
            let frame = link.incoming.recv().await.unwrap();
            let message = Message::decode(&frame).unwrap();
            if matches!(
                message,
                Message::Payload(_) | Message::IamRoleCredentials(_)
            ) {
                return message;
            }
        }
    };
    tokio::time::timeout(LONG, read).await.unwrap()
}

async fn payload(link: &mut AgentLink) -> PayloadTask {
    let message = next(link).await;
    let Message::Payload(mut payload) = message else { panic!("{message:?}") };
    payload.tasks.remove(0)
}

async fn refreshed(link: &mut AgentLink) -> IamRoleCredentialsMessage {
    let message = next(link).await;
    let Message::IamRoleCredentials(message) = message else {
        panic!("{message:?}")
    };
    *message
}

#[tokio::test]
async fn a_payload_brings_the_credentials_of_both_roles() {
    let play = Play::new("PENDING", definition(Some(APP), Some(EXEC))).await;
    let mut link = play.connect();
    let task = payload(&mut link).await;
    let application = task.role_credentials.unwrap();
    let execution = task.execution_role_credentials.unwrap();
    assert_eq!(application.role_arn.as_deref(), Some(APP));
    assert_eq!(execution.role_arn.as_deref(), Some(EXEC));
    assert_ne!(application.credentials_id, execution.credentials_id);
    assert_eq!(application.credentials_id.len(), 36);
    // Six hours after the test's now.
    assert_eq!(application.expiration.as_deref(), Some("2023-11-15T04:13:20Z"));
    for (given, role) in [(application, "app"), (execution, "exec")] {
        let key = given.access_key_id.unwrap();
        let known = sts::credential(&play.bed.cx, &key).unwrap();
        assert_eq!(Some(known.secret), given.secret_access_key);
        assert_eq!(known.session_token, given.session_token);
        let arn = format!("arn:aws:sts::000000000000:assumed-role/{role}/0a");
        assert_eq!(known.caller.arn, arn);
    }
    play.close().await;
}

#[tokio::test]
async fn renewed_credentials_follow_under_the_same_id() {
    let play = Play::new("PENDING", definition(Some(APP), None)).await;
    let mut link = play.connect();
    let task = payload(&mut link).await;
    assert!(task.execution_role_credentials.is_none());
    let first = task.role_credentials.unwrap();
    play.bed.clock.advance_ms(sts::tasks::LIFE_MS / 2);
    sts::tasks::issue(&play.bed.cx, [&play.row()]).await.unwrap();
    let message = refreshed(&mut link).await;
    assert_eq!(message.task_arn, play.task.arn());
    assert_eq!(message.role_type, RoleType::TaskApplication);
    let second = message.role_credentials;
    assert_eq!(second.credentials_id, first.credentials_id);
    let keys = [first, second].map(|it| it.access_key_id.unwrap());
    assert!(keys[0] != keys[1] && keys.iter().all(|key| play.works(key)));
    play.close().await;
}

#[tokio::test]
async fn a_new_session_brings_them_again() {
    let play = Play::new("RUNNING", definition(Some(APP), Some(EXEC))).await;
    let mut seen = vec![];
    for _ in 0..2 {
        let mut link = play.connect();
        let execution = refreshed(&mut link).await;
        let application = refreshed(&mut link).await;
        assert_eq!(execution.role_type, RoleType::TaskExecution);
        assert_eq!(application.role_type, RoleType::TaskApplication);
        seen.push((execution.role_credentials, application.role_credentials));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(play.bed.cx.snapshot().count::<SessionRow>(), 2);
    play.close().await;
}

#[tokio::test]
async fn a_stopping_task_keeps_them_to_its_end() {
    let play = Play::new("RUNNING", definition(Some(APP), None)).await;
    let mut row = play.task.clone();
    row.task.last_status = Some("STOPPING".into());
    row.task.desired_status = Some("STOPPED".into());
    let put = play.bed.cx.transact(move |tx| {
        tx.put(row);
        Ok(())
    });
    put.await.unwrap();
    let mut link = play.connect();
    let given = refreshed(&mut link).await.role_credentials;
    assert!(play.works(&given.access_key_id.unwrap()));
    assert_eq!(payload(&mut link).await.desired_status, "STOPPED");
    play.close().await;
}

#[tokio::test]
async fn a_task_without_roles_has_none() {
    let play = Play::new("PENDING", definition(None, None)).await;
    let mut link = play.connect();
    let task = payload(&mut link).await;
    assert!(task.role_credentials.is_none());
    assert!(task.execution_role_credentials.is_none());
    let rows = play.bed.cx.snapshot();
    assert_eq!(rows.count::<SessionRow>() + rows.count::<TaskRoles>(), 0);
    play.close().await;
}

#[tokio::test]
async fn a_role_that_nobody_can_assume_ends_the_task() {
    let foreign = "arn:aws:iam::111111111111:role/app";
    let play = Play::new("PENDING", definition(Some(foreign), None)).await;
    let mut watch = play.bed.cx.store.watch();
    let link = play.connect();
    let wait = async {
        while !play.row().is_stopped() {
            watch.changed().await.unwrap();
            watch.changes();
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
    let reason = play.row().task.stopped_reason.clone().unwrap();
    let said = format!("ECS was unable to assume the role '{foreign}'");
    assert!(reason.starts_with(&said), "{reason}");
    drop(link);
    play.close().await;
}
