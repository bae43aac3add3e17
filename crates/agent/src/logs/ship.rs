//! From the log files to a receiver of records: Fluentd, syslog, GELF, the
//! journal, or Docker's own files.
//!
//! Records arrive in order, and at least once: the place in the log is kept
//! only after they were taken, and after a break the last batch is sent
//! again. A receiver that acknowledges (`fluentd-request-ack`) loses none;
//! one that does not may lose what it had taken and not yet read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::Mark;
use super::checkpoint::Checkpoint;
use super::connection::{Connection, Destination, SendLogError};
use super::gelf;
use super::pump::{Pump, READ_AGAIN, RunWatch};
use super::record::{Piece, Pieces, Writer};
use crate::agent::Services;
use crate::backoff::Backoff;
use crate::runtime::{LogChunk, LogPosition, LogSource, error_chain};
use crate::task::plan::{LogAddress, RecordForm, RemotePlan};

/// How long to wait for lines when there are none.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// Longest wait between two attempts, as Docker's.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// After the container's last end, what cannot be delivered is given up.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// Most records whose acknowledgements are outstanding.
const ACKS_MAX: usize = 100;

/// What a shipper needs to know.
#[derive(Debug)]
pub(crate) struct Shipment {
    pub(crate) plan: RemotePlan,
    pub(crate) writer: Writer,
    pub(crate) to: Destination,
    pub(crate) container_id: String,
    pub(crate) checkpoint: PathBuf,
    /// Whether the engine's own files stay, as they are read elsewhere, too.
    pub(crate) keeps_log: bool,
    pub(crate) is_resumed: bool,
}

/// Begins to send a container's log.
pub(crate) fn spawn(services: Arc<Services>, shipment: Shipment) -> Pump {
    Pump::start(move |runs| {
        let pieces = Pieces::new(Arc::clone(&services.ids));
        let watch = runs.clone();
        let id = shipment.container_id.clone();
        let it = shipment;
        let shipper = Shipper {
            services,
            it,
            pieces,
            runs,
            connection: None,
            is_down: false,
        };
        async move {
            tokio::select! {
                () = shipper.run() => {}
                () = given_up(watch) => tracing::warn!(
                    container = id,
                    "its last log records could not be delivered"
                ),
            }
        }
    })
}

async fn given_up(watch: RunWatch) {
    watch.last_end().await;
    tokio::time::sleep(LAST_PATIENCE).await;
}

struct Shipper {
    services: Arc<Services>,
    it: Shipment,
    pieces: Pieces,
    runs: RunWatch,
    /// Since when it is there.
    connection: Option<(Connection, Instant)>,
    /// Whether that was already said.
    is_down: bool,
}

