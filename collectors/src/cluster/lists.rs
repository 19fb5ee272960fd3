//! Objects, page by page, into a file: 100,000 pods are never in memory at once.

use std::io::Write;

use http::Request;
use kube::Client;
use serde_json::Value;

use super::{ClusterError, without_secrets};

/// A kind of object a snapshot holds.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// File name under `cluster/`, without its ending.
    pub name: &'static str,
    /// Path on the server.
    pub path: &'static str,
    /// `apiVersion` and `kind` of its objects: a list does not repeat them.
    pub version: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// A snapshot without it can still be traced.
    pub optional: bool,
}

const fn resource(
    name: &'static str,
    path: &'static str,
    version: &'static str,
    kind: &'static str,
    optional: bool,
) -> Resource {
    Resource {
        name,
        path,
        version,
        kind,
        optional,
    }
}

/// What is asked for. Of the ConfigMaps only kube-proxy's: others may hold anything.
pub const RESOURCES: &[Resource] = &[
    resource("nodes", "/api/v1/nodes", "v1", "Node", false),
    resource("pods", "/api/v1/pods", "v1", "Pod", false),
    resource("services", "/api/v1/services", "v1", "Service", false),
    resource(
        "endpointslices",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "discovery.k8s.io/v1",
        "EndpointSlice",
        false,
    ),
    resource(
        "networkpolicies",
        "/apis/networking.k8s.io/v1/networkpolicies",
        "networking.k8s.io/v1",
        "NetworkPolicy",
        true,
    ),
    resource("namespaces", "/api/v1/namespaces", "v1", "Namespace", true),
    resource(
        "configmaps",
        "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dkube-proxy",
        "v1",
        "ConfigMap",
        true,
    ),
];

/// How a list went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Objects.
    pub objects: u64,
    /// The server forgot the first pages while later ones were read, and gave the rest as of another time.
    pub inconsistent: bool,
}

const PAGE: u32 = 500;
/// A list that the server forgets is begun again this often.
const RESTARTS: u32 = 3;

/// Writes all objects of a kind as one list. `each` sees every object before its secrets are taken out.
///
/// # Errors
/// When the server refuses, or the list expires again and again. What was written is then no complete list.
pub async fn list(
    client: &Client,
    resource: &Resource,
    out: &mut (impl Write + Send),
    mut each: impl FnMut(&Value),
) -> Result<Listed, ClusterError> {
    let mut listed = Listed::default();
    writeln!(out, "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[")?;
    let mut token = String::new();
    let mut restarts = 0;
    loop {
        let page = match page(client, resource, &token).await {
            // The server forgot the list (410): it may offer a token to go on as of now.
            Err(kube::Error::Api(status)) if status.code == 410 => {
                let fresh = status.metadata.as_ref().and_then(|meta| meta.continue_.clone());
                restarts += 1;
                match fresh.filter(|token| !token.is_empty()) {
                    Some(fresh) if restarts <= RESTARTS => {
                        listed.inconsistent = true;
                        token = fresh;
                        continue;
                    }
                    _ => return Err(ClusterError::Server(format!("{} ({})", status.message, status.code))),
                }
            }
            other => other?,
        };
        let Value::Object(mut page) = page else {
            return Err(ClusterError::Server("a list that is no object".to_owned()));
        };
        let Some(Value::Array(items)) = page.remove("items") else {
            return Err(ClusterError::Server("a list without items".to_owned()));
        };
        for mut item in items {
            each(&item);
            without_secrets(&mut item);
            item["apiVersion"] = Value::from(resource.version);
            item["kind"] = Value::from(resource.kind);
            out.write_all(if listed.objects > 0 { b",\n" } else { b"" })?;
            serde_json::to_writer(&mut *out, &item).map_err(std::io::Error::from)?;
            listed.objects += 1;
        }
        token = page
            .get("metadata")
            .and_then(|meta| meta["continue"].as_str())
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            break;
        }
    }
    writeln!(out, "\n]}}")?;
    Ok(listed)
}

async fn page(client: &Client, resource: &Resource, token: &str) -> Result<Value, kube::Error> {
    let join = if resource.path.contains('?') { '&' } else { '?' };
    let mut uri = format!("{}{join}limit={PAGE}", resource.path);
    if !token.is_empty() {
        uri.push_str("&continue=");
        uri.extend(token.bytes().map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        }));
    }
    let request = Request::get(uri).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}
