//! The API as clients meet it that were made from its description.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use vouchsafe_agent::session;
use vouchsafe_wire::api::{AuditQuery, Session};
use vouchsafe_wire::token::AUDIENCE_API;

use crate::world::{TestDevice, World};

/// An administrator's device, and her token for the API.
async fn administrator(world: &World) -> (TestDevice, String) {
    let ann = world.person("ann", &["administrators"]).await;
    let laptop = world.device(&ann, "laptop").await;
    let token = session::Session::on(Arc::clone(&laptop.device))
        .token(AUDIENCE_API)
        .await
        .expect("session")
        .expect("signed in");
    let token = token.expose().to_owned();
    (laptop, token)
}

/// schemathesis makes requests from the description, well-formed and not, and holds each answer against it: status, kind,
/// members, what must be refused; and that nothing is answered without a token, and that nothing fails inside.
#[tokio::test]
async fn a_client_that_is_made_of_the_description_finds_no_fault() {
    let world = World::start().await;
    let (laptop, token) = administrator(&world).await;
    let sessions: Vec<Session> = world.admin.get("/v1/sessions").await.expect("sessions");
    let mut own = vec!["ann".to_owned(), "laptop".to_owned(), "administrators".to_owned(), "console".to_owned()];
    own.extend(sessions.into_iter().flat_map(|session| [Some(session.id), session.device]).flatten());
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python");
    let mut schemathesis = Command::new(tools.join(".venv/bin/schemathesis"));
    schemathesis
        .env("SCHEMATHESIS_HOOKS", "api_hooks")
        .env("OWN", own.join(","))
        .env("PYTHONPATH", &tools)
        .args(["--config-file".as_ref(), tools.join("api.toml").as_os_str()])
        .args(["run", world.url("api", "/api/openapi.json").as_str()])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", "1"])
        // What a method that nothing has meets is the gateway's to say, before any route is looked for (`attacks::`).
        .args(["--checks", "all", "--exclude-checks", "unsupported_method"])
        // They follow the log for ever; the tests of the log and of exports do.
        .args(["--exclude-operation-id", "audit.tail", "--exclude-operation-id", "audit.export"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--tls-verify".as_ref(), world.root_file.as_os_str()])
        .args(["--request-cert".as_ref(), laptop.certificate().as_os_str()])
        .args(["--request-cert-key".as_ref(), laptop.key().as_os_str()])
        .args(["--workers", "1", "--no-shrink", "--continue-on-failure", "--warnings", "off"])
        .args(["--output-sanitize", "false", "--suppress-health-check", "all"])
        .current_dir(world.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let answer = tokio::time::timeout(Duration::from_secs(540), schemathesis.output()).await;
    let answer = answer.expect("in time").expect("schemathesis is installed by ./test");
    let told = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{told}\n{}", String::from_utf8_lossy(&answer.stderr));
    // It did ask, and what it asked went through the gateway and changed something.
    let of = |kind: &str| AuditQuery { user: Some("ann".into()), kind: Some(kind.into()), ..AuditQuery::default() };
    assert!(world.audit(of("decision")).await.len() > 500, "{told}");
    assert!(!world.audit(of("admin")).await.is_empty(), "{told}");
}
