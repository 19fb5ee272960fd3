//! Names, intent and words for what a walk found.
//!
//! A [`query::Query`] in the user's words is resolved against the snapshot's names, walked by
//! `knet-dataplane`, and returned as an [`explanation::Explanation`]: typed, self-contained, and without
//! words. [`render`] makes words (or JSON, or YAML) of it. [`Explainer`] is the way in.
//!
//! ```text
//! let explainer = Explainer::new(&snapshot);
//! let explanation = explainer.trace(&query, Detail::Decisions)?;
//! let text = render::text::trace(&explanation, &render::text::Style::default());
//! ```

pub mod query;

pub mod names;
pub mod owner;
pub mod resolve;
pub mod service_chain;
pub mod systems;

pub mod against;
pub mod explanation;
pub mod findings;
pub mod fold;
pub mod topics;

pub mod render;

mod boundary;
mod explainer;
mod glossary;
#[cfg(test)]
mod tests;

pub use against::AgainstError;
pub use explainer::Explainer;
pub use explanation::Explanation;
pub use knet_dataplane::trace::Detail;
pub use query::Query;
pub use resolve::QueryError;
