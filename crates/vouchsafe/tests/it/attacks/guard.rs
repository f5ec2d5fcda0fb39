//! G4, the structural part: whatever the framing guard refuses gets one answer of ours, one record,
//! and nothing upstream; and what was asked before is answered first. The samples are generated.

use super::{H1_WAYS, Lab};

/// Spellings of a field that some server somewhere takes for the real one.
fn spellings(name: &str, value: &str) -> Vec<String> {
    let mut all = Vec::new();
    for white in [" ", "\t", "\u{b}", "\u{c}", "\0", "\u{a0}", "\r", "\n"] {
        all.push(format!("{name}{white}: {value}"));
        all.push(format!("{white}{name}: {value}"));
        all.push(format!("X: a\r\n{white}{name}: {value}"));
        if ![" ", "\t"].contains(&white) {
            all.push(format!("{name}: {white}{value}"));
            all.push(format!("{name}: {value}{white}"));
        }
    }
    all.push(format!("{name}:\r\n {value}"));
    all.push(format!("{name}:\n {value}"));
    all.push(format!("X: y\n{name}: {value}"));
    all.push(format!("X: y\r{name}: {value}"));
    all.push(format!("{name}\r\n: {value}"));
    all.push(format!("{name} {value}"));
    all.push(format!("\"{name}\": {value}"));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a053_a055_a057_a059_every_doubt_about_framing_is_refused_in_turn_and_recorded() {
    let lab = Lab::start().await;
    let mut heads: Vec<String> = Vec::new();
    heads.extend(spellings("Transfer-Encoding", "chunked"));
    heads.extend(spellings("Content-Length", "5"));
    for coding in [
        "Chunked",
        "CHUNKED",
        "chunked, chunked",
        "gzip, chunked",
        "identity, chunked",
        "chunked;a=b",
        "x",
        "chunked,",
        ",chunked",
        "'chunked'",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nContent-Length: 5",
    ] {
        heads.push(format!("Transfer-Encoding: {coding}"));
    }
    for length in [
        "5\r\nContent-Length: 5",
        "5, 5",
        "+5",
        "05",
        "5.0",
        "5e0",
        "0x5",
        "",
        "-0",
        "5\r\nTransfer-Encoding: chunked",
        "18446744073709551616",
        "\u{665}",
    ] {
        heads.push(format!("Content-Length: {length}"));
    }
    heads.push("Upgrade: websocket\r\nContent-Length: 5".to_owned());
    heads.push("Upgrade: h2c\r\nTransfer-Encoding: chunked".to_owned());
    for (number, head) in heads.iter().enumerate() {
        let way = H1_WAYS[number % 2];
        let first = format!("{}\r\n", lab.head(way, "GET", "/public/first"));
        let bad = format!("{}{head}\r\n\r\n0\r\n\r\n", lab.head(way, "POST", "/public/sample"));
        let behind = format!("{}\r\n", lab.head(way, "GET", "/public/smuggled"));
        let answer = lab.bytes_to_end(way, format!("{first}{bad}{behind}").as_bytes()).await;
        let sample = format!("{way:?} {head:?}");
        assert_eq!((answer.status, answer.answers, answer.closed), (200, 2, true), "{sample}: {answer:?}");
        assert!(answer.text.contains("HTTP/1.1 400 Bad Request"), "{sample}: {answer:?}");
        assert_eq!(answer.reason(), Some("ambiguous_request"), "{sample}: {answer:?}");
        let record = lab.world.decision(answer.decision().expect("a decision")).await;
        assert_eq!(record.reason.as_deref(), Some("ambiguous_request"), "{sample}: {record:?}");
        let lines: Vec<String> = lab.app.take().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["GET /public/first HTTP/1.1"], "{sample}");
    }
    // What the library would get in place of a refused head is no secret that helps: sent by a
    // client it is a request for a host that is not ours.
    let stand_in = "GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
    let answer = lab.bytes(H1_WAYS[0], stand_in.as_bytes()).await;
    lab.refused("the stand-in", &answer, &[421]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a057_a_broken_chunk_behind_a_permitted_head_is_told_and_recorded() {
    let lab = Lab::start().await;
    for (number, chunks) in
        ["5;a=b\r\nhello\r\n0\r\n\r\n", "0x5\r\n", "5\r\nhelloX", "0\r\nHost: evil\r\n\r\n", "0\r\n X: y\r\n\r\n"]
            .iter()
            .enumerate()
    {
        let way = H1_WAYS[number % 2];
        let rest = format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{chunks}");
        let request = format!("{}{rest}", lab.head(way, "POST", "/public/sample"));
        let answer = lab.bytes_to_end(way, request.as_bytes()).await;
        let sample = format!("{way:?} {chunks:?}");
        assert_eq!((answer.status, answer.answers, answer.closed), (400, 1, true), "{sample}: {answer:?}");
        let record = lab.world.decision(answer.decision().expect("a decision")).await;
        assert_eq!(record.reason.as_deref(), Some("ambiguous_request"), "{sample}: {record:?}");
        assert_eq!(record.user.as_deref(), Some("alice"), "{sample}: {record:?}");
        let rest = lab.after_victims(&sample).await;
        assert!(rest.iter().all(|seen| !seen.complete), "{sample}: {rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a061_only_one_expectation_is_known() {
    let lab = Lab::start().await;
    for way in super::WAYS {
        for value in ["y 100-continue", "100-continue, y", "200-ok", "", "100-continue;a=b", "\"100-continue\""] {
            let answer = lab.send(way, "GET", "/public/x", &[("expect", value)]).await;
            lab.refused(&format!("{way:?} {value:?}"), &answer, &[400]).await;
        }
        let answer = lab.send(way, "GET", "/public/x", &[("expect", "100-continue"), ("expect", "100-continue")]).await;
        lab.refused(&format!("{way:?} twice"), &answer, &[400]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a009_no_proxy_protocol_is_believed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let lab = Lab::start().await;
    let v2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x50\x01\xbb";
    for preface in [b"PROXY TCP4 10.0.0.1 10.0.0.2 80 443\r\n".as_slice(), v2, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut stream = tokio::net::TcpStream::connect(lab.world.address()).await.expect("connected");
        stream.write_all(preface).await.expect("written");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(crate::world::PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "closed");
        assert!(!answer.starts_with(b"HTTP/"), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(lab.app.bytes(), 0);
}
