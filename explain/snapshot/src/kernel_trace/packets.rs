//! Which events are of one packet.
//!
//! `nft_trace_init` makes an id of the buffer's address, its hash and the device it came in by. So another
//! packet can have the same id later, and one packet gets another id where a bridge or the loopback device
//! hands it on. Both are put right by what the headers say.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Event, Form, Header, TableFamily};

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedPacket {
    /// What was printed of it first. `None`: the recording begins later than the packet, or it is no IP packet.
    pub header: Option<Arc<Header>>,
    /// Its events in order.
    pub events: Vec<Event>,
}

impl TracedPacket {
    /// First and last line.
    #[must_use]
    pub fn lines(&self) -> (u64, u64) {
        let line = |event: Option<&Event>| event.map_or(0, |e| e.line);
        (line(self.events.first()), line(self.events.last()))
    }

    /// The kernel log printed it, not a monitor of nftables.
    #[must_use]
    pub fn in_log(&self) -> bool {
        self.events.first().is_some_and(|e| e.form == Form::Log)
    }
}

type ChainName = (TableFamily, Box<str>, Box<str>);

/// Protocol, identification and length.
type Unchanged = (Option<u8>, Option<u32>, Option<u32>);

/// A packet whose events are being collected.
struct Open {
    packet: TracedPacket,
    /// Base chains it entered.
    entered: BTreeSet<ChainName>,
    /// The base chain it is in.
    base: Option<ChainName>,
    runs: usize,
    /// The header of the base chain the next event enters.
    fresh: Option<(Option<ChainName>, Option<Arc<Header>>)>,
    header: Option<Arc<Header>>,
}

/// Puts events to packets.
#[derive(Default)]
pub(super) struct Sorter {
    done: Vec<Open>,
    by_id: HashMap<u32, usize>,
    /// Of the kernel log, by what does not change on the way.
    by_header: HashMap<Unchanged, usize>,
}

impl Open {
    fn new() -> Self {
        Self {
            packet: TracedPacket {
                header: None,
                events: Vec::new(),
            },
            entered: BTreeSet::new(),
            base: None,
            runs: 0,
            fresh: None,
            header: None,
        }
    }

    /// The packet enters a base chain that it was in already, or is visibly another one.
    fn over(&self, chain: Option<&ChainName>, header: Option<&Header>) -> bool {
        if chain.is_some_and(|c| self.entered.contains(c)) {
            return true;
        }
        match (self.packet.header.as_deref(), header) {
            (Some(old), Some(new)) => !same_packet(old, new),
            _ => false,
        }
    }

    fn enter(&mut self, chain: ChainName) {
        self.entered.insert(chain.clone());
        self.base = Some(chain);
        self.runs += 1;
    }
}

impl Sorter {
    /// A header: the next event of this id is the first of a base chain.
    pub fn header(&mut self, id: u32, chain: Option<ChainName>, header: Option<Header>) {
        let header = header.map(Arc::new);
        let open = self.by_id.get(&id).map(|&i| &self.done[i]);
        let i = match open {
            Some(open) if !open.over(chain.as_ref(), header.as_deref()) => self.by_id[&id],
            _ => self.open(id),
        };
        self.done[i].fresh = Some((chain, header));
    }

    fn open(&mut self, id: u32) -> usize {
        self.done.push(Open::new());
        self.by_id.insert(id, self.done.len() - 1);
        self.done.len() - 1
    }

    /// An event. Of the kernel log it has no id, and its header with it.
    pub fn event(&mut self, id: Option<u32>, mut event: Event) {
        let name: ChainName = (event.family, event.table.clone(), event.chain.clone());
        let Some(id) = id else { return self.logged(name, event) };
        let mut i = match self.by_id.get(&id) {
            Some(&i) => i,
            None => self.open(id),
        };
        if let Some((chain, header)) = self.done[i].fresh.take() {
            let chain = chain.unwrap_or(name);
            // `xtables-monitor` says the chain only now.
            if self.done[i].entered.contains(&chain) {
                i = self.open(id);
            }
            let open = &mut self.done[i];
            open.enter(chain);
            open.header = header;
        } else if self.done[i].runs == 0 {
            self.done[i].enter(name);
        }
        let open = &mut self.done[i];
        event.header.clone_from(&open.header);
        open.push(event);
    }

