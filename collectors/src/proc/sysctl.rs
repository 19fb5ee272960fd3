//! `sysctl.txt`: `sysctl -a` restricted to `net.*`.

use std::fs;
use std::io;
use std::path::Path;

/// Keys, not settings.
const SECRETS: &[&str] = &["stable_secret", "tcp_fastopen_key"];
/// What `sysctl -a` leaves out: the same values are there in milliseconds.
const DEPRECATED: &[&str] = &["base_reachable_time", "retrans_time"];

/// The sysctls of this thread's namespace, in the order of their names.
///
/// # Errors
/// When `/proc/sys/net` cannot be listed. A single one that cannot be read is left out, as `sysctl -a` does:
/// some can only be written.
pub fn read(limit: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    folder(Path::new("/proc/sys/net"), "net", limit, &mut out)?;
    Ok(out)
}

fn folder(path: &Path, key: &str, limit: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(path)?.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A dot in an interface's name is printed as a slash, for the dot divides the key.
        let key = format!("{key}.{}", name.replace('.', "/"));
        if entry.file_type()?.is_dir() {
            folder(&entry.path(), &key, limit, out)?;
        } else if !SECRETS.contains(&&*name)
            && !DEPRECATED.contains(&&*name)
            && let Ok(value) = fs::read(entry.path())
        {
            let value = value.strip_suffix(b"\n").unwrap_or(&value);
            for line in value.split(|b| *b == b'\n') {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b" = ");
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
        if out.len() as u64 > limit {
            return Err(io::Error::other("larger than the limit"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_namespace_has_sysctls_and_no_keys_among_them() {
        let text = String::from_utf8(super::read(1 << 24).expect("procfs")).expect("text");
        assert!(text.contains("net.ipv4.conf.lo.rp_filter = "), "{text}");
        assert!(!text.contains("stable_secret") && !text.contains("fastopen_key"));
        assert!(super::read(100).is_err(), "a limit is a limit");
    }
}
