//! Programs and filters that look at a device's packets before the network layer does: XDP and tc.

use std::sync::Arc;

use hashbrown::HashMap;
use knet_snapshot::artifact::name;
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::store::NetnsFacts;
use knet_snapshot::tc::{TcFilter, TcPlace};

use super::link::Links;
use crate::trace::Evidence;

/// What is attached to the devices of a namespace.
#[derive(Debug, Default)]
pub struct Programs<'s> {
    links_artifact: Arc<str>,
    artifact: Arc<str>,
    tc: HashMap<&'s str, Vec<&'s TcFilter>>,
}

impl<'s> Programs<'s> {
    /// Indexes the filters that can do something with a packet.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self {
            links_artifact: facts.path(name::LINK),
            artifact: facts.path(name::TC),
            tc: HashMap::new(),
        };
        if let Some(table) = facts.tc().get() {
            for filter in table.rows.iter().filter(|f| f.acts()) {
                this.tc.entry(filter.dev.as_str()).or_default().push(filter);
            }
        }
        this
    }

    /// What looks at a packet that a device receives: XDP first, then tc (`__netif_receive_skb_core`).
    #[must_use]
    pub fn receiving(&self, links: &Links<'s>, dev: IfIndex, family: Family) -> Vec<Evidence> {
        let Some(link) = links.get(dev) else {
            return Vec::new();
        };
        let xdp = link.xdp.map(|id| Evidence {
            artifact: self.links_artifact.clone(),
            at: link.at,
            handle: None,
            text: match id {
                0 => format!("dev {} xdp", link.name),
                id => format!("dev {} xdp prog id {id}", link.name),
            }
            .into(),
        });
        let tc = self.on(&link.name, family, |place| *place == TcPlace::Ingress);
        xdp.into_iter().chain(tc).collect()
    }

    /// What looks at a packet that a device is to send (`sch_handle_egress`, and the queue's own filters).
    #[must_use]
    pub fn sending(&self, links: &Links<'s>, dev: IfIndex, family: Family) -> Vec<Evidence> {
        let tc = self.on(links.name(dev), family, |place| *place != TcPlace::Ingress);
        tc.collect()
    }

    fn on(&self, dev: &str, family: Family, fits: impl Fn(&TcPlace) -> bool) -> impl Iterator<Item = Evidence> {
        let sees = move |protocol: &str| match protocol {
            "ip" => family == Family::V4,
            "ipv6" => family == Family::V6,
            "arp" => false,
            _ => true,
        };
        let all = self.tc.get(dev).map_or(&[][..], Vec::as_slice);
        let mut seen: Vec<Evidence> = Vec::new();
        for filter in all.iter().filter(|f| fits(&f.place) && sees(&f.protocol)) {
            let evidence = self.evidence(filter);
            // The kernel lists a classifier, and then each of its filters.
            seen.retain(|e| !(filter.name.is_some() && evidence.text.starts_with(&*e.text)));
            if !seen.iter().any(|e| e.text == evidence.text) {
                seen.push(evidence);
            }
        }
        seen.into_iter()
    }

    fn evidence(&self, filter: &TcFilter) -> Evidence {
        let TcFilter {
            at,
            dev,
            place,
            protocol,
            pref,
            kind,
            name,
            actions,
        } = filter;
        let place = match place {
            TcPlace::Ingress => "ingress",
            TcPlace::Egress => "egress",
            TcPlace::Queue(parent) => parent,
        };
        let mut text = format!("dev {dev} {place} protocol {protocol}");
        if let Some(pref) = pref {
            text += &format!(" pref {pref}");
        }
        text += &format!(" {kind}");
        if let Some(name) = name {
            text += &format!(" {name}");
        }
        for action in actions {
            text += &format!(" action {action}");
        }
        Evidence {
            artifact: self.artifact.clone(),
            at: *at,
            handle: None,
            text: text.into(),
        }
    }
}
