//! Volumes of tasks: DescribeVolumes, DeleteVolume, and what is kept of them.
//!
//! ECS makes them with their tasks. One that outlives its task is `available`
//! until somebody deletes it; then it is hidden, and its row stays until the
//! agent on its host, which asks (`SweepVolumes`), has removed its file.

use minato_core::launch_volume::LaunchVolume;
use minato_store::{Key, Row, Snapshot, Tx};
use minato_wire::ec2::{
    DeleteVolumeRequest, DescribeVolumesRequest, DescribeVolumesResult, Tag,
    Volume, VolumeAttachment, VolumeAttachmentState, VolumeState,
};
use minato_wire::ecs::{self, PropagateTags};
use minato_wire::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::filter::{Ids, check_dry_run, error, page, passes};
use crate::context::{Context, Scope};
use crate::services::Empty;
use crate::tables::{OfVolume, Service, Task, TaskDefinition};

/// Where a volume is in its life.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Its task has it.
    InUse,
    /// Its task is over.
    Available,
    /// Somebody deleted it.
    Deleting,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            State::InUse => "in-use",
            State::Available => "available",
            State::Deleting => "deleting",
        }
    }
}

/// A volume, always made for a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VolumeRow {
    account: String,
    region: String,
    /// `vol-` and 17 hexadecimal digits.
    id: String,
    zone: String,
    volume: LaunchVolume,
    tags: Vec<ecs::Tag>,
    /// The task it was made for.
    task_arn: String,
    state: State,
    created_at: Timestamp,
    #[serde(default)]
    deleted_at: Option<Timestamp>,
}

impl Row for VolumeRow {
    const TABLE: &'static str = "ec2-volume";

    fn key(&self) -> Key {
        VolumeRow::key_of(&self.account, &self.region, &self.id)
    }
}

impl VolumeRow {
    fn key_of(account: &str, region: &str, id: &str) -> Key {
        Key::of([account, region, id])
    }

    /// The volume of a task that is about to be sent to its host.
    pub(crate) fn new(
        tx: &Tx,
        task: &Task,
        of: &OfVolume,
        now: Timestamp,
    ) -> VolumeRow {
        let zone = task.task.availability_zone.clone();
        VolumeRow {
            account: task.account.clone(),
            region: task.region.clone(),
            id: of.id.clone(),
            zone: zone.unwrap_or_else(|| format!("{}a", task.region)),
            volume: of.volume.clone(),
            tags: tags(tx, task, &of.volume),
            task_arn: task.arn(),
            state: State::InUse,
            created_at: now,
            deleted_at: None,
        }
    }

    /// Takes a volume from its task; whether it is kept.
    pub(crate) fn release(
        tx: &mut Tx,
        account: &str,
        region: &str,
        of: &OfVolume,
    ) -> bool {
        let key = VolumeRow::key_of(account, region, &of.id);
        // None where the task did not come that far.
        let Some(known) = tx.get::<VolumeRow>(&key) else { return false };
        if of.volume.delete_on_termination {
            tx.delete::<VolumeRow>(&key);
            return false;
        }
        tx.put(VolumeRow {
            state: State::Available,
            ..VolumeRow::clone(&known)
        });
        true
    }

    /// Whether somebody deleted it, and its file is still somewhere.
    pub(crate) fn is_deleted(
        rows: &Snapshot,
        account: &str,
        region: &str,
        id: &str,
    ) -> bool {
        let key = VolumeRow::key_of(account, region, id);
        let known = rows.get::<VolumeRow>(&key);
        known.is_some_and(|row| row.state == State::Deleting)
    }

    /// Its file is gone too; nothing to do for any but a deleted one.
    pub(crate) fn forget(tx: &mut Tx, account: &str, region: &str, id: &str) {
        let key = VolumeRow::key_of(account, region, id);
        let known = tx.get::<VolumeRow>(&key);
        if known.is_some_and(|row| row.state == State::Deleting) {
            tx.delete::<VolumeRow>(&key);
        }
    }

    /// When it was deleted, if it was.
    pub(crate) fn deleted_at(&self) -> Option<Timestamp> {
        self.deleted_at
    }

    fn values(&self, name: &str) -> Option<Vec<String>> {
        let one = |text: &str| Some(vec![text.to_owned()]);
        let is_attached = self.state == State::InUse;
        let attached = |text: &str| {
            Some(if is_attached { vec![text.to_owned()] } else { vec![] })
        };
        match name {
            "attachment.delete-on-termination" => {
                attached(&self.volume.delete_on_termination.to_string())
            }
            "attachment.status" => attached("attached"),
            "availability-zone" => one(&self.zone),
            "encrypted" | "multi-attach-enabled" => one("false"),
            "size" => one(&self.volume.size_gib.to_string()),
            "snapshot-id" => Some(vec![]),
            "status" => one(self.state.as_str()),
            "volume-id" => one(&self.id),
            "volume-type" => one(&self.volume.volume_type),
            "tag-key" => Some(self.tags.iter().flat_map(tag_key).collect()),
            name => {
                let key = name.strip_prefix("tag:")?;
                let has = |tag: &&ecs::Tag| tag.key.as_deref() == Some(key);
                let tags = self.tags.iter().filter(has);
                Some(tags.filter_map(|tag| tag.value.clone()).collect())
            }
        }
    }

