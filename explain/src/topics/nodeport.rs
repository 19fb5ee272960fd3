//! "Why is my NodePort not in netstat?"

use crate::query::IpFamily;

/// Which port, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortQuery {
    /// The port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`; `None` = the one a Service has, else tcp.
    pub proto: Option<String>,
    /// Node name; `None` = the first node by name.
    pub node: Option<String>,
    /// Address family; `None` = IPv4 when the node has it.
    pub family: Option<IpFamily>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct NodePortExplanation {}

impl NodePortExplanation {
    /// 0: the port is a NodePort and a client outside gets an answer on every branch; 1: it is not, or
    /// some branch fails; 3: cannot tell.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        3
    }
}
