//! The closed, append-only registry of artifacts: what a file in a snapshot is.

/// File names inside a network namespace's folder (`nodes/<node>/host/` or `nodes/<node>/netns/<id>/`).
pub mod name {
    #![allow(missing_docs, reason = "each constant is the file name it holds")]
    pub const LINK: &str = "link.json";
    pub const ADDR: &str = "addr.json";
    pub const ROUTE: &str = "route.json";
    pub const ROUTE6: &str = "route6.json";
    pub const RULE: &str = "rule.json";
    pub const RULE6: &str = "rule6.json";
    pub const NEXTHOP: &str = "nexthop.json";
    pub const NEIGH: &str = "neigh.json";
    pub const FDB: &str = "fdb.json";
    pub const BRIDGE_LINK: &str = "bridge-link.json";
    pub const BRIDGE_VLAN: &str = "bridge-vlan.json";
    pub const IPTABLES_NFT: &str = "iptables-nft.save";
    pub const IP6TABLES_NFT: &str = "ip6tables-nft.save";
    pub const IPTABLES_LEGACY: &str = "iptables-legacy.save";
    pub const IP6TABLES_LEGACY: &str = "ip6tables-legacy.save";
    pub const NFT_JSON: &str = "nft.json";
    pub const NFT_TEXT: &str = "nft.txt";
    pub const IPSET: &str = "ipset.save";
    pub const IPVS: &str = "ipvs.save";
    pub const IPVS_CONN: &str = "ipvs-conn.txt";
    pub const CONNTRACK: &str = "conntrack.txt";
    pub const SOCKETS: &str = "sockets.txt";
    pub const SYSCTL: &str = "sysctl.txt";
    pub const XFRM: &str = "xfrm.txt";
    pub const WG: &str = "wg.txt";
    pub const TC: &str = "tc.json";

    /// Every artifact a namespace can have, in capture order.
    pub const ALL: &[&str] = &[
        CONNTRACK,
        NFT_JSON,
        NFT_TEXT,
        IPTABLES_NFT,
        IP6TABLES_NFT,
        IPTABLES_LEGACY,
        IP6TABLES_LEGACY,
        IPSET,
        IPVS,
        IPVS_CONN,
        RULE,
        RULE6,
        ROUTE,
        ROUTE6,
        NEXTHOP,
        NEIGH,
        FDB,
        BRIDGE_LINK,
        BRIDGE_VLAN,
        LINK,
        ADDR,
        SOCKETS,
        SYSCTL,
        XFRM,
        WG,
        TC,
    ];
}
