//! Namespaces with names, what is in them, and captures of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use knet_collectors::{Bundle, Limits, Space, Target, capture_netns};
use knet_snapshot::Snapshot;
use knet_snapshot::store::{Blob, NetnsId};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::plan::Plan;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Namespaces of a plan, as long as this value lives.
pub struct Lab {
    prefix: String,
    names: Vec<String>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let lines: Vec<String> = self.names.iter().map(|n| format!("netns del {n}")).collect();
        let _ = run("ip", &["-force", "-batch", "-"], &lines.join("\n"));
    }
}

impl Lab {
    /// Builds what the plan says.
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub fn build(plan: &Plan) -> Result<Self, String> {
        let prefix = format!("kt{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let names = plan.spaces.iter().map(|s| format!("{prefix}{}", s.short)).collect();
        let lab = Self { prefix, names };
        let adds: Vec<String> = lab.names.iter().map(|n| format!("netns add {n}")).collect();
        lab.must("ip", &["-batch", "-"], &adds)?;
        for (i, space) in plan.spaces.iter().enumerate() {
            lab.sysctls(i, &space.early)?;
        }
        let links: Vec<String> = plan.links.iter().map(|l| lab.fill(l)).collect();
        lab.must("ip", &["-batch", "-"], &links)?;
        for (i, space) in plan.spaces.iter().enumerate() {
            let name = lab.names[i].as_str();
            let lines: Vec<String> = space.ip.iter().map(|l| lab.fill(l)).collect();
            lab.must("ip", &["-n", name, "-batch", "-"], &lines)?;
            if !space.bridge.is_empty() {
                lab.bridge(name, &space.bridge)?;
            }
            lab.sysctls(i, &space.late)?;
            for (program, save) in [
                ("iptables-legacy-restore", &space.iptables),
                ("ip6tables-legacy-restore", &space.ip6tables),
                ("ipvsadm-restore", &space.ipvs),
            ] {
                if !save.is_empty() {
                    lab.must("ip", &["netns", "exec", name, program], std::slice::from_ref(save))?;
                }
            }
            if !space.nft.is_empty() {
                lab.must(
                    "ip",
                    &["netns", "exec", name, "nft", "-f", "-"],
                    std::slice::from_ref(&space.nft),
                )?;
            }
            if !space.shell.is_empty() {
                lab.must("ip", &["netns", "exec", name, "sh", "-e"], &space.shell)?;
            }
            // Last words: what must come after everything else.
            if !space.last.is_empty() {
                let lines: Vec<String> = space.last.iter().map(|l| lab.fill(l)).collect();
                lab.must("ip", &["-n", name, "-batch", "-"], &lines)?;
            }
        }
        Ok(lab)
    }

    /// `@name@` in a line is the namespace's full name.
    fn fill(&self, line: &str) -> String {
        line.replace('@', &self.prefix)
    }

    fn must(&self, program: &str, args: &[&str], lines: &[String]) -> Result<(), String> {
        if lines.is_empty() {
            return Ok(());
        }
        let (ok, _, err) = run(program, args, &(lines.join("\n") + "\n"));
        if ok {
            Ok(())
        } else {
            Err(format!("{program} {args:?}: {err}\n{}", lines.join("\n")))
        }
    }

    /// The state of a port can be set only once its carrier is there, a moment after it was made.
    fn bridge(&self, name: &str, lines: &[String]) -> Result<(), String> {
        let mut rest = lines;
        for _ in 0..8 {
            let Err(e) = self.must("bridge", &["-n", name, "-batch", "-"], rest) else {
                return Ok(());
            };
            let failed = e
                .split("Command failed -:")
                .nth(1)
                .and_then(|t| t.lines().next()?.parse::<usize>().ok());
            let Some(failed) = failed.filter(|_| e.contains("Network is down")) else {
                return Err(e);
            };
            rest = &rest[failed - 1..];
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
        Err(format!("bridge: {rest:?}: the network stays down"))
    }

    fn sysctls(&self, space: usize, values: &[(String, String)]) -> Result<(), String> {
        if values.is_empty() {
            return Ok(());
        }
        let values = values.to_vec();
        self.inside(space, move || {
            for (key, value) in values {
                let path = format!("/proc/sys/{key}");
                std::fs::write(&path, &value).map_err(|e| format!("{path} = {value}: {e}"))?;
            }
            Ok(())
        })
    }

    /// Empties the neighbour tables.
    pub fn forget_neighbours(&self) {
        for name in &self.names {
            run("ip", &["-n", name, "neigh", "flush", "all"], "");
        }
    }

    /// Runs something on a thread inside a namespace.
    pub fn inside<T: Send + 'static>(&self, space: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(space, f).join().expect("it does not panic")
    }

    /// Starts a thread inside a namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        space: usize,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.names[space]);
        std::thread::spawn(move || {
            let file = File::open(&path).expect("the namespace is there");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            f()
        })
    }

