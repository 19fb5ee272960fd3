//! `neigh.json`: `ip -j neigh show`.

use std::net::IpAddr;

use std::sync::Arc;

use crate::fact::Problem;
use crate::id::Mac;
use crate::json;
use crate::row::{Row, Table};

/// One neighbour entry (ARP or ND cache), or a proxy entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Where the row stands.
    pub at: Row,
    /// Address.
    pub dst: IpAddr,
    /// Device name.
    pub dev: String,
    /// Link-layer address when it is six bytes.
    pub lladdr: Option<Mac>,
    /// Link-layer address as written when it is something else (an IPv4 address on a tunnel).
    pub lladdr_text: Option<String>,
    /// NUD state.
    pub state: NudState,
    /// A `proxy` entry: this namespace answers for the address.
    pub proxy: bool,
    /// Managed by something outside (`extern_learn`, `offload`, `managed`).
    pub extern_learn: bool,
}

/// `NUD_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NudState {
    /// Asked, no answer yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Was confirmed; used as it is, and asked again later.
    Stale,
    /// Used; a probe is about to go out.
    Delay,
    /// Being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// No resolution on this device.
    NoArp,
    /// Set by an administrator or daemon.
    Permanent,
    /// Nothing printed, or a word this model does not know.
    None,
}

/// Reads the artifact. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<Neighbour>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        let lladdr = row.text("lladdr");
        let mac = lladdr.as_deref().and_then(|text| text.parse().ok());
        rows.push(Neighbour {
            at,
            dst: row.addr("dst")?.ok_or("no \"dst\"")?,
            dev: row.ifname("dev").ok_or("no \"dev\"")?,
            lladdr: mac,
            lladdr_text: lladdr.filter(|_| mac.is_none()).map(String::from),
            state: row
                .words("state")
                .map(NudState::from_word)
                .find(|state| *state != NudState::None)
                .unwrap_or(NudState::None),
            proxy: row.flag("proxy"),
            extern_learn: ["extern_learn", "offload", "managed"]
                .into_iter()
                .any(|key| row.flag(key)),
        });
        Ok(())
    })
}

impl NudState {
    fn from_word(word: &str) -> Self {
        match word.to_ascii_uppercase().as_str() {
            "INCOMPLETE" => Self::Incomplete,
            "REACHABLE" => Self::Reachable,
            "STALE" => Self::Stale,
            "DELAY" => Self::Delay,
            "PROBE" => Self::Probe,
            "FAILED" => Self::Failed,
            "NOARP" => Self::NoArp,
            "PERMANENT" => Self::Permanent,
            _ => Self::None,
        }
    }
}
