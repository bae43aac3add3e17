//! Puts back, every now and then, what others took away.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Inner;
use super::error::{DoingStep, NetworkStepError};

/// How long a flushed ruleset or a newly started dockerd may cut tasks off.
/// A look takes well under a millisecond, or some five with iptables to run.
const INTERVAL: Duration = Duration::from_secs(15);

/// Ends its thread when dropped.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Keeper {
    /// Starts looking after `inner` from the calling thread's namespace.
    pub(super) fn start(inner: &Arc<Inner>) -> Result<(), NetworkStepError> {
        let stop = Arc::clone(&inner.keeper.stop);
        let inner = Arc::downgrade(inner);
        std::thread::Builder::new()
            .name("minato-keeper".to_owned())
            .spawn(move || keep(&inner, &stop))
            .doing("start a network thread")?;
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
    }
}

fn keep(inner: &Weak<Inner>, (is_over, wake): &(Mutex<bool>, Condvar)) {
    let mut told = String::new();
    loop {
        {
            let mut is_over = is_over.lock();
            if !*is_over {
                wake.wait_for(&mut is_over, INTERVAL);
            }
            if *is_over {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.reassert() {
            let text = format!("{error}: {}", error.cause());
            if text != told {
                tracing::warn!("the network is not as it should be: {text}");
            }
            told = text;
        }
    }
}
