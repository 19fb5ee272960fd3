//! Sockets of one namespace: who takes a packet.

use knet_snapshot::store::NetnsFacts;

/// Compiled sockets.
#[derive(Debug)]
pub struct Sockets<'s> {
    _todo: std::marker::PhantomData<&'s ()>,
}

impl<'s> Sockets<'s> {
    /// Indexes the sockets.
    #[must_use]
    pub fn compile(_facts: &'s NetnsFacts) -> Self {
        Self { _todo: std::marker::PhantomData }
    }
}
