//! The command line of `kubectl-knet`: the only place where IO and the pure core meet.
//!
//! `args` says what can be asked, `commands` does it, `archive` opens snapshots, `console` knows what
//! standard output is, `exit` what the process says when it ends. Nothing here decides where a packet
//! goes: that is `knet-dataplane`, and what it means is `knet-explain`.

pub mod archive;
pub mod args;
pub mod commands;
pub mod console;
pub mod exit;

use std::ffi::OsString;

use clap::Parser;

use crate::args::Args;
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Parses the command line, does what it says, and prints what went wrong.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(argv) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let console = Console::from_environment(args.color, args.width);
    match commands::run(args.command, &console) {
        Ok(exit) => exit,
        Err(failure) if failure.is_broken_pipe() => Exit::Delivered,
        Err(failure) => report(&failure, &console),
    }
}

/// clap's own answers: help and version go to stdout with success, mistakes to stderr with 2.
fn usage(error: &clap::Error) -> Exit {
    // Nobody is left to tell when this fails: the reader of the pipe is gone.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Delivered
    }
}

fn report(failure: &Failure, console: &Console) -> Exit {
    console.error(failure);
    Exit::Usage
}
