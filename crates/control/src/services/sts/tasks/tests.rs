use minato_store::Key;
use minato_wire::ecs::{SubmitTaskStateChangeRequest, TaskOverride};
use serde_json::json;

use super::*;
use crate::services::ecs::tasks::submit_task_state_change;
use crate::tables::Cluster;
use crate::testing::{ACCOUNT, REGION, TestBed, definition, task_on};

const APP: &str = "arn:aws:iam::000000000000:role/team/app";
const EXEC: &str = "arn:aws:iam::000000000000:role/exec";

fn running(id: &str) -> Task {
    let mut task = task_on("h", id, "RUNNING");
    task.task.desired_status = Some("RUNNING".into());
    task
}

/// The definition of both roles, and these tasks with their credentials.
async fn bed(tasks: Vec<Task>) -> TestBed {
    let bed = TestBed::new();
    let rows: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
    let put = rows.clone();
    let put = bed.cx.transact(move |tx| {
        tx.put(definition(Some(APP), Some(EXEC)));
        for task in put {
            tx.put(Task::clone(&task));
        }
        Ok(())
    });
    put.await.unwrap();
    issue(&bed.cx, &rows).await.unwrap();
    bed
}

fn roles(bed: &TestBed, task: &Task) -> Arc<TaskRoles> {
    bed.cx.snapshot().get::<TaskRoles>(&task.key()).unwrap()
}

fn keys(roles: &TaskRoles) -> Vec<String> {
    let all = roles.grants().flat_map(|grant| grant.access_key_ids.clone());
    all.collect()
}

fn works(bed: &TestBed, key: &str) -> bool {
    let credential = super::super::credential(&bed.cx, key);
    credential.is_some_and(|it| it.expires_at.unwrap() > bed.cx.clock.now())
}

#[tokio::test]
async fn a_call_made_with_them_is_the_roles() {
    let task = running("0a");
    let bed = bed(vec![task.clone()]).await;
    let given = handed(&bed.cx, &bed.cx.snapshot(), &task).unwrap();
    let given = given.application.unwrap();
    assert_eq!(given.role_arn, APP);
    let credential =
        super::super::credential(&bed.cx, &given.access_key_id).unwrap();
    assert_eq!(credential.secret, given.secrets.secret);
    assert_eq!(credential.session_token, Some(given.secrets.token));
    let six_hours = bed.cx.clock.now().plus_millis(LIFE_MS);
    assert_eq!(credential.expires_at, Some(six_hours));
    let mut scope = bed.scope();
    scope.caller = credential.caller;
    let (cx, input) = (&bed.cx, json!({}));
    let who = super::super::dispatch(cx, &scope, "GetCallerIdentity", input);
    let who = who.await.unwrap();
    assert_eq!(who["Arn"], "arn:aws:sts::000000000000:assumed-role/app/0a");
    assert_eq!(who["Account"], ACCOUNT);
    let id = who["UserId"].as_str().unwrap();
    assert!(id.starts_with("AROA") && id.ends_with(":0a"), "{id}");
    assert_eq!(id.len(), "AROA".len() + 17 + ":0a".len());
}

#[tokio::test]
async fn a_role_that_iam_knows_has_its_id() {
    let bed = TestBed::new();
    let create = json!({
        "RoleName": "app", "Path": "/team/",
        "AssumeRolePolicyDocument":
            r#"{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}"#,
    });
    let iam = crate::services::iam::dispatch;
    let created = iam(&bed.cx, &bed.scope(), "CreateRole", create).await;
    let id = created.unwrap()["Role"]["RoleId"].as_str().unwrap().to_owned();
    let rows = bed.cx.snapshot();
    let known = principal(&rows, &running("0a"), APP);
    assert_eq!(known.user_id, format!("{id}:0a"));
    // The path is part of the ARN, so this is another role.
    let other = "arn:aws:iam::000000000000:role/app";
    let [one, two] = ["0a", "0b"].map(|task| {
        let who = principal(&rows, &running(task), other).user_id;
        who.split_once(':').unwrap().0.to_owned()
    });
    assert!(one == two && one != id);
}

#[tokio::test]
async fn at_half_their_life_new_ones_come_beside_the_old() {
    let task = running("0a");
    let bed = bed(vec![task.clone()]).await;
    let first = roles(&bed, &task);
    bed.clock.advance_ms(LIFE_MS / 2 - 1);
    issue(&bed.cx, [&Arc::new(task.clone())]).await.unwrap();
    assert_eq!(roles(&bed, &task), first);
    bed.clock.advance_ms(1);
    issue(&bed.cx, [&Arc::new(task.clone())]).await.unwrap();
    let second = roles(&bed, &task);
    let ids = |roles: &TaskRoles| {
        roles.grants().map(|grant| grant.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&second));
    assert_eq!((keys(&first).len(), keys(&second).len()), (2, 4));
    assert!(keys(&second).iter().all(|key| works(&bed, key)));
    assert!(keys(&first).iter().all(|key| keys(&second).contains(key)));
    // The first ones go when they expire, by the next renewal at the latest.
    bed.clock.advance_ms(LIFE_MS / 2);
    assert!(!keys(&first).iter().any(|key| works(&bed, key)));
    issue(&bed.cx, [&Arc::new(task.clone())]).await.unwrap();
    let third = roles(&bed, &task);
    assert_eq!(ids(&first), ids(&third));
    assert!(!keys(&first).iter().any(|key| keys(&third).contains(key)));
    assert_eq!(bed.cx.snapshot().count::<SessionRow>(), 4);
}

