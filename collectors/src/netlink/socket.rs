//! One netlink socket: requests and dumps, with a time limit and a size limit.
//!
//! Synchronous on purpose. A socket belongs to the network namespace its thread was in when it was made, so
//! each namespace is read by a thread of its own that entered it; there is nothing for an async runtime to
//! multiplex, and the header of every message (`NLM_F_DUMP_INTR`) stays in sight.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NlasIterator};
use netlink_sys::Socket;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::exec::Limits;

/// Why a question to the kernel has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket.
    #[error("netlink socket: {0}")]
    Socket(io::Error),
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Refused(io::Error),
    /// Took longer than the limit.
    #[error("the kernel took too long")]
    Timeout,
    /// More than the limit.
    #[error("the kernel's answer is larger than the limit")]
    TooLarge,
    /// A message that is not what it says it is.
    #[error("a message that cannot be read: {0}")]
    Malformed(String),
}

/// A message of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'b> {
    /// `nlmsg_type`
    pub kind: u16,
    /// What follows the header.
    pub payload: &'b [u8],
    /// With the header.
    pub whole: &'b [u8],
}

/// A netlink socket of the namespace in which it was opened.
pub struct Netlink {
    wire: Box<dyn Wire>,
    sequence: u32,
    limits: Limits,
}

/// Who answers: the kernel, or in tests whoever says what a kernel says once in a thousand dumps.
pub(crate) trait Wire {
    fn send(&mut self, request: &[u8]) -> io::Result<()>;
    /// The next datagram, waited for so long.
    fn receive(&mut self, most: Duration) -> io::Result<Vec<u8>>;
}

impl Wire for Socket {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        Self::send(self, request, 0).map(drop)
    }

    fn receive(&mut self, most: Duration) -> io::Result<Vec<u8>> {
        set_socket_timeout(&*self, Timeout::Recv, Some(most))?;
        let (datagram, _) = self.recv_from_full()?;
        Ok(datagram)
    }
}

const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

impl Netlink {
    /// Opens a socket in the namespace of this thread.
    ///
    /// # Errors
    /// When the kernel has no such protocol or does not allow it.
    pub fn open(protocol: isize, limits: Limits) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(protocol).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        // Kernels before 4.20 know neither; their answers are then filtered here as always.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_ext_ack(true);
        // The first buffer the kernel fills is as large as the largest read it has seen.
        let _ = socket.set_rx_buf_sz(1_u32 << 20);
        Ok(Self::over(Box::new(socket), limits))
    }

    pub(crate) const fn over(wire: Box<dyn Wire>, limits: Limits) -> Self {
        Self {
            wire,
            sequence: 0,
            limits,
        }
    }

    /// Asks for a whole table; `each` gets every message. The answer is whether the kernel interrupted the
    /// dump because the table changed (`NLM_F_DUMP_INTR`): then some rows may be missing or doubled.
    ///
    /// # Errors
    /// When the kernel refuses, takes too long, answers more than the limit, or `each` cannot read a message.
    pub fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(Message<'_>) -> Result<(), String>,
    ) -> Result<bool, NetlinkError> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_DUMP, payload, &mut each)
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// As for [`Self::dump`].
    pub fn get(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(Message<'_>) -> Result<(), String>,
    ) -> Result<(), NetlinkError> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_ACK, payload, &mut each)
            .map(|_| ())
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        each: &mut dyn FnMut(Message<'_>) -> Result<(), String>,
    ) -> Result<bool, NetlinkError> {
        self.sequence += 1;
        let request = request(kind, flags, self.sequence, payload);
        self.wire.send(&request).map_err(NetlinkError::Socket)?;
        let deadline = Instant::now() + self.limits.time;
        let mut interrupted = false;
        let mut total = 0_u64;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NetlinkError::Timeout);
            }
            let datagram = self
                .wire
                .receive(left.max(Duration::from_millis(1)))
                .map_err(|e| match e.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NetlinkError::Timeout,
                    _ => NetlinkError::Socket(e),
                })?;
            total += datagram.len() as u64;
            if total > self.limits.bytes {
                return Err(NetlinkError::TooLarge);
            }
            match self.datagram(&datagram, &mut interrupted, each)? {
                Progress::More => {}
                Progress::End => return Ok(interrupted),
            }
        }
    }

    fn datagram(
        &self,
        mut bytes: &[u8],
        interrupted: &mut bool,
        each: &mut dyn FnMut(Message<'_>) -> Result<(), String>,
    ) -> Result<Progress, NetlinkError> {
        while bytes.len() >= HEADER {
            let length = u32_at(bytes, 0) as usize;
            let Some(whole) = bytes.get(..length).filter(|_| length >= HEADER) else {
                return Err(NetlinkError::Malformed("a length beyond the datagram".to_owned()));
            };
            let (kind, flags) = (u16_at(bytes, 4), u16_at(bytes, 6));
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            // The answer to an earlier question that was given up.
            if u32_at(whole, 8) != self.sequence {
                continue;
            }
            *interrupted |= flags & NLM_F_DUMP_INTR != 0;
            let payload = &whole[HEADER..];
            match kind {
                NLMSG_NOOP => {}
                NLMSG_DONE | NLMSG_ERROR => {
                    let code = i32::from_ne_bytes(u32_at(payload, 0).to_ne_bytes());
                    return match code {
                        0 => Ok(Progress::End),
                        code => Err(NetlinkError::Refused(io::Error::from_raw_os_error(
                            code.saturating_neg(),
                        ))),
                    };
                }
                kind => each(Message { kind, payload, whole }).map_err(NetlinkError::Malformed)?,
            }
        }
        Ok(Progress::More)
    }
}

enum Progress {
    More,
    End,
}

fn request(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}

/// A number in the machine's byte order; 0 beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

/// The same of two bytes.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u16::from_ne_bytes)
}

/// The attributes of a message or of a nest: type (without its flag bits) and value. What is cut off ends the list.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|nla| {
        let kind = nla.kind();
        let length = usize::from(u16_at(nla.into_inner(), 0));
        Some((kind, nla.into_inner().get(4..length)?))
    })
}

/// Appends an attribute.
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}
