//! What is wrong, what was assumed, what could not be told, and where the model ends.

use crate::explanation::{Boundary, Explanation};
use crate::findings::Severity;
use crate::render::{findings as words, notes};

use super::Show;
use super::head::cite;
use super::layout::{Page, Span, Tone, dim};

/// Findings, the gravest first.
pub fn findings(page: &mut Page, explanation: &Explanation, show: Show) {
    for finding in &explanation.findings {
        page.gap();
        let said = words::say(&finding.what);
        let (mark, tone) = match finding.severity {
            Severity::Error => ("!", Tone::Bad),
            Severity::Warning => ("!", Tone::Warn),
            Severity::Info => ("i", Tone::Head),
        };
        let text = [said.text.into(), dim(format!("[{}]", finding.what.code()))];
        page.field(0, 2, &Span(mark.to_owned(), tone), &text);
        if let Some(next) = said.next {
            page.field(2, 8, &dim("next:"), &[next.into()]);
        }
        // What decided is shown above already; the rest only where detail is wanted.
        if show == Show::Full {
            for evidence in &finding.evidence {
                page.flow(
                    8,
                    10,
                    &[
                        evidence.text.to_string().into(),
                        dim(cite(&explanation.glossary, evidence)),
                    ],
                );
            }
        }
    }
}

/// Unknowns, assumptions and the boundary.
pub fn notes(page: &mut Page, explanation: &Explanation, show: Show) {
    if !explanation.unknowns.is_empty() {
        page.gap();
        page.flow(0, 2, &[Span("Cannot tell".to_owned(), Tone::Warn)]);
        for unknown in &explanation.unknowns {
            let note = notes::unknown(unknown);
            page.field(2, 4, &"-".into(), &[note.text.into()]);
            for evidence in &note.evidence {
                page.flow(4, 6, &[evidence.text.to_string().into()]);
                page.flow(4, 6, &[dim(cite(&explanation.glossary, evidence))]);
            }
        }
    }
    page.gap();
    let assumptions: Vec<String> = explanation
        .assumptions
        .iter()
        .map(|a| notes::assumption(a).text)
        .collect();
    if !assumptions.is_empty() {
        list(page, "Assumed", &assumptions, show);
    }
    let when = |b: &&Boundary| matches!(b, Boundary::Window { .. } | Boundary::NoWindow);
    let window: Vec<String> = explanation
        .boundary
        .iter()
        .filter(when)
        .map(|b| notes::boundary(b).text)
        .collect();
    list(page, "Age", &window, show);
    let boundary: Vec<String> = explanation
        .boundary
        .iter()
        .filter(|b| !when(b))
        .map(|b| notes::boundary(b).text)
        .collect();
    list(page, "Outside the model", &boundary, show);
}

/// A short list as one paragraph; at full detail, one line each.
fn list(page: &mut Page, heading: &str, items: &[String], show: Show) {
    if show == Show::Full {
        page.flow(0, 2, &[dim(heading)]);
        for item in items {
            page.field(2, 4, &dim("-"), &[dim(item.as_str())]);
        }
        return;
    }
    page.flow(0, 2, &[dim(format!("{heading}: {}.", items.join("; ")))]);
}
