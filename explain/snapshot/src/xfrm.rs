//! `xfrm.txt`: `ip xfrm policy` followed by `ip xfrm state`, keys hidden.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::lines;
use crate::protocol;
use crate::row::{Row, Table};

/// A policy or a state.
#[derive(Clone, Debug, PartialEq)]
pub enum Xfrm {
    /// `ip xfrm policy`
    Policy(Policy),
    /// `ip xfrm state`
    State(State),
}

/// What must be done to packets that a selector matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Where its first line stands.
    pub at: Row,
    /// Source prefix; `None` matches all.
    pub src: Option<IpNet>,
    /// Destination prefix; `None` matches all.
    pub dst: Option<IpNet>,
    /// Upper-layer protocol; `None` matches all.
    pub proto: Option<u8>,
    /// `out`, `in` or `fwd`; a socket's own policy has none.
    pub dir: Option<Direction>,
    /// `action block`: what matches is dropped.
    pub block: bool,
    /// Lower wins; of equal ones the older.
    pub priority: u32,
    /// `mark value/mask`
    pub mark: (u32, u32),
    /// `if_id`: only for packets of that xfrm device.
    pub if_id: u32,
    /// What must be done, in order.
    pub templates: Vec<Template>,
    /// It holds words that decide and are not read here (ports, devices, security contexts).
    pub unread: bool,
}

/// Which packets a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Sent or forwarded.
    Out,
    /// Delivered here.
    In,
    /// Forwarded, before they are sent on.
    Forward,
}

/// `tmpl`: one transformation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Outer source; unspecified takes the packet's.
    pub src: Option<IpAddr>,
    /// Outer destination; unspecified takes the packet's.
    pub dst: Option<IpAddr>,
    /// `esp`, `ah`, `comp` ... as an IP protocol number.
    pub proto: u8,
    /// SPI, when the template names one.
    pub spi: Option<u32>,
    /// 0 matches every state.
    pub reqid: u32,
    /// `mode tunnel`; otherwise transport.
    pub tunnel: bool,
    /// `level use`: without a state the packet goes on as it is.
    pub optional: bool,
    /// A mode that is neither tunnel nor transport.
    pub unread: bool,
}

/// One security association.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Where its first line stands.
    pub at: Row,
    /// Outer source.
    pub src: Option<IpAddr>,
    /// Outer destination.
    pub dst: Option<IpAddr>,
    /// `esp`, `ah`, `comp` ... as an IP protocol number.
    pub proto: u8,
    /// SPI.
    pub spi: u32,
    /// Ties it to templates.
    pub reqid: u32,
    /// `mode tunnel`; otherwise transport.
    pub tunnel: bool,
    /// `mark value/mask`
    pub mark: (u32, u32),
    /// `if_id`
    pub if_id: u32,
    /// `encap type espinudp sport A dport B`: carried in UDP with these ports.
    pub udp: Option<(u16, u16)>,
    /// `output-mark value/mask`: the mark of what was sealed or opened.
    pub output_mark: Option<(u32, u32)>,
    /// `sel src A dst B`: the packets it is for.
    pub sel: Option<(IpNet, IpNet)>,
    /// A mode that is neither tunnel nor transport, or a selector by more than addresses.
    pub unread: bool,
}

/// Reads the artifact. Every block starts with an unindented `src ... dst ...`; the line after it says whether
/// it is a policy (`dir`, `socket`) or a state (`proto`).
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<Xfrm> {
    let mut head: Option<(Row, String)> = None;
    lines::table(artifact, bytes, |at, line, rows| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(char::is_whitespace) {
            head = (words.first() == Some(&"src")).then(|| (at, line.to_owned()));
            return if head.is_some() {
                Ok(())
            } else {
                Err("neither a policy nor a state")
            };
        }
        if let Some((at, first)) = head.take() {
            rows.push(begin(at, &first, &words)?);
            return Ok(());
        }
        match rows.last_mut() {
            Some(Xfrm::Policy(policy)) => policy_line(policy, &words),
            Some(Xfrm::State(state)) => state_line(state, &words),
            None => Err("a line that belongs to nothing"),
        }
    })
}

/// The word after a key.
fn after<'w>(words: &[&'w str], key: &str) -> Option<&'w str> {
    let at = words.iter().position(|word| *word == key)?;
    words.get(at + 1).copied()
}

fn number(words: &[&str], key: &str) -> u32 {
    after(words, key).and_then(lines::number).unwrap_or(0)
}

fn begin(at: Row, first: &str, words: &[&str]) -> Result<Xfrm, &'static str> {
    let head: Vec<&str> = first.split_whitespace().collect();
    if words.first() == Some(&"proto") {
        let mut state = State {
            at,
            src: after(&head, "src").and_then(|a| a.parse().ok()),
            dst: after(&head, "dst").and_then(|a| a.parse().ok()),
            ..State::default()
        };
        state.proto = after(words, "proto")
            .and_then(protocol_number)
            .ok_or("a state without a protocol")?;
        state.spi = number(words, "spi");
        state.reqid = number(words, "reqid");
        state.tunnel = after(words, "mode") == Some("tunnel");
        state.unread = !matches!(after(words, "mode"), Some("tunnel" | "transport"));
        return Ok(Xfrm::State(state));
    }
    let known = ["src", "dst", "proto"];
    let mut policy = Policy {
        at,
        src: prefix(&head, "src")?,
        dst: prefix(&head, "dst")?,
        proto: match after(&head, "proto") {
            Some(name) => Some(protocol_number(name).ok_or("a protocol that is not known")?),
            None => None,
        },
        unread: head.iter().step_by(2).any(|word| !known.contains(word)),
        ..Policy::default()
    };
    policy.dir = match (words.first(), after(words, "dir")) {
        (Some(&"socket"), _) => None,
        (_, Some("out")) => Some(Direction::Out),
        (_, Some("in")) => Some(Direction::In),
        (_, Some("fwd")) => Some(Direction::Forward),
        _ => return Err("a policy without a direction"),
    };
    policy.block = after(words, "action") == Some("block");
    policy.priority = number(words, "priority");
    policy.unread |= after(words, "ptype").is_some_and(|kind| kind != "main");
    Ok(Xfrm::Policy(policy))
}

