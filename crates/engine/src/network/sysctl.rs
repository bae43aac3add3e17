//! Kernel settings of the calling thread's network namespace.

use std::fs;
use std::io;

use super::error::{DoingStep, NetworkStepError};

/// Reads a setting named by its path below `/proc/sys/net`.
pub(super) fn get(name: &str) -> Result<String, NetworkStepError> {
    let value = fs::read_to_string(path(name))
        .doing(format_args!("read the kernel setting net/{name}"))?;
    Ok(value.trim().to_owned())
}

/// Writes a setting named by its path below `/proc/sys/net`.
pub(super) fn set(name: &str, value: &str) -> Result<(), NetworkStepError> {
    fs::write(path(name), value)
        .doing(format_args!("set the kernel setting net/{name} to {value}"))
}

/// Writes a setting that a kernel may lack together with what it governs.
pub(super) fn set_if_there(
    name: &str,
    value: &str,
) -> Result<(), NetworkStepError> {
    match set(name, value) {
        Err(error) if error.cause().kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}
