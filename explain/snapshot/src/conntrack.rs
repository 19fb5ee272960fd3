//! `conntrack.txt`: `conntrack -L -o extended`, or `/proc/net/nf_conntrack`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::id::{Family, Zone};
use crate::lines;
use crate::protocol;
use crate::row::{Row, Table};

/// One connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Where the row stands.
    pub at: Row,
    /// Network family.
    pub family: Family,
    /// IP protocol.
    pub proto: u8,
    /// Seconds until it goes, if printed.
    pub timeout: Option<u32>,
    /// Protocol state as written (`ESTABLISHED`, `TIME_WAIT`, ...).
    pub state: Option<String>,
    /// As the first packet was, before any translation.
    pub orig: Tuple,
    /// As replies come in.
    pub reply: Tuple,
    /// `[ASSURED]`
    pub assured: bool,
    /// `[UNREPLIED]`: no packet was seen in the other direction.
    pub unreplied: bool,
    /// `mark=`
    pub mark: u32,
    /// `zone=` (both directions)
    pub zone: Zone,
    /// `zone-orig=`
    pub zone_orig: Option<Zone>,
    /// `zone-reply=`
    pub zone_reply: Option<Zone>,
    /// `helper=`
    pub helper: Option<String>,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; ICMP: the echo id.
    pub sport: u16,
    /// Destination port; ICMP: `type << 8 | code`.
    pub dport: u16,
}

/// Reads the artifact: `conntrack -L`, with or without `-o extended`, or `/proc/net/nf_conntrack`.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<Connection> {
    lines::table(artifact, bytes, |at, line, rows| {
        // The count that `conntrack` prints at the end, when somebody kept both streams in one file.
        if line.starts_with("conntrack v") {
            return Ok(());
        }
        rows.push(connection(at, line)?);
        Ok(())
    })
}

/// A direction while it is being read.
#[derive(Clone, Copy, Default)]
struct Half {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    sport: u16,
    dport: u16,
    icmp: Option<(u8, u8)>,
    id: Option<u16>,
}

fn connection(at: Row, line: &str) -> Result<Connection, &'static str> {
    let mut words = line.split_ascii_whitespace().peekable();
    // `-o extended` and /proc put the network family in front: `ipv4     2 tcp      6 ...`.
    let mut first = words.next().ok_or("an empty line")?;
    if matches!(first, "ipv4" | "ipv6") {
        let _family_number = words.next();
        first = words.next().ok_or("a connection without a protocol")?;
    }
    let proto = words
        .next()
        .and_then(|n| n.parse().ok())
        .or_else(|| protocol::number(first))
        .ok_or("a connection without a protocol number")?;
    let is_icmp = matches!(proto, 1 | 58);
    // Offloaded entries have no timeout.
    let timeout = words
        .next_if(|word| word.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|n| n.parse().ok());
    let state = words.next_if(|word| !word.contains(['=', '['])).map(str::to_owned);
    let mut halves = [Half::default(); 2];
    // Index of the direction being read; the second `src=` starts the reply.
    let mut current = 0;
    let (mut assured, mut unreplied, mut mark, mut zone) = (false, false, 0, Zone::default());
    let (mut zone_orig, mut zone_reply, mut helper) = (None, None, None);
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            match word {
                "[ASSURED]" => assured = true,
                "[UNREPLIED]" => unreplied = true,
                _ => {}
            }
            continue;
        };
        let value = value.trim_end_matches(',');
        if key == "src" && halves[current].src.is_some() {
            if current == 1 {
                return Err("a connection with three directions");
            }
            current = 1;
        }
        let half = &mut halves[current];
        match key {
            "src" => half.src = Some(value.parse().map_err(|_| "a source that is not an address")?),
            "dst" if half.dst.is_none() => {
                half.dst = Some(value.parse().map_err(|_| "a destination that is not an address")?)
            }
            "sport" | "srckey" => half.sport = port(value)?,
            "dport" | "dstkey" => half.dport = port(value)?,
            "type" if is_icmp => half.icmp = Some((value.parse().map_err(|_| "an ICMP type that is no number")?, 0)),
            "code" if is_icmp => {
                let code = value.parse().map_err(|_| "an ICMP code that is no number")?;
                half.icmp = half.icmp.map(|(kind, _)| (kind, code));
            }
            // A later `id=` is the entry's own, printed with `-o id`.
            "id" if is_icmp && half.id.is_none() => half.id = value.parse().ok(),
            "mark" => mark = lines::number(value).ok_or("a mark that is no number")?,
            "zone" => zone = Zone(value.parse().map_err(|_| "a zone that is no number")?),
            "zone-orig" => zone_orig = Some(Zone(value.parse().map_err(|_| "a zone that is no number")?)),
            "zone-reply" => zone_reply = Some(Zone(value.parse().map_err(|_| "a zone that is no number")?)),
            "helper" => helper = Some(value.to_owned()),
            _ => {}
        }
    }
    let [orig, reply] = halves;
    let orig = orig.tuple().ok_or("a connection without its original direction")?;
    let reply = reply.tuple().ok_or("a connection without its reply direction")?;
    Ok(Connection {
        at,
        family: Family::of(orig.src),
        proto,
        timeout,
        state,
        orig,
        reply,
        assured,
        unreplied,
        mark,
        zone,
        zone_orig,
        zone_reply,
        helper,
    })
}

/// A port, or a GRE key in hex.
fn port(text: &str) -> Result<u16, &'static str> {
    lines::number(text)
        .and_then(|n| u16::try_from(n).ok())
        .ok_or("a port that is no number below 65536")
}

impl Half {
    fn tuple(self) -> Option<Tuple> {
        let (sport, dport) = match self.icmp {
            Some((kind, code)) => (self.id.unwrap_or(0), u16::from(kind) << 8 | u16::from(code)),
            None => (self.sport, self.dport),
        };
        Some(Tuple {
            src: self.src?,
            dst: self.dst?,
            sport,
            dport,
        })
    }
}
