//! The commands that record the kernel's own trace of a flow, for a shell. knet runs none of them.

use knet_dataplane::packet::{proto, tcp_flag};

use crate::against::verify::{Enter, TraceTool, Verify, VerifyPlace, Wanted};
use crate::explanation::{Explanation, Hook};
use knet_snapshot::id::Family;

/// The commands of one place and tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// `nft`, `xtables-monitor`, `kernel-log`.
    pub tool: &'static str,
    /// What they are, in words.
    pub what: &'static str,
    /// To switch tracing on.
    pub set_up: Vec<String>,
    /// Prints the trace into [`Recording::file`] until it is stopped.
    pub watch: String,
    /// Undoes what was set up, last first.
    pub undo: Vec<String>,
    /// What to know.
    pub notes: Vec<String>,
    /// The file the trace goes to.
    pub file: String,
}

/// The commands of one place.
#[derive(Clone, Debug)]
pub struct PlaceCommands<'a> {
    /// The place.
    pub place: &'a VerifyPlace,
    /// Node.
    pub node: String,
    /// Namespace: `host`, or a folder under `netns/`.
    pub netns: String,
    /// One for each tool.
    pub recordings: Vec<Recording>,
    /// What to know of the place.
    pub notes: Vec<String>,
}

/// All of them.
pub fn all<'a>(explanation: &Explanation, verify: &'a Verify) -> Vec<PlaceCommands<'a>> {
    let place = |place: &'a VerifyPlace| {
        let name = explanation.glossary.places.get(&place.ns);
        let node = name.map_or_else(|| "?".to_owned(), |n| n.node.clone());
        let netns = name.and_then(|n| n.netns.clone()).unwrap_or_else(|| "host".to_owned());
        let mut notes = Vec::new();
        if place.tools.is_empty() && !place.doubtful {
            notes.push("no rules here: there is nothing to trace".to_owned());
        }
        if place.doubtful {
            notes.push("not all rules of this place were captured: a back end may hold more than is traced".to_owned());
        }
        if place.enter == Enter::Unknown && !place.tools.is_empty() {
            notes.push("the capture does not say how to get into this namespace: set NETNS to its path".to_owned());
        }
        let recordings = place
            .tools
            .iter()
            .map(|tool| recording(place, tool, verify.family, &format!("knet-trace-{node}-{netns}")))
            .collect();
        PlaceCommands {
            place,
            node,
            netns,
            recordings,
            notes,
        }
    };
    verify.places.iter().map(place).collect()
}

fn recording(place: &VerifyPlace, tool: &TraceTool, family: Family, file: &str) -> Recording {
    let enter = prefix(&place.enter);
    match tool {
        TraceTool::Nft { table } => nft(place, table, family, &enter, format!("{file}.txt")),
        TraceTool::XtablesNft { raw } => {
            let mut out = Recording {
                tool: "xtables-monitor",
                what: "iptables-nft",
                watch: format!("{enter}xtables-monitor --trace > {}", quoted(&format!("{file}.txt"))),
                file: format!("{file}.txt"),
                ..Recording::default()
            };
            let program = program(family, "nft");
            rules(&mut out, place, family, &format!("{enter}{program}"));
            for hook in hooks(place).into_iter().filter(|h| !raw.contains(h)) {
                out.undo.push(format!("{enter}{program} -t raw -X {}", chain(hook)));
            }
            if !hooks(place).iter().all(|h| raw.contains(h)) {
                out.notes.push("the last commands remove chains that were not there; they refuse when somebody else uses them by now".to_owned());
            }
            out
        }
        TraceTool::Legacy {
            logger,
            all_namespaces,
            raw,
        } => {
            let mut out = Recording {
                tool: "kernel-log",
                what: "iptables-legacy",
                // Follow-new: what was logged before is not of this packet.
                watch: format!(
                    "dmesg -W | grep --line-buffered 'TRACE: ' > {}",
                    quoted(&format!("{file}-legacy.txt"))
                ),
                file: format!("{file}-legacy.txt"),
                ..Recording::default()
            };
            let program = program(family, "legacy");
            log(&mut out, place, family, logger.as_deref(), *all_namespaces, &enter);
            let mut inner = Recording::default();
            rules(&mut inner, place, family, &format!("{enter}{program}"));
            out.set_up.extend(inner.set_up);
            out.undo.splice(0..0, inner.undo);
            if !raw {
                out.notes
                    .push("an empty table raw stays: legacy tables cannot be removed one by one".to_owned());
            }
            out
        }
    }
}

