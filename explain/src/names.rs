//! Which pod, service or node has an address, and which names exist.

/// The names of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Names {}

impl Names {
    /// What can stand as SRC: `pod/ns/name` and `node/NAME`, sorted.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        Vec::new()
    }

    /// What can stand as DST: `svc/ns/name:port`, `pod/ns/name`, `node/NAME`, sorted.
    #[must_use]
    pub fn destinations(&self) -> Vec<String> {
        Vec::new()
    }

    /// Node names, sorted.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Kubernetes namespaces, sorted.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        Vec::new()
    }

    /// NodePorts, sorted.
    #[must_use]
    pub fn node_ports(&self) -> Vec<u16> {
        Vec::new()
    }
}
