//! The shape of `explain nodeport` in `knet.explain/v1`.

use schemars::JsonSchema;
use serde::Serialize;

/// The answer about one NodePort.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodePortDocument {}
