//! Removing what is expired, and what deleted groups and streams left.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::logs::{DeleteLogsError, GroupId, error_text};

use super::rows::{LogGroupRow, LogStreamRow, hex};
use minato_store::Key;

/// One pass over all groups that have events.
pub(crate) async fn pass(cx: &Context) {
    let groups = match cx.logs.groups_on_disk() {
        Ok(groups) => groups,
        Err(error) => {
            let details = error_text(&error);
            tracing::error!(details, "log storage cannot be listed");
            return;
        }
    };
    for id in groups {
        if let Err(error) = sweep(cx, id).await {
            let details = error_text(&error);
            tracing::error!(group = %id, details, "log group not swept");
        }
    }
}

async fn sweep(cx: &Context, id: GroupId) -> Result<(), DeleteLogsError> {
    // Asked before the rows are read: what is sealed later may belong to a
    // stream that the rows do not show yet.
    let newest = match cx.logs.newest_segment(id).await {
        Ok(newest) => newest,
        Err(error) => return Err(error.into()),
    };
    let snapshot = cx.snapshot();
    let key = Key::of([hex(id.0)]);
    let group =
        snapshot.by_index::<LogGroupRow>(LogGroupRow::BY_ID, &key).next();
    // A group's row is older than its directory, so this one was deleted.
    let Some(group) = group else { return cx.logs.delete_group(id).await };
    let live: BTreeSet<_> = snapshot
        .scan::<LogStreamRow>(&LogStreamRow::prefix_of(&group))
        .map(|stream| stream.stream_id())
        .collect();
    let expire_before = group.expire_before(cx.clock.now());
    cx.logs.sweep(id, live, newest, expire_before).await
}
