//! Log groups and log streams; their events are in [`crate::logs`].

use std::collections::BTreeMap;

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use minato_wire::logs::LogGroupClass;
use serde::{Deserialize, Serialize};

use crate::logs::{GroupId, StreamId};

/// A log group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogGroupRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) name: String,
    /// Names the directory of its events; 32 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) retention_days: Option<i32>,
    pub(crate) class: LogGroupClass,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
}

impl LogGroupRow {
    pub(crate) fn key_of(account: &str, region: &str, name: &str) -> Key {
        Key::of([account, region, name])
    }

    pub(crate) fn group_id(&self) -> GroupId {
        GroupId(number(&self.id))
    }

    /// The ARN without the `:*` that stands for its streams.
    pub(crate) fn arn(&self) -> String {
        let LogGroupRow { account, region, name, .. } = self;
        let partition = crate::services::partition_of(region);
        format!("arn:{partition}:logs:{region}:{account}:log-group:{name}")
    }

    /// Events before this time are expired.
    pub(crate) fn expire_before(&self, now: Timestamp) -> i64 {
        self.retention_days.map_or(i64::MIN, |days| {
            now.plus_millis(-i64::from(days) * DAY_MS).as_millis()
        })
    }
}

/// A day in milliseconds.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Row for LogGroupRow {
    const TABLE: &'static str = "logs.group";

    fn key(&self) -> Key {
        LogGroupRow::key_of(&self.account, &self.region, &self.name)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![(LogGroupRow::BY_ID, Key::of([&self.id]))]
    }
}

impl LogGroupRow {
    /// Index over the id.
    pub(crate) const BY_ID: &'static str = "id";
}

/// A log stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogStreamRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) group: String,
    pub(crate) name: String,
    /// Stands for the stream in the group's segments; 32 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
}

impl LogStreamRow {
    /// Index over the id.
    pub(crate) const BY_ID: &'static str = "id";

    pub(crate) fn key_of(group: &LogGroupRow, name: &str) -> Key {
        Key::of([&group.account, &group.region, &group.name, name])
    }

    /// The prefix of the keys of a group's streams.
    pub(crate) fn prefix_of(group: &LogGroupRow) -> Key {
        Key::of([&group.account, &group.region, &group.name])
    }

    pub(crate) fn id_key(id: StreamId) -> Key {
        Key::of([hex(id.0)])
    }

    pub(crate) fn stream_id(&self) -> StreamId {
        StreamId(number(&self.id))
    }

    pub(crate) fn arn(&self) -> String {
        let LogStreamRow { account, region, group, name, .. } = self;
        let partition = crate::services::partition_of(region);
        format!(
            "arn:{partition}:logs:{region}:{account}:log-group:{group}\
             :log-stream:{name}"
        )
    }

    /// What PutLogEvents hands out as the next sequence token. AWS still
    /// sends one and no longer reads it.
    pub(crate) fn sequence_token(&self) -> String {
        format!("49{:054}", self.stream_id().0 % 10_u128.pow(38))
    }
}

impl Row for LogStreamRow {
    const TABLE: &'static str = "logs.stream";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.group, &self.name])
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![(LogStreamRow::BY_ID, Key::of([&self.id]))]
    }
}

/// How rows write an id.
pub(crate) fn hex(id: u128) -> String {
    format!("{id:032x}")
}

fn number(hex: &str) -> u128 {
    // Rows are written by `hex`; nothing else ever fills them.
    u128::from_str_radix(hex, 16).unwrap_or_default()
}
