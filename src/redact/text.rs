//! Addresses and names in the text of an artifact, token by token.

use std::net::IpAddr;

use super::Redaction;

/// What in a text cannot be told under a map that keeps prefixes and not order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untellable {
    /// The token.
    pub token: String,
    /// Why.
    pub why: &'static str,
}

/// Replaces every address, and every name where a name can stand: beside a slash (`shop/web:http`, a path, a chain
/// of kube-proxy) and in a comment. A name may be a word of the format elsewhere.
pub(super) fn map(text: &str, redaction: &Redaction, untellable: &mut Vec<Untellable>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut comment = Comment::default();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            let c = rest.chars().next().unwrap_or_default();
            comment.meets(c, &out);
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        // `http__10.244.0.5`, in the names of kube-proxy's nftables chains.
        let end = rest[..end].find("__").map_or(end, |at| if at == 0 { 2 } else { at });
        let (token, after) = rest.split_at(end);
        let named = comment.inside || out.ends_with('/') || after.starts_with('/');
        match addresses(token, after, redaction, untellable) {
            Some(mapped) => out.push_str(&mapped),
            None => word(token, named, redaction, &mut out),
        }
        rest = after;
    }
    out
}

const fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-' | '_')
}

/// Keys before a text in quotes that may hold names: of rules, and of `ip`, which knows named namespaces.
const NAMED: &[&str] = &["comment", "link_netns", "ifalias"];

/// Whether the text is inside `comment "..."`, as iptables, nft and its JSON write one.
#[derive(Default)]
struct Comment {
    inside: bool,
}

impl Comment {
    fn meets(&mut self, c: char, before: &str) {
        match c {
            '"' if self.inside && before.ends_with('\\') => {}
            '"' if self.inside => self.inside = false,
            '"' => {
                let before = before.trim_end_matches([' ', ':', '"']);
                self.inside = NAMED.iter().any(|key| before.ends_with(key));
            }
            '\n' => self.inside = false,
            _ => {}
        }
    }
}

/// A token that is an address, one with a port, or two with a dash between.
fn addresses(token: &str, after: &str, redaction: &Redaction, untellable: &mut Vec<Untellable>) -> Option<String> {
    if let Some(mac) = mac(token) {
        let mapped = redaction.addresses.map_mac(mac);
        return Some(mapped.map(|b| format!("{b:02x}")).join(":"));
    }
    if let Ok(addr) = token.parse::<IpAddr>() {
        let refuse = |why, untellable: &mut Vec<Untellable>| {
            untellable.push(Untellable {
                token: token.to_owned(),
                why,
            });
        };
        return Some(match length(after, addr) {
            Length::None => redaction.addresses.map(addr).to_string(),
            Length::Prefix(len) => redaction.addresses.map_network(addr, len).to_string(),
            Length::Odd => {
                refuse("a mask that is no prefix", untellable);
                redaction.addresses.map(addr).to_string()
            }
        });
    }
    if let Some((first, last)) = token.split_once('-')
        && let (Ok(first), Ok(last)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>())
    {
        if first != last {
            untellable.push(Untellable {
                token: token.to_owned(),
                why: "a range of addresses",
            });
        }
        let map = |addr| redaction.addresses.map(addr);
        return Some(format!("{}-{}", map(first), map(last)));
    }
    // `10.0.0.1:80`, `10.0.0.1:80-90`; an IPv6 address stands in brackets there.
    let (addr, port) = token.split_once(':')?;
    let addr: std::net::Ipv4Addr = addr.parse().ok()?;
    Some(format!("{}:{port}", redaction.addresses.map(addr.into())))
}

enum Length {
    None,
    Prefix(u8),
    Odd,
}

/// `/24`, `/255.255.255.0`, or the `"len": 24` beside an address in JSON.
fn length(after: &str, addr: IpAddr) -> Length {
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<u8>().ok().filter(|len| *len <= most)
    };
    if let Some(rest) = after.strip_prefix('/') {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if let Ok(IpAddr::V4(mask)) = rest[..end].parse::<IpAddr>() {
            let ones = mask.to_bits().leading_ones();
            return match u8::try_from(ones) {
                Ok(len) if mask.to_bits().count_ones() == ones => Length::Prefix(len),
                _ => Length::Odd,
            };
        }
        return number(rest).map_or(Length::None, Length::Prefix);
    }
    let Some(rest) = after.strip_prefix('"') else {
        return Length::None;
    };
    let rest = rest.trim_start().strip_prefix(',').unwrap_or_default().trim_start();
    for key in ["\"len\"", "\"srclen\"", "\"dstlen\""] {
        if let Some(rest) = rest.strip_prefix(key) {
            let rest = rest.trim_start().strip_prefix(':').unwrap_or_default().trim_start();
            return number(rest).map_or(Length::None, Length::Prefix);
        }
    }
    Length::None
}

fn mac(token: &str) -> Option<[u8; 6]> {
    if token.len() != 17 {
        return None;
    }
    let mut mac = [0; 6];
    let mut parts = token.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// A word: a chain of kube-proxy, or names between colons.
fn word(token: &str, named: bool, redaction: &Redaction, out: &mut String) {
    if let Some(chain) = redaction.names.map_chain(token) {
        out.push_str(&chain);
        return;
    }
    if !named {
        out.push_str(token);
        return;
    }
    for (i, piece) in token.split(':').enumerate() {
        if i > 0 {
            out.push(':');
        }
        // `service-ULMVA6XW-shop`, a chain of kube-proxy's nftables mode.
        let hashed = piece.splitn(3, '-').nth(2).filter(|rest| {
            let hash = piece.split('-').nth(1).unwrap_or_default();
            hash.len() == 8
                && hash.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                && redaction.names.knows(rest)
        });
        match hashed {
            Some(rest) if !redaction.names.knows(piece) => {
                out.push_str(&piece[..piece.len() - rest.len()]);
                out.push_str(redaction.names.map(rest));
            }
            _ if piece.bytes().all(|b| b.is_ascii_digit()) => out.push_str(piece),
            _ => out.push_str(redaction.names.map(piece)),
        }
    }
}
