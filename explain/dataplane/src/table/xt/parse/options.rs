//! Which options a match or target has, and how many words each takes. The tables are those of the
//! `libxt_*`, `libipt_*` and `libip6t_*` extensions; `getopt_long` decides by them, not by a leading `-`,
//! so that `--comment -j` is a comment.

/// Number of words that follow an option of a module. `None`: the module has no such option.
/// An unknown module is given as `known == false` by [`is_known`].
pub(super) fn arity(module: &str, option: &str) -> Option<usize> {
    table(module)?.iter().find(|(name, _)| *name == option).map(|&(_, n)| n)
}

/// Whether the module's options are listed here.
pub(super) fn is_known(module: &str) -> bool {
    table(module).is_some()
}

const PORTS: &[(&str, usize)] = &[
    ("sport", 1),
    ("source-port", 1),
    ("dport", 1),
    ("destination-port", 1),
    ("syn", 0),
    ("tcp-flags", 2),
    ("tcp-option", 1),
    ("chunk-types", 2),
    ("dccp-types", 1),
    ("dccp-option", 1),
];
const MARK: &[(&str, usize)] = &[("mark", 1)];
const NONE: &[(&str, usize)] = &[];

#[rustfmt::skip]
fn table(module: &str) -> Option<&'static [(&'static str, usize)]> {
    Some(match module {
        "tcp" | "udp" | "udplite" | "sctp" | "dccp" => PORTS,
        "icmp" => &[("icmp-type", 1)],
        "icmp6" | "icmpv6" | "ipv6-icmp" => &[("icmpv6-type", 1), ("icmp6-type", 1)],
        "multiport" => &[
            ("sports", 1), ("source-ports", 1), ("dports", 1), ("destination-ports", 1), ("ports", 1), ("port", 1),
        ],
        "mark" | "connmark" => MARK,
        "state" => &[("state", 1)],
        "conntrack" => &[
            ("ctstate", 1), ("ctproto", 1), ("ctorigsrc", 1), ("ctorigdst", 1), ("ctreplsrc", 1), ("ctrepldst", 1),
            ("ctorigsrcport", 1), ("ctorigdstport", 1), ("ctreplsrcport", 1), ("ctrepldstport", 1), ("ctstatus", 1),
            ("ctexpire", 1), ("ctdir", 1),
        ],
        "comment" => &[("comment", 1)],
        "addrtype" => &[("src-type", 1), ("dst-type", 1), ("limit-iface-in", 0), ("limit-iface-out", 0)],
        "set" => &[
            ("match-set", 2), ("set", 2), ("return-nomatch", 0), ("update-counters", 0), ("update-subcounters", 0),
            ("packets-eq", 1), ("packets-lt", 1), ("packets-gt", 1), ("bytes-eq", 1), ("bytes-lt", 1), ("bytes-gt", 1),
        ],
        "statistic" => &[("mode", 1), ("probability", 1), ("every", 1), ("packet", 1)],
        "recent" => &[
            ("set", 0), ("rcheck", 0), ("update", 0), ("remove", 0), ("seconds", 1), ("reap", 0), ("hitcount", 1),
            ("rttl", 0), ("name", 1), ("rsource", 0), ("rdest", 0), ("mask", 1),
        ],
        "physdev" => &[
            ("physdev-in", 1), ("physdev-out", 1), ("physdev-is-in", 0), ("physdev-is-out", 0),
            ("physdev-is-bridged", 0),
        ],
        "owner" => &[
            ("uid-owner", 1), ("gid-owner", 1), ("socket-exists", 0), ("suppl-groups", 0), ("pid-owner", 1),
            ("sid-owner", 1), ("cmd-owner", 1),
        ],
        "socket" => &[("transparent", 0), ("nowildcard", 0), ("restore-skmark", 0)],
        "rpfilter" => &[("loose", 0), ("validmark", 0), ("accept-local", 0), ("invert", 0)],
        "length" => &[("length", 1)],
        "ttl" => &[("ttl-eq", 1), ("ttl", 1), ("ttl-lt", 1), ("ttl-gt", 1)],
        "hl" => &[("hl-eq", 1), ("hl", 1), ("hl-lt", 1), ("hl-gt", 1)],
        "tos" => &[("tos", 1)],
        "dscp" => &[("dscp", 1), ("dscp-class", 1)],
        "iprange" => &[("src-range", 1), ("dst-range", 1)],
        "mac" => &[("mac-source", 1)],
        "pkttype" => &[("pkt-type", 1)],
        "policy" => &[
            ("dir", 1), ("pol", 1), ("strict", 0), ("reqid", 1), ("spi", 1), ("proto", 1), ("mode", 1),
            ("tunnel-src", 1), ("tunnel-dst", 1), ("next", 0),
        ],
        "devgroup" => &[("src-group", 1), ("dst-group", 1)],
        "cgroup" => &[("cgroup", 1), ("path", 1)],
        "nfacct" => &[("nfacct-name", 1)],
        "ipv6header" => &[("header", 1), ("soft", 0)],
        "frag" => &[
            ("fragid", 1), ("fraglen", 1), ("fragres", 0), ("fragfirst", 0), ("fragmore", 0), ("fraglast", 0),
        ],
        "rt" => &[
            ("rt-type", 1), ("rt-segsleft", 1), ("rt-len", 1), ("rt-0-res", 0), ("rt-0-addrs", 1),
            ("rt-0-not-strict", 0),
        ],
        "hbh" => &[("hbh-len", 1), ("hbh-opts", 1)],
        "dst" => &[("dst-len", 1), ("dst-opts", 1)],
        "mh" => &[("mh-type", 1)],
        "ah" => &[("ahspi", 1), ("ahlen", 1), ("ahres", 0)],
        "esp" => &[("espspi", 1)],
        "realm" => &[("realm", 1)],
        "helper" => &[("helper", 1)],
        "ipvs" => &[
            ("ipvs", 0), ("vproto", 1), ("vaddr", 1), ("vport", 1), ("vdir", 1), ("vmethod", 1), ("vportctl", 1),
        ],
        "limit" => &[("limit", 1), ("limit-burst", 1)],
        "hashlimit" => &[
            ("hashlimit", 1), ("hashlimit-upto", 1), ("hashlimit-above", 1), ("hashlimit-burst", 1),
            ("hashlimit-mode", 1), ("hashlimit-name", 1), ("hashlimit-htable-size", 1), ("hashlimit-htable-max", 1),
            ("hashlimit-htable-expire", 1), ("hashlimit-htable-gcinterval", 1), ("hashlimit-srcmask", 1),
            ("hashlimit-dstmask", 1), ("hashlimit-rate-match", 0), ("hashlimit-rate-interval", 1),
        ],
        "time" => &[
            ("datestart", 1), ("datestop", 1), ("timestart", 1), ("timestop", 1), ("monthdays", 1), ("weekdays", 1),
            ("kerneltz", 0), ("contiguous", 0), ("utc", 0), ("localtz", 0),
        ],
        "string" => &[
            ("from", 1), ("to", 1), ("algo", 1), ("string", 1), ("hex-string", 1), ("icase", 0),
        ],
        "bpf" => &[("bytecode", 1), ("object-pinned", 1)],
        "u32" => &[("u32", 1)],
        "quota" => &[("quota", 1)],
        "connbytes" => &[("connbytes", 1), ("connbytes-dir", 1), ("connbytes-mode", 1)],
        "connlimit" => &[
            ("connlimit-upto", 1), ("connlimit-above", 1), ("connlimit-mask", 1), ("connlimit-saddr", 0),
            ("connlimit-daddr", 0),
        ],
        "connlabel" => &[("label", 1), ("set", 0)],
        "tcpmss" => &[("mss", 1)],
        "cpu" => &[("cpu", 1)],
        "ecn" => &[("ecn-tcp-cwr", 0), ("ecn-tcp-ece", 0), ("ecn-ip-ect", 1)],
        "osf" => &[("genre", 1), ("ttl", 1), ("log", 1)],
        "cluster" => &[
            ("cluster-total-nodes", 1), ("cluster-local-node", 1), ("cluster-local-nodemask", 1),
            ("cluster-hash-seed", 1),
        ],
        "eui64" | "unclean" | "ACCEPT" | "DROP" | "RETURN" | "QUEUE" | "TRACE" | "NOTRACK" => NONE,
        "REJECT" => &[("reject-with", 1)],
        "DNAT" => &[("to-destination", 1), ("random", 0), ("random-fully", 0), ("persistent", 0)],
        "SNAT" => &[("to-source", 1), ("random", 0), ("random-fully", 0), ("persistent", 0)],
        "MASQUERADE" | "REDIRECT" => &[("to-ports", 1), ("to-port", 1), ("random", 0), ("random-fully", 0)],
        "NETMAP" => &[("to", 1)],
        "MARK" => &[("set-mark", 1), ("set-xmark", 1), ("and-mark", 1), ("or-mark", 1), ("xor-mark", 1)],
        "CONNMARK" => &[
            ("set-mark", 1), ("set-xmark", 1), ("and-mark", 1), ("or-mark", 1), ("xor-mark", 1), ("save-mark", 0),
            ("restore-mark", 0), ("mask", 1), ("nfmask", 1), ("ctmask", 1), ("left-shift-mark", 1),
            ("right-shift-mark", 1),
        ],
        "CT" => &[
            ("notrack", 0), ("helper", 1), ("timeout", 1), ("ctevents", 1), ("expevents", 1), ("zone", 1),
            ("zone-orig", 1), ("zone-reply", 1),
        ],
        "TPROXY" => &[("on-port", 1), ("on-ip", 1), ("tproxy-mark", 1)],
        "LOG" => &[
            ("log-level", 1), ("log-prefix", 1), ("log-tcp-sequence", 0), ("log-tcp-options", 0),
            ("log-ip-options", 0), ("log-uid", 0), ("log-macdecode", 0),
        ],
        "NFLOG" => &[
            ("nflog-group", 1), ("nflog-prefix", 1), ("nflog-range", 1), ("nflog-size", 1), ("nflog-threshold", 1),
        ],
        "ULOG" => &[("ulog-nlgroup", 1), ("ulog-cprange", 1), ("ulog-qthreshold", 1), ("ulog-prefix", 1)],
        "TCPMSS" => &[("set-mss", 1), ("clamp-mss-to-pmtu", 0)],
        "TOS" => &[("set-tos", 1), ("and-tos", 1), ("or-tos", 1), ("xor-tos", 1)],
        "DSCP" => &[("set-dscp", 1), ("set-dscp-class", 1)],
        "TTL" => &[("ttl-set", 1), ("ttl-inc", 1), ("ttl-dec", 1)],
        "HL" => &[("hl-set", 1), ("hl-inc", 1), ("hl-dec", 1)],
        "CLASSIFY" => &[("set-class", 1)],
        "CHECKSUM" => &[("checksum-fill", 0)],
        "SET" => &[
            ("add-set", 2), ("del-set", 2), ("map-set", 2), ("exist", 0), ("timeout", 1), ("map-mark", 0),
            ("map-prio", 0), ("map-queue", 0),
        ],
        "TEE" => &[("gateway", 1), ("oif", 1)],
        "AUDIT" => &[("type", 1)],
        "NFQUEUE" => &[("queue-num", 1), ("queue-balance", 1), ("queue-bypass", 0), ("queue-cpu-fanout", 0)],
        "SECMARK" => &[("selctx", 1)],
        "CONNSECMARK" => &[("save", 0), ("restore", 0)],
        "IDLETIMER" => &[("timeout", 1), ("label", 1), ("alarm", 0), ("send_nl_msg", 1)],
        "LED" => &[("led-trigger-id", 1), ("led-delay", 1), ("led-always-blink", 0)],
        "RATEEST" => &[("rateest-name", 1), ("rateest-interval", 1), ("rateest-ewmalog", 1)],
        "TCPOPTSTRIP" => &[("strip-options", 1)],
        "ECN" => &[("ecn-tcp-remove", 0), ("ecn-tcp-cwr", 1), ("ecn-tcp-ece", 1), ("ecn-ip-ect", 1)],
        "SYNPROXY" => &[("sack-perm", 0), ("timestamp", 0), ("ecn", 0), ("wscale", 1), ("mss", 1)],
        _ => return None,
    })
}
