//! What a release is made of, as far as it can be looked at without making one: the workflow, krew's manifest and the
//! recipes of images name the same programs, and the client compiles where there is no Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The targets that the workflow builds, with the Debian packages that each needs.
fn targets() -> BTreeMap<String, Vec<String>> {
    let workflow = yaml(&text(".github/workflows/release.yml"));
    let rows = workflow["jobs"]["build"]["strategy"]["matrix"]["include"].clone();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let row = |row: &Value| {
        let packages = row["packages"].as_str().unwrap_or_default();
        let packages = packages.split_whitespace().map(str::to_owned).collect();
        (row["target"].as_str().expect("a target").to_owned(), packages)
    };
    rows.iter().map(row).collect()
}

#[test]
fn the_workflow_builds_every_platform_with_the_script_that_anybody_can_run() {
    let all = targets();
    for system in ["linux", "darwin", "windows"] {
        assert!(all.keys().any(|target| target.contains(system)), "{system}: {all:?}");
    }
    // The script names the packages of the static targets, and the workflow installs those.
    let script = text(".ci/release");
    let fixed: Vec<_> = all
        .iter()
        .filter(|(target, _)| target.ends_with("-linux-musl"))
        .collect();
    assert_eq!(fixed.len(), 2, "{all:?}");
    for (target, packages) in fixed {
        let line = script.lines().find(|line| line.starts_with(&format!("#   {target} ")));
        let named: Vec<&str> = line
            .into_iter()
            .flat_map(|line| line.split_whitespace().skip(2))
            .collect();
        assert_eq!(*packages, named, "{target}");
    }
    let workflow = yaml(&text(".github/workflows/release.yml"));
    let steps = workflow["jobs"]["build"]["steps"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let runs: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(runs.contains(&".ci/release ${{ matrix.target }}"), "{runs:?}");
    // A step does one thing, and an action has a version.
    for step in &steps {
        assert!(step["run"].is_string() != step["uses"].is_string(), "{step}");
        assert!(
            step["uses"].as_str().is_none_or(|action| action.contains("@v")),
            "{step}"
        );
    }
    // What the script runs on a fixture is there.
    let fixture = Regex::new(r"fixtures/\S+").expect("a pattern");
    for path in fixture.find_iter(&script) {
        assert!(root(path.as_str()).exists(), "{}", path.as_str());
    }
}

/// Runs the release's script with a `cargo` that puts a file where the build would put the program.
#[cfg(unix)]
fn release(target: &str, program: &str, built: &Path) -> (bool, String, Vec<String>) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    let put = format!(
        "#!/bin/sh\nmkdir -p {to} && cp {} {to}/{program} && echo \"$@\" >{}\n",
        built.display(),
        at("arguments").display(),
        to = at(&format!("target/{target}/release")).display(),
    );
    fs::write(at("cargo"), put).expect("a file");
    fs::set_permissions(at("cargo"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = std::process::Command::new(root(".ci/release"))
        .args([target, &folder.path().display().to_string()])
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("CARGO_TARGET_DIR", at("target"))
        .output()
        .expect("bash is there");
    let arguments = fs::read_to_string(at("arguments")).expect("cargo was called");
    let wanted = format!("build --release --locked --target {target}\n");
    assert_eq!(arguments, wanted);
    let mut held = Vec::new();
    if let Ok(file) = fs::File::open(at(&format!("kubectl-knet-{target}.tar.gz"))) {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        for entry in archive.entries().expect("an archive").flatten() {
            held.push(entry.path().expect("a name").display().to_string());
        }
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), said, held)
}

#[test]
#[cfg(unix)]
fn a_release_holds_the_licence_and_a_program_that_runs_anywhere() {
    let ours = Path::new(env!("CARGO_BIN_EXE_kubectl-knet"));
    let (good, said, held) = release("x86_64-pc-windows-msvc", "kubectl-knet.exe", ours);
    assert!(good && held == ["LICENSE", "kubectl-knet.exe"], "{held:?}: {said}");
    let (good, said, held) = release("aarch64-apple-darwin", "kubectl-knet", ours);
    assert!(good && held == ["LICENSE", "kubectl-knet"], "{held:?}: {said}");
    // A test is built for the machine's own C library, which a node may not have.
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        let (good, said, held) = release("x86_64-unknown-linux-musl", "kubectl-knet", ours);
        assert!(!good && held.is_empty() && said.contains("asks for a loader"), "{said}");
    }
    // And what is no program at all is not packed either.
    let (good, said, held) = release("x86_64-unknown-linux-musl", "kubectl-knet", &root("LICENSE"));
    assert!(!good && held.is_empty(), "{said}");
}

