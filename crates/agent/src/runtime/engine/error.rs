//! The engine's errors, as the agent tells them apart.

use minato_engine::container::ContainerError;
use minato_engine::image::{PullImageError, RegistryError};

use crate::runtime::{RuntimeError, RuntimeErrorKind, error_chain};

pub(super) fn other(error: &dyn std::error::Error) -> RuntimeError {
    RuntimeError::chain(RuntimeErrorKind::Other, error)
}

pub(super) fn container_error(error: ContainerError) -> RuntimeError {
    let kind = if matches!(error, ContainerError::NotFound { .. }) {
        RuntimeErrorKind::NotFound
    } else {
        RuntimeErrorKind::Other
    };
    RuntimeError::chain(kind, &error)
}

/// Docker's words for a failed pull, as ECS passes them on.
pub(super) fn pull_error(error: &PullImageError) -> RuntimeError {
    let kind = match error {
        PullImageError::Registry(registry) => match &**registry {
            RegistryError::ManifestNotFound { .. } => {
                RuntimeErrorKind::Manifest
            }
            RegistryError::Unauthorized { .. } => {
                RuntimeErrorKind::Unauthorized
            }
            RegistryError::AccessDenied { .. }
            | RegistryError::RepositoryNotFound { .. }
            | RegistryError::TooManyRequests { .. }
            | RegistryError::Status { .. }
            | RegistryError::Unreachable { .. }
            | RegistryError::Interrupted { .. }
            | RegistryError::TimedOut { .. }
            | RegistryError::Protocol { .. }
            | RegistryError::WrongDigest { .. } => RuntimeErrorKind::Other,
        },
        PullImageError::Manifest(_) => RuntimeErrorKind::Manifest,
        PullImageError::Layer { .. }
        | PullImageError::Store { .. }
        | PullImageError::Interrupted => RuntimeErrorKind::Other,
    };
    let message = format!("Error response from daemon: {}", error_chain(error));
    RuntimeError::new(kind, message)
}
