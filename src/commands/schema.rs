//! `kubectl knet schema`

use knet_explain::render::schema;
use serde_json::{Value, json};

use super::print_document;
use crate::args::{Output, SchemaOf};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Prints a published schema.
pub(super) fn run(of: SchemaOf, console: &Console) -> Result<Exit, Failure> {
    let document = match of {
        SchemaOf::Trace => schema::trace(),
        SchemaOf::Explain => schema::explain(),
        SchemaOf::Vip => schema::vip(),
        SchemaOf::Http => schema::http(),
        SchemaOf::Flows => flows(),
    };
    print_document(&document, Output::Json, console)?;
    Ok(Exit::Delivered)
}

/// One line of a `--flows` file. The reader is [`knet_explain::Query`]; a test compares the two.
fn flows() -> Value {
    let port = json!({"type": ["integer", "null"], "minimum": 0, "maximum": 65535});
    let byte = json!({"type": ["integer", "null"], "minimum": 0, "maximum": 255});
    let word = |what: &str| json!({"type": ["string", "integer", "null"], "description": what});
    let name = |what: &str| json!({"type": ["string", "null"], "description": what});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of trace --flows",
        "type": "object",
        "required": ["src", "dst"],
        "additionalProperties": false,
        "properties": {
            "id": {"description": "Anything; it is echoed in the answer."},
            "src": {"type": "string", "description": "name, ns/name, pod/ns/name, node/NAME or ip/ADDR"},
            "dst": {"type": "string", "description": "name, svc/ns/name[:port], pod/ns/name[:port], node/NAME:PORT, ADDR:PORT or localhost:PORT"},
            "namespace": name("Namespace of names that have none."),
            "via": name("node/NAME or node/NAME/IFACE: where an off-cluster packet enters."),
            "proto": word("tcp, udp, sctp, icmp, icmp6 or a number. Default: what the service says, else tcp."),
            "sport": port,
            "tcp_flags": word("syn, syn,ack, ... or a number. Default: syn."),
            "icmp_type": word("A name, TYPE or TYPE/CODE. Default: echo-request."),
            "ttl": byte,
            "tos": word("TOS or traffic class; decimal or 0x..."),
            "mark": word("SO_MARK of the sender; decimal or 0x..."),
            "uid": {"type": ["integer", "null"], "minimum": 0, "maximum": 4_294_967_295_u32},
            "source_ip": name("Address the sender's socket is bound to."),
            "family": word("4 or 6, where names leave a choice."),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_schema_of_flows_has_the_keys_that_are_read() {
        let schema = flows();
        let ours: BTreeSet<&str> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        let error = serde_json::from_str::<knet_explain::Query>(r#"{"no such key":1}"#).expect_err("no such key");
        let error = error.to_string();
        // unknown field `no such key`, expected one of `id`, `src`, ...
        let read: BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(ours, read, "{error}");
    }
}