/// The rules of krew's own validation (`pkg/index/validation`): a name, a version, a short line, and for each platform
/// a selector, an archive with its hash, and the program in it.
#[test]
fn the_krew_manifest_is_one() {
    let template = text(".krew.yaml");
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    let archive = Regex::new(r#"\{\{ addURIAndSha "([^"]*)" \.TagName \}\}"#).expect("a pattern");
    // As krew-release-bot fills it in.
    let filled = archive.replace_all(&template, |found: &regex::Captures<'_>| {
        format!("uri: {}\n      sha256: {}", &found[1], "ab".repeat(32))
    });
    let filled = filled
        .replace("{{ .RepositoryURL }}", "https://example.com/knet")
        .replace("{{ .TagName }}", &version);
    assert!(!filled.contains("{{"), "{filled}");
    let manifest = yaml(&filled);
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(
        (&manifest["kind"], &manifest["metadata"]["name"]),
        (&"Plugin".into(), &"knet".into())
    );
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], version);
    let short = spec["shortDescription"].as_str().expect("a line");
    assert!(short.len() <= 50 && !short.ends_with('.'), "{short}");
    assert!(spec["description"].is_string() && spec["homepage"].is_string());
    let mut platforms = BTreeSet::new();
    let built = targets();
    for platform in spec["platforms"].as_array().expect("platforms") {
        let labels = &platform["selector"]["matchLabels"];
        let (os, arch) = (
            labels["os"].as_str().expect("os"),
            labels["arch"].as_str().expect("arch"),
        );
        assert!(platforms.insert((os.to_owned(), arch.to_owned())), "{os} {arch} twice");
        let uri = platform["uri"].as_str().expect("an archive");
        assert!(
            uri.starts_with("https://") && uri.contains(&format!("/{version}/")),
            "{uri}"
        );
        assert_eq!(platform["sha256"].as_str().map(str::len), Some(64));
        let program = if os == "windows" {
            "kubectl-knet.exe"
        } else {
            "kubectl-knet"
        };
        assert_eq!(platform["bin"], program);
        let name = uri.rsplit('/').next().unwrap_or_default();
        let target = name
            .strip_prefix("kubectl-knet-")
            .and_then(|n| n.strip_suffix(".tar.gz"));
        let target = target.unwrap_or_else(|| panic!("{uri}"));
        assert!(built.contains_key(target), "{target} is not built: {built:?}");
        let cpu = if arch == "amd64" { "x86_64" } else { "aarch64" };
        assert!(target.starts_with(cpu) && target.contains(os), "{os} {arch}: {target}");
    }
    assert_eq!(platforms.len(), built.len(), "{platforms:?} {built:?}");
}

