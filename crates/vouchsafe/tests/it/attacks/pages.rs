//! G10 on the sign-in host, and fixation (A127): pages act only on what they themselves sent.

use super::Lab;
use super::probe::{Answer, h1};

impl Lab {
    /// Alice's cookie on the sign-in host.
    fn auth_cookie(&self) -> String {
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
