//! Every system of the README's support table has a case that exists.

use std::path::{Path, PathBuf};

/// What must have a line.
const SYSTEMS: &[&str] = &[
    "Calico IPIP",
    "Calico VXLAN",
    "Calico BGP",
    "Calico eBPF",
    "flannel vxlan",
    "flannel host-gw",
    "flannel wireguard",
    "Cilium",
    "kube-router",
    "Weave",
    "Antrea",
    "AWS VPC CNI",
    "Azure CNI",
    "GKE",
    "k3s, RKE2",
    "MicroK8s",
    "OpenShift, OVN-Kubernetes",
    "kube-proxy iptables",
    "kube-proxy ipvs",
    "kube-proxy nftables",
    "MetalLB L2",
    "MetalLB BGP",
    "PureLB",
    "kube-vip",
    "ServiceLB",
    "containerd",
    "CRI-O",
    "Docker",
    "IPsec",
    "WireGuard",
    "ingress controllers",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table, as cells.
fn rows() -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("there is a README");
    let table = readme
        .lines()
        .skip_while(|line| !line.starts_with("| system |"))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|');
        inner.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    table.skip(2).map(cells).collect()
}

/// Whether a case is there: a capture, a test function, or a topology by its name.
fn exists(case: &str) -> Result<(), String> {
    let (path, name) = case
        .split_once('#')
        .map_or((case, None), |(path, name)| (path, Some(name)));
    let path: &Path = &root().join(path);
    match name {
        None if path.is_dir() => Ok(()),
        None => Err("no such capture".to_owned()),
        Some(name) => {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
            let there = text.contains(&format!("#[test]\nfn {name}()"))
                || text.contains(&format!("Plan::new(\"{name}\")"))
                || text.contains(&format!("Plan::new(&format!(\"{name}"))
                || text.contains(&format!("Fabric::{name}"));
            there.then_some(()).ok_or_else(|| "no such test or topology".to_owned())
        }
    }
}

#[test]
fn every_system_has_a_line_and_every_line_a_case() {
    let rows = rows();
    let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, SYSTEMS);
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(!(row[1].is_empty() && row[2].is_empty()), "{row:?} says nothing");
        let cases: Vec<&str> = row[4].split('`').filter(|part| !part.trim().is_empty()).collect();
        assert!(!cases.is_empty(), "{} has no case", row[0]);
        for case in cases {
            if let Err(why) = exists(case) {
                panic!("{}: {case}: {why}", row[0]);
            }
        }
    }
}
