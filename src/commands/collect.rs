//! `kubectl knet collect`, `cleanup`, `rbac`, and how `trace` reads a running cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use knet_collectors::cluster;
use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;

use crate::archive::Writer;
use crate::args::{CleanupArgs, ClusterArgs, CollectArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::live::{self, Files, Index};

/// Captures a cluster.
pub(super) fn run(args: &CollectArgs, console: &Console) -> Result<Exit, Failure> {
    let failed = || args.file.display().to_string();
    let mut writer = Writer::create(&args.file).with_context(failed).map_err(Failure::new)?;
    let gathered = live::gather(&args.cluster, &mut writer, console, |index| {
        live::named(index, &args.nodes, &args.selector)
            .map_err(|missing| Failure::message(format!("no such node: {missing}")))
    })?;
    writer.finish().with_context(failed).map_err(Failure::new)?;
    let partial = gathered.missing > 0;
    let and = if partial {
        format!(", {} could not be read", gathered.missing)
    } else {
        String::new()
    };
    console.note(&format!(
        "{}: {} nodes captured{and}",
        args.file.display(),
        gathered.captured
    ));
    Ok(if partial { Exit::Unknown } else { Exit::Delivered })
}

/// Captures what one trace needs, in memory.
pub(super) fn for_trace(
    args: &ClusterArgs,
    ends: &[&str],
    namespace: &str,
    save: Option<&Path>,
    console: &Console,
) -> Result<Snapshot, Failure> {
    let mut files = Files::default();
    live::gather(args, &mut files, console, |index| {
        Ok(nodes(index, ends, namespace, console))
    })?;
    if let Some(path) = save {
        let failed = || path.display().to_string();
        let mut writer = Writer::create(path).with_context(failed).map_err(Failure::new)?;
        for (path, bytes) in &files.0 {
            writer.add(path, bytes).with_context(failed).map_err(Failure::new)?;
        }
        writer.finish().with_context(failed).map_err(Failure::new)?;
    }
    let files = files.0.into_iter().map(|(path, bytes)| (path, Arc::new(bytes) as Blob));
    Ok(Snapshot::from_files(files.collect())?)
}

/// More nodes than this are not read for one trace.
const MOST: usize = 32;

fn nodes(index: &Index, ends: &[&str], namespace: &str, console: &Console) -> BTreeSet<String> {
    let needed = live::needed(index, ends, namespace);
    if needed.len() > MOST {
        console.warn(&format!(
            "{} nodes hold an end of this trace; {MOST} are read, the others stay unknown (`collect` reads all)",
            needed.len()
        ));
    }
    needed.into_iter().take(MOST).collect()
}

/// Takes away agents that were left.
pub(super) fn cleanup(args: &CleanupArgs, console: &Console) -> Result<Exit, Failure> {
    let found = live::runtime()?.block_on(async {
        let client = live::client(&args.cluster).await?;
        cluster::cleanup(&client, &live::owner(), args.all, args.dry_run)
            .await
            .map_err(|e| {
                let hints = e.hints();
                hints.into_iter().fold(Failure::from(e), Failure::hint)
            })
    })?;
    if found.is_empty() {
        console.note("no agents are there");
    }
    for pod in &found {
        let state = match (pod.deleted, pod.expired) {
            (true, _) => "deleted",
            (false, true) => "expired",
            (false, false) => "at work",
        };
        console.print(&format!("{}/{} of {}: {state}", pod.namespace, pod.name, pod.owner))?;
    }
    Ok(Exit::Delivered)
}

/// Prints the roles that are needed.
pub(super) fn rbac(read_only: bool, console: &Console) -> Result<Exit, Failure> {
    let mut text = include_str!("rbac/read.yaml").to_owned();
    if !read_only {
        text.push_str("---\n");
        text.push_str(include_str!("rbac/agents.yaml"));
    }
    console.print(&text)?;
    Ok(Exit::Delivered)
}
