//! What `kubectl` asks when somebody presses Tab after `kubectl knet`.
//!
//! kubectl runs `kubectl_complete-knet WORDS...`, the last word being the one to complete, and reads one candidate a
//! line with its description after a tab, then `:4` (no file names). That program is this one under another name.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::load;
use crate::archive::Limits;
use crate::args::Args;

/// The name under which kubectl looks for completions of a plugin.
pub const NAME: &str = "kubectl_complete-knet";
/// `ShellCompDirectiveNoFileComp`, and 0 lets the shell complete file names.
const NO_FILES: &str = ":4";
const FILES: &str = ":0";
/// What a completion may take of a snapshot's size: more is too slow for a key press.
const BYTES: u64 = 64 << 20;

/// The lines for kubectl. Never fails: who presses Tab wants no error message.
#[must_use]
pub fn lines(words: impl IntoIterator<Item = OsString>) -> String {
    let words: Vec<OsString> = std::iter::once(OsString::from("kubectl-knet")).chain(words).collect();
    let mut command = with_names(Args::command(), &words);
    let index = words.len() - 1;
    let candidates = clap_complete::engine::complete(&mut command, words.clone(), index, None).unwrap_or_default();
    let mut out = String::new();
    for candidate in &candidates {
        out.push_str(&candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help() {
            out.push('\t');
            out.push_str(help.to_string().lines().next().unwrap_or_default());
        }
        out.push('\n');
    }
    out.push_str(if wants_file(&words) { FILES } else { NO_FILES });
    out.push('\n');
    out
}

fn wants_file(words: &[OsString]) -> bool {
    let [.., before, last] = words else { return false };
    let options = ["--snapshot", "-s", "--flows", "--file", "-f", "--kubeconfig", "--save"];
    let path = |word: &OsStr| options.iter().any(|option| word == *option);
    path(before) || words.iter().any(|word| word == "snapshot") && !last.to_string_lossy().starts_with('-')
}

/// Tells the positional arguments and options that name objects where to look.
fn with_names(command: clap::Command, words: &[OsString]) -> clap::Command {
    let source = source(words);
    let completer = move |kinds: &'static [Kind]| {
        let source = source.clone();
        ArgValueCompleter::new(move |current: &OsStr| names(source.as_ref(), kinds, &current.to_string_lossy()))
    };
    let nodes: &'static [Kind] = &[Kind::Node];
    let via = completer(&[Kind::ViaNode]);
    let namespace = completer(&[Kind::Namespace]);
    let (src, dst) = (
        completer(&[Kind::Pod, Kind::NodeRef]),
        completer(&[Kind::Service, Kind::Pod, Kind::NodeRef]),
    );
    let node = completer(nodes);
    command
        .mut_subcommand("trace", |trace| {
            trace
                .mut_arg("src", |arg| arg.add(src))
                .mut_arg("dst", |arg| arg.add(dst))
                .mut_arg("via", |arg| arg.add(via))
                .mut_arg("namespace", |arg| arg.add(namespace))
        })
        .mut_subcommand("explain", |explain| {
            explain.mut_subcommand("nodeport", |port| port.mut_arg("node", |arg| arg.add(node)))
        })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    Service,
    Node,
    NodeRef,
    ViaNode,
    Namespace,
}

/// `--snapshot PATH`, `-s PATH`, or the environment.
fn source(words: &[OsString]) -> Option<PathBuf> {
    let mut from = std::env::var_os("KNET_SNAPSHOT").map(PathBuf::from);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--snapshot" || text == "-s" {
            from = words.next().map(PathBuf::from).or(from);
        } else if let Some(path) = text.strip_prefix("--snapshot=") {
            from = Some(PathBuf::from(path));
        }
    }
    from.filter(|path| path.as_os_str() != "-")
}

/// Names of the snapshot that begin as the word does; a pod of the namespace `default` without it, too.
fn names(source: Option<&PathBuf>, kinds: &[Kind], current: &str) -> Vec<CompletionCandidate> {
    let limits = Limits {
        total_bytes: BYTES,
        ..Limits::default()
    };
    let Some(snapshot) = source.and_then(|path| load(path, &limits).ok()) else {
        return Vec::new();
    };
    let cluster = snapshot.cluster();
    let mut found: Vec<(String, String)> = Vec::new();
    for kind in kinds {
        match kind {
            Kind::Pod => {
                for pod in cluster.pods().get().into_iter().flat_map(|t| &t.rows) {
                    let help = format!("pod on {}", pod.node.as_deref().unwrap_or("no node"));
                    if pod.namespace == "default" {
                        found.push((pod.name.clone(), help.clone()));
                    }
                    found.push((format!("{}/{}", pod.namespace, pod.name), help.clone()));
                    found.push((format!("pod/{}/{}", pod.namespace, pod.name), help));
                }
            }
            Kind::Service => {
                for service in cluster.services().get().into_iter().flat_map(|t| &t.rows) {
                    let address = service
                        .cluster_ips
                        .first()
                        .map_or_else(|| "headless".to_owned(), ToString::to_string);
                    let help = format!("service {address}");
                    found.push((format!("{}/{}", service.namespace, service.name), help.clone()));
                    found.push((format!("svc/{}/{}", service.namespace, service.name), help));
                }
            }
            Kind::Namespace => {
                for namespace in cluster.namespaces().get().into_iter().flat_map(|t| &t.rows) {
                    found.push((namespace.name.clone(), String::new()));
                }
            }
            Kind::Node | Kind::NodeRef | Kind::ViaNode => {
                let start = if *kind == Kind::Node { "" } else { "node/" };
                found.extend(
                    snapshot
                        .nodes()
                        .map(|node| (format!("{start}{}", node.name), "node".to_owned())),
                );
            }
        }
    }
    found.retain(|(name, _)| name.starts_with(current));
    found.sort();
    found.dedup();
    let candidate =
        |(name, help): (String, String)| CompletionCandidate::new(name).help((!help.is_empty()).then(|| help.into()));
    found.into_iter().map(candidate).collect()
}
