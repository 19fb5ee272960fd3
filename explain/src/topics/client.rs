//! An address that can stand for any client outside.

use std::net::IpAddr;

use ipnet::IpNet;
use knet_snapshot::id::Family;

use crate::resolve::Context;

/// A client in the subnet of the node's address that nothing in the snapshot has and no route goes by:
/// the highest such address, of the first 64 looked at.
pub fn stand_in(context: Context<'_, '_>, node: &str, address: IpAddr) -> Option<IpAddr> {
    let ns = context.names.node(node)?.ns?;
    let space = context.world.space(ns);
    let own = space
        .links()
        .addresses(Family::of(address))
        .find(|a| a.local == address)?;
    let net = IpNet::new(own.local, own.prefix_len).ok()?;
    let gateways: Vec<IpAddr> = space
        .facts
        .routes(Family::of(address))
        .get()
        .map(|t| {
            t.rows
                .iter()
                .flat_map(|r| &r.nexthops)
                .filter_map(|n| n.gateway)
                .collect()
        })
        .unwrap_or_default();
    let free = |addr: &IpAddr| {
        net.contains(addr)
            && *addr != net.network()
            && *addr != net.broadcast()
            && context.names.whose(*addr).next().is_none()
            && !gateways.contains(addr)
    };
    candidates(net).into_iter().find(free).or_else(|| {
        // A /32 or a full subnet: a documentation address beyond the router.
        let beyond = match address {
            IpAddr::V4(_) => "203.0.113.254",
            IpAddr::V6(_) => "2001:db8::fffe",
        };
        beyond.parse().ok()
    })
}

/// Addresses of a subnet from the top down (IPv6: from ::ffff down).
fn candidates(net: IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let top = u32::from(net.broadcast());
            (1..=64)
                .filter_map(|i| top.checked_sub(i))
                .map(|a| IpAddr::V4(a.into()))
                .collect()
        }
        IpNet::V6(net) => {
            let base = u128::from(net.network());
            (0..64).map(|i| IpAddr::V6((base | (0xffff - i)).into())).collect()
        }
    }
}
