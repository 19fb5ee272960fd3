//! Would a question to the kernel load a module?
//!
//! The kernel loads what a netlink subsystem or socket family needs when somebody asks for it. Where the module
//! is not there yet, it holds no state either, so there is nothing to ask for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the kernel has without loading anything.
#[derive(Clone, Debug)]
pub struct Modules {
    /// `None`: this kernel loads no modules (built without them, or `modules_disabled`).
    loadable: Option<BTreeSet<String>>,
    sys: PathBuf,
}

impl Modules {
    /// Looks at `/proc/modules`, `/sys/module` and the list of what is built in.
    #[must_use]
    pub fn look() -> Self {
        Self::look_in(Path::new("/"))
    }

    fn look_in(root: &Path) -> Self {
        let sys = root.join("sys/module");
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let disabled = read("proc/sys/kernel/modules_disabled").is_some_and(|text| text.trim() == "1");
        let Some(loaded) = read("proc/modules").filter(|_| !disabled) else {
            return Self { loadable: None, sys };
        };
        let mut there: BTreeSet<String> = loaded
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect();
        let release = read("proc/sys/kernel/osrelease").unwrap_or_default();
        let builtin = format!("lib/modules/{}/modules.builtin", release.trim());
        for line in read(&builtin).unwrap_or_default().lines() {
            let name = line.rsplit('/').next().unwrap_or_default();
            there.insert(name.trim_end_matches(".ko").replace('-', "_"));
        }
        Self {
            loadable: Some(there),
            sys,
        }
    }

    /// The first of these modules that asking would load.
    #[must_use]
    pub fn would_load<'m>(&self, modules: &[&'m str]) -> Option<&'m str> {
        let there = self.loadable.as_ref()?;
        modules
            .iter()
            .copied()
            // What is built in has a folder in /sys/module only when it has parameters.
            .find(|name| !there.contains(*name) && !self.sys.join(name).exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_may_be_asked() {
        let root = tempfile::tempdir().expect("a directory");
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        file("proc/modules", "nf_tables 1 2 - Live 0x0\n");
        file("proc/sys/kernel/osrelease", "6.1.0\n");
        file(
            "lib/modules/6.1.0/modules.builtin",
            "kernel/net/netfilter/nf-conntrack-netlink.ko\n",
        );
        file("sys/module/tcp_diag/refcnt", "0\n");
        let modules = Modules::look_in(root.path());
        assert_eq!(
            modules.would_load(&["nf_tables", "nf_conntrack_netlink", "tcp_diag"]),
            None
        );
        assert_eq!(modules.would_load(&["nf_tables", "ip_set"]), Some("ip_set"));
        file("proc/sys/kernel/modules_disabled", "1\n");
        assert_eq!(Modules::look_in(root.path()).would_load(&["ip_set"]), None);
        let none = tempfile::tempdir().expect("a directory");
        assert_eq!(Modules::look_in(none.path()).would_load(&["ip_set"]), None);
    }
}
