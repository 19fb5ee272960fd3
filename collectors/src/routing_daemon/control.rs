//! A stream to a control socket of another process, wherever its root is.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// As many links as the kernel follows (`include/linux/namei.h`, `MAXSYMLINKS`).
const LINKS: usize = 40;

/// A connection, with bounds on each answer.
pub(super) struct Control {
    stream: UnixStream,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Control {
    /// Connects to a socket by the path that the process with this id knows.
    pub(super) fn connect(pid: u32, path: &Path, time: Duration, bytes: u64) -> io::Result<Self> {
        let found = open(pid, path)?;
        // A blocking connect waits for ever where nobody accepts.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        connect(&socket, &address)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(time.max(Duration::from_millis(1))))?;
        Ok(Self {
            stream,
            bytes,
            buffer: Vec::new(),
        })
    }

    /// Sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The bytes up to where `end` finds the end of an answer in what came so far. `end` gets all of it, and from
    /// where it is new.
    pub(super) fn receive(
        &mut self,
        time: Duration,
        mut end: impl FnMut(&[u8], usize) -> Option<usize>,
    ) -> io::Result<Vec<u8>> {
        let until = Instant::now() + time;
        let mut seen = 0;
        loop {
            if let Some(end) = end(&self.buffer, seen) {
                let rest = self.buffer.split_off(end);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            seen = self.buffer.len();
            if seen as u64 > self.bytes {
                return Err(io::Error::other("it said more than the limit"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// What tells a file from all others: its device and inode.
pub(super) fn identity(pid: u32, path: &Path) -> io::Result<(u64, u64)> {
    let stat = fstat(open(pid, path)?)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn open(pid: u32, path: &Path) -> io::Result<OwnedFd> {
    let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).map(OwnedFd::from);
    resolve(open("root")?, open("cwd")?, path)
}

/// Follows a path as a process with this root and working folder does, links and all. The kernel would follow a link
/// to `/run` out of the `var` there into *our* root.
fn resolve(root: OwnedFd, cwd: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let parts = |path: &Path| -> Vec<OsString> { path.iter().map(OsStr::to_owned).collect() };
    let mut open = vec![root];
    if path.is_relative() {
        open.push(cwd);
    }
    let mut rest: VecDeque<OsString> = parts(path).into();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        match part.as_encoded_bytes() {
            b"/" => open.truncate(1),
            b"." => {}
            b".." => {
                if open.len() > 1 {
                    open.pop();
                }
            }
            _ => {
                let Some(at) = open.last() else { break };
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let next = openat(at, &part, flags, Mode::empty())?;
                if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
                    open.push(next);
                    continue;
                }
                links += 1;
                if links > LINKS {
                    return Err(io::Error::other("too many links"));
                }
                let to = OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes());
                for part in parts(Path::new(&to)).into_iter().rev() {
                    rest.push_front(part);
                }
            }
        }
    }
    open.pop().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_link_stays_inside_the_root_of_the_process() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("run/calico")).expect("a folder");
        fs::create_dir_all(at("var")).expect("a folder");
        symlink("/run", at("var/run")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        fs::write(at("run/calico/bird.ctl"), "x").expect("a file");
        let dir = |path: &str| OwnedFd::from(File::open(at(path)).expect("a folder"));
        let read = |path: &str, cwd: &str| {
            let found = resolve(dir("."), dir(cwd), Path::new(path))?;
            fs::read_to_string(format!("/proc/self/fd/{}", found.as_raw_fd()))
        };
        for (path, cwd) in [
            ("/var/run/calico/bird.ctl", "."),
            ("/var/run/../../../run/./calico/bird.ctl", "."),
            ("bird.ctl", "run/calico"),
        ] {
            assert_eq!(read(path, cwd).expect("it is there"), "x", "{path}");
        }
        assert!(read("/loop", ".").is_err());
        assert!(read("/run/calico/none", ".").is_err());
    }

    #[test]
    fn an_answer_has_bounds() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("s");
        let listener = UnixListener::bind(&path).expect("a socket");
        let server = std::thread::spawn(move || {
            for answer in ["one.", "0123456789"] {
                let (mut client, _) = listener.accept().expect("a client");
                client.write_all(answer.as_bytes()).expect("it listens");
                // Until the other side has enough.
                let _ = client.read(&mut [0]);
            }
        });
        let me = std::process::id();
        let time = Duration::from_millis(200);
        let end = |bytes: &[u8], _| bytes.iter().position(|&b| b == b'.').map(|at| at + 1);
        let mut control = Control::connect(me, &path, time, 5).expect("it connects");
        assert_eq!(control.receive(time, end).expect("an answer"), b"one.");
        let silent = control.receive(time, end).expect_err("it says no more");
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        drop(control);
        let mut control = Control::connect(me, &path, time, 5).expect("it connects");
        assert!(control.receive(time, end).is_err(), "more than the limit");
        drop(control);
        server.join().expect("it ends");
        assert!(Control::connect(me, &path, time, 5).is_err(), "nobody is there");
    }
}
