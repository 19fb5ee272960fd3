//! The kernel log of legacy iptables, with whatever stands in front of it (times, host names).
//!
//! ```text
//! [12129.752263] TRACE: nat:PREROUTING:rule:1 IN=c0 OUT= MAC=… SRC=10.1.0.2 DST=10.96.0.1 … PROTO=TCP SPT=45770 DPT=80 …
//! ```

use std::sync::Arc;

use super::header::Fields;
use super::{Event, EventKind, Form, Line, TableFamily};

/// One line; `None` when it is another form's.
pub(super) fn line(number: u64, line: &str) -> Option<Line> {
    let (_, rest) = line.split_once("TRACE: ")?;
    let (path, fields) = rest.split_once(' ')?;
    let mut parts = path.split(':');
    let (table, chain, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let rulenum = parts.next()?.parse().ok();
    let header = Fields::of_pairs(fields).header()?;
    let what = match kind {
        "rule" => EventKind::Rule {
            handle: None,
            number: Some(rulenum?),
            rule: None,
            verdict: None,
        },
        "policy" => EventKind::Policy {
            verdict: None,
            number: rulenum,
        },
        "return" => EventKind::Return,
        _ => return None,
    };
    Some(Line::Event {
        id: None,
        event: Event {
            line: number,
            text: line.into(),
            form: Form::Log,
            family: if header.dst.is_ipv4() {
                TableFamily::Ip
            } else {
                TableFamily::Ip6
            },
            table: table.into(),
            chain: chain.into(),
            what,
            header: Some(Arc::new(header)),
            run: 0,
        },
    })
}
