//! Messages to chat tools, as the specification's own library verifies them (PyPI `standardwebhooks`).

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use vouchsafe_wire::api::AuditQuery;

use crate::http3::python;
use crate::world::{PATIENCE, World};

/// A receiver, and what it has read.
struct Receiver {
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    input: ChildStdin,
    _child: Child,
}

impl Receiver {
    /// Starts with a certificate and its key, over TLS; or without.
    async fn start(files: &[&Path]) -> Self {
        let (interpreter, script) = python("webhooks.py");
        let mut child = Command::new(interpreter)
            .arg(script)
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("standardwebhooks is installed by ./test");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let input = child.stdin.take().expect("piped");
        let mut receiver = Self { port: 0, lines, input, _child: child };
        receiver.port = u16::try_from(receiver.next().await["port"].as_u64().expect("a port")).expect("a port");
        receiver
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("in time").expect("readable");
        serde_json::from_str(&line.expect("standardwebhooks is installed by ./test")).expect("JSON")
    }

    /// The next message of that type, however often others come before.
    async fn message(&mut self, of: &str) -> Value {
        loop {
            let line = self.next().await;
            if line["message"]["type"] == of {
                return line;
            }
        }
    }

    /// Tells it what to do, and waits until it knows.
    async fn tell(&mut self, what: Value) {
        self.input.write_all(format!("{what}\n").as_bytes()).await.expect("told");
        while self.next().await["told"].is_null() {}
    }
}

async fn add(world: &World, name: &str, url: &str, more: Value) -> String {
    let mut new = json!({"name": name, "url": url});
    new.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let added: Value = world.admin.post("/v1/webhooks", &new).await.expect("added");
    added["secret"].as_str().expect("a secret").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_verified_by_the_specification_s_own_library_and_survives_a_kill() {
    let mut receiver = Receiver::start(&[]).await;
    let world = World::start().await;
    let url = format!("http://127.0.0.1:{}/hooks/geheim?room=1", receiver.port);
    let secret = add(&world, "chat", &url, json!({"events": ["lock.set", "lock.removed"]})).await;
    receiver.tell(json!({"secret": secret})).await;
    let (code, out, err) = world.cli(&world.state_dir(), &["webhook", "test", "chat"]).await;
    assert_eq!((code, out.contains("delivered")), (0, true), "{out}{err}");
    let tried = receiver.message("webhook.test").await;
    assert_eq!((&tried["verified"], &tried["path"]), (&json!(true), &json!("/hooks/geheim?room=1")));

    // Another secret's is not verified, so the library does look.
    receiver.tell(json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})).await;
    world.cli(&world.state_dir(), &["webhook", "test", "chat"]).await;
    assert_eq!(receiver.next().await["verified"], false);
    // A redirect is not followed.
    receiver.tell(json!({"secret": secret, "answer": 302})).await;
    let (code, out, _) = world.cli(&world.state_dir(), &["webhook", "test", "chat"]).await;
    assert_eq!((code, out.contains("it answered 302")), (1, true), "{out}");
    assert_eq!(receiver.next().await["path"], "/hooks/geheim?room=1");

    // What happens while the receiver takes nothing is there after a kill, with the id that it had.
    receiver.tell(json!({"answer": 503})).await;
    world.invite("alice", &[]).await;
    let lock = json!({"kind": "user", "name": "alice", "reason": "laptop <stolen>"});
    let _lock: Value = world.admin.post("/v1/locks", &lock).await.expect("locked");
    let refused = receiver.message("lock.set").await;
    assert_eq!((&refused["verified"], &refused["answer"]), (&json!(true), &json!(503)));
    let log = world.log();
    assert!(!log.contains("geheim") && !log.contains(secret.trim_start_matches("whsec_")), "no secret in a log");
    let port = world.port;
    let dir = world.kill().await;
    receiver.tell(json!({"answer": 204})).await;
    let world = World::start_in(dir, port).await;
    let taken = loop {
        let message = receiver.message("lock.set").await;
        if message["answer"] == 204 {
            break message;
        }
    };
    assert_eq!((&taken["verified"], &taken["id"]), (&json!(true), &refused["id"]), "one message, one id");
    let data = &taken["message"]["data"];
    assert_eq!((&data["action"], &data["target"]), (&json!("lock.add"), &json!("user/alice")));
    assert!(data["detail"].as_str().expect("words").contains("laptop <stolen>"));
    assert!(!taken["message"]["text"].as_str().expect("words").contains('<'), "{taken}");

    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let all: Value = world.admin.get("/v1/webhooks").await.expect("webhooks");
        if (&all[0]["last"], &all[0]["waiting"], &all[0]["failures"]) == (&json!("delivered"), &json!(0), &json!(0)) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is noted: {all}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let records = world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await;
    assert!(!format!("{records:?}").contains("geheim"), "the address is in no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_over_tls_has_to_prove_itself() {
    let files = tempfile::tempdir().expect("temporary directory");
    let [certificate, key] = ["mine.pem", "key.pem"].map(|name| files.path().join(name));
    let certified = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("certified");
    let rcgen::CertifiedKey { cert, signing_key } = certified();
    std::fs::write(&certificate, cert.pem()).expect("written");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    let mut receiver = Receiver::start(&[&certificate, &key]).await;
    let world = World::start().await;
    let url = format!("https://127.0.0.1:{}/hooks", receiver.port);
    let other = files.path().join("other.pem");
    std::fs::write(&other, certified().cert.pem()).expect("written");
    for (name, roots) in [("public", None), ("other", Some(&other)), ("mine", Some(&certificate))] {
        let more = match roots {
            Some(roots) => json!({"roots_pem": std::fs::read_to_string(roots).expect("read")}),
            None => json!({}),
        };
        let secret = add(&world, name, &url, more).await;
        receiver.tell(json!({"secret": secret})).await;
        let tried: Value = world.admin.post(&format!("/v1/webhooks/{name}/test"), &json!(null)).await.expect("tried");
        assert_eq!(tried["delivered"], roots == Some(&certificate), "{name}: {tried}");
    }
    assert_eq!(receiver.message("webhook.test").await["verified"], true, "and only the one that it was proven to");
}
