//! The connection, with the options kubectl has for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::ClusterError;

/// As whom, and to which cluster.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `--kubeconfig`; without it `KUBECONFIG`, which may be a list, or the usual file, or the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`
    pub context: Option<String>,
    /// `--as`
    pub impersonate: Option<String>,
    /// `--as-group`
    pub groups: Vec<String>,
    /// `--request-timeout`; `None` waits as long as the server does.
    pub timeout: Option<Duration>,
}

/// Reads the kubeconfig and makes a client. Nothing is sent yet.
///
/// # Errors
/// When there is no kubeconfig, it cannot be read, or it names what is not in it.
pub async fn connect(access: &Access) -> Result<Client, ClusterError> {
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    let wrong = |e: KubeconfigError| ClusterError::Kubeconfig(chain(&e));
    let mut config = match kubeconfig(access.kubeconfig.as_deref()).map_err(wrong)? {
        Some(file) => Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?,
        // In a pod it is the pod's own account.
        None => Config::incluster().map_err(|_| {
            let why = match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
                Some(list) => format!("no file of KUBECONFIG is there: {}", list.to_string_lossy()),
                None => "there is none: KUBECONFIG is not set, and ~/.kube/config is not there".to_owned(),
            };
            ClusterError::Kubeconfig(why)
        })?,
    };
    config.read_timeout = access.timeout;
    config.connect_timeout = access.timeout.or(config.connect_timeout);
    if access.impersonate.is_some() {
        config.auth_info.impersonate.clone_from(&access.impersonate);
    }
    if !access.groups.is_empty() {
        config.auth_info.impersonate_groups = Some(access.groups.clone());
    }
    Client::try_from(config).map_err(|e| ClusterError::Kubeconfig(chain(&e)))
}

/// The contexts of a kubeconfig, or of the usual ones; none where there is no kubeconfig.
#[must_use]
pub fn contexts(path: Option<&Path>) -> Vec<String> {
    let contexts = kubeconfig(path).ok().flatten().map(|config| config.contexts);
    contexts
        .unwrap_or_default()
        .into_iter()
        .map(|context| context.name)
        .collect()
}

/// The file that was asked for; else those of `KUBECONFIG` in one, as kubectl merges them: what is not there is left
/// out, and the first that says something is right; else the usual one, when it is there.
fn kubeconfig(asked: Option<&Path>) -> Result<Option<Kubeconfig>, KubeconfigError> {
    if let Some(path) = asked {
        return Kubeconfig::read_from(path).map(Some);
    }
    let paths: Vec<PathBuf> = match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => std::env::split_paths(&list).collect(),
        None => std::env::home_dir()
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect(),
    };
    let mut whole: Option<Kubeconfig> = None;
    for path in paths.iter().filter(|path| path.exists()) {
        let next = Kubeconfig::read_from(path)?;
        whole = Some(match whole {
            Some(before) => before.merge(next)?,
            None => next,
        });
    }
    Ok(whole)
}

/// An error with its causes on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
