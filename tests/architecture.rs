//! The boundaries of the house, mostly about what is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Licences that ask for nothing but their notice.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "0BSD",
];

/// Which crate of this workspace may use which other.
const EDGES: &[(&str, &[&str])] = &[
    ("knet-snapshot", &[]),
    ("knet-dataplane", &["knet-snapshot"]),
    ("knet-explain", &["knet-snapshot", "knet-dataplane"]),
    ("knet-collectors", &["knet-snapshot"]),
    (
        "kubectl-knet",
        &["knet-snapshot", "knet-dataplane", "knet-explain", "knet-collectors"],
    ),
];

/// What the pure crates may not link, not even through somebody else.
const IMPURE: &[&str] = &[
    "kube",
    "kube-client",
    "k8s-openapi",
    "tokio",
    "clap",
    "clap_builder",
    "anyhow",
    "rtnetlink",
];

/// Everything at the top that is no dotfile.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "collectors",
    "explain",
    "fixtures",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc is there");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc says its host");
    // Offline: what is not downloaded for this platform is not linked here either.
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            host,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn crates_know_only_whom_they_may_know() {
    let metadata = metadata();
    let ours: BTreeMap<&str, &Value> = array(&metadata, "packages")
        .iter()
        .filter(|p| p["source"].is_null())
        .map(|p| (text(p, "name"), p))
        .collect();
    let listed: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<&str> = ours
        .keys()
        .copied()
        .filter(|name| !name.starts_with("knet-bench"))
        .collect();
    assert_eq!(there, listed, "a crate is not in the table of edges");
    for (name, may) in EDGES {
        for dependency in array(ours[name], "dependencies") {
            let dependency = text(dependency, "name");
            let inside = ours.contains_key(dependency);
            assert!(!inside || may.contains(&dependency), "{name} may not know {dependency}");
        }
    }
}

#[test]
fn the_pure_crates_link_nothing_impure() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> = array(&metadata, "packages")
        .iter()
        .map(|p| (text(p, "id"), text(p, "name")))
        .collect();
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in array(&metadata["resolve"], "nodes") {
        // `kind: null` is a normal dependency: tests may use more.
        let normal = |dep: &&Value| array(dep, "dep_kinds").iter().any(|kind| kind["kind"].is_null());
        edges.insert(
            text(node, "id"),
            array(node, "deps")
                .iter()
                .filter(normal)
                .map(|dep| text(dep, "pkg"))
                .collect(),
        );
    }
    for pure in ["knet-snapshot", "knet-dataplane", "knet-explain"] {
        let start = names
            .iter()
            .find(|(_, name)| **name == pure)
            .map(|(id, _)| *id)
            .expect("it is in the workspace");
        let (mut todo, mut seen) = (vec![start], BTreeSet::new());
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                assert!(!IMPURE.contains(&names[id]), "{pure} links {}", names[id]);
                todo.extend(edges.get(id).into_iter().flatten());
            }
        }
    }
}

#[test]
fn every_dependency_is_permissive() {
    for package in array(&metadata(), "packages") {
        let licence = text(package, "license");
        assert!(
            permissive(licence),
            "{} {}: licence {licence:?} is not on the list",
            text(package, "name"),
            text(package, "version")
        );
    }
}

/// An SPDX expression with `AND`, `OR`, the old `/`, and parentheses: can it be had under the list?
fn permissive(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(" WITH ", "_WITH_");
    let tokens: Vec<String> = spaced
        .split_whitespace()
        .map(|token| token.replace("_WITH_", " WITH "))
        .collect();
    let mut at = 0;
    let ok = any(&tokens, &mut at);
    ok && at == tokens.len()
}

fn any(tokens: &[String], at: &mut usize) -> bool {
    let mut ok = all(tokens, at);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        ok |= all(tokens, at);
    }
    ok
}

fn all(tokens: &[String], at: &mut usize) -> bool {
    let mut ok = one(tokens, at);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        ok &= one(tokens, at);
    }
    ok
}

fn one(tokens: &[String], at: &mut usize) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if token != "(" {
        return LICENCES.contains(&token.as_str());
    }
    let ok = any(tokens, at);
    *at += 1;
    ok
}

#[test]
fn licence_expressions_are_understood() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert!(permissive(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-2.0",
        "(GPL-2.0 OR LGPL-3.0) AND MIT",
        "MIT Apache-2.0",
    ] {
        assert!(!permissive(bad), "{bad}");
    }
}

#[test]
fn the_top_holds_nothing_else() {
    for entry in fs::read_dir(root()).expect("the top can be listed") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(
            name.starts_with('.') || TOP.contains(&name.as_str()),
            "{name} does not belong at the top"
        );
    }
}

/// Every source file below a folder.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(here) = todo.pop() {
        for entry in fs::read_dir(&here).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "target" {
                    todo.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path
                    .strip_prefix(root())
                    .expect("below the top")
                    .to_string_lossy()
                    .into_owned();
                found.push((name, fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    found.sort();
    found
}

/// Without comments and without the tests at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(i, l)| (i + 1, l))
}

#[test]
fn the_core_does_no_io_and_reads_no_clock() {
    const NEVER: &[&str] = &[
        "std::fs",
        "std::env",
        "std::time",
        "std::process",
        "std::thread",
        "std::io",
        "std::net::Tcp",
        "std::net::Udp",
        "SystemTime",
        "Instant::",
        "println!",
        "eprintln!",
        "collections::HashMap",
        "collections::HashSet",
    ];
    for (file, text) in sources("explain") {
        if !file.contains("/src/") {
            continue;
        }
        for (number, line) in code(&text) {
            for never in NEVER {
                assert!(!line.contains(never), "{file}:{number}: {never} in the pure core");
            }
        }
    }
}

#[test]
fn inside_the_dataplane_only_the_walk_knows_the_stages() {
    const CORE: &str = "explain/dataplane/src/";
    for (file, text) in sources(CORE) {
        let place = &file[CORE.len()..];
        let forbidden: &[&str] = match place.split('/').next() {
            Some("walk" | "lib.rs") => &[],
            // A stage may ask another (netfilter asks conntrack), but never the one that calls it.
            Some("stage") => &["crate::walk"],
            _ => &["crate::walk", "crate::stage"],
        };
        for (number, line) in code(&text) {
            for never in forbidden {
                assert!(!line.contains(never), "{file}:{number}: {never} is above this file");
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Spelt in pieces, or this file would find itself.
    let never = [
        ["to", "do!"].concat(),
        ["unimplem", "ented!"].concat(),
        ["#[ig", "nore"].concat(),
    ];
    for folder in ["src", "explain", "collectors", "tests"] {
        for (file, text) in sources(folder) {
            for word in &never {
                assert!(!text.contains(word.as_str()), "{file}: {word}");
            }
            let lines = text.lines().count();
            // A generator of rulesets is a list, and may be a long one.
            let most = if folder == "tests" { 1000 } else { 800 };
            assert!(lines <= most, "{file}: {lines} lines; split it");
        }
    }
}

#[test]
fn nothing_tells_where_it_was_made() {
    let never = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
    ];
    for folder in ["src", "explain", "collectors", "tests"] {
        for (file, text) in sources(folder) {
            for word in &never {
                assert!(!text.contains(word.as_str()), "{file}: {word}");
            }
        }
    }
}
