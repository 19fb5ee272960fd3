//! Every network namespace of a node, found without a container runtime.
//!
//! A namespace lives as long as a process is in it, or a mount or a descriptor holds it: `/proc/*/ns/net` and the
//! `nsfs` mounts of the host show all of the first two. Its pod is told by the cgroup of its first process, the
//! pod's name by the folders kubelet keeps in `/var/log/pods`; what libcni and the runtime remember helps where these do not
//! tell. Descriptors are kept open, so a pod that ends
//! meanwhile can still be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::runtime;

/// A network namespace.
#[derive(Clone, Debug)]
pub struct Found {
    /// Inode of the namespace.
    pub inode: u64,
    /// Where it was opened.
    pub path: PathBuf,
    /// Held open.
    pub file: Arc<File>,
    /// UID of the pod in it (of a static pod: the hash of its manifest).
    pub pod_uid: Option<String>,
    /// Namespace and name of that pod, when kubelet's folders tell.
    pub pod: Option<(String, String)>,
    /// File name of the mount that holds it.
    pub name: Option<String>,
}

/// What a look around found.
#[derive(Debug)]
pub struct Discovery {
    /// The node's own namespace: that of process 1.
    pub host: Found,
    /// The others, pods first, in the order of their ids.
    pub others: Vec<Found>,
    /// What could not be looked into.
    pub notes: Vec<String>,
}

/// Looks around below a root (`/`, or where a test keeps its own).
///
/// # Errors
/// When even the node's own namespace cannot be opened.
pub fn discover(root: &Path) -> io::Result<Discovery> {
    let proc = root.join("proc");
    let mut notes = Vec::new();
    let host_path = [proc.join("1/ns/net"), proc.join("self/ns/net")];
    let host = match open(&host_path[0]) {
        Ok(host) => host,
        Err(e) => {
            notes.push(format!(
                "{}: {e}; the collector's own namespace is taken for the node's",
                host_path[0].display()
            ));
            open(&host_path[1])?
        }
    };
    let mut found: BTreeMap<u64, Found> = BTreeMap::new();
    let (mut hidden, mut taken) = (0, BTreeSet::new());
    for pid in pids(&proc) {
        let folder = proc.join(pid.to_string());
        let path = folder.join("ns/net");
        let inode = match fs::read_link(&path).map(|to| inode_of(&to.to_string_lossy())) {
            Ok(Some(inode)) => inode,
            // It ended meanwhile, or has no files (a kernel thread being reaped).
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Ok(None) | Err(_) => {
                hidden += 1;
                continue;
            }
        };
        if inode == host.inode || found.contains_key(&inode) {
            continue;
        }
        let Ok(mut one) = open(&path) else { continue };
        if one.inode != inode {
            continue;
        }
        // A pod's sandbox is its oldest process; what a container makes of its own inside is not the pod's.
        one.pod_uid = fs::read_to_string(folder.join("cgroup"))
            .ok()
            .and_then(|text| pod_uid(&text))
            .filter(|uid| taken.insert(uid.clone()));
        found.insert(inode, one);
    }
    if hidden > 0 {
        notes.push(format!(
            "{hidden} processes may not be looked into; namespaces only they are in are missing"
        ));
    }
    for mount in mounts(&proc) {
        let Ok(one) = open(&root.join(mount.strip_prefix("/").unwrap_or(&mount))) else {
            continue;
        };
        if one.inode == host.inode {
            continue;
        }
        let name = mount.file_name().map(|name| name.to_string_lossy().into_owned());
        found.entry(one.inode).or_insert(one).name = name;
    }
    let mut others: Vec<Found> = found.into_values().collect();
    name(&mut others, root);
    others.sort_by_cached_key(|one| (one.pod_uid.is_none(), one.id()));
    Ok(Discovery { host, others, notes })
}

/// Whose they are, and what those pods are called: kubelet's folders tell, else what others remember.
fn name(others: &mut [Found], root: &Path) {
    let names = pod_names(&root.join("var/log/pods"));
    let cached = runtime::by_mount(root);
    for one in &mut *others {
        // A namespace without a process of its own (a sandbox whose runtime starts no pause container).
        let remembered = one.name.as_ref().and_then(|name| cached.get(name));
        if one.pod_uid.is_none()
            && let Some(remembered) = remembered
        {
            one.pod_uid = Some(remembered.uid.clone()).filter(|uid| !uid.is_empty());
        }
        let by_uid = one.pod_uid.as_ref().and_then(|uid| names.get(uid).cloned());
        one.pod = by_uid.or_else(|| remembered.map(|remembered| remembered.pod.clone()));
    }
    let nameless = |one: &Found| one.pod_uid.is_some() && one.pod.is_none();
    if others.iter().any(nameless) {
        let names = runtime::by_uid(root);
        for one in others.iter_mut().filter(|one| nameless(one)) {
            one.pod = one.pod_uid.as_ref().and_then(|uid| names.get(uid).cloned());
        }
    }
}

