//! Why a recording cannot be put beside a walk.

use knet_dataplane::trace::NsId;
use knet_snapshot::kernel_trace::{Header, KernelTrace, TracedPacket, Unread};

use super::{Direction, Face, Walked, hops};
use crate::resolve::{Context, QueryError};

/// Why not. `Display` is one line; [`AgainstError::hints`] has what would help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AgainstError {
    /// The flow cannot be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Nothing in the recording is a trace.
    #[error("{}", no_trace(.first.as_ref(), *.lines))]
    NoTrace {
        /// The first line that is not empty.
        first: Option<Unread>,
        /// How many there are.
        lines: usize,
    },
    /// No such node.
    #[error("there is no node {name:?} in the snapshot")]
    NoNode {
        /// As written.
        name: String,
        /// Those there are.
        nodes: Vec<String>,
    },
    /// The flow does not come there.
    #[error("the flow does not pass {name}")]
    NotPassed {
        /// As written.
        name: String,
        /// Where it does.
        passes: Vec<String>,
    },
    /// The recording has other packets.
    #[error("the recording has no packet of this flow ({wanted})")]
    NoPacket {
        /// What was looked for.
        wanted: String,
        /// What there is.
        seen: Vec<SeenPacket>,
        /// How many there are.
        count: usize,
    },
}

/// A packet of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPacket {
    /// `tcp SYN 10.1.0.2:40884 → 10.96.0.1:80`; `None`: its header is not in the recording.
    pub packet: Option<String>,
    /// First and last line.
    pub lines: (u64, u64),
}

impl AgainstError {
    /// What would help, a line each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Query(error) => error.hints(),
            Self::NoTrace { .. } => vec![
                "what is read: nft monitor trace, xtables-monitor --trace, and the kernel log's TRACE: lines"
                    .to_owned(),
                "--verify-commands prints how to record one for this flow".to_owned(),
            ],
            Self::NoNode { nodes, .. } => vec![format!("nodes: {}", nodes.join(", "))],
            Self::NotPassed { passes, .. } => vec![format!("it passes {}", passes.join(", "))],
            Self::NoPacket { seen, count, .. } => {
                let mut all: Vec<String> = seen
                    .iter()
                    .map(|s| {
                        let what = s
                            .packet
                            .as_deref()
                            .unwrap_or("a packet whose header is not in the recording");
                        format!("it has {what} (lines {}-{})", s.lines.0, s.lines.1)
                    })
                    .collect();
                if *count > seen.len() {
                    all.push(format!("and {} more", count - seen.len()));
                }
                all
            }
        }
    }
}

fn no_trace(first: Option<&Unread>, lines: usize) -> String {
    match first {
        None => "the recording is empty".to_owned(),
        Some(first) => {
            let text: String = first.text.chars().take(60).collect();
            format!(
                "none of its {lines} lines is of a kernel trace; line {} is {text:?}",
                first.line
            )
        }
    }
}

/// The namespaces that a flow passes and that are asked for, in the order it comes to them.
pub(super) fn spaces(
    context: Context<'_, '_>,
    walked: &Walked,
    place: Option<&str>,
) -> Result<Vec<NsId>, AgainstError> {
    let mut all: Vec<NsId> = Vec::new();
    for branch in &walked.branches {
        for direction in [Direction::Request, Direction::Reply] {
            let hops = hops(branch, direction).map_or(&[][..], |(hops, _)| hops);
            for hop in hops {
                if !all.contains(&hop.ns) {
                    all.push(hop.ns);
                }
            }
        }
    }
    let Some(name) = place else { return Ok(all) };
    let (node, netns) = match name.strip_prefix("node/").unwrap_or(name).split_once('/') {
        Some((node, netns)) => (node, Some(netns)),
        None => (name.strip_prefix("node/").unwrap_or(name), None),
    };
    if !context.world.spaces().iter().any(|s| s.name.node == node) {
        return Err(AgainstError::NoNode {
            name: node.to_owned(),
            nodes: context.names.nodes(),
        });
    }
    let fits = |ns: &NsId| {
        let space = context.world.space(*ns);
        let named = match (netns, space.name.id.as_deref()) {
            (None, _) | (Some("host"), None) => true,
            (Some(wanted), Some(id)) => {
                id == wanted
                    || context
                        .names
                        .place(*ns)
                        .is_some_and(|p| p.pod.as_ref().is_some_and(|pod| pod.to_string() == wanted))
            }
            (Some(_), None) => false,
        };
        space.name.node == node && named
    };
    let wanted: Vec<NsId> = all.iter().copied().filter(fits).collect();
    if wanted.is_empty() {
        return Err(AgainstError::NotPassed {
            name: name.to_owned(),
            passes: all.iter().map(|ns| label(context, *ns)).collect(),
        });
    }
    Ok(wanted)
}

