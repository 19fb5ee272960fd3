//! `kubectl knet vip`

use knet_explain::topics::vip::{VipExplanation, VipQuery};
use knet_explain::{Explainer, render};

use super::load::{About, open};
use super::print_document;
use super::trace::{asked_wrongly, exit, style};
use crate::args::{DetailArg, Output, VipArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// `vip ADDR|SVC`: the worst of its addresses decides the exit code.
pub(super) fn run(args: &VipArgs, console: &Console) -> Result<Exit, Failure> {
    let namespace = args.namespace.as_deref();
    let opened = open(&args.answer.facts, namespace, &About::All, console)?;
    let explainer = Explainer::new(&opened.snapshot);
    let query = VipQuery {
        target: args.target.clone(),
        namespace: opened.namespace.clone(),
        from: args.from,
    };
    let answers = explainer.vip(&query).map_err(asked_wrongly)?;
    match args.answer.output {
        Output::Text => console.print(&render::text::vip(&answers, &style(DetailArg::Hops, console)))?,
        output => print_document(&render::json::vip(&answers), output, console)?,
    }
    let codes: Vec<u8> = answers.iter().map(VipExplanation::exit_code).collect();
    let worst = [1, 3].into_iter().find(|code| codes.contains(code));
    Ok(exit(worst.unwrap_or(0)))
}
