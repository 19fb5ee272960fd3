//! Programs at devices, and dataplanes that are none of the kernel's tables.

use super::{mini, query};
use crate::explainer::Explainer;
use crate::explanation::{ClientSees, Explanation, Outcome, Verdict};
use crate::render::{json, text};
use crate::systems::{Standing, System};
use knet_dataplane::trace::Detail;

const HOST: &str = "nodes/node-1/host/";

/// The trace from the toolbox to the web service on the small node, changed.
fn trace(change: impl FnOnce(&mut Vec<(String, String)>)) -> Explanation {
    let mut files = mini::files(true);
    change(&mut files);
    let snapshot = mini::open(files);
    let answer = Explainer::new(&snapshot).trace(&query("toolbox", "shop/web"), Detail::Decisions);
    answer.expect("it resolves")
}

fn filters(rows: &str) -> impl FnOnce(&mut Vec<(String, String)>) {
    let rows = format!("[{rows}]");
    move |files| files.push((format!("{HOST}tc.json"), rows))
}

/// Puts something into the node's links.
fn links(files: &mut [(String, String)], from: &str, to: &str) {
    let (_, link) = files
        .iter_mut()
        .find(|(path, _)| *path == format!("{HOST}link.json"))
        .expect("it has links");
    assert!(link.contains(from), "{from}");
    *link = link.replacen(from, to, 1);
}

