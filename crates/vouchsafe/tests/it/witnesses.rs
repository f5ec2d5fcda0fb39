//! I7 beyond one machine: witnesses in processes of their own cosign what continues what they saw, and nothing else, and a
//! controller whose every place was set back hears of it before it signs anything.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use vouchsafe_runtime::spans::Endpoint;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::hash::Hash;
use vouchsafe_tlog::note::{KeyKind, Note, NoteSignature, NoteSigner, VerifierKey};
use vouchsafe_tlog::proof::consistency;
use vouchsafe_tlog::tree::{Edge, Stored};
use vouchsafe_tlog::witness::AddCheckpoint;

use crate::http3::python;
use crate::papers::Papers;
use crate::peers::{free_port, pid_of, run};
use crate::roles::{Gate, arguments};
use crate::world::{PATIENCE, VOUCHSAFE, World, launch, patiently};

/// A witness that is a process of its own.
struct Witness {
    dir: PathBuf,
    log: PathBuf,
    port: u16,
    key: String,
    process: Option<Child>,
}

impl Witness {
    /// Makes its key; it doesn't run yet.
    async fn new(dir: &Path, name: &str) -> Self {
        let state = dir.join(name);
        std::fs::create_dir(&state).expect("made");
        let key = format!("witness.example/{name}");
        let path = state.to_str().expect("UTF-8");
        let ran = run(VOUCHSAFE, &["witness", "key", "--name", &key, "--dir", path]).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        let again = run(VOUCHSAFE, &["witness", "key", "--dir", path]).await;
        assert_eq!(again.out, ran.out, "{}", again.err);
        let port = free_port(Ipv4Addr::LOCALHOST);
        Self { log: state.clone(), dir: state, port, key: ran.out.trim().to_owned(), process: None }
    }

    async fn start(&mut self, logs: &[&str]) {
        self.start_with(logs, &[]).await;
    }

    async fn start_with(&mut self, logs: &[&str], more: &[String]) {
        let mut arguments = vec!["witness".to_owned(), "--listen".to_owned(), format!("127.0.0.1:{}", self.port)];
        arguments.extend_from_slice(more);
        for key in logs {
            arguments.extend(["--log".to_owned(), (*key).to_owned()]);
        }
        let (process, ready) = launch(&self.log, &self.dir, &arguments).await;
        assert_eq!(
            (ready["role"].as_str(), ready["key"].as_str()),
            (Some("witness"), Some(self.key.as_str())),
            "{ready}"
        );
        self.process = Some(process);
    }

