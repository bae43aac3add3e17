//! The credentials of tasks: those of the task role for their containers, and
//! those of the execution role for the agent.
//!
//! A task has its [`TaskRoles`] from its first payload until it is STOPPED.
//! Its sessions are renewed at half their life; the old ones go on until they
//! expire. Whether a role exists is not asked.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use minato_core::id::{Id, Kind};
use minato_store::{Row as _, Snapshot, Tx};
use minato_wire::{ApiError, Timestamp};

use super::rows::{Grant, Principal, Secrets, SessionRow, TaskRoles};
use super::sessions::{RoleArn, assumed_arn, is_role_name, new_session};
use crate::context::Context;
use crate::seal::SealError;
use crate::services::iam::base32;
use crate::services::iam::rows::RoleRow;
use crate::services::partition_of;
use crate::tables::{Task, TaskDefinition};

/// Six hours, as in ECS; agents are sent new ones long before.
pub(crate) const LIFE_MS: i64 = 6 * 60 * 60 * 1000;

/// What a `credentialsId` is of.
enum CredentialsKind {}

impl Kind for CredentialsKind {
    const NOUN: &'static str = "set of credentials";
}

/// Why a task cannot have the credentials of a role.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskRoleError {
    /// It is no role, or another account's, which nobody may pass.
    #[error(
        "ECS was unable to assume the role '{role}' that was provided for \
         this task. Please verify that the role being passed has the proper \
         trust relationship and permissions and that your IAM user has \
         permissions to pass this role."
    )]
    NotAssumable {
        /// As given.
        role: String,
    },
    /// They are not there yet, or no longer.
    #[error("the task has no credentials")]
    Missing,
    /// They were sealed with another key.
    #[error("the task's credentials cannot be opened")]
    Sealed(#[from] SealError),
}

/// Credentials of one role, as its task gets them.
pub(crate) struct Handed {
    pub(crate) id: String,
    pub(crate) role_arn: String,
    pub(crate) access_key_id: String,
    pub(crate) secrets: Secrets,
    pub(crate) expires_at: Timestamp,
}

/// All credentials of a task.
#[derive(Default)]
pub(crate) struct HandedRoles {
    pub(crate) application: Option<Handed>,
    pub(crate) execution: Option<Handed>,
    /// Tells these from those before and after; nothing where there are none.
    pub(crate) renew_at: Option<Timestamp>,
}

/// The newest credentials of a task, as [`issue`] left them.
pub(crate) fn handed(
    cx: &Context,
    rows: &Snapshot,
    task: &Task,
) -> Result<HandedRoles, TaskRoleError> {
    let Some(roles) = rows.get::<TaskRoles>(&task.key()) else {
        if Named::of(rows, task)?.is_empty() {
            return Ok(HandedRoles::default());
        }
        return Err(TaskRoleError::Missing);
    };
    let open = |grant: &Grant| {
        let newest = grant.access_key_ids.last().map(String::as_str);
        let key = SessionRow::key_of(newest.unwrap_or_default());
        let session =
            rows.get::<SessionRow>(&key).ok_or(TaskRoleError::Missing)?;
        Ok::<_, TaskRoleError>(Handed {
            id: grant.id.clone(),
            role_arn: grant.role_arn.clone(),
            access_key_id: session.access_key_id.clone(),
            secrets: session.open(&cx.config.seal_key)?,
            expires_at: session.expires_at,
        })
    };
    Ok(HandedRoles {
        application: roles.application.as_ref().map(open).transpose()?,
        execution: roles.execution.as_ref().map(open).transpose()?,
        renew_at: Some(roles.renew_at),
    })
}

