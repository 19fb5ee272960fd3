//! For people: one verdict line, then as much as was asked for.

mod against;
mod clusterip;
mod connection;
mod head;
mod http;
mod layout;
mod nodeport;
mod odds;
mod path;
mod steps;
mod tail;
mod verdict;
mod verify;
mod vip;

use crate::explanation::Explanation;
use crate::resolve::QueryError;
use crate::topics::clusterip::ClusterIpExplanation;
use crate::topics::http::HttpExplanation;
use crate::topics::kube_ipvs0::KubeIpvs0;
use crate::topics::nodeport::NodePortExplanation;
use crate::topics::vip::VipExplanation;

use layout::{Page, Span, Tone};

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// ANSI colours.
    pub colour: bool,
    /// How much to show.
    pub show: Show,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            width: 80,
            colour: false,
            show: Show::Hops,
        }
    }
}

/// `--detail`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Show {
    /// The verdict and what decided it. Trace with `Detail::Decisions`.
    Summary,
    /// And the hops. Trace with `Detail::Decisions`.
    #[default]
    Hops,
    /// And every rule visited, with file and line. Trace with `Detail::Full`.
    Full,
}

/// A trace, with a newline at the end.
#[must_use]
pub fn trace(explanation: &Explanation, style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    verdict::line(&mut page, explanation);
    page.gap();
    if let Some(answer) = &explanation.vip {
        vip::answer(&mut page, answer);
        page.gap();
    }
    head::block(&mut page, explanation);
    head::why(&mut page, explanation);
    connection::sections(&mut page, explanation, style.show);
    if let Some(against) = &explanation.against {
        against::section(&mut page, explanation, against);
    }
    tail::findings(&mut page, explanation, style.show);
    if style.show > Show::Summary {
        path::paths(&mut page, explanation, style.show == Show::Full);
    }
    if let Some(answer) = &explanation.nodeport {
        page.gap();
        nodeport::section(&mut page, answer, style.show);
    }
    tail::notes(&mut page, explanation, style.show);
    page.finish()
}

/// The commands that record the kernel's own trace, for a shell; empty when the explanation has none. `again`
/// is the command line that asked, without `--verify-commands`.
#[must_use]
pub fn verify(explanation: &Explanation, again: &[String]) -> String {
    let script = |v: &crate::against::verify::Verify| verify::script(explanation, v, again);
    explanation.verify.as_deref().map(script).unwrap_or_default()
}

/// `explain nodeport`, with a newline at the end.
#[must_use]
pub fn nodeport(answer: &NodePortExplanation, style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    nodeport::answer(&mut page, answer);
    page.finish()
}

/// `explain clusterip`, with a newline at the end.
#[must_use]
pub fn clusterip(answer: &ClusterIpExplanation, style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    clusterip::answer(&mut page, answer);
    page.finish()
}

/// `explain kube-ipvs0`, with a newline at the end.
#[must_use]
pub fn kube_ipvs0(answer: &KubeIpvs0, style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    clusterip::device(&mut page, answer);
    page.finish()
}

/// A request to a URL, with a newline at the end.
#[must_use]
pub fn http(answer: &HttpExplanation, style: &Style) -> String {
    http::answer(answer, style)
}

/// `vip`, with a newline at the end.
#[must_use]
pub fn vip(answers: &[VipExplanation], style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    for answer in answers {
        page.gap();
        vip::answer(&mut page, answer);
    }
    page.finish()
}

/// A query error and its hints, for stderr, with a newline at the end.
#[must_use]
pub fn error(error: &QueryError, style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    page.flow(0, 2, &[Span("error:".to_owned(), Tone::Bad), error.to_string().into()]);
    for hint in error.hints() {
        page.flow(0, 2, &[Span("hint:".to_owned(), Tone::Head), hint.into()]);
    }
    page.finish()
}
