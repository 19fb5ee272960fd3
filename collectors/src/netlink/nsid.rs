//! By which id a namespace knows another one.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Tables;
use super::socket::{NetlinkError, attributes, put, u32_at};

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The id of a namespace as seen from that of `tables`, or none: asking gives no id to what has none.
///
/// # Errors
/// When the kernel refuses.
pub fn nsid_of(tables: &mut Tables, namespace: BorrowedFd<'_>) -> Result<Option<i32>, NetlinkError> {
    // struct rtgenmsg, padded.
    let mut request = vec![0; 4];
    put(&mut request, NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
    let mut id = None;
    tables.netlink().get(RTM_GETNSID, &request, |message| {
        if message.kind == RTM_NEWNSID {
            let body = message.payload.get(4..).unwrap_or_default();
            id = attributes(body)
                .find(|(kind, _)| *kind == NETNSA_NSID)
                .map(|(_, value)| i32::from_ne_bytes(u32_at(value, 0).to_ne_bytes()));
        }
        Ok(())
    })?;
    // NETNSA_NSID_NOT_ASSIGNED
    Ok(id.filter(|id| *id >= 0))
}
