//! Traces of requests, as OpenTelemetry's own definitions read them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};

use crate::http::Company;
use crate::http3::python;
use crate::peers::curl_as;
use crate::roles::{self, Gate};
use crate::world::{PATIENCE, VOUCHSAFE, World, patiently};

/// A receiver of OTLP, and what it has read.
pub struct Receiver {
    pub port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with a certificate and its key, over TLS.
    async fn start_with(files: &[&Path]) -> Self {
        let (interpreter, script) = python("otlp.py");
        let mut child = Command::new(interpreter)
            .arg(script)
            .args(files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("opentelemetry-proto is installed by ./test");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut receiver = Self { port: 0, lines, _child: child };
        receiver.port = u16::try_from(receiver.next().await["port"].as_u64().expect("a port")).expect("a port");
        receiver
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("in time").expect("readable");
        serde_json::from_str(&line.expect("opentelemetry-proto is installed by ./test")).expect("JSON")
    }

    /// Everything that it has got, until nothing more comes for a while.
    pub async fn drain(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Ok(line) = tokio::time::timeout(Duration::from_secs(2), self.lines.next_line()).await {
            all.push(serde_json::from_str(&line.expect("read").expect("a line")).expect("JSON"));
        }
        all
    }

    /// The spans of the trace in which that decision is, by their names.
    async fn trace_of(&mut self, decision: &str) -> BTreeMap<String, Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            all.push(self.next().await);
            let root = all.iter().find(|span| span["attributes"]["vouchsafe.decision"] == decision);
            let Some(trace) = root.map(|root| root["trace"].clone()) else { continue };
            // A trace comes whole.
            while all.last().is_some_and(|span| span["trace"] == trace && span["name"] != "forward") {
                match tokio::time::timeout(Duration::from_millis(500), self.lines.next_line()).await {
                    Ok(line) => all.push(serde_json::from_str(&line.expect("read").expect("a line")).expect("JSON")),
                    Err(_) => break,
                }
            }
            let of_it = all.into_iter().filter(|span| span["trace"] == trace);
            return of_it.map(|span| (span["name"].as_str().expect("a name").to_owned(), span)).collect();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_that_tells_the_decision_and_nothing_of_who_asked() {
    let mut receiver = Receiver::start().await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let arguments = ["--otlp-endpoint".to_owned(), format!("http://127.0.0.1:{}", receiver.port)];
    let company = Company::start_on(World::start_with(dir, 0, &arguments).await).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let refused = curl_as(world, laptop, &[&company.plain_url("finance", "/secret-path?q=hidden")]).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let trace = receiver.trace_of(refused.decision()).await;
    let root = &trace["request"];
    assert_eq!(root["service"]["service.name"], "vouchsafe-gateway");
    assert_eq!((&root["parent"], &root["kind"], &root["status"]), (&"".into(), &2.into(), &0.into()), "{root}");
    let told = &root["attributes"];
    assert_eq!((&told["vouchsafe.outcome"], &told["vouchsafe.reason"]), (&"deny".into(), &"no_permit".into()));
    assert_eq!((&told["http.request.method"], &told["http.response.status_code"]), (&"GET".into(), &403.into()));
    assert!(!trace.contains_key("forward"), "nothing was forwarded: {trace:?}");

    let allowed = curl_as(world, laptop, &[&company.plain_url("marketing", "/secret-path?q=hidden")]).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    let mut records = Vec::new();
    for () in patiently() {
        let query = vouchsafe_wire::api::AuditQuery { resource: Some("marketing".into()), ..Default::default() };
        records = world.audit(query).await;
        if !records.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let decision = records[0].id.clone().expect("an id");
    let trace = receiver.trace_of(&decision).await;
    let names: Vec<&str> = trace.keys().map(String::as_str).collect();
    assert_eq!(names, ["authenticate", "decide", "forward", "listen", "record", "request"]);
    let root = &trace["request"];
    assert_eq!(root["attributes"]["vouchsafe.resource"], "marketing", "{root}");
    for (name, span) in trace.iter().filter(|(name, _)| *name != "request") {
        assert_eq!(span["parent"], root["span"], "{name}");
        let within =
            |end: &str| span[end].as_u64() >= root["from"].as_u64() && span[end].as_u64() <= root["to"].as_u64();
        assert!(within("from") && within("to"), "{name}: {span} {root}");
    }
    assert_eq!(trace["forward"]["kind"], 3);
    let all = format!("{trace:?}");
    for word in ["alice", "laptop", "secret-path", "hidden", "127.0.0.1", &laptop.token] {
        assert!(!all.contains(word), "{word} in {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_s_variables_lead_a_controller_to_a_collector_whose_certificate_is_verified() {
    let files = tempfile::tempdir().expect("temporary directory");
    let [mine, key, other] = ["mine.pem", "key.pem", "other.pem"].map(|name| files.path().join(name));
    let certified = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("certified");
    let rcgen::CertifiedKey { cert, signing_key } = certified();
    std::fs::write(&mine, cert.pem()).expect("written");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    std::fs::write(&other, certified().cert.pem()).expect("written");
    let mut receiver = Receiver::start_with(&[&mine, &key]).await;
    let controller = async |root: &Path| {
        let mut program = Command::new(VOUCHSAFE);
        program
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://127.0.0.1:{}", receiver.port))
            .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20c0ffee")
            .env("OTEL_EXPORTER_OTLP_CERTIFICATE", root)
            .env("OTEL_SERVICE_NAME", "head-office")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%2Feu");
        let arguments = roles::arguments(roles::free_port(), roles::free_port());
        World::start_role_by(program, tempfile::tempdir().expect("temporary directory"), &arguments).await
    };
    // One that can't prove itself gets nothing, not even the header.
    let world = controller(&other).await;
    let gate = Gate::join(&world, "one", Ipv4Addr::LOCALHOST).await;
    let begun = Instant::now();
    while !world.log().contains("spans are not taken") {
        assert!(begun.elapsed() < PATIENCE, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop((gate, world));
    let world = controller(&mine).await;
    let _gate = Gate::join(&world, "one", Ipv4Addr::LOCALHOST).await;
    // Whatever she does to sign up is a request that the gateway sends on; its records are a question.
    let _bob = world.person("bob", &[]).await;
    let mut seen = BTreeMap::new();
    while !(seen.contains_key("request") && seen.contains_key("question")) {
        let span = receiver.next().await;
        seen.insert(span["name"].as_str().expect("a name").to_owned(), span);
    }
    for span in seen.values() {
        let service = &span["service"];
        assert_eq!(
            (&service["service.name"], &service["deployment.environment.name"]),
            (&"head-office".into(), &"test/eu".into())
        );
        assert_eq!(span["authorization"], "Bearer c0ffee");
        assert!(!span.to_string().contains("bob"), "{span}");
    }
    assert!(!world.log().contains("c0ffee"), "what goes along is in no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_answer_holds_up_no_request_and_no_stop() {
    // It takes connections, and says nothing; another one isn't there at all.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let gone = crate::peers::free_address().port();
    for port in [silent.local_addr().expect("address").port(), gone] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let arguments = ["--otlp-endpoint".to_owned(), format!("http://127.0.0.1:{port}")];
        let company = Company::start_on(World::start_with(dir, 0, &arguments).await).await;
        let begun = std::time::Instant::now();
        for _ in 0..3 {
            let answer = curl_as(&company.world, &company.laptop, &[&company.plain_url("marketing", "/")]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        company.world.stop().await;
    }
}
