use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    temp
}

fn mistakes(files: &[(&str, &str)]) -> Vec<Diagnostic> {
    let temp = tree(files);
    match load(temp.path()) {
        Err(ManifestError::Mistakes { diagnostics, .. }) => diagnostics,
        other => panic!("{other:?}"),
    }
}

const WIKI: &str = "[[resource]]\nname = \"wiki\"\nkind = \"http\"\nupstream = \"http://127.0.0.1:3000\"\n";

#[test]
fn a_tree_becomes_one_manifest() {
    let temp = tree(&[
        ("apps/wiki.toml", WIKI),
        ("people.toml", "[[groups]]\nname = \"staff\"\nmembers = [\"alice\"]\n"),
        ("policy/b.cedar", "// b"),
        ("policy/a.cedar", "// a"),
        ("README.md", "not ours"),
        (".git/config.toml", "x = ["),
    ]);
    let manifest = load(temp.path()).unwrap();
    assert_eq!(manifest.resources.unwrap().len(), 1);
    assert_eq!(manifest.groups.unwrap()[0].members.as_deref(), Some(["alice".to_owned()].as_slice()));
    let names: Vec<String> = manifest.policy.unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["policy/a.cedar", "policy/b.cedar"]);
}

#[test]
fn toml_below_a_folder_of_tests_is_tests_and_nothing_else() {
    let temp = tree(&[
        ("wiki.toml", WIKI),
        ("a.cedar", "// a"),
        ("tests/wiki.toml", "[[case]]\n"),
        ("finance/tests/deep/x.toml", ""),
        ("contests/y.toml", ""),
    ]);
    let manifest = load(temp.path()).unwrap();
    let names =
        |files: Option<Vec<PolicyFileDoc>>| files.unwrap().into_iter().map(|file| file.name).collect::<Vec<_>>();
    assert_eq!(names(manifest.tests), ["finance/tests/deep/x.toml", "tests/wiki.toml"]);
    assert_eq!(manifest.resources.unwrap().len(), 1);
    let policy = policy(temp.path()).unwrap();
    assert_eq!((policy.files.len(), policy.tests.map(|tests| tests.len())), (1, Some(2)));
    let without = tree(&[("a.cedar", "// a")]);
    assert!(super::policy(without.path()).unwrap().tests.is_none() && load(without.path()).unwrap().tests.is_none());
}

#[test]
fn what_is_not_mentioned_is_left_alone_and_an_empty_list_is_not() {
    let temp = tree(&[("a.cedar", "")]);
    let manifest = load(temp.path()).unwrap();
    assert!(manifest.resources.is_none() && manifest.groups.is_none());
    let temp = tree(&[("a.toml", "resources = []\n")]);
    assert_eq!(load(temp.path()).unwrap().resources, Some(Vec::new()));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let found = mistakes(&[
        ("a.toml", WIKI),
        ("b.toml", WIKI),
        ("c.toml", "[[resource]]\nname = \"Bad\"\nkind = \"http\"\nupstream = \"http://h\"\n"),
        ("d.toml", "\n[[resorce]]\nname = \"x\"\n"),
        ("e.toml", "[[group]]\nname = \"staff\n"),
    ]);
    let seen: Vec<(&str, &str, u32)> = found.iter().map(|d| (d.file.as_str(), d.code.as_str(), d.line)).collect();
    assert_eq!(
        seen,
        [("b.toml", "duplicate", 1), ("c.toml", "resource", 1), ("d.toml", "toml", 2), ("e.toml", "toml", 2)]
    );
    assert!(found[0].hint.as_ref().unwrap().contains("a.toml"));
    assert!(found[2].message.contains("resorce"));
}

#[test]
fn links_are_refused_and_not_passed_over() {
    for (target, link) in [("real.toml", "link.toml"), ("folder", "linked")] {
        let temp = tree(&[("outside/real.toml", WIKI), ("outside/folder/x.toml", WIKI), ("in/a.cedar", "")]);
        let (target, link) = (temp.path().join("outside").join(target), temp.path().join("in").join(link));
        std::os::unix::fs::symlink(target, &link).unwrap();
        let error = load(&temp.path().join("in")).unwrap_err();
        assert!(matches!(error, ManifestError::Link { .. }), "{error}");
    }
}

#[test]
fn size_count_and_depth_have_limits() {
    let long = "#".repeat(MAX_FILE_BYTES as usize + 1);
    let temp = tree(&[("a.toml", long.as_str())]);
    assert!(matches!(load(temp.path()), Err(ManifestError::TooMuch { .. })));
    let deep = format!("{}a.toml", "d/".repeat(MAX_DEPTH + 1));
    let temp = tree(&[(deep.as_str(), WIKI)]);
    assert!(matches!(load(temp.path()), Err(ManifestError::TooMuch { .. })));
    let full = "#".repeat(MAX_FILE_BYTES as usize);
    let temp = tree(&[("a.toml", &full), ("b.toml", &full), ("c.toml", &full), ("d.toml", &full)]);
    assert!(matches!(load(temp.path()), Err(ManifestError::TooMuch { .. })));
}

#[test]
fn nothing_is_an_error_that_says_so() {
    let temp = tree(&[("README.md", "")]);
    assert!(matches!(load(temp.path()), Err(ManifestError::Empty { .. })));
    assert!(matches!(policy_files(temp.path()), Err(ManifestError::Empty { .. })));
    assert!(matches!(load(&temp.path().join("absent")), Err(ManifestError::Read { .. })));
}

#[test]
fn a_policy_among_invariants_or_tests_does_not_come_into_force_unnoticed() {
    for name in ["invariants/never.cedar", "company/invariants/deep/never.cedar", "tests/a.cedar"] {
        let temp = tree(&[(name, "permit(principal, action, resource);"), ("policy/a.cedar", "// a")]);
        for error in [load(temp.path()).err(), policy(temp.path()).err()] {
            let words = error.expect("refused").to_string();
            assert!(words.contains(name) && words.contains("move it out"), "{words}");
        }
    }
}
