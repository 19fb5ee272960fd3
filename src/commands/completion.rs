//! `kubectl knet completion`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// The program's file name; completion of `kubectl knet` itself goes through kubectl's own script.
const BINARY: &str = "kubectl-knet";

/// Prints a completion script.
pub(super) fn run(shell: Shell, console: &Console) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command().bin_name(BINARY), BINARY, &mut script);
    console.print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Delivered)
}
