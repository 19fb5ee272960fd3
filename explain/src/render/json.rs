//! For programs: `knet.trace/v1`, `knet.explain/v1`. Only types here are serialised.

use serde_json::Value;

use crate::explanation::Explanation;
use crate::query::Query;
use crate::resolve::QueryError;
use crate::topics::nodeport::NodePortExplanation;

/// A trace. `brief` leaves hops out.
#[must_use]
pub fn trace(_explanation: &Explanation, _brief: bool) -> Value {
    Value::Null
}

/// `explain nodeport`.
#[must_use]
pub fn nodeport(_answer: &NodePortExplanation) -> Value {
    Value::Null
}

/// An error in place of a trace (`--flows`): `{"id":…,"schema":"knet.trace/v1","error":{…}}`. `query` is
/// `None` when the line itself could not be read.
#[must_use]
pub fn error(_query: Option<&Query>, _error: &QueryError) -> Value {
    Value::Null
}

/// A line of a `--flows` file that is no query.
#[must_use]
pub fn line_error(_line: &str, _error: &serde_json::Error) -> Value {
    Value::Null
}

/// Any of the above as YAML.
#[must_use]
pub fn to_yaml(_value: &Value) -> String {
    String::new()
}
