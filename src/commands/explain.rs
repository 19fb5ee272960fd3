//! `kubectl knet explain`

use knet_explain::topics::nodeport::NodePortQuery;
use knet_explain::{Explainer, render};

use super::load::load_option;
use super::print_document;
use super::trace::{asked_wrongly, exit, style};
use crate::args::{DetailArg, NodePortArgs, Output};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// `explain nodeport PORT`
pub(super) fn nodeport(args: &NodePortArgs, console: &Console) -> Result<Exit, Failure> {
    let snapshot = load_option(&args.snapshot, console)?;
    let explainer = Explainer::new(&snapshot);
    let query = NodePortQuery {
        port: args.port,
        proto: args.proto.as_ref().map(|proto| proto.0.clone()),
        node: args.node.clone(),
        family: None,
    };
    let answer = explainer.nodeport(&query).map_err(asked_wrongly)?;
    match args.output {
        Output::Text => console.print(&render::text::nodeport(&answer, &style(DetailArg::Hops, console)))?,
        output => print_document(&render::json::nodeport(&answer), output, console)?,
    }
    Ok(exit(answer.exit_code()))
}
