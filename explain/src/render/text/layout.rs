//! Lines that fit a width: fields with a hanging indent, words that wrap, tones that become colours.

use owo_colors::OwoColorize;

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// What was asked for happens.
    Good,
    /// It does not.
    Bad,
    /// Look here.
    Warn,
    /// Of less weight.
    Dim,
    /// Of more weight.
    Strong,
    /// A heading.
    Head,
}

/// A piece of text and how it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span(pub String, pub Tone);

impl From<&str> for Span {
    fn from(text: &str) -> Self {
        Self(text.to_owned(), Tone::Plain)
    }
}

impl From<String> for Span {
    fn from(text: String) -> Self {
        Self(text, Tone::Plain)
    }
}

/// Shorthand for a span of less weight.
pub fn dim(text: impl Into<String>) -> Span {
    Span(text.into(), Tone::Dim)
}

/// Shorthand for a span of more weight.
pub fn strong(text: impl Into<String>) -> Span {
    Span(text.into(), Tone::Strong)
}

/// Collects lines.
#[derive(Debug)]
pub struct Page {
    width: usize,
    colour: bool,
    text: String,
}

/// No page is narrower: below this even one name does not fit.
const NARROWEST: usize = 30;

impl Page {
    /// An empty page.
    pub fn new(width: usize, colour: bool) -> Self {
        Self {
            width: width.max(NARROWEST),
            colour,
            text: String::new(),
        }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }

    /// An empty line, unless the last one is empty.
    pub fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Words that wrap. The first line is indented by `first`, the others by `rest`.
    pub fn flow(&mut self, first: usize, rest: usize, spans: &[Span]) {
        let mut column = 0;
        let mut fresh = true;
        self.pad(first, &mut column);
        let limit = |indent: usize, width: usize| width.saturating_sub(indent).max(8);
        for Span(text, tone) in spans {
            // A no-break space holds words together; it is written as a plain one.
            for word in text.split([' ', '\n', '\t']).filter(|word| !word.is_empty()) {
                let mut word = word;
                let len = word.chars().count();
                if !fresh && column + 1 + len > self.width {
                    self.text.push('\n');
                    column = 0;
                    self.pad(rest, &mut column);
                    fresh = true;
                }
                if !fresh {
                    self.text.push(' ');
                    column += 1;
                }
                // A word longer than a line is broken: after a slash when one is near the end.
                while column + word.chars().count() > self.width && word.chars().count() > limit(rest, self.width) {
                    let room = self.width.saturating_sub(column).max(1);
                    let end = word.char_indices().nth(room).map_or(word.len(), |(i, _)| i);
                    let cut = word[..end]
                        .rfind('/')
                        .map(|i| i + 1)
                        .filter(|&i| i * 2 > end)
                        .unwrap_or(end);
                    self.write(&word[..cut], *tone);
                    word = &word[cut..];
                    self.text.push('\n');
                    column = 0;
                    self.pad(rest, &mut column);
                }
                self.write(word, *tone);
                column += word.chars().count();
                fresh = false;
            }
        }
        self.text.push('\n');
    }

    /// Words that wrap, and something at the right end of the last line; on a line of its own when there is
    /// no room.
    pub fn flow_right(&mut self, first: usize, rest: usize, spans: &[Span], right: &Span) {
        self.flow(first, rest, spans);
        self.right(rest, right);
    }

    /// Puts something at the right end of the line written last.
    fn right(&mut self, indent: usize, right: &Span) {
        let len = right.0.chars().count();
        if len == 0 {
            return;
        }
        let start = self.text.trim_end_matches('\n').rfind('\n').map_or(0, |i| i + 1);
        let used = visible(self.text[start..].trim_end_matches('\n'));
        if used + 2 + len <= self.width {
            self.text.truncate(self.text.trim_end_matches('\n').len());
            self.text.extend(std::iter::repeat_n(' ', self.width - used - len));
        } else if indent + len <= self.width {
            self.text.extend(std::iter::repeat_n(' ', self.width - len));
        } else {
            self.flow(indent, indent, std::slice::from_ref(right));
            return;
        }
        self.write(&right.0, right.1);
        self.text.push('\n');
    }

    /// A label, words that wrap beside it, and something at the right end.
    pub fn field_right(&mut self, margin: usize, indent: usize, label: &Span, spans: &[Span], right: &Span) {
        self.field(margin, indent, label, spans);
        self.right(indent, right);
    }

