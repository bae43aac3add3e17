//! A store that commits on its caller's thread.

mod common;

use common::{step, tables};
use minato_store::{
    Changes, OpenStoreError, RedbJournal, Store, StoreError, StoreOptions,
    TransactError,
};

fn open(file: &std::path::Path) -> Result<Store, OpenStoreError> {
    let journal = RedbJournal::open(file).map_err(OpenStoreError::Journal)?;
    let options = StoreOptions::default();
    Store::open_inline(Box::new(journal), tables(), options)
}

#[tokio::test]
async fn a_transaction_is_done_when_its_first_poll_returns() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    let store = open(&file).unwrap();
    let mut watch = store.watch();
    let done = poll_once(Box::pin(store.transact(step(1, 1))).as_mut());
    assert!(matches!(done, Some(Ok(()))), "{done:?}");
    let Changes::Rows(commits) = watch.changes() else { panic!("resync") };
    assert_eq!(commits.len(), 1);
    let refused = store.transact(step(1, 5)).await;
    assert!(matches!(refused, Err(TransactError::Refused(_))));
    assert_eq!(store.snapshot().revision(), 1);

    store.close();
    assert!(watch.changed().await.is_err());
    let late = store.transact(step(1, 2)).await.unwrap_err();
    assert!(matches!(late, TransactError::Store(StoreError::Stopped { .. })));
    drop((store, watch));
    assert_eq!(open(&file).unwrap().snapshot().revision(), 1);
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
