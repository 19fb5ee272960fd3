//! `kubectl knet node-collect`

use crate::args::NodeCollectArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Captures this node.
#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &NodeCollectArgs, _: &Console) -> Result<Exit, Failure> {
    Err(Failure::message("node-collect runs on a Linux node").hint("`kubectl knet collect` runs anywhere"))
}

#[cfg(target_os = "linux")]
pub(super) use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use anyhow::Context;
    use knet_collectors::node::{self, NodeOptions};
    use knet_collectors::{Bundle, Limits};

    use super::{Console, Exit, Failure, NodeCollectArgs};
    use crate::archive::Writer;

    pub(in crate::commands) fn run(args: &NodeCollectArgs, console: &Console) -> Result<Exit, Failure> {
        let name = args.node.clone().unwrap_or_else(hostname);
        if !is_folder_name(&name) {
            return Err(Failure::message(format!("{name:?} is not a node's name")).hint("pass --node NAME"));
        }
        // Opened before the root changes, so that it lies where the caller means it.
        let failed = || format!("{}", args.file.display());
        let mut writer = Writer::create(&args.file).with_context(failed).map_err(Failure::new)?;
        let options = NodeOptions {
            limits: Limits {
                time: Duration::from_secs(args.table_timeout),
                bytes: args.table_size << 20,
            },
            time: Duration::from_secs(args.timeout),
            parallel: args.parallel.into(),
            host: args.host_netns.clone(),
            only: (args.host_only || !args.netns.is_empty()).then(|| args.netns.clone()),
            ..NodeOptions::new(&name)
        };
        let root = Root::enter(args.host_root.as_deref(), console)?;
        let bundle = node::collect(&options)
            .context("the node's network namespace")
            .map_err(Failure::new);
        root.leave()?;
        let bundle = bundle?;
        for (path, bytes) in bundle.to_files() {
            writer.add(&path, &bytes).with_context(failed).map_err(Failure::new)?;
        }
        writer.finish().with_context(failed).map_err(Failure::new)?;
        report(&bundle, console);
        Ok(Exit::Delivered)
    }

    /// This process in the root of the host, as long as it takes.
    struct Root(Option<File>);

    impl Root {
        fn enter(asked: Option<&Path>, console: &Console) -> Result<Self, Failure> {
            let other = match asked {
                Some(root) => Some(root.to_owned()),
                None => host_root(),
            };
            let Some(root) = other else { return Ok(Self(None)) };
            let back = File::open("/").context("/").map_err(Failure::new)?;
            let entered = rustix::process::chroot(&root).and_then(|()| rustix::process::chdir("/"));
            match entered {
                Ok(()) => Ok(Self(Some(back))),
                Err(e) if asked.is_none() => {
                    console.warn(&format!("{}: {e}; the tools of this image are used", root.display()));
                    Ok(Self(None))
                }
                Err(e) => Err(Failure::from(std::io::Error::from(e)).hint("CAP_SYS_CHROOT is needed")),
            }
        }

        fn leave(self) -> Result<(), Failure> {
            if let Some(back) = self.0 {
                rustix::process::fchdir(&back)
                    .and_then(|()| rustix::process::chroot("."))
                    .map_err(std::io::Error::from)?;
            }
            Ok(())
        }
    }

    /// The root of process 1, when its mounts are not ours: then we are in a container.
    fn host_root() -> Option<PathBuf> {
        let ours = fs::read_link("/proc/self/ns/mnt").ok()?;
        let theirs = fs::read_link("/proc/1/ns/mnt").ok()?;
        let root = PathBuf::from("/proc/1/root");
        (ours != theirs && root.join("proc").exists()).then_some(root)
    }

    fn hostname() -> String {
        fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    }

    /// It becomes a folder of the snapshot.
    fn is_folder_name(name: &str) -> bool {
        !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0'])
    }

    /// What was read, and what could not be, by reason.
    fn report(bundle: &Bundle, console: &Console) {
        let tables = bundle.captured().filter(|c| c.content.is_ok()).count();
        let pods = bundle
            .spaces
            .iter()
            .filter(|space| space.entry.as_ref().is_some_and(|entry| !entry["pod"].is_null()));
        console.note(&format!(
            "{}: {} network namespaces, {} of pods; {tables} tables",
            bundle.node,
            bundle.spaces.len(),
            pods.count()
        ));
        for note in &bundle.notes {
            console.warn(note);
        }
        let mut missing: BTreeMap<(String, &str), usize> = BTreeMap::new();
        for c in bundle.captured() {
            if let Err((reason, detail)) = &c.content
                && !reason.means_empty()
            {
                *missing.entry((c.entry.path.clone(), detail)).or_default() += 1;
            }
        }
        for ((artifact, detail), count) in missing {
            let times = if count > 1 {
                format!(" ({count} times)")
            } else {
                String::new()
            };
            console.warn(&format!("could not get {artifact}: {detail}{times}"));
        }
    }
}
