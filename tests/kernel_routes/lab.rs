//! A network namespace of its own, the reference commands in it, and `ip route get` in bulk.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;

use crate::random::Ask;

/// What the kernel said to one question.
#[derive(Clone, Debug)]
pub enum Said {
    /// The first row of `ip -j route get`.
    Row(serde_json::Value),
    /// `RTNETLINK answers: ...`
    Error(String),
}

/// A namespace that lives as long as this value.
pub struct Lab {
    holder: Child,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The namespace goes with its only process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Lab {
    /// Whether this machine can run the test.
    pub fn possible() -> Result<(), String> {
        match Command::new("unshare")
            .args(["-n", "ip", "link", "show", "lo"])
            .output()
        {
            Ok(out) if out.status.success() => Ok(()),
            Ok(out) => Err(format!(
                "unshare -n ip: {}",
                String::from_utf8_lossy(&out.stderr).trim()
            )),
            Err(e) => Err(format!("unshare: {e}")),
        }
    }

    /// A namespace programmed by a script for `ip -batch`; lines starting with `sysctl ` are for sysctl. What
    /// the kernel refuses is left out.
    pub fn new(script: &[String]) -> Self {
        let own = std::fs::read_link("/proc/self/ns/net").expect("procfs");
        let holder = Command::new("unshare")
            .args(["-n", "sleep", "600"])
            .spawn()
            .expect("unshare starts");
        let lab = Self { holder };
        let path = format!("/proc/{}/ns/net", lab.holder.id());
        while std::fs::read_link(&path).map_or(true, |ns| ns == own) {
            sleep(Duration::from_millis(2));
        }
        if let Some(dir) = std::env::var_os("KNET_DUMP") {
            std::fs::write(std::path::Path::new(&dir).join("script"), script.join("\n")).expect("writable");
        }
        // One process for each run of lines of a kind.
        for run in script.chunk_by(|a, b| kind(a) == kind(b)) {
            let word = kind(&run[0]).to_owned();
            let rest: Vec<String> = run
                .iter()
                .map(|l| l.strip_prefix(&word).unwrap_or(l).trim().to_owned())
                .collect();
            if word == "sysctl" {
                let args: Vec<&str> = std::iter::once("-qw").chain(rest.iter().map(String::as_str)).collect();
                lab.run("sysctl", &args, "");
            } else {
                let options: Vec<&str> = (!word.is_empty()).then_some(word.as_str()).into_iter().collect();
                // `ip` gives up on words it does not know, whatever `-force` says; the last line tells.
                let (out, err) = lab.ip_batch(&[&rest[..], &["link show lo".to_owned()]].concat(), &options);
                assert!(out.contains("lo:"), "the batch stopped: {err}");
            }
        }
        // Carrier changes reach the routes within a second.
        sleep(Duration::from_millis(1200));
        lab
    }

    fn run(&self, program: &str, args: &[&str], stdin: &str) -> (String, String) {
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.holder.id()))
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let mut pipe = child.stdin.take().expect("piped");
        let text = stdin.to_owned();
        let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
        let out = child.wait_with_output().expect("it ends");
        let _ = writer.join();
        (
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    }

    fn ip_batch(&self, lines: &[String], options: &[&str]) -> (String, String) {
        let args: Vec<&str> = options.iter().copied().chain(["-force", "-batch", "-"]).collect();
        let (out, err) = self.run("ip", &args, &(lines.join("\n") + "\n"));
        if std::env::var_os("KNET_VERBOSE").is_some() && options != ["-j"] {
            for bad in err
                .lines()
                .filter_map(|l| l.strip_prefix("Command failed -:")?.parse::<usize>().ok())
            {
                println!("  refused: {}", lines[bad - 1]);
            }
        }
        (out, err)
    }

    /// The namespace as a snapshot, by the reference commands of the format.
    pub fn capture(&self) -> Snapshot {
        let ip = |args: &str| {
            let args: Vec<&str> = args.split(' ').collect();
            self.run("ip", &args, "").0
        };
        let files = [
            ("link.json", ip("-d -j -N link show")),
            ("addr.json", ip("-d -j -N addr show")),
            ("route.json", ip("-d -j -N -4 route show table all")),
            ("route6.json", ip("-d -j -N -6 route show table all")),
            ("rule.json", ip("-d -j -N -4 rule show")),
            ("rule6.json", ip("-d -j -N -6 rule show")),
            ("nexthop.json", ip("-d -j nexthop show")),
            ("neigh.json", ip("-j neigh show")),
            (
                "sysctl.txt",
                self.run("sysctl", &["-a", "--pattern", "^net[.]ipv"], "").0,
            ),
        ];
        if let Some(dir) = std::env::var_os("KNET_DUMP") {
            for (name, text) in &files {
                std::fs::write(std::path::Path::new(&dir).join(name), text).expect("writable");
            }
        }
        let blobs = files
            .into_iter()
            .map(|(name, text)| (format!("nodes/lab/host/{name}"), Arc::new(text.into_bytes()) as Blob))
            .collect();
        Snapshot::from_files(blobs).expect("a snapshot")
    }

    /// Asks the kernel all questions at once.
    pub fn route_get(&self, asks: &[Ask]) -> Vec<Said> {
        let lines: Vec<String> = asks.iter().map(Ask::command).collect();
        let (out, err) = self.ip_batch(&lines, &["-j"]);
        let mut errors: BTreeMap<usize, String> = BTreeMap::new();
        let mut last = String::new();
        for line in err.lines() {
            match line.strip_prefix("Command failed -:") {
                Some(n) => {
                    errors.insert(
                        n.parse::<usize>().expect("a line number") - 1,
                        std::mem::take(&mut last),
                    );
                }
                None => last = line.to_owned(),
            }
        }
        let mut rows = serde_json::Deserializer::from_str(&out).into_iter::<serde_json::Value>();
        (0..asks.len())
            .map(|i| match errors.remove(&i) {
                Some(e) => Said::Error(e),
                None => Said::Row(
                    rows.next()
                        .expect("a row for each line that did not fail")
                        .expect("JSON")[0]
                        .take(),
                ),
            })
            .collect()
    }
}

/// Who a line of the script is for: `sysctl`, `ip -4`, `ip -6` or just `ip`.
fn kind(line: &str) -> &str {
    line.split(' ')
        .next()
        .filter(|w| ["sysctl", "-4", "-6"].contains(w))
        .unwrap_or("")
}