    /// Everything of the plan that is to be captured, as a snapshot.
    pub fn capture(&self, plan: &Plan) -> Snapshot {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut whole: Option<Value> = None;
        for node in plan.nodes() {
            let mut bundle = Bundle::begin(&node);
            let nsids = self.nsids(plan, &node);
            for (i, space) in plan
                .spaces
                .iter()
                .enumerate()
                .filter(|(_, s)| s.node.as_deref() == Some(&node))
            {
                let captured = self.inside(i, || capture_netns(&Target::Current, Limits::default()));
                let id = (!space.host).then(|| space.short.clone());
                let entry = id.as_ref().map(|_| match nsids.get(&self.names[i]) {
                    Some(nsid) if !plan.hide_nsids => json!({"nsid": nsid}),
                    _ => json!({}),
                });
                bundle = bundle.with(Space { id, captured, entry });
            }
            for (path, bytes) in bundle.to_files() {
                if path != "manifest.json" {
                    files.insert(path, bytes);
                    continue;
                }
                let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
                let Some(whole) = &mut whole else {
                    whole = Some(manifest);
                    continue;
                };
                for list in ["nodes", "artifacts", "absent"] {
                    let more = manifest[list].as_array().cloned().unwrap_or_default();
                    if let Some(all) = whole[list].as_array_mut() {
                        all.extend(more);
                    }
                }
            }
        }
        files.insert(
            "manifest.json".to_owned(),
            whole.unwrap_or_default().to_string().into_bytes(),
        );
        if let Some(dir) = std::env::var_os("KNET_DUMP") {
            let root = std::path::Path::new(&dir).join(&plan.name);
            for (path, bytes) in &files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
                std::fs::write(path, bytes).expect("writable");
            }
        }
        let files = files
            .into_iter()
            .map(|(path, bytes)| (path, Arc::new(bytes) as Blob))
            .collect();
        Snapshot::from_files(files).expect("a snapshot")
    }

    /// The ids by which a node's own namespace knows the others.
    fn nsids(&self, plan: &Plan, node: &str) -> BTreeMap<String, i64> {
        let host = plan
            .spaces
            .iter()
            .position(|s| s.host && s.node.as_deref() == Some(node))
            .expect("a node has one");
        let (_, out, _) = run("ip", &["-n", &self.names[host], "-j", "netns", "list-id"], "");
        let rows: Vec<Value> = serde_json::from_str(&out).unwrap_or_default();
        rows.iter()
            .filter_map(|r| Some((r["name"].as_str()?.to_owned(), r["nsid"].as_i64()?)))
            .collect()
    }
}

/// The name of a space in the snapshot.
pub fn netns_id(plan: &Plan, space: usize) -> NetnsId {
    let s = &plan.spaces[space];
    NetnsId {
        node: s.node.clone().unwrap_or_default(),
        id: (!s.host).then(|| s.short.clone()),
    }
}

/// Runs a program with an input: whether it succeeded, and what it printed.
pub fn run(program: &str, args: &[&str], stdin: &str) -> (bool, String, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut pipe = child.stdin.take().expect("piped");
    let text = stdin.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = pipe.write_all(text.as_bytes());
    });
    let out = child.wait_with_output().expect("it ends");
    let _ = writer.join();
    (
        out.status.success(),
        String::from_utf8_lossy(&out.stdout).into_owned(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

/// Every address of a list with a prefix length.
pub fn bare(address: &str) -> IpAddr {
    address
        .split('/')
        .next()
        .and_then(|a| a.parse().ok())
        .unwrap_or_else(|| panic!("{address}"))
}
