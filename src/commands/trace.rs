//! `kubectl knet trace SRC DST`

use knet_explain::query::IpFamily;
use knet_explain::render::{self, text::Show};
use knet_explain::{Detail, Explainer, Query, QueryError};
use knet_snapshot::Snapshot;

use super::load::load_option;
use super::print_document;
use crate::args::{DetailArg, Output, TraceArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Traces one flow.
pub(super) fn run(args: &TraceArgs, console: &Console) -> Result<Exit, Failure> {
    let snapshot = snapshot(args, console)?;
    let explainer = Explainer::new(&snapshot);
    let explanation = explainer
        .trace(&query(args), detail(args.detail))
        .map_err(asked_wrongly)?;
    match args.output.unwrap_or_default() {
        Output::Text => console.print(&render::text::trace(&explanation, &style(args.detail, console)))?,
        output => print_document(&render::json::trace(&explanation, false), output, console)?,
    }
    Ok(exit(explanation.exit_code()))
}

/// The snapshot that was given, or what the running cluster says of both ends.
fn snapshot(args: &TraceArgs, console: &Console) -> Result<Snapshot, Failure> {
    #[cfg(feature = "cluster")]
    if args.snapshot.path.is_none() {
        let ends = [&args.src, &args.dst, &args.flow.via];
        let ends: Vec<&str> = ends.into_iter().filter_map(|end| end.as_deref()).collect();
        return super::collect::for_trace(&args.cluster, &ends, &args.namespace, args.save.as_deref(), console);
    }
    load_option(&args.snapshot, console)
}

/// The flow as the options say it.
pub(super) fn query(args: &TraceArgs) -> Query {
    let flow = &args.flow;
    Query {
        id: None,
        src: args.src.clone().unwrap_or_default(),
        dst: args.dst.clone().unwrap_or_default(),
        namespace: Some(args.namespace.clone()),
        via: flow.via.clone(),
        proto: flow.proto.as_ref().map(|proto| proto.0.clone()),
        sport: flow.sport,
        tcp_flags: flow.tcp_flags.clone(),
        icmp_type: flow.icmp_type.clone(),
        ttl: flow.ttl,
        tos: flow.tos.map(|tos| tos.to_string()),
        mark: flow.mark.map(|mark| mark.to_string()),
        uid: flow.uid,
        source_ip: flow.source_ip,
        family: family(args),
    }
}

/// `-4` and `-6`.
pub(super) const fn family(args: &TraceArgs) -> Option<IpFamily> {
    match (args.ipv4, args.ipv6) {
        (true, _) => Some(IpFamily::V4),
        (_, true) => Some(IpFamily::V6),
        _ => None,
    }
}

/// How much the walk records for a level of detail.
pub(super) const fn detail(level: DetailArg) -> Detail {
    match level {
        DetailArg::Summary | DetailArg::Hops => Detail::Decisions,
        DetailArg::Full => Detail::Full,
    }
}

/// How text is laid out on this console.
pub(super) fn style(level: DetailArg, console: &Console) -> render::text::Style {
    let show = match level {
        DetailArg::Summary => Show::Summary,
        DetailArg::Hops => Show::Hops,
        DetailArg::Full => Show::Full,
    };
    render::text::Style {
        width: console.width().into(),
        colour: console.color(),
        show,
    }
}

/// A query that cannot be asked, with what would help.
pub(super) fn asked_wrongly(error: QueryError) -> Failure {
    let hints = error.hints();
    hints.into_iter().fold(Failure::from(error), Failure::hint)
}

/// An answer's own digit as the process' exit.
pub(super) const fn exit(code: u8) -> Exit {
    match code {
        0 => Exit::Delivered,
        1 => Exit::NotDelivered,
        2 => Exit::Usage,
        _ => Exit::Unknown,
    }
}
