//! `trace` and `explain` on the shipped capture.

use serde_json::Value;

use crate::{command, fixture, run, run_with, three_node};

fn trace(args: &[&str]) -> crate::Ran {
    let snapshot = three_node();
    run(&[&["trace", "-s", &snapshot], args].concat())
}

fn json(args: &[&str]) -> (i32, Value) {
    let ran = trace(&[args, &["-o", "json"]].concat());
    (
        ran.code,
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", ran.stdout, ran.stderr)),
    )
}

#[test]
fn the_first_command_of_the_readme() {
    let (code, answer) = json(&["toolbox-1", "shop/web"]);
    assert_eq!(code, 0);
    assert_eq!(answer["schema"], "knet.trace/v1");
    assert_eq!(answer["outcome"], "delivered");
    let branches = answer["branches"].as_array().expect("branches");
    assert_eq!(branches.len(), 4);
    for branch in branches {
        assert_eq!(branch["probability"], "1/4");
        assert_eq!(branch["client_sees"], "reply");
        assert_eq!(branch["dnat"], true);
        assert!(
            branch["at"]["pod"]
                .as_str()
                .is_some_and(|pod| pod.starts_with("shop/web-")),
            "{}",
            branch["at"]
        );
        assert!(branch["hops"].as_array().is_some_and(|hops| !hops.is_empty()));
        assert_eq!(branch["reply"]["outcome"], "delivered");
    }
}

#[test]
fn a_captured_connection_keeps_its_server() {
    // A row of node-1's conntrack.txt.
    let flow = ["toolbox-1", "10.96.1.13:80", "--sport", "51950"];
    let (code, answer) = json(&flow);
    assert_eq!(code, 0);
    assert_eq!(
        answer["branches"].as_array().map(Vec::len),
        Some(4),
        "a new one may go to any server"
    );
    let connection = &answer["connections"][0];
    let branches = connection["branches"].as_array().expect("branches");
    assert_eq!(branches.len(), 1, "this one has its server");
    assert_eq!(branches[0]["probability"], "1");
    assert_eq!(branches[0]["client_sees"], "reply");
    assert_eq!(branches[0]["packet"]["dst"], "10.244.0.3");
    let row = &connection["entries"][0]["evidence"];
    assert_eq!(row["artifact"], "nodes/node-1/host/conntrack.txt");
    assert!(
        row["text"]
            .as_str()
            .is_some_and(|text| text.contains("dst=10.96.1.13 sport=51950")),
        "{row}"
    );
    let text = trace(&flow).stdout;
    assert!(text.contains("Captured connection: conntrack of node-1"), "{text}");
    let (_, other) = json(&["toolbox-1", "10.96.1.13:80", "--sport", "51951"]);
    assert_eq!(other["connections"], Value::Null);
}

#[test]
fn who_answers_for_a_load_balancer_address() {
    let ask = |set: &str, args: &[&str]| {
        let snapshot = fixture(&format!("vm/{set}/snapshot.tar.zst"));
        run(&[&["vip", "-s", &snapshot], args].concat())
    };
    let race = ask("ipvs-fault-strictarp-off", &["svc/shop/lb-l2"]);
    assert_eq!(race.code, 1);
    insta::assert_snapshot!("vip_race", race.stdout);
    let silent = ask("ipvs-rr-strictarp", &["192.168.56.240", "-o", "json"]);
    assert_eq!(silent.code, 1);
    let silent: Value = serde_json::from_str(&silent.stdout).expect("JSON");
    assert_eq!(silent["addresses"][0]["outcome"], "nobody");
    assert_eq!(silent["addresses"][0]["segments"][0]["heard"][0]["arp_ignore"], 1);
    let routed = ask("ipvs-rr-strictarp", &["svc/frontend", "-n", "shop", "-o", "yaml"]);
    assert_eq!(routed.code, 3);
    assert!(routed.stdout.contains("outcome: routed"), "{}", routed.stdout);
    assert_eq!(
        ask("ipvs-rr-strictarp", &["svc/shop/web"]).code,
        2,
        "a ClusterIP service has none"
    );
}

