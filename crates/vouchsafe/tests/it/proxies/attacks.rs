//! Who may ask, and what a client can say that a proxy doesn't.

use std::time::Instant;

use vouchsafe_runtime::limits::{STRANGER_BURST, STRANGER_REQUESTS_PER_SECOND};

use super::{Office, SECRET};
use crate::attacks::probe;
use crate::peers::{Curled, run};
use crate::world::{PATIENCE, patiently};

/// What nginx sends for a request of alice's.
fn said(office: &Office, cookie: &str) -> Vec<String> {
    vec![
        format!("X-Vouchsafe-Proxy: edge:{SECRET}"),
        "X-Forwarded-Method: GET".to_owned(),
        "X-Forwarded-Proto: https".to_owned(),
        format!("X-Forwarded-Host: {}", office.world.host("wiki")),
        "X-Forwarded-Uri: /page".to_owned(),
        "X-Forwarded-For: 192.0.2.7".to_owned(),
        cookie.to_owned(),
    ]
}

/// With one field in another form; an empty one is left out.
fn with(fields: &[String], name: &str, field: &str) -> Vec<String> {
    let others = fields.iter().filter(|field| !field.starts_with(name)).cloned();
    others.chain(Some(field.to_owned()).filter(|field| !field.is_empty())).collect()
}

