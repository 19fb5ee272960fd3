//! One row of `ip -j`: an object whose keys keep their order and may come twice, as `ip` prints them.

use std::fmt::{Display, Write as _};

/// An object under construction.
#[derive(Clone, Debug)]
pub(crate) struct Row(String);

impl Default for Row {
    fn default() -> Self {
        Self("{".to_owned())
    }
}

impl Row {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn key(&mut self, key: &str) -> &mut String {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(&mut self.0, key);
        self.0.push(':');
        &mut self.0
    }

    /// A number or a truth value.
    pub(crate) fn bare(&mut self, key: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.key(key), "{value}");
    }

    /// Text.
    pub(crate) fn text(&mut self, key: &str, value: impl Display) {
        quote(self.key(key), &value.to_string());
    }

    /// A key that says yes by being there.
    pub(crate) fn null(&mut self, key: &str) {
        self.key(key).push_str("null");
    }

    /// The same, only when it is so.
    pub(crate) fn null_if(&mut self, key: &str, is: bool) {
        if is {
            self.null(key);
        }
    }

    /// A list of words.
    pub(crate) fn words<'w>(&mut self, key: &str, words: impl IntoIterator<Item = &'w str>) {
        let out = self.key(key);
        out.push('[');
        for (i, word) in words.into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            quote(out, word);
        }
        out.push(']');
    }

    /// An object inside.
    pub(crate) fn object(&mut self, key: &str, row: Self) {
        let text = row.finish();
        self.key(key).push_str(&text);
    }

    /// A list of objects.
    pub(crate) fn objects(&mut self, key: &str, rows: impl IntoIterator<Item = Self>) {
        let out = self.key(key);
        out.push('[');
        for (i, row) in rows.into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&row.finish());
        }
        out.push(']');
    }

    /// Nothing was put into it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A list of rows as one line of JSON.
#[derive(Debug)]
pub(crate) struct Rows(Vec<u8>);

impl Rows {
    pub(crate) fn new() -> Self {
        Self(b"[".to_vec())
    }

    pub(crate) fn push(&mut self, row: Row) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(row.finish().as_bytes());
    }

    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        rows.into_iter().for_each(|row| self.push(row));
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"]\n");
        self.0
    }
}

/// A JSON string. Names come from the kernel and may hold anything but a slash and a blank.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_json_in_the_order_it_was_made() {
        let mut inner = Row::new();
        inner.bare("low", 0);
        let mut row = Row::new();
        row.text("dst", "10.0.0.0/8");
        row.null("nop");
        row.words("flags", ["onlink", "a\"b\\\u{1}"]);
        row.object("range", inner);
        row.text("dst", "10.0.0.9");
        let mut rows = Rows::new();
        rows.push(row);
        rows.push(Row::new());
        assert_eq!(
            String::from_utf8(rows.finish()).expect("UTF-8"),
            "[{\"dst\":\"10.0.0.0/8\",\"nop\":null,\"flags\":[\"onlink\",\"a\\\"b\\\\\\u0001\"],\"range\":{\"low\":0},\"dst\":\"10.0.0.9\"},{}]\n"
        );
    }
}
