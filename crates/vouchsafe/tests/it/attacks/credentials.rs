//! G8 and G9: a credential is one thing, for one place, and belongs to one person.

use tokio::task::JoinSet;
use vouchsafe_agent::session::Session;
use vouchsafe_wire::token::AUDIENCE_API;

use super::probe::{Answer, h1};
use super::{Lab, STREAM_WAYS, WAYS, Way};

impl Lab {
    /// A request at a host with this one credential.
    async fn with(&self, host: &str, credential: &str) -> Answer {
        let (sni, device) = match host {
            "gw" => ("gw", Some(&self.laptop)),
            "api" => ("api", Some(&self.laptop)),
            other => (other, None),
        };
        let app = self.host("app-a");
        let (target, host) = match sni {
            "gw" => (format!("http://{app}/public/x"), app),
            "api" => ("/v1/users".to_owned(), self.host("api")),
            other => ("/public/x".to_owned(), self.host(other)),
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{credential}\r\n\r\n");
        h1(&self.world, sni, device, request.as_bytes()).await
    }

    /// Nobody was proven: the answer asks for a sign-in, and the record names no user.
    async fn nobody(&self, sample: &str, answer: &Answer) {
        assert!([401, 407].contains(&answer.status), "{sample}: {answer:?}");
        if let Some(id) = answer.decision() {
            let record = self.world.decision(id).await;
            assert_eq!((record.outcome.as_deref(), record.user), (Some("deny"), None), "{sample}");
        }
        assert_eq!(self.app.bytes(), 0, "{sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a123_a_session_cookie_with_anything_changed_is_nobodys() {
    let lab = Lab::start().await;
    let (name, value) = lab.cookie.split_once('=').expect("a cookie");
    let mut forged: Vec<String> = Vec::new();
    for (at, byte) in value.bytes().enumerate() {
        let other = if byte == b'A' { 'B' } else { 'A' };
        let mut text = value.to_owned();
        text.replace_range(at..=at, &other.to_string());
        forged.push(text);
    }
    forged.extend(["", "\"\"", "null", "0", "%00"].map(ToOwned::to_owned));
    forged.push(value[..value.len() - 1].to_owned());
    forged.push(format!("{value}A"));
    forged.push(format!("{value}="));
    forged.push(format!("\"{value}\""));
    forged.push(value.to_ascii_lowercase());
    forged.push("A".repeat(value.len()));
    forged.push("A".repeat(30_000));
    for text in forged.iter().filter(|text| *text != value) {
        let answer = lab.with("app-a", &format!("Cookie: {name}={text}")).await;
        lab.nobody(text, &answer).await;
    }
    assert_eq!(lab.with("app-a", &format!("Cookie: {name}={value}")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a125_a_credential_of_one_kind_is_none_of_another() {
    let lab = Lab::start().await;
    let [alice, _] = &lab.people;
    let value = |cookie: &str| cookie.split_once('=').expect("a cookie").1.to_owned();
    let other = lab.world.cookie(alice, "app-b", "/").await;
    let cookies = alice.browser.cookies_of(&lab.world.host("auth"));
    let (_, auth) = cookies.iter().find(|(name, _)| name.starts_with("__Host-")).expect("signed in");
    let api = Session::on(lab.laptop.device.clone()).token(AUDIENCE_API).await.expect("session").expect("signed in");
    lab.app.take();
    lab.with("app-a", &format!("Cookie: {}", lab.cookie)).await;
    let seen = lab.app.take();
    let assertion = seen[0].values("x-vouchsafe-assertion")[0].to_owned();
    let credentials = [
        ("cookie of app-a", value(&lab.cookie)),
        ("cookie of app-b", value(&other)),
        ("cookie of auth", auth.clone()),
        ("gateway token", lab.laptop.token.clone()),
        ("API token", api.expose().to_owned()),
        ("assertion", assertion),
    ];
    for (kind, text) in &credentials {
        for (verifier, host, credential) in [
            ("cookie of app-a", "app-a", format!("Cookie: __Host-vouchsafe={text}")),
            ("cookie of app-b", "app-b", format!("Cookie: __Host-vouchsafe={text}")),
            ("cookie of console", "console", format!("Cookie: __Host-vouchsafe={text}")),
            ("gateway token", "gw", format!("Proxy-Authorization: Bearer {text}")),
            ("API token", "api", format!("Authorization: Bearer {text}")),
            ("no verifier", "app-a", format!("Authorization: Bearer {text}")),
            ("no verifier", "app-a", format!("Proxy-Authorization: Bearer {text}")),
            ("no verifier", "api", format!("Cookie: __Host-vouchsafe={text}")),
            ("no verifier", "gw", format!("Cookie: __Host-vouchsafe={text}")),
        ] {
            let answer = lab.with(host, &credential).await;
            let sample = format!("{kind} at {host} as {verifier}");
            if kind == &verifier {
                assert!([200, 403].contains(&answer.status), "{sample}: {answer:?}");
                lab.app.take();
            } else {
                lab.nobody(&sample, &answer).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a135_people_at_the_same_time_are_never_taken_for_each_other() {
    let lab = std::sync::Arc::new(Lab::start().await);
    let mut running = JoinSet::new();
    for number in 0..40 {
        let lab = std::sync::Arc::clone(&lab);
        running.spawn(async move {
            let (user, cookie) = if number % 2 == 0 { ("alice", &lab.cookie) } else { ("bob", &lab.victim) };
            let host = lab.host("app-a");
            let request: String = (0..5)
                .map(|turn| {
                    format!("GET /public/{user}/{number}/{turn} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n")
                })
                .collect();
            let answer = h1(&lab.world, "app-a", None, request.as_bytes()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        });
    }
    while let Some(result) = running.join_next().await {
        result.expect("no panic");
    }
    let seen = lab.app.take();
    assert!(seen.len() >= 40, "{}", seen.len());
    for one in seen {
        let user = one.line.split('/').nth(2).expect("a user");
        assert_eq!(one.values("x-vouchsafe-user"), [user], "{one:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a137_a_token_spelt_otherwise_is_no_other_token() {
    let lab = Lab::start().await;
    let token = &lab.laptop.token;
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { panic!("three parts") };
    let last = |text: &str| {
        // The last character of base64url carries bits that are not part of the value.
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (start, end) = text.split_at(text.len() - 1);
        let at = alphabet.iter().position(|byte| *byte == end.as_bytes()[0]).expect("base64url");
        format!("{start}{}", char::from(alphabet[at ^ 1]))
    };
    for (sample, text) in [
        ("padding bits of the signature", format!("{header}.{claims}.{}", last(signature))),
        ("padding bits of the claims", format!("{header}.{}.{signature}", last(claims))),
        ("padding bits of the header", format!("{}.{claims}.{signature}", last(header))),
        ("padding", format!("{token}=")),
        ("padding of all parts", format!("{header}==.{claims}==.{signature}==")),
        ("no signature", format!("{header}.{claims}.")),
        ("no signature at all", format!("{header}.{claims}")),
        ("four parts", format!("{token}.x")),
        ("white space", format!("{header}. {claims}.{signature}")),
        ("plain base64", token.replace('-', "+").replace('_', "/") + "\t."),
    ] {
        let answer = lab.with("gw", &format!("Proxy-Authorization: Bearer {text}")).await;
        lab.nobody(sample, &answer).await;
    }
    // What stands around the token is no part of it, and the session behind it is what counts.
    for (credential, status) in [
        (format!("Proxy-Authorization: bearer {token}"), 200),
        (format!("Proxy-Authorization: Basic {token}"), 407),
        (format!("Proxy-Authorization: Bearer {token}\r\nProxy-Authorization: Bearer {token}"), 407),
        (format!("Proxy-Authorization: Bearer {token}, Bearer {token}"), 407),
    ] {
        let answer = lab.with("gw", &credential).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a139_a143_other_cookies_neither_hide_ours_nor_stand_in_for_it() {
    let lab = Lab::start().await;
    let own = &lab.cookie;
    let junk = |count: usize| (0..count).map(|number| format!("j{number}=x")).collect::<Vec<_>>().join("; ");
    for way in [Way::H1, Way::H2, Way::H3] {
        for (sample, cookies, is_alice) in [
            ("a sibling's junk in front", format!("{}; {own}", junk(200)), true),
            ("and behind", format!("{own}; {}", junk(200)), true),
            ("a name in another case", format!("__host-vouchsafe=evil; {own}; __HOST-VOUCHSAFE=evil"), true),
            ("a longer and a shorter name", format!("__Host-vouchsafe2=evil; {own}; __Host-vouchsaf=evil"), true),
            ("two values", format!("{own}; __Host-vouchsafe=evil"), false),
            ("two values the other way round", format!("__Host-vouchsafe=evil; {own}"), false),
            ("the same twice", format!("{own}; {own}"), false),
            ("bob's beside it", format!("{own}; {}", lab.victim), false),
            (
                "numbered pieces",
                (0..500).map(|n| format!("__Host-vouchsafe-{n}=x")).collect::<Vec<_>>().join("; "),
                false,
            ),
            ("within another value", format!("a={own}"), false),
            ("quoted", format!("a=\"{own}\"; b=\"; c={own}"), false),
        ] {
            let host = lab.host("app-a");
            let answer = match way {
                Way::H1 => {
                    let request = format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n");
                    h1(&lab.world, "app-a", None, request.as_bytes()).await
                }
                _ => {
                    // On streams each pair may be a field of its own (RFC 9113 §8.2.3, RFC 9114 §4.2.1).
                    let mut fields = vec![
                        (":method", "GET"),
                        (":scheme", "https"),
                        (":authority", host.as_str()),
                        (":path", "/public/x"),
                    ];
                    fields.extend(cookies.split("; ").take(90).map(|pair| ("cookie", pair)));
                    if !cookies.split("; ").take(90).any(|pair| pair == own.as_str()) && is_alice {
                        continue;
                    }
                    lab.streamed(way, "app-a", None, &fields, None).await
                }
            };
            let sample = format!("{way:?} {sample}");
            if is_alice {
                let seen = lab.one(&sample, &answer, "GET /public/x HTTP/1.1");
                assert_eq!(seen.values("x-vouchsafe-user"), ["alice"], "{sample}");
                let secret = own.split_once('=').expect("a cookie").1;
                let leaks = seen.fields.iter().any(|(_, value)| {
                    value.contains(secret) || value.to_ascii_lowercase().contains("__host-vouchsafe=")
                });
                assert!(!leaks, "{sample}: {seen:?}");
            } else {
                lab.nobody(&sample, &answer).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a145_no_credential_for_us_reaches_an_upstream() {
    let lab = Lab::start().await;
    let secret = lab.cookie.split_once('=').expect("a cookie").1.to_owned();
    let bearer = format!("Bearer {}", lab.laptop.token);
    let lower = format!("bearer  {}", lab.laptop.token);
    for way in WAYS {
        for fields in [
            vec![("authorization", bearer.as_str())],
            vec![("authorization", lower.as_str())],
            vec![("secure-session-response", secret.as_str()), ("sec-secure-session-id", secret.as_str())],
            vec![("proxy-connection", "keep-alive")],
        ] {
            if fields[0].0 == "proxy-connection" && STREAM_WAYS.contains(&way) {
                continue;
            }
            let answer = lab.send(way, "GET", "/public/x", &fields).await;
            let seen = lab.one(&format!("{way:?} {}", fields[0].0), &answer, "GET /public/x HTTP/1.1");
            for (name, value) in &seen.fields {
                let leaks = value.contains(&secret) || value.contains(&lab.laptop.token) || name.starts_with("proxy-");
                assert!(!leaks, "{way:?} {name}: {value}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a147_sessions_are_for_tls_only() {
    let lab = Lab::start().await;
    for host in ["app-a", "auth", "console", "nothing"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n\r\n", lab.host(host));
        let answer = h1(&lab.world, host, None, request.as_bytes()).await;
        let text = answer.text.to_ascii_lowercase();
        assert!(text.contains("strict-transport-security: max-age=31536000"), "{host}: {answer:?}");
        for cookie in text.lines().filter(|line| line.starts_with("set-cookie: ")) {
            for part in ["__host-", "; secure", "; httponly", "; samesite=", "; path=/"] {
                assert!(cookie.contains(part), "{host}: {cookie} lacks {part}");
            }
            assert!(!cookie.contains("domain="), "{host}: {cookie}");
        }
    }
}
