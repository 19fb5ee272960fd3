//! IP sets of one namespace.

use knet_snapshot::store::NetnsFacts;

/// Compiled sets.
#[derive(Debug)]
pub struct IpSets<'s> {
    _todo: std::marker::PhantomData<&'s ()>,
}

impl<'s> IpSets<'s> {
    /// Compiles the sets.
    #[must_use]
    pub fn compile(_facts: &'s NetnsFacts) -> Self {
        Self { _todo: std::marker::PhantomData }
    }
}
