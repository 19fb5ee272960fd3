//! Two nodes of namespaces and a Service, captured live by `node-collect` and asked with `trace`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::knet;
use crate::netns::{must, say, shell};

/// Named namespaces that go with this value.
struct Spaces(Vec<String>);

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = shell(&format!("ip netns del {name}"), "");
        }
    }
}

const NODES: [(&str, &str, &str); 2] = [("n1", "192.0.2.1", "10.244.1"), ("n2", "192.0.2.2", "10.244.2")];

/// `P-n1`, `P-n2` joined by a cable; a bridge and two pods on each; a Service on both by iptables.
fn build(p: &str) -> Spaces {
    let mut spaces = Spaces(Vec::new());
    let mut add = |name: String| {
        must(&format!("ip netns add {name} && ip -n {name} link set lo up"), "");
        spaces.0.push(name);
    };
    for (node, _, _) in NODES {
        add(format!("{p}-{node}"));
        add(format!("{p}-{node}-a"));
        add(format!("{p}-{node}-b"));
    }
    must(
        &format!("ip -n {p}-n1 link add eth0 type veth peer name eth0 netns {p}-n2"),
        "",
    );
    for (i, (node, address, pods)) in NODES.into_iter().enumerate() {
        let (other_address, other_pods) = (NODES[1 - i].1, NODES[1 - i].2);
        let n = format!("{p}-{node}");
        let batch = format!(
            "addr add {address}/24 dev eth0\nlink set eth0 up\nlink add cni0 type bridge\n\
             addr add {pods}.1/24 dev cni0\nlink set cni0 up\nroute add {other_pods}.0/24 via {other_address}\n\
             link add va type veth peer name eth0 netns {n}-a\nlink add vb type veth peer name eth0 netns {n}-b\n\
             link set va master cni0 up\nlink set vb master cni0 up\n"
        );
        must(&format!("ip -n {n} -batch -"), &batch);
        for (pod, host) in [("a", 10), ("b", 11)] {
            let batch =
                format!("addr add {pods}.{host}/24 dev eth0\nlink set eth0 up\nroute add default via {pods}.1\n");
            must(&format!("ip -n {n}-{pod} -batch -"), &batch);
        }
        must(&format!("ip netns exec {n} sysctl -qw net.ipv4.ip_forward=1"), "");
        let save = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-X - [0:0]\n:KUBE-SEP-X - [0:0]\n\
             -A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n\
             -A KUBE-SERVICES -d 10.96.0.7/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-X\n-A KUBE-SVC-X -j KUBE-SEP-X\n\
             -A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination 10.244.2.10:8080\nCOMMIT\n";
        must(&format!("ip netns exec {n} iptables-nft-restore"), save);
    }
    spaces
}

fn inside<T: Send + 'static>(space: &str, f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    let path = format!("/run/netns/{space}");
    thread::spawn(move || {
        let file = File::open(&path).expect("the namespace is there");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
        f()
    })
}

fn connects(from: &str, to: &str) -> bool {
    let to: SocketAddr = to.parse().expect("an address");
    inside(from, move || {
        TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_ok()
    })
    .join()
    .expect("it does not panic")
}