fn prefix(words: &[&str], key: &str) -> Result<Option<IpNet>, &'static str> {
    let text = after(words, key).ok_or("a policy without its prefixes")?;
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(Some).map_err(|_| "a prefix that cannot be read")
}

fn protocol_number(name: &str) -> Option<u8> {
    name.parse().ok().or_else(|| protocol::number(name)).or(match name {
        "esp" => Some(50),
        "ah" => Some(51),
        "comp" => Some(108),
        _ => None,
    })
}

/// `0x10/0xff`
fn mark(words: &[&str]) -> Option<(u32, u32)> {
    let (value, mask) = after(words, "mark")?.split_once('/')?;
    Some((lines::number(value)?, lines::number(mask)?))
}

fn policy_line(policy: &mut Policy, words: &[&str]) -> Result<(), &'static str> {
    let address = |key| {
        after(words, key)
            .and_then(|a| a.parse().ok())
            .filter(|a: &IpAddr| !a.is_unspecified())
    };
    match words.first().copied() {
        Some("tmpl") => policy.templates.push(Template {
            src: address("src"),
            dst: address("dst"),
            ..Template::default()
        }),
        Some("proto") => {
            let template = policy.templates.last_mut().ok_or("a protocol without a template")?;
            template.proto = after(words, "proto")
                .and_then(protocol_number)
                .ok_or("a template without a protocol")?;
            template.spi = after(words, "spi").and_then(lines::number).filter(|spi| *spi != 0);
            template.reqid = number(words, "reqid");
            template.tunnel = after(words, "mode") == Some("tunnel");
            template.unread = !matches!(after(words, "mode"), Some("tunnel" | "transport"));
            template.optional = after(words, "level") == Some("use");
        }
        Some("level") => {
            if let Some(template) = policy.templates.last_mut() {
                template.optional = after(words, "level") == Some("use");
            }
        }
        Some("mark") => policy.mark = mark(words).ok_or("a mark that is no value/mask")?,
        Some("if_id") => policy.if_id = number(words, "if_id"),
        Some("security" | "offload" | "crypto") => policy.unread = true,
        _ => {}
    }
    Ok(())
}

fn state_line(state: &mut State, words: &[&str]) -> Result<(), &'static str> {
    match words.first().copied() {
        Some("mark") => state.mark = mark(words).ok_or("a mark that is no value/mask")?,
        Some("output-mark") => {
            let text = after(words, "output-mark").unwrap_or_default();
            let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
            let both = lines::number(value).zip(lines::number(mask));
            state.output_mark = Some(both.ok_or("an output mark that is no value/mask")?);
        }
        Some("sel") => {
            let net = |key| after(words, key).and_then(|text| text.parse().ok());
            state.sel = net("src").zip(net("dst"));
            state.unread |= state.sel.is_none() || words.len() > 5;
        }
        Some("if_id") => state.if_id = number(words, "if_id"),
        Some("encap") => {
            let port = |key| u16::try_from(number(words, key)).unwrap_or(0);
            state.udp = Some((port("sport"), port("dport")));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn policies_and_states() {
        let text = b"src 10.1.0.0/24 dst 10.2.0.0/24 \n\tdir out priority 7 ptype main \n\tmark 0x1/0xf\n\
            \ttmpl src 1.1.1.1 dst 2.2.2.2\n\t\tproto esp reqid 3 mode tunnel\n\
            src 0.0.0.0/0 dst 0.0.0.0/0 \n\tsocket in priority 0 \n\
            src 1.1.1.1 dst 2.2.2.2\n\tproto esp spi 0x00000101 reqid 3 mode tunnel\n\treplay-window 0 \n\
            \toutput-mark 0x5\n\tsel src 0.0.0.0/0 dst 10.0.0.0/8 \n";
        let table = parse("xfrm.txt".into(), text);
        assert!(table.problems.is_empty(), "{:?}", table.problems);
        let [Xfrm::Policy(out), Xfrm::Policy(socket), Xfrm::State(state)] = &table.rows[..] else {
            panic!("{:?}", table.rows)
        };
        assert_eq!(
            (out.dir, out.priority, out.mark, out.unread),
            (Some(Direction::Out), 7, (1, 15), false)
        );
        assert_eq!(out.templates[0].dst, Some(IpAddr::from([2, 2, 2, 2])));
        assert!(out.templates[0].tunnel && out.templates[0].reqid == 3);
        assert_eq!(socket.dir, None);
        assert_eq!((state.spi, state.tunnel), (0x101, true));
        assert_eq!(state.output_mark, Some((5, u32::MAX)));
        assert_eq!(
            state.sel,
            Some((
                IpNet::from_str("0.0.0.0/0").unwrap(),
                IpNet::from_str("10.0.0.0/8").unwrap()
            ))
        );
        assert!(!state.unread && !out.unread);
    }
}
