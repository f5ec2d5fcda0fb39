//! The certificates that browsers see: replaced while we run, and got from a public authority.

mod acme;

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attacks::probe;
use crate::peers::{pid_of, run};
use crate::world::{PATIENCE, World};

/// A certificate for every name of the installation, signed by itself, and its key.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["*.vouchsafe.localhost".to_owned()]).expect("certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Whether curl takes what `auth` shows for one that this file vouches for.
async fn trusts(world: &World, roots: &Path) -> bool {
    let roots = roots.display().to_string();
    run("curl", &["-sS", "--cacert", &roots, world.url("auth", "/sign-in").as_str()]).await.code == 0
}

async fn until_trusted(world: &World, roots: &Path, what: &str) {
    let begun = std::time::Instant::now();
    while !trusts(world, roots).await {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{}", world.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a183_the_operators_certificate_is_replaced_without_dropping_anything() {
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name);
    let (chain, key, old, new) = (path("chain.pem"), path("key.pem"), path("old.pem"), path("new.pem"));
    let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
    let ((first, first_key), (second, second_key)) = (pair(), pair());
    for (path, text) in [(&chain, &first), (&key, &first_key), (&old, &first), (&new, &second)] {
        write(path, text);
    }
    let extra = ["--tls-cert", &chain.display().to_string(), "--tls-key", &key.display().to_string()].map(String::from);
    let world = World::start_with(dir, 0, &extra).await;
    assert!(trusts(&world, &old).await);
    let mut config = probe::config(&world, None, &[b"http/1.1"]);
    let trust = vouchsafe_runtime::tls::ServerTrust::Roots(vouchsafe_runtime::tls::roots(&first, "old").expect("root"));
    config
        .dangerous()
        .set_certificate_verifier(std::sync::Arc::new(vouchsafe_runtime::tls::verify::Servers::new(trust)));
    let mut open = probe::connect(&world, "auth", config).await.expect("handshake");

    // Half of the new pair: nobody may be shown a chain with the key of another.
    write(&chain, &second);
    hang_up(&world);
    until_logged(&world, "the certificate can't be used").await;
    assert!(trusts(&world, &old).await && !trusts(&world, &new).await);
    write(&key, &second_key);
    // It is seen without a signal too.
    until_trusted(&world, &new, "the new certificate").await;
    assert!(!trusts(&world, &old).await);
    // Unreadable and missing files change nothing.
    for text in [Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None] {
        let before = world.log().matches("the certificate can't be used").count();
        match text {
            Some(text) => write(&chain, text),
            None => std::fs::remove_file(&chain).expect("removed"),
        }
        hang_up(&world);
        let begun = std::time::Instant::now();
        while world.log().matches("the certificate can't be used").count() == before {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(trusts(&world, &new).await);
    }
    // What was open all the time still is.
    let host = format!("{}:{}", world.host("auth"), world.port);
    let request = format!("GET /sign-in HTTP/1.1\r\nHost: {host}\r\n\r\n");
    open.write_all(request.as_bytes()).await.expect("written");
    let mut answer = [0; 12];
    open.read_exact(&mut answer).await.expect("read");
    assert_eq!(&answer, b"HTTP/1.1 200");
    world.stop().await;
}

fn hang_up(world: &World) {
    rustix::process::kill_process(pid_of(world.pid()), rustix::process::Signal::HUP).expect("signalled");
}

async fn until_logged(world: &World, words: &str) {
    let begun = std::time::Instant::now();
    while !world.log().contains(words) {
        assert!(begun.elapsed() < PATIENCE, "not logged: {words}\n{}", world.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_material_that_is_missing_or_unreadable_refuses_to_start() {
    let dir = tempfile::tempdir().expect("directory");
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let ((first, first_key), (_, other_key)) = (pair(), pair());
    let state = dir.path().join("state").display().to_string();
    for (chain_text, key_text) in [
        (None, Some(&first_key)),
        (Some(&first), None),
        (Some(&first), Some(&other_key)),
        (Some(&first_key), Some(&first)),
    ] {
        for (path, text) in [(&chain, chain_text), (&key, key_text)] {
            let _ = std::fs::remove_file(path);
            if let Some(text) = text {
                std::fs::write(path, text).expect("written");
            }
        }
        let (chain, key) = (chain.display().to_string(), key.display().to_string());
        let ran = run(
            crate::world::VOUCHSAFE,
            &["up", "--port", "0", "--dir", &state, "--tls-cert", &chain, "--tls-key", &key],
        )
        .await;
        assert_eq!(ran.code, 1, "{}", ran.err);
    }
    // An authority whose root can't be read is no authority.
    let missing = dir.path().join("missing.pem").display().to_string();
    let acme = ["--acme", "https://127.0.0.1:1/dir", "--acme-ca-file", &missing];
    let ran = run(crate::world::VOUCHSAFE, &[&["up", "--port", "0", "--dir", &state], &acme[..]].concat()).await;
    assert!(ran.code == 1 && ran.err.contains("missing.pem"), "{}", ran.err);
    for bad in ["http://127.0.0.1/dir", "127.0.0.1", "https://"] {
        let ran = run(crate::world::VOUCHSAFE, &["up", "--port", "0", "--dir", &state, "--acme", bad]).await;
        assert_eq!(ran.code, 2, "{bad}: {}", ran.err);
    }
}
