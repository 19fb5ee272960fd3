//! `kubectl knet snapshot redact`

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use anyhow::Context;

use super::load;
use crate::archive::{Limits, Writer};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::redact::{self, Key, Proof, RedactError};

/// Writes a copy of a snapshot that can be shared.
pub(super) fn run(from: &Path, to: &Path, console: &Console) -> Result<Exit, Failure> {
    let snapshot = load(from, &Limits::default())?;
    let redacted = redact::share(&snapshot, key()).map_err(|e| {
        let hint = match &e {
            RedactError::Untellable { .. } => "take the file out of a copy of the snapshot, and share that",
            RedactError::Differs { .. } | RedactError::Unreadable(_) => {
                "nothing was written; please report it with the kind of cluster"
            }
        };
        Failure::from(e).hint(hint)
    })?;
    let failed = || to.display().to_string();
    let mut writer = Writer::create(to).with_context(failed).map_err(Failure::new)?;
    for (path, bytes) in &redacted.files {
        writer.add(path, bytes).with_context(failed).map_err(Failure::new)?;
    }
    writer.finish().with_context(failed).map_err(Failure::new)?;
    let Proof {
        flows,
        requests,
        decided,
    } = redacted.proof;
    let and = match requests {
        0 => String::new(),
        n => format!(" and {n} requests"),
    };
    console.note(&format!(
        "{flows} flows{and} traced before and after with equal answers, {decided} of them with a verdict"
    ));
    if decided == 0 {
        console.warn("the snapshot answers no flow, so nothing is proved");
    }
    Ok(Exit::Delivered)
}

/// A secret nobody keeps. The standard library seeds its hash tables with the system's randomness.
fn key() -> Key {
    let mut key = Key::default();
    for (i, chunk) in key.chunks_mut(8).enumerate() {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_usize(i);
        chunk.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    key
}
