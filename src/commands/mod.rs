//! What each command does: open, ask the core, print.

use clap::CommandFactory;

use crate::args::{Args, Command};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Runs a command.
///
/// # Errors
/// When the question or the snapshot is wrong; the caller prints it and ends with 2.
pub fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "kubectl-knet", &mut script);
            console.print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Delivered)
        }
        Command::Version => {
            console.print(&format!("kubectl-knet {}", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Delivered)
        }
        _ => Err(Failure::message("x")),
    }
}
