//! Words of an `iptables-save` line, cut the way `iptables-restore` cuts them
//! (`add_param_to_argv` in iptables/xshared.c): blanks separate, double quotes hold together, a backslash
//! escapes inside quotes only.

use std::borrow::Cow;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The word, without quotes and escapes.
    pub text: Cow<'a, str>,
    /// It stood in quotes: never an option or a `!`.
    pub quoted: bool,
}

/// Cuts a line. An open quote at the end of the line ends there.
#[must_use]
pub fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut out = Vec::with_capacity(24);
    let mut rest = line.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        let (token, after) = if let Some(inner) = rest.strip_prefix('"') {
            quoted(inner)
        } else {
            let end = rest.find([' ', '\t', '"', '\n', '\r']).unwrap_or(rest.len());
            // A quote in the middle of a word is never written by a save; here it starts a new word.
            (
                Token {
                    text: Cow::Borrowed(&rest[..end]),
                    quoted: false,
                },
                &rest[end..],
            )
        };
        out.push(token);
        rest = after.trim_start_matches([' ', '\t', '\n', '\r']);
    }
    out
}

fn quoted(inner: &str) -> (Token<'_>, &str) {
    let bytes = inner.as_bytes();
    let mut i = 0;
    let mut escaped = false;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => break,
            b'\\' => {
                escaped = true;
                i += 2;
            }
            _ => i += 1,
        }
    }
    // Both `"` and `\` are ASCII, so every cut is on a character boundary; a lone `\` at the end overshoots.
    let end = i.min(bytes.len());
    let body = &inner[..end];
    let text = if escaped {
        Cow::Owned(unescape(body))
    } else {
        Cow::Borrowed(body)
    };
    (Token { text, quoted: true }, inner.get(end + 1..).unwrap_or(""))
}

fn unescape(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            out.extend(chars.next())
        } else {
            out.push(c)
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        tokens(line).into_iter().map(|t| t.text.into_owned()).collect()
    }

    #[test]
    fn quotes_and_escapes_as_restore_reads_them() {
        assert_eq!(
            texts(r#"-A F -m comment --comment "a \"b\" \\ ! -j DROP" -j X"#)[5],
            r#"a "b" \ ! -j DROP"#
        );
        assert_eq!(texts(r#"--comment "" -j X"#), ["--comment", "", "-j", "X"]);
        assert_eq!(texts("  -s\t10.0.0.0/8  "), ["-s", "10.0.0.0/8"]);
        assert_eq!(texts(r#"--comment "open"#), ["--comment", "open"]);
        assert_eq!(texts("--comment \"ends \\"), ["--comment", "ends "]);
        assert_eq!(texts(r#"--comment "äé\"ü""#)[1], "äé\"ü");
        assert!(tokens(r#""!""#)[0].quoted);
    }
}
