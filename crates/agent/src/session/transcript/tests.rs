//! What is logged where, and what happens where it cannot be.

use minato_wire::Timestamp;
use minato_wire::acs::IamRoleCredentials;
use serde_json::{Value, json};

use super::spool::HELD_MAX;
use super::*;
use crate::objects::S3Config;
use crate::objects::fake::FakeS3;
use crate::task::decode::decode_task;
use crate::test_support::{Rig, services, task};

const AWSLOGS: &str = "awslogs";

struct Play {
    rig: Rig,
    services: Arc<Services>,
    task: TaskPlan,
}

impl Play {
    /// A task with a role, whose container's driver is given.
    fn new(driver: &str, s3: Option<S3Config>) -> Play {
        let rig = Rig::new();
        let mut services = services(&rig.runtime, &rig.api, rig.dir.path());
        Arc::get_mut(&mut services).unwrap().config.s3 = s3;
        let options = match driver {
            AWSLOGS => json!({
                "awslogs-group": "/app", "awslogs-region": "eu-west-1",
                "awslogs-stream": "s",
            }),
            _ => json!({}),
        };
        let host = json!({"LogConfig": {"Type": driver, "Config": options}});
        let mut task = task(json!([{
            "name": "web", "image": "web", "dockerConfig": {
                "hostConfig": host.to_string(), "config": "{}",
            },
        }]));
        task.role_credentials = Some(IamRoleCredentials {
            credentials_id: "role".into(),
            ..IamRoleCredentials::default()
        });
        let task = decode_task(&task).unwrap();
        let play = Play { rig, services, task };
        play.send_role();
        play
    }

    fn send_role(&self) {
        let set = IamRoleCredentials {
            credentials_id: "role".into(),
            access_key_id: Some("ASIAROLE".into()),
            secret_access_key: Some("hush".into()),
            ..IamRoleCredentials::default()
        };
        self.services.credentials.put(set, Timestamp::from_millis(0));
    }

    fn begin(&self, logging: SessionLogging) -> Option<Transcript> {
        let order = ExecuteCommand {
            session_id: "ecs-execute-command-1".into(),
            logging,
            ..ExecuteCommand::default()
        };
        let container = self.task.container("web").unwrap();
        Transcript::begin(&self.services, &self.task, container, &order)
    }

    fn lines(&self) -> Vec<String> {
        self.rig.api.lines("ecs-execute-command-1")
    }

    fn who_put(&self) -> Vec<Option<String>> {
        let state = self.rig.api.state.lock();
        let calls = state.calls.iter().zip(&state.roles);
        calls
            .filter(|((name, _), _)| name == "PutLogEvents")
            .map(|(_, role)| role.clone())
            .collect()
    }
}

fn to(group: Option<&str>, bucket: Option<&str>) -> SessionLogging {
    SessionLogging::Override {
        log_group: group.map(str::to_owned),
        bucket: bucket.map(str::to_owned),
        key_prefix: Some("/exec/".into()),
    }
}

