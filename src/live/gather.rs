//! Lists the objects, captures the nodes, and leaves nothing behind: on success, failure, Ctrl-C and timeout.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use knet_collectors::cluster::{self, Access, AgentOptions, Agents, Client, ClusterError, How, Listed, RESOURCES};
use knet_snapshot::manifest::{AbsentEntry, AbsentReason, ArtifactEntry, Manifest, Tool, Window};

use super::Index;
use super::merge::{self, Sink};
use crate::args::{AgentArg, ClusterArgs};
use crate::console::Console;
use crate::exit::Failure;

/// How a capture went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Nodes that were read.
    pub captured: usize,
    /// Nodes that were to be read and were not, and kinds of objects.
    pub missing: usize,
}

/// Everything of a cluster that is asked for, into `sink`.
///
/// # Errors
/// When there is no cluster to ask, its nodes cannot be listed, or somebody interrupts. Nodes that cannot be read
/// are no error: they are told and noted as absent.
pub fn gather(
    args: &ClusterArgs,
    sink: &mut dyn Sink,
    console: &Console,
    select: impl FnOnce(&Index) -> Result<BTreeSet<String>, Failure>,
) -> Result<Gathered, Failure> {
    let options = agent_options(args)?;
    runtime()?.block_on(async {
        let client = client(args).await?;
        let agents = Agents::new(client.clone(), &options);
        let work = work(&client, &agents, args.agent, sink, console, select);
        let result = tokio::select! {
            result = work => result,
            () = interrupted() => Err(Failure::message("interrupted")),
        };
        let left = agents.finish().await;
        for name in &left {
            console.warn(&format!(
                "pod {}/{name} may be left; it ends by itself, and `kubectl knet cleanup` takes it away",
                options.namespace
            ));
        }
        result
    })
}

/// A client for the options.
///
/// # Errors
/// When the kubeconfig is of no use.
pub async fn client(args: &ClusterArgs) -> Result<Client, Failure> {
    let access = Access {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        impersonate: args.impersonate.clone(),
        groups: args.groups.clone(),
        timeout: Some(args.request_timeout).filter(|time| !time.is_zero()),
    };
    cluster::connect(&access).await.map_err(told)
}

/// A runtime on this thread: it waits for the network and computes nothing.
///
/// # Errors
/// When the system has no resources left.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

pub(crate) fn told(error: ClusterError) -> Failure {
    let hints = error.hints();
    hints.into_iter().fold(Failure::from(error), Failure::hint)
}

async fn work(
    client: &Client,
    agents: &Agents<'_>,
    how: AgentArg,
    sink: &mut dyn Sink,
    console: &Console,
    select: impl FnOnce(&Index) -> Result<BTreeSet<String>, Failure>,
) -> Result<Gathered, Failure> {
    let mut manifest = begin();
    let mut index = Index::default();
    let mut gathered = Gathered::default();
    for resource in RESOURCES {
        let path = format!("cluster/{}.json", resource.name);
        let mut spool = spool()?;
        let mut out = BufWriter::new(&mut spool);
        let listed = cluster::list(client, resource, &mut out, |object| index.see(resource.name, object)).await;
        out.flush()?;
        drop(out);
        match listed {
            Ok(Listed { objects, inconsistent }) => {
                sink.add_file(&path, &mut spool)?;
                let notes = if inconsistent {
                    vec!["the list was read as of two moments".to_owned()]
                } else {
                    Vec::new()
                };
                manifest.artifacts.push(ArtifactEntry {
                    path,
                    via: "api".to_owned(),
                    at: knet_collectors::now(),
                    bytes: spool.metadata().ok().map(|meta| meta.len()),
                    consistent: Some(!inconsistent),
                    notes,
                    ..ArtifactEntry::default()
                });
                if objects > 10_000 {
                    console.note(&format!("{objects} {}", resource.name));
                }
            }
            // Without nodes there is nothing to go on with.
            Err(e) if resource.name == "nodes" => return Err(told(e)),
            Err(e) => {
                if !resource.optional {
                    console.warn(&format!("{}: {e}", resource.name));
                    gathered.missing += 1;
                }
                manifest.absent.push(AbsentEntry {
                    path,
                    reason: e.reason(),
                    detail: e.to_string(),
                });
            }
        }
    }
    let wanted = select(&index)?;
    let asked = if how == AgentArg::None { BTreeSet::new() } else { wanted };
    for node in index.nodes.keys().filter(|node| !asked.contains(*node)) {
        // Not asked is not empty. A snapshot of objects only says so of every node.
        let detail = "this node was not asked".to_owned();
        merge::failed(node, AbsentReason::NotRequested, detail, &mut manifest);
    }
    if !asked.is_empty() && needs_loader(agents.binary()) {
        console
            .warn("the program to be sent is not static: it runs only in images with the C library it was built with");
    }
    nodes(agents, &asked, &index, &mut manifest, &mut gathered, sink, console).await?;
    manifest.window.end = knet_collectors::now();
    let text = serde_json::to_vec_pretty(&manifest)?;
    sink.add("manifest.json", text)?;
    Ok(gathered)
}

