//! `kubectl knet snapshot show`: what a snapshot holds, what it lacks, and what in it cannot be read.

mod inventory;
mod text;

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::load::load;
use super::print_document;
use crate::archive::Limits;
use crate::args::Output;
use crate::console::Console;
use crate::exit::{Exit, Failure};

use inventory::Inventory;

/// Opens the snapshot, reads every table of it, compares hashes, and says what is there.
pub(super) fn run(path: &Path, output: Output, console: &Console) -> Result<Exit, Failure> {
    let mut snapshot = load(path, &Limits::default())?;
    snapshot.verify(sha256);
    let inventory = Inventory::of(&snapshot);
    match output {
        Output::Text => console.print(&text::render(&inventory, console.width().into()))?,
        output => print_document(&serde_json::to_value(&inventory)?, output, console)?,
    }
    Ok(Exit::Delivered)
}

/// Lower-case hex, as in the manifest.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
