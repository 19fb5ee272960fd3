//! How far long work is, on standard error: a bar on a terminal, now and then a line elsewhere.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Console;

/// Elsewhere than on a terminal a line comes no more often than this.
const EVERY: Duration = Duration::from_secs(5);

/// Work that goes on until this is dropped.
#[derive(Debug)]
pub struct Progress<'c> {
    console: &'c Console,
    what: String,
    done: u64,
    total: Option<u64>,
    said: Instant,
}

impl Console {
    /// Begins to show work, in the place of any other. `total` may be told later.
    #[must_use]
    pub fn progress(&self, what: &str, total: Option<u64>) -> Progress<'_> {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if terminal && !self.quiet {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style(total));
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar.replace(Some(bar));
        }
        Progress {
            console: self,
            what: what.to_owned(),
            done: 0,
            total,
            said: Instant::now(),
        }
    }
}

impl Progress<'_> {
    /// So much is done, of so much as far as somebody knows.
    pub fn set(&mut self, done: u64, total: Option<u64>) {
        let known = total.is_some() != self.total.is_some();
        (self.done, self.total) = (done, total);
        if let Some(bar) = &*self.console.bar.borrow() {
            if known {
                bar.set_style(style(total));
            }
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        } else if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            self.console.note(&self.to_string());
        }
    }

    /// What was worked on last, beside the bar; a line where there is none.
    pub fn did(&self, what: &str) {
        if let Some(bar) = &*self.console.bar.borrow() {
            bar.set_message(super::printable(what));
        } else {
            self.console
                .note(&format!("{what} ({} of {})", self.done, self.total.unwrap_or(0)));
        }
    }
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, done, total, .. } = self;
        match total {
            Some(total) => write!(f, "{what}: {done} of {total}"),
            None => write!(f, "{what}: {done}"),
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.console.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => "{prefix} [{bar:30}] {human_pos} of {human_len} {elapsed} {wide_msg}",
        None => "{prefix} {spinner} {human_pos} {elapsed} {wide_msg}",
    };
    // A template of ours is well-formed; another style would only look otherwise.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
