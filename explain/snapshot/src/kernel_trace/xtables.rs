//! `xtables-monitor --trace`.
//!
//! ```text
//! PACKET: 2 e49c0621 IN=c0 OUT=s0 SRC=10.1.0.2 DST=10.2.0.2 LEN=60 TTL=63 ID=46277 DF SPORT=40884 DPORT=8080 SYN
//!  TRACE: 2 e49c0621 filter:FORWARD:rule:0x8:JUMP:APP  -4 -t filter -A FORWARD -j APP
//!  TRACE: 2 e49c0621 raw:PREROUTING:return:
//!  TRACE: 2 e49c0621 raw:PREROUTING:policy:ACCEPT
//! ```

use super::header::Fields;
use super::{Event, EventKind, Form, Line, TableFamily, verdict};

/// The number is the kernel's `NFPROTO_*`.
fn family(word: &str) -> Option<TableFamily> {
    Some(match word {
        "1" => TableFamily::Inet,
        "2" => TableFamily::Ip,
        "3" => TableFamily::Arp,
        "5" => TableFamily::Netdev,
        "7" => TableFamily::Bridge,
        "10" => TableFamily::Ip6,
        _ => return None,
    })
}

/// One line; `None` when it is another form's.
pub(super) fn line(number: u64, line: &str) -> Option<Line> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("PACKET: ") {
        let mut words = rest.splitn(3, ' ');
        // Of a packet in no table yet the family is 0.
        let _family = words.next()?;
        let id = u32::from_str_radix(words.next()?, 16).ok()?;
        let mut fields = Fields::of_pairs(words.next().unwrap_or_default());
        fields.proto = fields.proto.or_else(|| fields.flags.map(|_| 6));
        return Some(Line::Header {
            id,
            chain: None,
            header: fields.header(),
        });
    }
    let rest = line.strip_prefix("TRACE: ")?;
    let (family_word, rest) = rest.split_once(' ')?;
    let family = family(family_word)?;
    let (id, rest) = rest.split_once(' ')?;
    let id = u32::from_str_radix(id, 16).ok()?;
    let (path, rule) = rest.split_once("  ").unwrap_or((rest, ""));
    let mut parts = path.trim().splitn(4, ':');
    let (table, chain, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let last = parts.next().unwrap_or_default();
    let what = match kind {
        "rule" => {
            let (handle, said) = last.split_once(':')?;
            let handle = u64::from_str_radix(handle.trim_start_matches("0x"), 16).ok()?;
            let (word, target) = match said.split_once(':') {
                Some((word, target)) => (word, Some(target.trim())),
                None => (said, None),
            };
            let rule = rule.trim();
            EventKind::Rule {
                handle: Some(handle),
                number: None,
                rule: (!rule.is_empty()).then(|| rule.into()),
                verdict: Some(verdict(word.trim(), target)),
            }
        }
        "policy" => EventKind::Policy {
            verdict: Some(verdict(last.trim(), None)),
            number: None,
        },
        "return" => EventKind::Return,
        _ => return None,
    };
    Some(Line::Event {
        id: Some(id),
        event: Event {
            line: number,
            text: line.into(),
            form: Form::Xtables,
            family,
            table: table.into(),
            chain: chain.into(),
            what,
            header: None,
            run: 0,
        },
    })
}
