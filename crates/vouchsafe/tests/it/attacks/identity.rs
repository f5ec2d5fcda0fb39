//! G1: who somebody is, and where a request came from, is not the client's to say.

use super::{H1_WAYS, Lab, STREAM_WAYS, WAYS, Way};

/// A name as a CGI-like framework keys it.
pub(super) fn as_cgi(name: &str) -> String {
    let key: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    key.strip_prefix("HTTP_").unwrap_or(&key).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a001_a003_a007_a013_what_a_client_says_about_itself_never_arrives() {
    let lab = Lab::start().await;
    let ours = [
        "X-Vouchsafe-User",
        "X-Vouchsafe-Groups",
        "X-Vouchsafe-Device",
        "X-Vouchsafe-Assertion",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
    ];
    let mut names: Vec<String> = Vec::new();
    for name in ours {
        let lower = name.to_ascii_lowercase();
        let under = lower.replace('-', "_");
        names.extend([
            lower.clone(),
            under.clone(),
            lower.replace('-', "."),
            lower.replacen('-', "--", 1),
            lower.replacen('-', "_-", 1),
            format!("-{lower}"),
            format!("_{under}"),
            format!("http_{under}"),
            format!("http-{lower}"),
            format!("{lower}_"),
            lower.replace('-', "~"),
            lower.replace('-', "%2d"),
        ]);
    }
    let family = "x-forwarded-port x-forwarded-prefix x-forwarded-uri x-forwarded-method x-forwarded-server \
        x-forwarded-user x-forwarded-email x-forwarded-groups x_forwarded_user forwarded x-real-ip x_real_ip \
        x-original-url x-rewrite-url x-original-uri x-http-method-override x-method-override x-client-ip \
        true-client-ip cf-connecting-ip proxy x-middleware-subrequest x-middleware-rewrite x-envoy-original-path \
        x-nginx-proxy x-amzn-oidc-data remote-user remote_user remote_addr script_name script-name path_info \
        path-info http_host content_length transfer_encoding x-vouchsafe-anything-new";
    names.extend(family.split_whitespace().map(ToOwned::to_owned));
    let mut passed = Vec::new();
    for way in WAYS {
        for (number, name) in names.iter().enumerate() {
            let spelt =
                if number % 2 == 0 || STREAM_WAYS.contains(&way) { name.clone() } else { name.to_ascii_uppercase() };
            let target = format!("/public/{number}");
            let answer = lab.send(way, "GET", &target, &[(&spelt, "evil")]).await;
            if answer.status == 400 {
                lab.refused(&format!("{way:?} {spelt}"), &answer, &[400]).await;
                continue;
            }
            let seen = lab.one(&format!("{way:?} {spelt}"), &answer, &format!("GET {target} HTTP/1.1"));
            // `%2d` and the like pass where no framework reads them as one of the names.
            let evil = seen.fields.iter().any(|(name, value)| value == "evil" && !as_cgi(name).contains("_2D"));
            if evil {
                passed.push(format!("{way:?} {spelt}"));
            }
            let values = |key: &str| -> Vec<&str> {
                seen.fields.iter().filter(|(name, _)| as_cgi(name) == key).map(|(_, value)| value.as_str()).collect()
            };
            assert_eq!(values("X_VOUCHSAFE_USER"), ["alice"], "{way:?} {spelt}");
            assert_eq!(values("X_VOUCHSAFE_GROUPS"), ["staff"], "{way:?} {spelt}");
            assert_eq!(values("X_FORWARDED_FOR"), ["127.0.0.1"], "{way:?} {spelt}");
            assert_eq!(values("X_FORWARDED_PROTO"), ["https"], "{way:?} {spelt}");
            assert_eq!(values("X_FORWARDED_HOST"), [lab.host("app-a")], "{way:?} {spelt}");
            assert!(
                matches!(values("X_VOUCHSAFE_ASSERTION").as_slice(), [one] if one.starts_with("ey")),
                "{way:?} {spelt}"
            );
        }
    }
    assert!(passed.is_empty(), "these fields passed: {passed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a003_names_that_are_no_names_are_refused() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        for field in [
            "X-Vouchsafe-User : own",
            "X-Vouchsafe-User\t: own",
            "X-Vouchsafe-Us\u{e9}r: own",
            " X-Vouchsafe-User: own",
            "X-Vouchsafe-User\u{b}: own",
            ": own",
            "no colon",
        ] {
            let answer = lab.raw(way, "GET", "/public/x", &format!("{field}\r\n\r\n")).await;
            lab.refused(&format!("{way:?} {field:?}"), &answer, &[400]).await;
        }
    }
    for way in STREAM_WAYS {
        for name in ["X-Vouchsafe-User", "x vouchsafe", "x-vouchsafe-us\u{e9}r", "x-vouchsafe-user:", ""] {
            let answer = lab.send(way, "GET", "/public/x", &[(name, "own")]).await;
            lab.refused(&format!("{way:?} {name:?}"), &answer, &[0, 400]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a005_connection_cannot_make_our_fields_drop() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        for value in [
            "close, X-Vouchsafe-User, x-vouchsafe-assertion",
            "keep-alive, X-Vouchsafe-User, X-VOUCHSAFE-ASSERTION, X-Forwarded-For",
            "Authorization, Host, Cookie, Content-Length",
        ] {
            let answer =
                lab.send(way, "GET", "/public/x", &[("Connection", value), ("Authorization", "Basic YTpi")]).await;
            let sample = format!("{way:?} {value}");
            let seen = lab.one(&sample, &answer, "GET /public/x HTTP/1.1");
            assert_eq!(seen.values("x-vouchsafe-user"), ["alice"], "{sample}");
            assert_eq!(seen.values("x-vouchsafe-assertion").len(), 1, "{sample}");
            assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"], "{sample}");
            assert_eq!(seen.values("host"), [lab.host("app-a")], "{sample}");
        }
    }
    for way in STREAM_WAYS {
        let answer = lab.send(way, "GET", "/public/x", &[("connection", "x-vouchsafe-user")]).await;
        lab.refused(&format!("{way:?}"), &answer, &[0, 400]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a007_a_forwarded_address_is_no_input_of_the_decision() {
    let lab = Lab::start().await;
    for way in WAYS {
        for (target, status) in [("/public/x", 200), ("/elsewhere", 403)] {
            let fields = [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1;host=app-b;proto=https")];
            let answer = lab.send(way, "GET", target, &fields).await;
            assert_eq!(answer.status, status, "{way:?} {answer:?}");
            if let Some(id) = answer.decision() {
                assert_eq!(lab.world.decision(id).await.ip.as_deref(), Some("127.0.0.1"));
            }
        }
    }
    assert_eq!(lab.other.bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a011_no_path_or_user_agent_goes_round_the_sign_in() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    for path in
        ["/ping", "/healthz", "/.well-known/acme-challenge/x", "/.vouchsafe-health", "/favicon.ico", "/public/x"]
    {
        for agent in ["GoogleHC/1.0", "kube-probe/1.0", "curl/8"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\r\n");
            let answer = lab.bytes(Way::H1, request.as_bytes()).await;
            lab.refused(&format!("{agent} {path}"), &answer, &[401]).await;
            let answer =
                lab.bytes(Way::H1Proxied, request.replace("GET ", &format!("GET http://{host}")).as_bytes()).await;
            lab.refused(&format!("{agent} {path} proxied"), &answer, &[407]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a001_a_trailer_is_no_way_in() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        for announced in [
            "",
            "Trailer: X-Vouchsafe-User, X-Fine\r\n",
            "Trailer: X-Vouchsafe-User\r\nTE: trailers\r\nConnection: TE\r\n",
        ] {
            let trailers = "X-Vouchsafe-User: own\r\nx_vouchsafe_user: own\r\nContent-Length: 7\r\nX-Fine: yes\r\n";
            let rest = format!("{announced}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n");
            let answer = lab.raw(way, "POST", "/public/sample", &rest).await;
            let sample = format!("{way:?} {announced:?}");
            if answer.status != 200 {
                lab.refused_and_harmless(&sample, &answer).await;
                continue;
            }
            let seen = lab.one(&sample, &answer, "POST /public/sample HTTP/1.1");
            let own = seen.trailers.iter().filter(|line| !line.to_ascii_lowercase().starts_with("x-fine")).count();
            assert_eq!((seen.body.as_slice(), own), (b"hello".as_slice(), 0), "{sample}: {seen:?}");
        }
    }
}
