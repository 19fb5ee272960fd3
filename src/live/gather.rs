//! Lists the objects, captures the nodes, and leaves nothing behind: on success, failure, Ctrl-C and timeout.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use knet_collectors::cluster::{
    self, Access, AgentOptions, Agents, Client, ClusterError, How, Listed, RESOURCES, Resource, Watch,
};
use knet_collectors::{random, spool};
use knet_snapshot::manifest::{AbsentEntry, AbsentReason, ArtifactEntry};
use serde_json::Value;

use super::Index;
use super::ledger::Ledger;
use super::merge::{self, Sink};
use super::program::{elf_machine, needs_loader, program};
use crate::archive::Limits;
use crate::args::{AgentArg, ClusterArgs};
use crate::console::{Console, Progress};
use crate::exit::Failure;

/// How a capture went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Nodes that were read.
    pub captured: usize,
    /// Nodes that were to be read and were not, and kinds of objects.
    pub missing: usize,
}

/// Everything of a cluster that is asked for, into `sink`. `select` says which nodes, and is told the namespace that
/// names without one are in.
///
/// # Errors
/// When there is no cluster to ask, its nodes cannot be listed, or somebody interrupts. Nodes that cannot be read
/// are no error: they are told and noted as absent.
pub fn gather(
    args: &ClusterArgs,
    sink: &mut dyn Sink,
    console: &Console,
    select: impl FnOnce(&Index, &str) -> Result<BTreeSet<String>, Failure>,
) -> Result<Gathered, Failure> {
    let options = agent_options(args)?;
    runtime()?.block_on(async {
        let client = client(args).await?;
        let agents = Agents::new(client.clone(), &options);
        let work = work(&client, &agents, args.how(), sink, console, select);
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

/// The namespace of the kubeconfig's context, or of the pod this runs in; else `default`.
#[must_use]
pub fn namespace(client: &Client) -> &str {
    match client.default_namespace() {
        "" => "default",
        name => name,
    }
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
    select: impl FnOnce(&Index, &str) -> Result<BTreeSet<String>, Failure>,
) -> Result<Gathered, Failure> {
    let mut ledger = Ledger::begin()?;
    let mut index = Index::default();
    let mut gathered = Gathered::default();
    for resource in RESOURCES {
        objects(client, resource, &mut index, &mut ledger, &mut gathered, sink, console).await?;
    }
    let wanted = select(&index, namespace(client))?;
    let asked = if how == AgentArg::None { BTreeSet::new() } else { wanted };
    for node in index.nodes.keys().filter(|node| !asked.contains(*node)) {
        // Not asked is not empty. A snapshot of objects only says so of every node.
        ledger.failed(node, AbsentReason::NotRequested, "this node was not asked".to_owned())?;
    }
    if !asked.is_empty() && needs_loader(agents.binary()) {
        console
            .warn("the program to be sent is not static: it runs only in images with the C library it was built with");
    }
    nodes(agents, &asked, &index, &mut ledger, &mut gathered, sink, console).await?;
    let entries = ledger.artifacts();
    if entries > Limits::default().entries as u64 {
        console.warn(&format!(
            "{entries} tables are more than a snapshot may have to be read; --nodes and --selector choose some nodes"
        ));
    }
    ledger.finish(sink)?;
    Ok(gathered)
}

/// All objects of one kind.
async fn objects(
    client: &Client,
    resource: &Resource,
    index: &mut Index,
    ledger: &mut Ledger,
    gathered: &mut Gathered,
    sink: &mut dyn Sink,
    console: &Console,
) -> Result<(), Failure> {
    let path = format!("cluster/{}.json", resource.name);
    let mut file = spool()?;
    let mut seen = Seen {
        resource: resource.name,
        index,
        progress: console.progress(resource.name, None),
        console,
    };
    let listed = cluster::list(client, resource, &mut file, &mut seen).await;
    drop(seen);
    match listed {
        Ok(Listed { objects, inconsistent }) => {
            sink.add_file(&path, &mut file)?;
            ledger.artifact(&ArtifactEntry {
                path,
                via: "api".to_owned(),
                at: knet_collectors::now(),
                bytes: file.metadata().ok().map(|meta| meta.len()),
                consistent: Some(!inconsistent),
                notes: inconsistent
                    .then(|| "the list was read as of two moments".to_owned())
                    .into_iter()
                    .collect(),
                ..ArtifactEntry::default()
            })?;
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
            ledger.absent(&AbsentEntry {
                path,
                // A kind that the server does not serve (the Gateway API is not installed) has no objects.
                reason: match e {
                    ClusterError::NotServed(_) if resource.optional => AbsentReason::NotSupported,
                    _ => e.reason(),
                },
                detail: e.to_string(),
            })?;
        }
    }
    Ok(())
}

/// Takes note of objects while they stream by.
struct Seen<'a> {
    resource: &'a str,
    index: &'a mut Index,
    progress: Progress<'a>,
    console: &'a Console,
}

impl Watch for Seen<'_> {
    fn object(&mut self, object: &Value) {
        self.index.see(self.resource, object);
    }

    fn page(&mut self, objects: u64, total: Option<u64>) {
        self.progress.set(objects, total);
    }

    fn again(&mut self, why: &ClusterError) {
        self.console.note(&format!("{}: {why}; asked again", self.resource));
    }
}

async fn nodes(
    agents: &Agents<'_>,
    asked: &BTreeSet<String>,
    index: &Index,
    ledger: &mut Ledger,
    gathered: &mut Gathered,
    sink: &mut dyn Sink,
    console: &Console,
) -> Result<(), Failure> {
    let total = asked.len() as u64;
    let mut progress = console.progress("nodes", Some(total));
    let mut done = 0;
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
                match merge::node(node, &capture.archive, index, ledger, sink) {
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
        done += 1;
        progress.set(done, Some(total));
        match problem {
            None => {
                gathered.captured += 1;
                progress.did(&format!("{node} captured"));
            }
            Some((reason, detail)) => {
                gathered.missing += 1;
                console.warn(&detail);
                ledger.failed(node, reason, detail)?;
            }
        }
    }
    Ok(())
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
    let how = match args.how() {
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
