//! The body of an answer that is a stream of events.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use minato_wire::event_stream::StreamEvent;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::connections::Seat;
use crate::gateway::Events;

/// Events as messages, until they end or the server stops. The connection
/// counts as at work for as long.
pub(crate) struct EventBody {
    events: Events,
    has_begun: bool,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    seat: Arc<Seat>,
}

impl EventBody {
    pub(crate) fn new(
        events: Events,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) -> EventBody {
        let stop = Box::pin(stop.cancelled_owned());
        EventBody { events, has_begun: false, stop, seat }
    }

    fn frame(&self, event: &StreamEvent) -> Option<Frame<Bytes>> {
        match event.encode(self.events.payloads) {
            Ok(message) => Some(Frame::data(message)),
            Err(error) => {
                tracing::error!(%error, "an event was not sent");
                None
            }
        }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.seat.waiting();
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.has_begun {
            self.has_begun = true;
            let first = self.frame(&StreamEvent::initial_response());
            return Poll::Ready(first.map(Ok));
        }
        match self.events.events.poll_recv(context) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(event)) => Poll::Ready(self.frame(&event).map(Ok)),
            Poll::Pending => match self.stop.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}