/// The proxy's host is not ours to make promises for, and isn't served where we are.
fn says_nothing_of_the_host(answer: &Curled) {
    for name in ["alt-svc", "strict-transport-security"] {
        assert_eq!(answer.header(name), None, "{name}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proven_proxy_is_answered_and_only_what_has_one_reading() {
    let office = Office::nginx().await;
    let cookie = office.cookie().await;
    let good = said(&office, &cookie);
    let answer = office.ask("/forward-auth", &good).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    assert!(answer.header("x-vouchsafe-assertion").is_some_and(|jwt| jwt.starts_with("ey")), "{answer:?}");
    says_nothing_of_the_host(&answer);
    assert_eq!(office.world.decision(answer.decision()).await.ip.as_deref(), Some("192.0.2.7"));

    // A stranger, though everything she says is right, and her cookie good.
    for proof in [
        String::new(),
        "X-Vouchsafe-Proxy;".to_owned(),
        "X-Vouchsafe-Proxy: edge:".to_owned(),
        format!("X-Vouchsafe-Proxy: other:{SECRET}"),
        format!("X-Vouchsafe-Proxy: {SECRET}"),
        format!("X-Vouchsafe-Proxy: edge:{}", SECRET.to_uppercase()),
        format!("X-Vouchsafe-Proxy: edge:{SECRET}0"),
        format!("Authorization: Bearer edge:{SECRET}"),
    ] {
        let answer = office.ask("/forward-auth", &with(&good, "X-Vouchsafe-Proxy", &proof)).await;
        assert_eq!(answer.status, 403, "{proof}: {answer:?}");
        assert!(answer.header("x-vouchsafe-assertion").is_none(), "{proof}");
        let answer = office.ask("/.vouchsafe/sign-in?to=/", &with(&good, "X-Vouchsafe-Proxy", &proof)).await;
        assert_eq!(answer.status, 403, "{proof}: {answer:?}");
    }
    let twice = [&good[..], &[format!("X-Vouchsafe-Proxy: edge:{SECRET}")]].concat();
    assert_eq!(office.ask("/forward-auth", &twice).await.status, 403);

    // The proxy itself, where it says too little, too much, or what could mean two things.
    let host = office.world.host("wiki");
    let (git, plain, own) = (office.world.host("git"), office.world.host("plain"), office.world.host("console"));
    let mut doubtful = vec![(good[..5].to_vec(), "ambiguous_request")];
    for name in ["X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For"] {
        doubtful.push((with(&good, name, ""), "ambiguous_request"));
        let again = good.iter().find(|field| field.starts_with(name)).expect("there").clone();
        doubtful.push(([&good[..], &[again]].concat(), "ambiguous_request"));
    }
    for (field, reason) in [
        ("X-Forwarded-Method: get".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Method: CONNECT".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Proto: http".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Proto: https, http".to_owned(), "ambiguous_request"),
        ("X-Forwarded-For: 192.0.2.7, 10.0.0.1".to_owned(), "ambiguous_request"),
        ("X-Forwarded-For: unknown".to_owned(), "ambiguous_request"),
        (format!("X-Forwarded-Host: {host}, {host}"), "ambiguous_request"),
        (format!("X-Forwarded-Host: {host}:1"), "unknown_resource"),
        (format!("X-Forwarded-Host: {host}."), "ambiguous_request"),
        (format!("X-Forwarded-Host: x@{host}"), "ambiguous_request"),
        (format!("X-Forwarded-Host: {git}"), "unknown_resource"),
        (format!("X-Forwarded-Host: {plain}"), "unknown_resource"),
        (format!("X-Forwarded-Host: {own}"), "unknown_resource"),
        ("X-Forwarded-Host: evil.example".to_owned(), "unknown_resource"),
        ("X-Forwarded-Host: 127.0.0.1".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: page".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: //page".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: /a/../page".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: /%70age".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: /page#x".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: https://evil.example/page".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: /.vouchsafe/sign-out".to_owned(), "ambiguous_request"),
        ("X-Forwarded-Uri: /admin".to_owned(), "condition_failed"),
        ("X-Forwarded-Method: POST".to_owned(), "no_permit"),
        ("X-Forwarded-Upgrade: h2c".to_owned(), "no_permit"),
        ("Sec-WebSocket-Key: x".to_owned(), "no_permit"),
        ("X_Vouchsafe_User: root".to_owned(), "ambiguous_request"),
        ("Remote_User: root".to_owned(), "ambiguous_request"),
        ("X-Original-URL: /page".to_owned(), "ambiguous_request"),
        ("Cookie: __Host-vouchsafe=AAAA".to_owned(), "credential_invalid"),
    ] {
        let name = field.split(':').next().unwrap_or_default();
        doubtful.push((with(&good, name, &field), reason));
    }
    doubtful.push(([&good[..], &["Cookie: __Host-vouchsafe=AAAA".to_owned()]].concat(), "credential_invalid"));
    for (fields, reason) in &doubtful {
        let answer = office.ask("/forward-auth", fields).await;
        assert!([401, 403].contains(&answer.status), "{fields:?}: {answer:?}");
        assert!(answer.header("x-vouchsafe-assertion").is_none(), "{fields:?}");
        says_nothing_of_the_host(&answer);
        let record = office.world.decision(answer.decision()).await;
        assert_eq!(record.reason.as_deref(), Some(*reason), "{fields:?}: {record:?}");
    }
    // A good one, still.
    assert_eq!(office.ask("/forward-auth", &good).await.status, 200);

    // The way back from a sign-in stays on this host, whatever is asked for.
    for evil in
        ["https://evil.example/", "//evil.example", "/%5Cevil.example", "javascript:alert(1)", "/.vouchsafe/callback"]
    {
        let answer = office.ask(&format!("/.vouchsafe/sign-in?to={evil}"), &good).await;
        let to = answer.header("location").unwrap_or_default();
        assert!(
            answer.status == 303 && to.starts_with(office.world.url("auth", "/sign-in?app=wiki&").as_str()),
            "{answer:?}"
        );
        says_nothing_of_the_host(&answer);
        let pending = answer.header("set-cookie").unwrap_or_default();
        assert!(pending.starts_with("__Host-vouchsafe-pending="), "{answer:?}");
        let landed =
            office.alice.browser.get(&office.url(&format!("/.vouchsafe/sign-in?to={evil}"))).await.expect("landed");
        let at = (landed.url.host_str().map(str::to_owned), landed.url.port());
        assert_eq!(at, (Some(host.clone()), Some(office.proxy.port())), "{evil}: {}", landed.url);
    }
}

/// The proxy's own connection is post-quantum, its client's may be anything: nobody knows, so it counts as none.
#[tokio::test(flavor = "multi_thread")]
async fn a181_how_a_client_of_a_proxy_agreed_on_its_key_is_not_known() {
    let office = Office::nginx().await;
    let cookie = office.cookie().await;
    let ask = async || {
        let fields = said(&office, &cookie).join("\r\n");
        let host = format!("{}:{}", office.world.host("gw"), office.world.port);
        let request = format!("GET /forward-auth HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n");
        let answer = probe::h1(&office.world, "gw", None, request.as_bytes()).await;
        let (_, rest) = answer.text.split_once("dec_").expect("a decision");
        let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        (answer.status, office.world.decision(&format!("dec_{id}")).await)
    };
    let (status, record) = ask().await;
    assert_eq!((status, record.tls.as_deref()), (200, Some("1.3 X25519MLKEM768")));
    assert!(!record.is_post_quantum(), "of the proxy's connection");
    let quantum =
        r#"@id("quantum") forbid (principal, action, resource == Http::"wiki") unless { context.tls.post_quantum };"#;
    let files = office.world.admin.get::<serde_json::Value>("/v1/policy").await.expect("policy");
    let mut files = files["files"].as_array().cloned().expect("files");
    files.push(serde_json::json!({"name": "quantum.cedar", "text": quantum}));
    let body = serde_json::json!({"files": files, "note": ""});
    let _: serde_json::Value = office.world.admin.post("/v1/policy/publish", &body).await.expect("published");
    for () in patiently() {
        let (status, record) = ask().await;
        if status == 200 {
            continue;
        }
        assert_eq!((status, record.reason.as_deref()), (403, Some("forbidden")));
        // Whom the change overtook is told the reason alone.
        if !record.policies.is_empty() {
            assert_eq!(record.policies, ["quantum"]);
            return;
        }
    }
    panic!("it never came into force");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_is_not_what_nginx_says() {
    let office = Office::nginx().await;
    let cookie = office.cookie().await;
    let before = office.app.text();
    // Each would turn the question about /admin into one about /page, were it believed.
    for fields in [
        &["X-Forwarded-Uri: /page"][..],
        &["X-Forwarded-Uri: /page", "X-Forwarded-Uri: /page"],
        &["X-Original-URI: /page", "X-Original-URL: /page", "X-Rewrite-URL: /page"],
        &["X_Forwarded_Uri: /page"],
        &["X-Forwarded-Method: GET", "X-HTTP-Method-Override: GET"],
        &["Connection: X-Forwarded-Uri, X-Vouchsafe-Proxy, X-Forwarded-Host", "X-Forwarded-Uri: /page"],
        &["X-Forwarded-Host: git.vouchsafe.localhost"],
        &["Forwarded: for=10.0.0.1;host=git.vouchsafe.localhost"],
    ] {
        let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", *field]).chain(["-H", &cookie]).collect();
        for version in ["--http1.1", "--http2"] {
            let answer = office.curl("/admin", &[&fields[..], &[version]].concat()).await;
            assert!([400, 403].contains(&answer.status), "{fields:?}: {answer:?}");
        }
    }
    // Another Host than the one that the connection is for: it is the server's own name that counts.
    let git = format!("Host: {}", office.world.host("git"));
    let answer = office.curl("/admin", &["-H", &git, "-H", &cookie, "--http1.1"]).await;
    assert!([400, 403, 404, 421].contains(&answer.status), "{answer:?}");
    assert_eq!(office.app.text(), before, "nothing of it reached the app");
    // Where a client says that it is elsewhere, the record says where it is.
    let answer = office.curl("/page", &["-H", "X-Forwarded-For: 203.0.113.9", "-H", &cookie]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(office.world.decision(answer.decision()).await.ip.as_deref(), Some("127.0.0.1"));

    // What takes a fresh sign-in: a browser is sent there, a program told.
    crate::step_up::age(&office.world).await;
    let page = office.curl("/page?x=1", &["-H", &cookie, "-H", "Accept: text/html"]).await;
    let expected = office.url("/.vouchsafe/step-up?to=%2Fpage%3Fx%3D1");
    assert_eq!((page.status, page.header("location")), (302, Some(expected.as_str())), "{page:?}");
    let sent = office.curl("/.vouchsafe/step-up?to=%2Fpage", &["-H", &cookie]).await;
    assert!(sent.header("location").is_some_and(|to| to.ends_with("&fresh=1")), "{sent:?}");
    let program = office.curl("/page", &["-H", &cookie]).await;
    assert_eq!((program.status, program.header("location")), (401, None), "{program:?}");
    // Signing out is the gateway's page, and takes this host's own form.
    let asks = office.curl("/.vouchsafe/sign-out", &["-H", &cookie]).await;
    assert!(asks.status == 200 && asks.body.contains("Sign out"), "{asks:?}");
    let foreign = office.curl("/.vouchsafe/sign-out", &["-X", "POST", "-H", "Origin: https://evil.example"]).await;
    assert_eq!(foreign.status, 403, "{foreign:?}");
    drop(office.pki);
}

/// Asks the gateway as fast as curl can. No more of it is answered with `status` than the pace of one source lets through,
/// however fast this machine is; and `good` is let pass each time.
async fn while_flooded(office: &Office, path: &str, fields: &[String], status: &str, good: &[String]) {
    let at = format!("{}:{}:127.0.0.1", office.world.host("gw"), office.world.port);
    let url = format!("https://{}:{}{path}[1-1500]", office.world.host("gw"), office.world.port);
    let root = office.world.root_file.display().to_string();
    let fixed = ["-sS", "-Z", "--parallel-max", "16", "-w", "%{http_code}\n", "-o", "/dev/null"];
    let mut flood: Vec<String> =
        fixed.into_iter().chain(["--cacert", &root, "--resolve", &at]).map(str::to_owned).collect();
    flood.extend(fields.iter().flat_map(|field| ["-H".to_owned(), field.clone()]));
    flood.push(url);
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let flooding = async {
        let mut answered = 0;
        // A slow machine has less to bear.
        for _ in 0..3 {
            if begun.elapsed() < PATIENCE {
                answered += run("curl", &flood).await.out.lines().filter(|line| *line == status).count();
            }
        }
        answered
    };
    let passing = async {
        loop {
            let answer = office.ask("/forward-auth", good).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    let answered: usize = tokio::select! {
        answered = flooding => answered,
        () = passing => 0,
    };
    let pace = f64::from(STRANGER_BURST) + f64::from(STRANGER_REQUESTS_PER_SECOND) * begun.elapsed().as_secs_f64();
    assert!(answered > 0 && answered <= pace as usize + 1, "{answered} of at most {pace}");
}

/// Who asks without end is one of a source that asks too often, also behind a proxy; who is signed in there goes on. Nor
/// does a stranger with a made-up secret keep the proxy out that comes from the same address.
#[tokio::test(flavor = "multi_thread")]
async fn floods_have_a_pace_and_shut_out_neither_the_proxy_nor_who_is_signed_in() {
    let office = Office::nginx().await;
    let good = said(&office, &office.cookie().await);
    assert_eq!(office.ask("/forward-auth", &good).await.status, 200);
    // Paths of ours make the gateway ask the controller, and take no credential.
    while_flooded(&office, "/.vouchsafe/sign-in?to=/", &good[..6], "303", &good).await;
    let guess = with(&good, "X-Vouchsafe-Proxy", "X-Vouchsafe-Proxy: edge:0000000000000000000000000000");
    while_flooded(&office, "/forward-auth?", &guess, "403", &good).await;
    let log = office.world.log();
    let told = log.matches("is shown with a secret that is none").count();
    assert!((1..100).contains(&told), "told, and seldom: {told}");
}