    /// As a power cut would.
    async fn kill(&mut self) {
        self.process.take().expect("running").kill().await.expect("killed");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The file that names witnesses.
fn file_of(dir: &Path, quorum: usize, witnesses: &[&Witness]) -> String {
    let mut text = format!("quorum = {quorum}\n");
    for witness in witnesses {
        text.push_str(&format!("[[witness]]\nurl = \"{}\"\nkey = \"{}\"\n", witness.url(), witness.key));
    }
    let path = dir.join("witnesses.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

async fn state_of(world: &World) -> Value {
    let (code, out, err) = world.cli(&world.state_dir(), &["audit", "key", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// Waits until the log's state is as wanted.
async fn until(world: &World, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut state = Value::Null;
    for () in patiently() {
        state = state_of(world).await;
        if wanted(&state) {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never {what}: {state}\n{}", world.log());
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    std::fs::set_permissions(to, std::fs::metadata(from).expect("there").permissions()).expect("set");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => copy_all(&entry.path(), &target),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target).expect("copied")),
            _ => {}
        }
    }
}

/// Asks the verifiers that share no code with us: in Python, and in Go by the libraries of the Go project.
async fn independently(arguments: &[&str]) -> Result<(), String> {
    let (interpreter, script) = python("tlog.py");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/go/bin/tlog");
    let mut python = Command::new(interpreter);
    python.arg(script);
    for mut command in [python, Command::new(program)] {
        let run = tokio::time::timeout(PATIENCE, command.args(arguments).output()).await.expect("ends in time");
        let output = run.expect("both are installed by ./test");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(())
}

async fn add_group(world: &World, name: &str) {
    world.admin.put::<Value>(&format!("/v1/groups/{name}")).await.expect("made");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_two_witnesses_cosign_and_a_log_that_was_set_back_everywhere_is_noticed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let others = tempfile::tempdir().expect("temporary directory");
    let (mut first, mut second) = (Witness::new(others.path(), "w1").await, Witness::new(others.path(), "w2").await);
    let file = file_of(others.path(), 2, &[&first, &second]);
    let arguments = ["--witnesses".to_owned(), file.clone()];

    // Without witnesses that answer, checkpoints are published without them, and it is said.
    let world = World::start_with(dir, 0, &arguments).await;
    let port = world.port;
    add_group(&world, "alone").await;
    let state = until(&world, "signed", |state| state["signed"] == state["records"] && state["signed"] != 0).await;
    assert_eq!((&state["cosigned"], &state["trouble"]), (&json!(0), &Value::Null), "{state}");
    let why = state["witnesses"][0]["trouble"].as_str().expect("said");
    assert!(why.contains("could not connect"), "{why}");
    let log_key = state["key"].as_str().expect("a key").to_owned();

    // They come, and cosign.
    first.start(&[&log_key]).await;
    second.start(&[&log_key]).await;
    add_group(&world, "witnessed").await;
    let both = |state: &Value| state["cosigned"] == state["records"];
    let state = until(&world, "cosigned", both).await;
    assert_eq!(state["witnesses"][1]["trouble"], Value::Null, "{state}");
    let note = state["signed"].clone();
    let proof = others.path().join("one.tlog-proof");
    let proof = proof.to_str().expect("UTF-8");
    let position = (note.as_u64().expect("a number") - 1).to_string();
    let (code, _, err) = world.cli(&world.state_dir(), &["audit", "prove", &position, "--out", proof]).await;
    assert!(code == 0 && err.contains("cosigned by witness.example/w1, witness.example/w2"), "{err}");
    independently(&["proof", &log_key, proof, &first.key, &second.key]).await.expect("proven to others");
    let nowhere = Path::new("/nonexistent");
    let by_both = ["--witness", &first.key, "--witness", &second.key];
    let checked = [&["audit", "verify", "--proof", proof, "--key", &log_key], by_both.as_slice()].concat();
    let (code, out, err) = world.cli(nowhere, &checked).await;
    assert!(code == 0 && out.contains("cosigned by witness.example/w1"), "{out} {err}");
    let whole = [&["audit", "verify", "--json", "--key", &log_key], by_both.as_slice()].concat();
    let (code, out, err) = world.cli(&world.state_dir(), &whole).await;
    assert_eq!(code, 0, "{out} {err}");
    let verified: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(verified["cosigned"]["by"][1]["name"], "witness.example/w2", "{verified}");
    let socket = world.state_dir().join("admin.sock");
    independently(&["log", &log_key, socket.to_str().expect("UTF-8"), &first.key, &second.key])
        .await
        .expect("verified");

    // A witness whose key is not the one that was given proves nothing.
    let stranger = Witness::new(others.path(), "w3").await;
    let with_stranger = ["audit", "verify", "--proof", proof, "--key", &log_key, "--witness", &stranger.key];
    assert_eq!(world.cli(nowhere, &with_stranger).await.0, 1);
    assert!(independently(&["proof", &log_key, proof, &stranger.key]).await.is_err());

    // One goes: checkpoints go on, cosigned ones don't, and it is said. It comes back from what it kept.
    second.kill().await;
    add_group(&world, "by-one").await;
    let state = until(&world, "half cosigned", |state| {
        state["witnesses"][0]["cosigned"] == state["records"] && state["witnesses"][1]["trouble"].is_string()
    })
    .await;
    assert!(state["cosigned"].as_u64() < state["signed"].as_u64(), "{state}");
    second.start(&[&log_key]).await;
    until(&world, "cosigned again", both).await;

    // All of the controller's places are taken away and replaced by those of before, and the log goes another way.
    let dir = world.stop().await;
    let backup = tempfile::tempdir().expect("temporary directory");
    copy_all(&dir.path().join("state"), &backup.path().join("state"));
    let world = World::start_with(dir, port, &arguments).await;
    for name in ["later", "and-later"] {
        add_group(&world, name).await;
    }
    let state = until(&world, "cosigned", both).await;
    let known = state["cosigned"].as_u64().expect("a number");
    drop(world.stop().await);
    let world = World::start_with(backup, port, &arguments).await;
    let state = until(&world, "noticed", |state| state["trouble"].is_object()).await;
    let words = state["trouble"]["words"].as_str().expect("words");
    assert!(words.contains("the witness `witness.example/w") && words.contains(&known.to_string()), "{words}");
    let signed = state["signed"].clone();
    assert!(signed.as_u64() < Some(known), "{state}");
    for number in 0..6 {
        add_group(&world, &format!("other-{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let state = state_of(&world).await;
    assert_eq!(state["signed"], signed, "nothing is signed: {state}");
    assert!(state["records"].as_u64() > Some(known), "and records are taken: {state}");

    // An administrator begins a new log; the witnesses hear of it when they are told its key.
    let (code, out, err) = world.cli(&world.state_dir(), &["audit", "fork", "--reason", "restored", "--yes"]).await;
    assert_eq!(code, 0, "{out} {err}");
    let state = until(&world, "unknown to witnesses", |state| {
        state["witnesses"][0]["trouble"].as_str().is_some_and(|why| why.contains("doesn't know this log"))
    })
    .await;
    let new_key = state["key"].as_str().expect("a key").to_owned();
    assert_ne!(new_key, log_key);
    for witness in [&mut first, &mut second] {
        witness.kill().await;
        witness.start(&[&log_key, &new_key]).await;
    }
    until(&world, "cosigned anew", both).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_is_asked_over_https_only_where_its_certificate_is_verified() {
    let (papers, others) = (Papers::new(), tempfile::tempdir().expect("temporary directory"));
    let (mut one, mut two) = (Witness::new(others.path(), "w1").await, Witness::new(others.path(), "w2").await);
    let [certificate, key] = ["server.pem", "server.key"].map(|name| papers.path(name).display().to_string());
    let own = ["--tls-cert".to_owned(), certificate, "--tls-key".to_owned(), key];
    // The second's certificate is not what is said of it.
    let list = others.path().join("witnesses.toml");
    let said = format!(
        "quorum = 1\n[[witness]]\nurl = \"https://127.0.0.1:{}\"\nkey = \"{}\"\nca_file = \"{}\"\n\
         [[witness]]\nurl = \"https://127.0.0.1:{}\"\nkey = \"{}\"\n",
        one.port,
        one.key,
        papers.path("root.pem").display(),
        two.port,
        two.key
    );
    std::fs::write(&list, said).expect("written");
    let arguments = ["--witnesses".to_owned(), list.display().to_string()];
    let world = World::start_with(tempfile::tempdir().expect("temporary directory"), 0, &arguments).await;
    let state = state_of(&world).await;
    let log_key = state["key"].as_str().expect("a key");
    one.start_with(&[log_key], &own).await;
    two.start_with(&[log_key], &own).await;
    add_group(&world, "witnessed").await;
    let state = until(&world, "cosigned", |state| {
        state["cosigned"] == state["records"] && state["witnesses"][1]["trouble"].is_string()
    })
    .await;
    assert_eq!(state["witnesses"][0]["trouble"], Value::Null, "{state}");
    let why = state["witnesses"][1]["trouble"].as_str().expect("said");
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(state["witnesses"][1]["cosigned"], Value::Null, "{state}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_controller_that_was_set_back_with_all_its_places_hears_of_it_from_a_gateway() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let arguments = arguments(free_port(Ipv4Addr::LOCALHOST), free_port(Ipv4Addr::LOCALHOST));
    let world = World::start_role(dir, &arguments).await;
    let _gate = Gate::join(&world, "one", Ipv4Addr::LOCALHOST).await;
    add_group(&world, "before").await;
    let kept = world.dir.path().join("gateway-one/gateway/checkpoints");
    let holds = |size: &Value| {
        let text = std::fs::read_to_string(&kept).unwrap_or_default();
        let notes: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
        notes.iter().any(|note| note.lines().nth(1) == Some(&size.to_string()))
    };
    let all_signed = |state: &Value| state["signed"] == state["records"] && holds(&state["signed"]);
    until(&world, "kept by the gateway", all_signed).await;
    let dir = world.stop().await;
    let backup = tempfile::tempdir().expect("temporary directory");
    copy_all(&dir.path().join("state"), &backup.path().join("state"));
    let world = World::start_role(dir, &arguments).await;
    for name in ["later", "and-later"] {
        add_group(&world, name).await;
    }
    let state = until(&world, "kept by the gateway", all_signed).await;
    let known = state["signed"].as_u64().expect("a number");

    // The gateway's own files stay where they are; the controller comes back as it was.
    let dir = world.stop().await;
    std::fs::remove_dir_all(dir.path().join("state")).expect("removed");
    copy_all(&backup.path().join("state"), &dir.path().join("state"));
    let world = World::start_role(dir, &arguments).await;
    let state = until(&world, "noticed", |state| state["trouble"].is_object()).await;
    let words = state["trouble"]["words"].as_str().expect("words");
    assert!(words.contains("the gateway `one`"), "{words}");
    // What it goes on to record is signed by nobody, and the gateway's memory stays.
    let signed = state["signed"].clone();
    for number in 0..8 {
        add_group(&world, &format!("other-{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(state_of(&world).await["signed"], signed);
    assert!(holds(&Value::from(known)));
    let (code, out, err) = world.cli(&world.state_dir(), &["doctor", "gateway"]).await;
    assert!(code == 0 && out.contains("no checkpoint is signed"), "{out} {err}");
    world.stop().await;
}

/// A log of a test, which signs whatever it likes.
struct Forger {
    signer: NoteSigner,
    hashes: HashMap<(u8, u64), Hash>,
    edge: Edge,
    tag: u8,
}

impl Stored for Forger {
    type Error = ();

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, ()> {
        (first..first + count).map(|index| self.hashes.get(&(level, index)).copied().ok_or(())).collect()
    }
}

impl Forger {
    fn new(tag: u8) -> Self {
        // An Ed25519 key of a seed (RFC 8410).
        let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let pkcs8 = [head.as_slice(), &[7; 32]].concat();
        let signer = NoteSigner::from_pkcs8("log.example", KeyKind::Ed25519, &pkcs8).expect("a key");
        Self { signer, hashes: HashMap::new(), edge: Edge::default(), tag }
    }

    /// Grows to a size; from `own` on its records are like those of no other.
    fn grow(&mut self, size: u64, own: u64) {
        while self.edge.size() < size {
            let number = self.edge.size();
            let tag = if number >= own { self.tag } else { 0 };
            let hashes = &mut self.hashes;
            self.edge.push(Hash::of_leaf(&[&number.to_be_bytes()[..], &[tag]].concat()), &mut |level, index, hash| {
                hashes.insert((level, index), hash);
            });
        }
    }

    fn request(&self, old: u64) -> AddCheckpoint {
        let (size, root) = (self.edge.size(), self.edge.root());
        let checkpoint = Checkpoint { origin: "log.example".to_owned(), size, root, extension: String::new() };
        AddCheckpoint { old, proof: consistency(self, old, size).expect("stored"), note: checkpoint.sign(&self.signer) }
    }
}

async fn post(port: u16, body: &[u8]) -> Option<(u16, String, String)> {
    let tasks = TaskGroup::new();
    let place = Endpoint::parse_whole(&format!("http://127.0.0.1:{port}/add-checkpoint")).expect("an address");
    let headers = http::HeaderMap::new();
    let sent = place.post("text/plain", &headers, body.to_vec().into(), None, &tasks);
    let response = tokio::time::timeout(PATIENCE, sent).await.expect("in time").ok()?;
    let (status, kind) =
        (response.status().as_u16(), response.headers()["content-type"].to_str().expect("text").to_owned());
    let body = vouchsafe_runtime::http_client::collect(response.into_body(), 65_536).await.ok()?;
    Some((status, kind, String::from_utf8_lossy(&body).into_owned()))
}

/// Whether an answer is a cosignature under that checkpoint.
fn cosigns(answer: &Option<(u16, String, String)>, request: &AddCheckpoint, key: &VerifierKey) -> bool {
    let Some((200, _, text)) = answer else { return false };
    let mut note = Note::new(request.note.text().to_owned());
    NoteSignature::parse_lines(text).expect("signatures").into_iter().for_each(|line| note.add(line));
    note.signed_at(key).expect("valid").0 > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_witness_that_is_killed_at_any_moment_never_cosigns_two_histories() {
    let dir: TempDir = tempfile::tempdir().expect("temporary directory");
    let mut witness = Witness::new(dir.path(), "w").await;
    let key = VerifierKey::parse(&witness.key).expect("a key");
    let log_key = Forger::new(0).signer.verifier().to_string();
    witness.start(&[&log_key]).await;

    // What the specification says of requests that are not in order.
    let mut log = Forger::new(0);
    log.grow(5, 5);
    let good = log.request(0);
    let text = good.to_string();
    for (body, status) in [
        (b"nonsense".to_vec(), 400),
        (text.replace("old 0", "old 9").into_bytes(), 400),
        (text.replace("log.example\n5", "other.example\n5").into_bytes(), 404),
        (text.replace("\n5\n", "\n6\n").into_bytes(), 403),
        (text.replace("old 0", "old 3").into_bytes(), 409),
        (text.replace("old 0\n", "old 0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").into_bytes(), 422),
        (vec![b'x'; 200_000], 413),
    ] {
        let answer = post(witness.port, &body).await;
        // Who sends too much may lose the connection before the answer is read.
        assert!(answer.as_ref().is_some_and(|answer| answer.0 == status) || status == 413, "{status}: {answer:?}");
    }
    assert!(cosigns(&post(witness.port, text.as_bytes()).await, &good, &key));
    let (status, kind, size) = post(witness.port, text.as_bytes()).await.expect("answered");
    assert_eq!((status, kind.as_str(), size.as_str()), (409, "text/x.tlog.size", "5\n"));
    let mut other = Forger::new(1);
    other.grow(5, 3);
    assert_eq!(post(witness.port, other.request(5).to_string().as_bytes()).await.expect("answered").0, 409);
    other.grow(8, 3);
    assert_eq!(post(witness.port, other.request(5).to_string().as_bytes()).await.expect("answered").0, 422);
    let kept = std::fs::read_dir(witness.dir.join("witness")).expect("listed").flatten();
    assert!(kept.into_iter().any(|file| file.path().extension().is_some_and(|ending| ending == "refused")), "evidence");

    // Killed while it is asked about one history; then it is asked about another from the same size on. The signature
    // counts wherever it got out.
    let mut size = 5;
    for round in 0..12_u64 {
        let (mut one, mut two) = (Forger::new(1), Forger::new(2));
        for forger in [&mut one, &mut two] {
            forger.hashes.clone_from(&log.hashes);
            forger.edge = log.edge.clone();
            forger.grow(size + 3, size);
        }
        let (ask_one, ask_two) = (one.request(size), two.request(size));
        let body = ask_one.to_string();
        let port = witness.port;
        let pid = pid_of(witness.process.as_ref().and_then(Child::id).expect("running"));
        let (answer, ()) = tokio::join!(post(port, body.as_bytes()), async {
            tokio::time::sleep(Duration::from_micros(600 * round)).await;
            rustix::process::kill_process(pid, Signal::KILL).expect("signalled");
        });
        let first = cosigns(&answer, &ask_one, &key);
        witness.kill().await;
        witness.start(&[&log_key]).await;
        let answer = post(witness.port, ask_two.to_string().as_bytes()).await;
        let second = cosigns(&answer, &ask_two, &key);
        assert!(!(first && second), "two histories from {size} on: {answer:?}");
        // On with the history that it knows.
        log = if second {
            two
        } else {
            assert!(cosigns(&post(witness.port, one.request(size + 3).to_string().as_bytes()).await, &ask_one, &key));
            one
        };
        size += 3;
    }
}
