//! What the node's routing daemons, BIRD and FRR, say of themselves: sessions, routes, and what they announce.
//!
//! They are asked through their control sockets, in their own protocols, which are a few lines of text. `birdc` and
//! `vtysh` are not run: where a daemon runs in a pod they come from the pod's image, and whoever makes that image must
//! not get a program run with the collector's rights. So nothing needs to be installed either.
//!
//! A daemon is a process of the node's own network namespace with the name of one; where it listens is the kernel's
//! word (`/proc/PID/fd`, `/proc/PID/net/unix`), and its path is followed inside its own root. Only commands that
//! show something are sent, to BIRD after `restrict`, by which it refuses all others.

mod bird;
mod control;
mod frr;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use knet_snapshot::manifest::{AbsentReason, ArtifactEntry};
use knet_snapshot::routing_daemon::file_name;

use crate::capture::because;
use crate::clock;
use crate::exec::Limits;
use crate::namespaces::pids;
use crate::tools::Captured;

/// A routing table of the whole internet is more than a snapshot needs.
const BYTES: u64 = 64 << 20;

/// Asks every routing daemon in a network namespace. Paths are those below the node's folder; a daemon that does not
/// run is absent for that reason.
pub(crate) fn ask(netns: u64, limits: Limits, deadline: Instant) -> Vec<Captured> {
    let mut captured = Vec::new();
    let limits = Limits {
        bytes: limits.bytes.min(BYTES),
        ..limits
    };
    let (daemons, hidden) = look_around(Path::new("/proc"), netns);
    for program in [Program::Bird, Program::Frr] {
        if !daemons.iter().any(|daemon| daemon.program == program) {
            let path = format!("files/{}", program.folder());
            captured.push(if hidden.is_empty() {
                Captured::absent(&path, AbsentReason::NotRunning, program.nowhere())
            } else {
                Captured::absent(&path, AbsentReason::Permission, hidden.join("; "))
            });
        }
    }
    // FRR may run without BGP.
    let is = |comm: &str| daemons.iter().any(|daemon| daemon.comm == comm);
    if is("zebra") && !is("bgpd") && hidden.is_empty() {
        let why = "no process bgpd in the node's network namespace";
        captured.push(Captured::absent(
            "files/frr/show_bgp_summary.json",
            AbsentReason::NotRunning,
            why,
        ));
    }
    for daemon in &daemons {
        let mut session = Session {
            daemon,
            limits,
            deadline,
            captured: &mut captured,
        };
        match daemon.program {
            Program::Bird => bird::ask(&mut session),
            Program::Frr => frr::ask(&mut session),
        }
    }
    captured
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Bird,
    Frr,
}

impl Program {
    /// By the name of a process; `bird6` is BIRD 1 for IPv6.
    fn of(comm: &str) -> Option<Self> {
        match comm {
            "bird" | "bird6" => Some(Self::Bird),
            "bgpd" | "zebra" => Some(Self::Frr),
            _ => None,
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Frr => "frr",
        }
    }

    const fn nowhere(self) -> &'static str {
        match self {
            Self::Bird => "no process bird or bird6 in the node's network namespace",
            Self::Frr => "no process bgpd or zebra in the node's network namespace",
        }
    }
}

/// A process that routes.
#[derive(Debug)]
struct Daemon {
    program: Program,
    /// Name of the process.
    comm: String,
    pid: u32,
    /// Its folder below the node's `files/`.
    folder: String,
    /// Where it listens, as it calls the place.
    sockets: io::Result<Vec<PathBuf>>,
}

/// The daemons by process id, and what hides some.
fn look_around(proc: &Path, netns: u64) -> (Vec<Daemon>, Vec<String>) {
    let (mut daemons, mut hidden) = (Vec::new(), Vec::new());
    let mut folders: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for pid in pids(proc) {
        let folder = proc.join(pid.to_string());
        let comm = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let comm = comm.trim_end();
        let Some(program) = Program::of(comm) else { continue };
        let inode = |name: &str| fs::metadata(folder.join("ns").join(name)).map(|meta| meta.st_ino());
        match inode("net") {
            Ok(inode) if inode == netns => {}
            Ok(_) => continue,
            // It ended meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                hidden.push(format!("{comm} (pid {pid}): {e}"));
                continue;
            }
        }
        let sockets = listening(&folder);
        let key = match program {
            // Daemons of one FRR keep their sockets in one folder, perhaps of several containers.
            Program::Frr => {
                let vty = sockets
                    .as_ref()
                    .ok()
                    .and_then(|paths| paths.iter().find(|path| frr::is_vty(path)));
                let folder = vty.and_then(|path| control::identity(pid, path.parent()?).ok());
                folder.unwrap_or((0, pid.into()))
            }
            // A process of BIRD is a BIRD of its own.
            Program::Bird => (0, pid.into()),
        };
        let name = folders.entry(key).or_insert_with(|| {
            let first = match program {
                Program::Frr => "frr",
                Program::Bird => comm,
            };
            let mut names = std::iter::once(first.to_owned()).chain((2..).map(|n| format!("{first}-{n}")));
            let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
            taken.insert(free.clone());
            free
        });
        daemons.push(Daemon {
            program,
            comm: comm.to_owned(),
            pid,
            folder: name.clone(),
            sockets,
        });
    }
    (daemons, hidden)
}

