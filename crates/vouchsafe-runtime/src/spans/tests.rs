use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe_wire::otlp::{ExportTraces, Span};

use super::*;

#[test]
fn an_endpoint_is_a_host_and_a_port_and_no_secret() {
    for (text, shown) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example", "https://otel.example:443/v1/traces"),
        ("http://[::1]:9/collector/", "http://[::1]:9/collector/v1/traces"),
    ] {
        assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown);
    }
    assert_eq!(Endpoint::parse_whole("http://otel/own").unwrap().to_string(), "http://otel:80/own");
    for (text, confidential) in [("http://otel", false), ("http://10.0.0.1:1", false), ("http://[::1]:1", true)] {
        assert_eq!(Endpoint::parse(text).unwrap().is_confidential(), confidential, "{text}");
    }
    for bad in ["", "otel:4318", "ftp://otel", "http://user:secret@otel", "http://otel/?key=secret", "/v1/traces"] {
        assert!(Endpoint::parse(bad).is_err(), "{bad}");
    }
}

/// Reads a request, answers it, and gives its body.
async fn taken(mut stream: TcpStream) -> ExportTraces {
    let (mut input, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let length = stream.read(&mut piece).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&input));
        input.extend_from_slice(&piece[..length]);
        let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        let wanted: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).expect("a length");
        if input.len() < end + 4 + wanted {
            continue;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        return ExportTraces::decode(Bytes::from(input.split_off(end + 4))).unwrap();
    }
}

async fn one_request(spans: &Spans) -> u16 {
    let work = async {
        drop(stage("listen"));
        let _deciding = stage("decide");
        decided(|| Decided {
            decision: "dec_1".to_owned(),
            outcome: "deny",
            reason: "no_permit",
            resource: None,
            flow: None,
        });
        tokio::task::yield_now().await;
        403
    };
    spans.of(&Method::GET, "h2", work, |status| *status).await
}

#[tokio::test]
async fn a_request_and_its_stages_come_out_as_one_trace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = TaskGroup::new();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let spans = Spans::start(Collector::at(endpoint), ("vouchsafe-gateway", "1.2.3"), &tasks);
    assert_eq!(one_request(&spans).await, 403);
    // Outside of a request nothing is noted, and nothing breaks.
    drop(stage("decide"));
    decided(|| panic!("is not even asked"));
    let (stream, _) = listener.accept().await.unwrap();
    let export = taken(stream).await;
    let all: Vec<Span> = export.resource_spans[0].scope_spans[0].spans.clone();
    let names: Vec<&str> = all.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["request", "listen", "decide"]);
    let [request, stages @ ..] = &all[..] else { panic!("spans") };
    assert!(request.parent_span_id.is_empty() && request.trace_id.len() == 16 && request.span_id.len() == 8);
    for stage in stages {
        assert_eq!((&stage.trace_id, &stage.parent_span_id), (&request.trace_id, &request.span_id));
        assert!(stage.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(stage.end_time_unix_nano <= request.end_time_unix_nano);
    }
    let shown = format!("{:?}", request.attributes);
    for word in ["GET", "h2", "403", "dec_1", "deny", "no_permit"] {
        assert!(shown.contains(word), "{shown}");
    }
    assert_eq!(request.status, None, "a denial is no failure of ours");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_takes_nothing_holds_up_nobody() {
    // It accepts, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = TaskGroup::new();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let spans = Spans::start(Collector::at(endpoint), ("vouchsafe-gateway", "1.2.3"), &tasks);
    for _ in 0..4 * QUEUE {
        assert_eq!(one_request(&spans).await, 403);
    }
    assert!(spans.lost.load(Ordering::Relaxed) > 0, "what doesn't fit is lost, and counted");
    assert!(spans.queue.capacity() < QUEUE, "and the rest waits");
    // It ends with its group, and not much later than told.
    tasks.shut_down(Duration::from_secs(10)).await;
}
