//! Who wrote a chain, a route or a device, as far as its name can tell.

use knet_dataplane::trace::Engine;

/// A program that writes kernel state on nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the program it names")]
pub enum Owner {
    KubeProxy,
    Kubelet,
    /// Chains that both create (`KUBE-FIREWALL`, `KUBE-POSTROUTING` before 1.25).
    KubeletOrKubeProxy,
    Flannel,
    Docker,
    Podman,
    CniPortmap,
    CniFirewall,
    CniBandwidth,
    /// A bridge-type CNI plugin (bridge, ptp): masquerade chains named `CNI-<hash>`.
    CniMasquerade,
    Calico,
    Cilium,
    Antrea,
    KubeRouter,
    Weave,
    Istio,
    Linkerd,
    NodeLocalDns,
    Firewalld,
    Ufw,
    Fail2ban,
    Libvirt,
    Tailscale,
    AwsVpcCni,
    IpMasqAgent,
    MetalLb,
    PureLb,
    KubeOvn,
    OvnKubernetes,
    AzureCni,
    Gke,
    KubeVip,
}

/// Chains by the start of their name; the first that fits counts, so longer prefixes stand before shorter
/// ones. Names as the programs' sources write them.
const CHAINS: &[(&str, Owner)] = &[
    ("KUBE-ROUTER-", Owner::KubeRouter),
    ("KUBE-POD-FW-", Owner::KubeRouter),
    ("KUBE-NWPLCY-", Owner::KubeRouter),
    ("KUBE-KUBELET-CANARY", Owner::Kubelet),
    ("KUBE-IPTABLES-HINT", Owner::Kubelet),
    ("KUBE-MARK-DROP", Owner::Kubelet),
    ("KUBE-FIREWALL", Owner::KubeletOrKubeProxy),
    ("KUBE-MARK-MASQ", Owner::KubeProxy),
    ("KUBE-VIP-", Owner::KubeVip),
    ("KUBE-HP-", Owner::Kubelet),
    ("KUBE-HOSTPORTS", Owner::Kubelet),
    ("KUBE-", Owner::KubeProxy),
    ("FLANNEL-", Owner::Flannel),
    ("DOCKER", Owner::Docker),
    ("NETAVARK", Owner::Podman),
    ("CNI-HOSTPORT-", Owner::CniPortmap),
    ("CNI-DN-", Owner::CniPortmap),
    ("CNI-SN-", Owner::CniPortmap),
    ("CNI-FORWARD", Owner::CniFirewall),
    ("CNI-ADMIN", Owner::CniFirewall),
    ("CNI-ISOLATION", Owner::CniFirewall),
    ("CNI-", Owner::CniMasquerade),
    ("cali", Owner::Calico),
    ("CILIUM_", Owner::Cilium),
    ("OLD_CILIUM_", Owner::Cilium),
    ("ANTREA-", Owner::Antrea),
    ("WEAVE", Owner::Weave),
    ("ISTIO_", Owner::Istio),
    ("PROXY_INIT_", Owner::Linkerd),
    ("AWS-SNAT-CHAIN", Owner::AwsVpcCni),
    ("AWS-CONNMARK-CHAIN", Owner::AwsVpcCni),
    ("IP-MASQ", Owner::IpMasqAgent),
    ("AZURE-NPM", Owner::AzureCni),
    ("LIBVIRT_", Owner::Libvirt),
    ("ts-", Owner::Tailscale),
    ("f2b-", Owner::Fail2ban),
    ("ufw-", Owner::Ufw),
    ("ufw6-", Owner::Ufw),
    ("OVN-KUBE-", Owner::OvnKubernetes),
    ("OVN-", Owner::KubeOvn),
    // firewalld's own, in the iptables back end of its direct interface.
    ("INPUT_direct", Owner::Firewalld),
    ("FORWARD_direct", Owner::Firewalld),
    ("OUTPUT_direct", Owner::Firewalld),
    ("PREROUTING_direct", Owner::Firewalld),
    ("POSTROUTING_direct", Owner::Firewalld),
    ("INPUT_ZONES", Owner::Firewalld),
    ("FORWARD_IN_ZONES", Owner::Firewalld),
    ("FORWARD_OUT_ZONES", Owner::Firewalld),
    ("FWDI_", Owner::Firewalld),
    ("FWDO_", Owner::Firewalld),
    ("IN_", Owner::Firewalld),
    ("PRE_", Owner::Firewalld),
    ("POST_", Owner::Firewalld),
];

