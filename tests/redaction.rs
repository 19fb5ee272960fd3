//! A shared copy answers as the original does, and names nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use knet_explain::resolve::http::{Action, PathKind};
use knet_explain::{Detail, Explainer, Query};
use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;
use kubectl_knet::archive::Limits;
use kubectl_knet::commands::load;
use kubectl_knet::redact::{self, RedactError};
use serde_json::{Value, json};

const FIXTURES: &[&str] = &[
    "three-node",
    "good/nftables-vxlan",
    "good/iptables-legacy-hostgw",
    "faults/iptables/docker-forward-drop-node2",
    "good/nftables-hostgw-bridgeif-primary",
    "vm/overlay-fault-wg-allowedips-cal1",
    "vm/overlay-xfrm-tunnel",
    "vm/ipvs-rr-strictarp",
];

fn fixture(name: &str) -> Snapshot {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
        .join("snapshot.tar.zst");
    load(&path, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Names and addresses of objects, as they must not stand in the copy.
fn identities(snapshot: &Snapshot) -> BTreeSet<String> {
    let cluster = snapshot.cluster();
    let mut all = BTreeSet::new();
    for pod in cluster.pods().get().into_iter().flat_map(|t| &t.rows) {
        all.insert(pod.name.clone());
        all.insert(pod.namespace.clone());
        all.insert(pod.uid.clone());
        all.extend(pod.ips.iter().map(ToString::to_string));
    }
    for service in cluster.services().get().into_iter().flat_map(|t| &t.rows) {
        all.insert(format!("{}/{}", service.namespace, service.name));
        all.extend(service.cluster_ips.iter().map(ToString::to_string));
    }
    for node in cluster.nodes().get().into_iter().flat_map(|t| &t.rows) {
        all.insert(node.name.clone());
        all.extend(node.addresses.iter().map(|(_, address)| address.clone()));
    }
    for common in [
        "default",
        "kube-system",
        "default/kubernetes",
        "kube-system/kube-dns",
        "",
    ] {
        all.remove(common);
    }
    // A word shorter than this is in every file by chance.
    all.retain(|identity| identity.len() > 5);
    all
}

#[test]
fn a_shared_copy_is_traced_alike_and_names_nobody() {
    for name in FIXTURES {
        let before = fixture(name);
        let copy = redact::share(&before, [7; 32]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(copy.proof.decided >= 20, "{name}: {:?}", copy.proof);
        let identities = identities(&before);
        assert!(identities.len() > 20, "{name}: {identities:?}");
        for (path, bytes) in &copy.files {
            let text = String::from_utf8_lossy(bytes);
            for identity in &identities {
                let whole = |at: usize| {
                    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
                    edge(text[..at].chars().next_back()) && edge(text[at + identity.len()..].chars().next())
                };
                let leak = text.match_indices(identity.as_str()).find(|(at, _)| whole(*at));
                let near = leak.map(|(at, _)| text[at.saturating_sub(60)..(at + 60).min(text.len())].to_owned());
                assert!(near.is_none(), "{name}: {identity} in {path}: {near:?}");
                let parts = || path.split(['/', '_']);
                assert!(parts().all(|part| part != identity), "{name}: {identity} in {path}");
            }
        }
    }
}

#[test]
fn the_same_secret_gives_the_same_copy_and_another_one_another() {
    let before = fixture("three-node");
    let copy = |key| redact::share(&before, key).expect("it can be shared").files;
    let (first, again, other) = (copy([1; 32]), copy([1; 32]), copy([2; 32]));
    assert_eq!(first, again);
    assert_eq!(first.len(), other.len());
    assert_ne!(first.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
}

/// What a prefix-preserving map cannot keep is refused, not quietly changed.
#[test]
fn a_range_of_addresses_is_refused() {
    let file = |text: &str| Arc::new(text.as_bytes().to_vec()) as Blob;
    let save = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m iprange --src-range 10.0.0.3-10.0.0.9 -j DROP\nCOMMIT\n";
    let files = [
        ("manifest.json".to_owned(), file("{\"schema\":\"knet.snapshot/v1\"}")),
        ("nodes/n/host/iptables-nft.save".to_owned(), file(save)),
    ];
    let snapshot = Snapshot::from_files(files.into_iter().collect()).expect("a snapshot");
    let refused = redact::share(&snapshot, [0; 32]).err().expect("it is refused");
    assert!(
        matches!(&refused, RedactError::Untellable { token, .. } if token == "10.0.0.3-10.0.0.9"),
        "{refused}"
    );
}

/// A name of an object, a path of it, and where its clients find it.
const HOST: &str = "till.acme-retail.example";
const SECRETS: &[&str] = &[
    "till",
    "acme-retail",
    "checkout",
    "petstore",
    "edge-fra1",
    "partner-door",
    "x-acme-tenant",
    "gold-customer",
    "acme.example/gate",
    "203.0.113.77",
];

/// The three nodes with a Service that stands for a controller, an Ingress, and a Gateway with a route.
fn with_http_objects() -> Snapshot {
    let before = fixture("three-node");
    let services = before.cluster().services().get().expect("services");
    let of = |name: &str| {
        let found = services.rows.iter().find(|s| s.namespace == "shop" && s.name == name);
        found.unwrap_or_else(|| panic!("shop/{name}"))
    };
    let front = of("web").cluster_ips[0].to_string();
    let backend = services
        .rows
        .iter()
        .find(|s| s.namespace == "shop" && s.name != "web" && !s.cluster_ips.is_empty() && !s.ports.is_empty())
        .expect("another service of the shop");
    let (name, port) = (&backend.name, backend.ports[0].port);
    let ingresses = json!({"kind": "IngressList", "items": [
        {"metadata": {"namespace": "shop", "name": "partner-door", "annotations": {
                "nginx.ingress.kubernetes.io/configuration-snippet": "set $token gold-customer;"}},
         "spec": {"ingressClassName": "edge-fra1", "tls": [{"hosts": [HOST], "secretName": "partner-door-tls"}],
            "rules": [{"host": HOST, "http": {"paths": [
                {"path": "/checkout", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": port}}}},
                {"path": "/checkout/petstore", "pathType": "Exact", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
                {"path": "/petstore", "pathType": "ImplementationSpecific", "backend": {"service": {"name": "petstore", "port": {"number": 80}}}}]}}]},
         "status": {"loadBalancer": {"ingress": [{"ip": front}, {"hostname": "till.acme-retail.example"}]}}},
        {"metadata": {"namespace": "shop", "name": "all"}, "spec": {"rules": [{"host": format!("*.{}", &HOST[5..]), "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]},
         "status": {"loadBalancer": {"ingress": [{"ip": front}]}}}]});
    let classes = json!({"kind": "IngressClassList", "items": [{"metadata": {"name": "edge-fra1",
        "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": {"controller": "acme.example/gate"}}]});
    let gateways = json!({"kind": "GatewayList", "items": [{"metadata": {"namespace": "shop", "name": "partner-door"},
        "spec": {"gatewayClassName": "edge-fra1", "listeners": [{"name": "till", "port": 80, "protocol": "HTTP", "hostname": format!("*.{}", &HOST[5..])}]},
        "status": {"addresses": [{"type": "IPAddress", "value": front}, {"type": "IPAddress", "value": "203.0.113.77"}]}}]});
    let parent = json!({"name": "partner-door", "sectionName": "till"});
    let routes = json!({"kind": "HTTPRouteList", "items": [{"metadata": {"namespace": "shop", "name": "petstore"},
        "spec": {"parentRefs": [parent], "hostnames": ["pets.acme-retail.example"], "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/petstore"}, "headers": [{"name": "x-acme-tenant", "value": "gold-customer"}]},
                {"path": {"type": "PathPrefix", "value": "/checkout"}}],
            "backendRefs": [{"name": name, "port": port, "weight": 3}, {"name": "web", "port": 80}]}]},
        "status": {"parents": [{"parentRef": parent, "controllerName": "acme.example/gate", "conditions": [{"type": "Accepted", "status": "True"}]}]}}]});
    let whole = |path: &str| Arc::new(before.bytes(path).unwrap_or_default().to_vec()) as Blob;
    let mut files: BTreeMap<String, Blob> = before.paths().map(|path| (path.to_owned(), whole(path))).collect();
    for (name, list) in [
        ("ingresses", ingresses),
        ("ingressclasses", classes),
        ("gateways", gateways),
        ("httproutes", routes),
    ] {
        files.insert(format!("cluster/{name}.json"), Arc::new(list.to_string().into_bytes()));
    }
    Snapshot::from_files(files.into_iter().collect()).expect("a snapshot")
}

#[test]
fn what_is_meant_for_a_url_is_shared_too_and_names_nobody() {
    let before = with_http_objects();
    let copy = redact::share(&before, [9; 32]).unwrap_or_else(|e| panic!("{e}"));
    // Hosts and paths of both kinds, for a pod and a node.
    assert!(copy.proof.requests >= 20, "{:?}", copy.proof);
    let mut objects = String::new();
    for name in ["ingresses", "ingressclasses", "gateways", "httproutes"] {
        let bytes = copy.files.get(&format!("cluster/{name}.json"));
        objects.push_str(&String::from_utf8_lossy(
            bytes.unwrap_or_else(|| panic!("{name} is not there")),
        ));
    }
    for secret in SECRETS {
        assert!(!objects.contains(secret), "{secret}: {objects}");
    }
    // A reader finds the host and the path of the copy in the copy, and asks for them.
    let list =
        |name: &str| -> Value { serde_json::from_slice(&copy.files[&format!("cluster/{name}.json")]).expect("JSON") };
    let rule = &list("ingresses")["items"][0]["spec"]["rules"][0];
    let (host, path) = (
        rule["host"].as_str().expect("a host"),
        rule["http"]["paths"][1]["path"].as_str().expect("a path"),
    );
    let files = copy
        .files
        .iter()
        .map(|(path, bytes)| (path.clone(), Arc::new(bytes.clone()) as Blob));
    let after = Snapshot::from_files(files.collect()).expect("a snapshot");
    let ask = |snapshot: &Snapshot, host: &str, path: &str| {
        let pods = snapshot.cluster().pods().get().expect("pods").rows.iter();
        let pod = pods
            .filter(|pod| !pod.host_network && !pod.ips.is_empty())
            .map(|pod| format!("pod/{}/{}", pod.namespace, pod.name))
            .next();
        let query = Query {
            src: pod.expect("a pod"),
            dst: format!("http://{host}{path}"),
            ..Query::default()
        };
        let explainer = Explainer::new(snapshot);
        let answer = explainer.http(&query, None, Detail::Decisions);
        let answer = answer.unwrap_or_else(|e| panic!("{host}{path}: {e}"));
        let rule = &answer.decision.rules[0];
        let Action::Backends(backends) = &rule.action else {
            panic!("{rule:?}");
        };
        let exact = matches!(rule.path, Some((PathKind::Exact, _)));
        (
            answer.exit_code(),
            exact,
            backends[0].service.clone(),
            answer.legs.len(),
        )
    };
    let (old, new) = (ask(&before, HOST, "/checkout/petstore"), ask(&after, host, path));
    assert_eq!((old.0, old.1, old.3), (new.0, new.1, new.3));
    assert!(old.1 && old.3 > 0 && old.2.name == "web", "{old:?}");
    assert_ne!(old.2, new.2, "the service has another name");
}

/// A controller is known by its label, and by that its way to the backend; a Service may be called the same.
#[test]
fn names_of_a_product_stay_for_answers_hang_on_them() {
    let file = |text: &str| Arc::new(text.as_bytes().to_vec()) as Blob;
    let pod = r#"{"kind":"PodList","items":[{"metadata":{"namespace":"edge","name":"traefik-7","uid":"u","labels":{"app":"traefik","team":"payments"}},"spec":{"nodeName":"n"},"status":{"podIP":"10.0.0.9"}}]}"#;
    let service = r#"{"kind":"ServiceList","items":[{"metadata":{"namespace":"edge","name":"traefik"},"spec":{"clusterIP":"10.96.0.9","selector":{"app":"traefik","team":"payments"},"ports":[{"port":80}]}}]}"#;
    let files = [
        ("manifest.json".to_owned(), file("{\"schema\":\"knet.snapshot/v1\"}")),
        ("cluster/pods.json".to_owned(), file(pod)),
        ("cluster/services.json".to_owned(), file(service)),
    ];
    let snapshot = Snapshot::from_files(files.into_iter().collect()).expect("a snapshot");
    let copy = redact::share(&snapshot, [3; 32]).unwrap_or_else(|e| panic!("{e}"));
    let list = |name: &str| -> Value { serde_json::from_slice(&copy.files[name]).expect("JSON") };
    let labels = list("cluster/pods.json")["items"][0]["metadata"]["labels"].clone();
    let selector = list("cluster/services.json")["items"][0]["spec"]["selector"].clone();
    assert_eq!(labels["app"], "traefik");
    assert_eq!(labels, selector);
    assert!(!labels.to_string().contains("payments"), "{labels}");
    assert_ne!(list("cluster/services.json")["items"][0]["metadata"]["name"], "traefik");
}
