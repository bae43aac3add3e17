//! Temporary credentials, and which of them tasks have.

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::seal::{SealError, SealKey, Sealed};
use crate::tables::{Host, Task};

/// A temporary credential until it expires.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// `ASIA` and 16 more characters.
    pub(crate) access_key_id: String,
    /// The [`Secrets`].
    secrets: Sealed,
    pub(crate) expires_at: Timestamp,
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// What a session signs with. Never kept but sealed.
pub(crate) struct Secrets {
    pub(crate) secret: String,
    pub(crate) token: String,
}

/// Whom a session speaks for.
pub(crate) struct Principal {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

impl std::fmt::Debug for SessionRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRow")
            .field("access_key_id", &self.access_key_id)
            .field("arn", &self.arn)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl SessionRow {
    /// Index over the time of expiry.
    pub(crate) const BY_EXPIRY: &'static str = "expiry";

    pub(crate) fn key_of(access_key_id: &str) -> Key {
        Key::of([access_key_id])
    }

    /// A session whose secrets only the operator's key opens.
    pub(crate) fn seal(
        key: &SealKey,
        access_key_id: String,
        secrets: &Secrets,
        principal: Principal,
        expires_at: Timestamp,
    ) -> Result<SessionRow, SealError> {
        let Secrets { secret, token } = secrets;
        let text = format!("{secret} {token}");
        let secrets = key.seal(&access_key_id, text.as_bytes())?;
        let Principal { account, arn, user_id } = principal;
        Ok(SessionRow {
            access_key_id,
            secrets,
            expires_at,
            account,
            arn,
            user_id,
        })
    }

    pub(crate) fn open(&self, key: &SealKey) -> Result<Secrets, SealError> {
        let text = key.open(&self.access_key_id, &self.secrets)?;
        let text = str::from_utf8(&text).map_err(|_| SealError::Damaged)?;
        let (secret, token) = text.split_once(' ').ok_or(SealError::Damaged)?;
        Ok(Secrets { secret: secret.to_owned(), token: token.to_owned() })
    }
}

impl Row for SessionRow {
    /// The sessions of `sts.session` were not sealed.
    const TABLE: &'static str = "sts.sealed_session";

    fn key(&self) -> Key {
        SessionRow::key_of(&self.access_key_id)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let at = self.expires_at.as_millis().unsigned_abs();
        vec![(SessionRow::BY_EXPIRY, Key::root().with_u64(at))]
    }
}

/// The roles that a task acts in, from its first payload to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskRoles {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) cluster: String,
    pub(crate) task: String,
    pub(crate) host: String,
    /// The task role, for its containers.
    pub(crate) application: Option<Grant>,
    /// The execution role, for the agent.
    pub(crate) execution: Option<Grant>,
    /// When both are to have new credentials.
    pub(crate) renew_at: Timestamp,
}

/// One role of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The `credentialsId`: the same as long as the task lives. Who knows it
    /// has the credentials.
    pub(crate) id: String,
    pub(crate) role_arn: String,
    /// Those that may still be in use; the last is the newest.
    pub(crate) access_key_ids: Vec<String>,
}

impl TaskRoles {
    /// Index over the time of renewal.
    pub(crate) const BY_RENEWAL: &'static str = "renewal";

    /// The key of the task's host.
    pub(crate) fn host_key(&self) -> Key {
        Host::key_of(&self.account, &self.region, &self.host)
    }

    /// All roles there are.
    pub(crate) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.application.iter().chain(&self.execution)
    }
}

impl Row for TaskRoles {
    const TABLE: &'static str = "sts.task_roles";

    /// The task's.
    fn key(&self) -> Key {
        Task::key_of(&self.account, &self.region, &self.cluster, &self.task)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let at = self.renew_at.as_millis().unsigned_abs();
        vec![(TaskRoles::BY_RENEWAL, Key::root().with_u64(at))]
    }
}
