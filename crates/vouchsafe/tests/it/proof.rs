//! `policy prove` through the real binary and the real solver.

use crate::peers::run;
use crate::world::VOUCHSAFE;

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_is_proven_and_what_does_not_is_shown() {
    let dir = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let prove = async |more: &[&str]| {
        let path = dir.path().display().to_string();
        run(VOUCHSAFE, &[&["policy", "prove", &path], more].concat()).await
    };
    write("policy/a.cedar", "@id(\"staff\") permit(principal in Group::\"staff\", action, resource is Http);");
    let ran = prove(&[]).await;
    assert!(ran.err.contains("says nothing that is to be proven") && ran.err.contains("invariants"), "{}", ran.err);
    let never = "[[invariants]]\nname = \"no-money\"\nclaim = \"never\"\nprincipal = 'in Group::\"contractors\"'\n\
                 when = 'resource.tags.contains(\"finance\")'\n";
    write("invariants/money.toml", never);
    let ran = prove(&[]).await;
    assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
    for part in ["not so", "no-money", "some User", "by staff", "Group::\"contractors\"", "0 of 1 proven"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    write("policy/b.cedar", "@id(\"out\") forbid(principal in Group::\"contractors\", action, resource is Http);");
    let ran = prove(&["--each", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &report["proven"]), (0, &true.into()), "{}", ran.out);
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(5), "{}", ran.out);
    // The file of invariants is no part of the policy, nor of the manifest.
    let path = dir.path().display().to_string();
    let checked = run(VOUCHSAFE, &["policy", "check", "--offline", &path]).await;
    assert!(checked.code == 0 && checked.out.contains("2 files"), "{} {}", checked.out, checked.err);
    let ran = prove(&["--solver", "no-such-solver"]).await;
    assert!(ran.err.contains("no-such-solver") && ran.err.contains("apt install cvc5"), "{}", ran.err);
    write("invariants/money.toml", &never.replace("when", "whenn"));
    let ran = prove(&[]).await;
    assert!(ran.err.contains("invariants/money.toml:5") && ran.err.contains("whenn"), "{}", ran.err);
}
