//! The system calls the judge needs and the standard library does not have.
#![allow(
    unsafe_code,
    reason = "thin wrappers of system calls; every pointer is to a local that outlives the call"
)]

use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Moves this thread into a new network namespace and returns a handle to it.
pub fn new_netns() -> io::Result<File> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    File::open("/proc/thread-self/ns/net")
}

/// Moves this thread into a namespace.
pub fn enter(ns: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    check(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Keeps this thread on one of the CPUs it may use: frames over a veth are then received before the send returns.
pub fn pin(number: usize) {
    // SAFETY: the sets are locals.
    unsafe {
        let mut may: libc::cpu_set_t = zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut may);
        let all: Vec<usize> = (0..libc::CPU_SETSIZE as usize)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &may))
            .collect();
        if let Some(cpu) = all.get(number % all.len().max(1)) {
            let mut set: libc::cpu_set_t = zeroed();
            libc::CPU_SET(*cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        }
    }
}

/// A socket of any kind, non-blocking and closed on exec.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a fresh descriptor is owned by nobody else.
    unsafe { check(libc::socket(family, kind, protocol)).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// The same, opened by another user: netfilter looks at who opened a socket.
pub fn socket_of(uid: u32, gid: u32, family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    const KEEP: libc::uid_t = libc::uid_t::MAX;
    // SAFETY: no pointers. The raw calls change this thread only.
    unsafe {
        libc::syscall(libc::SYS_setresgid, KEEP, gid, KEEP);
        libc::syscall(libc::SYS_setresuid, KEEP, uid, KEEP);
        let made = socket(family, kind, protocol);
        libc::syscall(libc::SYS_setresuid, KEEP, 0, KEEP);
        libc::syscall(libc::SYS_setresgid, KEEP, 0, KEEP);
        made
    }
}

/// `setsockopt` with an integer.
pub fn set(fd: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is a local of the length given.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) }).map(drop)
}

/// Closing the socket resets its connection.
pub fn reset_on_close(fd: &OwnedFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the value is a local of the length given.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            len,
        );
    }
}

/// `SO_ERROR`
pub fn take_error(fd: &OwnedFd) -> i32 {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both are locals.
    unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut value).cast(),
            &raw mut len,
        );
    }
    value
}

/// Binds a packet socket to a device; it hears everything but what is sent by it.
pub fn packet_socket(device: &str) -> io::Result<OwnedFd> {
    const PACKET_IGNORE_OUTGOING: i32 = 23;
    let fd = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    set(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
    let name = std::ffi::CString::new(device).expect("no zero in a device name");
    // SAFETY: the address is a local of the length given.
    unsafe {
        let mut addr: libc::sockaddr_ll = zeroed();
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        addr.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        check(libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len))?;
    }
    Ok(fd)
}

fn raw_address(addr: IpAddr, port: u16) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is large enough and aligned for both.
    unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        let len = match addr {
            IpAddr::V4(a) => {
                let sin = (&raw mut storage).cast::<libc::sockaddr_in>();
                (*sin).sin_family = libc::AF_INET as u16;
                (*sin).sin_port = port.to_be();
                (*sin).sin_addr.s_addr = u32::from(a).to_be();
                size_of::<libc::sockaddr_in>()
            }
            IpAddr::V6(a) => {
                let sin = (&raw mut storage).cast::<libc::sockaddr_in6>();
                (*sin).sin6_family = libc::AF_INET6 as u16;
                (*sin).sin6_port = port.to_be();
                (*sin).sin6_addr.s6_addr = a.octets();
                size_of::<libc::sockaddr_in6>()
            }
        };
        (storage, len as libc::socklen_t)
    }
}

fn address(storage: &libc::sockaddr_storage) -> (IpAddr, u16) {
    let at = &raw const *storage;
    // SAFETY: the family says which address it is.
    unsafe {
        if i32::from(storage.ss_family) == libc::AF_INET {
            let sin = at.cast::<libc::sockaddr_in>();
            (
                Ipv4Addr::from(u32::from_be((*sin).sin_addr.s_addr)).into(),
                u16::from_be((*sin).sin_port),
            )
        } else {
            let sin = at.cast::<libc::sockaddr_in6>();
            (
                Ipv6Addr::from((*sin).sin6_addr.s6_addr).into(),
                u16::from_be((*sin).sin6_port),
            )
        }
    }
}

/// `bind`
pub fn bind(fd: &OwnedFd, addr: IpAddr, port: u16) -> io::Result<()> {
    let (raw, len) = raw_address(addr, port);
    // SAFETY: the address is a local.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const raw).cast(), len) }).map(drop)
}

/// `listen`
pub fn listen(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), 4096) }).map(drop)
}