/// Each node with the program, as an agent would do it, and the objects an API server would have.
fn collect(p: &str, to: &Path) {
    let mut whole: Option<Value> = None;
    for (node, _, _) in NODES {
        let part = to.join("parts").join(node);
        let netns = |name: &str| format!("/run/netns/{p}-{node}{name}");
        let (host, a, b, file) = (netns(""), netns("-a"), netns("-b"), part.display().to_string());
        let out = knet(&[
            "node-collect",
            "--node",
            node,
            "--host-netns",
            &host,
            "--netns",
            &a,
            "--netns",
            &b,
            "-f",
            &file,
        ]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        must(
            &format!(
                "mkdir -p {0}/all && cp -r {1}/nodes {0}/all/",
                to.display(),
                part.display()
            ),
            "",
        );
        let manifest: Value =
            serde_json::from_slice(&fs::read(part.join("manifest.json")).expect("it is there")).expect("JSON");
        match &mut whole {
            None => whole = Some(manifest),
            Some(whole) => {
                for list in ["nodes", "artifacts", "absent"] {
                    let more = manifest[list].as_array().cloned().unwrap_or_default();
                    whole[list].as_array_mut().expect("a list").extend(more);
                }
            }
        }
    }
    let mut whole = whole.expect("there are nodes");
    whole["absent"]
        .as_array_mut()
        .expect("a list")
        .retain(|a| !a["path"].as_str().unwrap_or_default().starts_with("cluster/"));
    let all = to.join("all");
    fs::create_dir_all(all.join("cluster")).expect("a folder");
    fs::write(all.join("manifest.json"), whole.to_string()).expect("a file");
    let list = |items: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let nodes = NODES.map(|(name, address, pods)| {
        json!({"kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": format!("{pods}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    });
    let pods = NODES.iter().flat_map(|(node, host, pods)| {
        [("a", 10), ("b", 11)].map(|(pod, ip)| {
            json!({"kind": "Pod",
        "metadata": {"name": format!("{node}-{pod}"), "namespace": "default", "uid": format!("{node}-{pod}")},
        "spec": {"nodeName": node}, "status": {"phase": "Running", "hostIP": host, "podIP": format!("{pods}.{ip}"),
        "podIPs": [{"ip": format!("{pods}.{ip}")}]}})
        })
    });
    fs::write(all.join("cluster/nodes.json"), list(nodes.to_vec())).expect("a file");
    fs::write(all.join("cluster/pods.json"), list(pods.collect())).expect("a file");
}

#[test]
fn live_cluster() {
    let tools = ["ip", "iptables-nft-restore", "sysctl", "ss"];
    if let Some(tool) = tools
        .iter()
        .find(|tool| !shell(&format!("command -v {tool}"), "").status.success())
    {
        say(&format!("KNET-SKIP live_cluster: {tool} is not installed"));
        return;
    }
    let p = format!("kl{}", std::process::id());
    if !shell(&format!("ip netns add {p} && ip netns del {p}"), "")
        .status
        .success()
    {
        say("KNET-SKIP live_cluster: may not create a named network namespace (not root?)");
        return;
    }
    let _spaces = build(&p);
    let (ready, listening) = mpsc::channel();
    inside(&format!("{p}-n2-a"), move || {
        let listener = TcpListener::bind("10.244.2.10:8080").expect("the pod has the address");
        ready.send(()).expect("somebody waits");
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    listening.recv().expect("it listens");
    let folder = tempfile::tempdir().expect("a directory");
    let flows = [
        ("n1-a", "10.244.2.10:8080"),
        ("n1-b", "10.96.0.7:80"),
        ("n2-b", "10.96.0.7:80"),
        ("n2-b", "10.244.2.10:8081"),
        ("n1-a", "10.244.1.11:8080"),
        ("n1-a", "10.96.0.7:81"),
    ];
    let mut agreed = 0;
    for round in ["healthy", "dropped"] {
        if round == "dropped" {
            must(
                &format!("ip netns exec {p}-n2 iptables-nft -A FORWARD -p tcp --dport 8080 -s 10.244.1.0/24 -j DROP"),
                "",
            );
        }
        let to = folder.path().join(round);
        collect(&p, &to);
        let snapshot = to.join("all").display().to_string();
        for (from, dst) in flows {
            let real = connects(&format!("{p}-{from}"), dst);
            let out = knet(&["trace", from, dst, "--snapshot", &snapshot]);
            let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            // 0: delivered and answered; a refusal is an answer too, and not a connection.
            let predicted = out.status.code() == Some(0);
            assert!(
                matches!(out.status.code(), Some(0 | 1)),
                "{round}: {from} {dst}: {said}"
            );
            assert_eq!(predicted, real, "{round}: {from} {dst}: {said}");
            agreed += 1;
        }
    }
    #[cfg(feature = "cluster")]
    {
        agreed += through_the_api(&p, &folder.path().join("dropped/all"), &flows);
    }
    say(&format!("KNET-RAN live_cluster {agreed} connections as traced"));
}

/// The same without a snapshot: objects from an API server, and an agent for each node that is needed.
#[cfg(feature = "cluster")]
fn through_the_api(p: &str, objects: &Path, flows: &[(&str, &str)]) -> usize {
    let api = crate::fake_api::FakeApi::start(env!("CARGO_BIN_EXE_kubectl-knet"));
    for resource in ["nodes", "pods"] {
        let file = objects.join(format!("cluster/{resource}.json"));
        let list: Value = serde_json::from_slice(&fs::read(file).expect("it is there")).expect("JSON");
        let mut items = list["items"].as_array().cloned().unwrap_or_default();
        if resource == "nodes" {
            for node in &mut items {
                node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
            }
        }
        api.state().objects.insert(resource.to_owned(), items);
    }
    for (node, _, _) in NODES {
        let netns = |name: &str| format!("/run/netns/{p}-{node}{name}");
        let more = format!(
            "--host-netns {} --netns {} --netns {}",
            netns(""),
            netns("-a"),
            netns("-b")
        );
        api.state().arguments.insert(node.to_owned(), more);
    }
    let folder = tempfile::tempdir().expect("a directory");
    let kubeconfig = api.kubeconfig(folder.path());
    for (from, dst) in flows {
        let real = connects(&format!("{p}-{from}"), dst);
        let mut arguments = vec!["trace", from, dst, "--kubeconfig", &kubeconfig];
        // The rules of a Service send packets to a node that no name tells: both ends are named here.
        let save = folder.path().join(format!("{from}-{}", dst.replace(':', "-")));
        let save = save.display().to_string();
        arguments.extend(["--save", &save]);
        let out = knet(&arguments);
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        let code = out.status.code();
        // A node that was not read may be where it ends: then nobody knows.
        let whole = api.state().created.len();
        assert!(whole > 0, "{said}");
        assert!(matches!(code, Some(0 | 1 | 3)), "{from} {dst}: {code:?} {said}");
        if code != Some(3) {
            assert_eq!(code == Some(0), real, "live: {from} {dst}: {said}");
        }
        let again = knet(&["trace", from, dst, "--snapshot", &save]);
        assert_eq!(again.status.code(), code, "what was kept answers the same: {said}");
    }
    assert!(api.state().agents.is_empty(), "an agent was left");
    flows.len()
}
