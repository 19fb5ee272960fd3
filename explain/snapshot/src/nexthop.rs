//! `nexthop.json`: `ip -d -j nexthop show`.

use std::sync::Arc;

use crate::fact::Problem;
use crate::json::{self, Json, Object, Unreadable};
use crate::route::{self, NextHop};
use crate::row::{Row, Table};

/// One nexthop object.
#[derive(Clone, Debug, PartialEq)]
pub struct NexthopObject {
    /// Where the row stands.
    pub at: Row,
    /// Id.
    pub id: u32,
    /// What it is.
    pub kind: NexthopKind,
}

/// A nexthop object's content.
#[derive(Clone, Debug, PartialEq)]
pub enum NexthopKind {
    /// One hop.
    Hop(NextHop),
    /// A group of (id, weight); `resilient` groups pick by a bucket table.
    Group {
        /// Members by id with their weight.
        members: Vec<(u32, u32)>,
        /// `type resilient`
        resilient: bool,
    },
    /// `blackhole`
    Blackhole,
    /// `fdb` nexthop (VXLAN): gateways without a device.
    Fdb(NextHop),
}

/// Reads the artifact. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<NexthopObject>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        // With `encap ip` the row has a second `id`, that of the tunnel.
        let id = row
            .first("id")
            .and_then(|id| id.number(&[]))
            .and_then(|id| u32::try_from(id).ok())
            .ok_or("no \"id\"")?;
        rows.push(NexthopObject {
            at,
            id,
            kind: kind(row)?,
        });
        Ok(())
    })
}

fn kind(row: &Object<'_>) -> Result<NexthopKind, Unreadable> {
    if row.flag("blackhole") {
        return Ok(NexthopKind::Blackhole);
    }
    if let Some(group) = row.get("group") {
        let Json::List(_) = group else {
            return Err(format!("\"group\" is {group}: not a list"));
        };
        let members = row.objects("group").map(|member| {
            let id = member.number("id")?.ok_or("a group member without an id")?;
            Ok((id, member.number("weight")?.unwrap_or(1)))
        });
        let resilient = row.text("type").as_deref() == Some("resilient");
        return Ok(NexthopKind::Group {
            members: members.collect::<Result<_, Unreadable>>()?,
            resilient,
        });
    }
    let hop = route::nexthop(row)?;
    Ok(if row.flag("fdb") {
        NexthopKind::Fdb(hop)
    } else {
        NexthopKind::Hop(hop)
    })
}
