//! Two nodes whose routes come from real routing daemons: what `node-collect` gets from BIRD and FRR through their
//! control sockets is what their own tools print, tells why a route is missing, and which node announces an address.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::knet;
use crate::netns::{must, say, shell};

/// What ends with the test: daemons, then namespaces.
#[derive(Default)]
struct Lab {
    daemons: Vec<Child>,
    spaces: Vec<String>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for name in &self.spaces {
            let _ = shell(&format!("ip netns del {name}"), "");
        }
    }
}

/// Name, address, block of pods, and a load balancer's address.
const NODES: [(&str, &str, &str, &str); 2] = [
    ("n1", "192.0.2.1", "10.244.1.0/26", "198.51.100.10/32"),
    ("n2", "192.0.2.2", "10.244.2.0/26", "198.51.100.20/32"),
];

impl Lab {
    /// Two namespaces and a cable.
    fn build(p: &str) -> Self {
        let mut lab = Self::default();
        for (node, ..) in NODES {
            let name = format!("{p}-{node}");
            must(&format!("ip netns add {name} && ip -n {name} link set lo up"), "");
            lab.spaces.push(name);
        }
        must(
            &format!("ip -n {p}-n1 link add eth0 type veth peer name eth0 netns {p}-n2"),
            "",
        );
        for (node, address, ..) in NODES {
            let batch = format!("addr add {address}/24 dev eth0\nlink set eth0 up\n");
            must(&format!("ip -n {p}-{node} -batch -"), &batch);
        }
        lab
    }

