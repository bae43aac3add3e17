//! Environment files: variables from objects in S3, fetched before the
//! container is made.
//!
//! They are ordinary environment, not secrets: as on AWS they lie in the
//! container's specification (the developer guide's "Pass environment
//! variables to an Amazon ECS container" sends secrets elsewhere). No log has
//! them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::OnceCell;

use super::s3_access::{NoAccess, s3_access};
use super::{ContainerContext, Step, StepError};
use crate::objects::{ObjectError, Objects};
use crate::task::plan::ObjectPlan;
use crate::task::record::ContainerFacts;

const KIND: &str = "ResourceInitializationError";
/// The longest line, without its end: that of upstream's reader.
const LINE_BYTES_MAX: usize = 64 << 10;
const NO_CREDENTIALS: &str =
    "environment file resource: unable to find execution role credentials";

type Variables = BTreeMap<String, String>;

/// The variables of a container's environment files, fetched once.
#[derive(Clone, Default)]
pub struct FileCell(Arc<OnceCell<Variables>>);

impl FileCell {
    /// What was fetched so far.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let fetched = self.0.get().into_iter().flatten();
        fetched.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for FileCell {
    // Never prints a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileCell").field(&self.0.initialized()).finish()
    }
}

pub(super) struct FetchFiles;

impl Step<ContainerContext, ContainerFacts> for FetchFiles {
    fn name(&self) -> &'static str {
        "environment files"
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            // One that has started has its environment, and an agent that
            // goes through the steps again must not fail it for a file.
            if cx.plan.environment_files.is_empty()
                || facts.started_at_ms.is_some()
            {
                return Ok(());
            }
            cx.files.0.get_or_try_init(|| fetch(cx)).await.map(drop)
        })
    }

    fn down<'a>(
        &'a self,
        _cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn fetch(cx: &ContainerContext) -> Result<Variables, StepError> {
    let (config, credentials) =
        s3_access(cx).await.map_err(|error| match error {
            NoAccess::Endpoint => failed(cx, &error.to_string()),
            NoAccess::Credentials => StepError::new(KIND, NO_CREDENTIALS),
        })?;
    let clock = &*cx.task.services.clock;
    let objects = Objects::new(config, &credentials, clock)
        .map_err(|error| failed(cx, &error.to_string()))?;
    let files = cx.plan.environment_files.iter();
    let files = files.map(|file| variables_of(&objects, file));
    let mut all = Variables::new();
    let mut failures = vec![];
    for file in join_all(files).await {
        match file {
            // The first file that has a variable holds, as upstream.
            Ok(variables) => {
                for (name, value) in variables {
                    all.entry(name).or_insert(value);
                }
            }
            Err(why) => failures.push(why),
        }
    }
    if failures.is_empty() {
        return Ok(all);
    }
    Err(failed(cx, &failures.join(";")))
}

async fn variables_of(
    objects: &Objects<'_>,
    file: &ObjectPlan,
) -> Result<Variables, String> {
    let ObjectPlan { bucket, key } = file;
    let told = |what: &str, why: &dyn fmt::Display| {
        format!(
            "unable to {what} env file with key {key} from bucket {bucket}, \
             error: {why}"
        )
    };
    let bytes = objects
        .get(bucket, key)
        .await
        .map_err(|error: ObjectError| told("download", &error))?;
    read(&bytes).map_err(|error| told("read", &error))
}

/// Fargate's words before it, where they are to be.
fn failed(cx: &ContainerContext, why: &str) -> StepError {
    if cx.task.plan.is_fargate() {
        let what = "failed to download env files: file download command: non \
                    empty error stream";
        return StepError::new(KIND, format!("{what}: {why}"));
    }
    StepError::new(KIND, why)
}

/// Why the bytes of a file are no variables.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ReadError {
    #[error("it is not UTF-8")]
    NotText,
    #[error("line {0} is longer than {LINE_BYTES_MAX} bytes")]
    LongLine(usize),
    #[error("line {0} has a NUL character")]
    Nul(usize),
}

/// Reads `NAME=VALUE` lines.
///
/// White space and quotes are part of the value, nothing is expanded, and a
/// line that begins with `#` is a comment (developer guide). As upstream, a
/// line without `=` and one whose name or value is empty say nothing, and the
/// last line of a name holds. Unlike upstream, which cuts the value at the
/// next `=`, all after the first is the value, as in Docker's files.
fn read(bytes: &[u8]) -> Result<Variables, ReadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ReadError::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Variables::new();
    for (at, line) in text.lines().enumerate() {
        if line.len() > LINE_BYTES_MAX {
            return Err(ReadError::LongLine(at + 1));
        }
        if line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        if line.contains('\0') {
            return Err(ReadError::Nul(at + 1));
        }
        if !name.is_empty() && !value.is_empty() {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Vec<(String, String)> {
        read(text.as_bytes()).unwrap().into_iter().collect()
    }

    #[test]
    fn a_line_is_a_name_and_a_value_and_nothing_is_expanded() {
        let text = "\u{feff}#A=comment\nA=1\r\n\nB= two  \nC=\"x\" # y\n\
                    D=$A=${B}\nE\nF=\n=G\n  #H=h\nA=2\nLAST='end'";
        let expected = [
            ("  #H", "h"),
            ("A", "2"),
            ("B", " two  "),
            ("C", "\"x\" # y"),
            ("D", "$A=${B}"),
            ("LAST", "'end'"),
        ];
        let expected =
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read_text(text), expected);
        assert_eq!(read_text(""), []);
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        assert_eq!(read(b"A=\xff"), Err(ReadError::NotText));
        assert_eq!(read(b"A=1\nB=\0"), Err(ReadError::Nul(2)));
        let line = |length: usize| format!("\nA={}", "x".repeat(length - 2));
        assert!(read(line(LINE_BYTES_MAX).as_bytes()).is_ok());
        let long = line(LINE_BYTES_MAX + 1);
        assert_eq!(read(long.as_bytes()), Err(ReadError::LongLine(2)));
    }
}
