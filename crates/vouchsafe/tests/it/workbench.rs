//! The policy workbench through the real binary: the guide's company is what it says it is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::peers::run;
use crate::world::VOUCHSAFE;

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/company")
}

/// The guide's company with one text of its policy replaced.
fn changed(from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    for name in ["company.toml", "policy/company.cedar", "tests/company.toml"] {
        let text = fs::read_to_string(guide().join(name)).expect(name);
        let text = if name.ends_with(".cedar") {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        } else {
            text
        };
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    dir
}

#[tokio::test]
async fn the_guides_company_passes_its_tests_and_a_mistake_in_it_does_not() {
    let good = run(VOUCHSAFE, &["policy", "test", &guide().display().to_string()]).await;
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    assert!(good.out.contains("are answered as expected: 8 cases in 1 file"), "{}", good.out);
    assert!(!good.out.contains("no test that passes"), "every policy decides in some test: {}", good.out);

    // Somebody takes the condition on the device out.
    let dir = changed("when { [\"hardware\", \"hardware-attested\"].contains(context.device.grade) };", ";");
    let junit = dir.path().join("results.xml");
    let arguments = ["policy", "test", &dir.path().display().to_string(), "--junit", &junit.display().to_string()];
    let bad = run(VOUCHSAFE, &arguments).await;
    assert_eq!(bad.code, 1, "{}{}", bad.out, bad.err);
    for part in [
        "✗ and nowhere else  tests/company.toml:",
        "expected to be denied, but it is allowed by `finance-writes`",
        "✓ allowed  bob on software → ledger, http:write",
        "1 of ",
    ] {
        assert!(bad.out.contains(part), "{part} in {}", bad.out);
    }
    let xml = fs::read_to_string(junit).expect("written");
    assert!(xml.contains("failures=\"1\"") && xml.contains("and nowhere else: bob on software"), "{xml}");
    let json = run(VOUCHSAFE, &["--json", "policy", "test", &dir.path().display().to_string()]).await;
    let report: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((json.code, &report["ok"]), (1, &serde_json::json!(false)));

    // A mistake in a test is shown where it is.
    fs::write(dir.path().join("tests/company.toml"), "[[case]]\nsubjct = \"bob\"\n").expect("written");
    let broken = run(VOUCHSAFE, &["policy", "test", &dir.path().display().to_string()]).await;
    assert_eq!(broken.code, 1);
    for part in ["subjct", "did you mean `subject`?", "tests/company.toml:2"] {
        assert!(broken.err.contains(part), "{part} in {}", broken.err);
    }
}