    fn start(&mut self, space: &str, command: &str) {
        let mut words = command.split(' ');
        let child = Command::new("ip")
            .args(["netns", "exec", space])
            .args(&mut words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ip is there");
        self.daemons.push(child);
    }
}

fn document(arguments: &[&str]) -> Value {
    let out = knet(arguments);
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// Both nodes with the program, and the objects an API server would have.
fn collect(p: &str, to: &Path) -> String {
    let mut whole = json!({"schema": "knet.snapshot/v1", "nodes": [], "artifacts": [], "absent": []});
    for (node, ..) in NODES {
        let part = to.join("parts").join(node);
        let host = format!("/run/netns/{p}-{node}");
        let file = part.display().to_string();
        let arguments = [
            "node-collect",
            "--node",
            node,
            "--host-only",
            "--host-netns",
            &host,
            "-f",
            &file,
        ];
        let out = knet(&arguments);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && !said.contains("files/"), "{said}");
        must(
            &format!("mkdir -p {0}/all && cp -r {file}/nodes {0}/all/", to.display()),
            "",
        );
        let read = fs::read(part.join("manifest.json")).expect("it is there");
        let manifest: Value = serde_json::from_slice(&read).expect("JSON");
        for list in ["nodes", "artifacts", "absent"] {
            let more = manifest[list].as_array().into_iter().flatten();
            let more = more.filter(|a| !a["path"].as_str().unwrap_or_default().starts_with("cluster/"));
            whole[list].as_array_mut().expect("a list").extend(more.cloned());
        }
    }
    let all = to.join("all");
    fs::create_dir_all(all.join("cluster")).expect("a folder");
    fs::write(all.join("manifest.json"), whole.to_string()).expect("a file");
    let list = |items: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let node = |(name, address, ..): (&str, &str, &str, &str)| {
        json!({"kind": "Node", "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    };
    let pod = json!({"kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"nodeName": "n2"}, "status": {"phase": "Running", "podIP": "10.244.2.5", "podIPs": [{"ip": "10.244.2.5"}]}});
    fs::write(all.join("cluster/nodes.json"), list(NODES.map(node).to_vec())).expect("a file");
    fs::write(all.join("cluster/pods.json"), list(vec![pod])).expect("a file");
    all.display().to_string()
}

/// Until the kernel of a node has a route, or has none.
fn until(p: &str, node: &str, block: &str, there: bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let route = must(&format!("ip -n {p}-{node} route show {block}"), "");
        if route.contains(" via ") == there {
            return;
        }
        assert!(Instant::now() < deadline, "{node}: {block}: {route}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The finding of a trace from one node to a pod of the other.
fn finding(snapshot: &str) -> Option<Value> {
    let answer = document(&[
        "trace",
        "node/n1",
        "10.244.2.5:80",
        "--snapshot",
        snapshot,
        "-o",
        "json",
    ]);
    let all = answer["findings"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|found| found["code"] == "KNET-F030")
}

/// What each node announces of an address.
fn announced(snapshot: &str, address: &str) -> Vec<Value> {
    let answer = document(&["vip", address, "--snapshot", snapshot, "-o", "json"]);
    let nodes = answer["addresses"][0]["nodes"].as_array().cloned().unwrap_or_default();
    nodes.into_iter().map(|node| node["advertises"].clone()).collect()
}

fn answers(all: &[Value]) -> Vec<&str> {
    all.iter().filter_map(|one| one["answer"].as_str()).collect()
}

/// A name for namespaces, or why there can be none.
fn name(test: &str, programs: &[&str]) -> Option<String> {
    let missing = programs.iter().find(|program| {
        !shell(&format!("PATH=$PATH:/usr/sbin command -v {program}"), "")
            .status
            .success()
    });
    if let Some(program) = missing {
        say(&format!("KNET-SKIP {test}: {program} is not installed"));
        return None;
    }
    let p = format!("{}{}", &test[5..7], std::process::id());
    if !shell(&format!("ip netns add {p} && ip netns del {p}"), "")
        .status
        .success()
    {
        say(&format!(
            "KNET-SKIP {test}: may not create a named network namespace (not root?)"
        ));
        return None;
    }
    Some(p)
}

#[test]
fn live_bird() {
    let Some(p) = name("live_bird", &["bird", "birdc"]) else {
        return;
    };
    let mut lab = Lab::build(&p);
    let folder = tempfile::tempdir().expect("a directory");
    let at = |file: &str| folder.path().join(file).display().to_string();
    for (i, (node, address, block, vip)) in NODES.into_iter().enumerate() {
        let other = NODES[1 - i].1;
        // A name that must be quoted, and a session that never comes up.
        let config = format!(
            "router id {address};\nprotocol device {{}}\nprotocol direct {{ ipv4; interface \"eth0\"; }}\n\
             protocol kernel {{ learn; ipv4 {{ import none; export all; }}; }}\n\
             protocol static static1 {{ ipv4; route {block} blackhole; route {vip} blackhole; }}\n\
             template bgp mesh {{ local {address} as 64512; connect delay time 1; connect retry time 1;\n\
             error wait time 1, 2; ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n\
             protocol bgp 'Mesh-{node}.x' from mesh {{ neighbor {other} as 64512; }}\n\
             protocol bgp Dead from mesh {{ neighbor 192.0.2.99 as 64512; }}\n"
        );
        fs::write(at(&format!("{node}.conf")), config).expect("a file");
        let (conf, ctl) = (at(&format!("{node}.conf")), at(&format!("{node}.ctl")));
        lab.start(&format!("{p}-{node}"), &format!("bird -f -c {conf} -s {ctl}"));
    }
    for (i, (node, ..)) in NODES.into_iter().enumerate() {
        until(&p, node, NODES[1 - i].2, true);
    }
    let healthy = collect(&p, &folder.path().join("healthy"));
    // The bytes are those of BIRD's own client.
    let client = |command: &str| {
        must(
            &format!("PATH=$PATH:/usr/sbin birdc -s {} \"{command}\"", at("n1.ctl")),
            "",
        )
    };
    let file = |name: &str| {
        let path = format!("{healthy}/nodes/n1/files/bird/{name}");
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let mut same = 0;
    for (name, command) in [
        ("show_route_all.txt", "show route all"),
        ("show_route_export_Mesh-n1.x.txt", "show route export 'Mesh-n1.x'"),
    ] {
        assert_eq!(file(name), client(command), "{command}");
        same += 1;
    }
    // Timers run on.
    let sessions = |text: &str| {
        let all = knet_snapshot::routing_daemon::bird::protocols(text.as_bytes());
        all.into_iter()
            .map(|s| (s.name.clone(), s.neighbour, s.is_up()))
            .collect::<Vec<_>>()
    };
    let ours = sessions(&file("show_protocols_all.txt"));
    assert_eq!(ours, sessions(&client("show protocols all")));
    assert_eq!(
        ours.iter().map(|(_, _, up)| *up).collect::<Vec<_>>(),
        [true, false],
        "{ours:?}"
    );
    assert_eq!(finding(&healthy), None);
    let all = announced(&healthy, "198.51.100.10");
    assert_eq!(answers(&all), ["yes", "no"], "{all:#?}");
    assert_eq!(all[0]["sessions"][0]["prefix"], "198.51.100.10/32");
    assert_eq!(all[0]["sessions"][0]["neighbour"], "192.0.2.2");
    let show = knet(&["snapshot", "show", &healthy]);
    let show = String::from_utf8_lossy(&show.stdout).into_owned();
    assert!(show.contains("files/frr"), "{show}");

    client("disable 'Mesh-n1.x'");
    until(&p, "n1", NODES[1].2, false);
    let down = collect(&p, &folder.path().join("down"));
    let found = finding(&down).expect("BIRD tells why");
    assert_eq!(found["data"]["why"], "session-down", "{found:#}");
    assert_eq!(found["data"]["session"], "Mesh-n1.x");
    assert_eq!(
        found["evidence"][0]["artifact"],
        "nodes/n1/files/bird/show_protocols_all.txt"
    );
    let all = announced(&down, "198.51.100.10");
    assert_eq!(answers(&all), ["no", "no"], "{all:#?}");

    // A daemon that hangs is not one that does not run.
    must(&format!("kill -STOP {}", lab.daemons[0].id()), "");
    let to = folder.path().join("mute").display().to_string();
    let host = format!("/run/netns/{p}-n1");
    let arguments = [
        "node-collect",
        "--node",
        "n1",
        "--host-only",
        "--host-netns",
        &host,
        "--table-timeout",
        "1",
        "-f",
        &to,
    ];
    let out = knet(&arguments);
    must(&format!("kill -CONT {}", lab.daemons[0].id()), "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && said.contains("could not get files/bird/"),
        "{said}"
    );
    let read = fs::read(format!("{to}/manifest.json")).expect("it is there");
    let manifest: Value = serde_json::from_slice(&read).expect("JSON");
    let absent = manifest["absent"].as_array().expect("a list");
    let of = |path: &str| absent.iter().find(|a| a["path"] == path).map(|a| a["reason"].clone());
    assert_eq!(
        of("nodes/n1/files/bird/show_protocols_all.txt"),
        Some(json!("timeout")),
        "{absent:#?}"
    );
    assert_eq!(of("nodes/n1/files/frr"), Some(json!("not-running")), "{absent:#?}");
    let all = announced(&to, "198.51.100.10");
    assert_eq!(answers(&all), ["unknown"], "{all:#?}");
    assert_eq!(all[0]["because"], "not-captured");
    say(&format!(
        "KNET-RAN live_bird {} sessions, {same} files as birdc prints them, 3 captures",
        ours.len() * 2
    ));
}

#[test]
fn live_frr() {
    let programs = ["/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "vtysh", "chown"];
    let Some(p) = name("live_frr", &programs) else { return };
    let mut lab = Lab::build(&p);
    let folder = tempfile::tempdir().expect("a directory");
    // The daemons run as a user of their own.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), open).expect("it is ours");
    let at = |file: &str| folder.path().join(file).display().to_string();
    for (i, (node, address, block, vip)) in NODES.into_iter().enumerate() {
        let other = NODES[1 - i].1;
        let config = format!(
            "router bgp 64512\n bgp router-id {address}\n no bgp network import-check\n\
             neighbor {other} remote-as 64512\n neighbor {other} timers connect 1\n neighbor 192.0.2.99 remote-as 64513\n\
             address-family ipv4 unicast\n  network {block}\n  network {vip}\n exit-address-family\n"
        );
        let own = at(node);
        fs::create_dir(&own).expect("a folder");
        fs::write(format!("{own}/bgpd.conf"), config).expect("a file");
        fs::write(format!("{own}/zebra.conf"), "hostname x\n").expect("a file");
        must(&format!("chown -R frr:frr {own}"), "");
        let space = format!("{p}-{node}");
        for daemon in ["zebra", "bgpd"] {
            let files = format!("-f {own}/{daemon}.conf -i {own}/{daemon}.pid -z {own}/zserv.api --vty_socket {own}");
            lab.start(&space, &format!("/usr/lib/frr/{daemon} -P 0 {files}"));
            if daemon == "zebra" {
                let deadline = Instant::now() + Duration::from_secs(30);
                while !Path::new(&format!("{own}/zserv.api")).exists() {
                    assert!(Instant::now() < deadline, "zebra does not start");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
    for (i, (node, ..)) in NODES.into_iter().enumerate() {
        until(&p, node, NODES[1 - i].2, true);
    }
    let healthy = collect(&p, &folder.path().join("healthy"));
    let shell = |command: &str| must(&format!("vtysh --vty_socket {} -c '{command}'", at("n1")), "");
    let mut same = 0;
    for (name, command) in [
        (
            "show_bgp_ipv4_advertised_192.0.2.2.json",
            "show bgp ipv4 unicast neighbors 192.0.2.2 advertised-routes json",
        ),
        ("show_bgp_ipv4_unicast.json", "show bgp ipv4 unicast json"),
    ] {
        let file = format!("{healthy}/nodes/n1/files/frr/{name}");
        let ours: Value = serde_json::from_slice(&fs::read(&file).expect("it is there")).expect("JSON");
        let theirs: Value = serde_json::from_str(&shell(command)).expect("JSON");
        assert_eq!(ours, theirs, "{command}");
        same += 1;
    }
    assert!(Path::new(&format!("{healthy}/nodes/n1/files/frr/show_ip_route.json")).exists());
    assert_eq!(finding(&healthy), None);
    let all = announced(&healthy, "198.51.100.20");
    assert_eq!(answers(&all), ["no", "yes"], "{all:#?}");
    assert_eq!(all[1]["sessions"][0]["evidence"]["text"], "\"198.51.100.20/32\":{");

    must(
        &format!(
            "vtysh --vty_socket {} -c 'configure' -c 'router bgp 64512' -c 'neighbor 192.0.2.2 shutdown'",
            at("n1")
        ),
        "",
    );
    until(&p, "n1", NODES[1].2, false);
    let down = collect(&p, &folder.path().join("down"));
    let found = finding(&down).expect("FRR tells why");
    assert_eq!(found["data"]["why"], "session-down", "{found:#}");
    assert_eq!(
        (&found["data"]["daemon"], &found["data"]["session"]),
        (&json!("frr"), &json!("192.0.2.2"))
    );
    assert_eq!(answers(&announced(&down, "198.51.100.20")), ["no", "no"]);
    say(&format!(
        "KNET-RAN live_frr 2 daemons on 2 nodes, {same} files as vtysh prints them, 2 captures"
    ));
}
