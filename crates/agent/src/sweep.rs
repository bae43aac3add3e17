//! Removes what is left of volumes: the files of those that outlived their
//! tasks and were deleted since, and what could not be removed with its task.
//!
//! Of the former only what the control plane says was deleted is removed: one
//! that it does not know may be somebody's data all the same.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use minato_wire::minato::{SweepVolumesRequest, SweepVolumesResponse};

use crate::agent::Services;
use crate::api::{ApiService, call};
use crate::engine::TaskEngine;
use crate::steps::volumes::{clear, ebs_dir, ebs_file, remove_image};
use crate::task::attachment_decode::is_volume_id;

/// How often it looks; with no volumes kept it only reads a directory.
const EVERY: Duration = Duration::from_secs(2);

/// Volumes of one call.
const VOLUMES_MAX: usize = 1000;

/// Sweeps for ever.
pub(crate) async fn run(services: Arc<Services>, engine: TaskEngine) {
    loop {
        finish(&services, &engine).await;
        pass(&services, &engine).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// Undoes what was not undone when its task was.
async fn finish(services: &Services, engine: &TaskEngine) {
    let mut left = names(&services.config.dir.join("mounts")).await;
    let files = volumes(services).await.unwrap_or_default();
    if left.is_empty() && files.is_empty() {
        return;
    }
    for cx in engine.stopped_with_volumes() {
        let has_file = cx.plan.volumes.values().any(|volume| {
            volume.goes_with_task()
                && volume
                    .ebs_id()
                    .is_some_and(|id| files.iter().any(|f| f == id))
        });
        if !left.remove(&cx.plan.id) && !has_file {
            continue;
        }
        if let Err(error) = clear(&cx).await {
            tracing::warn!(task = cx.plan.id, %error, "its volumes are left");
        }
    }
}

/// What a directory has in it; nothing where it cannot be read.
async fn names(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return names };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.extend(entry.file_name().into_string());
    }
    names
}

/// Asks about every volume here that no task has, and removes the deleted.
async fn pass(services: &Services, engine: &TaskEngine) {
    let used: BTreeSet<String> = engine.volume_ids();
    let mut kept = match volumes(services).await {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%error, "kept volumes cannot be listed");
            return;
        }
    };
    kept.retain(|id| !used.contains(id));
    kept.truncate(VOLUMES_MAX);
    if kept.is_empty() {
        return;
    }
    let asked = SweepVolumesRequest {
        volume_ids: Some(kept),
        ..SweepVolumesRequest::default()
    };
    let deleted = match sweep(services, &asked).await {
        Some(answer) => answer.deleted_volume_ids.unwrap_or_default(),
        None => return,
    };
    let mut removed = vec![];
    for id in deleted.into_iter().filter(|id| is_volume_id(id)) {
        let file = ebs_file(&services.config, &id);
        match remove_image(&file).await {
            Err(error) => {
                tracing::warn!(id, %error, "a deleted volume is still here");
            }
            Ok(()) => removed.push(id),
        }
    }
    if !removed.is_empty() {
        let told = SweepVolumesRequest {
            removed_volume_ids: Some(removed),
            ..SweepVolumesRequest::default()
        };
        // Where it is not heard, the rows are forgotten later.
        let _ = sweep(services, &told).await;
    }
}

async fn sweep(
    services: &Services,
    input: &SweepVolumesRequest,
) -> Option<SweepVolumesResponse> {
    let region = &services.config.region;
    let called =
        call(&*services.api, ApiService::Minato, region, "SweepVolumes", input);
    match called.await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(%error, "kept volumes were not swept");
            None
        }
    }
}

/// The ids of the volumes whose files are here.
async fn volumes(services: &Services) -> std::io::Result<Vec<String>> {
    let mut ids = vec![];
    let mut entries = match tokio::fs::read_dir(ebs_dir(&services.config)).await
    {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(ids),
        Err(error) => return Err(error),
    };
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| {
            // Or what one that was killed left of making it.
            name.strip_suffix(".img").or_else(|| name.strip_suffix(".new"))
        });
        ids.extend(id.filter(|id| is_volume_id(id)).map(str::to_owned));
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Rig;

    #[tokio::test(start_paused = true)]
    async fn only_deleted_volumes_go() {
        let rig = Rig::new();
        let services = rig.services();
        let engine = TaskEngine::open(Arc::clone(&services)).unwrap();
        let file = |id: &str| ebs_file(&services.config, id);
        let dir = ebs_dir(&services.config);
        pass(&services, &engine).await;
        assert!(rig.api.calls("SweepVolumes").is_empty(), "none are kept");
        std::fs::create_dir_all(&dir).unwrap();
        for id in ["vol-1", "vol-2"] {
            std::fs::write(file(id), "").unwrap();
        }
        let unfinished = dir.join("vol-2.new");
        std::fs::write(&unfinished, "").unwrap();
        std::fs::write(dir.join("other.txt"), "").unwrap();
        rig.api.state.lock().deleted_volumes = vec!["vol-2".into()];
        pass(&services, &engine).await;
        assert!(file("vol-1").exists() && !file("vol-2").exists());
        assert!(!unfinished.exists());
        assert!(dir.join("other.txt").exists());
        let calls = rig.api.calls("SweepVolumes");
        assert_eq!(calls[1]["removedVolumeIds"][0], "vol-2");
        // A control plane that says what it must not.
        rig.api.state.lock().deleted_volumes = vec!["../other.txt".into()];
        pass(&services, &engine).await;
        assert!(dir.join("other.txt").exists());
    }
}