#[test]
fn who_answers_is_open_where_a_table_was_not_captured() {
    let folder = tempfile::tempdir().expect("a directory");
    let host = folder.path().join("nodes/n/host");
    std::fs::create_dir_all(&host).expect("a directory");
    let row = |fields: &str| format!("[{{{fields}}}]");
    let link = r#""ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:02""#;
    let addr = r#""ifindex":2,"ifname":"eth0","addr_info":[{"family":"inet","local":"192.168.0.7","prefixlen":24,"scope":"global"},{"family":"inet","local":"192.168.0.240","prefixlen":32,"scope":"global"}]"#;
    let route = r#""type":"local","dst":"192.168.0.240","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.168.0.240","flags":[]"#;
    let way = r#""type":"unicast","dst":"192.168.0.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.168.0.7","flags":[]"#;
    let write = |name: &str, text: &str| std::fs::write(host.join(name), text).expect("it can be written");
    write("link.json", &row(link));
    write("addr.json", &row(addr));
    write("route.json", &format!("[{{{way}}},{{{route}}}]"));
    write(
        "sysctl.txt",
        "net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.eth0.rp_filter = 0\n",
    );
    let snapshot = folder.path().to_str().expect("text");
    let ask = || run(&["vip", "192.168.0.240", "-s", snapshot]);
    let open = ask();
    assert_eq!(open.code, 3, "{}", open.page());
    assert!(
        open.stdout.contains("cannot tell who answers: whether n does"),
        "{}",
        open.page()
    );
    write("nft.json", r#"{"nftables":[]}"#);
    assert_eq!(ask().code, 0);
}

#[test]
fn how_packets_reach_ipvs() {
    let ask = |set: &str, args: &[&str]| {
        let snapshot = fixture(&format!("vm/{set}/snapshot.tar.zst"));
        run(&[&["explain"], args, &["-s", &snapshot]].concat())
    };
    let clusterip = ask("ipvs-rr-strictarp", &["clusterip", "svc/shop/web:http"]);
    assert_eq!(clusterip.code, 0);
    insta::assert_snapshot!("clusterip_ipvs", clusterip.stdout);
    let nodeport = ask("ipvs-rr-strictarp", &["nodeport", "30080", "-o", "json"]);
    let nodeport: Value = serde_json::from_str(&nodeport.stdout).expect("JSON");
    assert_eq!(nodeport["taken_by"]["table"], "ipvs");
    assert_eq!(
        nodeport["taken_by"]["evidence"][0]["text"],
        "-A -t 192.168.56.11:30080 -s rr"
    );
    let device = ask("ipvs-fault-vip-missing-node1", &["kube-ipvs0"]);
    assert_eq!(device.code, 1, "an address is missing there");
    insta::assert_snapshot!("kube_ipvs0_missing", device.stdout);
    // Without the address on a device, pods do not reach IPVS, and the node still does.
    let missing = ask(
        "ipvs-fault-vip-missing-node1",
        &["clusterip", "svc/shop/web:http", "-o", "json"],
    );
    assert_eq!(missing.code, 3, "they leave by the default route");
    let missing: Value = serde_json::from_str(&missing.stdout).expect("JSON");
    assert_eq!(
        (&missing["dev"], &missing["node_sees"]),
        (&Value::Null, &Value::from("reply"))
    );
    assert_ne!(missing["pod_sees"], "reply");
}

#[test]
fn exit_codes_say_how_it_ends() {
    assert_eq!(trace(&["toolbox-1", "10.96.1.1:80"]).code, 0);
    // A Service without endpoints rejects; a closed port refuses.
    assert_eq!(trace(&["toolbox-1", "node/node-1:9"]).code, 1);
    assert_eq!(trace(&["toolbox-1", "no-such-name"]).code, 2);
    assert_eq!(trace(&["toolbox-1", "8.8.8.8:53", "-p", "udp"]).code, 3);
}

#[test]
fn text_fits_the_width_and_has_colour_only_when_asked() {
    let plain = trace(&["toolbox-1", "shop/web"]);
    assert_eq!((plain.code, plain.stderr.as_str()), (0, ""));
    assert!(!plain.stdout.is_empty() && !plain.stdout.contains('\x1b'));
    let widest = plain.stdout.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(widest <= 80, "{widest} columns:\n{}", plain.stdout);
    assert!(
        trace(&["toolbox-1", "shop/web", "--color", "always"])
            .stdout
            .contains('\x1b')
    );
    let snapshot = three_node();
    let args = ["trace", "toolbox-1", "shop/web", "-s", &snapshot];
    let mut forced = command(&args);
    forced.env("CLICOLOR_FORCE", "1");
    assert!(run_with(forced, b"").stdout.contains('\x1b'));
    let mut forbidden = command(&args);
    forbidden.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert_eq!(run_with(forbidden, b"").stdout, plain.stdout);
}

#[test]
fn detail_grows() {
    let size = |level| trace(&["toolbox-1", "shop/web", "--detail", level]).stdout.len();
    let (summary, hops, full) = (size("summary"), size("hops"), size("full"));
    assert!(summary < hops && hops < full, "{summary} {hops} {full}");
}

#[test]
fn yaml_is_the_same_document() {
    let yaml = trace(&["toolbox-1", "shop/web", "-o", "yaml"]);
    assert_eq!(yaml.code, 0);
    assert!(
        yaml.stdout
            .lines()
            .any(|line| line.starts_with("schema: ") && line.contains("knet.trace/v1")),
        "{}",
        yaml.stdout
    );
}

#[test]
fn schemas_are_schemas() {
    for of in ["trace", "explain", "flows"] {
        let ran = run(&["schema", of]);
        assert_eq!(ran.code, 0);
        let schema: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
        assert!(
            schema["$schema"]
                .as_str()
                .is_some_and(|url| url.contains("json-schema.org")),
            "{of}: {}",
            ran.stdout
        );
    }
    assert_eq!(run(&["schema"]).stdout, run(&["schema", "trace"]).stdout);
}

#[test]
fn a_node_port_is_explained() {
    let snapshot = three_node();
    let ran = run(&["explain", "nodeport", "30080", "--node", "node-1", "-s", &snapshot]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(
        ran.stdout.contains("30080") && ran.stdout.contains("KUBE-NODEPORTS"),
        "{}",
        ran.stdout
    );
    let nothing = run(&["explain", "nodeport", "1", "--node", "node-1", "-s", &snapshot]);
    assert!(nothing.code == 1 || nothing.code == 2, "{}", nothing.stdout);
}

#[test]
fn a_fault_is_found() {
    let snapshot = fixture("faults/iptables/docker-forward-drop-node2/snapshot.tar.zst");
    let ran = run(&["trace", "toolbox-1", "shop/web", "-s", &snapshot, "-o", "json"]);
    assert_eq!(ran.code, 1);
    let answer: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(answer["outcome"], "mixed");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let snapshot = three_node();
    let mut command = command(&[
        "trace",
        "toolbox-1",
        "shop/web",
        "--detail",
        "full",
        "-o",
        "json",
        "-s",
        &snapshot,
    ]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(
        (out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()),
        (Some(0), "")
    );
}

#[test]
fn a_routing_daemon_tells_why_a_route_is_missing() {
    let snapshot = fixture("vm/calico-fault-bgp-down-cal1-cal2/snapshot.tar.zst");
    let answer = run(&[
        "trace",
        "client-1",
        "pod/shop/web-2:80",
        "--snapshot",
        &snapshot,
        "-o",
        "json",
    ]);
    assert_eq!(answer.code, 3, "{}", answer.stderr);
    let answer: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    let findings = answer["findings"].as_array().expect("a list");
    let found = findings
        .iter()
        .find(|f| f["code"] == "KNET-F030")
        .expect("BIRD says it");
    assert_eq!(found["data"]["why"], "session-down");
    assert_eq!(found["data"]["session"], "Mesh_172_16_0_12");
    assert_eq!(
        found["evidence"][0]["artifact"],
        "nodes/cal-1/files/bird/show_protocols_all.txt"
    );
    // It decides nothing: where the session is up, the same question has its route and no such finding.
    let healthy = fixture("vm/calico-bgp-plain/snapshot.tar.zst");
    let answer = run(&["trace", "client-1", "pod/shop/web-2:80", "--snapshot", &healthy]);
    assert!(!answer.stdout.contains("KNET-F030"), "{}", answer.stdout);
    assert!(answer.stdout.contains("written by BIRD"), "{}", answer.stdout);
}

#[test]
fn a_url_needs_to_know_where_its_host_is() {
    let asked = run(&[
        "trace",
        "ip/192.0.2.7",
        "https://shop.example.com/",
        "--snapshot",
        &three_node(),
    ]);
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("--host shop.example.com"), "{}", asked.stderr);
    let asked = run(&[
        "trace",
        "toolbox-1",
        "shop/web",
        "--host",
        "x",
        "--snapshot",
        &three_node(),
    ]);
    assert_eq!(asked.code, 2);
    let asked = run(&["schema", "http"]);
    assert_eq!(asked.code, 0);
    assert!(asked.stdout.contains("knet.http/v1"));
}

#[test]
fn topics_of_ipvs_quote_their_rows() {
    let healthy = fixture("vm/ipvs-rr-strictarp/snapshot.tar.zst");
    let said = |arguments: &[&str], snapshot: &str| {
        let all: Vec<&str> = [&["explain"], arguments, &["--snapshot", snapshot, "--width", "200"]].concat();
        let answer = run(&all);
        (answer.code, answer.stdout, answer.stderr)
    };
    let (code, page, _) = said(&["clusterip", "svc/shop/web"], &healthy);
    assert_eq!(code, 0);
    for row in [
        "local 10.96.1.1 dev kube-ipvs0",
        "-A -t 10.96.1.1:80 -s rr",
        "ipvs.save:",
    ] {
        assert!(page.contains(row), "{row}: {page}");
    }
    let (code, page, _) = said(&["kube-ipvs0"], &healthy);
    assert_eq!(code, 0);
    for row in [
        "DOWN, and that is right",
        "not UP, NOARP",
        "link.json",
        "net.ipv4.conf.all.arp_ignore = 1",
        "sysctl.txt:",
    ] {
        assert!(page.contains(row), "{row}: {page}");
    }
    let (code, page, _) = said(&["nodeport", "30080"], &healthy);
    assert_eq!(code, 0);
    for row in [
        "No socket listens on it",
        "-A -t 192.168.56.11:30080 -s rr",
        "ipvs.save:5",
    ] {
        assert!(page.contains(row), "{row}: {page}");
    }
    // Without the address on kube-ipvs0, IPVS has the service all the same, and only the node itself meets it.
    let missing = fixture("vm/ipvs-fault-vip-missing-node1/snapshot.tar.zst");
    let (_, page, _) = said(&["clusterip", "svc/shop/web"], &missing);
    assert!(page.contains("routed past IPVS"), "{page}");
    assert!(page.contains("of the node's own packets only"), "{page}");
    let (code, _, error) = said(&["clusterip", "svc/shop/db"], &healthy);
    assert_eq!(code, 2);
    assert!(
        error.contains("svc/shop/db has no ClusterIP: it is headless"),
        "{error}"
    );
}
