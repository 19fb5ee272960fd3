//! Forwarding database, bridge ports and bridge VLANs of one namespace.

use std::sync::Arc;

use hashbrown::HashMap;
use knet_snapshot::bridge::{BridgePort, BridgeVlan, Vlan};
use knet_snapshot::fdb::FdbEntry;
use knet_snapshot::id::Mac;
use knet_snapshot::store::NetnsFacts;

use crate::trace::Evidence;

/// What bridges and VXLAN devices forward by.
#[derive(Debug, Default)]
pub struct Fdb<'s> {
    artifact: Arc<str>,
    ports_artifact: Arc<str>,
    /// Entries of bridges, by bridge, MAC and VLAN.
    bridge: HashMap<(&'s str, Mac, Option<u16>), &'s FdbEntry>,
    /// Entries of VXLAN devices, by device and MAC.
    own: HashMap<(&'s str, Mac), Vec<&'s FdbEntry>>,
    ports: HashMap<&'s str, &'s BridgePort>,
    vlans: HashMap<&'s str, &'s BridgeVlan>,
    /// `fdb.json` was captured.
    pub known: bool,
    /// `bridge-link.json` was captured.
    pub ports_known: bool,
    /// `bridge-vlan.json` was captured.
    pub vlans_known: bool,
}

impl<'s> Fdb<'s> {
    /// Indexes the three tables.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self::default();
        if let Some(table) = facts.fdb().get() {
            this.known = true;
            this.artifact = table.artifact.clone();
            for row in &table.rows {
                match &row.master {
                    Some(master) if !row.self_ => {
                        this.bridge.insert((master.as_str(), row.mac, row.vlan), row);
                    }
                    _ => this.own.entry((row.dev.as_str(), row.mac)).or_default().push(row),
                }
            }
        }
        if let Some(table) = facts.bridge_ports().get() {
            this.ports_known = true;
            this.ports_artifact = table.artifact.clone();
            this.ports = table.rows.iter().map(|p| (p.dev.as_str(), p)).collect();
        }
        if let Some(table) = facts.bridge_vlans().get() {
            this.vlans_known = true;
            this.vlans = table.rows.iter().map(|p| (p.dev.as_str(), p)).collect();
        }
        this
    }

    /// `br_fdb_find_rcu`: the bridge's entry for a MAC in a VLAN (`None` = no VLAN filtering).
    #[must_use]
    pub fn lookup(&self, bridge: &str, mac: Mac, vlan: Option<u16>) -> Option<&'s FdbEntry> {
        self.bridge.get(&(bridge, mac, vlan)).copied()
    }

    /// `vxlan_find_mac`: the device's own entries for a MAC, in the order the kernel keeps them.
    #[must_use]
    pub fn remotes<'a>(&'a self, dev: &'a str, mac: Mac) -> &'a [&'s FdbEntry] {
        self.own.get(&(dev, mac)).map_or(&[][..], Vec::as_slice)
    }

    /// Settings of a bridge port.
    #[must_use]
    pub fn port(&self, dev: &str) -> Option<&'s BridgePort> {
        self.ports.get(dev).copied()
    }

    /// The VLAN membership of a port (or bridge) for a VLAN id.
    #[must_use]
    pub fn vlan(&self, dev: &str, id: u16) -> Option<Vlan> {
        self.vlans
            .get(dev)?
            .vlans
            .iter()
            .copied()
            .find(|v| v.first <= id && id <= v.last)
    }

    /// The VLAN that untagged frames of a port belong to.
    #[must_use]
    pub fn pvid(&self, dev: &str) -> Option<u16> {
        self.vlans.get(dev)?.vlans.iter().find(|v| v.pvid).map(|v| v.first)
    }

    /// The entry as `bridge fdb` prints it.
    #[must_use]
    pub fn evidence(&self, e: &FdbEntry) -> Evidence {
        let mut text = format!("{} dev {}", e.mac, e.dev);
        if let Some(dst) = e.dst {
            text.push_str(&format!(" dst {dst}"));
        }
        if let Some(vlan) = e.vlan {
            text.push_str(&format!(" vlan {vlan}"));
        }
        if let Some(vni) = e.vni {
            text.push_str(&format!(" vni {vni}"));
        }
        if let Some(master) = &e.master {
            text.push_str(&format!(" master {master}"));
        }
        if e.self_ {
            text.push_str(" self");
        }
        if !e.state.is_empty() {
            text.push_str(&format!(" {}", e.state));
        }
        Evidence {
            artifact: self.artifact.clone(),
            at: e.at,
            handle: None,
            text: text.into(),
        }
    }

    /// The port's settings as `bridge -d link` prints them, reduced to what decides.
    #[must_use]
    pub fn port_evidence(&self, p: &BridgePort) -> Evidence {
        let on = |v: Option<bool>| v.map_or("?", |b| if b { "on" } else { "off" });
        let text = format!(
            "{} master {} state {} hairpin {} isolated {} flood {} learning {}",
            p.dev,
            p.master.as_deref().unwrap_or("?"),
            p.state,
            on(p.hairpin),
            on(p.isolated),
            on(p.flood),
            on(p.learning),
        );
        Evidence {
            artifact: self.ports_artifact.clone(),
            at: p.at,
            handle: None,
            text: text.into(),
        }
    }
}