fn device(files: &mut [(String, String)], name: &str, up: bool, kind: &str) {
    let flags = if up { r#""UP","LOWER_UP""# } else { "" };
    let row = format!(
        r#"{{"ifindex":99,"ifname":"{name}","flags":[{flags}],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:99","linkinfo":{{"info_kind":"{kind}"}}}}"#
    );
    links(files, "\n]", &format!(",\n{row}]"));
}

fn page(explanation: &Explanation) -> String {
    let style = text::Style {
        width: 4000,
        ..text::Style::default()
    };
    text::trace(explanation, &style)
}

fn is_open(explanation: &Explanation) {
    let page = page(explanation);
    assert_eq!(explanation.verdict(), Verdict::Same(ClientSees::Unknown), "{page}");
    assert_eq!(explanation.outcome(), Some(Outcome::Unknown));
    assert_eq!(explanation.exit_code(), 3);
    assert!(page.starts_with("CANNOT TELL: "), "{page}");
    let document = json::trace(explanation, false);
    assert_eq!(document["client_sees"], "unknown");
    assert_eq!(document["outcome"], "unknown");
}

fn replies(explanation: &Explanation) {
    assert_eq!(explanation.exit_code(), 0, "{}", page(explanation));
    assert_eq!(explanation.verdict(), Verdict::Same(ClientSees::Reply));
}

#[test]
fn behind_a_tc_program_nothing_is_certain_and_both_ways_are_shown() {
    for (dev, place) in [("veth4", "ingress"), ("veth5", "egress")] {
        let answer = trace(filters(&format!(
            r#"{{"dev":"{dev}","parent":"{place}","protocol":"all","pref":1,"kind":"bpf","chain":0}},
               {{"dev":"{dev}","parent":"{place}","protocol":"all","pref":1,"kind":"bpf","chain":0,"options":{{"handle":"0x1","bpf_name":"prog_x"}}}}"#
        )));
        is_open(&answer);
        assert_eq!(answer.branches.len(), 2, "{}", page(&answer));
        assert!(answer.branches.iter().any(|b| b.client_sees == ClientSees::Reply));
        let page = page(&answer);
        assert!(
            page.contains(&format!("dev {dev} {place} protocol all pref 1 bpf prog_x")),
            "{page}"
        );
    }
}

#[test]
fn a_bridge_receives_what_is_for_its_node_once_more() {
    let mut files = mini::files(true);
    filters(r#"{"dev":"cni0","parent":"ingress","protocol":"all","pref":1,"kind":"bpf","chain":0}"#)(&mut files);
    let snapshot = mini::open(files);
    let explainer = Explainer::new(&snapshot);
    let node = explainer.trace(&query("toolbox", "node/node-1:22"), Detail::Decisions);
    is_open(&node.expect("it resolves"));
    // From port to port the bridge device itself receives nothing.
    let pod = explainer.trace(&query("toolbox", "pod/shop/web-0:8080"), Detail::Decisions);
    replies(&pod.expect("it resolves"));
}

#[test]
fn a_program_that_the_packet_does_not_meet_changes_nothing() {
    for row in [
        r#"{"dev":"eth0","parent":"ingress","protocol":"all","pref":1,"kind":"bpf","chain":0}"#,
        r#"{"dev":"veth4","parent":"ingress","protocol":"ipv6","pref":1,"kind":"bpf","chain":0}"#,
        // The way out of veth4 is the answer's, and that is ARP's only.
        r#"{"dev":"veth4","parent":"egress","protocol":"arp","pref":1,"kind":"bpf","chain":0}"#,
    ] {
        replies(&trace(filters(row)));
    }
}

#[test]
fn a_classifier_decides_nothing_without_an_action() {
    let row = |actions: &str| {
        format!(
            r#"{{"dev":"veth4","parent":"ingress","protocol":"ip","pref":1,"kind":"u32","chain":0,"options":{{"handle":"0x1"{actions}}}}}"#
        )
    };
    replies(&trace(filters(&row(""))));
    is_open(&trace(filters(&row(r#","actions":[{"order":1,"kind":"mirred"}]"#))));
}

#[test]
fn filters_that_cannot_be_read_are_not_taken_for_none() {
    for folder in [HOST, "nodes/node-1/netns/web-0/"] {
        let file = format!("{folder}tc.json");
        let said = format!("tc filters are not known: {file}");
        let page_of = |rows: &str| page(&trace(|files| files.push((file.clone(), rows.to_owned()))));
        assert!(!page_of("[]").contains(&said));
        assert!(page_of("[{").contains(&said), "{file}");
    }
}

#[test]
fn behind_xdp_nothing_is_certain() {
    let name = r#""ifname":"veth4","#;
    let answer = trace(|files| links(files, name, &format!(r#"{name}"xdp":{{"mode":1,"prog":{{"id":7}}}},"#)));
    is_open(&answer);
    let page = page(&answer);
    assert!(page.contains("dev veth4 xdp prog id 7"), "{page}");
}

#[test]
fn where_an_ebpf_dataplane_is_at_work_the_kernels_tables_are_not_the_answer() {
    for (dev, system) in [("cilium_host", "Cilium"), ("bpfin.cali", "Calico's eBPF dataplane")] {
        let answer = trace(|files| device(files, dev, true, "veth"));
        is_open(&answer);
        let page = page(&answer);
        assert!(
            page.contains(&format!("programs of {system} decide on node-1")),
            "{page}"
        );
        assert!(page.contains(&format!("{system} on node-1 (device {dev}")), "{page}");
        let document = json::trace(&answer, false);
        let notes: Vec<_> = document["boundary"].as_array().expect("a list").iter().collect();
        assert!(notes.iter().any(|n| n["kind"] == "dataplane"), "{document}");
        let conditions = document["branches"][0]["conditions"].to_string();
        assert!(conditions.contains(system), "{conditions}");
    }
}

#[test]
fn what_an_ebpf_dataplane_left_behind_takes_nothing() {
    let answer = trace(|files| device(files, "cilium_host", false, "veth"));
    replies(&answer);
    let page = page(&answer);
    assert!(page.contains("Cilium has left something on node-1"), "{page}");
}

#[test]
fn a_port_of_open_vswitch_ends_the_walk() {
    let answer = trace(|files| {
        device(files, "ovs-system", false, "openvswitch");
        links(
            files,
            r#""link_netnsid":1,"master":"cni0""#,
            r#""link_netnsid":1,"master":"ovs-system""#,
        );
    });
    is_open(&answer);
    let page = page(&answer);
    assert!(page.contains("Open vSwitch on node-1 (device ovs-system)"), "{page}");
}

/// What is seen of the small node, changed.
fn seen(change: impl FnOnce(&mut Vec<(String, String)>)) -> Vec<(System, bool)> {
    let mut files = mini::files(true);
    change(&mut files);
    let snapshot = mini::open(files);
    let all = Explainer::new(&snapshot).systems();
    all.iter().map(|s| (s.system, s.at_work)).collect()
}

fn file(name: &str) -> impl FnOnce(&mut Vec<(String, String)>) {
    let path = format!("nodes/node-1/files/{name}");
    move |files| files.push((path, "{}\n".to_owned()))
}

#[test]
fn systems_are_known_by_their_devices() {
    for (dev, kind, system) in [
        ("flannel.1", "vxlan", System::Flannel),
        ("flannel-wg", "wireguard", System::Flannel),
        ("vxlan.calico", "vxlan", System::Calico),
        ("cali0123456789a", "veth", System::Calico),
        ("kube-bridge", "bridge", System::KubeRouter),
        ("weave", "bridge", System::Weave),
        ("azv0", "veth", System::AzureCni),
        ("gke0", "veth", System::Gke),
        ("kube-ipvs0", "dummy", System::KubeProxyIpvs),
        ("kube-lb0", "dummy", System::PureLb),
        ("docker0", "bridge", System::Docker),
        ("cilium_host", "veth", System::Cilium),
        ("antrea-gw0", "openvswitch", System::Antrea),
        ("ovn-k8s-mp0", "openvswitch", System::OvnKubernetes),
        ("ovn0", "openvswitch", System::KubeOvn),
        ("br-int", "openvswitch", System::OpenVswitch),
    ] {
        let seen = seen(|files| device(files, dev, true, kind));
        assert!(seen.contains(&(system, true)), "{dev}: {seen:?}");
    }
}

#[test]
fn systems_are_known_by_the_files_that_set_them_up() {
    for (name, system) in [
        (
            "var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist",
            System::K3s,
        ),
        (
            "var/snap/microk8s/current/args/cni-network/10-calico.conflist",
            System::MicroK8s,
        ),
        ("etc/cni/net.d/10-aws.conflist", System::AwsVpcCni),
        ("etc/cni/net.d/10-azure.conflist", System::AzureCni),
        ("etc/cni/net.d/10-gke-ptp.conflist", System::Gke),
        ("etc/cni/net.d/05-cilium.conflist", System::Cilium),
        ("etc/cni/net.d/10-weave.conflist", System::Weave),
        ("etc/cni/net.d/10-antrea.conflist", System::Antrea),
        ("etc/cni/net.d/10-ovn-kubernetes.conf", System::OvnKubernetes),
        ("etc/cni/net.d/100-crio-bridge.conflist", System::CriO),
    ] {
        let seen = seen(file(name));
        // A file tells what was installed, not what is at work.
        assert!(seen.contains(&(system, false)), "{name}: {seen:?}");
    }
}

#[test]
fn runtimes_are_known_by_the_node_object() {
    for (runtime, system) in [
        ("containerd://1.7.2", System::Containerd),
        ("cri-o://1.30.0", System::CriO),
        ("docker://24.0.7", System::Docker),
    ] {
        let seen = seen(|files| {
            let (_, nodes) = files
                .iter_mut()
                .find(|(path, _)| path == "cluster/nodes.json")
                .expect("nodes");
            let from = r#""status":{"#;
            let to = format!(r#""status":{{"nodeInfo":{{"containerRuntimeVersion":"{runtime}"}},"#);
            assert!(nodes.contains(from));
            *nodes = nodes.replacen(from, &to, 1);
        });
        assert!(seen.contains(&(system, true)), "{runtime}: {seen:?}");
    }
}

#[test]
fn the_policy_agent_of_aws_is_programs_on_the_pods_own_devices() {
    let change = || {
        filters(
            r#"{"dev":"veth4","parent":"ingress","protocol":"all","pref":1,"kind":"bpf","chain":0,"options":{"handle":"0x1","bpf_name":"handle_ingress"}}"#,
        )
    };
    assert!(seen(change()).contains(&(System::AwsNetworkPolicy, true)));
    // It takes over no node: only where its programs stand nothing is certain.
    assert_eq!(System::AwsNetworkPolicy.standing(), Standing::Modelled);
    is_open(&trace(change()));
}

#[test]
fn nothing_of_kube_proxy_beside_an_ebpf_dataplane_is_said() {
    let snapshot = {
        let mut files = mini::files(true);
        device(&mut files, "cilium_host", true, "veth");
        for (path, text) in &mut files {
            if path.ends_with("host/iptables-nft.save") {
                text.clear();
            }
        }
        files.push((format!("{HOST}ipvs.save"), String::new()));
        files.push((format!("{HOST}ip6tables-nft.save"), String::new()));
        files.push((format!("{HOST}ip6tables-legacy.save"), String::new()));
        mini::open(files)
    };
    let answer = Explainer::new(&snapshot)
        .trace(&query("toolbox", "shop/web"), Detail::Decisions)
        .expect("it resolves");
    is_open(&answer);
    let page = page(&answer);
    assert!(page.contains("no rules of kube-proxy in any mode"), "{page}");
}

#[test]
fn what_is_explained_of_a_service_says_whose_programs_take_it() {
    let mut files = mini::files(true);
    device(&mut files, "cilium_host", true, "veth");
    for (path, text) in &mut files {
        if path.ends_with("host/iptables-nft.save") {
            text.clear();
        }
    }
    let snapshot = mini::open(files);
    let explainer = Explainer::new(&snapshot);
    let style = text::Style {
        width: 4000,
        ..text::Style::default()
    };
    let clusterip = explainer
        .clusterip(&crate::topics::clusterip::ClusterIpQuery {
            target: "svc/shop/web".to_owned(),
            namespace: None,
            node: None,
            proto: None,
        })
        .expect("it resolves");
    assert_eq!(clusterip.exit_code(), 3);
    let page = text::clusterip(&clusterip, &style);
    assert!(page.contains("nothing in the kernel's tables of this node"), "{page}");
    assert!(page.contains("Cilium on node-1 (device cilium_host"), "{page}");
    assert!(
        json::clusterip(&clusterip)["outside"][0]
            .as_str()
            .is_some_and(|t| t.contains("Cilium"))
    );
    let nodeport = explainer
        .nodeport(&crate::topics::nodeport::NodePortQuery {
            port: 30080,
            proto: None,
            node: None,
            family: None,
        })
        .expect("it resolves");
    assert_eq!(nodeport.exit_code(), 3);
    let page = text::nodeport(&nodeport, &style);
    assert!(page.contains("Cilium on node-1 (device cilium_host"), "{page}");
}
