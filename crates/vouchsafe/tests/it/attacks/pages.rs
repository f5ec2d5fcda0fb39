//! G10 on the sign-in host, and fixation (A127): pages act only on what they themselves sent.

use super::Lab;
use super::probe::{Answer, h1};

impl Lab {
    /// Alice's cookie on the sign-in host.
    pub(super) fn auth_cookie(&self) -> String {
        let [alice, _] = &self.people;
        let cookies = alice.browser.cookies_of(&self.world.host("auth"));
        let (name, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("signed in");
        format!("{name}={value}")
    }

    async fn at_auth(&self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            self.host("auth"),
            body.len()
        );
        h1(&self.world, "auth", None, request.as_bytes()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a149_another_sites_page_changes_nothing() {
    let lab = Lab::start().await;
    let cookie = lab.auth_cookie();
    let json = r#"{"id":"x","name":"x","user_code":"AAAA-AAAA","approve":true}"#;
    for path in [
        "/sign-out",
        "/sessions/end",
        "/passkeys/remove",
        "/device",
        "/webauthn/register/start",
        "/webauthn/register/finish",
        "/webauthn/authenticate/finish",
    ] {
        for (kind, body) in [
            ("application/x-www-form-urlencoded", "session=x&id=x&user_code=AAAA-AAAA&answer=approve"),
            ("application/x-www-form-urlencoded", "csrf=&session=x"),
            ("application/x-www-form-urlencoded", "csrf=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&_method=DELETE"),
            ("text/plain", json),
            ("application/json", json),
        ] {
            for from in [
                "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
                format!("Origin: https://{}\r\nSec-Fetch-Site: same-site\r\n", lab.host("app-b")),
                "Origin: null\r\n".to_owned(),
                String::new(),
            ] {
                let fields = format!("Cookie: {cookie}\r\nContent-Type: {kind}\r\n{from}");
                let answer = lab.at_auth("POST", path, &fields, body).await;
                assert!((400..500).contains(&answer.status), "{path} {kind} {from:?}: {answer:?}");
                assert!(!answer.text.to_ascii_lowercase().contains("\nset-cookie:"), "{path}: {answer:?}");
            }
        }
        if path != "/device" {
            let answer =
                lab.at_auth("GET", &format!("{path}?_method=POST"), &format!("Cookie: {cookie}\r\n"), "").await;
            assert!([404, 405].contains(&answer.status), "GET {path}: {answer:?}");
        }
    }
    let answer = lab.at_auth("GET", "/", &format!("Cookie: {cookie}\r\nAccept: text/html\r\n"), "").await;
    assert_eq!(answer.status, 200, "alice is still signed in: {answer:?}");
    assert!(answer.text.contains("alice"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a153_what_a_link_says_is_text_and_never_markup() {
    let lab = Lab::start().await;
    let cookie = lab.auth_cookie();
    let evil = "%3Cscript%3Ealert(1)%3C/script%3E%22%27%3E%3Cimg%20src=x%20onerror=alert(1)%3E";
    for path in ["/", "/sign-in", "/signed-out", "/invite", "/device", "/nothing", "/assets/x/y"] {
        for query in [
            format!("app={evil}&state={evil}"),
            format!("app=app-a&state={evil}"),
            format!("code={evil}&user_code={evil}"),
            format!("error={evil}&error_description={evil}&return_to=javascript:alert(1)&next=//evil.example"),
        ] {
            for fields in ["Accept: text/html\r\n".to_owned(), format!("Accept: text/html\r\nCookie: {cookie}\r\n")] {
                let answer = lab.at_auth("GET", &format!("{path}?{query}"), &fields, "").await;
                let (head, body) = answer.text.split_once("\r\n\r\n").unwrap_or((&answer.text, ""));
                let (head, body) = (head.to_ascii_lowercase(), body.to_ascii_lowercase());
                assert!(answer.status < 500 && answer.status > 0, "{path} {query}: {answer:?}");
                assert!(!body.contains("<script>alert") && !body.contains("<img src=x"), "{path} {query}: {answer:?}");
                assert!(
                    !body.contains("href=\"javascript:") && !body.contains("//evil.example\""),
                    "{path}: {answer:?}"
                );
                assert!(!head.contains("location: //") && !head.contains("location: javascript"), "{path}: {head}");
                assert!(!head.contains("evil.example"), "{path}: {head}");
                if head.contains("content-type: text/html") {
                    let policy = head.lines().find(|line| line.starts_with("content-security-policy:"));
                    let policy = policy.unwrap_or_else(|| panic!("{path} without a policy: {head}"));
                    assert!(!policy.contains("unsafe-inline") && policy.contains("frame-ancestors 'none'"), "{policy}");
                    assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a127_a_session_is_never_one_that_was_there_before_the_sign_in() {
    let lab = Lab::start().await;
    let planted = "A".repeat(lab.cookie.split_once('=').expect("a cookie").1.len());
    let host = lab.host("app-a");
    let page = |cookie: &str| {
        format!(
            "GET /public/x HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nCookie: __Host-vouchsafe={cookie}\r\n\r\n"
        )
    };
    // Before the sign-in, with a value of the attacker's: the way in gives a state of its own, and
    // takes over nothing.
    let answer = h1(&lab.world, "app-a", None, page(&planted).as_bytes()).await;
    assert!([303, 401].contains(&answer.status), "{answer:?}");
    assert!(!answer.text.contains(&planted), "{answer:?}");
    // A callback without the state that this browser was given signs nobody in.
    for cookie in ["__Host-vouchsafe-pending=x.Lw".to_owned(), format!("__Host-vouchsafe={planted}")] {
        let request =
            format!("GET /.vouchsafe/callback?code=x&state=y HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
        let answer = h1(&lab.world, "app-a", None, request.as_bytes()).await;
        let text = answer.text.to_ascii_lowercase();
        assert!(
            !text.contains("set-cookie: __host-vouchsafe=") || text.contains("set-cookie: __host-vouchsafe=;"),
            "{answer:?}"
        );
    }
    // Each host got a value of its own at the sign-in, and the planted one is still nobody's.
    let [alice, _] = &lab.people;
    let other = lab.world.cookie(alice, "app-b", "/").await;
    let values = [lab.cookie.clone(), other, lab.auth_cookie()];
    let mut unlike: Vec<&str> = values.iter().map(|cookie| cookie.split_once('=').expect("a cookie").1).collect();
    unlike.sort_unstable();
    unlike.dedup();
    assert_eq!(unlike.len(), 3);
    assert!(!unlike.contains(&planted.as_str()));
    lab.app.take();
    let answer = h1(&lab.world, "app-a", None, page(&planted).as_bytes()).await;
    assert!([303, 401].contains(&answer.status), "{answer:?}");
    assert_eq!(lab.app.bytes(), 0);
}

/// Signing out of an app is a change too. A link or an image of another site asks for a page, and the
/// page's button works only from there.
#[tokio::test(flavor = "multi_thread")]
async fn a149_nothing_but_its_own_button_signs_out_of_an_app() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let ask = async |method: &str, fields: &str| {
        let request = format!(
            "{method} /.vouchsafe/sign-out HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n{fields}Content-Length: 0\r\n\r\n",
            lab.cookie
        );
        h1(&lab.world, "app-a", None, request.as_bytes()).await
    };
    let lower = |answer: &Answer| answer.text.to_ascii_lowercase();
    for from in ["", "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-origin\r\n"] {
        let answer = ask("GET", from).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!lower(&answer).contains("set-cookie:"), "{answer:?}");
        assert!(lower(&answer).contains("form-action 'self' https://auth."), "{answer:?}");
        assert!(answer.text.contains("<form method=\"post\" action=\"/.vouchsafe/sign-out\">"), "{answer:?}");
    }
    for from in [
        String::new(),
        "Sec-Fetch-Site: cross-site\r\n".to_owned(),
        format!("Sec-Fetch-Site: same-site\r\nOrigin: https://{}\r\n", lab.host("app-b")),
        format!("Origin: https://{}\r\n", lab.host("app-b")),
        format!("Origin: http://{host}\r\n"),
        "Origin: null\r\n".to_owned(),
    ] {
        let answer = ask("POST", &from).await;
        assert_eq!(answer.status, 403, "{from:?}: {answer:?}");
        assert!(!lower(&answer).contains("set-cookie:"), "{from:?}: {answer:?}");
    }
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = ask(method, "Sec-Fetch-Site: same-origin\r\n").await;
        assert_eq!(answer.status, 404, "{method}: {answer:?}");
    }
    for from in ["Sec-Fetch-Site: same-origin\r\n".to_owned(), format!("Origin: https://{host}\r\n")] {
        let answer = ask("POST", &from).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        assert!(lower(&answer).contains("set-cookie: __host-vouchsafe=;"), "{answer:?}");
        assert!(lower(&answer).contains(&format!("location: https://{}/\r\n", lab.host("auth"))), "{answer:?}");
    }
    assert!(lab.app.take().is_empty(), "none of it is the app's business");
}

/// Secrets are shown once, in a body that nothing keeps: not in an address that is sent or logged.
#[tokio::test(flavor = "multi_thread")]
async fn a155_one_time_secrets_are_in_no_address_cache_or_log() {
    let lab = Lab::start().await;
    let link = lab.world.invite("carol", &["staff"]).await;
    let (address, invitation) = link.split_once('#').expect("behind the #, which no browser sends");
    assert!(!address.contains('?') && invitation.len() >= 43, "{link}");
    let ticket: vouchsafe_wire::api::DeviceInvited =
        lab.world.admin.post("/v1/devices/invites", &serde_json::json!({"owner": "alice"})).await.expect("invited");
    // Where pages and tokens come from, nothing is kept on the way.
    for (label, path) in [("auth", "/invite"), ("auth", "/sign-in"), ("auth", "/device"), ("app-a", "/public/x")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n\r\n", lab.host(label));
        let answer = h1(&lab.world, label, None, request.as_bytes()).await;
        let head = answer.text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        assert!(head.contains("cache-control: no-store"), "{label}{path}: {head}");
        assert!(head.contains("referrer-policy: no-referrer"), "{label}{path}: {head}");
    }
    // Not even at the most talkative level, and not in the administrator's lists.
    let users = lab.world.admin.get::<serde_json::Value>("/v1/users").await.expect("users").to_string();
    let audit =
        serde_json::to_string(&lab.world.audit(vouchsafe_wire::api::AuditQuery::default()).await).expect("JSON");
    let cookie = lab.cookie.split_once('=').expect("a cookie").1;
    for (kept, text) in [("log", lab.world.log()), ("users", users), ("audit", audit)] {
        for (what, secret) in [
            ("invitation", invitation),
            ("ticket", ticket.ticket.as_str()),
            ("cookie", cookie),
            ("token", &lab.laptop.token),
        ] {
            assert!(!text.contains(secret), "the {what} is in the {kept}");
        }
    }
}

/// What people name things becomes part of host names, policies, lines and scripts, so a name is never
/// more than a name.
#[tokio::test(flavor = "multi_thread")]
async fn a157_names_are_no_syntax() {
    let lab = Lab::start().await;
    for name in [
        "a\nb",
        "a\r\nb",
        "a: b",
        "a\"b",
        "a'b",
        "a`b",
        "$(id)",
        "a;b",
        "a|b",
        "a b",
        "-oProxyCommand=x",
        "../a",
        "a/b",
        "a\0b",
        "a\u{202e}b",
        "a<b>",
        "{a}",
        "a,b",
        "*",
        "",
        "%h",
        "a\u{1b}[31m",
    ] {
        let made = |path: &'static str, body: serde_json::Value| {
            let admin = &lab.world.admin;
            async move { admin.post::<serde_json::Value, serde_json::Value>(path, &body).await.is_ok() }
        };
        assert!(!made("/v1/users", serde_json::json!({"name": name, "groups": []})).await, "a user {name:?}");
        let resource = serde_json::json!({"name": name, "kind": "http", "upstream": "http://10.0.0.5:80"});
        let manifest = |part: serde_json::Value| {
            let admin = &lab.world.admin;
            async move { admin.post::<serde_json::Value, serde_json::Value>("/v1/plan", &part).await.is_ok() }
        };
        assert!(!manifest(serde_json::json!({"resources": [resource]})).await, "a resource {name:?}");
        assert!(!manifest(serde_json::json!({"groups": [{"name": name}]})).await, "a group {name:?}");
        let tagged = serde_json::json!({"name": "x", "kind": "http", "upstream": "http://10.0.0.5:80", "tags": [name]});
        assert!(!manifest(serde_json::json!({"resources": [tagged]})).await, "a tag {name:?}");
        let upstream = serde_json::json!({"name": "x", "kind": "http", "upstream": format!("http://{name}:80")});
        assert!(!manifest(serde_json::json!({"resources": [upstream]})).await, "an upstream {name:?}");
    }
    for description in ["a\nb", "a\rb", "a\0b", "a\u{1b}[31m"] {
        let resource = serde_json::json!({"resources": [
            {"name": "x", "kind": "http", "upstream": "http://10.0.0.5:80", "description": description}]});
        let planned: Result<serde_json::Value, _> = lab.world.admin.post("/v1/plan", &resource).await;
        assert!(planned.is_err(), "{description:?}");
    }
}
