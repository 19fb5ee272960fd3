//! The commands that record the kernel's own trace.

use schemars::JsonSchema;
use serde::Serialize;

use crate::against::verify::Verify;
use crate::explanation::Explanation;
use crate::render::commands;

/// The commands of one place that the flow passes. knet runs none of them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VerifyDoc {
    /// Node.
    pub node: String,
    /// Namespace: `host`, or a folder under `netns/`.
    pub netns: String,
    /// One for each tool. Empty: there is nothing to trace.
    pub recordings: Vec<RecordingDoc>,
    /// What to know.
    pub notes: Vec<String>,
}

/// The commands of one tool.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RecordingDoc {
    /// `nft`, `xtables-monitor` or `kernel-log`.
    pub tool: String,
    /// They switch tracing on, for this flow only.
    pub set_up: Vec<String>,
    /// Writes the trace into `file` until it is stopped.
    pub watch: String,
    /// The file.
    pub file: String,
    /// They undo what was set up.
    pub undo: Vec<String>,
    /// What to know.
    pub notes: Vec<String>,
}

/// Converts.
pub fn document(explanation: &Explanation, verify: &Verify) -> Vec<VerifyDoc> {
    commands::all(explanation, verify)
        .into_iter()
        .map(|place| VerifyDoc {
            node: place.node,
            netns: place.netns,
            recordings: place
                .recordings
                .into_iter()
                .map(|r| RecordingDoc {
                    tool: r.tool.to_owned(),
                    set_up: r.set_up,
                    watch: r.watch,
                    file: r.file,
                    undo: r.undo,
                    notes: r.notes,
                })
                .collect(),
            notes: place.notes,
        })
        .collect()
}
