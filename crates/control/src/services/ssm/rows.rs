//! Parameters with all their versions.

use std::collections::BTreeMap;
use std::iter;

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use minato_wire::ssm::{ParameterTier, ParameterType};
use serde::{Deserialize, Serialize};

use crate::seal::Sealed;

/// A parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParameterRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// The versions before the newest, oldest first.
    pub(crate) older: Vec<ParameterVersion>,
    pub(crate) newest: ParameterVersion,
}

/// A version of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParameterVersion {
    /// From 1 on.
    pub(crate) number: i64,
    pub(crate) r#type: ParameterType,
    /// Sealed for [`ParameterRow::place`], whatever the type.
    pub(crate) value: Sealed,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) allowed_pattern: Option<String>,
    /// Standard or Advanced: the tier it became.
    pub(crate) tier: ParameterTier,
    /// Of a SecureString.
    #[serde(default)]
    pub(crate) key_id: Option<String>,
    pub(crate) data_type: String,
    /// In the order they were attached.
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    pub(crate) modified_at: Timestamp,
    /// The caller's ARN.
    pub(crate) modified_by: String,
}

impl ParameterRow {
    pub(crate) fn key_of(account: &str, region: &str, name: &str) -> Key {
        Key::of([account, region, name])
    }

    /// The prefix of the keys of an account's parameters in a region.
    pub(crate) fn prefix_of(account: &str, region: &str) -> Key {
        Key::of([account, region])
    }

    pub(crate) fn arn(&self) -> String {
        arn(&self.account, &self.region, &self.name)
    }

    /// What a version's value is sealed for, so that it opens nowhere else.
    pub(crate) fn place(&self, number: i64) -> String {
        place(&self.arn(), number)
    }

    /// All versions, oldest first.
    pub(crate) fn versions(
        &self,
    ) -> impl DoubleEndedIterator<Item = &ParameterVersion> {
        self.older.iter().chain(iter::once(&self.newest))
    }

    /// All versions, to be changed.
    pub(crate) fn versions_mut(
        &mut self,
    ) -> impl DoubleEndedIterator<Item = &mut ParameterVersion> {
        self.older.iter_mut().chain(iter::once(&mut self.newest))
    }
}

impl Row for ParameterRow {
    const TABLE: &'static str = "ssm.parameter";

    fn key(&self) -> Key {
        ParameterRow::key_of(&self.account, &self.region, &self.name)
    }
}

/// The ARN of a parameter: the slash a name begins with is that of the ARN.
pub(crate) fn arn(account: &str, region: &str, name: &str) -> String {
    let partition = crate::services::partition_of(region);
    let name = name.strip_prefix('/').unwrap_or(name);
    format!("arn:{partition}:ssm:{region}:{account}:parameter/{name}")
}

/// What the value of a version of the parameter with this ARN is sealed for.
pub(crate) fn place(arn: &str, number: i64) -> String {
    format!("{arn}#{number}")
}
