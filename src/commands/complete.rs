//! What `kubectl` asks when somebody presses Tab after `kubectl knet`.
//!
//! kubectl runs `kubectl_complete-knet WORDS...`, the last word being the one to complete, and reads one candidate a
//! line with its description after a tab, then `:4` (no file names). That program is this one under another name.
//! Names come from the snapshot that the words say, else from the running cluster, in a moment or not at all.

#[cfg(feature = "cluster")]
mod cluster;
mod snapshot;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::args::Args;

/// The name under which kubectl looks for completions of a plugin.
pub const NAME: &str = "kubectl_complete-knet";
/// `ShellCompDirectiveNoFileComp`, and 0 lets the shell complete file names.
const NO_FILES: &str = ":4";
const FILES: &str = ":0";

/// The lines for kubectl. Never fails: who presses Tab wants no error message.
#[must_use]
pub fn lines(words: impl IntoIterator<Item = OsString>) -> String {
    let words: Vec<OsString> = std::iter::once(OsString::from("kubectl-knet")).chain(words).collect();
    let mut command = with_names(Args::command(), Said::of(&words));
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
    let options = [
        "--snapshot",
        "-s",
        "--flows",
        "--file",
        "-f",
        "--kubeconfig",
        "--save",
        "--agent-binary",
        "--against",
    ];
    let path = |word: &OsStr| options.iter().any(|option| word == *option);
    path(before) || words.iter().any(|word| word == "snapshot") && !last.to_string_lossy().starts_with('-')
}

/// Tells the positional arguments and options that name objects where to look.
fn with_names(command: clap::Command, said: Said) -> clap::Command {
    let said = Arc::new(said);
    let completer = |kinds: &'static [Kind]| {
        let said = Arc::clone(&said);
        ArgValueCompleter::new(move |current: &OsStr| said.names(kinds, &current.to_string_lossy()))
    };
    let kinds_of = |id: &str| -> Option<&'static [Kind]> {
        Some(match id {
            "src" => &[Kind::Pod, Kind::NodeRef],
            "dst" => &[Kind::Service, Kind::Pod, Kind::NodeRef],
            "via" => &[Kind::NodeRef],
            "target" => &[Kind::ServiceRef],
            "node" | "nodes" | "against_node" => &[Kind::Node],
            "namespace" | "agent_namespace" => &[Kind::Namespace],
            "context" => &[Kind::Context],
            _ => return None,
        })
    };
    each_argument(command, &|arg| match kinds_of(arg.get_id().as_str()) {
        Some(kinds) => arg.add(completer(kinds)),
        None => arg,
    })
}

fn each_argument(command: clap::Command, change: &impl Fn(clap::Arg) -> clap::Arg) -> clap::Command {
    // What runs on a node knows of no cluster.
    if command.get_name() == "node-collect" {
        return command;
    }
    command
        .mut_args(change)
        .mut_subcommands(|command| each_argument(command, change))
}

/// What an argument may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    Service,
    /// Where a bare name would not be taken for a service.
    ServiceRef,
    Node,
    NodeRef,
    Namespace,
    Context,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    /// Empty for what is in none.
    namespace: String,
    name: String,
    help: String,
}

/// What the words before the one to complete say about where to look.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "some of it is about a cluster"))]
struct Said {
    snapshot: Option<PathBuf>,
    namespace: Option<String>,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    impersonate: Option<String>,
    groups: Vec<String>,
}

