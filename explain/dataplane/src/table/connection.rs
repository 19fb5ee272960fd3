//! Captured connections of one namespace, by tuple.

use std::sync::Arc;

use hashbrown::HashMap;
use knet_snapshot::artifact::name;
use knet_snapshot::conntrack::{Connection, Tuple};
use knet_snapshot::id::Zone;
use knet_snapshot::store::NetnsFacts;

use crate::skb::Dir;
use crate::trace::Evidence;

/// The captured rows.
#[derive(Debug, Default)]
pub struct Connections<'s> {
    artifact: Arc<str>,
    bytes: &'s [u8],
    by_key: HashMap<(Zone, u8, Tuple), (&'s Connection, Dir)>,
    /// `conntrack.txt` was captured.
    pub known: bool,
}

impl<'s> Connections<'s> {
    /// Indexes the captured rows by both directions.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self::default();
        let Some(table) = facts.conntrack().get() else {
            return this;
        };
        this.known = true;
        this.bytes = facts.bytes(name::CONNTRACK).get().copied().unwrap_or_default();
        this.artifact = table.artifact.clone();
        for row in &table.rows {
            let (orig, reply) = (row.zone_orig.unwrap_or(row.zone), row.zone_reply.unwrap_or(row.zone));
            this.by_key.insert((orig, row.proto, row.orig), (row, Dir::Original));
            this.by_key
                .entry((reply, row.proto, row.reply))
                .or_insert((row, Dir::Reply));
        }
        this
    }

    /// The row that holds a tuple, and in which direction.
    #[must_use]
    pub fn find(&self, zone: Zone, proto: u8, tuple: Tuple) -> Option<(&'s Connection, Dir)> {
        self.by_key.get(&(zone, proto, tuple)).copied()
    }

    /// The row as written.
    #[must_use]
    pub fn evidence(&self, row: &Connection) -> Evidence {
        let start = usize::try_from(row.at.start).unwrap_or(usize::MAX);
        let end = start.saturating_add(row.at.len as usize);
        Evidence {
            artifact: self.artifact.clone(),
            at: row.at,
            handle: None,
            text: String::from_utf8_lossy(self.bytes.get(start..end).unwrap_or_default()).into(),
        }
    }
}
