//! The crate as a whole, on a small snapshot.

mod against;
mod documents;
mod http;
mod mini;
mod names;
mod pages;
mod schema;
mod systems;
mod vip;

use crate::explainer::Explainer;
use crate::explanation::Explanation;
use crate::query::Query;
use crate::resolve::QueryError;
use knet_dataplane::trace::Detail;

/// A query out of two names.
fn query(src: &str, dst: &str) -> Query {
    Query {
        src: src.to_owned(),
        dst: dst.to_owned(),
        ..Query::default()
    }
}

/// A trace on the small snapshot.
fn with<T>(query: &Query, detail: Detail, then: impl FnOnce(Result<Explanation, QueryError>) -> T) -> T {
    let snapshot = mini::snapshot(true);
    then(Explainer::new(&snapshot).trace(query, detail))
}
