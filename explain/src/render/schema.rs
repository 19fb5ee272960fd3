//! The published JSON Schemas.

use serde_json::Value;

/// Schema of `knet.trace/v1`.
#[must_use]
pub fn trace() -> Value {
    Value::Null
}

/// Schema of `knet.explain/v1`.
#[must_use]
pub fn explain() -> Value {
    Value::Null
}
