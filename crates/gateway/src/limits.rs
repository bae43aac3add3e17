//! What a client may take, each with its reason.

use std::time::Duration;

/// The limits of a [`Server`](crate::Server); tests make them smaller.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. Each costs a task and a small buffer; a fleet of
    /// a few hundred agents and a busy CI stay well below.
    pub connections: usize,
    /// Bytes of a request's head. A session token has up to about 4 KiB,
    /// a presigned URL up to 8.
    pub head_bytes: usize,
    /// Headers of a request; SDKs send about fifteen.
    pub headers: usize,
    /// From the first wait for a head to its end. Also how long an idle
    /// connection is kept: longer than a stock client's pause between calls.
    pub head_time: Duration,
    /// For the whole body, which is small and local.
    pub body_time: Duration,
    /// Without progress while an answer is written.
    pub write_time: Duration,
    /// Bytes of a body: twice AWS's largest documented input of the services
    /// here but the one below (64 KiB task definitions, 512 KiB of policies).
    pub body_bytes: usize,
    /// Bytes of a `PutLogEvents` body: AWS counts 1 MiB of events before JSON
    /// escapes them, which can make six bytes of one.
    pub log_body_bytes: usize,
    /// Bytes of all bodies that are being read, so that many clients at once
    /// cannot take more either.
    pub all_bodies_bytes: usize,
    /// Requests on one connection; then the client is asked to open another,
    /// which lets connections spread and memory be given back.
    pub requests_per_connection: u64,
    /// How long a stopping server waits for answers on their way.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            head_bytes: 32 << 10,
            headers: 100,
            head_time: Duration::from_secs(20),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            body_bytes: 1 << 20,
            log_body_bytes: 7 << 20,
            all_bodies_bytes: 64 << 20,
            requests_per_connection: 10_000,
            drain_time: Duration::from_secs(5),
        }
    }
}
