//! A267, A269, A273: what is deep, long or of many names costs what its bytes cost, and no more.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Lab, WAYS};
use crate::peers::resident_kib;
use crate::world::World;

/// Everything that reads a document refuses one without a floor.
#[tokio::test(flavor = "multi_thread")]
async fn a267_deep_documents_are_errors_and_nothing_worse() {
    let lab = Lab::start().await;
    let deep = 100_000;
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(deep), close.repeat(deep));
    let documents = [
        nested("[", "]"),
        nested("{\"a\":", "}"),
        "[".repeat(deep),
        format!("{{\"name\":{}}}", nested("[", "]")),
        format!("{{\"name\":\"x\",\"amount\":{}}}", "9".repeat(200_000)),
        format!("{{\"name\":1e{}}}", "9".repeat(1_000)),
        format!("{{{}}}", (0..20_000).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",")),
        format!("\"{}\"", "\\ud800".repeat(20_000)),
    ];
    let (auth, host) = (lab.auth_cookie(), lab.host("auth"));
    for document in &documents {
        for path in ["/webauthn/authenticate/finish", "/webauthn/register/finish", "/webauthn/register/start"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {auth}\r\nContent-Type: application/json\r\nOrigin: https://{host}\r\nSec-Fetch-Site: same-origin\r\nContent-Length: {}\r\n\r\n{document}",
                document.len()
            );
            let answer = super::probe::h1(&lab.world, "auth", None, request.as_bytes()).await;
            assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        }
        // The administrator's API, by the owner of the installation.
        let socket = lab.world.state_dir().join("admin.sock");
        let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("connected");
        let request = format!(
            "POST /v1/users HTTP/1.1\r\nHost: local\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{document}",
            document.len()
        );
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(crate::world::PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "an answer in time");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 4"), "{}", answer.get(..200).unwrap_or(&answer));
    }
    // Policies, which are parsed into trees.
    let condition = |inner: String| {
        format!(
            "@id(\"deep\") permit (principal in Group::\"staff\", action, resource == Http::\"app-a\") when {{ {inner} }};"
        )
    };
    for text in [
        condition(format!("{}true{}", "(".repeat(20_000), ")".repeat(20_000))),
        condition(format!("{}true", "!".repeat(20_000))),
        condition(format!("{}1{} == 1", "[".repeat(20_000), "]".repeat(20_000))),
        condition(format!("context{} == 1", ".a".repeat(20_000))),
        condition(format!("{}true{}", "if true then ".repeat(8_000), " else false".repeat(8_000))),
        condition(format!("1 == {}", "9".repeat(100_000))),
        condition(vec!["true"; 20_000].join(" && ")),
    ] {
        let files = json!({"files": [{"name": "deep.cedar", "text": text}]});
        // Refused or found good: what counts is that there is an answer.
        let outcome: Result<serde_json::Value, _> = lab.world.admin.post("/v1/policy/check", &files).await;
        let told = match outcome {
            Ok(report) => report.to_string(),
            Err(error) => format!("{error:?}"),
        };
        assert!(!told.contains("connection") || told.contains("diagnostics"), "{told}");
    }
    // All of it is still there, and serves.
    let answer = lab.send(super::Way::H1, "GET", "/public/x", &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", last_lines(&lab.world));
    assert!(!lab.world.log().contains("overflowed its stack"), "{}", last_lines(&lab.world));
}

fn last_lines(world: &World) -> String {
    let log = world.log();
    log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
}

/// Names that a bad hash function would put into one drawer, as many as a head may have, cost about as
/// much as any others.
#[tokio::test(flavor = "multi_thread")]
async fn a273_names_that_collide_cost_no_more_than_others() {
    let lab = Lab::start().await;
    // Cookies, the one place where a client may send thousands of names.
    let time = async |count: usize| {
        let cookies: Vec<String> = (0..count).map(|n| format!("{}={n}", "Aa".repeat(1 + n % 3))).collect();
        let request = format!(
            "GET /public/x HTTP/1.1\r\nHost: {}\r\nCookie: {}; {}\r\n\r\n",
            lab.host("app-a"),
            cookies.join("; "),
            lab.cookie
        );
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let begun = Instant::now();
            let answer = lab.bytes(super::Way::H1, request.as_bytes()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            best = best.min(begun.elapsed());
        }
        best
    };
    let (few, many) = (time(100).await, time(4_000).await);
    // Forty times as many: quadratic cost would be over a thousand times.
    assert!(many < few * 40 + Duration::from_millis(200), "{few:?} for 100, {many:?} for 4,000");
    for way in WAYS {
        let names: Vec<String> = (0..90).map(|n| format!("x-{}{}", "aa".repeat(n % 9), n)).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let answer = lab.send(way, "GET", "/public/x", &fields).await;
        assert_eq!(answer.status, 200, "{way:?}: {answer:?}");
    }
}

/// There are no metrics, so no labels. What strangers make up is in no table of ours: a thousand new
/// paths, agents and hosts leave the process as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a269_made_up_names_take_no_memory() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let ask = async |number: usize| {
        let requests: String = (0..10)
            .map(|n| {
                format!(
                    "GET /made-up/{number}/{n} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: agent-{number}-{n}\r\nX-{number}-{n}: a\r\n\r\n"
                )
            })
            .collect();
        let answer = super::probe::h1(&lab.world, "app-a", None, requests.as_bytes()).await;
        assert!(answer.status == 401 || answer.status == 429, "{answer:?}");
    };
    for number in 0..20 {
        ask(number).await;
    }
    let (before, _) = resident_kib(lab.world.pid());
    for number in 20..120 {
        ask(number).await;
    }
    let (after, _) = resident_kib(lab.world.pid());
    assert!(after < before + 16 * 1024, "memory grew from {before} to {after} KiB");
}
