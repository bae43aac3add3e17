//! When a task's image is asked for at its registry.

use std::{fmt, str::FromStr};

/// When to ask the registry: ECS' `ECS_IMAGE_PULL_BEHAVIOR`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullBehavior {
    /// Pull; if that fails, the image that is here will do.
    #[default]
    Default,
    /// Pull; if that fails, fail.
    Always,
    /// Pull what was not pulled before (a loaded image was not).
    Once,
    /// Pull only what is not here.
    PreferCached,
}

/// The words that `ECS_IMAGE_PULL_BEHAVIOR` takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of default, always, once, prefer-cached")]
pub struct ParsePullBehaviorError(String);

impl FromStr for PullBehavior {
    type Err = ParsePullBehaviorError;

    fn from_str(text: &str) -> Result<PullBehavior, ParsePullBehaviorError> {
        Ok(match text {
            "default" => PullBehavior::Default,
            "always" => PullBehavior::Always,
            "once" => PullBehavior::Once,
            "prefer-cached" => PullBehavior::PreferCached,
            other => return Err(ParsePullBehaviorError(other.to_owned())),
        })
    }
}

impl fmt::Display for PullBehavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PullBehavior::Default => "default",
            PullBehavior::Always => "always",
            PullBehavior::Once => "once",
            PullBehavior::PreferCached => "prefer-cached",
        })
    }
}
