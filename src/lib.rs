//! The command line of `kubectl-knet`: the only place where IO and the pure core meet.
//!
//! `args` says what can be asked, `commands` does it, `archive` opens snapshots, `console` knows what
//! standard output is, `exit` what the process says when it ends,
//! `redact` makes a copy of a snapshot that can be shared. Nothing here decides where a packet
//! goes: that is `knet-dataplane`, and what it means is `knet-explain`.

pub mod archive;
pub mod args;
pub mod commands;
pub mod console;
pub mod exit;
#[cfg(feature = "cluster")]
pub mod live;
pub mod redact;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use clap::Parser;

use crate::args::Args;
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Parses the command line, does what it says, and prints what went wrong.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> Exit {
    let mut argv = argv.into_iter().peekable();
    if argv.peek().is_some_and(|name| is_completer(name)) {
        // Who presses Tab and goes away has no use for an error.
        let _ = write!(io::stdout(), "{}", commands::complete::lines(argv.skip(1)));
        return Exit::Delivered;
    }
    let args = match Args::try_parse_from(argv) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let console = Console::from_environment(args.color, args.width, args.quiet);
    match commands::run(args.command, &console) {
        Ok(exit) => exit,
        Err(failure) if failure.is_broken_pipe() => Exit::Delivered,
        Err(failure) => report(&failure, &console),
    }
}

/// Whether this program runs under the name by which kubectl asks for completions.
fn is_completer(name: &OsStr) -> bool {
    Path::new(name).file_stem() == Some(OsStr::new(commands::complete::NAME))
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
