//! The volume that a task gets when it is launched, as ECS shows it.
//!
//! Its attachment goes through `PRECREATED`, `ATTACHING` (there is a volume
//! for it), `ATTACHED` (a container runs, so its host has mounted it) and
//! `DETACHED` or `DELETED`, as the task's end leaves it.

use minato_wire::ecs::{Attachment, KeyValuePair};

use crate::tables::{OfVolume, Task};

/// The type of its attachment.
pub(crate) const ATTACHMENT: &str = "AmazonElasticBlockStorage";

/// The attachment of a new task.
pub(crate) fn attachment(of: &OfVolume) -> Attachment {
    Attachment {
        id: Some(of.attachment_id.clone()),
        r#type: Some(ATTACHMENT.to_owned()),
        status: Some("PRECREATED".to_owned()),
        details: Some(details(of, false)),
    }
}

fn details(of: &OfVolume, has_id: bool) -> Vec<KeyValuePair> {
    let detail = |name: &str, value: String| KeyValuePair {
        name: Some(name.to_owned()),
        value: Some(value),
    };
    let volume = &of.volume;
    let mut details = vec![
        detail("roleArn", volume.role_arn.clone()),
        detail("volumeName", volume.name.clone()),
        detail("deleteOnTermination", volume.delete_on_termination.to_string()),
    ];
    if has_id {
        details.insert(0, detail("volumeId", of.id.clone()));
    }
    details
}

/// Shows what became of the volume's attachment.
pub(crate) fn show(row: &mut Task, status: &str) {
    let Some(of) = &row.volume else { return };
    let is_it =
        |one: &&mut Attachment| one.r#type.as_deref() == Some(ATTACHMENT);
    let mut attachments = row.task.attachments.iter_mut().flatten();
    let Some(attachment) = attachments.find(is_it) else { return };
    attachment.status = Some(status.to_owned());
    attachment.details = Some(details(of, true));
}

/// Shows that it is mounted, once something runs.
pub(crate) fn show_attached(row: &mut Task) {
    let mut containers = row.task.containers.iter().flatten();
    if containers.any(|one| one.last_status.as_deref() == Some("RUNNING")) {
        show(row, "ATTACHED");
    }
}
