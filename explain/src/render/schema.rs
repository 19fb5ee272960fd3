//! The published JSON Schemas.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::json::{ErrorDocument, ExplainDocument, HttpDocument, TraceDocument, VipDocument};

/// Schema of `knet.trace/v1`: a trace, or an error in place of one.
#[must_use]
pub fn trace() -> Value {
    let mut schema = of::<TraceOrError>();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), Value::from("knet.trace/v1"));
    }
    schema
}

/// Schema of `knet.explain/v1`.
#[must_use]
pub fn explain() -> Value {
    let mut schema = of::<ExplainDocument>();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), Value::from("knet.explain/v1"));
    }
    schema
}

/// Schema of `knet.vip/v1`.
#[must_use]
pub fn vip() -> Value {
    let mut schema = of::<VipDocument>();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), Value::from("knet.vip/v1"));
    }
    schema
}

/// Schema of `knet.http/v1`.
#[must_use]
pub fn http() -> Value {
    let mut schema = of::<HttpDocument>();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), Value::from("knet.http/v1"));
    }
    schema
}

/// The schema of what is written: fields that may be left out are not required.
fn of<T: schemars::JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// What one line of `trace --flows` is.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[schemars(title = "knet.trace/v1")]
#[allow(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
enum TraceOrError {
    /// A trace.
    Trace(TraceDocument),
    /// An error in place of a trace.
    Error(ErrorDocument),
}
