//! Captures one network namespace: what netlink and procfs say themselves, the rest with the host's tools.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use knet_snapshot::artifact::name;
use knet_snapshot::manifest::{AbsentReason, ArtifactEntry};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::clock;
use crate::conntrack;
use crate::exec::Limits;
use crate::guard::Modules;
use crate::netlink::socket::NetlinkError;
use crate::netlink::{self, Tables};
use crate::proc::{self, sockets, sysctl};
use crate::reference::{REFERENCES, Reference};
use crate::tools::{self, Captured};
use crate::wireguard;

/// Which network namespace.
#[derive(Clone, Debug)]
pub enum Target {
    /// The one this thread is in.
    Current,
    /// A named one (`ip netns`).
    Named(String),
    /// One whose file is open.
    Open(Arc<File>),
}

impl Target {
    /// The namespace's file; `None` when there is nothing to enter.
    fn file(&self) -> io::Result<Option<Arc<File>>> {
        match self {
            Self::Current => Ok(None),
            Self::Named(name) => File::open(Path::new("/run/netns").join(name)).map(|file| Some(Arc::new(file))),
            Self::Open(file) => Ok(Some(file.clone())),
        }
    }
}

/// Captures every artifact of the registry, in capture order, and then looks again at links and rules:
/// what changed meanwhile is marked inconsistent. Never fails; failures are in the result.
///
/// A namespace other than the thread's is entered by a thread of its own, which ends with the capture.
#[must_use]
pub fn capture_netns(target: &Target, limits: Limits) -> Vec<Captured> {
    capture_netns_with(target, limits, &Modules::look())
}

/// The same, with a look at the kernel's modules that serves for many namespaces.
#[must_use]
pub fn capture_netns_with(target: &Target, limits: Limits, modules: &Modules) -> Vec<Captured> {
    let entered = match target.file() {
        Ok(None) => return Capture::begin(limits, modules).all(),
        Ok(Some(file)) => {
            let inside = || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(Capture::begin(limits, modules).all())
            };
            thread::scope(|scope| scope.spawn(inside).join())
        }
        Err(e) => Ok(Err(e)),
    };
    let (reason, detail) = match entered {
        Ok(Ok(captured)) => return captured,
        Ok(Err(e)) => (because(&e), format!("the namespace cannot be entered: {e}")),
        Err(_) => (AbsentReason::Error, "the collector stopped".to_owned()),
    };
    REFERENCES
        .iter()
        .map(|reference| Captured::absent(reference.artifact, reason, detail.clone()))
        .collect()
}

pub(crate) fn because(error: &io::Error) -> AbsentReason {
    match error.kind() {
        io::ErrorKind::PermissionDenied => AbsentReason::Permission,
        _ => AbsentReason::Error,
    }
}

/// The collectors of the namespace of this thread.
struct Capture<'m> {
    limits: Limits,
    modules: &'m Modules,
    tables: Result<Tables, NetlinkError>,
}

impl<'m> Capture<'m> {
    fn begin(limits: Limits, modules: &'m Modules) -> Self {
        Self {
            limits,
            modules,
            tables: Tables::open(limits),
        }
    }

    fn all(mut self) -> Vec<Captured> {
        let mut captured: Vec<Captured> = REFERENCES.iter().map(|reference| self.one(reference)).collect();
        for again in REFERENCES
            .iter()
            .filter(|reference| is_checked_twice(reference.artifact))
        {
            let Some(first) = captured.iter_mut().find(|c| c.entry.path == again.artifact) else {
                continue;
            };
            let Ok(before) = &first.content else { continue };
            let unchanged = self
                .one(again)
                .content
                .ok()
                .map(|after| stable(before) == stable(&after));
            first.entry.consistent = match (first.entry.consistent, unchanged) {
                (Some(false), _) => Some(false),
                (_, unchanged) => unchanged,
            };
        }
        captured
    }

