//! Captures a whole node: its own network namespace, every other one on it, and what stands beside them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use knet_snapshot::manifest::AbsentReason;
use serde_json::{Value, json};

use crate::bundle::{Bundle, Space};
use crate::capture::{Target, capture_netns_with};
use crate::exec::Limits;
use crate::guard::Modules;
use crate::namespaces::{self, Discovery, Found};
use crate::netlink::{self, LinkFact, Tables};
use crate::routing_daemon;
use crate::tools::Captured;

/// What is captured, and within which bounds.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Node name, as Kubernetes has it.
    pub node: String,
    /// Bounds on one artifact.
    pub limits: Limits,
    /// Bound on all of it; what is not captured by then is absent.
    pub time: Duration,
    /// Namespaces captured at once.
    pub parallel: usize,
    /// The node's own namespace, when it is not that of process 1.
    pub host: Option<PathBuf>,
    /// Only these others. `None`: every one there is.
    pub only: Option<Vec<PathBuf>>,
}

impl NodeOptions {
    /// Everything, with the default bounds.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            limits: Limits::default(),
            time: Duration::from_secs(300),
            parallel: 4,
            host: None,
            only: None,
        }
    }
}

/// Captures a node. What cannot be captured is in the result, with its reason.
///
/// # Errors
/// When not even the node's own namespace can be opened.
pub fn collect(options: &NodeOptions) -> io::Result<Bundle> {
    let deadline = Instant::now() + options.time;
    let mut bundle = Bundle::begin(&options.node);
    let Discovery { host, others, notes } = look_around(options)?;
    bundle.notes = notes;
    let modules = Modules::look();
    let view = View::of(&host);
    let mut ids = BTreeSet::new();
    let jobs: Vec<(Option<String>, &Found)> = std::iter::once((None, &host))
        .chain(others.iter().map(|other| {
            let mut id = other.id();
            if !ids.insert(id.clone()) {
                id = format!("{id}-{}", other.inode);
                ids.insert(id.clone());
            }
            (Some(id), other)
        }))
        .collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Space)>> = Mutex::new(Vec::new());
    let asked = || routing_daemon::ask(host.inode, options.limits, deadline);
    let daemons = thread::scope(|scope| {
        let daemons = scope.spawn(asked);
        for _ in 0..options.parallel.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((id, found)) = jobs.get(index) else { break };
                    let space = space(id.as_deref(), found, &view, options, &modules, deadline);
                    if let Ok(mut done) = done.lock() {
                        done.push((index, space));
                    }
                }
            });
        }
        daemons.join().unwrap_or_else(|_| {
            let what = |path| Captured::absent(path, AbsentReason::Error, "the collector stopped");
            vec![what("files/bird"), what("files/frr")]
        })
    });
    bundle.daemons = daemons;
    let mut spaces = done.into_inner().unwrap_or_default();
    spaces.sort_by_key(|(index, _)| *index);
    for (_, space) in spaces {
        bundle = bundle.with(space);
    }
    for id in view.unseen(&others) {
        bundle.notes.push(format!(
            "a device of the node has its peer in namespace {id}, which was not found"
        ));
    }
    bundle.files = crate::cni::files(Path::new("/"));
    Ok(bundle)
}

fn look_around(options: &NodeOptions) -> io::Result<Discovery> {
    let mut discovery = match (&options.host, &options.only) {
        (Some(host), Some(_)) => Discovery {
            host: namespaces::open(host)?,
            others: Vec::new(),
            notes: Vec::new(),
        },
        _ => namespaces::discover(Path::new("/"))?,
    };
    if let Some(host) = &options.host {
        discovery.host = namespaces::open(host)?;
        let inode = discovery.host.inode;
        discovery.others.retain(|other| other.inode != inode);
    }
    if let Some(only) = &options.only {
        discovery.others.clear();
        for path in only {
            match namespaces::open(path) {
                Ok(mut found) => {
                    found.name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                    discovery.others.push(found);
                }
                Err(e) => discovery.notes.push(format!("{}: {e}", path.display())),
            }
        }
    }
    Ok(discovery)
}

