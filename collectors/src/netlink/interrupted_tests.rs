//! A kernel that interrupts its dumps (`NLM_F_DUMP_INTR`), which a real one does when a table changes between two
//! reads of it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use knet_snapshot::artifact::name;
use netlink_packet_core::NLM_F_DUMP_INTR;

use super::socket::{Netlink, NetlinkError, Wire, put, u32_at};
use super::{ATTEMPTS, Tables};
use crate::exec::Limits;

const RTM_NEWRULE: u16 = 32;
const NLMSG_DONE: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;

/// Answers every request with two rules, whose priorities say the how manieth dump it is. The first so many dumps
/// are interrupted.
struct Restless {
    interrupted: usize,
    /// Where the flag stands: on the message of this index.
    at: usize,
    dumps: Rc<Cell<usize>>,
    pending: VecDeque<Vec<u8>>,
}

impl Wire for Restless {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let (dump, sequence) = (self.dumps.get(), u32_at(request, 8));
        self.dumps.set(dump + 1);
        let flag = |at| {
            if at == self.at && dump < self.interrupted {
                NLM_F_DUMP_INTR
            } else {
                0
            }
        };
        let priority = |n: usize| u32::try_from(100 + 10 * dump + n).expect("small");
        // What an earlier question left behind is nobody's business, its flags included.
        let stale = message(RTM_NEWRULE, NLM_F_DUMP_INTR, sequence.wrapping_sub(1), &rule(1));
        let first = message(RTM_NEWRULE, flag(0), sequence, &rule(priority(0)));
        let second = message(RTM_NEWRULE, flag(1), sequence, &rule(priority(1)));
        let done = message(NLMSG_DONE, flag(2), sequence, &0_i32.to_ne_bytes());
        self.pending.extend([[stale, first].concat(), second, done]);
        Ok(())
    }

    fn receive(&mut self, _: Duration) -> io::Result<Vec<u8>> {
        self.pending.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("short");
    let mut out = Vec::new();
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// `from all lookup 7`
fn rule(priority: u32) -> Vec<u8> {
    const FR_ACT_TO_TBL: u8 = 1;
    let mut out = vec![2, 0, 0, 0, 7, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    put(&mut out, FRA_PRIORITY, &priority.to_ne_bytes());
    put(&mut out, FRA_TABLE, &7_u32.to_ne_bytes());
    out
}

fn kernel(interrupted: usize, at: usize) -> (Tables, Rc<Cell<usize>>) {
    let dumps = Rc::new(Cell::new(0));
    let wire = Restless {
        interrupted,
        at,
        dumps: dumps.clone(),
        pending: VecDeque::new(),
    };
    let netlink = Netlink::over(Box::new(wire), Limits::default());
    (Tables { netlink }, dumps)
}

/// Tables of a kernel that interrupts its first so many dumps, and then numbers the priorities of its rules from 100
/// on by tens.
pub(crate) fn restless(interrupted: usize) -> Tables {
    kernel(interrupted, 1).0
}

fn read(tables: &mut Tables) -> (String, bool) {
    let printed = tables.read(name::RULE).expect("a table of rtnetlink");
    let printed = printed.expect("it is answered");
    (String::from_utf8_lossy(&printed.bytes).into_owned(), printed.consistent)
}

#[test]
fn an_interrupted_dump_is_made_again_and_its_rows_are_thrown_away() {
    // The flag may come with a row or with the end.
    for at in [0, 1, 2] {
        let (mut tables, dumps) = kernel(1, at);
        let (text, consistent) = read(&mut tables);
        assert!(consistent && dumps.get() == 2, "{at}: {text}");
        assert!(text.contains("110") && text.contains("111"), "{text}");
        assert!(!text.contains("100") && !text.contains("101"), "{text}");
    }
}

#[test]
fn a_dump_that_is_interrupted_every_time_is_kept_and_marked() {
    let (mut tables, dumps) = kernel(usize::MAX, 2);
    let (text, consistent) = read(&mut tables);
    assert!(!consistent && dumps.get() == ATTEMPTS, "{text}");
    assert!(
        text.contains("120") && text.contains("121") && !text.contains("110"),
        "{text}"
    );
}

#[test]
fn a_dump_that_nobody_interrupts_is_made_once() {
    let (mut tables, dumps) = kernel(0, 0);
    let (text, consistent) = read(&mut tables);
    assert!(consistent && dumps.get() == 1, "{text}");
    assert!(text.contains("100") && text.contains("101"), "{text}");
}

/// Nor is the beginning of more than may be held.
#[test]
fn more_than_the_limit_is_no_table() {
    let (mut tables, dumps) = kernel(0, 0);
    tables.netlink = Netlink::over(
        Box::new(Restless {
            interrupted: 0,
            at: 0,
            dumps: dumps.clone(),
            pending: VecDeque::new(),
        }),
        Limits {
            bytes: 60,
            ..Limits::default()
        },
    );
    let read = tables.read(name::RULE).expect("a table of rtnetlink");
    assert!(matches!(read, Err(NetlinkError::TooLarge)), "{read:?}");
}

/// A kernel that says nothing more is no table with few rows.
#[test]
fn an_answer_without_an_end_is_none() {
    struct Silent;
    impl Wire for Silent {
        fn send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, _: Duration) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
    let netlink = Netlink::over(Box::new(Silent), Limits::default());
    let read = Tables { netlink }.read(name::RULE).expect("a table of rtnetlink");
    assert!(matches!(read, Err(NetlinkError::Timeout)), "{read:?}");
}
