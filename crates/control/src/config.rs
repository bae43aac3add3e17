//! What an operator decides about a control plane.

use minato_core::service::Pace;

use crate::call::Credential;
use crate::seal::SealKey;

/// Settings of a control plane that do not change while it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account of the root credential.
    pub account: String,
    /// The region assumed where a call does not say.
    pub region: String,
    /// Long-term credentials: the root's, and that of the local agent.
    pub credentials: Vec<Credential>,
    /// The URL that agents connect back to, as `DiscoverPollEndpoint` says.
    pub poll_endpoint: String,
    /// How long a stopped task stays describable. ECS promises "at least one
    /// hour" (developer guide, task lifecycle).
    pub stopped_task_retention_ms: i64,
    /// What seals secrets and parameters at rest.
    pub seal_key: SealKey,
    /// Blocks of addresses that no VPC may have, such as that of bridge-mode
    /// containers: `172.17.0.0/16`.
    pub reserved_ranges: Vec<String>,
    /// How patient the service scheduler is.
    pub pace: Pace,
}

impl Config {
    /// Defaults for one account and region.
    pub fn new(
        account: impl Into<String>,
        region: impl Into<String>,
        seal_key: SealKey,
    ) -> Config {
        Config {
            account: account.into(),
            region: region.into(),
            credentials: vec![],
            poll_endpoint: "http://127.0.0.1:4566".to_owned(),
            stopped_task_retention_ms: 60 * 60 * 1000,
            seal_key,
            reserved_ranges: vec![],
            pace: Pace::FAST,
        }
    }
}
