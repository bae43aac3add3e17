//! Secrets with all their versions.

use std::collections::{BTreeMap, BTreeSet};

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use minato_wire::secretsmanager::RotationRulesType;
use serde::{Deserialize, Serialize};

use crate::seal::Sealed;

/// The label of the version that is read where none is named.
pub(super) const CURRENT: &str = "AWSCURRENT";
/// The label of the version that was current before.
pub(super) const PREVIOUS: &str = "AWSPREVIOUS";

/// A day in milliseconds.
pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SecretRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) name: String,
    /// The six characters that end its ARN.
    pub(crate) suffix: String,
    pub(crate) description: Option<String>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// By version id.
    pub(crate) versions: BTreeMap<String, Version>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) policy: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) changed_at: Timestamp,
    /// The day of the last read.
    pub(crate) accessed_at: Option<Timestamp>,
    /// When its deletion was asked for.
    pub(crate) deleted_at: Option<Timestamp>,
    /// When it is deleted for good.
    pub(crate) gone_at: Option<Timestamp>,
}

/// One value of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) value: Sealed,
    pub(crate) is_binary: bool,
    pub(crate) stages: BTreeSet<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) accessed_at: Option<Timestamp>,
}

/// A rotation schedule; nothing here runs the function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) is_enabled: bool,
    pub(crate) lambda_arn: String,
    pub(crate) rules: Option<RotationRulesType>,
    pub(crate) since: Timestamp,
}

impl SecretRow {
    pub(crate) fn key_of(account: &str, region: &str, name: &str) -> Key {
        Key::of([account, region, name])
    }

    pub(crate) fn arn(&self) -> String {
        let SecretRow { account, region, name, suffix, .. } = self;
        let partition = crate::services::partition_of(region);
        format!(
            "arn:{partition}:secretsmanager:{region}:{account}:secret:\
             {name}-{suffix}"
        )
    }

    /// The place that a version's value is sealed for.
    pub(crate) fn place(&self, version: &str) -> String {
        format!("{}#{version}", self.arn())
    }

    /// The version with a label.
    pub(crate) fn staged(&self, stage: &str) -> Option<(&String, &Version)> {
        self.versions.iter().find(|(_, it)| it.stages.contains(stage))
    }

    /// Gives a label to one version alone. The version that was current
    /// before becomes the previous one; the current one is never previous.
    pub(crate) fn label(&mut self, stage: &str, version: &str) {
        let before = self.staged(stage).map(|(id, _)| id.clone());
        if before.as_deref() == Some(version)
            || !self.versions.contains_key(version)
            || (stage == PREVIOUS && self.is_current(version))
        {
            return;
        }
        for (id, it) in &mut self.versions {
            if id == version {
                it.stages.insert(stage.to_owned());
            } else {
                it.stages.remove(stage);
            }
        }
        if stage != CURRENT {
            return;
        }
        if let Some(it) = self.versions.get_mut(version) {
            it.stages.remove(PREVIOUS);
        }
        if let Some(before) = before {
            self.label(PREVIOUS, &before);
        }
    }

    pub(crate) fn is_current(&self, version: &str) -> bool {
        self.staged(CURRENT).is_some_and(|(id, _)| id == version)
    }

    /// Labels by version, deprecated versions left out.
    pub(crate) fn stages(&self) -> BTreeMap<String, Vec<String>> {
        self.versions
            .iter()
            .filter(|(_, it)| !it.stages.is_empty())
            .map(|(id, it)| (id.clone(), it.stages.iter().cloned().collect()))
            .collect()
    }

    /// Whether a read of today is noted. Days are all that is kept (API
    /// reference, SecretVersionsListEntry).
    pub(crate) fn is_touched(&self, version: &str, now: Timestamp) -> bool {
        let today = Some(day_of(now));
        let version = self.versions.get(version);
        self.accessed_at == today
            && version.is_none_or(|it| it.accessed_at == today)
    }

    pub(crate) fn touch(&mut self, version: &str, now: Timestamp) {
        self.accessed_at = Some(day_of(now));
        if let Some(it) = self.versions.get_mut(version) {
            it.accessed_at = self.accessed_at;
        }
    }
}

fn day_of(time: Timestamp) -> Timestamp {
    let millis = time.as_millis();
    Timestamp::from_millis(millis - millis.rem_euclid(DAY_MS))
}

impl Row for SecretRow {
    const TABLE: &'static str = "secretsmanager.secret";

    fn key(&self) -> Key {
        SecretRow::key_of(&self.account, &self.region, &self.name)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        match self.gone_at {
            Some(_) => vec![("leaving", self.key())],
            None => vec![],
        }
    }
}
