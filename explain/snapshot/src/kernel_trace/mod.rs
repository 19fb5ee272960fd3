//! A recording of the kernel's own rule trace: `nft monitor trace`, `xtables-monitor --trace`, or the kernel
//! log lines of legacy iptables.
//!
//! One event a line; lines of several packets may be interleaved, and forms may be mixed. What is not
//! understood is kept with its line number.

mod header;
mod log;
mod nft;
mod packets;
mod xtables;

use std::sync::Arc;

pub use header::Header;
pub use packets::TracedPacket;

/// Lines that were not understood are counted beyond this, and no longer kept.
const MOST_UNREAD: usize = 200;

/// A recording.
#[derive(Clone, Debug, Default)]
pub struct KernelTrace {
    /// The packets in the order of their first events.
    pub packets: Vec<TracedPacket>,
    /// Lines that are not empty and are not understood, in file order: the first 200.
    pub unread: Vec<Unread>,
    /// How many there are.
    pub unread_count: usize,
    /// Lines that say something beside the rules and were understood (conntrack of a packet).
    pub remarks: usize,
}

/// A line that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Line, from 1.
    pub line: u64,
    /// As written.
    pub text: Box<str>,
}

/// Who printed an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `nft monitor trace`
    Nft,
    /// `xtables-monitor --trace`
    Xtables,
    /// The kernel log, for legacy iptables.
    Log,
}

/// Family of the table an event is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the family it names")]
pub enum TableFamily {
    Ip,
    Ip6,
    Inet,
    Arp,
    Bridge,
    Netdev,
}

impl TableFamily {
    /// As `nft` names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }
}

/// One event: a rule that matched, a policy, or the end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Line of the recording, from 1.
    pub line: u64,
    /// The line as written, without blanks at its ends.
    pub text: Box<str>,
    /// Who printed it.
    pub form: Form,
    /// Family of the table.
    pub family: TableFamily,
    /// Table.
    pub table: Box<str>,
    /// Chain. Of a policy: the base chain.
    pub chain: Box<str>,
    /// What happened.
    pub what: EventKind,
    /// The packet as it came into the base chain.
    pub header: Option<Arc<Header>>,
    /// Counts the base chains the packet went through, as far as the recording shows them.
    pub run: usize,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A rule matched.
    Rule {
        /// Its handle.
        handle: Option<u64>,
        /// Its number in the chain, from 1.
        number: Option<u64>,
        /// Its text, as the tool prints rules; without handle.
        rule: Option<Box<str>>,
        /// What it did. The kernel log does not say.
        verdict: Option<TraceVerdict>,
    },
    /// The policy of the base chain decided.
    Policy {
        /// What it is. The kernel log does not say.
        verdict: Option<TraceVerdict>,
        /// The number behind the chain's last rule.
        number: Option<u64>,
    },
    /// A chain ended, and the packet went back to the caller: by its end, or (kernels before 6.4) by a rule.
    Return,
}

/// A verdict in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the verdict it names")]
pub enum TraceVerdict {
    Continue,
    Accept,
    Drop,
    Return,
    Queue,
    Stolen,
    Jump(Box<str>),
    Goto(Box<str>),
    /// Another word.
    Other(Box<str>),
}

/// What one line is.
enum Line {
    /// Header of a packet: of the next event with this id.
    Header {
        id: u32,
        /// The base chain it enters, where the line says it.
        chain: Option<(TableFamily, Box<str>, Box<str>)>,
        header: Option<Header>,
    },
    /// An event.
    Event { id: Option<u32>, event: Event },
    /// Understood, and no event.
    Remark,
}

/// Reads a recording. Never fails: what is no trace is in [`KernelTrace::unread`].
#[must_use]
pub fn parse(bytes: &[u8]) -> KernelTrace {
    let text = String::from_utf8_lossy(bytes);
    let mut out = KernelTrace::default();
    let mut sorter = packets::Sorter::default();
    let mut lines = (1_u64..).zip(text.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let mut joined = None;
        if nft::goes_on(line) {
            // A rule with a long map is printed on several lines; the last one has the verdict.
            let mut whole = line.to_owned();
            while let Some((_, next)) = lines.next_if(|(_, next)| nft::goes_on(&whole) && !nft::starts(next)) {
                whole.push(' ');
                whole.push_str(next.trim());
            }
            joined = Some(whole);
        }
        let line = joined.as_deref().unwrap_or(line);
        match nft::line(number, line)
            .or_else(|| xtables::line(number, line))
            .or_else(|| log::line(number, line))
        {
            Some(Line::Remark) => out.remarks += 1,
            Some(Line::Header { id, chain, header }) => sorter.header(id, chain, header),
            Some(Line::Event { id, event }) => sorter.event(id, event),
            None => {
                out.unread_count += 1;
                if out.unread.len() < MOST_UNREAD {
                    out.unread.push(Unread {
                        line: number,
                        text: line.into(),
                    });
                }
            }
        }
    }
    out.packets = sorter.finish();
    out
}

/// `policy accept`, `(verdict jump services)`, `JUMP:KUBE-SVC`, `0xfffffffb`.
fn verdict(word: &str, target: Option<&str>) -> TraceVerdict {
    let to = |target: Option<&str>| Box::from(target.unwrap_or_default());
    match word.to_ascii_lowercase().as_str() {
        "continue" => TraceVerdict::Continue,
        "accept" => TraceVerdict::Accept,
        "drop" => TraceVerdict::Drop,
        // NFT_RETURN is -5; xtables-monitor has no word for it.
        "return" | "0xfffffffb" => TraceVerdict::Return,
        "queue" => TraceVerdict::Queue,
        "stolen" => TraceVerdict::Stolen,
        "jump" => TraceVerdict::Jump(to(target)),
        "goto" => TraceVerdict::Goto(to(target)),
        _ => TraceVerdict::Other(word.into()),
    }
}
