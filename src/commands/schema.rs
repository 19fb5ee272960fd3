//! `kubectl knet schema`

use knet_explain::render::schema;

use super::print_document;
use crate::args::{Output, SchemaOf};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Prints a published schema.
pub(super) fn run(of: SchemaOf, console: &Console) -> Result<Exit, Failure> {
    let document = match of {
        SchemaOf::Trace => schema::trace(),
        SchemaOf::Explain => schema::explain(),
        SchemaOf::Flows => schema::trace(),
    };
    print_document(&document, Output::Json, console)?;
    Ok(Exit::Delivered)
}