impl Said {
    fn of(words: &[OsString]) -> Self {
        let words = words.split_last().map_or(words, |(_, before)| before);
        let one = |long: &str, short: Option<char>| values(words, long, short).pop();
        let snapshot = one("--snapshot", Some('s'))
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("KNET_SNAPSHOT").map(PathBuf::from));
        Self {
            snapshot: snapshot.filter(|path| path.as_os_str() != "-"),
            namespace: one("--namespace", Some('n')),
            kubeconfig: one("--kubeconfig", None).map(PathBuf::from),
            context: one("--context", None),
            impersonate: one("--as", None),
            groups: values(words, "--as-group", None),
        }
    }

    /// Names that begin as the word does.
    fn names(&self, kinds: &[Kind], current: &str) -> Vec<CompletionCandidate> {
        if kinds == [Kind::Context] {
            return candidates(self.contexts(), current);
        }
        let mut found = Vec::new();
        for (kind, namespace, objects) in self.objects(kinds, current) {
            for object in objects {
                spell(kind, &namespace, object, &mut found);
            }
        }
        candidates(found, current)
    }

    #[cfg(feature = "cluster")]
    fn contexts(&self) -> Vec<(String, String)> {
        let contexts = knet_collectors::cluster::contexts(self.kubeconfig.as_deref());
        contexts.into_iter().map(|name| (name, String::new())).collect()
    }

    #[cfg(not(feature = "cluster"))]
    fn contexts(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Objects of each kind, and the namespace whose objects need none before their name.
    fn objects(&self, kinds: &[Kind], current: &str) -> Vec<(Kind, String, Vec<Object>)> {
        match &self.snapshot {
            Some(path) => snapshot::objects(path, self.namespace.as_deref().unwrap_or("default"), kinds),
            #[cfg(feature = "cluster")]
            None => cluster::objects(self, kinds, current),
            #[cfg(not(feature = "cluster"))]
            None => {
                let _ = current;
                Vec::new()
            }
        }
    }
}

/// The values of an option: `--long VALUE`, `--long=VALUE`, `-s VALUE`, `-sVALUE`, `-s=VALUE`.
fn values(words: &[OsString], long: &str, short: Option<char>) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = words.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let short = || short.and_then(|c| word.strip_prefix('-')?.strip_prefix(c));
        let rest = word.strip_prefix(long).or_else(short);
        match rest {
            Some("") => found.extend(words.next().map(|word| word.into_owned())),
            Some(rest) if !word.starts_with("--") => {
                found.push(rest.strip_prefix('=').unwrap_or(rest).to_owned());
            }
            Some(rest) => found.extend(rest.strip_prefix('=').map(str::to_owned)),
            None => {}
        }
    }
    found
}

/// All the ways to write an object's name.
fn spell(kind: Kind, namespace: &str, object: Object, found: &mut Vec<(String, String)>) {
    let Object {
        namespace: own,
        name,
        help,
    } = object;
    match kind {
        Kind::Pod | Kind::Service => {
            let word = if kind == Kind::Pod { "pod" } else { "svc" };
            if own == namespace {
                found.push((name.clone(), help.clone()));
            }
            found.push((format!("{own}/{name}"), help.clone()));
            found.push((format!("{word}/{own}/{name}"), help));
        }
        Kind::ServiceRef => {
            if own == namespace {
                found.push((format!("svc/{name}"), help.clone()));
            }
            found.push((format!("svc/{own}/{name}"), help));
        }
        Kind::NodeRef => found.push((format!("node/{name}"), help)),
        Kind::Node | Kind::Namespace | Kind::Context => found.push((name, help)),
    }
}

fn candidates(mut found: Vec<(String, String)>, current: &str) -> Vec<CompletionCandidate> {
    found.retain(|(name, _)| name.starts_with(current));
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    let candidate =
        |(name, help): (String, String)| CompletionCandidate::new(name).help((!help.is_empty()).then(|| help.into()));
    found.into_iter().map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_however_they_are_written() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (text, namespace, context) in [
            ("k trace -n shop --context=c x", Some("shop"), Some("c")),
            ("k trace -nshop --context c x", Some("shop"), Some("c")),
            ("k trace --namespace=a -n=shop x", Some("shop"), None),
            ("k trace --namespace shop --contextual c x", Some("shop"), None),
            ("k trace -n", None, None),
        ] {
            let said = Said::of(&words(text));
            assert_eq!(said.namespace.as_deref(), namespace, "{text}");
            assert_eq!(said.context.as_deref(), context, "{text}");
        }
        let said = Said::of(&words("k trace --as-group a --as-group=b --as me --snapshot s x"));
        assert_eq!((said.groups.len(), said.impersonate.as_deref()), (2, Some("me")));
        assert_eq!(said.snapshot, Some(PathBuf::from("s")));
    }
}
