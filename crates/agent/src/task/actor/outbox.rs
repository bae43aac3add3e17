//! Keeping the record, and telling the control plane what is news in it.

use std::sync::Arc;

use serde_json::Value;

use super::{Actor, GATHER, SAVE_RETRY};
use crate::store::Sync;
use crate::submit::submit;
use crate::task::report;
use crate::task::status::TaskStatus;

impl Actor {
    /// Puts news in the outbox and keeps the record; answers when to try
    /// again, if it could not be kept.
    pub(super) async fn keep(&mut self) -> Option<tokio::time::Instant> {
        self.gather_news();
        if !self.is_dirty && self.acks.is_empty() {
            return None;
        }
        if self.is_dirty {
            let lasting = self.record.lasting();
            let is_news = lasting != self.lasting;
            let sync = if is_news { Sync::Yes } else { Sync::No };
            self.record.saves += 1;
            let (files, record) = (&self.deps.files, &self.record);
            if let Err(error) = files.save(&self.id, record, sync).await {
                tracing::error!(task = self.id, %error, "could not be kept");
                return Some(tokio::time::Instant::now() + SAVE_RETRY);
            }
            self.lasting = lasting;
        }
        self.is_dirty = false;
        self.view.send_replace(Arc::new(self.record.clone()));
        for ack in self.acks.drain(..) {
            // Who asked may have gone.
            let _ = ack.send(());
        }
        None
    }

    fn gather_news(&mut self) {
        let status = TaskStatus::of(&self.record);
        let is_status_news = status > self.record.reported;
        if !is_status_news && !report::has_container_news(&self.record) {
            self.gather_until = None;
            return;
        }
        let now = tokio::time::Instant::now();
        let until = *self.gather_until.get_or_insert(now + GATHER);
        if !is_status_news && now < until {
            return;
        }
        self.gather_until = None;
        let taken = report::take_report(
            &self.deps.services.config.cluster,
            &self.arn,
            self.plan.as_deref(),
            &mut self.record,
        );
        match taken {
            Ok(request) => {
                self.record.outbox.push_back(request);
                self.is_dirty = true;
            }
            Err(error) => {
                tracing::error!(task = self.id, %error, "no report");
            }
        }
    }

    /// Sends the outbox's first report, if none is on its way. Only what is
    /// kept is sent: a report is never heard of twice with different words.
    pub(super) fn start_submitting(&mut self) {
        if self.submitting.is_some() || self.is_dirty {
            return;
        }
        let Some(request) = self.record.outbox.front() else { return };
        let request: Value = request.clone();
        let services = Arc::clone(&self.deps.services);
        let permits = Arc::clone(&self.deps.permits);
        self.submitting = Some(tokio::spawn(async move {
            submit(&services, &permits, request).await;
        }));
    }
}