/// Sees to it that tasks have the credentials of their roles, and those not
/// older than half their life. Leaves out tasks whose roles nobody can assume.
pub(crate) async fn issue<'a>(
    cx: &Context,
    tasks: impl IntoIterator<Item = &'a Arc<Task>>,
) -> Result<(), ApiError> {
    let (rows, now) = (cx.snapshot(), cx.clock.now());
    let mut fresh = vec![];
    for task in tasks {
        let known = rows.get::<TaskRoles>(&task.key());
        let named = match known.as_deref() {
            Some(known) if known.renew_at > now => continue,
            Some(known) => Named::from(known),
            None => Named::of(&rows, task).unwrap_or_default(),
        };
        if !named.is_empty() {
            fresh.push(Fresh::draw(cx, &rows, task, &named, now)?);
        }
    }
    if fresh.is_empty() {
        return Ok(());
    }
    let kept = cx.transact(move |tx| {
        for one in fresh {
            one.keep(tx, now);
        }
        Ok(())
    });
    kept.await
}

/// Ends all sessions of a task.
pub(crate) fn revoke(tx: &mut Tx, task: &Task) {
    let Some(roles) = tx.delete::<TaskRoles>(&task.key()) else { return };
    end_sessions(tx, &roles);
}

/// Ends the sessions of roles whose task is over or gone.
pub(crate) fn revoke_if_over(tx: &mut Tx, roles: &TaskRoles) {
    let task = tx.get::<Task>(&roles.key());
    if task.is_none_or(|task| task.is_stopped())
        && let Some(roles) = tx.delete::<TaskRoles>(&roles.key())
    {
        end_sessions(tx, &roles);
    }
}

fn end_sessions(tx: &mut Tx, roles: &TaskRoles) {
    for id in roles.grants().flat_map(|grant| &grant.access_key_ids) {
        tx.delete::<SessionRow>(&SessionRow::key_of(id));
    }
}

/// ARNs of the roles that a task names.
#[derive(Default)]
struct Named {
    application: Option<String>,
    execution: Option<String>,
}

impl From<&TaskRoles> for Named {
    fn from(roles: &TaskRoles) -> Named {
        let arn = |grant: &Option<Grant>| {
            grant.as_ref().map(|grant| grant.role_arn.clone())
        };
        Named {
            application: arn(&roles.application),
            execution: arn(&roles.execution),
        }
    }
}

impl Named {
    fn is_empty(&self) -> bool {
        self.application.is_none() && self.execution.is_none()
    }

    /// The overrides' roles, else the definition's.
    fn of(rows: &Snapshot, task: &Task) -> Result<Named, TaskRoleError> {
        let Task { account, region, family, revision, .. } = task;
        let key = TaskDefinition::key_of(account, region, family, *revision);
        let definition = rows.get::<TaskDefinition>(&key);
        let definition = definition.as_ref().map(|row| &row.definition);
        let change = task.task.overrides.as_ref();
        let pick = |changed: Option<&String>, defined: Option<&String>| {
            let given = |role: &&String| !role.is_empty();
            let role = changed.filter(given).or(defined.filter(given));
            role.map(|role| full_arn(task, role)).transpose()
        };
        Ok(Named {
            application: pick(
                change.and_then(|it| it.task_role_arn.as_ref()),
                definition.and_then(|it| it.task_role_arn.as_ref()),
            )?,
            execution: pick(
                change.and_then(|it| it.execution_role_arn.as_ref()),
                definition.and_then(|it| it.execution_role_arn.as_ref()),
            )?,
        })
    }
}

/// The ARN of a role that is given by ARN or by name (ECS API reference,
/// RegisterTaskDefinition, `taskRoleArn`). A role of another account cannot be
/// passed (IAM user guide, `iam:PassRole`).
fn full_arn(task: &Task, role: &str) -> Result<String, TaskRoleError> {
    if is_role_name(role) {
        let partition = partition_of(&task.region);
        let account = &task.account;
        return Ok(format!("arn:{partition}:iam::{account}:role/{role}"));
    }
    let arn = RoleArn::parse(role);
    match arn.filter(|arn| arn.account() == task.account) {
        Some(_) => Ok(role.to_owned()),
        None => Err(TaskRoleError::NotAssumable { role: role.to_owned() }),
    }
}

