//! Sysctls as the kernel applies them: `conf.all` and the device's own combined per key.

use knet_snapshot::artifact::name;
use knet_snapshot::store::NetnsFacts;

use crate::trace::Evidence;

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

    /// The captured rows behind the value in force of a key: its own; that of `conf.all`, which the kernel
    /// combines with a device's; and `ip_forward`, by which every device's `forwarding` is written.
    #[must_use]
    pub fn evidence(&self, key: &str) -> Vec<Evidence> {
        let mut keys = vec![key.to_owned()];
        if let Some((dev, field)) = key.strip_prefix("net.ipv4.conf.").and_then(|k| k.rsplit_once('.')) {
            if field == "forwarding" {
                keys.push("net.ipv4.ip_forward".to_owned());
            } else if dev != "all" {
                keys.push(format!("net.ipv4.conf.all.{field}"));
            }
        }
        keys.iter().filter_map(|key| self.row(key)).collect()
    }

    fn row(&self, key: &str) -> Option<Evidence> {
        let (_, at) = self.facts.sysctls().get()?.values.get(key)?;
        let bytes = self.facts.bytes(name::SYSCTL).get().copied().unwrap_or_default();
        let start = usize::try_from(at.start).ok()?;
        let row = bytes.get(start..start.checked_add(at.len as usize)?)?;
        Some(Evidence {
            artifact: self.facts.path(name::SYSCTL),
            at: *at,
            handle: None,
            text: String::from_utf8_lossy(row).into(),
        })
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