impl Shipper {
    async fn run(mut self) {
        let checkpoint = if self.it.is_resumed {
            Checkpoint::load(&self.it.checkpoint).await
        } else {
            Checkpoint::default()
        };
        let mut source = self.open(checkpoint.position.as_ref()).await;
        loop {
            let max = self.it.plan.batch_max;
            let chunk = match source.next(max, IDLE_WAIT).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.warn("its log cannot be read", &error);
                    if self.runs.ends_within(READ_AGAIN).await {
                        return;
                    }
                    continue;
                }
            };
            let is_end = chunk.end;
            self.ship(chunk).await;
            if let Some(position) = self.pieces.whole() {
                self.keep(position, source.as_mut()).await;
            }
            if is_end && !self.runs.is_started_again().await {
                return;
            }
        }
    }

    fn warn(&self, what: &str, error: &dyn std::error::Error) {
        let error = error_chain(error);
        tracing::warn!(container = self.it.container_id, error, "{what}");
    }

    async fn open(&self, from: Option<&LogPosition>) -> Box<dyn LogSource> {
        let mut backoff =
            Backoff::new(Duration::from_millis(100), RETRY_MAX, 2.0);
        loop {
            let runtime = &self.services.runtime;
            match runtime.log_open(&self.it.container_id, from).await {
                Ok(source) => return source,
                Err(error) => self.warn("its log cannot be opened", &error),
            }
            tokio::time::sleep(backoff.next_delay(0)).await;
        }
    }

    /// Sends the lines of a chunk.
    async fn ship(&mut self, chunk: LogChunk) {
        if chunk.lost_lines > 0 {
            tracing::warn!(
                container = self.it.container_id,
                lines = chunk.lost_lines,
                "log lines were overwritten before they could be sent"
            );
        }
        let form = self.it.plan.form;
        let mut records = vec![];
        let mut ids = vec![];
        for (line, position) in chunk.lines {
            let part = self.pieces.note(&line, position);
            let piece = Piece { line: &line, part };
            let id = is_acknowledged(form)
                .then(|| format!("{:032x}", self.services.ids.uuid()));
            let record = self.it.writer.encode(form, &piece, id.as_deref());
            let Some(record) = record else { continue };
            match self.frame(record) {
                Ok(framed) => records.extend(framed),
                Err(error) => self.warn("a log record was refused", &error),
            }
            ids.extend(id);
        }
        if is_acknowledged(form) {
            let batches = records.chunks(ACKS_MAX).zip(ids.chunks(ACKS_MAX));
            for (records, ids) in batches {
                self.deliver(records, ids).await;
            }
        } else if !records.is_empty() {
            self.deliver(&records, &[]).await;
        }
    }

    /// A record as it goes over the connection.
    fn frame(&self, mut record: Vec<u8>) -> std::io::Result<Vec<Vec<u8>>> {
        let RecordForm::Gelf { compression } = self.it.plan.form else {
            return Ok(vec![record]);
        };
        if matches!(self.it.plan.address, LogAddress::Udp(_)) {
            let id = self.services.ids.seed();
            return gelf::datagrams(&record, compression, id);
        }
        record.push(0);
        Ok(vec![record])
    }

    /// Sends records until they have arrived, or were tried often enough.
    async fn deliver(&mut self, records: &[Vec<u8>], ids: &[String]) {
        let first = self.it.plan.retry_wait;
        let mut backoff = Backoff::new(first, RETRY_MAX.max(first), 1.5);
        let mut attempt = 1;
        while let Err(error) = self.try_deliver(records, ids).await {
            self.connection = None;
            if !std::mem::replace(&mut self.is_down, true) {
                self.warn("log records cannot be delivered for now", &error);
            }
            if attempt >= self.it.plan.max_attempts {
                self.warn("log records were given up", &error);
                return;
            }
            attempt += 1;
            let seed = self.services.ids.seed();
            tokio::time::sleep(backoff.next_delay(seed)).await;
        }
        self.is_down = false;
    }

    async fn try_deliver(
        &mut self,
        records: &[Vec<u8>],
        ids: &[String],
    ) -> Result<(), SendLogError> {
        let every = self.it.plan.reconnect_every;
        let is_old = |since: Instant| {
            every.is_some_and(|every| since.elapsed() >= every)
        };
        let (mut connection, since) = match self.connection.take() {
            Some((connection, since)) if !is_old(since) => (connection, since),
            Some(_) | None => {
                (Connection::open(&self.it.to).await?, Instant::now())
            }
        };
        connection.send(&self.it.to, records).await?;
        connection.acknowledged(&self.it.to, ids).await?;
        self.connection = Some((connection, since));
        Ok(())
    }

    /// Notes how far the log was delivered.
    async fn keep(&self, position: LogPosition, source: &mut dyn LogSource) {
        let position = Some(position);
        let checkpoint = Checkpoint::of(&Mark { position, ..Mark::default() });
        let path = self.it.checkpoint.clone();
        if let Err(error) = checkpoint.save(path).await {
            self.warn("the place in its log cannot be kept", &error);
            return;
        }
        if let Some(position) = &checkpoint.position
            && !self.it.keeps_log
            && let Err(error) = source.acknowledge(position).await
        {
            self.warn("its log cannot be freed", &error);
        }
    }
}

fn is_acknowledged(form: RecordForm) -> bool {
    matches!(form, RecordForm::Forward { is_acknowledged: true, .. })
}