    /// A label, and words that wrap beside it. Labels are right-padded to `indent`.
    pub fn field(&mut self, margin: usize, indent: usize, label: &Span, spans: &[Span]) {
        let room = indent.saturating_sub(margin + 1);
        let mut column = 0;
        self.pad(margin, &mut column);
        self.write(&label.0, label.1);
        let used = label.0.chars().count();
        let body = self.body(indent, spans);
        if used > room {
            self.text.push('\n');
            self.text.push_str(&body);
        } else {
            let skip = margin + used;
            // The body's first line begins with `indent` blanks, of which the label used some.
            self.text.push_str(&body[skip.min(body.len())..]);
        }
    }

    /// A line with something at its right end; the right part moves to its own line when it does not fit.
    pub fn ends(&mut self, margin: usize, left: &[Span], right: &Span) {
        let used: usize =
            margin + left.iter().map(|s| s.0.chars().count()).sum::<usize>() + left.len().saturating_sub(1);
        let right_len = right.0.chars().count();
        if right_len == 0 || used + 2 + right_len > self.width {
            self.flow(margin, margin + 2, left);
            if right_len > 0 {
                self.flow(margin + 2, margin + 2, std::slice::from_ref(right));
            }
            return;
        }
        let mut column = 0;
        self.pad(margin, &mut column);
        for (i, span) in left.iter().enumerate() {
            if i > 0 {
                self.text.push(' ');
            }
            self.write(&span.0, span.1);
        }
        self.text
            .extend(std::iter::repeat_n(' ', self.width - used - right_len));
        self.write(&right.0, right.1);
        self.text.push('\n');
    }

    fn body(&self, indent: usize, spans: &[Span]) -> String {
        let mut page = Self::new(self.width, self.colour);
        page.flow(indent, indent, spans);
        page.text
    }

    fn pad(&mut self, n: usize, column: &mut usize) {
        self.text.extend(std::iter::repeat_n(' ', n));
        *column += n;
    }

    fn write(&mut self, text: &str, tone: Tone) {
        let text = &*text.replace('\u{a0}', " ");
        if !self.colour || tone == Tone::Plain {
            self.text.push_str(text);
            return;
        }
        let painted = match tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => text.green().bold().to_string(),
            Tone::Bad => text.red().bold().to_string(),
            Tone::Warn => text.yellow().to_string(),
            Tone::Dim => text.dimmed().to_string(),
            Tone::Strong => text.bold().to_string(),
            Tone::Head => text.cyan().bold().to_string(),
        };
        self.text.push_str(&painted);
    }
}

/// Columns a line takes: colour codes (`ESC [ … m`) take none.
fn visible(line: &str) -> usize {
    let mut columns = 0;
    let mut code = false;
    for c in line.chars() {
        match (code, c) {
            (false, '\u{1b}') => code = true,
            (false, _) => columns += 1,
            (true, 'm') => code = false,
            (true, _) => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(text: &str) -> usize {
        text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn words_wrap_under_their_field() {
        let mut page = Page::new(40, false);
        page.field(
            2,
            11,
            &"route".into(),
            &["10.244.1.0/24 via 192.168.56.12 dev eth0".into()],
        );
        assert_eq!(
            page.finish(),
            "  route    10.244.1.0/24 via\n           192.168.56.12 dev eth0\n"
        );
    }

    #[test]
    fn nothing_is_wider_than_the_page() {
        let long = "nodes/node-1/netns/a-very-long-name-of-a-pod-that-goes-on-and-on/iptables-nft.save:12345";
        for width in [30, 40, 80, 160] {
            let mut page = Page::new(width, false);
            page.flow(4, 6, &[long.into(), "and".into(), dim(long)]);
            page.field(2, 11, &"a-long-label".into(), &[long.into()]);
            page.ends(0, &[long.into()], &long.into());
            let text = page.finish();
            assert!(longest(&text) <= width, "{width}: {text}");
        }
    }

    #[test]
    fn the_right_end_is_the_same_with_and_without_colour() {
        let paint = |colour| {
            let mut page = Page::new(40, colour);
            page.field_right(
                2,
                11,
                &dim("route"),
                &[strong("default"), "via".into()],
                &dim("route.json[0]"),
            );
            page.finish()
        };
        assert_eq!(paint(false), "  route    default via     route.json[0]\n");
        assert_eq!(visible(paint(true).trim_end()), 40);
    }

    #[test]
    fn colour_only_when_asked() {
        let paint = |colour| {
            let mut page = Page::new(80, colour);
            page.flow(0, 0, &[Span("REPLY".to_owned(), Tone::Good)]);
            page.finish()
        };
        assert_eq!(paint(false), "REPLY\n");
        assert!(paint(true).contains("\u{1b}["));
    }
}
