//! `tc.json`: `tc -j -d filter show`, for every device, with the device and the place in each row.

use std::sync::Arc;

use crate::fact::Problem;
use crate::json::{self, Object, Unreadable};
use crate::row::{Row, Table};

/// One classifier, or one of its filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcFilter {
    /// Where the row stands.
    pub at: Row,
    /// Device.
    pub dev: String,
    /// Where on the device.
    pub place: TcPlace,
    /// Protocol as written (`all`, `ip`, `ipv6`, `arp`, …).
    pub protocol: String,
    /// Priority.
    pub pref: Option<u32>,
    /// Kind as written (`bpf`, `u32`, `flower`, …).
    pub kind: String,
    /// Name of a BPF program, as the loader gave it.
    pub name: Option<String>,
    /// Kinds of its actions (`mirred`, `gact`, …), in order.
    pub actions: Vec<String>,
}

impl TcFilter {
    /// It can do something with a packet: a BPF program, or a classifier with actions. One without an action only
    /// chooses a class of the queue.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.kind == "bpf" || !self.actions.is_empty()
    }
}

/// Where on a device a filter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcPlace {
    /// On the way in.
    Ingress,
    /// On the way out.
    Egress,
    /// At a class or queueing discipline of the way out, as written.
    Queue(String),
}

/// Reads the artifact. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<TcFilter>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        rows.push(filter(at, row)?);
        Ok(())
    })
}

fn filter(at: Row, row: &Object<'_>) -> Result<TcFilter, Unreadable> {
    let none = Object::default();
    let options = row.object("options").unwrap_or(&none);
    let word = |key: &str| row.text(key).map(String::from);
    let parent = word("parent").unwrap_or_default();
    Ok(TcFilter {
        at,
        dev: row.ifname("dev").ok_or("a filter without its \"dev\"")?,
        place: match &*parent {
            "ingress" | "ffff:" | "ffff:0" | "ffff:fff2" => TcPlace::Ingress,
            "egress" | "ffff:fff3" => TcPlace::Egress,
            _ => TcPlace::Queue(parent),
        },
        protocol: word("protocol").unwrap_or_else(|| "all".to_owned()),
        pref: row.number("pref")?,
        kind: word("kind").ok_or("a filter without its \"kind\"")?,
        name: options.text("bpf_name").map(String::from),
        actions: options
            .objects("actions")
            .filter_map(|action| action.text("kind").map(String::from))
            .collect(),
    })
}