    /// By netlink or procfs where this crate reads them, else with the tool.
    fn one(&mut self, reference: &Reference) -> Captured {
        let artifact = reference.artifact;
        match artifact {
            name::SYSCTL => proc_file(artifact, "/proc/sys/net", sysctl::read(self.limits.bytes)),
            name::IPVS => self.ipvs(),
            name::IPVS_CONN => match proc::has("ip_vs_conn") {
                true => proc_file(artifact, "/proc/net/ip_vs_conn", proc::net("ip_vs_conn")),
                false => no_state(artifact, "ip_vs_conn"),
            },
            name::IPTABLES_LEGACY => self.legacy(reference, "ip_tables_names"),
            name::IP6TABLES_LEGACY => self.legacy(reference, "ip6_tables_names"),
            name::CONNTRACK => self.conntrack(reference),
            name::SOCKETS => self.sockets(reference),
            name::WG => self.wireguard(reference),
            _ => match self.rtnetlink(artifact) {
                Some(captured) if captured.content.is_ok() => captured,
                // A message this version cannot read may be one that the tool can.
                Some(failed) => self.or(failed, reference),
                None => self.tool(reference),
            },
        }
    }

    fn rtnetlink(&mut self, artifact: &'static str) -> Option<Captured> {
        let tables = match &mut self.tables {
            Ok(tables) => tables,
            Err(e) => return Some(Captured::absent(artifact, AbsentReason::Error, e.to_string())),
        };
        let at = clock::now();
        Some(match tables.read(artifact)? {
            Ok(printed) => Captured::known(dumped(artifact, at, printed.consistent), printed.bytes),
            Err(e) => {
                let (reason, detail) = refusal(&e);
                Captured::absent(artifact, reason, detail)
            }
        })
    }

    fn tool(&self, reference: &Reference) -> Captured {
        tools::capture(reference, self.modules, self.limits)
    }

    /// What the tool says, or why neither could look.
    fn or(&self, failed: Captured, reference: &Reference) -> Captured {
        let Err((reason, detail)) = &failed.content else {
            return failed;
        };
        if reason.means_empty() {
            return failed;
        }
        let mut captured = self.tool(reference);
        match &mut captured.content {
            Ok(_) => captured.entry.notes.push(detail.clone()),
            Err(_) => return failed,
        }
        captured
    }

    fn ipvs(&self) -> Captured {
        let artifact = name::IPVS;
        if !proc::has("ip_vs") {
            return no_state(artifact, "ip_vs");
        }
        let at = clock::now();
        match crate::ipvs::read(self.limits) {
            Ok(Some(table)) => {
                let mut entry = dumped(artifact, at, table.consistent);
                let times = table.timeouts;
                let note = format!("timeouts: tcp {} tcpfin {} udp {}", times.tcp, times.tcp_fin, times.udp);
                entry.notes.push(note);
                Captured::known(entry, table.to_string().into_bytes())
            }
            // The same table, with less of its flags.
            Ok(None) | Err(_) => proc_file(artifact, "/proc/net/ip_vs", proc::net("ip_vs")),
        }
    }

    /// `iptables-legacy-save` opens the tables the kernel lists; with none it need not be run.
    fn legacy(&self, reference: &Reference, names: &str) -> Captured {
        match proc::net(names) {
            Ok(listed) if listed.is_empty() => {
                let mut entry = entry(reference.artifact, "proc", clock::now());
                entry.notes.push(format!("/proc/net/{names} lists no table"));
                Captured::known(entry, Vec::new())
            }
            Ok(_) => self.tool(reference),
            Err(e) if e.kind() == io::ErrorKind::NotFound => no_state(reference.artifact, names),
            Err(e) => Captured::absent(reference.artifact, because(&e), format!("/proc/net/{names}: {e}")),
        }
    }

