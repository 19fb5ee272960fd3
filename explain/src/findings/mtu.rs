//! The path carries less than the sender's device lets it send.

use knet_dataplane::trace::{ClientSees, What};

use super::{Cx, Finding, Found, Severity};

/// The smallest MTU on the way against the sender's first one. Devices of tunnels already count their own
/// overhead.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut least: Option<(u32, String, String)> = None;
    let mut sender = None;
    for branch in cx.branches.iter().filter(|b| b.client_sees == ClientSees::Reply) {
        let mut first = None;
        for hop in &branch.hops {
            for step in &hop.steps {
                let What::Mtu { dev, mtu } = step.what else { continue };
                first.get_or_insert(mtu);
                // The outer packet of a tunnel is not what the sender's MTU is about.
                if hop.packet.inner.is_none() && least.as_ref().is_none_or(|(l, _, _)| mtu < *l) {
                    let dev = cx.world.space(hop.ns).links().name(dev).to_owned();
                    least = Some((mtu, cx.node(hop.ns).to_owned(), dev));
                }
            }
        }
        sender = sender.or(first);
    }
    match (least, sender) {
        (Some((mtu, node, dev)), Some(sender))
            if mtu < sender
                && matches!(
                    cx.src,
                    crate::resolve::Source::Pod { .. } | crate::resolve::Source::Netns { .. }
                ) =>
        {
            vec![Cx::found(
                Severity::Warning,
                Found::Mtu { node, dev, mtu, sender },
                Vec::new(),
            )]
        }
        _ => Vec::new(),
    }
}
