//! What a session's output is written down in (`executeCommandConfiguration`
//! of the cluster): a log stream with the session's id, an object of S3, or
//! both.
//!
//! All output goes to a [`Spool`] on the disk first, so that neither a slow
//! CloudWatch Logs nor an S3 that is away holds the session up. It is sent
//! to CloudWatch Logs while the session runs, and to S3 at its end. A log that
//! cannot be written is told in the agent's log, and the session goes on.

mod cloudwatch;
mod lines;
mod spool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minato_client::Credentials;
use minato_wire::acs::{ExecuteCommand, SessionLogging};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use self::cloudwatch::Stream;
use self::spool::{Progress, Spool, Writer};
use crate::agent::Services;
use crate::objects::Objects;
use crate::runtime::error_chain;
use crate::task::plan::{ContainerPlan, LogPlan, ObjectPlan, TaskPlan};

/// Pieces of output that may wait for the disk.
const PIECES_MAX: usize = 64;
/// How long the disk may keep a session waiting before it goes unlogged.
const DISK_MAX: Duration = Duration::from_secs(1);
/// How long the end of a session waits for its log.
const FINISH_MAX: Duration = Duration::from_secs(60);
/// For one attempt to put an object.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a session's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    /// A log group and its region.
    log_group: Option<(String, String)>,
    object: Option<ObjectPlan>,
}

impl Places {
    /// Nothing where it goes nowhere.
    fn of(
        order: &ExecuteCommand,
        container: &ContainerPlan,
        region: &str,
    ) -> Option<Places> {
        let places = match (&order.logging, &container.log) {
            (SessionLogging::Default, LogPlan::Awslogs(plan)) => Places {
                log_group: Some((plan.group.clone(), plan.region.clone())),
                object: None,
            },
            (SessionLogging::None | SessionLogging::Default, _) => return None,
            (SessionLogging::Override { log_group, bucket, key_prefix }, _) => {
                let log_group =
                    log_group.clone().map(|name| (name, region.to_owned()));
                let prefix = key_prefix.as_deref().unwrap_or_default();
                let object = bucket.clone().map(|bucket| ObjectPlan {
                    bucket,
                    key: object_key(prefix, &order.session_id),
                });
                Places { log_group, object }
            }
        };
        let has_any = places.log_group.is_some() || places.object.is_some();
        has_any.then_some(places)
    }
}

/// As the SSM agent names it: the prefix is a folder.
fn object_key(prefix: &str, session_id: &str) -> String {
    match prefix.trim_matches('/') {
        "" => format!("{session_id}.log"),
        prefix => format!("{prefix}/{session_id}.log"),
    }
}

/// In whose name the logs are written: the task's role. Without one the SSM
/// agent in a container has the role of its instance; that is the agent's.
#[derive(Clone, Debug)]
struct Author {
    services: Arc<Services>,
    credentials_id: Option<String>,
}

impl Author {
    /// `Err` while the agent was not sent the role's credentials.
    fn credentials(&self) -> Result<Option<Credentials>, NotSent> {
        let Some(id) = &self.credentials_id else { return Ok(None) };
        let set = self.services.credentials.get(id).ok_or(NotSent)?;
        Ok(Some(Credentials {
            access_key_id: set.access_key_id.unwrap_or_default(),
            secret_access_key: set.secret_access_key.unwrap_or_default(),
            session_token: set.session_token.filter(|token| !token.is_empty()),
        }))
    }
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the agent has no credentials of the task's role yet")]
struct NotSent;

/// A session's log, as the session sees it.
#[derive(Debug)]
pub(super) struct Transcript {
    session_id: String,
    pieces: Option<mpsc::Sender<Bytes>>,
    recorder: AbortOnDropHandle<()>,
}

impl Transcript {
    /// Begins to write a session down, if it is to be written anywhere.
    pub(super) fn begin(
        services: &Arc<Services>,
        task: &TaskPlan,
        container: &ContainerPlan,
        order: &ExecuteCommand,
    ) -> Option<Transcript> {
        let region = &services.config.region;
        let places = Places::of(order, container, region)?;
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let session_id = order.session_id.clone();
        let recorder = Recorder {
            author: Author {
                services: Arc::clone(services),
                credentials_id: task.credentials_id.clone(),
            },
            session_id: session_id.clone(),
            places,
        };
        let recorder =
            AbortOnDropHandle::new(tokio::spawn(recorder.run(receiver)));
        Some(Transcript { session_id, pieces: Some(pieces), recorder })
    }