fn space(
    id: Option<&str>,
    found: &Found,
    view: &View,
    options: &NodeOptions,
    modules: &Modules,
    deadline: Instant,
) -> Space {
    let left = deadline.saturating_duration_since(Instant::now());
    let target = Target::Open(found.file.clone());
    let captured = if left.is_zero() {
        let detail = format!("the node's {} seconds were over", options.time.as_secs());
        crate::reference::REFERENCES
            .iter()
            .map(|reference| Captured::absent(reference.artifact, AbsentReason::Timeout, detail.clone()))
            .collect()
    } else {
        let limits = Limits {
            time: options.limits.time.min(left),
            ..options.limits
        };
        capture_netns_with(&target, limits, modules)
    };
    Space {
        id: id.map(str::to_owned),
        captured,
        entry: id.map(|_| view.entry(found, options.limits)),
    }
}

/// How the node's own namespace sees the others.
struct View {
    links: Vec<LinkFact>,
    host: std::sync::Arc<fs::File>,
}

impl View {
    fn of(host: &Found) -> Self {
        let links = in_namespace(&host.file, |tables| netlink::links(tables).unwrap_or_default()).unwrap_or_default();
        Self {
            links,
            host: host.file.clone(),
        }
    }

    fn nsid(&self, other: &Found) -> Option<i32> {
        in_namespace(&self.host, |tables| {
            netlink::nsid_of(tables, std::os::fd::AsFd::as_fd(&*other.file))
                .ok()
                .flatten()
        })
        .flatten()
    }

    /// The entry of `netns.json`.
    fn entry(&self, found: &Found, limits: Limits) -> Value {
        let nsid = self.nsid(found);
        let inside = in_namespace_within(&found.file, limits, |tables| netlink::links(tables).unwrap_or_default());
        let mut peers = Vec::new();
        for link in inside.unwrap_or_default() {
            let Some(host) = link.link_index.filter(|_| link.netnsid.is_some()) else {
                continue;
            };
            // The other end says the same, or it is in a third namespace.
            let theirs = self.links.iter().any(|other| {
                other.index == host && other.link_index == Some(link.index) && nsid.is_some() && other.netnsid == nsid
            });
            if theirs {
                peers.push(json!({"ifindex": link.index, "host_ifindex": host}));
            }
        }
        let pod = match (&found.pod, &found.pod_uid) {
            (Some((namespace, name)), uid) => json!({"namespace": namespace, "name": name, "uid": uid}),
            // The API server knows the name of the UID.
            (None, Some(uid)) => json!({"namespace": "", "name": "", "uid": uid}),
            (None, None) => Value::Null,
        };
        json!({
            "inode": found.inode,
            "path": found.path.display().to_string(),
            "pod": pod,
            "peers": peers,
            "nsid": nsid,
        })
    }

    /// Ids of namespaces that hold a peer of a device of the node and were not found.
    fn unseen(&self, others: &[Found]) -> BTreeSet<i32> {
        let seen: BTreeSet<i32> = others.iter().filter_map(|other| self.nsid(other)).collect();
        let needed = self
            .links
            .iter()
            .filter(|link| link.kind == "veth" || link.kind == "netkit");
        needed
            .filter_map(|link| link.netnsid)
            .filter(|id| *id >= 0 && !seen.contains(id))
            .collect()
    }
}

fn in_namespace<T: Send>(file: &fs::File, ask: impl FnOnce(&mut Tables) -> T + Send) -> Option<T> {
    in_namespace_within(file, Limits::default(), ask)
}

/// On a thread that enters the namespace and ends with the answer.
fn in_namespace_within<T: Send>(
    file: &fs::File,
    limits: Limits,
    ask: impl FnOnce(&mut Tables) -> T + Send,
) -> Option<T> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd as _;
    let inside = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
        let mut tables = Tables::open(limits).ok()?;
        Some(ask(&mut tables))
    };
    thread::scope(|scope| scope.spawn(inside).join()).ok().flatten()
}
