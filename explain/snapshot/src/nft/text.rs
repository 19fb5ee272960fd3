//! `nft.txt`: the lines of `nft -a list ruleset` by handle, and what the JSON form leaves out.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::row::Row;

/// `nft -a list ruleset`, indexed.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Path of the artifact.
    pub artifact: Arc<str>,
    /// Tables in file order.
    pub tables: Vec<TableText>,
}

/// One table of the listing.
#[derive(Clone, Debug, Default)]
pub struct TableText {
    /// Family.
    pub family: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `flags dormant`: its chains are not registered.
    pub dormant: bool,
    /// Base chain declarations.
    pub chains: Vec<ChainText>,
    /// Of rules, base chains and sets: a table gives a handle once.
    by_handle: HashMap<u64, (Row, Box<str>)>,
}

/// A base chain's declaration.
#[derive(Clone, Debug, Default)]
pub struct ChainText {
    /// Name.
    pub name: Box<str>,
    /// Devices of a netdev chain.
    pub devices: Vec<Box<str>>,
}

impl Listing {
    /// A table.
    #[must_use]
    pub fn table(&self, family: &str, name: &str) -> Option<&TableText> {
        self.tables.iter().find(|t| &*t.family == family && &*t.name == name)
    }
}

impl TableText {
    /// The rule with a handle: its place, and its text on one line without the handle. Of a base chain it is the
    /// line with hook and policy, of a set the line with its name.
    #[must_use]
    pub fn by_handle(&self, handle: u64) -> Option<(Row, &str)> {
        self.by_handle.get(&handle).map(|(row, text)| (*row, &**text))
    }
}

/// Reads `nft.txt`. Lines it does not understand are passed over: nothing is decided by them.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Listing {
    let mut listing = Listing {
        artifact,
        tables: Vec::new(),
    };
    let mut chain = false;
    // Of the chain that is being read.
    let mut chain_handle = None;
    // Text and start of a rule that goes on over several lines.
    let mut open: Option<(u64, String)> = None;
    let mut start = 0_u64;
    for raw in bytes.split_inclusive(|&b| b == b'\n') {
        let at = start;
        start += raw.len() as u64;
        let line = String::from_utf8_lossy(raw);
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("table ").filter(|_| raw.starts_with(b"table ")) {
            let mut words = rest.split_whitespace();
            let (family, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            listing.tables.push(TableText {
                family: family.into(),
                name: name.into(),
                ..TableText::default()
            });
            (chain, open) = (false, None);
            continue;
        }
        let Some(table) = listing.tables.last_mut() else {
            continue;
        };
        if raw.starts_with(b"\t\t") && chain {
            if open.is_none() && line.starts_with("type ") && line.contains(" hook ") {
                if let Some(chain) = table.chains.last_mut() {
                    chain.devices = devices(line);
                    if let Some(handle) = chain_handle {
                        let text = format!("chain {} {{ {line} }}", chain.name);
                        table.by_handle.insert(handle, (trimmed(raw, at), text.into()));
                    }
                }
                continue;
            }
            let end = at + raw.trim_ascii_end().len() as u64;
            let (from, mut text) = open.take().unwrap_or_else(|| (trimmed(raw, at).start, String::new()));
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(line);
            match text
                .rsplit_once(" # handle ")
                .and_then(|(head, n)| Some((head, n.parse::<u64>().ok()?)))
            {
                Some((head, handle)) => {
                    let row = Row {
                        start: from,
                        len: u32::try_from(end - from).unwrap_or(u32::MAX),
                    };
                    table.by_handle.insert(handle, (row, head.into()));
                }
                None => open = Some((from, text)),
            }
        } else if raw.starts_with(b"\t") {
            open = None;
            let (head, handle) = match line.rsplit_once(" { # handle ") {
                Some((head, handle)) => (head, handle.parse::<u64>().ok()),
                None => (line, None),
            };
            if let Some(rest) = line.strip_prefix("chain ") {
                let name = rest.split_whitespace().next().unwrap_or_default();
                table.chains.push(ChainText {
                    name: name.into(),
                    devices: Vec::new(),
                });
                (chain, chain_handle) = (true, handle);
            } else if let Some(handle) = handle {
                table.by_handle.insert(handle, (trimmed(raw, at), head.into()));
                chain = false;
            } else if line == "}" || line.ends_with('{') {
                chain = false;
            } else if line.starts_with("flags ") && line.contains("dormant") {
                table.dormant = true;
            }
        }
    }
    listing
}

/// A line without the blanks around it.
fn trimmed(raw: &[u8], at: u64) -> Row {
    Row {
        start: at + (raw.len() - raw.trim_ascii_start().len()) as u64,
        len: u32::try_from(raw.trim_ascii().len()).unwrap_or(u32::MAX),
    }
}

/// `device "eth0"`, `device eth0` or `devices = { eth0, eth1 }`.
fn devices(line: &str) -> Vec<Box<str>> {
    let list = match (line.split_once(" devices = {"), line.split_once(" device ")) {
        (Some((_, rest)), _) => rest.split('}').next().unwrap_or_default(),
        (None, Some((_, rest))) => rest.split_whitespace().next().unwrap_or_default(),
        (None, None) => return Vec::new(),
    };
    list.split(',')
        .map(|d| d.trim().trim_matches(['"', ';']))
        .filter(|d| !d.is_empty())
        .map(Into::into)
        .collect()
}