    fn conntrack(&self, reference: &Reference) -> Captured {
        let counted = std::fs::exists("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(false);
        if !counted {
            return no_state(reference.artifact, "nf_conntrack");
        }
        let captured = match self.modules.would_load(reference.modules) {
            None => self.connections(reference),
            Some(module) => Captured::absent(
                reference.artifact,
                AbsentReason::Error,
                format!("module {module} is not loaded"),
            ),
        };
        if captured.content.is_err() && proc::has("nf_conntrack") {
            return proc_file(reference.artifact, "/proc/net/nf_conntrack", proc::net("nf_conntrack"));
        }
        captured
    }

    fn connections(&self, reference: &Reference) -> Captured {
        let at = clock::now();
        match conntrack::read(self.limits) {
            Ok((bytes, consistent)) => Captured::known(dumped(reference.artifact, at, consistent), bytes),
            Err(_) => self.tool(reference),
        }
    }

    fn sockets(&self, reference: &Reference) -> Captured {
        let captured = self.tool(reference);
        if captured.content.is_ok() {
            return captured;
        }
        let read = sockets::read(&sockets::holders());
        let mut captured = proc_file(reference.artifact, "/proc/net/{tcp,tcp6,udp,udp6}", read);
        let note = "procfs does not say whether an IPv6 socket is v6only";
        captured.entry.notes.push(note.to_owned());
        captured
    }

    /// Without a device there is nothing to ask for, and with one its module is there.
    fn wireguard(&mut self, reference: &Reference) -> Captured {
        let Some(links) = self.tables.as_mut().ok().and_then(|tables| netlink::links(tables).ok()) else {
            return self.tool(reference);
        };
        let devices = links.into_iter().filter(|link| link.kind == "wireguard");
        let names: Vec<String> = devices.map(|link| link.name).collect();
        let at = clock::now();
        if names.is_empty() {
            let mut entry = entry(reference.artifact, "netlink", at);
            entry.notes.push("no WireGuard device".to_owned());
            return Captured::known(entry, Vec::new());
        }
        match wireguard::read(&names, self.limits) {
            Ok(Some((devices, consistent))) => {
                let text: String = devices.iter().map(wireguard::Device::lines).collect();
                Captured::known(dumped(reference.artifact, at, consistent), text.into_bytes())
            }
            Ok(None) | Err(_) => self.tool(reference),
        }
    }
}

fn entry(artifact: &str, via: &str, at: String) -> ArtifactEntry {
    ArtifactEntry {
        path: artifact.to_owned(),
        via: via.to_owned(),
        at,
        ..ArtifactEntry::default()
    }
}

/// What netlink said, and whether the kernel let it say it in one go.
fn dumped(artifact: &str, at: String, consistent: bool) -> ArtifactEntry {
    let mut entry = entry(artifact, "netlink", at);
    entry.consistent = Some(consistent);
    if !consistent {
        let note = "the table changed during every dump (NLM_F_DUMP_INTR)";
        entry.notes.push(note.to_owned());
    }
    entry
}

fn no_state(artifact: &str, file: &str) -> Captured {
    let detail = format!("no /proc/net/{file}: the kernel holds no such state");
    Captured::absent(artifact, AbsentReason::ModuleNotLoaded, detail)
}

fn proc_file(artifact: &str, file: &str, read: io::Result<Vec<u8>>) -> Captured {
    let at = clock::now();
    match read {
        Ok(bytes) => {
            let mut entry = entry(artifact, "proc", at);
            entry.argv = vec![file.to_owned()];
            Captured::known(entry, bytes)
        }
        Err(e) => Captured::absent(artifact, because(&e), format!("{file}: {e}")),
    }
}

fn refusal(error: &NetlinkError) -> (AbsentReason, String) {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EOPNOTSUPP: i32 = 95;
    const EPROTONOSUPPORT: i32 = 93;
    const EAFNOSUPPORT: i32 = 97;
    let reason = match error {
        NetlinkError::Timeout => AbsentReason::Timeout,
        NetlinkError::Refused(e) | NetlinkError::Socket(e) => match (error, e.raw_os_error()) {
            (_, Some(EPERM | EACCES)) => AbsentReason::Permission,
            // The kernel knows no such table, or no such netlink. A socket on which something does not work (in a
            // sandbox, under an emulator) says nothing about what the kernel holds.
            (NetlinkError::Refused(_), Some(EOPNOTSUPP | EPROTONOSUPPORT)) => AbsentReason::NotSupported,
            (NetlinkError::Socket(_), Some(EPROTONOSUPPORT | EAFNOSUPPORT)) => AbsentReason::NotSupported,
            _ => AbsentReason::Error,
        },
        NetlinkError::TooLarge | NetlinkError::Malformed(_) => AbsentReason::Error,
    };
    (reason, error.to_string())
}

fn is_checked_twice(artifact: &str) -> bool {
    matches!(
        artifact,
        name::LINK | name::IPTABLES_NFT | name::IP6TABLES_NFT | name::IPTABLES_LEGACY | name::IP6TABLES_LEGACY
    )
}

/// A save without what changes all the time: counters, and the comment lines with the date.
fn stable(save: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(save.len());
    for line in save.split(|&b| b == b'\n').filter(|line| !line.starts_with(b"#")) {
        let rule = match line {
            // A list of JSON is not a line of counters.
            [b'[', b'{', ..] => line,
            [b'[', rest @ ..] => rest
                .iter()
                .position(|&b| b == b']')
                .map_or(line, |end| &rest[end + 1..]),
            // `:INPUT ACCEPT [12:3456]`
            [b':', ..] => line
                .iter()
                .rposition(|&b| b == b'[')
                .map_or(line, |start| &line[..start]),
            _ => line,
        };
        kept.extend_from_slice(rule);
        kept.push(b'\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_of_this_namespace_has_every_artifact_or_a_reason() {
        let captured = capture_netns(&Target::Current, Limits::default());
        assert_eq!(captured.len(), REFERENCES.len());
        for artifact in captured {
            match artifact.content {
                Ok(bytes) => assert_eq!(artifact.entry.bytes, Some(bytes.len() as u64)),
                Err((_, detail)) => assert!(!detail.is_empty(), "{}", artifact.entry.path),
            }
        }
    }

    #[test]
    fn a_namespace_that_is_not_there_is_never_empty() {
        for artifact in capture_netns(&Target::Named("knet-no-such".into()), Limits::default()) {
            let (reason, _) = artifact.content.expect_err("nobody could look");
            assert!(!reason.means_empty(), "{}: {reason:?}", artifact.entry.path);
        }
    }

    #[test]
    fn a_table_that_never_holds_still_says_so_in_its_entry() {
        use netlink::interrupted_tests::restless;
        for (interrupted, consistent, row) in [(1, true, "110"), (usize::MAX, false, "120")] {
            let mut capture = Capture {
                limits: Limits::default(),
                modules: &Modules::look(),
                tables: Ok(restless(interrupted)),
            };
            let captured = capture.rtnetlink(name::RULE).expect("a table of rtnetlink");
            assert_eq!(captured.entry.consistent, Some(consistent), "{interrupted}");
            let said = captured.entry.notes.iter().any(|note| note.contains("NLM_F_DUMP_INTR"));
            assert_eq!(said, !consistent, "{:?}", captured.entry.notes);
            let bytes = captured.content.expect("what could be read is kept");
            assert!(String::from_utf8_lossy(&bytes).contains(row), "{bytes:?}");
        }
    }

    #[test]
    fn a_socket_that_does_not_work_is_no_empty_table() {
        let of = |code| io::Error::from_raw_os_error(code);
        let reason = |error: NetlinkError| refusal(&error).0;
        assert!(
            reason(NetlinkError::Refused(of(95))).means_empty(),
            "no nexthop objects before 5.3"
        );
        assert!(reason(NetlinkError::Socket(of(93))).means_empty(), "no such netlink");
        for code in [95, 1, 105] {
            assert!(!reason(NetlinkError::Socket(of(code))).means_empty(), "{code}");
        }
        assert!(!reason(NetlinkError::Refused(of(16))).means_empty());
        assert!(!reason(NetlinkError::Timeout).means_empty());
    }

    #[test]
    fn counters_are_no_change() {
        let a = b"# Generated on Sun\n*nat\n:PREROUTING ACCEPT [1:60]\n[1:60] -A PREROUTING -j X\n";
        let b = b"# Generated on Mon\n*nat\n:PREROUTING ACCEPT [2:99]\n[7:60] -A PREROUTING -j X\n";
        assert_eq!(stable(a), stable(b));
        assert_ne!(
            stable(a),
            stable(b"*nat\n:PREROUTING DROP [1:60]\n[1:60] -A PREROUTING -j X\n")
        );
        assert_ne!(stable(b"[{\"ifindex\":1}]\n"), stable(b"[{\"ifindex\":2}]\n"));
    }
}