#[test]
fn images_hold_what_the_pod_runs() {
    let recipe = text(".container/Containerfile");
    let stages: Vec<&str> = recipe.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert!(
        matches!(stages[..], [build, last] if build.ends_with(" AS build") && last.ends_with(":nonroot")),
        "{stages:?}"
    );
    assert!(recipe.contains("linux-musl") && recipe.contains("--locked"), "{recipe}");
    for file in ["Containerfile", "Containerfile.tools"] {
        let recipe = text(&format!(".container/{file}"));
        // Where `--agent image` looks for the program.
        assert!(
            recipe.contains(" /kubectl-knet\n") && recipe.ends_with("ENTRYPOINT [\"/kubectl-knet\"]\n"),
            "{file}"
        );
        let known = [
            "FROM",
            "ARG",
            "WORKDIR",
            "COPY",
            "RUN",
            "ENTRYPOINT",
            "#",
            "&&",
            "|",
            "",
        ];
        for line in recipe.lines() {
            let word = line.split_whitespace().next().unwrap_or_default();
            assert!(known.contains(&word), "{file}: {line}");
        }
    }
    assert!(text(".dockerignore").lines().any(|line| line == "target"));
}

/// The role manifests are YAML that Kubernetes would take, and give no more than the two say.
#[test]
fn roles_give_what_is_needed_and_no_more() {
    let verbs = |file: &str| {
        let text = text(file);
        let mut all = BTreeSet::new();
        for document in text.split("\n---\n") {
            let role = yaml(document);
            assert!(
                matches!(role["kind"].as_str(), Some("Role" | "ClusterRole")),
                "{document}"
            );
            assert_eq!(role["apiVersion"], "rbac.authorization.k8s.io/v1");
            for rule in role["rules"].as_array().expect("rules") {
                for resource in words(&rule["resources"]) {
                    all.extend(
                        words(&rule["verbs"])
                            .into_iter()
                            .map(|verb| format!("{verb} {resource}")),
                    );
                }
            }
        }
        all
    };
    let read = verbs("src/commands/rbac/read.yaml");
    assert!(
        read.iter()
            .all(|right| right.starts_with("get ") || right.starts_with("list ")),
        "{read:?}"
    );
    assert!(!read.iter().any(|right| right.contains("secrets")), "{read:?}");
    let agents = verbs("src/commands/rbac/agents.yaml");
    let wanted = [
        "create pods",
        "create pods/exec",
        "delete pods",
        "get pods",
        "get pods/exec",
        "list pods",
    ];
    assert_eq!(agents.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

/// `tests/all.sh` compiles the client for other systems where it can; this holds everywhere: what needs Linux is
/// behind a gate.
#[test]
fn what_needs_linux_is_behind_a_gate() {
    let library = text("collectors/src/lib.rs");
    let lines: Vec<&str> = library.lines().collect();
    let gated = |module: &str| {
        let at = lines.iter().position(|line| line.ends_with(&format!("mod {module};")));
        let at = at.unwrap_or_else(|| panic!("no module {module}"));
        lines[at - 1] == "#[cfg(target_os = \"linux\")]"
    };
    let needs = [
        "netlink_sys",
        "netlink_packet_route",
        "netlink_packet_core",
        "rustix::",
        "std::os::linux",
        "std::os::fd",
    ];
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root("collectors/src")).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut files = vec![entry.path()];
        if entry.path().is_dir() {
            let inside = fs::read_dir(entry.path()).expect("a folder").flatten();
            files = inside.map(|file| file.path()).collect();
        }
        let linux = files.iter().any(|file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            needs.iter().any(|word| text.contains(word))
        });
        if linux {
            found.insert(name.trim_end_matches(".rs").trim_end_matches("_tests").to_owned());
        }
    }
    assert!(found.contains("netlink") && found.contains("namespaces"), "{found:?}");
    for module in found {
        assert!(gated(&module), "{module} needs Linux and is compiled everywhere");
    }
    // The crates are not even there elsewhere.
    let manifest = text("collectors/Cargo.toml");
    let (everywhere, linux) = manifest
        .split_once("[target.'cfg(target_os = \"linux\")'.dependencies]")
        .expect("a part for Linux");
    for name in ["netlink-sys", "netlink-packet-core", "netlink-packet-route", "rustix"] {
        assert!(!everywhere.contains(name) && linux.contains(name), "{name}");
    }
}
