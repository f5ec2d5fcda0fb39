use super::*;
use crate::device::Device;

/// A proxy whose gateway does not exist: everything but an open tunnel can be seen.
async fn proxy(temp: &tempfile::TempDir) -> (SocketAddr, TaskGroup) {
    crate::device::tests_enrolled(temp.path());
    let tasks = TaskGroup::new();
    let tunnels = Arc::new(Tunnels::new(Arc::new(Device::load(temp.path()).unwrap()), tasks.clone()));
    let listener = LocalListener::bind("127.0.0.1:0".parse().unwrap(), 8).await.unwrap();
    let address = listener.address();
    tasks.spawn("proxy", serve(listener, tunnels, Arc::new(|_| {}), tasks.clone()));
    (address, tasks)
}

async fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn text(address: SocketAddr, request: &str) -> String {
    String::from_utf8(say(address, request.as_bytes()).await).unwrap()
}

#[tokio::test]
async fn only_names_under_the_base_domain_are_led_anywhere() {
    let temp = tempfile::tempdir().unwrap();
    let (address, _tasks) = proxy(&temp).await;
    for foreign in ["evil.example:443", "corp.example:443", "a.b.corp.example:443", "corp.example.evil:443"] {
        let got = text(address, &format!("CONNECT {foreign} HTTP/1.1\r\n\r\n")).await;
        assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("leads nowhere else"), "{foreign}: {got}");
    }
    let got = text(address, "CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 403 "), "{got}");
    let got = text(address, "CONNECT wiki.corp.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 502 "), "the gateway of this test does not exist: {got}");
}

#[tokio::test]
async fn plain_http_is_sent_to_https_or_refused_in_words() {
    let temp = tempfile::tempdir().unwrap();
    let (address, _tasks) = proxy(&temp).await;
    let got = text(address, "GET http://wiki.corp.example/a?b=1 HTTP/1.1\r\nHost: wiki.corp.example\r\n\r\n").await;
    assert!(got.contains("location: https://wiki.corp.example:1/a?b=1\r\n"), "{got}");
    let got = text(address, "POST http://wiki.corp.example/ HTTP/1.1\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("not encrypted"), "{got}");
    let got = text(address, "GET http://evil.example/ HTTP/1.1\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 403 "), "{got}");
}

#[tokio::test]
async fn a151_the_pac_file_is_given_only_under_our_own_host() {
    let temp = tempfile::tempdir().unwrap();
    let (address, _tasks) = proxy(&temp).await;
    let got = text(address, &format!("GET /proxy.pac HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    assert!(got.contains(pac::CONTENT_TYPE) && got.contains(&format!("PROXY {address}")), "{got}");
    let got = text(address, "GET /proxy.pac HTTP/1.1\r\nHost: rebind.test\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 421 ") && !got.contains("FindProxy"), "{got}");
    let got = text(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 404 "), "{got}");
}

#[tokio::test]
async fn socks_speaks_and_refuses() {
    let temp = tempfile::tempdir().unwrap();
    let (address, _tasks) = proxy(&temp).await;
    let mut foreign = vec![5, 1, 0, 5, 1, 0, 3, 12];
    foreign.extend_from_slice(b"evil.example\x01\xbb");
    assert_eq!(say(address, &foreign).await[..4], [5, 0, 5, 2]);
    assert_eq!(say(address, &[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80]).await[..4], [5, 0, 5, 8]);
    let mut ours = vec![5, 1, 0, 5, 1, 0, 3, 17];
    ours.extend_from_slice(b"wiki.corp.example\x01\xbb");
    assert_eq!(say(address, &ours).await[..4], [5, 0, 5, 1], "the gateway of this test does not exist");
    assert_eq!(say(address, &[4, 1, 0, 80, 0, 0, 0, 1]).await, b"");
}

#[tokio::test]
async fn noise_is_answered_and_closed() {
    let temp = tempfile::tempdir().unwrap();
    let (address, _tasks) = proxy(&temp).await;
    assert!(text(address, "SSH-2.0-OpenSSH\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(MAX_HEAD_BYTES));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 431");
}
