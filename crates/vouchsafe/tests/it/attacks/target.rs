//! G2: paths, queries and methods have one reading, or none.

use super::{H1_WAYS, Lab, STREAM_WAYS, WAYS, Way};

#[tokio::test(flavor = "multi_thread")]
async fn a017_to_a027_a_path_with_two_readings_is_refused() {
    let lab = Lab::start().await;
    let samples = [
        // A017: dot segments.
        "/public/../admin",
        "/public/./../admin",
        "/public/..",
        "/public/.",
        "/public/.../admin",
        // A019: hidden separators.
        "/public/..%2fadmin",
        "/public/%2f..%2fadmin",
        "/public/%2e%2e/admin",
        "/public/..%5cadmin",
        "/public/x\\..\\admin",
        "/public//admin",
        "//admin",
        "/pub%2fx",
        // A021: double encoding.
        "/public/%252e%252e/admin",
        "/%2561dmin",
        "/public/%25%32%65",
        "/public/%",
        "/public/%4",
        "/public/%zz",
        "/public/%u002e",
        // A023: path parameters.
        "/public/..;/admin",
        "/admin;x=/public/",
        "/public;/../admin",
        "/public/x;jsessionid=1",
        "/public/x%3bx",
        // A025: control characters.
        "/public/%00/../admin",
        "/admin%00.css",
        "/public/%00",
        "/admin%09",
        "/public/%0d%0aX:1",
        "/public/%7f",
        // A027: illegal and look-alike UTF-8.
        "/public/%c0%ae%c0%ae/admin",
        "/public/%e0%80%ae",
        "/public/%ff",
        "/public/%ef%bc%8e%ef%bc%8e%ef%bc%8fadmin",
        "/public/\u{ff0e}\u{ff0e}\u{ff0f}admin",
    ];
    for way in WAYS {
        for path in samples {
            let answer = lab.send(way, "GET", path, &[]).await;
            let protocol_error: &[u16] = if STREAM_WAYS.contains(&way) { &[0, 400, 403] } else { &[400, 403] };
            lab.refused(&format!("{way:?} {path}"), &answer, protocol_error).await;
        }
    }
    for way in H1_WAYS {
        for path in ["/public/x#/admin", "/public/a b", "/public/\t", "/public/\u{1}", "/public/\0"] {
            let answer = lab.send(way, "GET", path, &[]).await;
            // What stands behind `#` is dropped by the HTTP library before we see it; then the rest of
            // the path is what is decided on and sent, and nothing else.
            if path.contains('#') && answer.status == 200 {
                lab.one(path, &answer, "GET /public/x HTTP/1.1");
            } else {
                lab.refused(&format!("{way:?} {path:?}"), &answer, &[400]).await;
            }
        }
    }
    // What is refused by decision is recorded as ambiguous.
    let answer = lab.send(Way::H1, "GET", "/public/../admin", &[]).await;
    assert_eq!(answer.reason(), Some("ambiguous_request"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a029_absolute_form_names_the_same_host_or_is_refused() {
    let lab = Lab::start().await;
    let (own, other) = (lab.host("app-a"), lab.host("app-b"));
    let (cookie, token) =
        (format!("Cookie: {}", lab.cookie), format!("Proxy-Authorization: Bearer {}", lab.laptop.token));
    let send = async |way: Way, target: &str, host: &str| {
        let credential = if way == Way::H1 { &cookie } else { &token };
        lab.bytes(way, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{credential}\r\n\r\n").as_bytes()).await
    };
    let answer = send(Way::H1, &format!("https://{own}/public/x"), &own).await;
    lab.one("absolute form of this host", &answer, "GET /public/x HTTP/1.1");
    for (target, host, statuses) in [
        (format!("https://{own}/admin"), &own, [403, 400]),
        (format!("https://{other}/public/x"), &own, [400, 421]),
        (format!("http://{other}/public/x"), &own, [400, 421]),
        (format!("https://{other}/public/x"), &other, [421, 400]),
        (format!("https://{own}@{other}/public/x"), &own, [400, 421]),
        (format!("https://{other}#@{own}/public/x"), &own, [400, 421]),
        (format!("ftp://{own}/public/x"), &own, [400, 400]),
        (format!("javascript://{own}/public/x"), &own, [400, 400]),
        (own.clone(), &own, [400, 400]),
        ("*".to_owned(), &own, [400, 400]),
        ("public/x".to_owned(), &own, [400, 400]),
        (format!("//{own}/public/x"), &own, [400, 400]),
    ] {
        let answer = send(Way::H1, &target, host).await;
        lab.refused(&format!("direct {target} with Host {host}"), &answer, &statuses).await;
    }
    for (target, host, statuses) in [
        (format!("http://{own}/admin"), &own, [403, 400]),
        (format!("http://{other}/public/x"), &own, [400, 421]),
        (format!("http://{own}/public/x"), &other, [400, 421]),
        (format!("ftp://{own}/public/x"), &own, [400, 400]),
        (own.clone(), &own, [400, 400]),
    ] {
        let answer = send(Way::H1Proxied, &target, host).await;
        lab.refused(&format!("proxied {target} with Host {host}"), &answer, &statuses).await;
    }
    for way in STREAM_WAYS {
        for path in ["*", "", "public/x", &format!("https://{own}/public/x"), "?x"] {
            let answer = lab.send(way, "GET", path, &[]).await;
            lab.refused(&format!("{way:?} :path {path:?}"), &answer, &[0, 400, 403]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a031_a_method_is_what_it_says() {
    let lab = Lab::start().await;
    for way in WAYS {
        for method in ["GeT", "get", "TRACE", "TRACK", "PRI", "AAAAAAAAAAAAAAAAAAAAA", "G\u{c9}T", "GET;", ""] {
            let answer = lab.send(way, method, "/public/x", &[]).await;
            let statuses: &[u16] = if STREAM_WAYS.contains(&way) { &[0, 400, 405, 501] } else { &[400, 405, 501] };
            lab.refused(&format!("{way:?} {method:?}"), &answer, statuses).await;
        }
        for method in ["DELETE", "POST", "PUT", "PATCH", "PROPFIND"] {
            let answer = lab.send(way, method, "/read/x", &[("content-length", "0")]).await;
            lab.refused(&format!("{way:?} {method} where only reading is permitted"), &answer, &[403]).await;
        }
        let fields = [("x-http-method-override", "DELETE"), ("x_http_method_override", "DELETE"), ("x-method", "x")];
        let answer = lab.send(way, "GET", "/read/x?_method=DELETE", &fields).await;
        let seen = lab.one(&format!("{way:?} override"), &answer, "GET /read/x?_method=DELETE HTTP/1.1");
        assert!(seen.fields.iter().all(|(_, value)| value != "DELETE"), "{way:?} {seen:?}");
    }
    for way in H1_WAYS {
        let answer = lab.raw(way, "GET ", "/public/x", "\r\n").await;
        if answer.status == 200 {
            // The library takes two spaces for one; there is one reading of the rest.
            lab.one("two spaces", &answer, "GET /public/x HTTP/1.1");
        } else {
            lab.refused("two spaces", &answer, &[400]).await;
        }
    }
    let host = lab.host("app-a");
    for (way, line) in [
        (Way::H1, "CONNECT /admin HTTP/1.1".to_owned()),
        (Way::H1Proxied, "CONNECT /admin HTTP/1.1".to_owned()),
        (Way::H1, "CONNECT /public/x HTTP/1.1".to_owned()),
        (Way::H1, format!("CONNECT {host} HTTP/1.1")),
        (Way::H1, "OPTIONS * HTTP/1.1".to_owned()),
        (Way::H1Proxied, "OPTIONS * HTTP/1.1".to_owned()),
    ] {
        let credential = format!("Cookie: {}\r\nProxy-Authorization: Bearer {}", lab.cookie, lab.laptop.token);
        let answer = lab.bytes(way, format!("{line}\r\nHost: {host}\r\n{credential}\r\n\r\n").as_bytes()).await;
        lab.refused(&format!("{way:?} {line}"), &answer, &[400, 403, 405]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a033_a035_a_prefix_ends_where_the_policy_says() {
    let lab = Lab::start().await;
    for way in WAYS {
        let answer = lab.send(way, "POST", "/pkg.Svc/Method", &[("content-length", "0")]).await;
        lab.one("the permitted method", &answer, "POST /pkg.Svc/Method HTTP/1.1");
        for path in [
            "/public-admin",
            "/pub",
            "/publicx/",
            "/pub%2fx",
            "/PUBLIC/x",
            "//pkg.Svc/Method",
            "/PKG.svc/Method",
            "/pkg.Svc",
            "/pkg%2eSvcX/Method",
        ] {
            let answer = lab.send(way, "POST", path, &[("content-length", "0")]).await;
            lab.refused(&format!("{way:?} {path}"), &answer, &[400, 403]).await;
        }
    }
    for way in STREAM_WAYS {
        let answer = lab.send(way, "POST", "pkg.Svc/Method", &[]).await;
        lab.refused(&format!("{way:?} without a slash"), &answer, &[0, 400, 403]).await;
    }
}

/// The administrator's API has one spelling for each thing.
#[tokio::test(flavor = "multi_thread")]
async fn a037_the_api_knows_exact_names_and_numbers_only() {
    let lab = Lab::start().await;
    let admin = &lab.world.admin;
    assert!(admin.get::<serde_json::Value>("/v1/users/alice").await.is_ok());
    for path in [
        "/v1/users//alice",
        "//v1/users/alice",
        "/v1/users/alice/",
        "/v1//users/alice",
        "/v1/./users/alice",
        "/v1/users/../users/alice",
        "/v1/users/%61lice/",
        "/v1/users/ALICE",
        "/v1/users/alice%00",
        "/v1/users/alice%20",
        "/v1/users/alice%2F",
        "/v1/users/alice;x",
        "/V1/users/alice",
        "/v1/users/0",
    ] {
        let found: Result<serde_json::Value, _> = admin.get(path).await;
        assert!(found.is_err(), "{path}: {found:?}");
    }
    for number in ["01", "+1", "-0", "1.0", "1e0", "0x1", "\"1\"", "-1", "4294967297", "null"] {
        let body = format!("{{\"version\":{number}}}");
        let Ok(body) = serde_json::from_str::<serde_json::Value>(&body) else { continue };
        let before: serde_json::Value = admin.get("/v1/policy").await.expect("policy");
        let rolled: Result<serde_json::Value, _> = admin.post("/v1/policy/rollback", &body).await;
        assert!(rolled.is_err(), "{number}: {rolled:?}");
        assert_eq!(admin.get::<serde_json::Value>("/v1/policy").await.expect("policy"), before, "{number}");
    }
    // At the network's door the same holds, before anything is asked for.
    for path in ["/v1/users//alice", "//v1/users/alice", "/v1/users/%2e%2e/users/alice", "/v1/users/alice;x"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            lab.host("api"),
            lab.laptop.token
        );
        let answer = super::probe::h1(&lab.world, "api", Some(&lab.laptop), request.as_bytes()).await;
        assert!([400, 401, 403, 404].contains(&answer.status), "{path}: {answer:?}");
    }
}
