//! Small captures for tests of the walk: the tables of each namespace as text. Those that are not named are empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;

use crate::packet::{L4, proto, tcp_flag};
use crate::trace::{Branch, Detail, NsId, Trace};
use crate::walk::{Limits, Origin, Start, trace};
use crate::world::World;

/// What every namespace has.
const EMPTY: &[(&str, &str)] = &[
    ("neigh.json", "[]"),
    ("sockets.txt", ""),
    ("nft.json", r#"{"nftables":[]}"#),
    ("iptables-nft.save", ""),
    ("iptables-legacy.save", ""),
    ("xfrm.txt", ""),
    ("sysctl.txt", "net.ipv4.ip_forward = 1\n"),
];

/// The first packet of a flow, to a port.
#[derive(Clone, Copy, Debug)]
pub enum First {
    Udp(u16),
    Syn(u16),
}

/// The files of a capture.
#[derive(Debug, Default)]
pub struct Lab {
    files: BTreeMap<String, String>,
}

impl Lab {
    /// A namespace, by its folder below `nodes/`.
    pub fn space<T: AsRef<str>>(mut self, folder: &str, tables: impl IntoIterator<Item = (&'static str, T)>) -> Self {
        let path = |name: &str| format!("nodes/{folder}/{name}");
        for (name, text) in EMPTY {
            self = self.file(&path(name), text);
        }
        for (name, text) in tables {
            self = self.file(&path(name), text.as_ref());
        }
        self
    }

    /// Any file, by its path.
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// Nobody captured it.
    pub fn without(mut self, path: &str) -> Self {
        self.files.remove(path);
        self
    }

    /// Sends from a namespace. They are numbered by node, each node's own first.
    pub fn send(self, from: u32, dst: &str, first: First) -> Trace {
        let blob = |text: String| Arc::new(text.into_bytes()) as Blob;
        let files = self.files.into_iter().map(|(path, text)| (path, blob(text)));
        let snapshot = Snapshot::from_files(files.collect()).unwrap();
        let world = World::new(&snapshot);
        let sport = 40000.into();
        let (proto, l4) = match first {
            First::Udp(port) => {
                let dport = port.into();
                (proto::UDP, L4::Ports { sport, dport })
            }
            First::Syn(port) => {
                let (dport, flags) = (port.into(), tcp_flag::SYN);
                (proto::TCP, L4::Tcp { sport, dport, flags })
            }
        };
        let start = Start {
            ns: NsId(from),
            origin: Origin::Local { uid: None },
            src: None,
            dst: dst.parse().unwrap(),
            proto,
            l4,
            any_sport: true,
            ttl: 64,
            tos: 0,
            mark: 0,
            len: 60,
        };
        trace(&world, &start, Detail::Decisions, Limits::default())
    }
}

/// The only way there is: nothing is left to chance, and nothing is unknown.
#[track_caller]
pub fn only(trace: Trace) -> Branch {
    let mut branches = trace.branches;
    assert_eq!(branches.len(), 1, "{branches:?}");
    branches.remove(0)
}

/// What becomes of a UDP packet of a node to this address, port 53.
#[track_caller]
pub fn sent(dst: &str, tables: &[(&'static str, &str)]) -> Branch {
    let lab = Lab::default().space("n/host", tables.iter().copied());
    only(lab.send(0, dst, First::Udp(53)))
}