/// `node-1/host`, `node-1/web-1`: what `--against-node` takes.
fn label(context: Context<'_, '_>, ns: NsId) -> String {
    let name = context.world.space(ns).name;
    format!("{}/{}", name.node, name.id.as_deref().unwrap_or("host"))
}

/// What was looked for, and what is there.
pub(super) fn no_packet(
    context: Context<'_, '_>,
    walked: &Walked,
    recording: &KernelTrace,
    spaces: &[NsId],
) -> AgainstError {
    const MOST: usize = 8;
    let mut wanted: Vec<String> = Vec::new();
    for branch in &walked.branches {
        for &ns in spaces {
            let rules = super::Rules::new(context.world.space(ns));
            let hops = hops(branch, Direction::Request).map(|(hops, _)| hops);
            let path = hops.and_then(|hops| super::Path::of(hops, ns, false, false, &rules));
            let Some(face) = path.and_then(|p| p.faces.first().copied()) else {
                continue;
            };
            let text = format!("{} at {}", told(&face, walked.any_port), label(context, ns));
            if !wanted.contains(&text) {
                wanted.push(text);
            }
        }
    }
    let more = wanted.len().saturating_sub(3);
    wanted.truncate(3);
    let mut wanted = wanted.join("; ");
    if more > 0 {
        wanted.push_str(&format!("; and {more} more"));
    }
    let seen = |p: &TracedPacket| SeenPacket {
        packet: p.header.as_deref().map(header),
        lines: p.lines(),
    };
    AgainstError::NoPacket {
        wanted,
        seen: recording.packets.iter().take(MOST).map(seen).collect(),
        count: recording.packets.len(),
    }
}

fn told(face: &Face, any: Option<u16>) -> String {
    let port =
        |p: Option<knet_dataplane::packet::Port>| p.filter(|p| !p.drawn && any != Some(p.value)).map(|p| p.value);
    ends(
        Some(face.proto),
        (face.src, port(face.sport)),
        (face.dst, port(face.dport)),
    )
}

/// A packet of a recording in a few words.
#[must_use]
pub fn header(header: &Header) -> String {
    ends(header.proto, (header.src, header.sport), (header.dst, header.dport))
}

fn ends(proto: Option<u8>, src: (std::net::IpAddr, Option<u16>), dst: (std::net::IpAddr, Option<u16>)) -> String {
    let socket = |(addr, port): (std::net::IpAddr, Option<u16>)| match port {
        Some(port) => std::net::SocketAddr::new(addr, port).to_string(),
        None => addr.to_string(),
    };
    let proto = match proto {
        Some(6) => "tcp ".to_owned(),
        Some(17) => "udp ".to_owned(),
        Some(132) => "sctp ".to_owned(),
        Some(1) => "icmp ".to_owned(),
        Some(58) => "icmp6 ".to_owned(),
        Some(other) => format!("protocol {other} "),
        None => String::new(),
    };
    format!("{proto}{} → {}", socket(src), socket(dst))
}
