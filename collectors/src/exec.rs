//! Runs one program with a time limit and a size limit.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Bounds on one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time.
    pub time: Duration,
    /// Bytes on standard output.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30),
            bytes: 1 << 30,
        }
    }
}

/// What a program printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, its first kilobytes.
    pub stderr: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

/// Why there is no output.
#[derive(Debug)]
pub enum NotRun {
    /// The program is not installed.
    Missing,
    /// It took longer than the limit and was killed.
    Timeout,
    /// It printed more than the limit and was killed.
    TooLarge,
    /// It could not be started.
    Io(io::Error),
}

/// More of an error message than this helps nobody.
const STDERR_BYTES: u64 = 4096;

/// Runs a program with no input and in the C locale.
///
/// # Errors
/// When it is not there, takes too long, or prints too much. A program that fails is no error here.
pub fn run(argv: &[&str], limits: Limits) -> Result<Ran, NotRun> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(NotRun::Missing);
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let started = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        // An ordinary user's PATH has no sbin, where these tools live.
        .env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/local/sbin"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotRun::Missing),
        Err(error) => return Err(NotRun::Io(error)),
    };
    let result = collect(&mut child, limits);
    if result.is_err() {
        // It may have ended meanwhile; either way it is reaped.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

fn collect(child: &mut Child, limits: Limits) -> Result<Ran, NotRun> {
    let deadline = Instant::now() + limits.time;
    let (send, receive) = mpsc::channel();
    let errors = reader(child.stderr.take(), STDERR_BYTES, None);
    let output = reader(child.stdout.take(), limits.bytes + 1, Some(send));
    match receive.recv_timeout(limits.time) {
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
        Err(RecvTimeoutError::Timeout) => return Err(NotRun::Timeout),
    }
    let stdout = output.join().unwrap_or_default();
    if stdout.len() as u64 > limits.bytes {
        return Err(NotRun::TooLarge);
    }
    // Standard output is closed; a program that lingers after that is waited for within the same limit.
    let status = loop {
        match child.try_wait().map_err(NotRun::Io)? {
            Some(status) => break status,
            None if Instant::now() >= deadline => return Err(NotRun::Timeout),
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let stderr = String::from_utf8_lossy(&errors.join().unwrap_or_default())
        .trim()
        .to_owned();
    Ok(Ran {
        stdout,
        stderr,
        code: status.code(),
    })
}

/// Reads a pipe to its end on a thread of its own; what is beyond the limit is not kept.
fn reader(
    pipe: Option<impl Read + Send + 'static>,
    limit: u64,
    done: Option<mpsc::Sender<()>>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends the output; the exit code tells the rest.
            let _ = pipe.by_ref().take(limit).read_to_end(&mut bytes);
            if done.is_none() {
                let _ = io::copy(&mut pipe, &mut io::sink());
            }
        }
        if let Some(done) = done {
            // The receiver is gone only after a timeout.
            let _ = done.send(());
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(millis: u64, bytes: u64) -> Limits {
        Limits {
            time: Duration::from_millis(millis),
            bytes,
        }
    }

    #[test]
    fn output_and_failure_are_both_kept() {
        let ran = run(&["sh", "-c", "echo out; echo err >&2; exit 3"], limits(10_000, 100)).expect("sh runs");
        assert_eq!(
            (ran.stdout.as_slice(), ran.stderr.as_str(), ran.code),
            (&b"out\n"[..], "err", Some(3))
        );
    }

    #[test]
    fn bounds_hold() {
        assert!(matches!(run(&["sleep", "60"], limits(50, 100)), Err(NotRun::Timeout)));
        assert!(matches!(
            run(&["sh", "-c", "exec >&-; sleep 60"], limits(50, 100)),
            Err(NotRun::Timeout)
        ));
        assert!(matches!(run(&["yes"], limits(10_000, 1000)), Err(NotRun::TooLarge)));
        assert!(matches!(
            run(&["no-such-program-here"], limits(50, 100)),
            Err(NotRun::Missing)
        ));
    }
}
