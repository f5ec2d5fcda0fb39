//! A015: an assertion that an upstream saw is worth nothing elsewhere, later, or as anything else. The
//! judge is the code that the documentation gives to authors of apps.

use serde_json::{Value, json};

use super::{Lab, WAYS};
use crate::peers::{curl, run};

const DOCS: &str = include_str!("../../../../../docs/spec/assertion.md");

/// Prints what becomes of each case: the user's name, or why it is refused.
const HARNESS: &str = r"
import fs from 'node:fs';
import { verify } from './verify.mjs';
const { cases } = JSON.parse(fs.readFileSync(process.argv[2]));
const outcome = ([assertion, options]) => {
  try { return verify(assertion, options).sub; } catch (error) { return `refused: ${error.message}`; }
};
process.stdout.write(JSON.stringify(cases.map(outcome)));
";

#[tokio::test(flavor = "multi_thread")]
async fn a015_an_assertion_is_for_one_app_and_one_minute() {
    let lab = Lab::start().await;
    let mut seen = Vec::new();
    for way in WAYS {
        let answer = lab.send(way, "GET", "/public/x", &[]).await;
        let request = lab.one(&format!("{way:?}"), &answer, "GET /public/x HTTP/1.1");
        seen.push(request.values("x-vouchsafe-assertion").join("|"));
    }
    let keys = curl(&lab.world, &[lab.world.url("auth", "/.well-known/jwks.json").as_str()]).await;
    let keys = serde_json::from_str::<Value>(&keys.body).expect("JSON")["keys"].clone();
    let issuer = format!("https://{}", lab.host("auth"));
    let options = |audience: &str, now: Option<u64>| {
        let mut options = json!({"keys": keys, "issuer": issuer, "audience": audience});
        if let Some(now) = now {
            options["now"] = json!(now);
        }
        options
    };
    let mut cases: Vec<(Value, &str)> = Vec::new();
    for assertion in &seen {
        cases.push((json!([assertion, options("app-a", None)]), "alice"));
    }
    let own = seen.first().expect("an assertion");
    let parts: Vec<&str> = own.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!("no JWT: {own}") };
    let decoded = |part: &str| -> Value {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let encoded = |value: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let claims = decoded(payload);
    let (issued, end) = (claims["iat"].as_u64().expect("iat"), claims["exp"].as_u64().expect("exp"));
    assert_eq!(end - issued, 60, "{claims}");
    let with = |member: &str, value: Value| {
        let mut claims = claims.clone();
        claims[member] = value;
        format!("{header}.{}.{signature}", encoded(&claims))
    };
    let typed = |member: &str, value: &str| {
        let mut changed = decoded(header);
        changed[member] = json!(value);
        format!("{}.{payload}.{signature}", encoded(&changed))
    };
    // Replayed to another app's upstream, after its end, and under another issuer.
    cases.push((json!([own, options("app-b", None)]), "refused: for another app"));
    cases.push((json!([own, options("app-a", Some(issued + 61))]), "refused: expired"));
    cases.push((json!([own, options("app-a", Some(issued - 60))]), "refused: from the future"));
    let mut elsewhere = options("app-a", None);
    elsewhere["issuer"] = json!("https://auth.evil.example");
    cases.push((json!([own, elsewhere]), "refused: another issuer"));
    // Changed in any part, or another token of ours in its place.
    for forged in [
        with("sub", json!("bob")),
        with("aud", json!("app-b")),
        with("exp", json!(end + 3600)),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{}", "A".repeat(86)),
        typed("alg", "none"),
        typed("alg", "HS256"),
        typed("typ", "at+jwt"),
        typed("kid", "another"),
        lab.laptop.token.clone(),
    ] {
        cases.push((json!([forged, options("app-a", None)]), "refused: "));
        cases.push((json!([forged, options("app-b", None)]), "refused: "));
    }
    let dir = lab.world.dir.path().join("verifier");
    std::fs::create_dir_all(&dir).expect("directory");
    let (_, code) = DOCS.split_once("```js\n").expect("the snippet");
    let (code, _) = code.split_once("```").expect("its end");
    let input = json!({"cases": cases.iter().map(|(case, _)| case).collect::<Vec<_>>()});
    for (name, text) in [("verify.mjs", code), ("harness.mjs", HARNESS), ("cases.json", &input.to_string())] {
        std::fs::write(dir.join(name), text).expect("written");
    }
    let path = |name: &str| dir.join(name).display().to_string();
    let ran = run("node", &[&path("harness.mjs"), &path("cases.json")]).await;
    let outcomes: Vec<String> = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.err));
    assert_eq!(outcomes.len(), cases.len());
    for ((case, expected), outcome) in cases.iter().zip(&outcomes) {
        assert!(outcome.starts_with(expected), "{outcome}, not {expected}: {case}");
    }
    // Sent to the gateway as a credential it is nobody's.
    for field in [
        format!("Cookie: __Host-vouchsafe={own}"),
        format!("Authorization: Bearer {own}"),
        format!("Proxy-Authorization: Bearer {own}"),
        format!("X-Vouchsafe-Assertion: {own}"),
    ] {
        let request = format!("GET /public/x HTTP/1.1\r\nHost: {}\r\n{field}\r\n\r\n", lab.host("app-a"));
        let answer = lab.bytes(super::Way::H1, request.as_bytes()).await;
        lab.refused(&field, &answer, &[401]).await;
    }
}
