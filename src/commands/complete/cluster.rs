//! Names of the running cluster, in a moment or not at all.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use knet_collectors::cluster::{self, Access, Client};

use super::{Kind, Object, Said};

/// Who presses Tab waits this long. A credential plugin is a program, and may take longer than anybody waits.
const MOMENT: Duration = Duration::from_secs(2);

/// The objects of each kind; none when nobody answers in time, or something is wrong.
pub(super) fn objects(said: &Said, kinds: &[Kind], current: &str) -> Vec<(Kind, String, Vec<Object>)> {
    let access = Access {
        kubeconfig: said.kubeconfig.clone(),
        context: said.context.clone(),
        impersonate: said.impersonate.clone(),
        groups: said.groups.clone(),
        timeout: Some(MOMENT),
    };
    let (namespace, kinds, current) = (said.namespace.clone(), kinds.to_vec(), current.to_owned());
    let (answer, answered) = mpsc::channel();
    // The process ends when nobody waits any more, and this thread with it.
    thread::spawn(move || {
        let found = crate::live::runtime().ok().and_then(|runtime| {
            runtime.block_on(async {
                let client = cluster::connect(&access).await.ok()?;
                let namespace = namespace.unwrap_or_else(|| crate::live::namespace(&client).to_owned());
                Some(ask(&client, &namespace, &kinds, &current).await)
            })
        });
        // The receiver is gone after a timeout.
        let _ = answer.send(found.unwrap_or_default());
    });
    answered.recv_timeout(MOMENT).unwrap_or_default()
}

async fn ask(client: &Client, namespace: &str, kinds: &[Kind], current: &str) -> Vec<(Kind, String, Vec<Object>)> {
    let asked = kinds.iter().flat_map(|&kind| {
        let paths = paths(kind, namespace, current);
        paths.into_iter().map(move |path| (kind, path))
    });
    join_all(asked.map(|(kind, path)| async move {
        let names = cluster::names(client, &path).await.unwrap_or_default();
        let object = |(namespace, name)| Object {
            namespace,
            name,
            help: help(kind).to_owned(),
        };
        (kind, namespace.to_owned(), names.into_iter().map(object).collect())
    }))
    .await
}

/// Where to look: in the namespace that the word names; else in the one that needs no name, and what a page shows of
/// all of them.
fn paths(kind: Kind, namespace: &str, current: &str) -> Vec<String> {
    let (word, resource) = match kind {
        Kind::Pod => ("pod/", "pods"),
        Kind::Service | Kind::ServiceRef => ("svc/", "services"),
        Kind::Node | Kind::NodeRef => return vec!["/api/v1/nodes".to_owned()],
        Kind::Namespace => return vec!["/api/v1/namespaces".to_owned()],
        Kind::Context => return Vec::new(),
    };
    let inside = |namespace: &str| format!("/api/v1/namespaces/{namespace}/{resource}");
    let all = format!("/api/v1/{resource}");
    if current.starts_with("node/") {
        return Vec::new();
    }
    match current.strip_prefix(word).unwrap_or(current).split_once('/') {
        Some((named, _)) if is_name(named) => vec![inside(named)],
        Some(_) => Vec::new(),
        None if is_name(namespace) => vec![inside(namespace), all],
        None => vec![all],
    }
}

/// It becomes a part of a path.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

const fn help(kind: Kind) -> &'static str {
    match kind {
        Kind::Pod => "pod",
        Kind::Service | Kind::ServiceRef => "service",
        Kind::Node | Kind::NodeRef => "node",
        Kind::Namespace | Kind::Context => "",
    }
}
