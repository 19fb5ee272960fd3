//! `kubectl knet trace --flows`: JSON Lines in, one answer per line out, in order, as they come.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use anyhow::Context;
use knet_explain::{Detail, Explainer, Query, render};
use serde_json::Value;

use super::load::{About, Opened, load_option, open};
use super::trace::{detail, exit, family, style};
use crate::args::{DetailArg, Output, TraceArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// A longer line is no flow.
const LINE_LIMIT: u64 = 1 << 20;

/// More than this is not held, where the flows are read before the cluster is.
const MOST_BYTES: u64 = 256 << 20;

/// Traces every flow of a file.
pub(super) fn run(mut args: TraceArgs, file: &Path, console: &Console) -> Result<Exit, Failure> {
    let from_stdin = file.as_os_str() == "-";
    let option = &args.facts.snapshot;
    if from_stdin && option.path.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(
            Failure::message("the snapshot and the flows cannot both come from standard input")
                .hint("put one of them into a file"),
        );
    }
    let source = || -> Result<Box<dyn Read>, Failure> {
        if from_stdin {
            return Ok(Box::new(io::stdin().lock()));
        }
        let opened = File::open(file).with_context(|| format!("{}: the file of flows cannot be read", file.display()));
        Ok(Box::new(opened.map_err(Failure::new)?))
    };
    // A snapshot is there before the first flow; of a cluster, the flows say what has to be read.
    let (opened, input) = if option.path.is_some() || !cfg!(feature = "cluster") {
        let snapshot = load_option(option, console)?;
        let namespace = args.namespace.clone();
        (Opened { snapshot, namespace }, source()?)
    } else {
        let text = held(source()?, file)?;
        let queries = queries(&text, args.namespace.as_deref())?;
        let about = About::Flows(queries.iter().map(ends).collect());
        let opened = open(&args.facts, args.namespace.as_deref(), &about, console)?;
        let input: Box<dyn Read> = Box::new(io::Cursor::new(text));
        (opened, input)
    };
    args.namespace = opened.namespace;
    let args = &args;
    let explainer = Explainer::new(&opened.snapshot);
    let level = if args.brief { DetailArg::Summary } else { args.detail };
    let mut answers = Answers {
        args,
        explainer: &explainer,
        level,
        console,
        worst: Exit::Delivered,
    };
    let mut input = BufReader::with_capacity(64 << 10, input);
    let mut out = console.out();
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        answers.one(text, &mut out)?;
        // Whoever feeds us line by line gets its answer before it writes the next line.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(answers.worst)
}

/// All of it.
fn held(input: impl Read, file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let failed = || format!("{}: the file of flows cannot be read", file.display());
    let read = input.take(MOST_BYTES + 1).read_to_end(&mut text);
    read.with_context(failed).map_err(Failure::new)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Failure::message(format!("{}: larger than 256 MiB", file.display()))
            .hint("make a snapshot of the nodes with `kubectl knet collect`, and pass --snapshot"));
    }
    Ok(text)
}

/// The flows of a file; a line that is none gets its answer later.
fn queries(mut text: &[u8], namespace: Option<&str>) -> Result<Vec<Query>, Failure> {
    let mut queries = Vec::new();
    let mut line = Vec::new();
    while read_line(&mut text, &mut line)? {
        let parsed = parse(line.trim_ascii());
        queries.extend(parsed.map(|query| Query {
            namespace: query.namespace.or_else(|| namespace.map(str::to_owned)),
            ..query
        }));
    }
    Ok(queries)
}

/// Where to look for a flow.
fn ends(query: &Query) -> (Vec<&str>, Option<&str>) {
    let ends = [Some(query.src.as_str()), Some(&query.dst), query.via.as_deref()];
    (ends.into_iter().flatten().collect(), query.namespace.as_deref())
}

fn parse(line: &[u8]) -> Result<Query, serde_json::Error> {
    serde_json::from_slice(line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line))
}

/// Reads the next line; what is beyond the limit is thrown away. `false` at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Failure> {
    line.clear();
    let read = input.by_ref().take(LINE_LIMIT).read_until(b'\n', line)?;
    if read as u64 == LINE_LIMIT && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

struct Answers<'a, 's> {
    args: &'a TraceArgs,
    explainer: &'a Explainer<'s>,
    level: DetailArg,
    console: &'a Console,
    worst: Exit,
}

impl Answers<'_, '_> {
    fn one(&mut self, line: &[u8], out: &mut impl Write) -> Result<(), Failure> {
        let mut query = match parse(line) {
            Ok(query) => query,
            Err(error) => {
                let text = String::from_utf8_lossy(line);
                let answer = render::json::line_error(text.trim_start_matches('\u{feff}'), &error);
                return self.failed(&answer, &error.to_string(), out);
            }
        };
        // What a line does not say is what the options say.
        query.namespace = query.namespace.or_else(|| self.args.namespace.clone());
        query.proto = query
            .proto
            .or_else(|| self.args.flow.proto.as_ref().map(|p| p.0.clone()));
        query.family = query.family.or(family(self.args));
        match self.explainer.trace(&query, self.detail()) {
            Ok(explanation) => {
                self.worst = self.worst.worst(exit(explanation.exit_code()));
                match self.output() {
                    Output::Text => {
                        write!(
                            out,
                            "{}",
                            render::text::trace(&explanation, &style(self.level, self.console))
                        )?;
                        writeln!(out)?;
                    }
                    _ => self.document(&render::json::trace(&explanation, self.args.brief), out)?,
                }
                Ok(())
            }
            Err(error) => self.failed(&render::json::error(Some(&query), &error), &error.to_string(), out),
        }
    }

    /// Without hops nothing is recorded on the way, which is most of the work.
    fn detail(&self) -> Detail {
        if self.args.brief && self.output() != Output::Text {
            Detail::Outcome
        } else {
            detail(self.level)
        }
    }

    fn output(&self) -> Output {
        self.args.output.unwrap_or(Output::Json)
    }

    fn failed(&mut self, answer: &Value, message: &str, out: &mut impl Write) -> Result<(), Failure> {
        self.worst = self.worst.worst(Exit::Usage);
        match self.output() {
            Output::Text => writeln!(out, "error: {message}\n")?,
            _ => self.document(answer, out)?,
        }
        Ok(())
    }

    fn document(&self, value: &Value, out: &mut impl Write) -> Result<(), Failure> {
        match self.output() {
            Output::Yaml => write!(out, "---\n{}", render::json::to_yaml(value))?,
            _ => {
                serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        Ok(())
    }
}
