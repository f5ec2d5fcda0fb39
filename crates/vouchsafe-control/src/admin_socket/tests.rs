use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::testing::{Bench, open};

async fn ask(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_owner_administers_over_the_socket() {
    let bench = Bench::open().await;
    bench.controller.serve_admin().await.unwrap();
    let path = bench.dir.path().join("state/admin.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let uid = rustix::process::geteuid().as_raw();
    let answer = ask(&path, "GET /v1/status HTTP/1.1\r\nhost: local\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("\"you\":\"local:{uid}\"")), "{answer}");
    let body = r#"{"name":"alice"}"#;
    let head = "POST /v1/users HTTP/1.1\r\nhost: local\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let answer = ask(&path, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let page = bench.done("GET", "/v1/audit?kind=admin&limit=1", Value::Null).await;
    let record = &page["records"][0];
    assert_eq!((&record["user"], &record["protocol"]), (&format!("local:{uid}").into(), &"unix".into()));
}

#[tokio::test]
async fn a_socket_of_a_dead_process_is_replaced_and_goes_with_the_drain() {
    let bench = Bench::open().await;
    let path = bench.dir.path().join("state/admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    bench.controller.serve_admin().await.unwrap();
    // A follower does not hold up the drain.
    let mut follower = UnixStream::connect(&path).await.unwrap();
    follower.write_all(b"GET /v1/audit/tail HTTP/1.1\r\nhost: local\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    follower.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let drained = bench.tasks.shut_down(Duration::from_secs(5)).await;
    assert_eq!(drained, vouchsafe_runtime::task::Drained::Completely);
    assert!(!path.exists());
    drop(bench.controller);
    open(&bench.dir, "vouchsafe.localhost").await.unwrap();
}

/// Somebody else, whom the modes of directory and socket would have kept out, is told by the kernel.
#[tokio::test]
async fn a_peer_of_another_user_id_is_closed_and_recorded() {
    let bench = Bench::open().await;
    let uid = rustix::process::geteuid().as_raw();
    let state = bench.dir.path().join("state");
    let path = state.join("admin.sock");
    let other = if uid == 0 {
        super::serve(bench.context(), 0).await.unwrap();
        for (path, mode) in [(bench.dir.path(), 0o755), (&state, 0o755), (&path, 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "--unix-socket"]).arg(&path).arg("http://local/v1/status").uid(65_534).gid(65_534);
        let output = curl.output().await.unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        65_534
    } else {
        super::serve(bench.context(), uid + 1).await.unwrap();
        let answer = ask(&path, "").await;
        assert_eq!(answer, "");
        uid
    };
    let page = bench.done("GET", "/v1/audit?kind=admin&outcome=failed", Value::Null).await;
    assert_eq!(page["records"][0]["user"], format!("local:{other}"));
    assert_eq!(page["records"][0]["action"], "admin-socket.connect");
}
