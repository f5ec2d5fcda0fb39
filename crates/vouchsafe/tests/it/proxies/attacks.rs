//! Who may ask, and what a client can say that a proxy doesn't.

use super::{Office, SECRET};

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

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proven_proxy_is_answered_and_only_what_has_one_reading() {
    let office = Office::nginx().await;
    let cookie = office.cookie().await;
    let good = said(&office, &cookie);
    let answer = office.ask("/forward-auth", &good).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    assert!(answer.header("x-vouchsafe-assertion").is_some_and(|jwt| jwt.starts_with("ey")), "{answer:?}");
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
    let mut doubtful = vec![good[..5].to_vec()];
    for name in ["X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For"] {
        doubtful.push(with(&good, name, ""));
        let again = good.iter().find(|field| field.starts_with(name)).expect("there").clone();
        doubtful.push([&good[..], &[again]].concat());
    }
    for field in [
        "X-Forwarded-Method: get".to_owned(),
        "X-Forwarded-Method: CONNECT".to_owned(),
        "X-Forwarded-Proto: http".to_owned(),
        "X-Forwarded-Proto: https, http".to_owned(),
        "X-Forwarded-For: 192.0.2.7, 10.0.0.1".to_owned(),
        "X-Forwarded-For: unknown".to_owned(),
        format!("X-Forwarded-Host: {host}, {host}"),
        format!("X-Forwarded-Host: {host}:1"),
        format!("X-Forwarded-Host: {host}."),
        format!("X-Forwarded-Host: x@{host}"),
        format!("X-Forwarded-Host: {git}"),
        format!("X-Forwarded-Host: {plain}"),
        format!("X-Forwarded-Host: {own}"),
        "X-Forwarded-Host: evil.example".to_owned(),
        "X-Forwarded-Host: 127.0.0.1".to_owned(),
        "X-Forwarded-Uri: page".to_owned(),
        "X-Forwarded-Uri: //page".to_owned(),
        "X-Forwarded-Uri: /a/../page".to_owned(),
        "X-Forwarded-Uri: /%70age".to_owned(),
        "X-Forwarded-Uri: /page#x".to_owned(),
        "X-Forwarded-Uri: https://evil.example/page".to_owned(),
        "X-Forwarded-Uri: /.vouchsafe/sign-out".to_owned(),
        "X-Forwarded-Uri: /admin".to_owned(),
        "X-Forwarded-Method: POST".to_owned(),
        "X-Forwarded-Upgrade: h2c".to_owned(),
        "Sec-WebSocket-Key: x".to_owned(),
        "Cookie: __Host-vouchsafe=AAAA".to_owned(),
    ] {
        let name = field.split(':').next().unwrap_or_default();
        doubtful.push(with(&good, name, &field));
    }
    doubtful.push([&good[..], &["Cookie: __Host-vouchsafe=AAAA".to_owned()]].concat());
    for fields in &doubtful {
        let answer = office.ask("/forward-auth", fields).await;
        assert!([401, 403].contains(&answer.status), "{fields:?}: {answer:?}");
        assert!(answer.header("x-vouchsafe-assertion").is_none(), "{fields:?}");
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
        let pending = answer.header("set-cookie").unwrap_or_default();
        assert!(pending.starts_with("__Host-vouchsafe-pending="), "{answer:?}");
        let landed =
            office.alice.browser.get(&office.url(&format!("/.vouchsafe/sign-in?to={evil}"))).await.expect("landed");
        let at = (landed.url.host_str().map(str::to_owned), landed.url.port());
        assert_eq!(at, (Some(host.clone()), Some(office.proxy.port())), "{evil}: {}", landed.url);
    }
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
