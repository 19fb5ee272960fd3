//! Objects, page by page, into a file: 100,000 pods are never in memory at once.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write};
use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::Value;

use super::error::may_pass;
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
        "ingresses",
        "/apis/networking.k8s.io/v1/ingresses",
        "networking.k8s.io/v1",
        "Ingress",
        true,
    ),
    resource(
        "ingressclasses",
        "/apis/networking.k8s.io/v1/ingressclasses",
        "networking.k8s.io/v1",
        "IngressClass",
        true,
    ),
    resource(
        "gateways",
        "/apis/gateway.networking.k8s.io/v1/gateways",
        "gateway.networking.k8s.io/v1",
        "Gateway",
        true,
    ),
    resource(
        "httproutes",
        "/apis/gateway.networking.k8s.io/v1/httproutes",
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        true,
    ),
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

/// Who looks on while a list is read.
pub trait Watch {
    /// Every object, before its secrets are taken out. When a list is begun again, they come again.
    fn object(&mut self, object: &Value);
    /// After every page: objects so far, and how many there are in all when the server says so.
    fn page(&mut self, objects: u64, total: Option<u64>);
    /// Something went wrong and is tried again.
    fn again(&mut self, why: &ClusterError);
}

const PAGE: u32 = 500;
/// A list that the server forgets goes on, or is begun again, this often.
const RESTARTS: u32 = 3;
/// How long to wait before a page is asked for again. What the server itself says about waiting (429 and 503 with
/// Retry-After) is done by the client.
const WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Writes all objects of a kind as one list into an empty file.
///
/// # Errors
/// When the server refuses, or fails again and again. What was written is then no complete list.
pub async fn list(
    client: &Client,
    resource: &Resource,
    file: &mut File,
    watch: &mut impl Watch,
) -> Result<Listed, ClusterError> {
    let mut restarts = 0;
    loop {
        file.rewind()?;
        file.set_len(0)?;
        let mut out = BufWriter::new(&mut *file);
        match once(client, resource, &mut out, watch, &mut restarts).await? {
            Some(listed) => {
                out.flush()?;
                return Ok(listed);
            }
            // The server forgot the list and has no way to go on: everything again.
            None => restarts += 1,
        }
    }
}

/// `None`: from the beginning, please.
async fn once(
    client: &Client,
    resource: &Resource,
    out: &mut impl Write,
    watch: &mut impl Watch,
    restarts: &mut u32,
) -> Result<Option<Listed>, ClusterError> {
    let mut listed = Listed::default();
    writeln!(out, "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[")?;
    let mut token = String::new();
    loop {
        let page = match patiently(client, resource, &token, watch).await {
            Err(kube::Error::Api(status)) if status.code == 410 => {
                if *restarts >= RESTARTS {
                    return Err(ClusterError::Server(format!("{} ({})", status.message, status.code)));
                }
                let fresh = status.metadata.as_ref().and_then(|meta| meta.continue_.clone());
                match fresh.filter(|token| !token.is_empty()) {
                    // To go on as of now.
                    Some(fresh) => {
                        *restarts += 1;
                        listed.inconsistent = true;
                        token = fresh;
                        continue;
                    }
                    None => {
                        watch.again(&ClusterError::Server(status.message.clone()));
                        return Ok(None);
                    }
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
            watch.object(&item);
            without_secrets(&mut item);
            item["apiVersion"] = Value::from(resource.version);
            item["kind"] = Value::from(resource.kind);
            out.write_all(if listed.objects > 0 { b",\n" } else { b"" })?;
            serde_json::to_writer(&mut *out, &item).map_err(std::io::Error::from)?;
            listed.objects += 1;
        }
        let metadata = page.remove("metadata").unwrap_or_default();
        let left = metadata["remainingItemCount"].as_u64();
        watch.page(listed.objects, left.map(|left| listed.objects + left));
        metadata["continue"].as_str().unwrap_or_default().clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    writeln!(out, "\n]}}")?;
    Ok(Some(listed))
}

/// One page; a server that fails or hangs up is asked again. Nobody at its address at all is no reason to wait.
async fn patiently(
    client: &Client,
    resource: &Resource,
    token: &str,
    watch: &mut impl Watch,
) -> Result<Value, kube::Error> {
    let mut waits = WAITS.into_iter();
    loop {
        let error = match page(client, resource, token).await {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        let Some(wait) = waits.next().filter(|_| may_pass(&error)) else {
            return Err(error);
        };
        watch.again(&ClusterError::from_kube(&error));
        tokio::time::sleep(wait).await;
    }
}

/// Namespaces and names of the first objects on a path, without the objects: for a key press, so nothing is tried
/// twice.
///
/// # Errors
/// When the server refuses or cannot be reached.
pub async fn names(client: &Client, path: &str) -> Result<Vec<(String, String)>, ClusterError> {
    const NAMES_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let request = Request::get(format!("{path}?limit={PAGE}")).header(http::header::ACCEPT, NAMES_ONLY);
    let request = request.body(Vec::new()).map_err(kube::Error::HttpError)?;
    let list: Value = client.request(request).await?;
    let items = list["items"].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items
        .map(|item| (word(&item["metadata"]["namespace"]), word(&item["metadata"]["name"])))
        .collect())
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