/// The iptables of a family and a back end.
fn program(family: Family, back_end: &str) -> String {
    let tool = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    format!("{tool}-{back_end}")
}

fn nft(place: &VerifyPlace, table: &str, family: Family, enter: &str, file: String) -> Recording {
    let (own, address) = match family {
        Family::V4 => ("ip", "ip"),
        Family::V6 => ("ip6", "ip6"),
    };
    let mut set_up = vec![format!("{enter}nft add table {own} {table}")];
    for hook in hooks(place) {
        // Before everything but defragmentation (-400): what tracing shows begins here.
        let (name, hook) = (chain(hook).to_ascii_lowercase(), chain(hook).to_ascii_lowercase());
        set_up.push(format!(
            "{enter}nft 'add chain {own} {table} {name} {{ type filter hook {hook} priority -350; policy accept; }}'"
        ));
    }
    for wanted in &place.packets {
        let name = chain(wanted.hook).to_ascii_lowercase();
        set_up.push(format!(
            "{enter}nft 'add rule {own} {table} {name} {} meta nftrace set 1'",
            nft_match(wanted, address)
        ));
    }
    Recording {
        tool: "nft",
        what: "nftables; shows the rules of iptables-nft too",
        set_up,
        watch: format!("{enter}nft -a monitor trace > {}", quoted(&file)),
        undo: vec![format!("{enter}nft delete table {own} {table}")],
        notes: Vec::new(),
        file,
    }
}

fn nft_match(wanted: &Wanted, address: &str) -> String {
    let Wanted {
        hook: _,
        face,
        flags,
        icmp,
        reply,
    } = wanted;
    let mut out = format!("{address} daddr {}", face.dst);
    // A sender that has no address for this destination.
    if !face.src.is_unspecified() {
        out = format!("{address} saddr {} {out}", face.src);
    }
    let name = match face.proto {
        proto::TCP => "tcp",
        proto::UDP => "udp",
        proto::SCTP => "sctp",
        proto::DCCP => "dccp",
        proto::UDPLITE => "udplite",
        _ => "",
    };
    let mut ports = String::new();
    if !name.is_empty() {
        for (field, port) in [("sport", face.sport), ("dport", face.dport)] {
            if let Some(port) = port {
                ports.push_str(&format!(" {name} {field} {}", port.value));
            }
        }
    }
    if ports.is_empty() && icmp.is_none() {
        out.push_str(&format!(" meta l4proto {}", face.proto));
    }
    out.push_str(&ports);
    if let Some(icmp) = icmp {
        let name = if face.proto == proto::ICMPV6 { "icmpv6" } else { "icmp" };
        out.push_str(&format!(" {name} type {icmp}"));
    }
    if let Some(flags) = flags {
        if *reply {
            out.push_str(&format!(" tcp flags & ({}) != 0", flag_names(*flags, " | ")));
        } else {
            out.push_str(&format!(
                " tcp flags & (fin | syn | rst | ack) == {}",
                if *flags == 0 {
                    "0".to_owned()
                } else {
                    flag_names(*flags, " | ")
                }
            ));
        }
    }
    out
}

/// TRACE rules in table raw, and their removal.
fn rules(out: &mut Recording, place: &VerifyPlace, family: Family, program: &str) {
    for wanted in &place.packets {
        let rule = format!("{} {}", chain(wanted.hook), xt_match(wanted, family));
        out.set_up.push(format!("{program} -w -t raw -I {rule} -j TRACE"));
        out.undo.insert(0, format!("{program} -w -t raw -D {rule} -j TRACE"));
    }
}

