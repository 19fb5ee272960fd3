//! Line formats: one row a line, tied to its place.

use std::borrow::Cow;
use std::sync::Arc;

use crate::json;
use crate::row::{Row, Table};

/// Reads one row a line. Empty lines and `#` comments are skipped. `read` returns what it made of the line,
/// `Ok(())` without pushing for a line that is no row, or why it could not.
///
/// A last line without a line end may be cut off anywhere, so a number in it cannot be trusted: the head of the
/// file is kept, the piece is not read, and a problem says so.
pub(crate) fn table<T>(
    artifact: Arc<str>,
    bytes: &[u8],
    mut read: impl FnMut(Row, &str, &mut Vec<T>) -> Result<(), &'static str>,
) -> Table<T> {
    let mut table = Table::empty(artifact);
    let text = json::utf8(bytes, &table.artifact, &mut table.problems);
    let (whole, rest) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
    let mut start = 0;
    for line in whole.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        let at = Row {
            start,
            len: u32::try_from(content.len()).unwrap_or(u32::MAX),
        };
        start += line.len() as u64;
        let trimmed = content.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Err(what) = read(at, content, &mut table.rows) {
            table.problem(at.start, format!("{what}: {}", excerpt(content)));
        }
    }
    if !rest.trim().is_empty() {
        table.problem(
            start,
            format!("the file ends inside a line, which is not read: {}", excerpt(rest)),
        );
    }
    table
}

/// A line again, by its place.
pub(crate) fn text(bytes: &[u8], at: Row) -> Cow<'_, str> {
    let start = usize::try_from(at.start).unwrap_or(usize::MAX);
    let line = bytes
        .get(start..start.saturating_add(at.len as usize))
        .unwrap_or_default();
    String::from_utf8_lossy(line)
}

/// The beginning of a line, for a message.
pub(crate) fn excerpt(line: &str) -> &str {
    let end = line.char_indices().nth(120).map_or(line.len(), |(i, _)| i);
    &line[..end]
}

/// A decimal or `0x` number.
pub(crate) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
