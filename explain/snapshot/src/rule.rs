//! `rule.json` / `rule6.json`: `ip -d -j -N -4 rule show`, `-6`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::fact::Problem;
use crate::id::TableId;
use crate::json::{self, Json, Object, Unreadable};
use crate::protocol;
use crate::route::{DSFIELD, KINDS};
use crate::row::{Row, Table};

/// One policy-routing rule. A selector that is `None` matches everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where the row stands.
    pub at: Row,
    /// Priority; lower is first.
    pub priority: u32,
    /// `not`
    pub invert: bool,
    /// `from`
    pub src: Option<IpNet>,
    /// `to`
    pub dst: Option<IpNet>,
    /// `tos` / `dsfield`
    pub tos: Option<u8>,
    /// `fwmark VALUE/MASK`
    pub fwmark: Option<(u32, u32)>,
    /// `iif` by name
    pub iif: Option<String>,
    /// `oif` by name
    pub oif: Option<String>,
    /// `l3mdev`
    pub l3mdev: bool,
    /// `ipproto`
    pub ipproto: Option<u8>,
    /// `sport A-B`
    pub sport: Option<(u16, u16)>,
    /// `dport A-B`
    pub dport: Option<(u16, u16)>,
    /// `uidrange A-B`
    pub uidrange: Option<(u32, u32)>,
    /// `tun_id`
    pub tun_id: Option<u64>,
    /// `suppress_prefixlength`
    pub suppress_prefixlength: Option<u32>,
    /// `suppress_ifgroup`
    pub suppress_ifgroup: Option<u32>,
    /// What to do.
    pub action: RuleAction,
    /// Who wrote it (`RTPROT_*`), if printed.
    pub protocol: Option<u8>,
    /// Selectors printed that this model does not know, as `key=value`: the rule's match is unknown.
    pub unknown: Vec<String>,
}

/// `FR_ACT_*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// `lookup TABLE`
    Table(TableId),
    /// Use the table of the VRF device (`l3mdev`).
    L3mdev,
    /// `goto PRIORITY`; `resolved` is false when the target did not exist.
    Goto(u32),
    /// `nop`
    Nop,
    /// `blackhole`
    Blackhole,
    /// `unreachable`
    Unreachable,
    /// `prohibit`
    Prohibit,
    /// As written; the answer is unknown when the rule matches.
    Other(String),
}

/// Reads the artifact. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<Rule>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        rows.push(rule(at, row)?);
        Ok(())
    })
}

/// Keys that select nothing, or that are read together with another one.
const NO_SELECTOR: &[&str] = &[
    "priority",
    "not",
    "src",
    "srclen",
    "dst",
    "dstlen",
    "tos",
    "dsfield",
    "fwmark",
    "fwmask",
    "iif",
    "iif_detached",
    "oif",
    "oif_detached",
    "l3mdev",
    "ipproto",
    "sport",
    "sport_start",
    "sport_end",
    "dport",
    "dport_start",
    "dport_end",
    "uid_start",
    "uid_end",
    "tun_id",
    "suppress_prefixlen",
    "suppress_prefixlength",
    "suppress_ifgroup",
    "table",
    "goto",
    "unresolved",
    "nop",
    "action",
    "to_tbl",
    "protocol",
    "flow",
    "flow_from",
    "flow_to",
    "nat_gateway",
    "masquerade",
    "family",
];

fn rule(at: Row, row: &Object<'_>) -> Result<Rule, Unreadable> {
    let fwmark = match (row.number::<u32>("fwmark")?, row.number::<u32>("fwmask")?) {
        (None, None) => None,
        (mark, mask) => Some((mark.unwrap_or(0), mask.unwrap_or(u32::MAX))),
    };
    Ok(Rule {
        at,
        priority: row.number("priority")?.unwrap_or(0),
        invert: row.flag("not"),
        src: selector(row, "src", "srclen")?,
        dst: selector(row, "dst", "dstlen")?,
        tos: row
            .named::<u8>(if row.get("tos").is_some() { "tos" } else { "dsfield" }, DSFIELD)?
            .filter(|tos| *tos != 0),
        fwmark,
        iif: row.text("iif").map(String::from),
        oif: row.text("oif").map(String::from),
        l3mdev: row.flag("l3mdev"),
        ipproto: ipproto(row)?,
        sport: range(row, "sport")?,
        dport: range(row, "dport")?,
        uidrange: match (row.number("uid_start")?, row.number("uid_end")?) {
            (None, None) => None,
            (first, last) => Some((first.unwrap_or(0), last.unwrap_or(u32::MAX))),
        },
        tun_id: row.number("tun_id")?,
        suppress_prefixlength: match row.number("suppress_prefixlen")? {
            None => row.number("suppress_prefixlength")?,
            some => some,
        },
        suppress_ifgroup: row.named("suppress_ifgroup", &[("default", 0)])?,
        action: action(row)?,
        protocol: row.named("protocol", json::PROTOCOLS).unwrap_or_default(),
        unknown: unknown(row),
    })
}

