//! `kubectl knet man`: the manual pages, for packagers.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Args;
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Writes `kubectl-knet.1` and a page for every command into a directory.
pub(super) fn run(directory: &Path, console: &Console) -> Result<Exit, Failure> {
    std::fs::create_dir_all(directory)?;
    // Pages are named after the file that runs, and say how kubectl calls it.
    clap_mangen::generate_to(Args::command(), directory)?;
    console.note(&format!("manual pages are in {}", directory.display()));
    Ok(Exit::Delivered)
}