    fn logged(&mut self, name: ChainName, event: Event) {
        let key = event
            .header
            .as_ref()
            .map_or((None, None, None), |h| (h.proto, h.ident, h.len));
        let base = is_builtin(&event.chain);
        let found = self.by_header.get(&key).copied().filter(|&i| {
            let open = &self.done[i];
            let enters = base && open.base.as_ref() != Some(&name);
            !open.over(Some(&name).filter(|_| enters), event.header.as_deref())
        });
        let i = found.unwrap_or_else(|| {
            self.done.push(Open::new());
            self.done.len() - 1
        });
        self.by_header.insert(key, i);
        let open = &mut self.done[i];
        if open.runs == 0 || (base && open.base.as_ref() != Some(&name)) {
            open.enter(name);
        }
        open.push(event);
    }

    /// The packets, those of one joined.
    pub fn finish(self) -> Vec<TracedPacket> {
        let mut out: Vec<Open> = Vec::new();
        for open in self.done.into_iter().filter(|o| !o.packet.events.is_empty()) {
            // Only a packet that was there a moment ago: looking back far would join strangers, and cost.
            let near = out.iter_mut().rev().take(64).find(|before| joins(before, &open));
            match near {
                Some(before) => {
                    let runs = before.runs;
                    before.runs += open.runs;
                    before.entered.extend(open.entered);
                    let events = open.packet.events.into_iter();
                    before.packet.events.extend(events.map(|mut event| {
                        event.run += runs;
                        event
                    }));
                }
                None => out.push(open),
            }
        }
        out.into_iter().map(|o| o.packet).collect()
    }
}

impl Open {
    fn push(&mut self, mut event: Event) {
        if self.packet.events.is_empty() {
            self.packet.header.clone_from(&event.header);
        }
        event.run = self.runs;
        self.packet.events.push(event);
    }
}

/// `b` goes on where `a` ended: the same identification, and one end of it unchanged. Both ends, where the
/// identification is 0 (a reset, a SYN+ACK).
fn joins(a: &Open, b: &Open) -> bool {
    let (Some(x), Some(y)) = (&a.packet.header, &b.packet.header) else {
        return false;
    };
    let ends = |h: &Header| ((h.src, h.sport), (h.dst, h.dport));
    let last = a.packet.events.last().and_then(|e| e.header.as_deref()).unwrap_or(x);
    let near = if x.ident.is_some_and(|ident| ident != 0) {
        let same = |h: &Header| ends(h).0 == ends(y).0 || ends(h).1 == ends(y).1;
        same(x) || same(last)
    } else {
        ends(last) == ends(y)
    };
    near && x.ident == y.ident
        && a.packet.in_log() == b.packet.in_log()
        && x.len == y.len
        && x.flags == y.flags
        && same_packet(x, y)
        && a.packet.lines().1 < b.packet.lines().0
        && a.entered.is_disjoint(&b.entered)
}

/// Nothing that no rule changes is different.
fn same_packet(a: &Header, b: &Header) -> bool {
    let differ = |x: Option<u32>, y: Option<u32>| matches!((x, y), (Some(x), Some(y)) if x != y);
    !differ(a.ident, b.ident)
        && !differ(a.proto.map(Into::into), b.proto.map(Into::into))
        && !differ(a.icmp.map(Into::into), b.icmp.map(Into::into))
        && a.dst.is_ipv4() == b.dst.is_ipv4()
}

/// A base chain of iptables.
fn is_builtin(chain: &str) -> bool {
    matches!(chain, "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING")
}
