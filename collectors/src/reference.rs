//! The reference commands: which program prints which artifact, in capture order.

use knet_snapshot::artifact::name;

/// How one artifact is obtained.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// File name in the namespace's folder.
    pub artifact: &'static str,
    /// Commands whose outputs are joined.
    pub commands: &'static [&'static [&'static str]],
    /// A file that is there only when the kernel already holds such state. Without it the command is not
    /// run, because running it would load a module or create a table.
    pub only_if: Option<&'static str>,
    /// Modules the command talks to; where one is not there yet, the command would load it and find nothing.
    pub modules: &'static [&'static str],
    /// Columns between tabs that hold a key and are hidden: of a line with so many columns, the one by this number
    /// (from 0).
    pub secrets: &'static [(usize, usize)],
}

const fn plain(artifact: &'static str, commands: &'static [&'static [&'static str]]) -> Reference {
    Reference {
        artifact,
        commands,
        only_if: None,
        modules: &[],
        secrets: &[],
    }
}

/// A command that talks to the kernel through modules.
const fn through(
    modules: &'static [&'static str],
    artifact: &'static str,
    commands: &'static [&'static [&'static str]],
) -> Reference {
    Reference {
        modules,
        ..plain(artifact, commands)
    }
}

const fn guarded(
    artifact: &'static str,
    only_if: &'static str,
    commands: &'static [&'static [&'static str]],
) -> Reference {
    Reference {
        artifact,
        commands,
        only_if: Some(only_if),
        ..plain(artifact, commands)
    }
}

/// Every artifact of a namespace in capture order: what changes fastest comes first, and links close the
/// window.
pub const REFERENCES: &[Reference] = &[
    Reference {
        only_if: Some("/proc/sys/net/netfilter/nf_conntrack_count"),
        ..through(
            &["nf_conntrack_netlink"],
            name::CONNTRACK,
            &[&["conntrack", "-L", "-o", "extended"]],
        )
    },
    through(&["nf_tables"], name::NFT_JSON, &[&["nft", "-j", "list", "ruleset"]]),
    through(&["nf_tables"], name::NFT_TEXT, &[&["nft", "-a", "list", "ruleset"]]),
    through(&["nf_tables"], name::IPTABLES_NFT, &[&["iptables-nft-save", "-c"]]),
    through(&["nf_tables"], name::IP6TABLES_NFT, &[&["ip6tables-nft-save", "-c"]]),
    guarded(
        name::IPTABLES_LEGACY,
        "/proc/self/net/ip_tables_names",
        &[&["iptables-legacy-save", "-c"]],
    ),
    guarded(
        name::IP6TABLES_LEGACY,
        "/proc/self/net/ip6_tables_names",
        &[&["ip6tables-legacy-save", "-c"]],
    ),
    through(&["ip_set"], name::IPSET, &[&["ipset", "save"]]),
    // ipvsadm calls modprobe when the table is not there.
    guarded(name::IPVS, "/proc/self/net/ip_vs", &[&["ipvsadm-save", "-n"]]),
    guarded(
        name::IPVS_CONN,
        "/proc/self/net/ip_vs_conn",
        &[&["cat", "/proc/self/net/ip_vs_conn"]],
    ),
    plain(name::RULE, &[&["ip", "-d", "-j", "-N", "-4", "rule", "show"]]),
    plain(name::RULE6, &[&["ip", "-d", "-j", "-N", "-6", "rule", "show"]]),
    plain(
        name::ROUTE,
        &[&["ip", "-d", "-j", "-N", "-4", "route", "show", "table", "all"]],
    ),
    plain(
        name::ROUTE6,
        &[&["ip", "-d", "-j", "-N", "-6", "route", "show", "table", "all"]],
    ),
    plain(name::NEXTHOP, &[&["ip", "-d", "-j", "nexthop", "show"]]),
    plain(name::NEIGH, &[&["ip", "-j", "neigh", "show"]]),
    plain(name::FDB, &[&["bridge", "-d", "-j", "fdb"]]),
    plain(name::BRIDGE_LINK, &[&["bridge", "-d", "-j", "link"]]),
    plain(name::BRIDGE_VLAN, &[&["bridge", "-d", "-j", "vlan"]]),
    plain(name::LINK, &[&["ip", "-d", "-j", "-N", "link", "show"]]),
    plain(name::ADDR, &[&["ip", "-d", "-j", "-N", "addr", "show"]]),
    through(
        &["inet_diag", "tcp_diag", "udp_diag"],
        name::SOCKETS,
        &[&["ss", "-H", "-tulpne"]],
    ),
    plain(name::SYSCTL, &[&["sysctl", "-a", "-r", r"^net\."]]),
    through(
        &["xfrm_user"],
        name::XFRM,
        &[&["ip", "xfrm", "policy"], &["ip", "xfrm", "state", "list", "nokeys"]],
    ),
    // A device and its private key; a peer and the preshared one.
    Reference {
        secrets: &[(5, 1), (9, 2)],
        ..through(&["wireguard"], name::WG, &[&["wg", "show", "all", "dump"]])
    },
    plain(name::TC, &[&["tc", "-j", "-d", "filter", "show"]]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_artifact_of_the_registry_has_its_command() {
        let ours: Vec<_> = REFERENCES.iter().map(|reference| reference.artifact).collect();
        for artifact in name::ALL {
            assert!(ours.contains(artifact), "{artifact}");
        }
        assert_eq!(ours.len(), name::ALL.len());
    }

    #[test]
    fn nothing_is_run_that_changes_a_node() {
        for command in REFERENCES.iter().flat_map(|reference| reference.commands) {
            let program = command[0];
            assert!(
                !matches!(program, "iptables" | "ip6tables" | "modprobe" | "ipvsadm"),
                "{command:?}"
            );
            let verbs = [
                "add", "del", "delete", "set", "flush", "replace", "change", "-w", "-F", "-X",
            ];
            assert!(!command.iter().any(|word| verbs.contains(word)), "{command:?}");
        }
    }
}
