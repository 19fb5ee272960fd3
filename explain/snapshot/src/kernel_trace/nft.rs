//! `nft monitor trace`, with and without `-a` and `-n`.
//!
//! ```text
//! trace id 8c7d821d ip kube pre packet: iif "c0" ip saddr 10.1.0.2 ip daddr 10.96.0.1 tcp sport 60084 …
//! trace id 8c7d821d ip kube pre conntrack: ct direction original ct state new
//! trace id 8c7d821d ip kube pre rule jump services # handle 7 (verdict jump services)
//! trace id 8c7d821d ip kube pre unknown rule handle 9 (verdict accept)
//! trace id 8c7d821d ip kube pre policy accept meta mark 0x00000010
//! ```

use super::header::{self, Fields};
use super::{Event, EventKind, Form, Line, TableFamily, TraceVerdict, verdict};

const START: &str = "trace id ";
const VERDICT: &str = " (verdict ";

/// The line starts an event.
pub(super) fn starts(line: &str) -> bool {
    line.trim_start().starts_with(START)
}

/// A rule whose verdict is not on this line yet.
pub(super) fn goes_on(line: &str) -> bool {
    starts(line) && head(line).is_some_and(|(.., rest)| rest.starts_with("rule ") && !rest.ends_with(')'))
}

/// `trace id HEX FAMILY TABLE CHAIN`, and the rest.
fn head(line: &str) -> Option<(u32, TableFamily, &str, &str, &str)> {
    let (id, rest) = line.trim().strip_prefix(START)?.split_once(' ')?;
    let (family, rest) = rest.split_once(' ')?;
    let family = match family {
        "ip" => TableFamily::Ip,
        "ip6" => TableFamily::Ip6,
        "inet" => TableFamily::Inet,
        "arp" => TableFamily::Arp,
        "bridge" => TableFamily::Bridge,
        "netdev" => TableFamily::Netdev,
        _ => return None,
    };
    let (table, rest) = rest.split_once(' ')?;
    let (chain, rest) = rest.split_once(' ')?;
    Some((u32::from_str_radix(id, 16).ok()?, family, table, chain, rest.trim()))
}

/// One line; `None` when it is another form's.
pub(super) fn line(number: u64, line: &str) -> Option<Line> {
    let (id, family, table, chain, rest) = head(line)?;
    let event = |what| {
        Some(Line::Event {
            id: Some(id),
            event: Event {
                line: number,
                text: line.trim().into(),
                form: Form::Nft,
                family,
                table: table.into(),
                chain: chain.into(),
                what,
                header: None,
                run: 0,
            },
        })
    };
    if let Some(fields) = rest.strip_prefix("packet:") {
        return Some(Line::Header {
            id,
            chain: Some((family, table.into(), chain.into())),
            header: fields_of(fields).header(),
        });
    }
    if rest.starts_with("conntrack:") {
        return Some(Line::Remark);
    }
    if let Some(policy) = rest.strip_prefix("policy ") {
        return event(EventKind::Policy {
            verdict: policy.split_whitespace().next().map(|word| verdict(word, None)),
            number: None,
        });
    }
    if let Some(rule) = rest.strip_prefix("rule ") {
        let (rule, said) = split_verdict(rule)?;
        let (rule, handle) = match rule.rsplit_once("# handle ") {
            Some((text, handle)) => (text, Some(handle.trim().parse().ok()?)),
            None => (rule, None),
        };
        return event(EventKind::Rule {
            handle,
            number: None,
            rule: Some(rule.trim().into()),
            verdict: Some(said),
        });
    }
    if let Some(unknown) = rest.strip_prefix("unknown rule handle ") {
        let (handle, said) = split_verdict(unknown)?;
        return event(EventKind::Rule {
            handle: Some(handle.trim().parse().ok()?),
            number: None,
            rule: None,
            verdict: Some(said),
        });
    }
    if rest == "return" || rest.starts_with("verdict return") || rest.starts_with("return ") {
        return event(EventKind::Return);
    }
    if let Some(said) = rest.strip_prefix("verdict ") {
        // The end of a chain, in kernels that trace it.
        return matches!(verdict(first(said), None), TraceVerdict::Continue)
            .then(|| event(EventKind::Return))
            .flatten();
    }
    None
}

