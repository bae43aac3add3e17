//! A task's credentials as agents take them (`acs-protocol.md`, 4.2).

use minato_wire::acs::{
    IamRoleCredentials, IamRoleCredentialsMessage, Message, RoleType,
};

use crate::services::sts::tasks::{Handed, HandedRoles};
use crate::tables::Task;

/// The form they have in a payload and in a message of their own.
pub(super) fn credentials(handed: Handed) -> IamRoleCredentials {
    IamRoleCredentials {
        credentials_id: handed.id,
        role_arn: Some(handed.role_arn),
        access_key_id: Some(handed.access_key_id),
        secret_access_key: Some(handed.secrets.secret),
        session_token: Some(handed.secrets.token),
        expiration: Some(handed.expires_at.to_iso()),
        ..IamRoleCredentials::default()
    }
}

/// The messages that bring a task new credentials.
pub(super) fn refresh(
    task: &Task,
    handed: HandedRoles,
    message_id: impl Fn() -> String,
) -> Vec<Message> {
    let HandedRoles { application, execution, renew_at: _ } = handed;
    [
        (RoleType::TaskExecution, execution),
        (RoleType::TaskApplication, application),
    ]
    .into_iter()
    .filter_map(|(role_type, handed)| {
        let message = IamRoleCredentialsMessage {
            message_id: message_id(),
            task_arn: task.arn(),
            task_cluster_arn: task.task.cluster_arn.clone(),
            role_type,
            role_credentials: credentials(handed?),
        };
        Some(Message::IamRoleCredentials(Box::new(message)))
    })
    .collect()
}
