//! Names, intent and words for what a walk found.