fn first(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// `RULE (verdict WORD [TARGET])`
fn split_verdict(text: &str) -> Option<(&str, TraceVerdict)> {
    let (rule, said) = match text.rsplit_once(VERDICT) {
        Some(parts) => parts,
        None => ("", text.strip_prefix(VERDICT.trim_start())?),
    };
    let mut words = said.strip_suffix(')')?.split_whitespace();
    let word = words.next()?;
    Some((rule, verdict(word, words.next())))
}

/// The fields of a `packet:` line, as `PROTOCOL FIELD VALUE`.
fn fields_of(text: &str) -> Fields {
    let mut this = Fields::default();
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |word: &str| Box::from(word.trim_matches('"'));
    let mut i = 0;
    while i < words.len() {
        let at = |n: usize| words.get(i + n).copied().unwrap_or_default();
        let number = || at(2).parse().ok();
        let used = match (at(0), at(1)) {
            ("iif" | "iifname", dev) => {
                this.iif = Some(name(dev));
                2
            }
            ("oif" | "oifname", dev) => {
                this.oif = Some(name(dev));
                2
            }
            ("ip" | "ip6", "saddr") => {
                this.src = at(2).parse().ok();
                3
            }
            ("ip" | "ip6", "daddr") => {
                this.dst = at(2).parse().ok();
                3
            }
            ("ip", "protocol") | ("ip6", "nexthdr") => {
                this.proto = this.proto.or_else(|| header::protocol(at(2)));
                3
            }
            ("ip" | "ip6", "length") => {
                this.len = at(2).parse().ok();
                3
            }
            ("ip", "id") | ("ip6", "flowlabel") => {
                this.ident = at(2).parse().ok();
                3
            }
            (proto @ ("tcp" | "udp" | "sctp" | "dccp" | "udplite" | "esp" | "ah"), field) => {
                this.proto = header::protocol(proto);
                match field {
                    "sport" => this.sport = number(),
                    "dport" => this.dport = number(),
                    "flags" => {
                        let flags;
                        (flags, i) = flags_at(&words, i + 2);
                        this.flags = flags;
                        continue;
                    }
                    _ => {}
                }
                3
            }
            (proto @ ("icmp" | "icmpv6"), field) => {
                this.proto = header::protocol(proto);
                if field == "type" {
                    this.icmp = icmp_type(at(2), proto == "icmpv6");
                }
                3
            }
            _ => 1,
        };
        i += used;
    }
    this
}

/// `== syn`, `syn | ack`, `0x12`: the bits, and where the words go on.
fn flags_at(words: &[&str], from: usize) -> (Option<u8>, usize) {
    let mut i = from;
    let mut flags = None;
    while let Some(word) = words.get(i) {
        let word = word.trim_end_matches(',');
        let bits = match word {
            "==" | "|" => Some(0),
            word => header::tcp_flag(word).or_else(|| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok()),
        };
        let Some(bits) = bits else { break };
        flags = Some(flags.unwrap_or_default() | bits);
        i += 1;
    }
    (flags, i)
}

/// An ICMP type by the name `nft` gives it, or by number.
fn icmp_type(word: &str, v6: bool) -> Option<u8> {
    Some(match (word, v6) {
        ("echo-reply", false) => 0,
        ("destination-unreachable", false) => 3,
        ("redirect", false) => 5,
        ("echo-request", false) => 8,
        ("time-exceeded", false) => 11,
        ("parameter-problem", false) => 12,
        ("timestamp-request", false) => 13,
        ("timestamp-reply", false) => 14,
        ("destination-unreachable", true) => 1,
        ("packet-too-big", true) => 2,
        ("time-exceeded", true) => 3,
        ("parameter-problem", true) => 4,
        ("echo-request", true) => 128,
        ("echo-reply", true) => 129,
        ("nd-router-solicit", true) => 133,
        ("nd-router-advert", true) => 134,
        ("nd-neighbor-solicit", true) => 135,
        ("nd-neighbor-advert", true) => 136,
        ("nd-redirect", true) => 137,
        _ => return word.parse().ok(),
    })
}
