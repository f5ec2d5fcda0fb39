//! `policy prove`, and proofs at a publish, through the real binary and the real solver.

use std::path::Path;

use crate::peers::{Ran, run};
use crate::world::{VOUCHSAFE, World};

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

const SHUT: &str = "@id(\"shut\") forbid(principal in Group::\"contractors\", action, resource) when { resource.tags.contains(\"finance\") };";
const STAFF: &str = "@id(\"staff\") permit(principal in Group::\"staff\", action, resource is Http);";

/// A directory of policies that is put into force, and changed, and put into force again.
struct Draft<'w> {
    world: &'w World,
    dir: tempfile::TempDir,
}

impl<'w> Draft<'w> {
    async fn of_what_is_in_force(world: &'w World) -> Self {
        let draft = Self { world, dir: tempfile::tempdir().expect("directory") };
        let current: serde_json::Value = world.admin.get("/v1/policy").await.expect("policy");
        for file in current["files"].as_array().expect("files") {
            draft.write(file["name"].as_str().expect("name"), file["text"].as_str().expect("text"));
        }
        draft
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    async fn verb(&self, arguments: &[&str]) -> Ran {
        let (state, dir) = (self.world.state_dir().display().to_string(), self.dir.path().display().to_string());
        let all: Vec<&str> = ["--dir", &state].into_iter().chain(arguments.iter().copied()).collect();
        let all: Vec<&str> = all.into_iter().map(|word| if word == "DIR" { dir.as_str() } else { word }).collect();
        run(VOUCHSAFE, &all).await
    }

    async fn in_force(&self) -> serde_json::Value {
        self.world.admin.get("/v1/policy").await.expect("policy")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_of_which_something_is_not_proven_is_refused_with_the_case() {
    let world = World::start().await;
    let draft = Draft::of_what_is_in_force(&world).await;
    let publish = async || draft.verb(&["policy", "publish", "DIR"]).await;
    draft.write("policy/a.cedar", &format!("{STAFF}{SHUT}"));
    draft.write(
        "invariants/money.toml",
        "[[invariants]]\nname = \"no-money\"\nclaim = \"never\"\nprincipal = 'in Group::\"contractors\"'\n\
         when = 'resource.tags.contains(\"finance\")'\n",
    );
    let ran = publish().await;
    assert_eq!(ran.code, 0, "{}{}\n{}", ran.out, ran.err, world.log());
    for part in ["version 2 is in force", "1 invariant is proven", "something is allowed that was not", "by staff"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let kept = draft.in_force().await;
    assert_eq!(kept["invariants"].as_array().map(Vec::len), Some(1), "{kept}");

    // A hole in it: refused with the case, and nothing of it is live.
    draft.write("policy/a.cedar", STAFF);
    let ran = publish().await;
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for part in ["1 of ", "not so", "no-money", "some User", "by staff", "nothing was published"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert_eq!(draft.in_force().await, kept);
    // Nor does it help to leave the invariants out of the directory, to go another way, or to go back.
    std::fs::remove_dir_all(draft.dir.path().join("invariants")).expect("removed");
    assert!(publish().await.err.contains("no-money"));
    let ran = draft.verb(&["apply", "-f", "DIR", "--yes"]).await;
    assert!(ran.code == 1 && ran.err.contains("no-money"), "{}{}", ran.out, ran.err);
    assert_eq!(draft.in_force().await, kept);

    // A policy that could fail is refused without any invariant, as one that only looks like it is not.
    let sums =
        |sum: &str| format!("{STAFF}{SHUT}@id(\"sums\") forbid(principal, action, resource is Http) when {{ {sum} }};");
    draft.write("policy/a.cedar", &sums("context.auth.age * 9223372036854775807 > 3"));
    let ran = publish().await;
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("sums") && ran.err.contains("overflow"), "{}", ran.err);
    assert_eq!(draft.in_force().await, kept);
    draft.write("policy/a.cedar", &sums("context.auth.age + 60 > 3600"));
    let ran = publish().await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("nothing is allowed that was not before"), "{}", ran.out);
    let audited = draft.verb(&["audit", "query", "--kind", "admin", "--json"]).await;
    assert!(audited.out.contains("1 invariants proven"), "{}{}", audited.out, audited.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_solver_only_what_needs_no_proof_is_published() {
    let arguments = ["--solver", "/no/such/solver"].map(str::to_owned);
    let dir = tempfile::tempdir().expect("directory");
    let world = World::start_with(dir, crate::roles::free_port(), &arguments).await;
    let draft = Draft::of_what_is_in_force(&world).await;
    draft.write("policy/a.cedar", STAFF);
    let ran = draft.verb(&["policy", "publish", "DIR"]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("is not known") && ran.err.contains("/no/such/solver"), "{}", ran.err);
    let kept = draft.in_force().await;
    draft.write(
        "policy/b.cedar",
        "@id(\"sums\") forbid(principal, action, resource is Http) when { context.auth.age + 1 > 60 };",
    );
    let ran = draft.verb(&["policy", "publish", "DIR"]).await;
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for part in ["`sums` computes", "apt install cvc5"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert_eq!(draft.in_force().await, kept);
}

/// A question that nobody waits for any more holds up none that somebody does.
#[tokio::test(flavor = "multi_thread")]
async fn the_provers_process_lets_go_of_what_nobody_waits_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mute = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/proof/mute");
    let mut process = tokio::process::Command::new(VOUCHSAFE)
        .args(["prover", "--solver"])
        .arg(mute)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    let (mut to, mut from) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
    let question = |invariants: &str| {
        serde_json::json!({
            "files": [{"name": "a.cedar", "text": STAFF}],
            "invariants": [{"name": "invariants/a.toml", "text": invariants}],
            "now": 1_800_000_000,
        })
        .to_string()
    };
    let mut frame = async |bytes: &[u8]| {
        to.write_u32(u32::try_from(bytes.len()).expect("small")).await.expect("written");
        to.write_all(bytes).await.expect("written");
    };
    let mut answer = async || {
        let answer = async {
            let mut bytes = vec![0; from.read_u32().await.expect("a length") as usize];
            from.read_exact(&mut bytes).await.expect("an answer");
            serde_json::from_slice::<serde_json::Value>(&bytes).expect("JSON")
        };
        tokio::time::timeout(crate::world::PATIENCE, answer).await.expect("long before the proof would end")
    };
    let endless = question(&never_of_many());
    frame(endless.as_bytes()).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    frame(b"").await;
    let ended = answer().await;
    assert_eq!(ended["outcome"]["failed"], "nobody waited for it", "{ended}");
    let wrong = question("[[invariants]]\nname = \"a\"\nclaim = \"sometimes\"\n");
    frame(wrong.as_bytes()).await;
    let next = answer().await;
    assert!(next["outcome"]["failed"].as_str().is_some_and(|why| why.contains("sometimes")), "{next}");
    assert_ne!(ended["of"], next["of"], "each says what it is the answer to");
}

fn never_of_many() -> String {
    (0..20).map(|number| format!("[[invariants]]\nname = \"a{number}\"\nclaim = \"never\"\n")).collect()
}

/// Nothing of the prover's process goes on without its controller, and it has given up what it can.
#[tokio::test(flavor = "multi_thread")]
async fn the_provers_process_is_confined_and_ends_with_its_controller() {
    let world = World::start().await;
    let children = format!("/proc/{0}/task/{0}/children", world.pid());
    let children = std::fs::read_to_string(children).expect("children");
    let prover: u32 = children.trim().parse().expect("one child");
    let status = std::fs::read_to_string(format!("/proc/{prover}/status")).expect("status");
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(value("NoNewPrivs:"), Some("1"), "{status}");
    assert_eq!(value("Seccomp:"), Some("2"), "{status}");
    assert_eq!(value("CapEff:"), Some("0000000000000000"), "{status}");
    let _dir = world.kill().await;
    let gone = async {
        while Path::new(&format!("/proc/{prover}")).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, gone).await.expect("it ends");
}
