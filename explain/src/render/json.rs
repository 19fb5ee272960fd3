//! For programs: `knet.trace/v1`, `knet.explain/v1`. Only types here are serialised.

mod against;
mod clusterip;
mod convert;
mod findings;
mod http;
mod model;
mod nodeport;
mod steps;
mod verify;
mod vip;

use serde_json::Value;

use crate::explanation::Explanation;
use crate::query::Query;
use crate::resolve::QueryError;
use crate::topics::clusterip::ClusterIpExplanation;
use crate::topics::http::HttpExplanation;
use crate::topics::kube_ipvs0::KubeIpvs0;
use crate::topics::nodeport::NodePortExplanation;
use crate::topics::vip::VipExplanation;

pub use http::HttpDocument;
pub use model::{ErrorDocument, ExplainDocument, TraceDocument};
pub use vip::VipDocument;

/// A trace. `brief` leaves hops out.
#[must_use]
pub fn trace(explanation: &Explanation, brief: bool) -> Value {
    value(&convert::document(explanation, brief))
}

/// `explain nodeport`.
#[must_use]
pub fn nodeport(answer: &NodePortExplanation) -> Value {
    value(&ExplainDocument {
        schema: model::EXPLAIN.to_owned(),
        topic: "nodeport".to_owned(),
        answer: model::TopicDocument::NodePort(nodeport::document(answer)),
    })
}

/// `explain clusterip`.
#[must_use]
pub fn clusterip(answer: &ClusterIpExplanation) -> Value {
    value(&ExplainDocument {
        schema: model::EXPLAIN.to_owned(),
        topic: "clusterip".to_owned(),
        answer: model::TopicDocument::ClusterIp(clusterip::document(answer)),
    })
}

/// `explain kube-ipvs0`.
#[must_use]
pub fn kube_ipvs0(answer: &KubeIpvs0) -> Value {
    value(&ExplainDocument {
        schema: model::EXPLAIN.to_owned(),
        topic: "kube-ipvs0".to_owned(),
        answer: model::TopicDocument::KubeIpvs0(clusterip::device(answer)),
    })
}

/// A request to a URL: two traces and what joins them. `brief` leaves hops out.
#[must_use]
pub fn http(answer: &HttpExplanation, brief: bool) -> Value {
    value(&http::document(answer, brief))
}

/// `vip`: every address that was meant.
#[must_use]
pub fn vip(answers: &[VipExplanation]) -> Value {
    value(&vip::document(answers))
}

/// An error in place of a trace (`--flows`): `{"id":…,"schema":"knet.trace/v1","error":{…}}`. `query` is
/// `None` when the line itself could not be read.
#[must_use]
pub fn error(query: Option<&Query>, error: &QueryError) -> Value {
    value(&ErrorDocument {
        id: query.and_then(|q| q.id.clone()),
        schema: model::TRACE.to_owned(),
        query: query.map(convert::asked),
        error: model::Error {
            code: error.code().to_owned(),
            message: error.to_string(),
            hints: error.hints(),
        },
    })
}

/// A line of a `--flows` file that is no query. Its `id` is kept when the line is JSON and has one.
#[must_use]
pub fn line_error(line: &str, error: &serde_json::Error) -> Value {
    let id = serde_json::from_str::<Value>(line)
        .ok()
        .and_then(|v| v.get("id").cloned());
    value(&ErrorDocument {
        id,
        schema: model::TRACE.to_owned(),
        query: None,
        error: model::Error {
            code: "bad-line".to_owned(),
            message: error.to_string(),
            hints: Vec::new(),
        },
    })
}

/// Any of the above as YAML.
#[must_use]
pub fn to_yaml(value: &Value) -> String {
    // A JSON value has nothing YAML cannot hold.
    serde_saphyr::to_string(value).unwrap_or_default()
}

fn value(document: &impl serde::Serialize) -> Value {
    // The documents hold no map with keys that are no strings, the only thing serde_json refuses.
    serde_json::to_value(document).unwrap_or_default()
}