/// Words in a rule's comment that only one program writes. For rules in base chains, which belong to nobody.
const COMMENTS: &[(&str, Owner)] = &[
    ("kubernetes service", Owner::KubeProxy),
    ("kubernetes postrouting rules", Owner::KubeProxy),
    ("kubernetes forwarding rules", Owner::KubeProxy),
    ("kubernetes externally-visible service portals", Owner::KubeProxy),
    ("kubernetes health check service ports", Owner::KubeProxy),
    ("kubernetes load balancer firewall", Owner::KubeProxy),
    ("flanneld ", Owner::Flannel),
    ("CNI portfwd", Owner::CniPortmap),
    ("CNI firewall plugin", Owner::CniFirewall),
    ("Cilium ", Owner::Cilium),
    ("cilium ", Owner::Cilium),
    ("cali:", Owner::Calico),
    ("AWS ", Owner::AwsVpcCni),
    ("AWS,", Owner::AwsVpcCni),
    ("NodeLocal DNS Cache", Owner::NodeLocalDns),
    ("Antrea:", Owner::Antrea),
    ("kube-router", Owner::KubeRouter),
    ("ip-masq-agent", Owner::IpMasqAgent),
];

/// Who wrote a chain.
#[must_use]
pub fn of_chain(engine: Engine, table: &str, chain: &str) -> Option<Owner> {
    if engine == Engine::Nft
        && let Some(owner) = of_nft_table(table)
    {
        return Some(owner);
    }
    CHAINS
        .iter()
        .find(|(prefix, _)| chain.starts_with(prefix))
        .map(|&(_, owner)| owner)
}

/// Who wrote a rule: its chain's owner; in a base chain the owner of the chain it jumps to, or of its comment.
#[must_use]
pub fn of_rule(engine: Engine, table: &str, chain: &str, text: &str) -> Option<Owner> {
    of_chain(engine, table, chain)
        .or_else(|| jump_target(text).and_then(|target| of_chain(engine, table, target)))
        .or_else(|| {
            let comment = comment(text)?;
            COMMENTS
                .iter()
                .find(|(words, _)| comment.starts_with(words))
                .map(|&(_, owner)| owner)
        })
}

/// Native nftables tables, `family name`.
fn of_nft_table(table: &str) -> Option<Owner> {
    Some(match table.rsplit(' ').next()? {
        "kube-proxy" => Owner::KubeProxy,
        "firewalld" => Owner::Firewalld,
        "calico" => Owner::Calico,
        "antrea" => Owner::Antrea,
        "ovn-kubernetes" => Owner::OvnKubernetes,
        "flannel-ipv4" | "flannel-ipv6" => Owner::Flannel,
        "cni_hostport" => Owner::CniPortmap,
        "cni_plugins_masquerade" => Owner::CniMasquerade,
        "docker-bridges" => Owner::Docker,
        "netavark" => Owner::Podman,
        _ => return None,
    })
}

/// The target of `-j` or `-g` in a rule as `iptables-save` prints it.
#[must_use]
pub fn jump_target(text: &str) -> Option<&str> {
    let mut words = text.split_ascii_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        if matches!(word, "-j" | "-g") {
            found = words.next();
        }
    }
    found
}

/// The comment of a rule as `iptables-save` prints it, without quotes.
#[must_use]
pub fn comment(text: &str) -> Option<&str> {
    let rest = &text[text.find("--comment ")? + "--comment ".len()..];
    match rest.strip_prefix('"') {
        Some(quoted) => Some(&quoted[..quoted.find('"').unwrap_or(quoted.len())]),
        None => rest.split_ascii_whitespace().next(),
    }
}