/// The stream sockets with a path at which a process listens.
fn listening(process: &Path) -> io::Result<Vec<PathBuf>> {
    let mut held = BTreeSet::new();
    for fd in fs::read_dir(process.join("fd"))?.flatten() {
        let Ok(to) = fs::read_link(fd.path()) else { continue };
        let inode = to
            .to_str()
            .and_then(|to| to.strip_prefix("socket:[")?.strip_suffix(']'));
        held.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    let all = fs::read_to_string(process.join("net/unix"))?;
    Ok(all.lines().filter_map(|line| bound(line, &held)).collect())
}

/// `Num RefCount Protocol Flags Type St Inode Path` (`net/unix/af_unix.c`, `unix_seq_show`).
fn bound(line: &str, held: &BTreeSet<u64>) -> Option<PathBuf> {
    const SO_ACCEPTCON: u32 = 1 << 16;
    let mut rest = line;
    let mut words = [""; 7];
    for word in &mut words {
        let (first, after) = rest.trim_start().split_once(' ')?;
        (*word, rest) = (first, after);
    }
    let listens = u32::from_str_radix(words[3], 16).ok()? & SO_ACCEPTCON != 0;
    let own = held.contains(&words[6].parse().ok()?);
    // `@` begins an abstract name.
    (listens && own && words[4] == "0001" && !rest.starts_with('@')).then(|| PathBuf::from(rest))
}

/// Questions to one daemon.
struct Session<'s> {
    daemon: &'s Daemon,
    limits: Limits,
    deadline: Instant,
    captured: &'s mut Vec<Captured>,
}

impl Session<'_> {
    /// The socket this daemon is asked at, among those it listens at.
    fn connect(&self, is: impl Fn(&Path) -> bool) -> io::Result<control::Control> {
        let Daemon { comm, pid, sockets, .. } = self.daemon;
        let none = || io::Error::other(format!("{comm} (pid {pid}) listens at no control socket"));
        let sockets = sockets.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        let socket = sockets.iter().find(|path| is(path)).ok_or_else(none)?;
        let time = self.time();
        control::Control::connect(*pid, socket, time, self.limits.bytes)
            .map_err(|e| io::Error::new(e.kind(), format!("{comm} (pid {pid}) at {}: {e}", socket.display())))
    }

    /// For one question.
    fn time(&self) -> Duration {
        self.limits
            .time
            .min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Keeps an answer.
    fn keep(&mut self, file: &str, command: &str, answer: io::Result<Vec<u8>>) {
        let path = self.path(file);
        if self.captured.iter().any(|c| c.entry.path == path) {
            return;
        }
        self.captured.push(match answer {
            Ok(bytes) => {
                let entry = ArtifactEntry {
                    path,
                    via: "control-socket".to_owned(),
                    argv: vec![self.daemon.comm.clone(), command.to_owned()],
                    at: clock::now(),
                    ..ArtifactEntry::default()
                };
                Captured::known(entry, bytes)
            }
            Err(e) => absent(&path, &e),
        });
    }

    /// It cannot be asked anything.
    fn mute(&mut self, file: &str, error: &io::Error) {
        let path = self.path(file);
        self.captured.push(absent(&path, error));
    }

    fn path(&self, file: &str) -> String {
        format!("files/{}/{file}", self.daemon.folder)
    }
}

/// A session's name goes into a command and becomes a file's name: letters, digits and what BIRD's symbols
/// (`conf/cf-lex.l`) and addresses have besides.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_-.:%".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(known)
}

