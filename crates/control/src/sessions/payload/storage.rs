//! What a task has beside its definition's volumes, as its agent needs it.

use minato_wire::acs::{Attachment, AttachmentProperty};
use minato_wire::ecs::{self, LaunchType};

use crate::services::ecs_arn;
use crate::tables::{OfVolume, Task};

/// The volume that was configured at launch, and the room that was asked for
/// what the task writes.
pub(super) fn attachments(
    row: &Task,
    definition: &ecs::TaskDefinition,
) -> Vec<Attachment> {
    let volume = row.volume.as_ref().map(|of| volume(row, of));
    volume.into_iter().chain(ephemeral(row, definition)).collect()
}

fn volume(row: &Task, of: &OfVolume) -> Attachment {
    let volume = &of.volume;
    Attachment {
        attachment_arn: arn(row, &of.attachment_id),
        attachment_type: Some("amazonebs".to_owned()),
        attachment_properties: vec![
            property("volumeId", of.id.clone()),
            property("volumeName", volume.name.clone()),
            property("volumeSizeGib", volume.size_gib.to_string()),
            property("fileSystem", volume.file_system.clone()),
            // Minato's own: here the agent makes and removes them.
            property(
                "deleteOnTermination",
                volume.delete_on_termination.to_string(),
            ),
        ],
    }
}

/// A bound that was asked for; the 20 GiB of every Fargate task are shown and
/// not kept (ADR 0017).
fn ephemeral(
    row: &Task,
    definition: &ecs::TaskDefinition,
) -> Option<Attachment> {
    if row.task.launch_type != Some(LaunchType::Fargate) {
        return None;
    }
    let change = row.task.overrides.as_ref();
    let given = change
        .and_then(|change| change.ephemeral_storage.as_ref())
        .or(definition.ephemeral_storage.as_ref())?;
    Some(Attachment {
        attachment_arn: arn(row, &row.id),
        attachment_type: None,
        attachment_properties: vec![
            property("resourceType", "EphemeralStorage".to_owned()),
            property("requestedSize", given.size_in_gi_b?.to_string()),
        ],
    })
}

fn arn(row: &Task, id: &str) -> String {
    let rest = format!("attachment/{id}");
    ecs_arn(&row.region, &row.account, &rest)
}

fn property(name: &str, value: String) -> AttachmentProperty {
    AttachmentProperty { name: name.to_owned(), value }
}
