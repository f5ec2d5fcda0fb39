//! The direction of dependencies (DESIGN §4, STYLE "Crates and modules"), checked against what
//! cargo itself knows. A crate that isn't listed here fails: a new crate is a decision.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate of ours may depend on among ours.
const MAY_USE: &[(&str, &[&str])] = &[
    ("vouchsafe-model", &[]),
    // Transparency logs for a log, its witnesses and whoever verifies them: they share nothing else.
    ("vouchsafe-tlog", &[]),
    ("vouchsafe-policy", &["model"]),
    ("vouchsafe-proof", &["model", "policy"]),
    ("vouchsafe-wire", &["model"]),
    // What a gateway writes and a controller reads: the tests of both sides need it, so neither has it.
    ("vouchsafe-replay", &["model", "policy", "wire"]),
    ("vouchsafe-runtime", &["model", "wire"]),
    ("vouchsafe-control", &["model", "policy", "wire", "runtime", "replay", "tlog"]),
    ("vouchsafe-gateway", &["model", "policy", "wire", "runtime"]),
    ("vouchsafe-agent", &["model", "wire", "runtime"]),
    ("vouchsafe-connector", &["model", "wire", "runtime"]),
    // A role of its own: who witnesses a log must need nothing of whoever keeps it.
    ("vouchsafe-witness", &["wire", "runtime", "tlog"]),
    ("vouchsafe-demo", &["model", "wire", "runtime", "agent"]),
    // Looks at files of a host and knows no role, and no role knows it.
    ("vouchsafe-assess", &["model", "wire"]),
    // Reads logs of other programs, line by line; a crate of its own because it is pure and meets foreign bytes.
    ("vouchsafe-observed", &["model"]),
    (
        "vouchsafe",
        &[
            "model",
            "policy",
            "wire",
            "replay",
            "runtime",
            "control",
            "gateway",
            "connector",
            "agent",
            "demo",
            "assess",
            "proof",
            "observed",
            "tlog",
            "witness",
        ],
    ),
    ("vouchsafe-bench", &["model", "policy", "wire", "replay", "runtime", "control", "gateway", "agent", "demo"]),
];

/// Crates that know no sockets, files, threads, async runtime, clock or randomness.
const PURE: &[&str] = &[
    "vouchsafe-model",
    "vouchsafe-observed",
    "vouchsafe-policy",
    "vouchsafe-replay",
    "vouchsafe-tlog",
    "vouchsafe-wire",
];

/// What a pure crate may use nevertheless: of the library of cryptography only what computes, and never its randomness.
const COMPUTES: &[(&str, &str)] = &[("vouchsafe-tlog", "aws-lc-rs")];

/// What would make a pure crate impure. `http` and `bytes` are types only.
const IMPURE: &[&str] = &[
    "async-std",
    "aws-lc-rs",
    "axum",
    "getrandom",
    "h2",
    "hyper",
    "hyper-util",
    "rand",
    "reqwest",
    "ring",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "tempfile",
    "time",
    "tokio",
    "tokio-rustls",
    "tokio-util",
    "tower",
    "tracing",
    "uuid",
];

/// Calls and types that no pure crate has a use for.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "SystemTime::now",
    "Instant::now",
    "SystemRandom",
];

struct Package {
    root: PathBuf,
    /// Names of what it needs to be built, tests apart.
    needs: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("a list");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list").iter();
            let needs = dependencies.filter(|dep| dep["kind"] != "dev").map(|dep| text(&dep["name"])).collect();
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let root = manifest.parent().expect("a folder").to_owned();
            (text(&package["name"]), Package { root, needs })
        })
        .collect()
}

/// Rust files under `src` of a package, with their path below it.
fn sources(package: &Package) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let src = package.root.join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    assert!(!found.is_empty(), "{} has no sources", src.display());
    let read = |path: PathBuf| {
        let below = path.strip_prefix(&src).expect("below").to_string_lossy().into_owned();
        (below, fs::read_to_string(&path).expect("readable"))
    };
    found.into_iter().map(read).collect()
}

/// The part of a file that goes into the product. Tests may look behind the curtain.
fn product<'c>(file: &str, code: &'c str) -> &'c str {
    if file.ends_with("tests.rs") || file.contains("tests/") {
        return "";
    }
    code.split("#[cfg(test)]").next().unwrap_or_default()
}

/// Whether `word` stands in `code` as a word, comments apart.
fn uses_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.into_iter().any(|line| {
        line.match_indices(word)
            .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
    })
}

#[test]
fn dependencies_point_down() {
    let packages = packages();
    for (name, package) in &packages {
        let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| known == name) else {
            panic!("crate `{name}` is not in the table of layers: write down why it exists, and add it");
        };
        for needed in package.needs.iter().filter(|needed| packages.contains_key(*needed)) {
            let allowed = may_use.iter().any(|layer| *needed == format!("vouchsafe-{layer}"));
            assert!(allowed, "`{name}` depends on `{needed}`, which is not below it");
        }
    }
    for (name, _) in MAY_USE {
        assert!(packages.contains_key(*name), "the table of layers names `{name}`, which does not exist");
    }
}

#[test]
fn pure_crates_stay_pure() {
    let packages = packages();
    for name in PURE {
        for needed in &packages[*name].needs {
            let computes = COMPUTES.contains(&(name, needed.as_str()));
            assert!(computes || !IMPURE.contains(&needed.as_str()), "`{name}` is pure, but depends on `{needed}`");
        }
        for (file, code) in sources(&packages[*name]) {
            let code = product(&file, &code);
            for what in OUTSIDE {
                assert!(!code.contains(what), "`{name}` is pure, but {file} uses `{what}`");
            }
        }
    }
}

#[test]
fn each_power_has_one_home() {
    for (name, package) in packages() {
        for (file, code) in sources(&package) {
            let platform = name == "vouchsafe-agent" && file.starts_with("platform");
            assert!(platform || !uses_word(&code, "unsafe"), "`unsafe` stands in {name}/src/{file}");
            let code = product(&file, &code);
            let store = name == "vouchsafe-control" && file.starts_with("store");
            // A transaction may be passed through other modules; what is said in it is the store's.
            let sql = code.replace("sqlx::SqliteConnection", "");
            assert!(store || !uses_word(&sql, "sqlx"), "SQL stands in {name}/src/{file}, outside control's store");
            let policy = matches!(name.as_str(), "vouchsafe-policy" | "vouchsafe-proof" | "vouchsafe-bench");
            assert!(policy || !uses_word(code, "cedar_policy"), "Cedar stands in {name}/src/{file}");
            let evaluator = name == "vouchsafe-policy" && file.starts_with("evaluator");
            let inside = uses_word(code, "cedar_policy_core");
            assert!(evaluator || !inside, "Cedar's inside stands in {name}/src/{file}, outside the evaluator");
        }
    }
}

#[test]
fn words_are_found_as_words() {
    assert!(uses_word("let x = unsafe { 1 };", "unsafe"));
    assert!(!uses_word("// unsafe here\nlet unsafely = not_unsafe;", "unsafe"));
}