/// Opens one namespace by the path of its file.
///
/// # Errors
/// What the system said.
pub fn open(path: &Path) -> io::Result<Found> {
    use std::os::linux::fs::MetadataExt as _;
    let file = File::open(path)?;
    Ok(Found {
        inode: file.metadata()?.st_ino(),
        path: path.to_owned(),
        file: Arc::new(file),
        pod_uid: None,
        pod: None,
        name: None,
    })
}

impl Found {
    /// A folder name that says whose it is: `default_web-0`, `pod-UID`, the name of its mount, or `net-INODE`.
    #[must_use]
    pub fn id(&self) -> String {
        let id = match (&self.pod, &self.pod_uid, &self.name) {
            (Some((namespace, name)), _, _) => format!("{namespace}_{name}"),
            (None, Some(uid), _) => format!("pod-{uid}"),
            (None, None, Some(name)) => name.clone(),
            (None, None, None) => format!("net-{}", self.inode),
        };
        id.chars()
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
                _ => '_',
            })
            .collect()
    }
}

pub(crate) fn pids(proc: &Path) -> BTreeSet<u32> {
    fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// `net:[4026531840]`
fn inode_of(link: &str) -> Option<u64> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Where the mounts of process 1, and of this one, hold a network namespace.
fn mounts(proc: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for process in ["1", "self"] {
        let text = fs::read_to_string(proc.join(process).join("mountinfo")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut words = before.split(' ').skip(3);
            let (root, point) = (words.next()?, words.next()?);
            let nsfs = after.starts_with("nsfs ") && root.starts_with("net:[");
            nsfs.then(|| PathBuf::from(point.replace("\\040", " ")))
        }));
    }
    found
}

/// The UID in `/kubepods/burstable/pod<uid>/<container>` or `...-pod<uid with _>.slice/...`.
fn pod_uid(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| {
        line.rsplit(':').next()?.split('/').find_map(|part| {
            let part = part.strip_suffix(".slice").unwrap_or(part);
            let at = part.rfind("pod").filter(|at| *at == 0 || part[..*at].ends_with('-'))?;
            let uid = part[at + 3..].replace('_', "-");
            let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
            let rest = uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            (rest && digits == 32).then_some(uid)
        })
    })
}

/// `NAMESPACE_NAME_UID`, as kubelet names the folders of its containers' logs.
fn pod_names(folder: &Path) -> BTreeMap<String, (String, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let mut parts = name.to_str()?.splitn(3, '_');
            let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
            Some((uid.to_owned(), (namespace.to_owned(), pod.to_owned())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_tells_the_pod() {
        let uid = "3f1c5b1e-8f0a-4b5e-9d2f-0123456789ab";
        for text in [
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-aa.scope\n",
                uid.replace('-', "_")
            ),
            format!(
                "0::/kubepods.slice/kubepods-pod{}.slice/crio-aa.scope\n",
                uid.replace('-', "_")
            ),
            format!("12:pids:/kubepods/besteffort/pod{uid}/aa\n1:name=systemd:/x\n"),
            format!("0::/../../pod{uid}/aa\n"),
        ] {
            assert_eq!(pod_uid(&text).as_deref(), Some(uid), "{text}");
        }
        assert_eq!(
            pod_uid("0::/kubepods/pod0123456789abcdef0123456789abcdef/aa\n").as_deref(),
            Some("0123456789abcdef0123456789abcdef"),
            "a static pod has a hash"
        );
        for text in [
            "0::/\n",
            "0::/system.slice/podman.service\n",
            "0::/user.slice/pod-tool\n",
            "",
        ] {
            assert_eq!(pod_uid(text), None, "{text}");
        }
    }

    #[test]
    fn kubelet_tells_the_name() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["kube-system_coredns-x_uid-1", "broken"] {
            fs::create_dir_all(root.path().join(name)).expect("a folder");
        }
        let names = pod_names(root.path());
        assert_eq!(names.len(), 1);
        assert_eq!(names["uid-1"], ("kube-system".to_owned(), "coredns-x".to_owned()));
    }

    #[test]
    fn this_machine_has_at_least_its_own_namespace() {
        let found = discover(Path::new("/")).expect("procfs");
        assert!(found.host.inode > 0);
        assert!(found.others.iter().all(|other| other.inode != found.host.inode));
    }
}
