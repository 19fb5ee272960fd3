//! Neighbour entries of one namespace, by device and address.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use knet_snapshot::neigh::{Neighbour, NudState};
use knet_snapshot::store::NetnsFacts;

use crate::trace::Evidence;

/// The neighbour table.
#[derive(Debug, Default)]
pub struct Neighbours<'s> {
    artifact: Arc<str>,
    by_key: HashMap<(&'s str, IpAddr), &'s Neighbour>,
    proxies: HashMap<(&'s str, IpAddr), &'s Neighbour>,
    /// `neigh.json` was captured.
    pub known: bool,
}

impl<'s> Neighbours<'s> {
    /// Indexes the entries. A valid entry wins over an invalid one for the same key.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self::default();
        let Some(table) = facts.neighbours().get() else {
            return this;
        };
        this.known = true;
        this.artifact = table.artifact.clone();
        for row in &table.rows {
            let map = if row.proxy { &mut this.proxies } else { &mut this.by_key };
            let key = (row.dev.as_str(), row.dst);
            if map
                .get(&key)
                .is_none_or(|old| !is_valid(old.state) && is_valid(row.state))
            {
                map.insert(key, row);
            }
        }
        this
    }

    /// The entry for an address on a device.
    #[must_use]
    pub fn get(&self, dev: &str, addr: IpAddr) -> Option<&'s Neighbour> {
        self.by_key.get(&(dev, addr)).copied()
    }

    /// A proxy entry: this namespace answers for the address on that device.
    #[must_use]
    pub fn proxy(&self, dev: &str, addr: IpAddr) -> Option<&'s Neighbour> {
        self.proxies.get(&(dev, addr)).copied()
    }

    /// The entry as `ip neigh` prints it.
    #[must_use]
    pub fn evidence(&self, n: &Neighbour) -> Evidence {
        let mut text = format!("{} dev {}", n.dst, n.dev);
        if let Some(mac) = n.lladdr {
            text.push_str(&format!(" lladdr {mac}"));
        } else if let Some(other) = &n.lladdr_text {
            text.push_str(&format!(" lladdr {other}"));
        }
        text.push(' ');
        text.push_str(if n.proxy { "proxy" } else { state_name(n.state) });
        Evidence {
            artifact: self.artifact.clone(),
            at: n.at,
            handle: None,
            text: text.into(),
        }
    }
}

/// `NUD_VALID`: the kernel sends with the address it has.
#[must_use]
pub const fn is_valid(state: NudState) -> bool {
    matches!(
        state,
        NudState::Reachable
            | NudState::Stale
            | NudState::Delay
            | NudState::Probe
            | NudState::Permanent
            | NudState::NoArp
    )
}

/// The state as `ip neigh` writes it.
#[must_use]
pub const fn state_name(state: NudState) -> &'static str {
    match state {
        NudState::Incomplete => "INCOMPLETE",
        NudState::Reachable => "REACHABLE",
        NudState::Stale => "STALE",
        NudState::Delay => "DELAY",
        NudState::Probe => "PROBE",
        NudState::Failed => "FAILED",
        NudState::NoArp => "NOARP",
        NudState::Permanent => "PERMANENT",
        NudState::None => "NONE",
    }
}
