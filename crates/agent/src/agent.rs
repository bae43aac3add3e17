//! The agent's parts put together.

use std::fmt;
use std::sync::Arc;

use minato_core::env::{Clock, Ids};

use crate::api::Api;
use crate::config::AgentConfig;
use crate::runtime::Runtime;

/// The world, as the agent's parts see it.
pub struct Services {
    /// The container engine.
    pub runtime: Arc<dyn Runtime>,
    /// The control plane's API.
    pub api: Arc<dyn Api>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub ids: Arc<dyn Ids>,
    /// Settings.
    pub config: AgentConfig,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