#[tokio::test]
async fn a_stopped_task_loses_its_own_and_no_other() {
    let [task, other] = ["a", "b"].map(|digit| running(&digit.repeat(32)));
    let foreign = Task { account: "111111111111".into(), ..task.clone() };
    let bed = bed(vec![task.clone(), other.clone()]).await;
    let theirs = TaskDefinition {
        account: foreign.account.clone(),
        ..definition(Some("app"), None)
    };
    let rows = (foreign.clone(), theirs);
    let put = bed.cx.transact(move |tx| {
        tx.put(rows.0);
        tx.put(rows.1);
        tx.put(cluster());
        Ok(())
    });
    put.await.unwrap();
    issue(&bed.cx, [&Arc::new(foreign.clone())]).await.unwrap();
    let gone = keys(&roles(&bed, &task));
    let left = [roles(&bed, &other), roles(&bed, &foreign)];
    let input = SubmitTaskStateChangeRequest {
        cluster: Some("c0".into()),
        task: Some(task.arn()),
        status: Some("STOPPED".into()),
        ..Default::default()
    };
    submit_task_state_change(&bed.cx, &bed.scope(), input).await.unwrap();
    let rows = bed.cx.snapshot();
    assert!(rows.get::<Task>(&task.key()).unwrap().is_stopped());
    assert!(!rows.contains::<TaskRoles>(&task.key()));
    assert_eq!(gone.len(), 2);
    assert!(!gone.iter().any(|key| works(&bed, key)));
    for roles in left {
        assert!(keys(&roles).iter().all(|key| works(&bed, key)));
    }
    // Whoever looked before cannot bring them back.
    issue(&bed.cx, [&Arc::new(task.clone())]).await.unwrap();
    assert!(!bed.cx.snapshot().contains::<TaskRoles>(&task.key()));
}

fn cluster() -> Cluster {
    Cluster {
        account: ACCOUNT.into(),
        region: REGION.into(),
        name: "c0".into(),
        status: "ACTIVE".into(),
        settings: vec![],
        configuration: None,
        service_connect_defaults: None,
        capacity_providers: vec![],
        default_capacity_provider_strategy: vec![],
        tags: vec![],
        created_at: Timestamp::from_millis(0),
    }
}

#[tokio::test]
async fn the_overrides_roles_come_first_and_names_are_enough() {
    let bed = bed(vec![]).await;
    let rows = bed.cx.snapshot();
    let named = |task_role: &str| {
        let mut task = running("0a");
        task.task.overrides = Some(TaskOverride {
            task_role_arn: Some(task_role.to_owned()),
            ..Default::default()
        });
        Named::of(&rows, &task)
    };
    let other = named("other").unwrap();
    let arn = "arn:aws:iam::000000000000:role/other";
    assert_eq!(other.application.as_deref(), Some(arn));
    assert_eq!(other.execution.as_deref(), Some(EXEC));
    assert_eq!(named("").unwrap().application.as_deref(), Some(APP));
    for wrong in [
        "arn:aws:iam::111111111111:role/app",
        "arn:aws:iam::000000000000:user/app",
        "arn:aws:sts::000000000000:role/app",
        "arn:aws:iam::000000000000:role/team/",
        "arn:aws:iam::000000000000:role/a b",
        "a role",
    ] {
        let refused = named(wrong).err();
        let is_refused =
            matches!(refused, Some(TaskRoleError::NotAssumable { .. }));
        assert!(is_refused, "{wrong}");
    }
}

#[tokio::test]
async fn without_roles_nothing_is_kept() {
    let bed = bed(vec![]).await;
    let put = bed.cx.transact(|tx| {
        tx.put(definition(None, None));
        tx.put(running("0a"));
        Ok(())
    });
    put.await.unwrap();
    let before = bed.cx.snapshot().revision();
    issue(&bed.cx, [&Arc::new(running("0a"))]).await.unwrap();
    let rows = bed.cx.snapshot();
    assert_eq!(rows.revision(), before);
    let none = handed(&bed.cx, &rows, &running("0a")).unwrap();
    assert!(none.application.is_none() && none.renew_at.is_none());
}

#[tokio::test]
async fn secrets_are_neither_kept_nor_shown_in_clear() {
    let task = running("0a");
    let bed = bed(vec![task.clone()]).await;
    let rows = bed.cx.snapshot();
    let given = handed(&bed.cx, &rows, &task).unwrap().execution.unwrap();
    for row in rows.scan::<SessionRow>(&Key::root()) {
        let text = serde_json::to_string(&*row).unwrap() + &format!("{row:?}");
        assert!(!text.contains(&given.secrets.secret));
        assert!(!text.contains(&given.secrets.token));
    }
}
