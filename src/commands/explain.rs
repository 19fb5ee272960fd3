//! `kubectl knet explain`

use knet_explain::topics::clusterip::ClusterIpQuery;
use knet_explain::topics::nodeport::NodePortQuery;
use knet_explain::{Explainer, render};

use super::load::{About, open};
use super::print_document;
use super::trace::{asked_wrongly, exit, style};
use crate::args::{ClusterIpArgs, DetailArg, KubeIpvs0Args, NodePortArgs, Output};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// `explain nodeport PORT`
pub(super) fn nodeport(args: &NodePortArgs, console: &Console) -> Result<Exit, Failure> {
    let about = About::Node {
        node: args.node.as_deref(),
        port: Some(args.port),
        end: None,
    };
    let opened = open(&args.answer.facts, None, &about, console)?;
    let explainer = Explainer::new(&opened.snapshot);
    let query = NodePortQuery {
        port: args.port,
        proto: args.proto.as_ref().map(|proto| proto.0.clone()),
        node: args.node.clone(),
        family: None,
    };
    let answer = explainer.nodeport(&query).map_err(asked_wrongly)?;
    match args.answer.output {
        Output::Text => console.print(&render::text::nodeport(&answer, &style(DetailArg::Hops, console)))?,
        output => print_document(&render::json::nodeport(&answer), output, console)?,
    }
    Ok(exit(answer.exit_code()))
}

/// `explain clusterip ADDR|SVC`
pub(super) fn clusterip(args: &ClusterIpArgs, console: &Console) -> Result<Exit, Failure> {
    let about = About::Node {
        node: args.node.as_deref(),
        port: None,
        end: Some(&args.target),
    };
    let opened = open(&args.answer.facts, args.namespace.as_deref(), &about, console)?;
    let explainer = Explainer::new(&opened.snapshot);
    let query = ClusterIpQuery {
        target: args.target.clone(),
        namespace: opened.namespace.clone(),
        node: args.node.clone(),
        proto: args.proto.as_ref().map(|proto| proto.0.clone()),
    };
    let answer = explainer.clusterip(&query).map_err(asked_wrongly)?;
    match args.answer.output {
        Output::Text => console.print(&render::text::clusterip(&answer, &style(DetailArg::Hops, console)))?,
        output => print_document(&render::json::clusterip(&answer), output, console)?,
    }
    Ok(exit(answer.exit_code()))
}

/// `explain kube-ipvs0`
pub(super) fn kube_ipvs0(args: &KubeIpvs0Args, console: &Console) -> Result<Exit, Failure> {
    let about = About::Node {
        node: args.node.as_deref(),
        port: None,
        end: None,
    };
    let opened = open(&args.answer.facts, None, &about, console)?;
    let explainer = Explainer::new(&opened.snapshot);
    let answer = explainer.kube_ipvs0(args.node.as_deref()).map_err(asked_wrongly)?;
    match args.answer.output {
        Output::Text => console.print(&render::text::kube_ipvs0(&answer, &style(DetailArg::Hops, console)))?,
        output => print_document(&render::json::kube_ipvs0(&answer), output, console)?,
    }
    Ok(exit(answer.exit_code()))
}
