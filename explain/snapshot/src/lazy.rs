//! A table that is parsed when it is first asked for.

use std::sync::{Arc, OnceLock};

use crate::fact::{Fact, Problem};
use crate::manifest::AbsentReason;
use crate::row::Table;
use crate::store::Blob;

/// The bytes of one artifact, or why there are none.
pub(crate) type Raw = Result<Blob, AbsentReason>;

/// A parsed table, with the problems that it has no place for itself.
pub(crate) struct Loaded<T> {
    pub(crate) fact: Fact<T>,
    problems: Vec<Problem>,
}

/// Where a table is kept once it was asked for.
pub(crate) type Cell<T> = OnceLock<Loaded<T>>;

/// A table with the problems it has no place for itself, or why nothing in the bytes can be taken for complete.
pub(crate) type Parsed<T> = Result<(T, Vec<Problem>), Problem>;

/// Parses an artifact. `parse` answers `Err` when nothing in the bytes can be taken for complete.
pub(crate) fn load<T>(
    raw: Result<&Blob, AbsentReason>,
    path: impl FnOnce() -> Arc<str>,
    empty: impl FnOnce(Arc<str>) -> T,
    parse: impl FnOnce(Arc<str>, &[u8]) -> Parsed<T>,
) -> Loaded<T> {
    match raw {
        Ok(blob) => match parse(path(), (**blob).as_ref()) {
            Ok((table, problems)) => Loaded {
                fact: Fact::Known(table),
                problems,
            },
            Err(problem) => Loaded {
                fact: Fact::Unknown(AbsentReason::Error),
                problems: vec![problem],
            },
        },
        Err(why) if why.means_empty() => Loaded {
            fact: Fact::Empty(empty(path()), why),
            problems: Vec::new(),
        },
        Err(why) => Loaded {
            fact: Fact::Unknown(why),
            problems: Vec::new(),
        },
    }
}

/// A parser of a format that is complete or not, as `load` wants it.
pub(crate) fn json<T>(
    parse: impl Fn(Arc<str>, &[u8]) -> Result<Table<T>, Problem>,
) -> impl FnOnce(Arc<str>, &[u8]) -> Parsed<Table<T>> {
    move |path, bytes| Ok((parse(path, bytes)?, Vec::new()))
}

/// A parser of a line format, as `load` wants it.
pub(crate) fn lines<T>(
    parse: impl Fn(Arc<str>, &[u8]) -> Table<T>,
) -> impl FnOnce(Arc<str>, &[u8]) -> Parsed<Table<T>> {
    move |path, bytes| Ok((parse(path, bytes), Vec::new()))
}

/// The problems of something parsed, if it was.
pub(crate) fn problems_of<T>(cell: &Cell<T>, all: &mut Vec<Problem>) {
    all.extend(
        cell.get()
            .into_iter()
            .flat_map(|loaded| loaded.problems.iter().cloned()),
    );
}

/// The problems of a table, if it was parsed.
pub(crate) fn problems_of_table<T>(cell: &Cell<Table<T>>, all: &mut Vec<Problem>) {
    problems_of(cell, all);
    let table = cell.get().and_then(|loaded| loaded.fact.get());
    all.extend(table.into_iter().flat_map(|table| table.problems.iter().cloned()));
}
