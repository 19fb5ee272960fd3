//! A client, a node that routes, and a server; captures of them, and recordings made with knet's own commands.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use knet_collectors::{Bundle, Limits, Space, Target, capture_netns};
use serde_json::{Value, json};

use crate::netns::{must, shell};

/// How long a monitor is given to begin, and to print its last event.
const MONITOR: Duration = Duration::from_millis(600);

/// This process' namespace is the node's own; client `c` and server `s` have names.
pub struct Lab {
    names: [(&'static str, String); 2],
    dir: tempfile::TempDir,
    recorded: AtomicU32,
}

/// What the client sends.
pub struct Packet {
    /// `c`, or the node itself.
    from: &'static str,
    proto: &'static str,
    to: &'static str,
    port: u16,
}

impl Packet {
    pub const fn tcp(to: &'static str, port: u16) -> Self {
        Self {
            from: "c",
            proto: "tcp",
            to,
            port,
        }
    }

    pub const fn udp(to: &'static str, port: u16) -> Self {
        Self {
            from: "c",
            proto: "udp",
            to,
            port,
        }
    }

    /// Sent by a program on the node.
    pub const fn by_node(mut self) -> Self {
        self.from = "node/lab";
        self
    }

    fn destination(&self) -> String {
        if self.to.contains(':') {
            format!("[{}]:{}", self.to, self.port)
        } else {
            format!("{}:{}", self.to, self.port)
        }
    }
}

/// A recording of the kernel's trace at one place.
pub struct Recorded {
    /// `lab/host`
    pub place: String,
    pub text: String,
    file: PathBuf,
}

impl Recorded {
    /// Everything that helps to see why.
    pub fn page(&self, answer: &Value) -> String {
        format!("{}\n{}\n{:#}", self.place, self.text, answer["against"])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (_, name) in &self.names {
            shell(&format!("ip netns del {name}"), "");
        }
    }
}

impl Lab {
    /// Builds the namespaces.
    pub fn new() -> Self {
        let id = std::process::id();
        let lab = Self {
            names: [("c", format!("ka{id}-c")), ("s", format!("ka{id}-s"))],
            dir: tempfile::tempdir().expect("a directory for the snapshot"),
            recorded: AtomicU32::new(0),
        };
        must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1", "");
        must("sysctl -qw net.ipv6.conf.default.accept_dad=0", "");
        must("ip link set lo up", "");
        for (i, (short, name)) in lab.names.iter().enumerate() {
            let n = i + 1;
            must(
                &format!(
                    "ip netns add {name}
                     ip link add {short}0 type veth peer name eth0 netns {name}
                     ip addr add 10.{n}.0.1/24 dev {short}0
                     ip addr add fd00:{n}::1/64 dev {short}0 nodad
                     ip link set {short}0 up
                     ip -n {name} link set lo up
                     ip -n {name} addr add 10.{n}.0.2/24 dev eth0
                     ip -n {name} addr add fd00:{n}::2/64 dev eth0 nodad
                     ip -n {name} link set eth0 up
                     ip -n {name} route add default via 10.{n}.0.1
                     ip -n {name} route add default via fd00:{n}::1"
                ),
                "",
            );
        }
        // Service addresses are nobody's; a program on the node needs a route to them before they are translated.
        must("ip route add default via 10.2.0.2", "");
        for last in [3, 4] {
            must(
                &format!("ip -n {} addr add 10.2.0.{last}/24 dev eth0", lab.name("s")),
                "",
            );
        }
        // The kernel sends ICMP errors and resets as often as it is asked to.
        must("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0", "");
        lab
    }

    fn name(&self, short: &str) -> &str {
        let found = self.names.iter().find(|(s, _)| *s == short);
        &found.expect("c or s").1
    }

    /// Runs a command in a namespace.
    pub fn must_in(&self, short: &str, command: &str, input: &str) -> String {
        must(&format!("ip netns exec {} {command}", self.name(short)), input)
    }

    fn snapshot(&self) -> PathBuf {
        self.dir.path().join("snapshot")
    }

    /// Captures all three as node `lab`.
    pub fn capture(&self) {
        let directory = self.snapshot();
        let _ = std::fs::remove_dir_all(&directory);
        let captured = capture_netns(&Target::Current, Limits::default());
        let mut bundle = Bundle::begin("lab").with(Space {
            id: None,
            captured,
            entry: None,
        });
        let ids: Value = serde_json::from_str(&must("ip -j netns list-id", "")).unwrap_or_default();
        for (short, name) in &self.names {
            let rows = ids.as_array().map_or(&[][..], Vec::as_slice);
            let id = rows.iter().find(|r| r["name"] == **name).map(|r| r["nsid"].clone());
            bundle = bundle.with(Space {
                id: Some((*short).to_owned()),
                captured: capture_netns(&Target::Named(name.clone()), Limits::default()),
                entry: Some(json!({"path": format!("/run/netns/{name}"), "nsid": id})),
            });
        }
        bundle.write(&directory).expect("the directory is ours");
    }

    /// Records a packet everywhere the printed commands say, all at once, and undoes what they set up.
    pub fn record(&self, packet: &Packet) -> Vec<Recorded> {
        // A connection that is known already meets no NAT rule.
        shell("conntrack -F", "");
        let (code, answer) = self.knet(packet, &["--verify-commands"]);
        assert_eq!(code, 0, "{answer:#}");
        let rules = rules();
        let mut recordings: Vec<(String, Value)> = Vec::new();
        for place in answer["verify"].as_array().expect("places") {
            let name = format!("{}/{}", text(&place["node"]), text(&place["netns"]));
            let all = place["recordings"].as_array().expect("recordings");
            recordings.extend(all.iter().map(|r| (name.clone(), r.clone())));
        }
        assert!(!recordings.is_empty(), "{answer:#}");
        for (_, recording) in &recordings {
            list(&recording["set_up"]).iter().for_each(|command| self.run(command));
        }
        let watchers: Vec<Watcher> = recordings
            .iter()
            .map(|(_, recording)| Watcher::start(text(&recording["watch"]), self.dir.path()))
            .collect();
        sleep(MONITOR);
        let Packet { from, proto, to, port } = packet;
        let inside = if *from == "c" {
            format!("ip netns exec {}", self.name("c"))
        } else {
            String::new()
        };
        shell(
            &format!("{inside} timeout 2 bash -c 'echo hello > /dev/{proto}/{to}/{port}'"),
            "",
        );
        sleep(MONITOR);
        watchers.into_iter().for_each(Watcher::stop);
        for (_, recording) in recordings.iter().rev() {
            list(&recording["undo"]).iter().for_each(|command| self.run(command));
        }
        assert_eq!(
            rules_left(&rules),
            rules_left(&self::rules()),
            "the undo leaves nothing"
        );
        self.dump(&recordings);
        recordings
            .into_iter()
            .map(|(place, recording)| {
                let file = self.dir.path().join(text(&recording["file"]));
                let text = std::fs::read_to_string(&file).expect("the watcher wrote it");
                assert!(!text.is_empty(), "{place}: nothing was recorded by {recording:#}");
                Recorded { place, text, file }
            })
            .collect()
    }

    /// `KNET_DUMP=DIR` keeps snapshots and recordings, for cases that need no root.
    fn dump(&self, recordings: &[(String, Value)]) {
        let Some(to) = std::env::var_os("KNET_DUMP").map(PathBuf::from) else {
            return;
        };
        let to = to.join(format!(
            "{}-{}",
            std::process::id(),
            self.recorded.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&to).expect("a directory for what is kept");
        let from = self.snapshot();
        must(&format!("cp -r {} {}", from.display(), to.display()), "");
        for (_, recording) in recordings {
            let file = text(&recording["file"]);
            std::fs::copy(self.dir.path().join(file), to.join(file)).expect("the watcher wrote it");
        }
    }

    /// Puts a recording beside the walk: exit code and document.
    pub fn against(&self, packet: &Packet, recorded: &Recorded) -> (i32, Value) {
        let file = recorded.file.to_string_lossy().into_owned();
        let named = self.knet(packet, &["--against", &file, "--against-node", &recorded.place]);
        // The place is found without being told, too.
        let (code, guessed) = self.knet(packet, &["--against", &file]);
        assert_eq!(
            (code, &guessed["against"]["agrees"]),
            (named.0, &named.1["against"]["agrees"])
        );
        named
    }

    fn knet(&self, packet: &Packet, more: &[&str]) -> (i32, Value) {
        let out = Command::new(env!("CARGO_BIN_EXE_kubectl-knet"))
            .args([
                "trace",
                packet.from,
                &packet.destination(),
                "-p",
                packet.proto,
                "-o",
                "json",
            ])
            .arg("--snapshot")
            .arg(self.snapshot())
            .args(more)
            .output()
            .expect("the binary was built");
        let stdout = String::from_utf8_lossy(&out.stdout);
        let answer = serde_json::from_str(&stdout)
            .unwrap_or_else(|e| panic!("{e}: {stdout}{}", String::from_utf8_lossy(&out.stderr)));
        (out.status.code().expect("no signal"), answer)
    }

    fn run(&self, command: &str) {
        let out = Command::new("sh")
            .args(["-c", command])
            .current_dir(self.dir.path())
            .output()
            .expect("a shell");
        assert!(
            out.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

/// The rules of the node, without counters and handles.
fn rules() -> String {
    let mut out = String::new();
    for command in ["nft -s list ruleset", "iptables-legacy-save", "ip6tables-legacy-save"] {
        out.push_str(&must(command, ""));
    }
    out
}

/// Lines that hold rules: empty tables, comments of the time and counters of policies stay out.
fn rules_left(all: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = all.lines().map(str::trim).collect();
    lines.retain(|l| {
        !l.is_empty() && !l.starts_with(['#', ':', '*', '}']) && *l != "COMMIT" && !l.starts_with("table ")
    });
    lines
}

/// A command that prints until it is stopped.
struct Watcher(Child);

impl Watcher {
    fn start(command: &str, directory: &Path) -> Self {
        use std::os::unix::process::CommandExt as _;
        let child = Command::new("sh")
            .args(["-c", command])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            // One signal ends the shell and everything it started.
            .process_group(0)
            .spawn()
            .expect("a shell");
        Self(child)
    }

    fn stop(mut self) {
        shell(&format!("kill -INT -{0}; sleep 0.1; kill -TERM -{0}", self.0.id()), "");
        let end = Instant::now() + Duration::from_secs(5);
        while self.0.try_wait().expect("it is our child").is_none() {
            if Instant::now() > end {
                self.0.kill().expect("it is our child");
            }
            sleep(Duration::from_millis(20));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// Lets every namespace write to the kernel log, as long as this value lives. Only the first namespace has the
/// switch, so this is for the process that is not in a namespace of its own yet.
pub struct KernelLog {
    before: String,
}

const SWITCH: &str = "/proc/sys/net/netfilter/nf_log_all_netns";

impl KernelLog {
    /// `None` when that cannot be done, or the log cannot be read.
    pub fn open() -> Option<Self> {
        let before = std::fs::read_to_string(SWITCH).ok()?;
        let readable = shell("dmesg", "").status.success();
        let open = readable && std::fs::write(SWITCH, "1").is_ok();
        open.then_some(Self { before })
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        let _ = std::fs::write(SWITCH, &self.before);
    }
}
