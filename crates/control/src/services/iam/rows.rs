//! Roles and policies; IAM has no regions.

use std::collections::BTreeMap;

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// A role. Minato keeps its policies and does not evaluate them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoleRow {
    pub(crate) account: String,
    pub(crate) name: String,
    /// `/` or `/a/b/`.
    pub(crate) path: String,
    /// `AROA` and 17 more characters.
    pub(crate) id: String,
    pub(crate) partition: String,
    pub(crate) trust: String,
    pub(crate) description: Option<String>,
    pub(crate) max_session_seconds: i32,
    pub(crate) boundary: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// ARNs of attached managed policies.
    pub(crate) attached: Vec<String>,
    /// Inline policies by name.
    pub(crate) inline: BTreeMap<String, String>,
    pub(crate) created_at: Timestamp,
}

impl RoleRow {
    /// Names differ in more than case, so the key has none.
    pub(crate) fn key_of(account: &str, name: &str) -> Key {
        Key::of([account, &name.to_ascii_lowercase()])
    }

    pub(crate) fn arn(&self) -> String {
        let RoleRow { account, name, path, partition, .. } = self;
        format!("arn:{partition}:iam::{account}:role{path}{name}")
    }
}

impl Row for RoleRow {
    const TABLE: &'static str = "iam.role";

    fn key(&self) -> Key {
        RoleRow::key_of(&self.account, &self.name)
    }
}

/// A managed policy of the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) path: String,
    /// `ANPA` and 17 more characters.
    pub(crate) id: String,
    pub(crate) partition: String,
    pub(crate) description: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) versions: Vec<PolicyVersion>,
    /// The number of the default version.
    pub(crate) default_version: u32,
    /// Numbers are never used again.
    pub(crate) next_version: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PolicyVersion {
    pub(crate) number: u32,
    pub(crate) document: String,
    pub(crate) created_at: Timestamp,
}

impl PolicyRow {
    pub(crate) fn key_of(account: &str, name: &str) -> Key {
        Key::of([account, &name.to_ascii_lowercase()])
    }

    pub(crate) fn arn(&self) -> String {
        let PolicyRow { account, name, path, partition, .. } = self;
        format!("arn:{partition}:iam::{account}:policy{path}{name}")
    }
}

impl Row for PolicyRow {
    const TABLE: &'static str = "iam.policy";

    fn key(&self) -> Key {
        PolicyRow::key_of(&self.account, &self.name)
    }
}
