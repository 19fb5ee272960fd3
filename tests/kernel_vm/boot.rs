//! A throw-away machine with Debian's own kernel: unpacked from its package, started in QEMU.
//!
//! The guest sees this machine's files, read-only, and runs the very test binary in them. Nothing of it outlives
//! the test but the unpacked package under the target directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the scenarios need of the kernel, and how the guest reaches files. The checksum comes first: others look for it
/// when they start, and nothing loads it for them.
const MODULES: &str = "\
    crc32c_generic 9p 9pnet_virtio virtio_pci veth bridge br_netfilter dummy 8021q macvlan ipvlan \
    vrf vxlan geneve wireguard ipip ip_gre ip6_gre sit ip6_tunnel fou xfrm_user xfrm_interface xfrm4_tunnel esp4 \
    esp6 crypto_null authenc echainiv sha512_generic drbg \
    ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_dh ip_vs_mh ip_vs_sed ip_vs_nq ip_vs_lblc \
    ip_vs_lblcr ip_vs_fo ip_vs_ovf ip_vs_ftp nf_conntrack nf_conntrack_netlink nf_conntrack_ftp nf_nat \
    nf_nat_ftp xt_nat xt_MASQUERADE xt_REDIRECT xt_mark xt_connmark xt_conntrack xt_comment xt_tcpudp \
    xt_multiport xt_addrtype xt_set xt_ipvs xt_TCPMSS xt_statistic xt_policy xt_CT xt_physdev xt_owner xt_iprange xt_mac \
    xt_state ip_tables iptable_filter iptable_nat iptable_mangle iptable_raw ip6_tables ip6table_filter \
    ip6table_nat ip6table_mangle ip6table_raw iptable_security ip6table_security nf_tables nft_compat nft_chain_nat nft_ct nft_nat nft_masq \
    nft_reject nft_reject_bridge nft_meta_bridge nf_conntrack_bridge ip_set ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet \
    ip_set_hash_net ip_set_bitmap_port ipt_REJECT ip6t_REJECT inet_diag tcp_diag udp_diag raw_diag netlink_diag";

/// What starts the guest: modules, this machine's files, the test.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in $(cat /order); do insmod /modules/$m.ko 2>/dev/null || echo VM-NO-MODULE $m; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host || { echo VM-EXIT 90; reboot -f; }
mount -t proc proc /host/proc; mount -t sysfs sys /host/sys; mount --bind /dev /host/dev
mount -t tmpfs tmpfs /host/tmp; mount -t tmpfs tmpfs /host/run; mkdir -p /host/run/netns /host/run/lock
mkdir /host/tmp/suite
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose suite /host/tmp/suite || { echo VM-EXIT 91; reboot -f; }
ip link set lo up 2>/dev/null || ifconfig lo up
echo VM-UP $(cut -d' ' -f1 /proc/uptime) $(uname -r)
chroot /host /bin/sh -c "PATH=/usr/sbin:/usr/bin:/sbin:/bin $(cat /command)"
echo VM-EXIT $?
reboot -f
"#;

/// Programs that are needed to make and start one.
pub fn missing() -> Option<&'static str> {
    let programs = [
        "qemu-system-x86_64",
        "cpio",
        "dpkg-deb",
        "apt-get",
        "apt-cache",
        "busybox",
    ];
    programs.into_iter().find(|program| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        !found.is_ok_and(|o| o.status.success())
    })
}

/// Where the kernel is unpacked.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm")
}

/// The kernel's package: downloaded once.
fn package(folder: &Path) -> Result<PathBuf, String> {
    let unpacked = folder.join("kernel");
    if unpacked.join("boot").is_dir() {
        return Ok(unpacked);
    }
    let depends = output("apt-cache", &["depends", "linux-image-amd64"], folder)?;
    let name = depends
        .lines()
        .find_map(|l| l.trim().strip_prefix("Depends: "))
        .filter(|n| n.starts_with("linux-image-"))
        .ok_or("apt knows no linux-image-amd64")?
        .to_owned();
    output("apt-get", &["download", "-q", &name], folder)?;
    let deb = fs::read_dir(folder)
        .map_err(|e| e.to_string())?
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .ok_or("no package was downloaded")?;
    let half = folder.join("kernel.half");
    let _ = fs::remove_dir_all(&half);
    output(
        "dpkg-deb",
        &["-x", &deb.to_string_lossy(), &half.to_string_lossy()],
        folder,
    )?;
    fs::rename(&half, &unpacked).map_err(|e| e.to_string())?;
    let _ = fs::remove_file(deb);
    Ok(unpacked)
}

fn output(program: &str, args: &[&str], dir: &Path) -> Result<String, String> {
    let out = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr)))
    }
}

/// Every module file by the name that dependencies use.
fn modules(dir: &Path, all: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            modules(&path, all);
        } else if let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".ko")) {
            all.insert(name.replace('-', "_"), path.clone());
        }
    }
}

