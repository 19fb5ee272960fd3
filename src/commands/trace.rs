//! `kubectl knet trace SRC DST`

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use knet_explain::query::IpFamily;
use knet_explain::render::{self, text::Show};
use knet_explain::resolve::http::is_request;
use knet_explain::{AgainstError, Detail, Explainer, Explanation, Query, QueryError};
use knet_snapshot::kernel_trace;

use super::load::{About, open};
use super::print_document;
use crate::args::{DetailArg, Output, TraceArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Traces one flow.
pub(super) fn run(mut args: TraceArgs, console: &Console) -> Result<Exit, Failure> {
    let ends = [&args.src, &args.dst, &args.flow.via];
    let ends = ends.into_iter().filter_map(|end| end.as_deref()).collect();
    let namespace = args.namespace.as_deref();
    // Which nodes a request comes by, objects and balancers decide.
    let about = if args.dst.as_deref().is_some_and(is_request) {
        About::All
    } else {
        About::Ends(ends)
    };
    let opened = open(&args.facts, namespace, &about, console)?;
    args.namespace = opened.namespace;
    let args = &args;
    let explainer = Explainer::new(&opened.snapshot);
    if args.dst.as_deref().is_some_and(is_request) {
        return request(args, &explainer, console);
    }
    if args.host.is_some() {
        return Err(Failure::message("--host is for a URL: http://ADDR/PATH"));
    }
    let explanation = match &args.against {
        Some(file) => against(args, file, &explainer)?,
        None => explainer
            .trace(&query(args), detail(args.detail))
            .map_err(asked_wrongly)?,
    };
    if args.verify_commands {
        let explanation = explainer.with_commands(explanation);
        match args.output.unwrap_or_default() {
            Output::Text => console.print(&render::text::verify(&explanation, &again(args)))?,
            output => print_document(&render::json::trace(&explanation, false), output, console)?,
        }
        return Ok(Exit::Delivered);
    }
    match args.output.unwrap_or_default() {
        Output::Text => console.print(&render::text::trace(&explanation, &style(args.detail, console)))?,
        output => print_document(&render::json::trace(&explanation, false), output, console)?,
    }
    let code = match &explanation.against {
        Some(against) => against.exit_code(),
        None => explanation.exit_code(),
    };
    Ok(exit(code))
}

/// Traces a request to a URL.
fn request(args: &TraceArgs, explainer: &Explainer<'_>, console: &Console) -> Result<Exit, Failure> {
    if args.against.is_some() || args.verify_commands {
        return Err(Failure::message(
            "a URL is two traces: ask for one of them with --against or --verify-commands",
        ));
    }
    let answer = explainer
        .http(&query(args), args.host.as_deref(), detail(args.detail))
        .map_err(asked_wrongly)?;
    match args.output.unwrap_or_default() {
        Output::Text => console.print(&render::text::http(&answer, &style(args.detail, console)))?,
        output => print_document(&render::json::http(&answer, false), output, console)?,
    }
    Ok(exit(answer.exit_code()))
}

/// The command line that asks for this flow once more.
fn again(args: &TraceArgs) -> Vec<String> {
    let mut out: Vec<String> = ["kubectl", "knet", "trace"].map(str::to_owned).to_vec();
    out.extend(args.src.clone());
    out.extend(args.dst.clone());
    let mut option =
        |name: &str, value: Option<String>| out.extend(value.map(|v| [name.to_owned(), v]).into_iter().flatten());
    option(
        "--snapshot",
        args.facts.snapshot.path.as_ref().map(|p| p.display().to_string()),
    );
    option("--namespace", args.namespace.clone().filter(|n| n != "default"));
    let flow = &args.flow;
    option("--proto", flow.proto.as_ref().map(|p| p.0.clone()));
    option("--via", flow.via.clone());
    option("--sport", flow.sport.map(|n| n.to_string()));
    option("--tcp-flags", flow.tcp_flags.clone());
    option("--icmp-type", flow.icmp_type.clone());
    option("--ttl", flow.ttl.map(|n| n.to_string()));
    option("--tos", flow.tos.map(|n| n.to_string()));
    option("--mark", flow.mark.map(|m| m.to_string()));
    option("--uid", flow.uid.map(|n| n.to_string()));
    option("--source-ip", flow.source_ip.map(|ip| ip.to_string()));
    if args.ipv4 {
        out.push("-4".to_owned());
    }
    if args.ipv6 {
        out.push("-6".to_owned());
    }
    out
}

/// The trace beside a recording of the kernel's.
fn against(args: &TraceArgs, file: &Path, explainer: &Explainer<'_>) -> Result<Explanation, Failure> {
    let stdin = file.as_os_str() == "-";
    if stdin
        && args
            .facts
            .snapshot
            .path
            .as_deref()
            .is_some_and(|p| p.as_os_str() == "-")
    {
        return Err(Failure::message(
            "--against - and --snapshot - cannot both be standard input",
        ));
    }
    let name = if stdin {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let bytes = recording(file, stdin).map_err(|e| Failure::new(anyhow::Error::new(e).context(name.clone())))?;
    let recording = kernel_trace::parse(&bytes);
    let place = args.against_node.as_deref();
    explainer
        .trace_against(&query(args), detail(args.detail), (&name, &recording), place)
        .map_err(|error| {
            let hints = error.hints();
            let failure = match error {
                AgainstError::Query(error) => Failure::from(error),
                error => Failure::new(anyhow::Error::new(error).context(name)),
            };
            hints.into_iter().fold(failure, Failure::hint)
        })
}

/// A recording is a text a person made: more than this is a mistake.
const MOST_BYTES: u64 = 256 << 20;

fn recording(file: &Path, stdin: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if stdin {
        io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("larger than 256 MiB"));
    }
    Ok(bytes)
}

/// The flow as the options say it.
pub(super) fn query(args: &TraceArgs) -> Query {
    let flow = &args.flow;
    Query {
        id: None,
        src: args.src.clone().unwrap_or_default(),
        dst: args.dst.clone().unwrap_or_default(),
        namespace: args.namespace.clone(),
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
