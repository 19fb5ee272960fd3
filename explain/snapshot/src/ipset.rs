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
/// `add` line at the longest name of a set. Members may stand before their set.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<IpSet> {
    // For look-ups only.
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut adds = Vec::new();
    let mut table = lines::table(artifact, bytes, |at, line, rows: &mut Vec<IpSet>| {
        match split_verb(line) {
            ("create" | "-N", rest) => {
                let set = create(at, rest).ok_or("a set without a type")?;
                if by_name.contains_key(&set.name) {
                    return Err("a set created twice");
                }
                by_name.insert(set.name.clone(), rows.len());
                rows.push(set);
                Ok(())
            }
            ("add" | "-A", _) => {
                adds.push(at);
                Ok(())
            }
            // `-o save` of old versions, or a file made for `ipset restore`.
            ("COMMIT" | "flush" | "destroy", _) => Ok(()),
            _ => Err("neither create nor add"),
        }
    });
    for at in adds {
        let line = lines::text(bytes, at);
        let (_, rest) = split_verb(&line);
        let Some((name, member)) = owner(rest, &by_name) else {
            table.problem(
                at.start,
                format!("a member of no set in the file: {}", lines::excerpt(&line)),
            );
            continue;
        };
        let mut words = words(member).into_iter();
        match (words.next(), by_name.get(name).and_then(|i| table.rows.get_mut(*i))) {
            (Some(entry), Some(set)) => set.members.push(Member {
                at,
                entry,
                options: words.collect(),
            }),
            _ => table.problem(
                at.start,
                format!("a member without an entry: {}", lines::excerpt(&line)),
            ),
        }
    }
    table
}

fn split_verb(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    line.split_once(' ').unwrap_or((line, ""))
}

/// Splits `NAME ENTRY ...` at the longest name that is a set's. The kernel allows 31 bytes for a name.
fn owner<'a>(rest: &'a str, by_name: &HashMap<String, usize>) -> Option<(&'a str, &'a str)> {
    let spaces = rest
        .bytes()
        .take(33)
        .enumerate()
        .filter(|(_, byte)| *byte == b' ')
        .map(|(i, _)| i);
    let ends: Vec<usize> = spaces.collect();
    ends.into_iter()
        .rev()
        .map(|end| (&rest[..end], &rest[end + 1..]))
        .find(|(name, _)| by_name.contains_key(*name))
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