    /// Takes what the terminal showed.
    pub(super) async fn write(&mut self, piece: Bytes) {
        let Some(pieces) = &self.pieces else { return };
        let session = self.session_id.as_str();
        match pieces.send_timeout(piece, DISK_MAX).await {
            Ok(()) => return,
            // The recorder has said why.
            Err(mpsc::error::SendTimeoutError::Closed(_)) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                tracing::error!(
                    session,
                    "the disk is too slow: the rest of the session is not \
                     logged"
                );
            }
        }
        self.pieces = None;
    }

    /// Waits until all is where it belongs, and no longer than it may take.
    pub(super) async fn finish(self) {
        let Transcript { session_id, pieces, recorder } = self;
        drop(pieces);
        if tokio::time::timeout(FINISH_MAX, recorder).await.is_err() {
            tracing::error!(
                session = session_id,
                "the session's log was not written in time"
            );
        }
    }
}

struct Recorder {
    author: Author,
    session_id: String,
    places: Places,
}

impl Recorder {
    async fn run(self, pieces: mpsc::Receiver<Bytes>) {
        let dir = self.author.services.config.dir.clone();
        // Where S3 gets all of it, nothing may go before the end.
        let is_kept = self.places.object.is_some();
        let spool = match Spool::create(dir, is_kept).await {
            Ok(spool) => Arc::new(spool),
            Err(error) => {
                self.warn("its log has no place on the disk", &error);
                return;
            }
        };
        let (progress, seen) = watch::channel(Progress::default());
        let writer = Writer::new(Arc::clone(&spool), progress);
        let record = async {
            let recorded = writer.run(pieces).await;
            match (recorded, &self.places.object) {
                (Ok(sha256), Some(place)) => {
                    self.upload(place, spool::Whole::of(&spool, sha256)).await;
                }
                (Ok(_), None) => {}
                (Err(error), _) => self.warn("its log is cut off", &error),
            }
        };
        let Some((group, region)) = self.places.log_group.clone() else {
            return record.await;
        };
        let stream = Stream::new(
            self.author.clone(),
            group,
            region,
            self.session_id.clone(),
        );
        let ship = async {
            if let Err(error) = stream.run(&spool, seen).await {
                self.warn("it is not logged in CloudWatch Logs", &error);
            }
        };
        if is_kept {
            tokio::join!(record, ship);
            return;
        }
        tokio::pin!(record, ship);
        tokio::select! {
            // Nobody is left to write for.
            () = &mut ship => {}
            () = &mut record => ship.await,
        }
    }

    async fn upload(&self, place: &ObjectPlan, object: spool::Whole) {
        if let Err(error) = self.put(place, &object).await {
            tracing::error!(
                session = self.session_id,
                bucket = place.bucket,
                key = place.key,
                error,
                "a session's log was not put into S3"
            );
        }
    }

    async fn put(
        &self,
        place: &ObjectPlan,
        object: &spool::Whole,
    ) -> Result<(), String> {
        let services = &self.author.services;
        let config = services.config.s3.as_ref().ok_or_else(|| {
            "this agent knows no endpoint of S3 (--s3-endpoint)".to_owned()
        })?;
        let credentials = match &config.credentials {
            Some(credentials) => credentials.clone(),
            None => self
                .author
                .credentials()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "the task has no role".to_owned())?,
        };
        let chain = |error| error_chain(&error);
        let objects = Objects::new(config, &credentials, &*services.clock)
            .map_err(chain)?;
        objects
            .put(&place.bucket, &place.key, object, PUT_TIMEOUT)
            .await
            .map_err(chain)
    }

    fn warn(&self, what: &str, error: &dyn std::error::Error) {
        tracing::error!(
            session = self.session_id,
            error = error_chain(error),
            "a session: {what}"
        );
    }
}
