//! A layer's bytes, from whichever endpoint gives them, to a blocking reader.
//!
//! A transfer that breaks off goes on at the byte where it broke, at the same
//! endpoint or the next: a digest names the same bytes everywhere.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::{StatusCode, header};
use tokio::sync::mpsc;

use super::{
    Digest, RegistryClient, RegistryError, Repository, Response, header_text,
    http::Request,
};

/// Pieces (16 KiB or so each) that wait for the unpacker.
const PIECES: usize = 64;

enum Piece {
    Data(Bytes),
    End,
}

/// What to transfer, and from where.
pub(crate) struct Transfer<'a> {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Tried in this order.
    pub(crate) sources: &'a [Repository<'a>],
    pub(crate) client: &'a RegistryClient,
}

/// How a transfer ended, if not in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transferred {
    Whole,
    /// The reader did not want more; it knows why.
    Refused,
}

/// Reads what a transfer sends; for a thread of its own.
pub(crate) struct BlobReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    is_ended: bool,
}

impl<'a> Transfer<'a> {
    /// Makes the reading and the sending side of a transfer.
    pub(crate) fn channel() -> (BlobSender, BlobReader) {
        let (sender, pieces) = mpsc::channel(PIECES);
        let current = Bytes::new();
        (BlobSender(sender), BlobReader { pieces, current, is_ended: false })
    }

    /// Sends the whole blob, reporting bytes as they go.
    pub(crate) async fn run(
        &self,
        sender: BlobSender,
        report: impl Fn(u64),
    ) -> Result<Transferred, RegistryError> {
        let mut position = 0;
        let mut last = None;
        for source in self.sources {
            match self.from(source, &sender, &mut position, &report).await {
                Ok(transferred) => return Ok(transferred),
                Err(error) => {
                    tracing::debug!(digest = %self.digest, %error, "a source of a layer failed");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            RegistryError::protocol("(none)", "nobody to ask")
        }))
    }

    async fn from(
        &self,
        source: &Repository<'_>,
        sender: &BlobSender,
        position: &mut u64,
        report: &impl Fn(u64),
    ) -> Result<Transferred, RegistryError> {
        let attempts = self.client.config.timeouts.attempts;
        let mut attempt = 1;
        loop {
            let before = *position;
            let error = match self.once(source, sender, position, report).await
            {
                Ok(transferred) => return Ok(transferred),
                Err(error) => error,
            };
            // What brings bytes may break as often as it likes.
            attempt = if *position > before { 1 } else { attempt + 1 };
            if !error.is_passing() || attempt > attempts {
                return Err(error);
            }
            self.client.back_off(attempt, &error).await;
        }
    }

    async fn once(
        &self,
        source: &Repository<'_>,
        sender: &BlobSender,
        position: &mut u64,
        report: &impl Fn(u64),
    ) -> Result<Transferred, RegistryError> {
        let host = source.endpoint.host();
        let url = source.endpoint.url(&format!("blobs/{}", self.digest));
        let mut request = Request::get(url);
        request.from = *position;
        let response = self.client.ask(source, &request).await?;
        let mut skip = self.bytes_to_skip(&response, *position, host)?;
        let mut body = response.into_body();
        let limit = self.client.config.timeouts.inactivity;
        loop {
            let next = tokio::time::timeout(limit, body.frame()).await;
            let Ok(next) = next else {
                return Err(RegistryError::timed_out(host, limit));
            };
            let Some(frame) = next else { break };
            let frame = frame.map_err(|error| RegistryError::Interrupted {
                host: host.to_owned(),
                source: error.into(),
            })?;
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped =
                usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            data.advance(skipped);
            skip -= skipped as u64;
            if data.is_empty() {
                continue;
            }
            let bytes = data.len() as u64;
            if *position + bytes > self.size {
                let what = format!(
                    "layer {} is longer than {} bytes",
                    self.digest, self.size
                );
                return Err(RegistryError::protocol(host, what));
            }
            if sender.0.send(Piece::Data(data)).await.is_err() {
                return Ok(Transferred::Refused);
            }
            *position += bytes;
            report(bytes);
        }
        if *position < self.size {
            return Err(RegistryError::Interrupted {
                host: host.to_owned(),
                source: format!("{position} of {} bytes came", self.size)
                    .into(),
            });
        }
        // The reader may have stopped at the archive's end.
        let _ = sender.0.send(Piece::End).await;
        Ok(Transferred::Whole)
    }

    /// Finds where a response starts; a server may ignore the range.
    fn bytes_to_skip(
        &self,
        response: &Response,
        position: u64,
        host: &str,
    ) -> Result<u64, RegistryError> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(position);
        }
        let range =
            header_text(response, header::CONTENT_RANGE).unwrap_or_default();
        let start = range
            .strip_prefix("bytes ")
            .and_then(|range| range.split('-').next())
            .and_then(|start| start.trim().parse::<u64>().ok());
        match start {
            Some(start) if start <= position => Ok(position - start),
            _ => Err(RegistryError::protocol(
                host,
                format!("the range {range:?}"),
            )),
        }
    }
}

/// The sending side of a transfer.
pub(crate) struct BlobSender(mpsc::Sender<Piece>);

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.is_ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.current = data,
                Some(Piece::End) => self.is_ended = true,
                None => {
                    let message = "the transfer was given up";
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        message,
                    ));
                }
            }
        }
        let n = buf.len().min(self.current.len());
        self.current.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