/// `src`+`srclen`, where `all` is none and no length is the whole address.
fn selector(row: &Object<'_>, key: &str, len: &str) -> Result<Option<IpNet>, Unreadable> {
    let Some(value) = row.get(key) else { return Ok(None) };
    let addr: IpAddr = match value.text().as_deref() {
        Some("all" | "any" | "default") => return Ok(None),
        // What iproute2 prints when the kernel gave a length without an address; no address, no family.
        Some("0") if row.number::<u8>(len)? == Some(0) => return Ok(None),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{key:?} is {value}: not an address"))?,
        None => return Err(format!("{key:?} is {value}: not an address")),
    };
    let len = row.number(len)?.unwrap_or(if addr.is_ipv4() { 32 } else { 128 });
    let net = IpNet::new(addr, len).map_err(|_| format!("{key:?} is {value}/{len}: not a prefix"))?;
    Ok(Some(net.trunc()).filter(|net| net.prefix_len() > 0))
}

/// A number, a name, or `ipproto-6`, which is how `-N` prints it.
fn ipproto(row: &Object<'_>) -> Result<Option<u8>, Unreadable> {
    match row.text("ipproto") {
        None => Ok(None),
        Some(text) => protocol::number(text.strip_prefix("ipproto-").unwrap_or(&text))
            .map(Some)
            .ok_or_else(|| format!("\"ipproto\" is {text:?}: not a protocol this version knows")),
    }
}

/// `sport`, or `sport_start` and `sport_end`.
fn range(row: &Object<'_>, key: &str) -> Result<Option<(u16, u16)>, Unreadable> {
    if let Some(one) = row.number(key)? {
        return Ok(Some((one, one)));
    }
    match (row.number(&format!("{key}_start"))?, row.number(&format!("{key}_end"))?) {
        (None, None) => Ok(None),
        (first, last) => Ok(Some((first.unwrap_or(0), last.unwrap_or(u16::MAX)))),
    }
}

fn action(row: &Object<'_>) -> Result<RuleAction, Unreadable> {
    let table = match row.get("table").or_else(|| row.get("lookup")) {
        None => None,
        Some(value) => match value.number(json::TABLES).map(u32::try_from) {
            Some(Ok(n)) => Some(RuleAction::Table(TableId(n))),
            // A name out of the node's rt_tables: the number is not in the capture.
            _ => Some(RuleAction::Other(format!(
                "lookup {}",
                value.text().unwrap_or_default()
            ))),
        },
    };
    if row.get("goto").is_some() {
        return Ok(match row.number("goto") {
            Ok(Some(priority)) => RuleAction::Goto(priority),
            // `goto none`: the target is gone.
            _ => RuleAction::Other("goto none".to_owned()),
        });
    }
    if let Some(nat) = ["nat_gateway", "masquerade"]
        .into_iter()
        .find(|key| row.get(key).is_some())
    {
        // The kernel takes the rule but has had no such action since 2.6 (net/ipv4/fib_rules.c).
        return Ok(RuleAction::Other(nat.to_owned()));
    }
    if row.flag("nop") {
        return Ok(RuleAction::Nop);
    }
    if let Some(value) = row.get("action").or_else(|| row.get("to_tbl")) {
        // The numbers of FR_ACT_* for these are those of RTN_*.
        return Ok(match value.number(KINDS) {
            Some(2) => RuleAction::Other("goto".to_owned()),
            Some(3) => RuleAction::Nop,
            Some(6) => RuleAction::Blackhole,
            Some(7) => RuleAction::Unreachable,
            Some(8) => RuleAction::Prohibit,
            _ if value.text().as_deref() == Some("nop") => RuleAction::Nop,
            Some(1) if table.is_some() => table.unwrap_or(RuleAction::Nop),
            _ => RuleAction::Other(value.text().unwrap_or_default().into_owned()),
        });
    }
    match table {
        Some(table) => Ok(table),
        None if row.flag("l3mdev") => Ok(RuleAction::L3mdev),
        None => Err("a rule without an action".to_owned()),
    }
}

fn unknown(row: &Object<'_>) -> Vec<String> {
    let known = |key: &str| NO_SELECTOR.contains(&key) || key == "lookup";
    row.0
        .iter()
        .filter(|(key, value)| !known(key) && *value != Json::Bool(false))
        .map(|(key, value)| {
            if *value == Json::Null {
                key.to_string()
            } else {
                format!("{key}={}", value.text().unwrap_or_default())
            }
        })
        .collect()
}
