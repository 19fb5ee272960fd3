//! What a topology consists of, before any of it exists.

use std::net::IpAddr;

use crate::lab::bare;
use crate::netns::Rng;

/// One namespace.
#[derive(Clone, Debug, Default)]
pub struct SpacePlan {
    /// Name without the prefix.
    pub short: String,
    /// Node it belongs to; `None` = not captured.
    pub node: Option<String>,
    /// The node's own namespace.
    pub host: bool,
    /// Sysctls before any device is there.
    pub early: Vec<(String, String)>,
    /// Lines for `ip -batch`.
    pub ip: Vec<String>,
    /// Lines for `bridge -batch`.
    pub bridge: Vec<String>,
    /// Sysctls after the devices are there.
    pub late: Vec<(String, String)>,
    /// For `iptables-restore`.
    pub iptables: String,
    /// For `ip6tables-restore`.
    pub ip6tables: String,
    /// For `nft -f`.
    pub nft: String,
    /// For `ipvsadm-restore`.
    pub ipvs: String,
    /// Lines for a shell, before [`Self::last`].
    pub shell: Vec<String>,
    /// Lines for `ip -batch`, after everything else.
    pub last: Vec<String>,
    /// Its addresses, where its servers listen.
    pub addresses: Vec<IpAddr>,
    /// Sends and serves.
    pub peer: bool,
}

/// A topology.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// For people and for dumps.
    pub name: String,
    /// Namespaces.
    pub spaces: Vec<SpacePlan>,
    /// Lines for `ip -batch` that make devices in several namespaces; `@` before a name is its prefix.
    pub links: Vec<String>,
    /// Addresses worth sending to that no namespace has.
    pub targets: Vec<IpAddr>,
    /// What was done to it, for people.
    pub faults: Vec<String>,
    /// `netns.json` does not say namespace ids.
    pub hide_nsids: bool,
    /// Send something before capturing, so that tables are filled.
    pub warm: bool,
    /// Each flow finds empty neighbour tables: otherwise a question in one direction teaches the other one.
    pub forgetful: bool,
    /// Sizes of the packets to send; none = small ones.
    pub sizes: Vec<u16>,
    /// How many flows to send.
    pub flows: usize,
}

impl Plan {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            flows: 48,
            ..Self::default()
        }
    }

    /// Adds a namespace.
    pub fn space(&mut self, short: &str, node: Option<&str>, host: bool) -> usize {
        let mut space = SpacePlan {
            short: short.to_owned(),
            node: node.map(str::to_owned),
            host,
            peer: true,
            ..SpacePlan::default()
        };
        let early = [
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ];
        space.early.extend(early.map(|(k, v)| (k.to_owned(), v.to_owned())));
        if host {
            for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                space.early.push((key.to_owned(), "1".to_owned()));
            }
        }
        space.ip.push("link set lo up".to_owned());
        self.spaces.push(space);
        self.spaces.len() - 1
    }

    /// A veth pair.
    pub fn veth(&mut self, a: usize, a_dev: &str, b: usize, b_dev: &str) {
        let line = format!(
            "link add name {a_dev} netns @{} type veth peer name {b_dev} netns @{}",
            self.spaces[a].short, self.spaces[b].short
        );
        self.links.push(line);
        self.ip(a, &format!("link set {a_dev} up"));
        self.ip(b, &format!("link set {b_dev} up"));
    }

    /// A line for `ip` in a namespace.
    pub fn ip(&mut self, space: usize, line: &str) {
        self.spaces[space].ip.push(line.to_owned());
    }

    /// A line for `ip` in a namespace, after everything else.
    pub fn last(&mut self, space: usize, line: &str) {
        self.spaces[space].last.push(line.to_owned());
    }

    /// A line for a shell in a namespace.
    #[allow(dead_code, reason = "only the suite of the virtual machine has such lines")]
    pub fn shell(&mut self, space: usize, line: &str) {
        self.spaces[space].shell.push(line.to_owned());
    }

    /// A line for `bridge` in a namespace.
    pub fn bridge(&mut self, space: usize, line: &str) {
        self.spaces[space].bridge.push(line.to_owned());
    }

    /// An address that servers of the namespace listen on.
    pub fn addr(&mut self, space: usize, dev: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(space, &format!("addr add {address} dev {dev}{nodad}"));
        self.spaces[space].addresses.push(bare(address));
    }

    /// A sysctl, once devices are there. Device names keep their dots this way.
    pub fn sysctl(&mut self, space: usize, key: &str, value: &str) {
        self.spaces[space].late.push((key.to_owned(), value.to_owned()));
    }

    /// Something done on purpose that ordinary clusters do not do.
    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// Names of the nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.spaces
            .iter()
            .filter(|s| s.host)
            .filter_map(|s| s.node.clone())
            .collect()
    }

    /// Namespaces that flows start in.
    pub fn clients(&self) -> Vec<usize> {
        (0..self.spaces.len())
            .filter(|&i| self.spaces[i].peer && self.spaces[i].node.is_some())
            .collect()
    }

    /// Where flows can be sent.
    pub fn destinations(&self) -> Vec<IpAddr> {
        let own = self
            .spaces
            .iter()
            .filter(|s| s.node.is_some())
            .flat_map(|s| s.addresses.iter().copied());
        own.chain(self.targets.iter().copied()).collect()
    }
}

/// A MAC nobody has.
pub fn nobody(rng: &mut Rng) -> String {
    format!("02:de:ad:00:00:{:02x}", rng.below(256))
}

/// A MAC by number, so that neighbour and forwarding entries can name it before the device is there.
pub fn mac(n: u64) -> String {
    format!("0a:00:00:00:{:02x}:{:02x}", n >> 8, n & 0xff)
}
