//! A source port that stands for any: deterministic, in the sender's range, and in no captured connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

use knet_dataplane::trace::NsId;
use knet_dataplane::world::World;
use knet_snapshot::store::NetnsId;

/// Where the search starts, when the range allows it.
const FIRST: u16 = 40000;

/// The first port from 40000 that no captured connection to this destination port uses, in the sender's
/// namespace or on its node.
pub fn port(world: &World<'_>, ns: NsId, protocol: u8, dst: IpAddr, dport: u16) -> u16 {
    let space = world.space(ns);
    let (low, high) = range(
        space
            .facts
            .sysctls()
            .get()
            .and_then(|s| s.get("net.ipv4.ip_local_port_range")),
    );
    let mut used = BTreeSet::new();
    let host = world.find(&NetnsId {
        node: space.name.node.clone(),
        id: None,
    });
    for ns in [Some(ns), host].into_iter().flatten() {
        for connection in world.space(ns).facts.conntrack().get().map_or(&[][..], |t| &t.rows) {
            if connection.proto == protocol {
                let (orig, reply) = (connection.orig, connection.reply);
                if orig.dst == dst && orig.dport == dport {
                    used.insert(orig.sport);
                }
                // A translated connection takes the port at the server's side as well.
                if reply.sport == dport || orig.dport == dport {
                    used.insert(reply.dport);
                }
            }
        }
    }
    let first = if (low..=high).contains(&FIRST) { FIRST } else { low };
    (first..=high)
        .chain(low..first)
        .find(|p| !used.contains(p))
        .unwrap_or(first)
}

fn range(text: Option<&str>) -> (u16, u16) {
    let mut numbers = text.unwrap_or("").split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) if low > 0 && low <= high => (low, high),
        _ => (32768, 60999),
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_range_that_cannot_be_read_is_the_default() {
        assert_eq!(range(Some("1024\t2048")), (1024, 2048));
        assert_eq!(range(Some("9 1")), (32768, 60999));
        assert_eq!(range(None), (32768, 60999));
    }
}