/// New credentials of a task, drawn and sealed.
struct Fresh {
    roles: TaskRoles,
    sessions: Vec<SessionRow>,
}

impl Fresh {
    fn draw(
        cx: &Context,
        rows: &Snapshot,
        task: &Task,
        named: &Named,
        now: Timestamp,
    ) -> Result<Fresh, ApiError> {
        // Whole seconds, as STS gives.
        let expires_at =
            Timestamp::from_millis(now.as_secs() * 1000).plus_millis(LIFE_MS);
        let mut sessions = vec![];
        let mut grant = |role: &Option<String>| {
            let Some(role) = role else { return Ok(None) };
            let principal = principal(rows, task, role);
            let (session, _) = new_session(cx, principal, expires_at)?;
            let access_key_ids = vec![session.access_key_id.clone()];
            sessions.push(session);
            let id = Id::<CredentialsKind>::new(cx.ids.uuid()).dashed();
            let role_arn = role.clone();
            Ok::<_, ApiError>(Some(Grant { id, role_arn, access_key_ids }))
        };
        let roles = TaskRoles {
            account: task.account.clone(),
            region: task.region.clone(),
            cluster: task.cluster.clone(),
            task: task.id.clone(),
            host: task.host.clone(),
            application: grant(&named.application)?,
            execution: grant(&named.execution)?,
            renew_at: now.plus_millis(LIFE_MS / 2),
        };
        Ok(Fresh { roles, sessions })
    }

    /// Keeps them, unless the task is over or another was faster.
    fn keep(mut self, tx: &mut Tx, now: Timestamp) {
        let key = self.roles.key();
        if tx.get::<Task>(&key).is_none_or(|task| task.is_stopped()) {
            return;
        }
        if let Some(known) = tx.get::<TaskRoles>(&key) {
            if known.renew_at > now {
                return;
            }
            let TaskRoles { application, execution, .. } = &mut self.roles;
            succeed(tx, application, known.application.as_ref(), now);
            succeed(tx, execution, known.execution.as_ref(), now);
        }
        for session in self.sessions {
            tx.put(session);
        }
        tx.put(self.roles);
    }
}

/// A new grant takes over the id of the one before it and what is still valid.
fn succeed(
    tx: &mut Tx,
    new: &mut Option<Grant>,
    known: Option<&Grant>,
    now: Timestamp,
) {
    let (Some(new), Some(known)) = (new, known) else { return };
    new.id.clone_from(&known.id);
    let mut kept = vec![];
    for id in &known.access_key_ids {
        let key = SessionRow::key_of(id);
        match tx.get::<SessionRow>(&key) {
            Some(session) if session.expires_at > now => kept.push(id.clone()),
            Some(_) => drop(tx.delete::<SessionRow>(&key)),
            None => {}
        }
    }
    new.access_key_ids.splice(..0, kept);
}

/// Whom a task speaks for in a role: the session is named after the task.
fn principal(rows: &Snapshot, task: &Task, role: &str) -> Principal {
    let arn = RoleArn::parse(role);
    let (partition, name) = arn.as_ref().map_or_else(
        || (partition_of(&task.region), role),
        |arn| (arn.partition(), arn.name()),
    );
    let Task { account, id, .. } = task;
    let known = rows
        .get::<RoleRow>(&RoleRow::key_of(account, name))
        .filter(|known| known.arn() == role);
    let role_id = known.map_or_else(|| unknown_id(role), |it| it.id.clone());
    Principal {
        account: account.clone(),
        arn: assumed_arn(partition, account, name, id),
        user_id: format!("{role_id}:{id}"),
    }
}

/// The id of a role that IAM does not know: always the same, and like one of
/// IAM's.
fn unknown_id(role: &str) -> String {
    let hash = digest(&SHA256, role.as_bytes());
    let number = hash.as_ref().iter().take(16);
    let number = number.fold(0, |all, byte| all << 8 | u128::from(*byte));
    format!("AROA{}", base32(number, 17))
}

#[cfg(test)]
mod tests;
