//! Numbers of the catalogue whose feature isn't there: what belongs to it is refused or means nothing.

use std::time::Duration;

use serde_json::json;

use super::{Lab, WAYS, Way};
use crate::peers::curl;
use crate::world::World;

/// There is no DPoP: tokens are bound to the certificate of the connection (RFC 8705), and a proof
/// stands in for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a131_a_dpop_proof_is_no_credential_and_repairs_none() {
    let lab = Lab::start().await;
    let (host, token) = (lab.host("app-a"), lab.laptop.token.clone());
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIn19.e30.AAAA";
    // Without the device's certificate the token is nobody's, with a proof as without.
    for field in [
        format!("Proxy-Authorization: DPoP {token}\r\nDPoP: {proof}"),
        format!("Proxy-Authorization: Bearer {token}\r\nDPoP: {proof}"),
        format!("Authorization: DPoP {token}\r\nDPoP: {proof}"),
        format!("Cookie: __Host-vouchsafe={token}\r\nDPoP: {proof}"),
    ] {
        let request = format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n");
        let answer = lab.bytes(Way::H1, request.as_bytes()).await;
        lab.refused(&field, &answer, &[401, 407]).await;
    }
    // With it, the scheme is still another one than ours.
    let request = format!(
        "GET http://{host}/public/x HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: DPoP {token}\r\nDPoP: {proof}\r\n\r\n"
    );
    let answer = lab.bytes(Way::H1Proxied, request.as_bytes()).await;
    lab.refused("another scheme", &answer, &[407]).await;
}

/// There are no device-bound session credentials: no browser is asked for one, and what speaks of them
/// passes in neither direction, since it would speak of our cookies as well.
#[tokio::test(flavor = "multi_thread")]
async fn a133_device_bound_sessions_are_neither_offered_nor_passed() {
    let lab = Lab::start().await;
    for way in WAYS {
        let fields = [
            ("secure-session-response", "own"),
            ("sec-secure-session-id", "own"),
            ("sec-session-response", "own"),
            ("sec-session-id", "own"),
            ("sec-session-challenge", "own"),
        ];
        let answer = lab.send(way, "GET", "/public/x", &fields).await;
        let seen = lab.one(&format!("{way:?}"), &answer, "GET /public/x HTTP/1.1");
        assert!(seen.fields.iter().all(|(_, value)| value != "own"), "{way:?}: {seen:?}");
        assert!(!answer.text.to_ascii_lowercase().contains("session-registration"), "{way:?}: {answer:?}");
    }
    for path in ["/.well-known/dbsc", "/dbsc/register", "/.vouchsafe/dbsc"] {
        for (label, expected) in [("auth", [404, 405]), ("app-a", [404, 403])] {
            let url = lab.world.url(label, path);
            let cookie = format!("Cookie: {}", lab.cookie);
            let answer =
                curl(&lab.world, &["-X", "POST", "-H", &cookie, "-H", "Secure-Session-Response: a.b.", url.as_str()])
                    .await;
            assert!(expected.contains(&answer.status), "{label}{path}: {answer:?}");
        }
    }
}

/// Revocation lists are not fetched, so none can be large, stale or lie. A certificate that names one is
/// held to everything else; our own are revoked by facts (A045).
#[tokio::test(flavor = "multi_thread")]
async fn a175_a_revocation_list_is_never_asked_for() {
    use rcgen::{BasicConstraints, CertificateParams, CrlDistributionPoint, DnType, IsCa, Issuer, KeyPair};
    let world = World::start().await;
    let lists = crate::world::Recorder::start(&world.tasks).await;
    let authority_key = KeyPair::generate().expect("key");
    let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
    parameters.distinguished_name.push(DnType::CommonName, "an authority with lists");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).expect("authority").pem();
    let issuer = Issuer::new(parameters, authority_key);
    let key = KeyPair::generate().expect("key");
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    leaf.crl_distribution_points = vec![
        CrlDistributionPoint { uris: vec![format!("http://{}/one.crl", lists.address)] },
        CrlDistributionPoint { uris: vec![format!("http://{}/two.crl", lists.address)] },
    ];
    let chain = leaf.signed_by(&key, &issuer).expect("signed").pem();
    let dir = world.dir.path().join("listed");
    std::fs::create_dir_all(&dir).expect("directory");
    std::fs::write(dir.join("chain.pem"), chain).expect("written");
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).expect("written");
    let address = crate::peers::free_address();
    let (port, chain, key) = (address.port().to_string(), dir.join("chain.pem"), dir.join("key.pem"));
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    let arguments = ["s_server", "-quiet", "-www", "-accept", &port, "-cert", &chain, "-key", &key];
    let _server = crate::peers::Server::start("openssl", &arguments, &dir.join("log"), address).await;
    let resources = json!([{"name": "listed", "kind": "http", "upstream": format!("https://localhost:{port}"),
        "upstream_ca": authority, "upstream_protocol": "http1"}]);
    let policy =
        r#"@id("all") @device("none") permit (principal in Group::"staff", action, resource == Http::"listed");"#;
    world.apply(&["staff"], resources, policy).await;
    let alice = world.person("alice", &["staff"]).await;
    let cookie = format!("Cookie: {}", world.cookie(&alice, "listed", "/").await);
    let answer = curl(&world, &["-H", &cookie, world.url("listed", "/").as_str()]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(lists.connections(), 0, "a list was asked for");
}

/// Nobody types a name to sign in, so there is no counter for an account to get round by an alias. What
/// can be guessed, the code of a device, is counted for where the guesses come from.
#[tokio::test(flavor = "multi_thread")]
async fn a141_guesses_are_counted_together_in_every_spelling() {
    let lab = Lab::start().await;
    let [alice, _] = &lab.people;
    let cookies = alice.browser.cookies_of(&lab.world.host("auth"));
    let (name, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("signed in");
    let cookie = format!("Cookie: {name}={value}");
    let spellings = ["BCDF-GHJK", "bcdf-ghjk", "BCDFGHJK", "b-c-d-f-g-h-j-k", "%20BCDF-GHJK", "BCDF%E2%80%90GHJK"];
    let mut statuses = Vec::new();
    for round in 0..200 {
        let code = spellings[round % spellings.len()];
        let url = lab.world.url("auth", &format!("/device?user_code={code}"));
        let answer = curl(&lab.world, &["-H", "Accept: text/html", "-H", &cookie, url.as_str()]).await;
        statuses.push(answer.status);
        if answer.status == 429 {
            break;
        }
    }
    assert_eq!(statuses.last(), Some(&429), "guessing never ends: {statuses:?}");
    let url = lab.world.url("auth", "/device?user_code=ZZZZ-ZZZZ");
    assert_eq!(
        curl(&lab.world, &["-H", &cookie, url.as_str()]).await.status,
        429,
        "and any other spelling is one of them"
    );
}
