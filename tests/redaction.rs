//! A shared copy answers as the original does, and names nobody.

use std::collections::BTreeSet;
use std::path::Path;

use knet_snapshot::Snapshot;
use kubectl_knet::archive::Limits;
use kubectl_knet::commands::load;
use kubectl_knet::redact::{self, RedactError};

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
    let file = |text: &str| std::sync::Arc::new(text.as_bytes().to_vec()) as knet_snapshot::store::Blob;
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
