//! I7: what is recorded is signed within moments, provable to anybody, and can't be changed unnoticed.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::http3::python;
use crate::world::{PATIENCE, World, patiently};

async fn key(world: &World) -> Value {
    let (code, out, err) = world.cli(&world.state_dir(), &["audit", "key", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// Waits until all that is recorded is signed.
async fn signed(world: &World) -> Value {
    let mut state = Value::Null;
    for () in patiently() {
        state = key(world).await;
        if state["signed"] == state["records"] {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not signed: {state}");
}

async fn verify(world: &World, dir: &Path, arguments: &[&str]) -> (i32, Value, String) {
    let (code, out, err) = world.cli(dir, &[&["audit", "verify", "--json"], arguments].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

/// The verifier that shares no code with us.
async fn independently(arguments: &[&str]) -> Result<String, String> {
    let (interpreter, script) = python("tlog.py");
    let run = Command::new(interpreter).arg(script).args(arguments).output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("ends in time");
    let output = output.expect("cryptography is installed by ./test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_the_log_is_verified_by_us_and_by_others_and_a_changed_byte_is_located() {
    let world = World::start().await;
    // More than one tile of level 0.
    for number in 0..300 {
        world.admin.put::<Value>(&format!("/v1/groups/g{number}")).await.expect("made");
    }
    let state = signed(&world).await;
    let vkey = state["key"].as_str().expect("a key").to_owned();
    assert!(state["signed"].as_u64() > Some(300), "{state}");
    let socket = world.state_dir().join("admin.sock");
    let found = independently(&["log", &vkey, socket.to_str().expect("UTF-8")]).await.expect("verified by others");
    assert!(found.trim().parse::<u64>().expect("a size") > 300);
    let (code, verified, err) = verify(&world, &world.state_dir(), &["--key", &vkey]).await;
    assert_eq!((code, &verified["holds"]), (0, &Value::Bool(true)), "{verified} {err}");

    // Written out as tiles, it is verified from them alone; more of it is added later.
    let tiles = world.dir.path().join("tiles");
    let out = tiles.to_str().expect("UTF-8");
    for _ in 0..2 {
        let (code, _, err) = world.cli(&world.state_dir(), &["audit", "tiles", "--out", out]).await;
        assert_eq!(code, 0, "{err}");
    }
    let of_tiles = ["--tiles", out, "--key", &vkey];
    let (code, verified, err) = verify(&world, Path::new("/nonexistent"), &of_tiles).await;
    assert_eq!((code, &verified["covered"]), (0, &verified["records"]), "{verified} {err}");
    assert!(verified["covered"].as_u64() > Some(300), "{verified}");
    for (name, at, expected) in [("tile/entries/000", 40_000, None), ("tile/0/000", 32 * 77 + 5, Some(77))] {
        let path = tiles.join(name);
        let whole = std::fs::read(&path).expect("a tile");
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).expect("changed");
        let (code, verified, _) = verify(&world, Path::new("/nonexistent"), &of_tiles).await;
        let finding = &verified["findings"][0];
        assert_eq!(code, 1, "{verified}");
        assert!(expected.is_none_or(|record| finding["record"] == record), "{verified}");
        std::fs::write(&path, whole).expect("as it was");
    }
    // Oldest records may be gone, and that is said; others may not.
    std::fs::rename(tiles.join("tile/entries/000"), tiles.join("oldest")).expect("moved");
    let (code, verified, err) = verify(&world, Path::new("/nonexistent"), &of_tiles).await;
    assert_eq!((code, &verified["removed"]), (0, &Value::from(256)), "{verified} {err}");
    std::fs::rename(tiles.join("oldest"), tiles.join("tile/entries/000")).expect("moved back");
    std::fs::rename(tiles.join("tile/entries/001.p"), tiles.join("newest")).expect("moved");
    let (code, verified, _) = verify(&world, Path::new("/nonexistent"), &of_tiles).await;
    assert_eq!((code, &verified["findings"][0]["words"]), (1, &Value::from("is missing")), "{verified}");

    let file = world.dir.path().join("one.tlog-proof");
    let file = file.to_str().expect("UTF-8");
    let (code, _, err) = world.cli(&world.state_dir(), &["audit", "prove", "200", "--out", file]).await;
    assert_eq!(code, 0, "{err}");
    let record = independently(&["proof", &vkey, file]).await.expect("proven to others");
    let (code, proven, err) = verify(&world, Path::new("/nonexistent"), &["--proof", file, "--key", &vkey]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<Value>(&record).expect("a record"), proven["record"]);
    assert_eq!(proven["position"], 200);
    let changed = std::fs::read_to_string(file).expect("read").replace("index 200", "index 201");
    std::fs::write(file, changed).expect("written");
    assert!(independently(&["proof", &vkey, file]).await.is_err());
    assert_eq!(verify(&world, Path::new("/nonexistent"), &["--proof", file, "--key", &vkey]).await.0, 1);

    // Killed between commit, hash and checkpoint, again and again.
    let port = world.port;
    let mut world = world;
    for round in 0..4_u64 {
        for number in 0..20 {
            world.admin.put::<Value>(&format!("/v1/groups/r{round}-{number}")).await.expect("made");
        }
        tokio::time::sleep(Duration::from_millis(130 * round)).await;
        let dir = world.kill().await;
        world = World::start_in(dir, port).await;
        let state = signed(&world).await;
        assert_eq!((&state["key"], &state["trouble"]), (&Value::from(vkey.as_str()), &Value::Null), "{state}");
        let (code, verified, err) = verify(&world, &world.state_dir(), &["--key", &vkey]).await;
        assert_eq!(code, 0, "{verified} {err}");
    }
    let state = signed(&world).await;

    // The stored log is changed: the file, the record and the byte are named.
    let dir = world.stop().await;
    let segment = dir.path().join("state/audit/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let at = bytes.windows(11).position(|window| window == b"\"group/g150").expect("its record");
    bytes[at + 8] ^= 1;
    std::fs::write(&segment, bytes).expect("changed");
    let output = Command::new(crate::world::VOUCHSAFE)
        .args(["audit", "verify", "--json", "--key", &vkey, "--dir"])
        .arg(dir.path().join("state"))
        .output()
        .await
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let verified: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let finding = &verified["findings"][0];
    assert!(finding["file"].as_str().expect("a file").ends_with("00000000000000000000.log"), "{verified}");
    let byte = finding["byte"].as_u64().expect("a byte");
    assert!((1..65_536).contains(&(at as u64 - byte)), "{verified}");
    assert!(finding["record"].as_u64() < state["signed"].as_u64(), "{verified}");
}
