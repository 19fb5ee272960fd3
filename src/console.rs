//! What is on the other side of stdout and stderr. Data goes to stdout, everything else to stderr.

mod progress;

use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;

use crate::exit::Failure;

pub use progress::Progress;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set; `CLICOLOR_FORCE` forces it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The console as the commands see it.
#[derive(Debug)]
pub struct Console {
    color: Color,
    width: Option<u16>,
    quiet: bool,
    /// The bar on standard error, which has to make room for a line.
    bar: RefCell<Option<indicatif::ProgressBar>>,
}

/// Width without a terminal, a flag or `COLUMNS`.
const DEFAULT_WIDTH: u16 = 80;
/// Narrower than this nothing can be laid out.
const MIN_WIDTH: u16 = 40;

impl Console {
    /// The console of this process; flags come first, then the environment, then the terminal.
    #[must_use]
    pub const fn from_environment(color: Color, width: Option<u16>, quiet: bool) -> Self {
        Self {
            color,
            width,
            quiet,
            bar: RefCell::new(None),
        }
    }

    /// Colour on stdout?
    #[must_use]
    pub fn color(&self) -> bool {
        self.color_for(io::stdout().is_terminal())
    }

    fn color_for(&self, terminal: bool) -> bool {
        let set = |key| std::env::var_os(key).is_some_and(|value| !value.is_empty());
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR") => false,
            Color::Auto if set("CLICOLOR_FORCE") && std::env::var_os("CLICOLOR_FORCE").is_some_and(|v| v != "0") => {
                true
            }
            Color::Auto => terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }

    /// Columns to lay text out for.
    #[must_use]
    pub fn width(&self) -> u16 {
        let columns = || {
            std::env::var("COLUMNS")
                .ok()
                .and_then(|c| c.trim().parse().ok())
                .filter(|&c: &u16| c > 0)
        };
        let terminal = || terminal_size::terminal_size_of(io::stdout()).map(|(terminal_size::Width(w), _)| w);
        self.width
            .or_else(terminal)
            .or_else(columns)
            .unwrap_or(DEFAULT_WIDTH)
            .max(MIN_WIDTH)
    }

    /// Standard output, locked and buffered. Flush it to see the last error.
    #[must_use]
    pub fn out(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::with_capacity(64 << 10, io::stdout().lock())
    }

    /// Prints text to stdout.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = self.out();
        out.write_all(printable(text).as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Prints an error and its hints to stderr.
    pub fn error(&self, failure: &Failure) {
        self.say("error", "\x1b[1;31m", &failure.to_string());
        for hint in failure.hints() {
            self.say(" hint", "\x1b[1;36m", hint);
        }
    }

    /// Prints a warning to stderr.
    pub fn warn(&self, message: &str) {
        self.say("warning", "\x1b[1;33m", message);
    }

    /// Prints a remark to stderr, unless nobody wants any.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            self.say("note", "\x1b[1;32m", message);
        }
    }

    fn say(&self, label: &str, style: &str, message: &str) {
        let stderr = io::stderr();
        let (on, off) = if self.color_for(stderr.is_terminal()) {
            (style, "\x1b[0m")
        } else {
            ("", "")
        };
        let line = || {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(stderr.lock(), "{on}{label}:{off} {}", printable(message));
        };
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(line),
            None => line(),
        }
    }
}

/// Text from a snapshot may hold escape sequences meant for the terminal: they are shown, not obeyed.
/// Colours (`ESC [ digits m`) are left alone, because our own renderers write them.
#[must_use]
pub fn printable(text: &str) -> String {
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(control) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let kept = colour_len(from);
        if kept > 0 {
            out.push_str(&from[..kept]);
            rest = &from[kept..];
        } else {
            let mut chars = from.chars();
            out.extend(chars.next().into_iter().flat_map(char::escape_default));
            rest = chars.as_str();
        }
    }
    out.push_str(rest);
    out
}

/// Length of the colour sequence a text begins with.
fn colour_len(text: &str) -> usize {
    let Some(body) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    match body.find(|c: char| !c.is_ascii_digit() && c != ';') {
        Some(end) if body[end..].starts_with('m') => 2 + end + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escape_sequences_of_a_snapshot_are_shown() {
        assert_eq!(printable("a\x1b[31mred\x1b[0m\tb\n"), "a\x1b[31mred\x1b[0m\tb\n");
        assert_eq!(
            printable("\x1b]0;title\x07 \x1b[2J \r"),
            "\\u{1b}]0;title\\u{7} \\u{1b}[2J \\r"
        );
    }
}
