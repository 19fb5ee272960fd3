//! The connection, with the options kubectl has for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
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
    let wrong = |e: kube::config::KubeconfigError| ClusterError::Kubeconfig(chain(&e));
    let mut config = match &access.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?
        }
        None if access.context.is_some() => Config::from_kubeconfig(&options).await.map_err(wrong)?,
        None => Config::infer().await.map_err(|e| {
            let why = if none_is_there() {
                "there is none: KUBECONFIG is not set, and ~/.kube/config is not there".to_owned()
            } else {
                chain(&e)
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
pub fn contexts(kubeconfig: Option<&Path>) -> Vec<String> {
    let read = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let contexts = read.map(|config| config.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| context.name).collect()
}

/// Nobody set one up.
fn none_is_there() -> bool {
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    std::env::var_os("KUBECONFIG").is_none_or(|list| list.is_empty()) && !home.is_some_and(|file| file.exists())
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
