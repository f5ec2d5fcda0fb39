//! What a scanner finds in our TLS.

use serde_json::{Value, json};

use crate::peers::run;
use crate::world::World;

const SSLYZE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/.scanner/bin/sslyze");
/// What is looked for, and whether it is there.
const SCANS: &[(&str, &str, bool)] = &[
    ("ssl_2_0_cipher_suites", "/is_tls_version_supported", false),
    ("ssl_3_0_cipher_suites", "/is_tls_version_supported", false),
    ("tls_1_0_cipher_suites", "/is_tls_version_supported", false),
    ("tls_1_1_cipher_suites", "/is_tls_version_supported", false),
    ("tls_1_2_cipher_suites", "/is_tls_version_supported", false),
    ("tls_1_3_cipher_suites", "/is_tls_version_supported", true),
    ("tls_1_3_early_data", "/supports_early_data", false),
    ("tls_compression", "/supports_compression", false),
    ("openssl_ccs_injection", "/is_vulnerable_to_ccs_injection", false),
    ("heartbleed", "/is_vulnerable_to_heartbleed", false),
    ("session_renegotiation", "/is_vulnerable_to_client_renegotiation_dos", false),
];
const COMMANDS: &[&str] = &[
    "--sslv2",
    "--sslv3",
    "--tlsv1",
    "--tlsv1_1",
    "--tlsv1_2",
    "--tlsv1_3",
    "--compression",
    "--early_data",
    "--elliptic_curves",
    "--heartbleed",
    "--openssl_ccs",
    "--reneg",
    "--robot",
    "--quiet",
    // What Mozilla recommends is compared only after `--certinfo`, which takes the alert for a handshake
    // without a name for a fault of its own.
    "--mozilla_config=disable",
];

#[tokio::test(flavor = "multi_thread")]
async fn a179_sslyze_finds_nothing_at_any_of_our_names() {
    let world = World::start().await;
    let wiki = json!([{"name": "wiki", "kind": "http", "upstream": "http://127.0.0.1:9"}]);
    world.apply(&[], wiki, "").await;
    let address = world.address().to_string();
    for (label, asks) in [("auth", "DISABLED"), ("gw", "OPTIONAL"), ("wiki", "DISABLED")] {
        let file = world.dir.path().join(format!("{label}.json"));
        let (out, host) = (file.display().to_string(), world.host(label));
        let own = ["--json_out", &out, "--sni", &host, &address];
        let ran = run(SSLYZE, &[COMMANDS, &own].concat()).await;
        assert_eq!(ran.code, 0, "{label}: {} {}", ran.out, ran.err);
        let found: Value = serde_json::from_slice(&std::fs::read(file).expect("written")).expect("JSON");
        let found = &found["server_scan_results"][0];
        assert_eq!(found["connectivity_result"]["client_auth_requirement"], asks, "{label}");
        for (scan, at, expected) in SCANS {
            let result = &found["scan_result"][scan]["result"];
            assert_eq!(result.pointer(at).and_then(Value::as_bool), Some(*expected), "{label}: {scan}");
        }
        let names = |scan: &str, list: &str, name: &str| -> Vec<String> {
            let list = found["scan_result"][scan]["result"][list].as_array().expect("a list");
            list.iter().map(|entry| entry.pointer(name).and_then(Value::as_str).expect("a name").to_owned()).collect()
        };
        let mut suites = names("tls_1_3_cipher_suites", "accepted_cipher_suites", "/cipher_suite/name");
        suites.sort_unstable();
        assert_eq!(suites, ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]);
        // It knows no hybrids.
        let curves = names("elliptic_curves", "supported_curves", "/name");
        assert_eq!(curves, ["X25519", "secp256r1", "secp384r1"], "{label}");
        let robot = &found["scan_result"]["robot"]["result"]["robot_result"];
        assert_eq!(robot, "NOT_VULNERABLE_RSA_NOT_SUPPORTED", "{label}");
    }
    world.stop().await;
}