    fn describe(&self) -> Volume {
        let volume = &self.volume;
        let attachment = VolumeAttachment {
            volume_id: Some(self.id.clone()),
            associated_resource: Some(self.task_arn.clone()),
            attach_time: Some(self.created_at),
            delete_on_termination: Some(volume.delete_on_termination),
            state: Some(VolumeAttachmentState::Attached),
            ..VolumeAttachment::default()
        };
        let tags = self
            .tags
            .iter()
            .map(|tag| Tag { key: tag.key.clone(), value: tag.value.clone() });
        Volume {
            volume_id: Some(self.id.clone()),
            size: i32::try_from(volume.size_gib).ok(),
            volume_type: volume.volume_type.parse().ok(),
            iops: volume.iops,
            throughput: volume.throughput,
            availability_zone: Some(self.zone.clone()),
            state: Some(match self.state {
                State::InUse => VolumeState::InUse,
                State::Available => VolumeState::Available,
                State::Deleting => VolumeState::Deleting,
            }),
            create_time: Some(self.created_at),
            attachments: Some(match self.state {
                State::InUse => vec![attachment],
                State::Available | State::Deleting => vec![],
            }),
            encrypted: Some(false),
            multi_attach_enabled: Some(false),
            snapshot_id: Some(String::new()),
            tags: Some(tags.collect()),
            ..Volume::default()
        }
    }
}

fn tag_key(tag: &ecs::Tag) -> Option<String> {
    tag.key.clone()
}

/// ECS's own tags, the configuration's, and those of the definition or
/// service where it says so.
fn tags(tx: &Tx, task: &Task, volume: &LaunchVolume) -> Vec<ecs::Tag> {
    let own = ["AmazonECSCreated", "AmazonECSManaged"].map(|key| ecs::Tag {
        key: Some(key.to_owned()),
        value: Some("true".to_owned()),
    });
    let mut tags: Vec<_> = own.into_iter().chain(volume.tags.clone()).collect();
    let passed_on = match volume.propagate_tags {
        Some(PropagateTags::TaskDefinition) => {
            let key = TaskDefinition::key_of(
                &task.account,
                &task.region,
                &task.family,
                task.revision,
            );
            tx.get::<TaskDefinition>(&key).map(|row| row.tags.clone())
        }
        Some(PropagateTags::Service) => task
            .service_key()
            .and_then(|key| tx.get::<Service>(&key))
            .and_then(|row| row.service.tags.clone()),
        Some(PropagateTags::None) | None => None,
    };
    for tag in passed_on.into_iter().flatten() {
        if !tags.iter().any(|known| known.key == tag.key) {
            tags.push(tag);
        }
    }
    tags
}

pub(super) async fn describe_volumes(
    cx: &Context,
    scope: &Scope,
    input: DescribeVolumesRequest,
) -> Result<DescribeVolumesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let ids = ids(input.volume_ids.as_deref().unwrap_or_default());
    let filters = input.filters.as_deref().unwrap_or_default();
    let snapshot = cx.snapshot();
    let within = Key::of([&scope.account, &scope.region]);
    let all: Vec<_> = snapshot
        .scan::<VolumeRow>(&within)
        .filter(|row| row.state != State::Deleting)
        .collect();
    ids.check(|id| all.iter().any(|row| row.id == id))?;
    let mut found = vec![];
    for row in all {
        let fits = passes(filters, |name| row.values(name))?;
        if fits && ids.holds(&row.id) {
            found.push(row);
        }
    }
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |row| &row.id, &ids, input.max_results, token)?;
    let volumes = found.iter().map(|row| row.describe()).collect();
    Ok(DescribeVolumesResult { volumes: Some(volumes), next_token })
}

fn ids(given: &[String]) -> Ids<'_> {
    Ids { given, prefix: "vol-", code: "InvalidVolume", noun: "volume" }
}

pub(super) async fn delete_volume(
    cx: &Context,
    scope: &Scope,
    input: DeleteVolumeRequest,
) -> Result<Empty, ApiError> {
    let id = input.volume_id.unwrap_or_default();
    let dry_run = input.dry_run;
    let scope = scope.clone();
    cx.transact(move |tx| {
        let key = VolumeRow::key_of(&scope.account, &scope.region, &id);
        let known = tx.get::<VolumeRow>(&key);
        let Some(known) = known.filter(|row| row.state != State::Deleting)
        else {
            return Err(error(
                "InvalidVolume.NotFound",
                format!("The volume '{id}' does not exist."),
            ));
        };
        if known.state == State::InUse {
            return Err(error(
                "VolumeInUse",
                format!(
                    "Volume {id} is currently attached to {}",
                    known.task_arn
                ),
            ));
        }
        check_dry_run(dry_run)?;
        tx.put(VolumeRow {
            state: State::Deleting,
            deleted_at: Some(scope.now),
            ..VolumeRow::clone(&known)
        });
        Ok(())
    })
    .await?;
    Ok(Empty {})
}
