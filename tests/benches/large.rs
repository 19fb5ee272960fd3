//! 20,000 Services on one node: how fast a snapshot opens, how long the first answer takes, and what it costs.
//!
//! `cargo bench --bench large` writes the capture of the README with a generated 50 MB iptables-save on node-1 into a
//! temporary directory and measures there. `cargo bench --bench large -- --write DIR` only writes it.

#[path = "../support/shipped.rs"]
#[allow(dead_code, reason = "shared by tests that each use a part")]
mod shipped;

mod generator;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use knet_explain::{Detail, Explainer, Query, render};
use kubectl_knet::archive::Limits;

use generator::{Size, cluster_ip};

const SIZE: Size = Size {
    services: 20_000,
    endpoints: 5,
};
const SAVE: &str = "nodes/node-1/host/iptables-nft.save";
/// Runs of everything that is compared; the best one counts, because the machine has other things to do.
const RUNS: usize = 7;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--write", dir, ..] => write(Path::new(dir)),
        ["--measure", dir, ..] => measure(Path::new(dir)),
        _ => compare(),
    }
}

/// The shipped capture with the generated save, as a directory.
fn write(dir: &Path) {
    let mut files = shipped::files("three-node");
    // The manifest has hashes of what is replaced here; without it nothing is compared with them.
    files.remove("manifest.json");
    files.insert(SAVE.to_owned(), generator::save(SIZE).into_bytes());
    for (path, bytes) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("below dir")).expect("a directory can be made");
        std::fs::write(path, bytes).expect("a file can be written");
    }
}

fn compare() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path());
    let save = dir.path().join(SAVE);
    let bytes = std::fs::read(&save).expect("it was written");
    let lines = bytes.iter().filter(|&&b| b == b'\n').count();
    println!(
        "iptables-save                {:.1} MB, {lines} lines",
        megabytes(bytes.len())
    );
    // What a shell would ask the file: how many rules there are, and where the Service's address is.
    let address = cluster_ip(SIZE.services - 1);
    let [grep, searched] = ["KUBE", &address].map(|pattern| grep(&save, bytes.len(), pattern));
    let whole = best(|| {
        let out = Command::new(env!("CARGO_BIN_EXE_kubectl-knet"))
            .args(["trace", "toolbox-1", &format!("{address}:80"), "--snapshot"])
            .arg(dir.path())
            .output()
            .expect("the binary runs");
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
    });
    println!(
        "kubectl-knet trace, whole    {}  {:.2} and {:.2} x grep",
        rate(bytes.len(), whole),
        ratio(whole, grep),
        ratio(whole, searched)
    );
    // Memory is measured in a process that never generated anything.
    let status = Command::new(std::env::current_exe().expect("it knows its own file"))
        .arg("--measure")
        .arg(dir.path())
        .status()
        .expect("it runs");
    assert!(status.success());
}

/// `grep -c` of the file.
fn grep(save: &Path, size: usize, pattern: &str) -> Duration {
    let time = best(|| {
        let out = Command::new("grep")
            .env("LC_ALL", "C")
            .args(["-c", "-e", pattern])
            .arg(save)
            .output()
            .expect("grep runs");
        assert!(out.status.success());
    });
    println!("{:28} {}", format!("grep -c {pattern}"), rate(size, time));
    time
}

fn measure(dir: &Path) {
    let size = std::fs::metadata(dir.join(SAVE)).map_or(0, |meta| meta.len() as usize);
    let mut opening = Vec::new();
    let mut first = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        let snapshot = kubectl_knet::commands::load(dir, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
        let explainer = Explainer::new(&snapshot);
        opening.push(begin.elapsed());
        let begin = Instant::now();
        trace(&explainer, SIZE.services - 1, Detail::Decisions);
        first.push(begin.elapsed());
    }
    let (opening, first) = (
        opening.into_iter().min().expect("runs"),
        first.into_iter().min().expect("runs"),
    );
    println!("open the snapshot            {:8.2} ms", millis(opening));
    println!("first trace                  {}", rate(size, first));
    let snapshot = kubectl_knet::commands::load(dir, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    let explainer = Explainer::new(&snapshot);
    trace(&explainer, SIZE.services - 1, Detail::Decisions);
    let many = |name: &str, detail: Detail, services: &[u32]| {
        let begin = Instant::now();
        services.iter().for_each(|&service| trace(&explainer, service, detail));
        let per_second = services.len() as f64 / begin.elapsed().as_secs_f64();
        println!("{name:28} {per_second:8.0} traces/s (5 branches each)");
    };
    let spread: Vec<u32> = (0..SIZE.services).step_by(97).collect();
    many("new services, hops", Detail::Decisions, &spread);
    many("same services, hops", Detail::Decisions, &spread);
    many("same services, brief", Detail::Outcome, &spread);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| {
            rest.trim_start_matches(':')
                .trim()
                .split(' ')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .unwrap_or(0.0)
            / 1e3
    };
    println!(
        "peak memory                  {:8.1} MB, of which mapped file {:.1} MB",
        field("VmHWM"),
        field("RssFile")
    );
}

fn trace(explainer: &Explainer<'_>, service: u32, detail: Detail) {
    let query = Query {
        src: "pod/default/toolbox-1".to_owned(),
        dst: format!("{}:80", cluster_ip(service)),
        ..Query::default()
    };
    let answer = explainer.trace(&query, detail).unwrap_or_else(|e| panic!("{e}"));
    let json = render::json::trace(&answer, detail == Detail::Outcome);
    assert_eq!(json["outcome"], "delivered", "{json}");
}

fn best(mut run: impl FnMut()) -> Duration {
    let times = (0..RUNS).map(|_| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    });
    times.min().expect("runs")
}

fn rate(bytes: usize, time: Duration) -> String {
    format!(
        "{:8.2} ms  {:7.0} MB/s",
        millis(time),
        megabytes(bytes) / time.as_secs_f64()
    )
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
