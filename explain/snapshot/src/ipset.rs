//! `ipset.save`: `ipset save`.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::lines;
use crate::row::{Row, Table};

/// One set with its members, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpSet {
    /// Where the `create` line stands.
    pub at: Row,
    /// Name.
    pub name: String,
    /// Type, e.g. `hash:ip,port,net`.
    pub kind: String,
    /// Options of the `create` line after the type, as written, in order (`family inet`, `timeout 600`, ...).
    pub options: Vec<String>,
    /// The members.
    pub members: Vec<Member>,
}

/// One `add` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where the line stands.
    pub at: Row,
    /// The entry as written (`10.0.0.0/8,tcp:80,10.1.2.3`).
    pub entry: String,
    /// What follows the entry, as written (`nomatch`, `timeout 30`, `skbmark ...`, `before X`).
    pub options: Vec<String>,
}

/// Reads the artifact.
///
/// `ipset save` does not quote a set's name that holds spaces, so a `create` line is split at the type and an
/// `add` line at the longest name created before.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<IpSet> {
    // For look-ups only.
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut spaced = Vec::new();
    lines::table(artifact, bytes, |at, line, rows: &mut Vec<IpSet>| {
        let (verb, rest) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        match verb {
            "create" | "-N" => {
                let set = create(at, rest).ok_or("a set without a type")?;
                if by_name.contains_key(&set.name) {
                    return Err("a set created twice");
                }
                if set.name.contains(' ') {
                    spaced.push(set.name.clone());
                    spaced.sort_by_key(|name| std::cmp::Reverse(name.len()));
                }
                by_name.insert(set.name.clone(), rows.len());
                rows.push(set);
                Ok(())
            }
            "add" | "-A" => {
                let (name, rest) = spaced
                    .iter()
                    .find_map(|name| Some((name.as_str(), rest.strip_prefix(name.as_str())?.strip_prefix(' ')?)))
                    .or_else(|| rest.split_once(' '))
                    .ok_or("a member without an entry")?;
                let set = by_name
                    .get(name)
                    .and_then(|i| rows.get_mut(*i))
                    .ok_or("a member of a set that was not created")?;
                let mut words = words(rest).into_iter();
                let entry = words.next().ok_or("a member without an entry")?;
                set.members.push(Member {
                    at,
                    entry,
                    options: words.collect(),
                });
                Ok(())
            }
            // `-o save` of old versions, or a file made for `ipset restore`.
            "COMMIT" | "flush" | "destroy" => Ok(()),
            _ => Err("neither create nor add"),
        }
    })
}

fn create(at: Row, rest: &str) -> Option<IpSet> {
    let is_type = |word: &str| {
        ["bitmap:", "hash:", "list:"]
            .iter()
            .any(|method| word.strip_prefix(method).is_some_and(|keys| !keys.is_empty()))
    };
    let mut start = 0;
    loop {
        let word = rest[start..].split(' ').next()?;
        if start > 0 && is_type(word) {
            let name = rest[..start - 1].to_owned();
            let options = words(&rest[start + word.len()..]);
            return Some(IpSet {
                at,
                name,
                kind: word.to_owned(),
                options,
                members: Vec::new(),
            });
        }
        start += word.len() + 1;
        if start >= rest.len() {
            return None;
        }
    }
}

/// Words at spaces; `comment "two words"` is one word without its quotes. `ipset` allows no quote inside.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, next) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = next.trim_start();
    }
    words
}