async fn nodes(
    agents: &Agents<'_>,
    asked: &BTreeSet<String>,
    index: &Index,
    manifest: &mut Manifest,
    gathered: &mut Gathered,
    sink: &mut dyn Sink,
    console: &Console,
) -> Result<(), Failure> {
    let total = asked.len();
    let mut running = futures::stream::iter(asked)
        .map(|node| async move { (node, agents.capture(node, &index.host_pods(node)).await) })
        .buffer_unordered(agents.parallel());
    let mut hinted = BTreeSet::new();
    while let Some((node, captured)) = running.next().await {
        let problem = match captured {
            Ok(capture) => {
                for remark in capture.remarks.iter().filter(|line| line.starts_with("warning: ")) {
                    console.warn(&format!("{node}: {}", &remark["warning: ".len()..]));
                }
                match merge::node(node, capture.archive, index, manifest, sink) {
                    Ok(()) => None,
                    Err(e) => Some((AbsentReason::Error, format!("the answer of {node} is not taken: {e}"))),
                }
            }
            Err(e) => {
                // The same advice for a hundred nodes is said once.
                for hint in e.hints().into_iter().filter(|hint| hinted.insert(hint.clone())) {
                    console.note(&hint);
                }
                Some((e.reason(), e.to_string()))
            }
        };
        match problem {
            None => {
                gathered.captured += 1;
                console.note(&format!("{node} captured ({} of {total})", gathered.captured));
            }
            Some((reason, detail)) => {
                gathered.missing += 1;
                console.warn(&detail);
                merge::failed(node, reason, detail, manifest);
            }
        }
    }
    Ok(())
}

fn begin() -> Manifest {
    Manifest {
        schema: "knet.snapshot/v1".to_owned(),
        tool: Tool {
            name: "kubectl-knet".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        origin: "native".to_owned(),
        window: Window {
            start: knet_collectors::now(),
            end: String::new(),
        },
        redaction: "secrets".to_owned(),
        ..Manifest::default()
    }
}

/// A file without a name where the system allows that.
fn spool() -> Result<File, Failure> {
    let path = std::env::temp_dir().join(format!("knet-{}-{}", std::process::id(), random(12)));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    // Where an open file cannot be removed, the system's own cleaning of its folder has to.
    let _ = std::fs::remove_file(&path);
    Ok(file)
}

async fn interrupted() {
    let ctrl_c = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = ctrl_c => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = ctrl_c.await;
}

fn agent_options(args: &ClusterArgs) -> Result<AgentOptions, Failure> {
    let how = match args.agent {
        AgentArg::Stream => How::Stream,
        AgentArg::Image => How::Image,
        AgentArg::Exec => How::Exec,
        AgentArg::None => How::None,
    };
    let mut binary = Vec::new();
    let mut architecture = None;
    if matches!(how, How::Stream | How::Exec) {
        let path = program(args.agent_binary.as_deref())?;
        binary = std::fs::read(&path).map_err(|e| Failure::message(format!("{}: {e}", path.display())))?;
        let Some(machine) = elf_machine(&binary) else {
            return Err(Failure::message(format!("{} is no program for Linux", path.display()))
                .hint("pass --agent-binary with the Linux build of this version, or --agent image"));
        };
        architecture = Some(machine.to_owned());
    }
    Ok(AgentOptions {
        how,
        image: args.image.clone(),
        namespace: args.agent_namespace.clone(),
        privileged: args.privileged,
        timeout: args.agent_timeout,
        parallel: args.parallel.into(),
        binary,
        architecture,
        owner: owner(),
        run: random(8),
        bytes: 1 << 30,
    })
}

fn program(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    match asked {
        Some(path) => Ok(path.to_owned()),
        None if cfg!(target_os = "linux") => Ok(std::env::current_exe()?),
        None => Err(Failure::message("this program does not run on the cluster's nodes")
            .hint("pass --agent-binary with its Linux build, or --agent image")),
    }
}

/// `e_machine` of a 64-bit ELF file, by Kubernetes' name for it.
fn elf_machine(bytes: &[u8]) -> Option<&'static str> {
    let machine = bytes.get(18..20).filter(|_| bytes.starts_with(b"\x7fELF"))?;
    match u16::from_le_bytes([machine[0], machine[1]]) {
        62 => Some("amd64"),
        183 => Some("arm64"),
        243 => Some("riscv64"),
        21 => Some("ppc64le"),
        22 => Some("s390x"),
        _ => None,
    }
}

/// A program header of type `PT_INTERP`.
fn needs_loader(bytes: &[u8]) -> bool {
    let number = |at: usize, len: usize| {
        let raw = bytes.get(at..at + len)?;
        raw.iter()
            .rev()
            .try_fold(0_usize, |sum, b| sum.checked_mul(256)?.checked_add(usize::from(*b)))
    };
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    const PT_INTERP: usize = 3;
    (0..count).any(|i| {
        let at = i.checked_mul(size).and_then(|at| at.checked_add(start));
        at.is_some_and(|at| at < bytes.len() && number(at, 4) == Some(PT_INTERP))
    })
}

/// `user@host`, for whoever finds a pod that was left.
#[must_use]
pub fn owner() -> String {
    let of = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| std::env::var(key).ok().filter(|value| !value.is_empty()))
    };
    let user = of(&["USER", "USERNAME", "LOGNAME"]).unwrap_or_else(|| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .or_else(|| of(&["HOSTNAME", "COMPUTERNAME"]));
    format!("{user}@{}", host.unwrap_or_default())
}

/// Lower-case letters and digits, out of the seed of the standard library's hash tables.
fn random(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_usize(text.len());
        text.push_str(&format!("{:016x}", hasher.finish()));
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_program_is_known_for_what_it_is() {
        let ours = std::fs::read(std::env::current_exe().expect("a test knows its file")).expect("it can be read");
        let name = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            _ => return,
        };
        assert_eq!(elf_machine(&ours), Some(name));
        assert!(needs_loader(&ours) != cfg!(target_feature = "crt-static"));
        assert_eq!(elf_machine(b"#!/bin/sh\n"), None);
        for cut in [0, 10, 19, 40, 60, 70] {
            let _ = (elf_machine(&ours[..cut]), needs_loader(&ours[..cut]));
        }
    }

    #[test]
    fn names_are_drawn_anew() {
        assert_ne!(random(8), random(8));
        assert_eq!(random(40).len(), 40);
    }
}
