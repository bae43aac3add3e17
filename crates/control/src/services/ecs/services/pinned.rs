//! One version of an image for all tasks of a service revision, whatever its
//! tag means by then (developer guide, "Container image resolution").
//!
//! The first task that reports which image it runs decides; containers with
//! `versionConsistency` `disabled` go on by the tag.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_store::{Key, Tx};
use minato_wire::ecs::{self, ContainerImage, VersionConsistency};

use super::super::lookup::Read;
use crate::tables::{Service, ServiceRevision, Task};

/// Images of a revision that is new: as the definition names them.
pub(super) fn images(definition: &ecs::TaskDefinition) -> Vec<ContainerImage> {
    let containers = definition.container_definitions.iter().flatten();
    containers
        .map(|container| ContainerImage {
            container_name: container.name.clone(),
            image: container.image.clone(),
            ..Default::default()
        })
        .collect()
}

/// The revision that a service's task runs.
fn revision(rows: &impl Read, task: &Task) -> Option<Arc<ServiceRevision>> {
    let deployment = &task.service.as_ref()?.deployment;
    let service = rows.row::<Service>(&task.service_key()?)?;
    let mut known = service.deployments.iter();
    let deployment = known.find(|known| known.id == *deployment)?;
    let key: Key = service.owner().key().with(&deployment.revision);
    rows.row::<ServiceRevision>(&key)
}

/// Keeps which images a service's task runs, where its revision does not
/// know yet.
pub(crate) fn learn(
    tx: &mut Tx,
    task: &Task,
    definition: &ecs::TaskDefinition,
) {
    let Some(revision) = revision(tx, task) else { return };
    // Every report of every task comes by here, and few have news.
    let mut known = revision.revision.container_images.iter().flatten();
    if known.all(|image| image.image_digest.is_some()) {
        return;
    }
    let mut learnt = ServiceRevision::clone(&revision);
    let images = learnt.revision.container_images.iter_mut().flatten();
    for image in images.filter(|image| image.image_digest.is_none()) {
        let name = &image.container_name;
        let mut told = task.task.containers.iter().flatten();
        let told = told.find(|container| container.name == *name);
        let mut defined = definition.container_definitions.iter().flatten();
        let is_pinned = defined.find(|it| it.name == *name).is_some_and(|it| {
            it.version_consistency != Some(VersionConsistency::Disabled)
        });
        if is_pinned {
            image.image_digest =
                told.and_then(|container| container.image_digest.clone());
        }
    }
    if learnt != *revision {
        tx.put(learnt);
    }
}

/// The images of a service's task by its containers' names, as far as its
/// revision knows better than the definition: `repository@digest`.
pub(crate) fn of_task(
    rows: &impl Read,
    task: &Task,
) -> BTreeMap<String, String> {
    let Some(revision) = revision(rows, task) else { return BTreeMap::new() };
    let images = revision.revision.container_images.iter().flatten();
    let pinned = images.filter_map(|image| {
        let digest = image.image_digest.as_deref()?;
        let name = image.container_name.clone()?;
        Some((name, by_digest(image.image.as_deref()?, digest)))
    });
    pinned.collect()
}

/// An image's name with a digest in the place of its tag.
fn by_digest(image: &str, digest: &str) -> String {
    if image.contains('@') {
        return image.to_owned();
    }
    // A colon before the last slash is the registry's port.
    let path = image.rfind('/').map_or(0, |slash| slash + 1);
    let tag = image[path..].find(':').map_or(image.len(), |at| path + at);
    format!("{}@{digest}", &image[..tag])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_takes_the_place_of_the_tag() {
        for (given, wanted) in [
            ("web", "web@sha256:a"),
            ("web:1", "web@sha256:a"),
            ("localhost:5000/web", "localhost:5000/web@sha256:a"),
            ("localhost:5000/team/web:1", "localhost:5000/team/web@sha256:a"),
            ("web@sha256:b", "web@sha256:b"),
        ] {
            assert_eq!(by_digest(given, "sha256:a"), wanted);
        }
    }
}