#[tokio::test(start_paused = true)]
async fn the_containers_own_log_group_gets_a_stream_of_the_session() {
    let play = Play::new(AWSLOGS, None);
    let mut log = play.begin(SessionLogging::Default).unwrap();
    log.write("/ # \x1b[6necho hi\r\nhi\r\n".into()).await;
    let seen = || (!play.lines().is_empty()).then_some(());
    play.rig.until("sent while the session runs", seen).await;
    assert_eq!(play.lines(), ["/ # echo hi\nhi"]);
    log.write("/ # exit\r\n".into()).await;
    log.finish().await;
    assert_eq!(play.lines(), ["/ # echo hi\nhi", "/ # exit"]);
    assert_eq!(play.who_put()[0].as_deref(), Some("ASIAROLE"));
    assert!(play.rig.api.state.lock().regions.contains(&"eu-west-1".into()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_logged_where_nothing_is_asked_for() {
    let play = Play::new(AWSLOGS, None);
    assert!(play.begin(SessionLogging::None).is_none());
    assert!(Play::new("none", None).begin(SessionLogging::Default).is_none());
    assert!(play.begin(to(None, None)).is_none());
    // A session that said nothing leaves no empty stream.
    play.begin(SessionLogging::Default).unwrap().finish().await;
    assert!(play.rig.api.calls("CreateLogStream").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_group_holds_nothing_up() {
    let play = Play::new("none", None);
    let mut log = play.begin(to(Some("/none"), None)).unwrap();
    for _ in 0..3 * PIECES_MAX {
        log.write("a line\n".into()).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(log.pieces.is_none(), "nobody reads");
    log.finish().await;
    assert!(play.lines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_is_waited_for_and_not_for_ever() {
    let play = Play::new(AWSLOGS, None);
    for _ in 0..3 {
        play.rig.api.fail_next("PutLogEvents", "ServiceUnavailable");
    }
    let mut log = play.begin(SessionLogging::Default).unwrap();
    log.write("late\n".into()).await;
    log.finish().await;
    assert_eq!(play.lines(), ["late"]);

    for _ in 0..1000 {
        play.rig.api.fail_next("PutLogEvents", "ServiceUnavailable");
    }
    let mut log = play.begin(SessionLogging::Default).unwrap();
    log.write("never\n".into()).await;
    let began = tokio::time::Instant::now();
    log.finish().await;
    assert_eq!(began.elapsed().as_secs(), FINISH_MAX.as_secs());
}

#[tokio::test]
async fn s3_gets_all_of_it_as_it_was() {
    let s3 = FakeS3::start().await;
    let play = Play::new("none", Some(s3.config()));
    let mut log = play.begin(to(None, Some("b"))).unwrap();
    let mut all = vec![];
    for number in 0..2000 {
        let piece = format!("\x1b[1m{number}\x1b[0m {}\r\n", "x".repeat(300));
        all.extend_from_slice(piece.as_bytes());
        log.write(piece.into()).await;
    }
    log.finish().await;
    let path = "/b/exec/ecs-execute-command-1.log";
    assert_eq!(s3.object(path).unwrap(), all);
    let (_, headers) = s3.asked().pop().unwrap();
    assert_eq!(headers["content-length"], all.len().to_string().as_str());
    let signed = headers["authorization"].to_str().unwrap();
    assert!(signed.contains("Credential=ASIAROLE/"), "{signed}");
    let left: Vec<_> = std::fs::read_dir(play.rig.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_has_no_room_is_counted_in_the_log() {
    let s3 = FakeS3::start().await;
    let play = Play::new("none", Some(s3.config()));
    let mut log = play.begin(to(None, Some("b"))).unwrap();
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    for _ in 0..(HELD_MAX >> 20) + 3 {
        log.write(piece.clone()).await;
    }
    log.finish().await;
    let object = s3.object("/b/exec/ecs-execute-command-1.log").unwrap();
    let note = format!("\r\n[{} bytes were not logged]\r\n", 3 << 20);
    assert!(object.ends_with(note.as_bytes()));
    let expected = usize::try_from(HELD_MAX).unwrap() + note.len();
    assert_eq!(object.len(), expected);
}

#[test]
fn a_prefix_is_a_folder() {
    for (prefix, key) in
        [("", "s.log"), ("/", "s.log"), ("a", "a/s.log"), ("a/b/", "a/b/s.log")]
    {
        assert_eq!(object_key(prefix, "s"), key);
    }
}

#[test]
fn an_order_without_logging_is_logged_nowhere() {
    let order: Value = json!({
        "messageId": "m", "sessionId": "s", "tokenValue": "t",
        "taskArn": "a", "containerName": "c", "command": "sh",
    });
    let order: ExecuteCommand = serde_json::from_value(order).unwrap();
    assert_eq!(order.logging, SessionLogging::None);
}