/// `connect`
pub fn connect(fd: &OwnedFd, addr: IpAddr, port: u16) -> io::Result<()> {
    let (raw, len) = raw_address(addr, port);
    // SAFETY: the address is a local.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const raw).cast(), len) }).map(drop)
}

/// `sendto`
pub fn send_to(fd: &OwnedFd, bytes: &[u8], addr: IpAddr, port: u16) -> io::Result<()> {
    let (raw, len) = raw_address(addr, port);
    let (at, size) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the buffers are borrowed for the call.
    let sent = unsafe { libc::sendto(fd.as_raw_fd(), at, size, 0, (&raw const raw).cast(), len) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `send`
pub fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is borrowed for the call.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// What `recvmsg` says of a datagram.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who sent it.
    pub from: (IpAddr, u16),
    /// To which address (`IP_PKTINFO`).
    pub to: Option<IpAddr>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// How many bytes.
    pub len: usize,
}

/// Takes one datagram, if there is one.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Option<Message> {
    let mut control = [0u64; 32];
    // SAFETY: every pointer in the header is to a local or to the caller's buffer; the control messages are
    // read with the macros that know their layout.
    unsafe {
        let mut from: libc::sockaddr_storage = zeroed();
        let mut iov = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut header: libc::msghdr = zeroed();
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<[u64; 32]>();
        let got = libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT);
        let len = usize::try_from(got).ok()?;
        let mut message = Message {
            from: address(&from),
            to: None,
            ttl: 0,
            tos: 0,
            len,
        };
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    message.to = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    message.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => message.ttl = data.cast::<i32>().read_unaligned() as u8,
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => message.tos = data.cast::<i32>().read_unaligned() as u8,
                _ => {}
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
        Some(message)
    }
}

/// Answers a datagram from the address it was sent to.
pub fn answer(fd: &OwnedFd, bytes: &[u8], to: (IpAddr, u16), from: IpAddr) -> io::Result<()> {
    let (name, name_len) = raw_address(to.0, to.1);
    let mut control = [0u64; 8];
    // SAFETY: as in `receive`.
    unsafe {
        let mut iov = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut header: libc::msghdr = zeroed();
        header.msg_name = (&raw const name).cast_mut().cast();
        header.msg_namelen = name_len;
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<[u64; 8]>();
        let at = libc::CMSG_FIRSTHDR(&raw const header);
        let size = match from {
            IpAddr::V4(a) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from(a).to_be();
                ((*at).cmsg_level, (*at).cmsg_type) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
                libc::CMSG_DATA(at).cast::<libc::in_pktinfo>().write_unaligned(info);
                size_of::<libc::in_pktinfo>()
            }
            IpAddr::V6(a) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = a.octets();
                ((*at).cmsg_level, (*at).cmsg_type) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
                libc::CMSG_DATA(at).cast::<libc::in6_pktinfo>().write_unaligned(info);
                size_of::<libc::in6_pktinfo>()
            }
        };
        (*at).cmsg_len = libc::CMSG_LEN(size as u32) as usize;
        header.msg_controllen = libc::CMSG_SPACE(size as u32) as usize;
        let sent = libc::sendmsg(fd.as_raw_fd(), &raw const header, 0);
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Which of the sockets have something to read, waiting at most so many milliseconds.
pub fn readable(fds: &[RawFd], wait: i32) -> Vec<usize> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: the array is a local of the length given.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, wait) };
    if ready <= 0 {
        return Vec::new();
    }
    (0..polled.len()).filter(|&i| polled[i].revents != 0).collect()
}

/// A socket to nfnetlink of this thread's namespace.
pub fn netlink_netfilter() -> io::Result<OwnedFd> {
    const NETLINK_NETFILTER: i32 = 12;
    let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_NETFILTER)?;
    // SAFETY: the address is a local of the length given.
    unsafe {
        let mut addr: libc::sockaddr_nl = zeroed();
        addr.nl_family = libc::AF_NETLINK as u16;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        check(libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len))?;
    }
    Ok(fd)
}

/// `conntrack -F`: IPCTNL_MSG_CT_DELETE without a tuple, for both families.
pub fn forget_connections(fd: &OwnedFd) -> io::Result<()> {
    const DELETE: u16 = 1 << 8 | 2;
    const REQUEST_ACK: u16 = 1 | 4;
    let mut message = Vec::with_capacity(20);
    message.extend(20u32.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend([0, 0, 0, 0]);
    send(fd, &message)?;
    let mut buffer = [0u8; 512];
    readable(&[fd.as_raw_fd()], 1000);
    while receive(fd, &mut buffer).is_some() {}
    Ok(())
}