fn absent(path: &str, error: &io::Error) -> Captured {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => AbsentReason::Timeout,
        _ => because(error),
    };
    Captured::absent(path, reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_socket_of_its_own_is_asked() {
        let held = BTreeSet::from([77, 78]);
        let path = |line: &str| bound(line, &held);
        assert_eq!(
            path("00000000a673a25f: 00000002 00000000 00010000 0001 01    77 /run/calico/a b.ctl"),
            Some(PathBuf::from("/run/calico/a b.ctl"))
        );
        for other in [
            "00000000a673a25f: 00000002 00000000 00010000 0001 01 79 /run/another.ctl",
            "00000000a673a25f: 00000002 00000000 00000000 0001 03 78 /run/connected.ctl",
            "00000000a673a25f: 00000002 00000000 00010000 0005 01 78 /run/seqpacket.ctl",
            "00000000a673a25f: 00000002 00000000 00010000 0001 01 78 @abstract",
            "00000000a673a25f: 00000002 00000000 00010000 0001 01 78",
            "Num       RefCount Protocol Flags    Type St Inode Path",
            "",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[test]
    fn a_daemon_that_does_not_run_is_nothing_to_ask() {
        let deadline = Instant::now() + Duration::from_secs(5);
        // No namespace has the inode 0.
        let captured = ask(0, Limits::default(), deadline);
        let of: Vec<_> = captured
            .iter()
            .map(|c| (&*c.entry.path, c.content.as_ref().err().map(|(reason, _)| *reason)))
            .collect();
        assert!(of.len() == 2 && of.iter().all(|(_, reason)| reason.is_some()), "{of:?}");
    }

    /// Listens as a BIRD would, and keeps the commands it hears.
    fn fake_bird(path: &Path, knows_restrict: bool) -> std::thread::JoinHandle<Vec<String>> {
        use std::io::{BufRead as _, Write as _};
        let listener = std::os::unix::net::UnixListener::bind(path).expect("a socket");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut out = stream.try_clone().expect("a descriptor");
            out.write_all(b"0001 BIRD 2.0.12 ready.\n").expect("it listens");
            let mut heard = Vec::new();
            for line in io::BufReader::new(stream).lines().map_while(Result::ok) {
                let answer = match line.as_str() {
                    "restrict" if knows_restrict => "0016 Access restricted\n",
                    "show status" => "1000-BIRD 2.0.12\n0013 Daemon is up and running\n",
                    "show protocols all" => {
                        "2002-Name Proto Table State Since Info\n1002-M:1 BGP --- up 01:38:13.347 Established\n\
                         1006-  BGP state:          Established\n     Neighbor address: 192.0.2.2\n \n\
                         1002-Dead BGP --- start 01:38:09.186 Connect\n0000 \n"
                    }
                    "show route export 'M:1'" => {
                        "1007-Table master4:\n 10.0.0.0/8 blackhole [static1 01:38:09.186] * (200)\n0000 \n"
                    }
                    _ => "9001 syntax error\n",
                };
                // In two pieces, as it comes over a socket.
                let (first, rest) = answer.split_at(answer.len() / 2);
                for piece in [first, rest] {
                    let _ = out.write_all(piece.as_bytes());
                    std::thread::sleep(Duration::from_millis(2));
                }
                heard.push(line);
            }
            heard
        })
    }

    fn ask_at(path: &Path) -> Vec<Captured> {
        let daemon = Daemon {
            program: Program::Bird,
            comm: "bird".to_owned(),
            pid: std::process::id(),
            folder: "bird".to_owned(),
            sockets: Ok(vec![path.to_owned()]),
        };
        let mut captured = Vec::new();
        bird::ask(&mut Session {
            daemon: &daemon,
            limits: Limits::default(),
            deadline: Instant::now() + Duration::from_secs(10),
            captured: &mut captured,
        });
        captured
    }

    #[test]
    fn bird_is_asked_after_it_was_told_to_refuse_the_rest() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("bird.ctl");
        let server = fake_bird(&path, true);
        let captured = ask_at(&path);
        let of: Vec<_> = captured
            .iter()
            .map(|c| {
                let text = c.content.as_deref().map(|b| String::from_utf8_lossy(b).into_owned());
                (&*c.entry.path, text.map_err(|(_, detail)| detail.clone()))
            })
            .collect();
        assert_eq!(
            of.iter().map(|(path, text)| (*path, text.is_ok())).collect::<Vec<_>>(),
            [
                ("files/bird/show_status.txt", true),
                ("files/bird/show_protocols_all.txt", true),
                ("files/bird/show_route_export_M_1.txt", true),
                ("files/bird/show_route_all.txt", false),
            ],
            "{of:?}"
        );
        assert_eq!(
            of[2].1.as_deref(),
            Ok("BIRD 2.0.12 ready.\nTable master4:\n10.0.0.0/8 blackhole [static1 01:38:09.186] * (200)\n")
        );
        assert_eq!(of[3].1.as_deref(), Err(&"show route all: syntax error".to_owned()));
        let heard = server.join().expect("it ends");
        assert_eq!(heard[0], "restrict");
        assert!(
            heard[1..].iter().all(|command| command.starts_with("show ")),
            "{heard:?}"
        );
    }

    #[test]
    fn a_bird_that_would_obey_is_not_asked() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("bird.ctl");
        let server = fake_bird(&path, false);
        let captured = ask_at(&path);
        assert!(captured.len() == 1 && captured[0].content.is_err(), "{captured:?}");
        assert_eq!(server.join().expect("it ends"), ["restrict"]);
        let captured = ask_at(&root.path().join("nobody.ctl"));
        let [one] = &captured[..] else { panic!("{captured:?}") };
        assert!(matches!(&one.content, Err((AbsentReason::Error, _))), "{one:?}");
    }
}
