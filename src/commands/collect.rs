//! `kubectl knet collect`, `cleanup`, `rbac`, and how a question reads a running cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use knet_collectors::cluster;
use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;

use super::load::{About, Opened};
use crate::archive::Writer;
use crate::args::{CleanupArgs, CollectArgs, LiveArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::live::{self, Files, Index};

/// Captures a cluster.
pub(super) fn run(args: &CollectArgs, console: &Console) -> Result<Exit, Failure> {
    let failed = || args.file.display().to_string();
    let mut writer = Writer::create(&args.file).with_context(failed).map_err(Failure::new)?;
    let gathered = live::gather(&args.cluster, &mut writer, console, |index, _| {
        live::named(index, &args.nodes, &args.selector).map_err(|missing| no_such(&missing))
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

/// Captures what one question needs, in memory.
pub(super) fn for_question(
    args: &LiveArgs,
    namespace: Option<&str>,
    about: &About<'_>,
    console: &Console,
) -> Result<Opened, Failure> {
    // A place that cannot be written to is told before anybody is asked.
    if args.save.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(
            Failure::message("--save -: standard output is for the answer").hint("name a file to keep the snapshot in")
        );
    }
    let save = args.save.as_deref().map(|path| {
        let failed = || path.display().to_string();
        let writer = Writer::create(path).with_context(failed).map_err(Failure::new)?;
        Ok::<_, Failure>((path, writer))
    });
    let save = save.transpose()?;
    let mut files = Files::default();
    let mut used = String::new();
    live::gather(&args.cluster, &mut files, console, |index, of_context| {
        namespace.unwrap_or(of_context).clone_into(&mut used);
        nodes(index, about, &used, console)
    })?;
    if let Some((path, mut writer)) = save {
        let failed = || path.display().to_string();
        for (path, bytes) in &files.0 {
            writer.add(path, bytes).with_context(failed).map_err(Failure::new)?;
        }
        writer.finish().with_context(failed).map_err(Failure::new)?;
    }
    let files = files.0.into_iter().map(|(path, bytes)| (path, Arc::new(bytes) as Blob));
    Ok(Opened {
        snapshot: Snapshot::from_files(files.collect())?,
        namespace: Some(used),
    })
}

/// More nodes than this are not read for one question, nor for a file of them: they are held in memory.
const MOST: usize = 32;
const MOST_OF_FLOWS: usize = 256;

fn nodes(index: &Index, about: &About<'_>, namespace: &str, console: &Console) -> Result<BTreeSet<String>, Failure> {
    let needed = match about {
        About::Ends(ends) => live::needed(index, ends, namespace),
        About::Flows(flows) => flows
            .iter()
            .flat_map(|(ends, own)| live::needed(index, ends, own.unwrap_or(namespace)))
            .collect(),
        About::All => index.nodes.keys().cloned().collect(),
        About::Node { node, port, end } => {
            let node = match node {
                Some(node) if !index.nodes.contains_key(*node) => return Err(no_such(node)),
                Some(node) => (*node).to_owned(),
                None => index.nodes.keys().next().cloned().unwrap_or_default(),
            };
            let node = port.map_or_else(|| format!("node/{node}"), |port| format!("node/{node}:{port}"));
            let ends: Vec<&str> = std::iter::once(node.as_str()).chain(*end).collect();
            live::needed(index, &ends, namespace)
        }
    };
    let most = match about {
        About::Flows(_) => MOST_OF_FLOWS,
        _ => MOST,
    };
    if needed.len() > most {
        console.warn(&format!(
            "{} nodes have a part in the answer; {most} are read, the others stay unknown (`collect` reads all)",
            needed.len()
        ));
    }
    Ok(needed.into_iter().take(most).collect())
}

fn no_such(node: &str) -> Failure {
    Failure::message(format!("no such node: {node}"))
}

/// Takes away agents that were left.
pub(super) fn cleanup(args: &CleanupArgs, console: &Console) -> Result<Exit, Failure> {
    let found = live::runtime()?.block_on(async {
        let client = live::client(&args.cluster).await?;
        cluster::cleanup(
            &client,
            &args.cluster.agent_namespace,
            &live::owner(),
            args.all,
            args.dry_run,
        )
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
