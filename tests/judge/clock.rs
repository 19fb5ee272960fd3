//! Where the time of a run goes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

thread_local! {
    static SPENT: RefCell<BTreeMap<&'static str, Duration>> = const { RefCell::new(BTreeMap::new()) };
}

/// Does something, and notes how long it took.
pub fn timed<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    SPENT.with_borrow_mut(|spent| *spent.entry(what).or_default() += began.elapsed());
    done
}

/// What this thread has noted, in words.
pub fn spent() -> String {
    SPENT.with_borrow(|spent| {
        let parts: Vec<String> = spent
            .iter()
            .map(|(what, time)| format!("{what} {:.1} s", time.as_secs_f64()))
            .collect();
        parts.join(", ")
    })
}
