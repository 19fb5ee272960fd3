//! What a killed laptop left.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};

use super::agent::now;
use super::{ClusterError, EXPIRES, MANAGED_BY, OWNER};

/// An agent that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Who ran it.
    pub owner: String,
    /// Nobody needs it any more by its own word.
    pub expired: bool,
    /// It was taken away.
    pub deleted: bool,
}

/// Finds agents in every namespace, or in `namespace` where only that one may be listed, and takes away those that
/// expired, those of `owner`, or all.
///
/// # Errors
/// When pods cannot be listed, or one cannot be deleted.
pub async fn cleanup(
    client: &Client,
    namespace: &str,
    owner: &str,
    all: bool,
    dry_run: bool,
) -> Result<Vec<Leftover>, ClusterError> {
    match cleanup_in(&Api::all(client.clone()), client, owner, all, dry_run).await {
        Err(ClusterError::Forbidden(_)) => {
            let pods = Api::namespaced(client.clone(), namespace);
            cleanup_in(&pods, client, owner, all, dry_run).await
        }
        result => result,
    }
}

async fn cleanup_in(
    pods: &Api<Pod>,
    client: &Client,
    owner: &str,
    all: bool,
    dry_run: bool,
) -> Result<Vec<Leftover>, ClusterError> {
    let selector = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
    let mut params = ListParams::default().labels(&selector).limit(500);
    let mut found = Vec::new();
    loop {
        let page = pods.list(&params).await?;
        for pod in page.items {
            let annotation = |key: &str| {
                let annotations = pod.metadata.annotations.as_ref()?;
                annotations.get(key).cloned()
            };
            let expires = annotation(EXPIRES).and_then(|at| at.parse::<u64>().ok());
            let mut one = Leftover {
                namespace: pod.metadata.namespace.clone().unwrap_or_default(),
                name: pod.metadata.name.clone().unwrap_or_default(),
                owner: annotation(OWNER).unwrap_or_default(),
                expired: expires.is_none_or(|at| at < now()),
                deleted: false,
            };
            if !dry_run && (all || one.expired || one.owner == owner) {
                let pods: Api<Pod> = Api::namespaced(client.clone(), &one.namespace);
                match pods.delete(&one.name, &DeleteParams::default().grace_period(0)).await {
                    Ok(_) => one.deleted = true,
                    Err(kube::Error::Api(status)) if status.code == 404 => one.deleted = true,
                    Err(e) => return Err(e.into()),
                }
            }
            found.push(one);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
