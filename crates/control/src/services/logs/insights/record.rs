//! GetLogRecord: one event by its `@ptr`, with all its fields.

use std::collections::BTreeMap;

use minato_core::insights::Origin;
use minato_store::Key;
use minato_wire::ApiError;
use minato_wire::logs::{GetLogRecordRequest, GetLogRecordResponse, error};
use serde_json::Value;

use crate::context::{Context, Scope};
use crate::logs::{Direction, Position, Query};
use crate::services::logs::not_read;
use crate::services::logs::rows::{LogGroupRow, LogStreamRow, hex};

/// Fields that are discovered in one event (`CWL_AnalyzeLogData-
/// discoverable-fields`: at most 200).
const MOST_FIELDS: usize = 200;

pub(crate) async fn get_log_record(
    cx: &Context,
    scope: &Scope,
    input: GetLogRecordRequest,
) -> Result<GetLogRecordResponse, ApiError> {
    let pointer = input.log_record_pointer.unwrap_or_default();
    let origin = Origin::parse(&pointer).ok_or_else(|| {
        error::invalid_parameter_exception("Invalid log record pointer.")
    })?;
    let gone = || {
        error::resource_not_found_exception(
            "The specified log record does not exist.",
        )
    };
    let snapshot = cx.snapshot();
    let key = Key::of([hex(origin.group)]);
    let group = snapshot
        .by_index::<LogGroupRow>(LogGroupRow::BY_ID, &key)
        .find(|group| {
            group.account == scope.account && group.region == scope.region
        })
        .ok_or_else(gone)?;
    let stream = crate::logs::StreamId(origin.stream);
    let row = snapshot
        .by_index::<LogStreamRow>(
            LogStreamRow::BY_ID,
            &LogStreamRow::id_key(stream),
        )
        .next()
        .ok_or_else(gone)?;
    let before = origin.sequence.checked_sub(1).ok_or_else(gone)?;
    let at = origin.timestamp;
    let query = Query {
        direction: Direction::Forward,
        beyond: Some(Position { timestamp: at, sequence: before }),
        from: at.max(group.expire_before(scope.now)),
        until: at.saturating_add(1),
        limit: 1,
        wanted: Box::new(move |id| id == stream),
        pattern: None,
    };
    let page = cx.logs.query(group.group_id(), query).await;
    let events = page.map_err(|e| not_read(&e))?.events;
    let event = events
        .into_iter()
        .find(|event| event.position.sequence == origin.sequence)
        .ok_or_else(gone)?;
    let mut record = BTreeMap::from([
        ("@timestamp".to_owned(), at.to_string()),
        ("@ingestionTime".to_owned(), event.ingested_at.to_string()),
        ("@logStream".to_owned(), row.name.clone()),
        ("@log".to_owned(), format!("{}:{}", group.account, group.name)),
        ("@ptr".to_owned(), pointer),
    ]);
    if let Ok(json @ Value::Object(_)) = serde_json::from_str(&event.message) {
        discover("", &json, &mut record);
    }
    record.insert("@message".to_owned(), event.message);
    Ok(GetLogRecordResponse { log_record: Some(record) })
}

/// Adds the fields below a path. `serde_json` has bounded the depth.
fn discover(path: &str, json: &Value, record: &mut BTreeMap<String, String>) {
    let step = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    if record.len() >= MOST_FIELDS {
        return;
    }
    match json {
        Value::Null => {}
        Value::Object(object) => {
            for (name, json) in object {
                discover(&step(name), json, record);
            }
        }
        Value::Array(array) => {
            for (index, json) in array.iter().enumerate() {
                discover(&step(&index.to_string()), json, record);
            }
        }
        Value::String(text) => {
            record.insert(path.to_owned(), text.clone());
        }
        Value::Bool(is) => {
            let shown = if *is { "1" } else { "0" };
            record.insert(path.to_owned(), shown.to_owned());
        }
        Value::Number(number) => {
            record.insert(path.to_owned(), number.to_string());
        }
    }
}
