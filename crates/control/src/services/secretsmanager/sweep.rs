//! Removing secrets whose recovery window has ended.

use minato_store::{Key, Row as _};
use minato_wire::ApiError;

use super::lookup::is_gone;
use super::rows::SecretRow;
use crate::context::Context;

/// Removes what nobody can restore any more.
pub(crate) async fn pass(cx: &Context) {
    let now = cx.clock.now();
    let gone: Vec<Key> = cx
        .snapshot()
        .by_index::<SecretRow>("leaving", &Key::root())
        .filter(|row| is_gone(row, now))
        .map(|row| row.key())
        .collect();
    if gone.is_empty() {
        return;
    }
    let removed = cx.transact(move |tx| -> Result<(), ApiError> {
        for key in gone {
            // Unless it was made anew or restored since.
            let row = tx.get::<SecretRow>(&key);
            if row.is_some_and(|row| is_gone(&row, now)) {
                tx.delete::<SecretRow>(&key);
            }
        }
        Ok(())
    });
    if let Err(error) = removed.await {
        tracing::warn!(
            details = error.internal(),
            "could not remove secrets whose time is over",
        );
    }
}
