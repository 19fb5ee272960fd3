//! Sysctls as the kernel applies them: `conf.all` and the device's own combined per key.

use knet_snapshot::store::NetnsFacts;

/// Reads sysctls of one namespace. Every getter returns `None` when the value was not captured.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl<'s> {
    facts: &'s NetnsFacts,
}

impl<'s> Sysctl<'s> {
    /// A view of a namespace's sysctls.
    #[must_use]
    pub const fn new(facts: &'s NetnsFacts) -> Self {
        Self { facts }
    }

    /// A key as it stands.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<i64> {
        self.facts.sysctls().get()?.number(key)
    }

    /// `net.ipv4.conf.{all,DEV}.KEY`, the larger of the two (`IN_DEV_MAXCONF`: `rp_filter`, `arp_ignore`,
    /// `arp_announce`).
    #[must_use]
    pub fn conf4_max(&self, dev: &str, key: &str) -> Option<i64> {
        let all = self.get(&format!("net.ipv4.conf.all.{key}"));
        let own = self.get(&format!("net.ipv4.conf.{dev}.{key}"));
        match (all, own) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        }
    }

    /// `all` or the device's own (`IN_DEV_ORCONF`: `proxy_arp`, `route_localnet`, `arp_filter`,
    /// `src_valid_mark`, ...).
    #[must_use]
    pub fn conf4_or(&self, dev: &str, key: &str) -> Option<bool> {
        let all = self.get(&format!("net.ipv4.conf.all.{key}")).map(|v| v != 0);
        let own = self.get(&format!("net.ipv4.conf.{dev}.{key}")).map(|v| v != 0);
        match (all, own) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// The device's own value only (`IN_DEV_CONF_GET`: `forwarding`, `bc_forwarding`).
    #[must_use]
    pub fn conf4(&self, dev: &str, key: &str) -> Option<i64> {
        self.get(&format!("net.ipv4.conf.{dev}.{key}"))
    }

    /// `net.ipv6.conf.DEV.KEY`
    #[must_use]
    pub fn conf6(&self, dev: &str, key: &str) -> Option<i64> {
        self.get(&format!("net.ipv6.conf.{dev}.{key}"))
    }
}
