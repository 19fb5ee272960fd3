//! `sysctl.txt`: `sysctl -a` restricted to `net.*`.

use std::collections::BTreeMap;

use std::sync::Arc;

use crate::fact::Problem;
use crate::lines;
use crate::row::Row;

/// The sysctls of one network namespace. Keys are as printed (`net.ipv4.conf.eth0.rp_filter`); an
/// interface name with a dot is printed by `sysctl` as `eth0/100`, which the reader turns back into a dot.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// Key to value and place.
    pub values: BTreeMap<String, (String, Row)>,
}

impl Sysctls {
    /// The value as text.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(v, _)| v.as_str())
    }

    /// The first number of the value.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key)?.split_whitespace().next()?.parse().ok()
    }
}

/// Reads `sysctl.txt`, and says which of its lines could not be read.
///
/// `sysctl` swaps `.` and `/` inside a name (`net.ipv4.conf.eth0/100.rp_filter`), and prints the path instead when
/// asked with one (`net/ipv4/conf/eth0.100/rp_filter`). Both become `net.ipv4.conf.eth0.100.rp_filter`.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> (Sysctls, Vec<Problem>) {
    let table = lines::table(artifact, bytes, |at, line, rows| {
        // Complaints of `sysctl`, when somebody kept both streams in one file.
        if line.starts_with("sysctl: ") {
            return Ok(());
        }
        let (key, value) = line.split_once('=').ok_or("a line without '='")?;
        rows.push((key.trim().replace('/', "."), value.trim().to_owned(), at));
        Ok(())
    });
    let values = table
        .rows
        .into_iter()
        .map(|(key, value, at)| (key, (value, at)))
        .collect();
    (Sysctls { values }, table.problems)
}