/// What a module says it depends on (`depends=` of its `.modinfo`).
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|w| w == KEY) else {
        return Vec::new();
    };
    let rest = &module[at + KEY.len()..];
    let end = rest.iter().position(|&b| b == 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&rest[..end]);
    text.split(',')
        .filter(|n| !n.is_empty())
        .map(|n| n.replace('-', "_"))
        .collect()
}

/// The loader of programs that need libraries.
const DYNAMIC: &[u8] = b"/ld-linux";

/// The kernel and what it starts from.
fn guest(command: &str) -> Result<(PathBuf, PathBuf), String> {
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let kernel = package(&folder)?;
    let root = folder.join("root");
    let _ = fs::remove_dir_all(&root);
    for dir in ["bin", "proc", "sys", "dev", "host", "modules"] {
        fs::create_dir_all(root.join(dir)).map_err(|e| e.to_string())?;
    }
    let mut all = BTreeMap::new();
    modules(&kernel.join("lib/modules"), &mut all);
    let mut order: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for name in MODULES.split_whitespace() {
        place(name, &all, &root, &mut seen, &mut order)?;
    }
    let busybox = output("sh", &["-c", "command -v busybox"], &folder)?;
    let busybox = fs::read(busybox.trim()).map_err(|e| e.to_string())?;
    if busybox.windows(DYNAMIC.len()).any(|w| w == DYNAMIC) {
        return Err("busybox needs libraries: install busybox-static".to_owned());
    }
    let inside = root.join("bin/busybox");
    fs::write(&inside, busybox).map_err(|e| e.to_string())?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    for (name, text) in [("init", INIT), ("order", &order.join("\n")), ("command", command)] {
        fs::write(root.join(name), text).map_err(|e| e.to_string())?;
    }
    output("chmod", &["755", "init"], &root)?;
    let image = folder.join("initramfs");
    let pack = format!("find . | cpio -o -H newc -R 0:0 --quiet > {}", image.display());
    output("sh", &["-c", &pack], &root)?;
    let boot = kernel.join("boot");
    let linux = fs::read_dir(&boot)
        .map_err(|e| e.to_string())?
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz"))
        })
        .ok_or("the package holds no kernel")?;
    Ok((linux, image))
}

/// A module and before it what it needs. What is not there is built in.
fn place(
    name: &str,
    all: &BTreeMap<String, PathBuf>,
    root: &Path,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> Result<(), String> {
    let Some(path) = all.get(name).filter(|_| seen.insert(name.to_owned())) else {
        return Ok(());
    };
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    for needed in depends(&bytes) {
        place(&needed, all, root, seen, order)?;
    }
    fs::write(root.join("modules").join(format!("{name}.ko")), bytes).map_err(|e| e.to_string())?;
    order.push(name.to_owned());
    Ok(())
}

/// Where the guest finds the files beside the test: a file system of its own lies over this machine's temporary one,
/// which may hold the project.
pub const SUITE: &str = "/tmp/suite";

/// Runs a command inside, with a folder at [`SUITE`]. Returns the lines it printed, and its exit code; `None` when it did not come to an end in time.
pub fn run(command: &str, suite: &Path, time: Duration) -> Result<(Vec<String>, Option<i32>), String> {
    let (kernel, image) = guest(command)?;
    let append = "console=ttyS0 panic=-1 quiet loglevel=3 tsc=reliable no_timer_check nokaslr mitigations=off \
                  random.trust_cpu=on cryptomgr.notests audit=0 apparmor=0 rdinit=/init";
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg,thread=multi,tb-size=256",
            "-cpu",
            "qemu64",
            "-machine",
            "pc,hpet=off",
        ])
        .args([
            "-smp",
            "2",
            "-m",
            "1024",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-serial", "stdio", "-append", append])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            "-virtfs",
        ])
        .arg(format!(
            "local,path={},mount_tag=suite,security_model=none,readonly=on,multidevs=remap",
            suite.display()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("qemu-system-x86_64: {e}"))?;
    let console = child.stdout.take().ok_or("no console")?;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(console);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if send.send(text).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + time;
    let mut lines = Vec::new();
    let mut code = None;
    while let Ok(line) = receive.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if std::env::var_os("KNET_VERBOSE").is_some() {
            let _ = writeln!(std::io::stdout().lock(), "vm: {line}");
        }
        if let Some(rc) = line.strip_prefix("VM-EXIT ") {
            code = rc.trim().parse().ok();
            break;
        }
        lines.push(line);
    }
    let _ = child.kill();
    // What QEMU itself has to say is the last word on a machine that did not start.
    if let Ok(out) = child.wait_with_output() {
        lines.extend(
            String::from_utf8_lossy(&out.stderr)
                .lines()
                .map(|line| format!("qemu: {line}")),
        );
    }
    Ok((lines, code))
}
