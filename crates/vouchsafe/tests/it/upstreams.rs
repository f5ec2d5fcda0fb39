//! Web apps of other makes behind the gateway: nginx over http and https, gRPC, Node's `ws`, streams
//! of events, and upstreams that misbehave.

mod connector;
mod drain;
mod events;
mod exchange;
mod grpc;
mod h2;
mod h3;
mod hostile;
mod interim;
mod large;
mod nginx;
mod raw;
mod websocket;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStdout;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::{Kind, Record};

use crate::peers::{Curled, curl};
use crate::world::{PATIENCE, Person, World, patiently};

/// Apps that staff may use without a device, and alice of the staff.
struct Apps {
    world: World,
    alice: Person,
}

impl Apps {
    /// `apps`: name, upstream, and authorities of an `https` upstream.
    async fn start(world: World, apps: &[(&str, String, Option<&str>)]) -> Self {
        let resource = |(name, upstream, authority): &(&str, String, Option<&str>)| {
            let mut resource = json!({"name": name, "kind": "http", "upstream": upstream});
            if let Some(authority) = authority {
                resource["upstream_ca"] = json!(authority);
            }
            resource
        };
        Self::start_with(world, apps.iter().map(resource).collect()).await
    }

    /// Resources as a manifest has them.
    async fn start_with(world: World, resources: Vec<Value>) -> Self {
        let mut policy = String::new();
        for resource in &resources {
            let name = resource["name"].as_str().expect("a name");
            policy.push_str(&format!(
                "@id(\"staff-{name}\") @device(\"none\") permit (principal in Group::\"staff\", action, resource == Http::\"{name}\");\n"
            ));
        }
        world.apply(&["staff"], Value::Array(resources), &policy).await;
        let alice = world.person("alice", &["staff"]).await;
        Self { world, alice }
    }

    /// Alice's session cookie, as a field.
    async fn cookie(&self, app: &str) -> String {
        self.world.cookie(&self.alice, app, "/").await
    }

    /// `<app>.<domain>:<port>`.
    fn authority(&self, app: &str) -> String {
        format!("{}:{}", self.world.host(app), self.world.port)
    }

    /// curl with alice's session cookie.
    async fn curl(&self, app: &str, path: &str, arguments: &[&str]) -> Curled {
        let cookie = format!("Cookie: {}", self.cookie(app).await);
        let url = self.world.url(app, path);
        let mut all = vec!["--max-time", "55", "-H", &cookie];
        all.extend(arguments);
        all.push(url.as_str());
        curl(&self.world, &all).await
    }

    /// The records of one flow, once it has ended.
    async fn flow(&self, query: AuditQuery) -> Vec<Record> {
        self.flows(query, |_| true).await
    }

    /// The records, once a flow of that kind has ended.
    async fn flows(&self, query: AuditQuery, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        for () in patiently() {
            let records = self.world.audit(query.clone()).await;
            if records.iter().any(|record| record.kind == Kind::FlowEnd && wanted(record)) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no end of the flow is recorded");
    }
}

/// A certificate authority and a server certificate of it.
pub struct Pki {
    pub authority: String,
    pub chain: String,
    pub key: String,
}

impl Pki {
    pub fn new(name: &str) -> Self {
        let authority_key = KeyPair::generate().expect("key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "an authority of the test's own");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).expect("authority").pem();
        let issuer = Issuer::new(parameters, authority_key);
        let key = KeyPair::generate().expect("key");
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        leaf.distinguished_name.push(DnType::CommonName, name);
        let chain = leaf.signed_by(&key, &issuer).expect("signed").pem();
        Self { authority, chain, key: key.serialize_pem() }
    }
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    line.expect("readable").expect("a line")
}

/// Directory of the Node programs and their one package.
fn node_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/node");
    for package in ["ws", "@grpc/grpc-js"] {
        let found = dir.join("node_modules").join(package).exists();
        assert!(found, "the npm package `{package}` is missing; run ./test, which installs it");
    }
    dir
}
