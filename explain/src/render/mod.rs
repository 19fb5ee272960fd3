//! An [`crate::Explanation`] as text, JSON, YAML.

pub mod json;
pub mod schema;
pub mod text;

mod commands;
mod findings;
mod notes;
mod sentence;
pub mod systems;
mod words;