/// Who made a device, by its name.
#[must_use]
pub fn of_device(name: &str) -> Option<Owner> {
    const DEVICES: &[(&str, Owner)] = &[
        ("flannel.", Owner::Flannel),
        ("flannel-v6.", Owner::Flannel),
        ("flannel-wg", Owner::Flannel),
        ("cali", Owner::Calico),
        ("vxlan.calico", Owner::Calico),
        ("vxlan-v6.calico", Owner::Calico),
        ("wireguard.cali", Owner::Calico),
        ("bpfin.cali", Owner::Calico),
        ("bpfout.cali", Owner::Calico),
        ("tunl0", Owner::Calico),
        ("cilium_", Owner::Cilium),
        ("lxc", Owner::Cilium),
        ("docker0", Owner::Docker),
        ("br-", Owner::Docker),
        ("kube-ipvs0", Owner::KubeProxy),
        ("nodelocaldns", Owner::NodeLocalDns),
        ("kube-bridge", Owner::KubeRouter),
        ("kube-dummy-if", Owner::KubeRouter),
        ("kube-lb0", Owner::PureLb),
        ("weave", Owner::Weave),
        ("vxlan-6784", Owner::Weave),
        ("vethwe", Owner::Weave),
        ("antrea-", Owner::Antrea),
        ("eni", Owner::AwsVpcCni),
        ("azv", Owner::AzureCni),
        ("azure0", Owner::AzureCni),
        ("gke", Owner::Gke),
        ("ovn0", Owner::KubeOvn),
        ("ovn-k8s-mp0", Owner::OvnKubernetes),
        ("tailscale", Owner::Tailscale),
        ("virbr", Owner::Libvirt),
        ("podman", Owner::Podman),
    ];
    DEVICES
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|&(_, owner)| owner)
}

/// Who wrote a route, by `RTPROT_*` (`include/uapi/linux/rtnetlink.h`, `/etc/iproute2/rt_protos`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteOwner {
    /// 1: an ICMP redirect.
    Redirect,
    /// 2: the kernel, for an address.
    Kernel,
    /// 3: `ip route add` without `proto`, or a program that does not say: an administrator, a script, a CNI plugin.
    Boot,
    /// 4: an administrator.
    Static,
    /// 9: a router advertisement.
    RouterAdvertisement,
    /// 11: GNU Zebra, Quagga.
    Zebra,
    /// 12: BIRD (Calico's, among others).
    Bird,
    /// 16: a DHCP client.
    Dhcp,
    /// 18: keepalived.
    Keepalived,
    /// 42: Babel.
    Babel,
    /// 80: Calico's Felix.
    Felix,
    /// 186: BGP (FRR and others).
    Bgp,
    /// 187: IS-IS.
    Isis,
    /// 188: OSPF.
    Ospf,
    /// 196: FRR staticd.
    FrrStatic,
    /// Any other number.
    Other(u8),
}

/// Who wrote a route.
#[must_use]
pub const fn of_route(protocol: u8) -> RouteOwner {
    match protocol {
        1 => RouteOwner::Redirect,
        2 => RouteOwner::Kernel,
        3 => RouteOwner::Boot,
        4 => RouteOwner::Static,
        9 => RouteOwner::RouterAdvertisement,
        11 => RouteOwner::Zebra,
        12 => RouteOwner::Bird,
        16 => RouteOwner::Dhcp,
        18 => RouteOwner::Keepalived,
        42 => RouteOwner::Babel,
        80 => RouteOwner::Felix,
        186 => RouteOwner::Bgp,
        187 => RouteOwner::Isis,
        188 => RouteOwner::Ospf,
        196 => RouteOwner::FrrStatic,
        other => RouteOwner::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_tell_their_writer() {
        let of = |chain| of_chain(Engine::XtNft, "nat", chain);
        assert_eq!(of("KUBE-SVC-67NZLRHBNDSAWJRO"), Some(Owner::KubeProxy));
        assert_eq!(of("KUBE-POD-FW-ABC"), Some(Owner::KubeRouter));
        assert_eq!(of("KUBE-FIREWALL"), Some(Owner::KubeletOrKubeProxy));
        assert_eq!(of("cali-FORWARD"), Some(Owner::Calico));
        assert_eq!(of("CNI-DN-8de2b2c8e5e3"), Some(Owner::CniPortmap));
        assert_eq!(of("FORWARD"), None);
        assert_eq!(
            of_chain(Engine::Nft, "ip kube-proxy", "services"),
            Some(Owner::KubeProxy)
        );
    }

    #[test]
    fn a_rule_of_a_base_chain_belongs_to_whom_it_jumps_to() {
        let of = |text| of_rule(Engine::XtNft, "nat", "POSTROUTING", text);
        assert_eq!(
            of("-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG"),
            Some(Owner::Flannel)
        );
        assert_eq!(
            of("-A POSTROUTING -m comment --comment \"flanneld masq\" -j MASQUERADE"),
            Some(Owner::Flannel)
        );
        assert_eq!(of("-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE"), None);
    }
}
