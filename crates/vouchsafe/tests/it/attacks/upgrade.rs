//! G5: a change of protocol is an action of its own.

use super::{Lab, Way};

#[tokio::test(flavor = "multi_thread")]
async fn a075_nobody_upgrades_without_a_credential() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let origin = format!("Origin: https://{host}\r\n");
    for (name, fields, status) in [
        ("no cookie", origin.clone(), 401),
        ("no cookie, no origin", String::new(), 401),
        ("a forged cookie", format!("{origin}Cookie: __Host-vouchsafe=forged\r\n"), 401),
        ("another's page", format!("Origin: https://evil.example\r\nCookie: {}\r\n", lab.cookie), 401),
        ("a sibling's page", format!("Origin: https://{}\r\nCookie: {}\r\n", lab.host("app-b"), lab.cookie), 401),
        ("a sandboxed page", format!("Origin: null\r\nCookie: {}\r\n", lab.cookie), 401),
        ("two origins", format!("{origin}Origin: https://evil.example\r\nCookie: {}\r\n", lab.cookie), 401),
    ] {
        let request = format!("GET /public/socket HTTP/1.1\r\nHost: {host}\r\n{upgrade}{fields}\r\n");
        let answer = lab.bytes(Way::H1, request.as_bytes()).await;
        lab.refused(name, &answer, &[status]).await;
    }
    let request = format!("GET /admin HTTP/1.1\r\nHost: {host}\r\n{upgrade}{origin}Cookie: {}\r\n\r\n", lab.cookie);
    let answer = lab.bytes(Way::H1, request.as_bytes()).await;
    lab.refused("an upgrade that is forbidden", &answer, &[403]).await;
}