fn xt_match(wanted: &Wanted, family: Family) -> String {
    let Wanted {
        hook: _,
        face,
        flags,
        icmp,
        reply,
    } = wanted;
    let name = match face.proto {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::SCTP => "sctp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmpv6".to_owned(),
        proto::DCCP => "dccp".to_owned(),
        proto::UDPLITE => "udplite".to_owned(),
        other => other.to_string(),
    };
    let bits = if family == Family::V4 { 32 } else { 128 };
    let mut out = format!("-d {}/{bits} -p {name}", face.dst);
    if !face.src.is_unspecified() {
        out = format!("-s {}/{bits} {out}", face.src);
    }
    // Of UDP-Lite only multiport knows the ports.
    let module = if face.proto == proto::UDPLITE {
        "multiport"
    } else {
        &*name
    };
    let plural = if face.proto == proto::UDPLITE { "s" } else { "" };
    if face.sport.is_some() || face.dport.is_some() {
        out.push_str(&format!(" -m {module}"));
    }
    for (option, port) in [("sport", face.sport), ("dport", face.dport)] {
        if let Some(port) = port {
            out.push_str(&format!(" --{option}{plural} {}", port.value));
        }
    }
    if let Some(icmp) = icmp {
        let option = if face.proto == proto::ICMPV6 {
            "icmpv6-type"
        } else {
            "icmp-type"
        };
        out.push_str(&format!(" --{option} {icmp}"));
    }
    if let Some(flags) = flags {
        let names = flag_names(*flags, ",").to_ascii_uppercase();
        if *reply {
            out.push_str(&format!(" ! --tcp-flags {names} NONE"));
        } else {
            let names = if names.is_empty() { "NONE".to_owned() } else { names };
            out.push_str(&format!(" --tcp-flags FIN,SYN,RST,ACK {names}"));
        }
    }
    out
}

/// The kernel log: who writes it, and whether other namespaces than the first may.
fn log(
    out: &mut Recording,
    place: &VerifyPlace,
    family: Family,
    logger: Option<&str>,
    all_namespaces: Option<bool>,
    enter: &str,
) {
    let (key, wanted) = match family {
        Family::V4 => ("net.netfilter.nf_log.2", "nf_log_ipv4"),
        Family::V6 => ("net.netfilter.nf_log.10", "nf_log_ipv6"),
    };
    if place.enter != Enter::Host && all_namespaces != Some(true) {
        out.set_up.push("sysctl -w net.netfilter.nf_log_all_netns=1".to_owned());
        if all_namespaces == Some(false) {
            out.undo.push("sysctl -w net.netfilter.nf_log_all_netns=0".to_owned());
        } else {
            out.notes
                .push("net.netfilter.nf_log_all_netns was not captured: put back what it was".to_owned());
        }
    }
    if logger != Some(wanted) {
        out.set_up.push(format!("{enter}sysctl -w {key}={wanted}"));
        match logger {
            Some(before) => out.undo.insert(0, format!("{enter}sysctl -w {key}={before}")),
            None => out.notes.push(format!("{key} was not captured: put back what it was")),
        }
        out.notes.push(
            "when sysctl finds no such logger: modprobe nf_log_syslog (before Linux 5.13 nf_log_ipv4, nf_log_ipv6)"
                .to_owned(),
        );
    }
}

/// The hooks the packets of a place come in by, each once.
fn hooks(place: &VerifyPlace) -> Vec<Hook> {
    let mut out: Vec<Hook> = Vec::new();
    for wanted in &place.packets {
        if !out.contains(&wanted.hook) {
            out.push(wanted.hook);
        }
    }
    out
}

const fn chain(hook: Hook) -> &'static str {
    match hook {
        Hook::Output => "OUTPUT",
        _ => "PREROUTING",
    }
}

fn flag_names(flags: u8, between: &str) -> String {
    let names = [
        (tcp_flag::FIN, "fin"),
        (tcp_flag::SYN, "syn"),
        (tcp_flag::RST, "rst"),
        (tcp_flag::ACK, "ack"),
    ];
    let set: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, n)| *n)
        .collect();
    set.join(between)
}

/// What stands before a command that is to run in the namespace.
fn prefix(enter: &Enter) -> String {
    match enter {
        Enter::Host => String::new(),
        Enter::Path(path) => format!("nsenter --net={} ", quoted(path)),
        Enter::Inode(inode) => format!(
            "nsenter --net=/proc/$(lsns -n -t net -o NS,PID | awk '$1 == {inode} {{ print $2; exit }}')/ns/net "
        ),
        Enter::Unknown => "nsenter --net=\"$NETNS\" ".to_owned(),
    }
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.contains(['[', ']']) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
