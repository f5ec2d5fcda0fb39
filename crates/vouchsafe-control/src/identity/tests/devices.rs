use futures_util::future::join_all;
use rcgen::{CertificateParams, KeyPair};
use vouchsafe_wire::api::{LockKind, NewDevice, NewLock};
use vouchsafe_wire::audit::Kind;
use vouchsafe_wire::device::{GRANT_DEVICE_CODE, GRANT_REFRESH};
use vouchsafe_wire::ticket::Ticket;
use vouchsafe_wire::token::AccessClaims;

use super::*;
use crate::store::{facts, sessions};

impl Client {
    /// A request for its key.
    fn csr(&self) -> String {
        let key = KeyPair::from_pem(&self.key).unwrap();
        CertificateParams::new(vec![]).unwrap().serialize_request(&key).unwrap().pem().unwrap()
    }

    /// The same with the certificate that was just issued.
    fn with(&self, enrolled: &Value) -> Client {
        let pem = enrolled["certificate"].as_str().unwrap();
        let leaf = vouchsafe_runtime::tls::certificates(pem, "issued").unwrap().remove(0);
        Client {
            device: Some(ProvenDevice {
                id: enrolled["device"].as_str().unwrap().parse().unwrap(),
                certificate_sha256: vouchsafe_runtime::tls::sha256(&leaf),
                not_after: clock::from_unix_seconds(enrolled["not_after"].as_u64().unwrap()),
            }),
            ..self.clone()
        }
    }
}

/// A request for a key that nobody has.
fn csr() -> String {
    Client::new().csr()
}

impl World {
    async fn ticket(&self, owner: Option<&str>) -> Ticket {
        let new = NewDevice { owner: owner.map(str::to_owned), tags: vec!["laptop".to_owned()] };
        let invited = directory::devices::invite(&self.context, &new, &Actor::Controller).await.unwrap();
        Ticket::parse(&invited.ticket).unwrap()
    }

    async fn call(&self, client: &Client, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.send(client, OwnHost::Gateway, request, body.to_string()).await
    }

    async fn oauth(&self, client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(client, OwnHost::Gateway, request, body).await
    }

    pub(super) async fn enrolled(&self, owner: Option<&str>) -> Client {
        self.enrolled_as("laptop", owner).await
    }

    pub(super) async fn enrolled_as(&self, name: &str, owner: Option<&str>) -> Client {
        let ticket = self.ticket(owner).await;
        let client = Client::new();
        let body = json!({ "code": ticket.code, "csr": client.csr(), "name": name });
        let answer = self.call(&client, "/device/enroll", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        client.with(&answer.json())
    }

    async fn renew(&self, device: &Client) -> Answer {
        self.call(device, "/device/renew", &json!({ "csr": device.csr() })).await
    }

    async fn status(&self, device: &Client) -> Answer {
        self.send(device, OwnHost::Gateway, Request::get("/device/status"), String::new()).await
    }

    /// A code of the device, approved by that signed-in person.
    async fn approved(&self, device: &Client, person: &Client) -> String {
        let begun = self.oauth(device, "/oauth/device_authorization", &[]).await.json();
        let code = begun["user_code"].as_str().unwrap();
        let body = format!("csrf={}&user_code={code}&answer=approve", self.csrf(person).await);
        let answer = self.submit(person, "/device", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        begun["device_code"].as_str().unwrap().to_owned()
    }

    async fn poll(&self, device: &Client, code: &str) -> Answer {
        self.oauth(device, "/oauth/token", &[("grant_type", GRANT_DEVICE_CODE), ("device_code", code)]).await
    }

    async fn refresh(&self, device: &Client, token: &str) -> Answer {
        self.oauth(device, "/oauth/token", &[("grant_type", GRANT_REFRESH), ("refresh_token", token)]).await
    }
}

#[tokio::test]
async fn i12_a_ticket_enrols_one_device_also_in_parallel() {
    let world = World::new().await;
    world.person("alice", &mut Client::new()).await;
    let ticket = world.ticket(Some("alice")).await;
    assert_eq!(ticket.host, "gw.vouchsafe.localhost");
    assert_eq!(ticket.root_sha256, world.context.ca.root_sha256());
    let client = Client::new();
    let bodies: Vec<Value> =
        (0..2).map(|_| json!({ "code": ticket.code, "csr": csr(), "name": "Alice's laptop" })).collect();
    let answers = join_all(bodies.iter().map(|body| world.call(&client, "/device/enroll", body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM devices").await, 1);
    let enrolled = answers.iter().find(|answer| answer.status == StatusCode::OK).unwrap().json();
    assert_eq!(enrolled["name"], "alice-s-laptop");
    assert_eq!(enrolled["owner"], "alice");
    assert_eq!(enrolled["grade"], "software");
    world.assert_not_stored(&ticket.code);
    let other = world.ticket(None).await;
    let body = json!({ "code": other.code, "csr": csr(), "name": "Alice's laptop" });
    assert_eq!(world.call(&client, "/device/enroll", &body).await.json()["name"], "alice-s-laptop-2");
    let records = world.records("device.enrol").await;
    assert_eq!(records.iter().filter(|record| record.outcome.as_deref() == Some("failed")).count(), 1);
    assert!(records.iter().any(|record| record.detail.as_deref().unwrap_or_default().contains("certificate ")));
}

#[tokio::test]
async fn a_request_that_proves_no_key_gets_nothing_and_keeps_the_ticket() {
    let world = World::new().await;
    let ticket = world.ticket(None).await;
    let mut bad = csr();
    let middle = bad.len() - 60;
    let replacement = if bad.as_bytes()[middle] == b'A' { "B" } else { "A" };
    bad.replace_range(middle..=middle, replacement);
    for csr in [bad, "nonsense".to_owned()] {
        let body = json!({ "code": ticket.code, "csr": csr, "name": "x" });
        assert_eq!(world.call(&Client::new(), "/device/enroll", &body).await.status, StatusCode::BAD_REQUEST);
    }
    let body = json!({ "code": ticket.code, "csr": csr(), "name": "x" });
    assert_eq!(world.call(&Client::new(), "/device/enroll", &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn renewal_and_status_are_for_enrolled_devices() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    let renew = json!({ "csr": device.csr() });
    let answer = world.call(&device, "/device/renew", &renew).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let enrolled = answer.json();
    assert!(enrolled["renew_at"].as_u64().unwrap() >= now() + 57_000);
    let status = world.send(&device, OwnHost::Gateway, Request::get("/device/status"), String::new()).await;
    assert_eq!(status.json()["name"], "laptop");
    let nobody = Client::new();
    assert_eq!(world.call(&nobody, "/device/renew", &renew).await.status, StatusCode::UNAUTHORIZED);
    let id = device.device.as_ref().unwrap().id.to_string();
    directory::devices::remove(&world.context, &id, &Actor::Controller).await.unwrap();
    assert_eq!(world.call(&device, "/device/renew", &renew).await.json()["type"], "device_unknown");
    let status = world.send(&device, OwnHost::Gateway, Request::get("/device/status"), String::new()).await;
    assert_eq!(status.status, StatusCode::FORBIDDEN);
    let refused = world.oauth(&device, "/oauth/device_authorization", &[]).await;
    assert_eq!(refused.json()["error"], "invalid_client");
}

/// A copy of a device has its key and its certificate of then. It must not live on beside the device.
#[tokio::test]
async fn a283_only_the_newest_certificate_is_renewed() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    let copy = device.clone();
    let first = world.renew(&device).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let device = device.with(&first.json());
    assert_eq!(world.status(&device).await.status, StatusCode::OK);
    let refused = world.renew(&copy).await;
    assert_eq!(
        (refused.status, refused.json()["type"].as_str()),
        (StatusCode::FORBIDDEN, Some("certificate_replaced"))
    );
    let records = world.records("device.renew").await;
    let failed: Vec<_> = records.iter().filter(|record| record.outcome.as_deref() == Some("failed")).collect();
    assert!(
        matches!(failed[..], [record] if record.detail.as_deref().unwrap_or_default().contains("copy")),
        "{failed:?}"
    );
    // The refusal changes nothing for the device, whose renewal is a use as well.
    let second = world.renew(&device).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.body);
    let newest = device.with(&second.json());
    assert_eq!(world.renew(&newest).await.status, StatusCode::OK);
    assert_eq!(world.renew(&device).await.status, StatusCode::FORBIDDEN, "two behind");
}

/// Who saw a device's newest certificate, such as a gateway that ends its TLS, gets none for a key of its own.
#[tokio::test]
async fn a283_a_renewal_keeps_the_key() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    let taken_over = Client { key: Client::new().key, ..device.clone() };
    let refused = world.renew(&taken_over).await;
    assert_eq!((refused.status, refused.json()["type"].as_str()), (StatusCode::FORBIDDEN, Some("other_key")));
    let failed = world.records("device.renew").await;
    assert!(
        matches!(&failed[..], [record] if record.outcome.as_deref() == Some("failed")
            && record.detail.as_deref().unwrap_or_default().contains("key")),
        "{failed:?}"
    );
    // Nothing changed for the device, also not where the one before the newest is renewed.
    let newest = device.with(&world.renew(&device).await.json());
    assert_eq!(world.renew(&taken_over).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.renew(&device).await.status, StatusCode::OK);
    assert_eq!(world.renew(&newest).await.status, StatusCode::FORBIDDEN);
}

/// An answer may be lost on its way: then the device has only what it had before.
#[tokio::test]
async fn a283_a_renewal_whose_answer_was_lost_is_repeated() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    let lost = device.with(&world.renew(&device).await.json());
    let again = world.renew(&device).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.body);
    let newest = device.with(&again.json());
    // What was lost may have been caught: it leads nowhere, whether the device is quick or not.
    assert_eq!(world.renew(&lost).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.renew(&device).await.status, StatusCode::OK, "the second answer was lost as well");
    assert_eq!(world.renew(&newest).await.status, StatusCode::FORBIDDEN);
    // A token asked for with the newest shows that it arrived.
    let newest = device.with(&world.renew(&device).await.json());
    world.oauth(&newest, "/oauth/device_authorization", &[]).await;
    assert_eq!(world.renew(&device).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.renew(&newest).await.status, StatusCode::OK);
}

/// Of twenty at once with one certificate, the last one's answer is what counts.
#[tokio::test]
async fn a283_parallel_renewals_leave_one_line() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    let answers = join_all((0..20).map(|_| world.renew(&device))).await;
    let mut good = 0;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        good += u32::from(world.renew(&device.with(&answer.json())).await.status == StatusCode::OK);
    }
    assert_eq!(good, 1);
}

/// Devices of an installation from before certificates were noted.
#[tokio::test]
async fn a283_a_device_without_a_note_renews_what_it_was_issued_last() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    world.run("UPDATE devices SET certificate_sha256 = NULL").await;
    let mut older = device.clone();
    older.device.as_mut().unwrap().not_after -= std::time::Duration::from_secs(1);
    assert_eq!(world.renew(&older).await.status, StatusCode::FORBIDDEN);
    let device = device.with(&world.renew(&device).await.json());
    assert_eq!(world.renew(&device).await.status, StatusCode::OK);
}

/// It ends within a day, but until then nothing is done with it that nobody sees.
#[tokio::test]
async fn a283_tokens_for_an_outdated_certificate_are_on_record() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    let newest = device.with(&world.renew(&device).await.json());
    world.oauth(&device, "/oauth/device_authorization", &[]).await;
    assert!(world.records("device.outdated").await.is_empty(), "nobody has seen the newest yet");
    world.oauth(&newest, "/oauth/device_authorization", &[]).await;
    world.oauth(&device, "/oauth/device_authorization", &[]).await;
    world.poll(&device, "x").await;
    assert_eq!(world.records("device.outdated").await.len(), 2);
}

#[tokio::test]
async fn i6_a_locked_device_begins_no_sign_in() {
    let world = World::new().await;
    let device = world.enrolled(None).await;
    assert_eq!(world.oauth(&device, "/oauth/device_authorization", &[]).await.status, StatusCode::OK);
    let name = device.device.as_ref().unwrap().id.to_string();
    let lock = NewLock { kind: LockKind::Device, name, reason: String::new(), seconds: None };
    directory::locks::lock(&world.context, &lock, &Actor::Controller).await.unwrap();
    let refused = world.oauth(&device, "/oauth/device_authorization", &[]).await;
    assert_eq!(refused.json()["error"], "invalid_client");
}

#[tokio::test]
async fn a_sign_in_on_a_device_yields_a_bound_token_of_that_device() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let device = world.enrolled(Some("alice")).await;
    let begun = world.oauth(&device, "/oauth/device_authorization", &[]).await.json();
    let code = begun["device_code"].as_str().unwrap();
    let user_code = begun["user_code"].as_str().unwrap();
    assert_eq!(world.poll(&device, code).await.json()["error"], "authorization_pending");
    assert_eq!(world.poll(&device, code).await.json()["error"], "slow_down");
    assert_eq!(world.count("SELECT interval FROM device_codes").await, 10);
    let signed_out = world.get(&Client::new(), &format!("/device?user_code={user_code}")).await;
    assert_eq!(signed_out.location(), format!("/sign-in?user_code={user_code}"));
    let page = world.get(&person, &format!("/device?user_code={}", user_code.to_lowercase())).await;
    assert!(
        page.body.contains(user_code) && page.body.contains("laptop") && page.body.contains(&device.ip.to_string())
    );
    let body = format!("csrf={}&user_code={user_code}&answer=approve", world.csrf(&person).await);
    assert_eq!(world.submit(&person, "/device", body).await.status, StatusCode::OK);
    let answer = world.poll(&device, code).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let token = answer.json();
    let (header, rest) = token["access_token"].as_str().unwrap().split_once('.').unwrap();
    let decode = |part: &str| -> Value {
        use base64::Engine as _;
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(decode(header)["typ"], "at+jwt");
    assert_eq!(decode(header)["alg"], "ES256");
    let claims: AccessClaims = serde_json::from_value(decode(rest.split('.').next().unwrap())).unwrap();
    assert_eq!(claims.iss, ORIGIN);
    assert_eq!(claims.client_id, device.device.as_ref().unwrap().id.to_string());
    assert_eq!(claims.exp, claims.iat + 600);
    use base64::Engine as _;
    let certificate = device.device.as_ref().unwrap().certificate_sha256;
    assert_eq!(claims.cnf.x5t_s256, base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(certificate));
    let jwks = world.get(&person, "/.well-known/jwks.json").await.json();
    assert!(jwks["keys"].as_array().unwrap().iter().any(|key| key["kid"] == decode(header)["kid"]));
    verify(&world, token["access_token"].as_str().unwrap());
    let mut read = world.context.store.read().await.unwrap();
    let session = claims.sid.parse().unwrap();
    let facts = facts::subject_by_session(&mut read, &session, now()).await.unwrap().unwrap();
    assert_eq!(facts.device.unwrap().id, device.device.as_ref().unwrap().id);
    for secret in [code, &user_code.replace('-', ""), token["refresh_token"].as_str().unwrap()] {
        world.assert_not_stored(secret);
    }
}

/// The signature as the gateway verifies it.
fn verify(world: &World, token: &str) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use base64::Engine as _;
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (_, point) = &world.context.ca.gateway_identity().token_keys[0];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature).unwrap();
}

/// An approval is no sign-in: a session that is nearly over can't be drawn out by it.
#[tokio::test]
async fn a_session_on_a_device_ends_no_later_than_the_one_that_approved_it() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let device = world.enrolled(None).await;
    let end = now() + 60;
    testing::run(&world.context.store, &format!("UPDATE sessions SET expires = {end}")).await;
    let code = world.approved(&device, &person).await;
    let token = world.poll(&device, &code).await.json();
    assert_eq!(token["session_expires"].as_u64(), Some(end), "{token}");
    assert!(token["expires_in"].as_u64().unwrap() <= 60, "{token}");
    let again = world.refresh(&device, token["refresh_token"].as_str().unwrap()).await.json();
    assert_eq!(again["session_expires"].as_u64(), Some(end), "{again}");
    assert_eq!(world.count("SELECT MAX(expires) FROM sessions").await, i64::try_from(end).unwrap());
}

#[tokio::test]
async fn i12_one_approval_gives_one_token_among_twenty_polls() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let device = world.enrolled(None).await;
    let code = world.approved(&device, &person).await;
    let answers = join_all((0..20).map(|_| world.poll(&device, &code))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions WHERE kind = 'cli'").await, 1);
}

#[tokio::test]
async fn codes_and_tokens_are_worthless_on_another_device() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let (device, thief) = (world.enrolled(None).await, world.enrolled(None).await);
    let code = world.approved(&device, &person).await;
    assert_eq!(world.poll(&thief, &code).await.json()["error"], "invalid_grant");
    assert_eq!(world.poll(&Client::new(), &code).await.status, StatusCode::UNAUTHORIZED, "no certificate");
    let token = world.poll(&device, &code).await.json();
    let refresh = token["refresh_token"].as_str().unwrap();
    assert_eq!(world.refresh(&thief, refresh).await.json()["error"], "invalid_grant");
    assert_eq!(world.oauth(&thief, "/oauth/revoke", &[("token", refresh)]).await.status, StatusCode::OK);
    assert_eq!(world.refresh(&device, refresh).await.status, StatusCode::OK, "the owner goes on");
    let mismatches = world
        .records("device-sign-in")
        .await
        .into_iter()
        .filter(|record| record.reason.as_deref() == Some("device_mismatch"));
    assert_eq!(mismatches.count(), 2);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_session() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let device = world.enrolled(None).await;
    let code = world.approved(&device, &person).await;
    let first = world.poll(&device, &code).await.json()["refresh_token"].as_str().unwrap().to_owned();
    let answer = world
        .oauth(
            &device,
            "/oauth/token",
            &[("grant_type", GRANT_REFRESH), ("refresh_token", &first), ("resource", "vouchsafe-api")],
        )
        .await;
    let second = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(world.refresh(&device, &first).await.json()["error"], "invalid_grant");
    assert_eq!(world.refresh(&device, &second).await.json()["error"], "invalid_grant", "the whole session is over");
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions WHERE kind = 'cli'").await, 0);
    let records = testing::records(&world.context.store);
    assert_eq!(records.iter().filter(|record| record.kind == Kind::SessionEnd).count(), 1);
    let answer = world
        .oauth(&device, "/oauth/token", &[("grant_type", GRANT_REFRESH), ("refresh_token", &first), ("resource", "x")])
        .await;
    assert_eq!(answer.json()["error"], "invalid_target");
}

#[tokio::test]
async fn a_refresh_ends_with_user_session_or_sign_out() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let device = world.enrolled(None).await;
    let code = world.approved(&device, &person).await;
    let token = world.poll(&device, &code).await.json()["refresh_token"].as_str().unwrap().to_owned();
    world.run("UPDATE users SET disabled = 1").await;
    assert_eq!(world.refresh(&device, &token).await.json()["error"], "invalid_grant");
    world.run("UPDATE users SET disabled = 0").await;
    let answer = world.refresh(&device, &token).await;
    assert_eq!(answer.status, StatusCode::OK, "nothing was used up by the refusal");
    let token = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(world.oauth(&device, "/oauth/revoke", &[("token", &token)]).await.status, StatusCode::OK);
    assert_eq!(world.refresh(&device, &token).await.json()["error"], "invalid_grant");
    let mut read = world.context.store.read().await.unwrap();
    assert_eq!(sessions::of_user(&mut read, &user("alice")).await.unwrap().len(), 1, "the browser's stays");
}

#[tokio::test]
async fn refusals_expiry_strangers_and_other_owners() {
    let world = World::new().await;
    let (mut alice, mut bob) = (Client::new(), Client::new());
    world.person("alice", &mut alice).await;
    world.person("bob", &mut bob).await;
    let device = world.enrolled(Some("alice")).await;
    let begun = world.oauth(&device, "/oauth/device_authorization", &[]).await.json();
    let (code, user_code) = (begun["device_code"].as_str().unwrap(), begun["user_code"].as_str().unwrap());
    let answer = |csrf: String, what: &str| format!("csrf={csrf}&user_code={user_code}&answer={what}");
    let lent = world.submit(&bob, "/device", answer(world.csrf(&bob).await, "approve")).await;
    assert_eq!(lent.status, StatusCode::FORBIDDEN, "another person's device");
    let forged = world.submit(&alice, "/device", answer("x".into(), "approve")).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    world.submit(&alice, "/device", answer(world.csrf(&alice).await, "refuse")).await;
    assert_eq!(world.poll(&device, code).await.json()["error"], "access_denied");
    assert_eq!(world.poll(&device, code).await.json()["error"], "invalid_grant");
    let code = world.approved(&device, &alice).await;
    world.run("UPDATE device_codes SET expires = 1").await;
    assert_eq!(world.poll(&device, &code).await.json()["error"], "expired_token");
    // The approver signed out before the device asked: nothing is left to lend.
    let code = world.approved(&device, &alice).await;
    world.submit(&alice, "/sign-out", format!("csrf={}", world.csrf(&alice).await)).await;
    assert_eq!(world.poll(&device, &code).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn i11_user_codes_can_not_be_guessed_fast() {
    let world = World::new().await;
    let mut person = Client::new();
    world.person("alice", &mut person).await;
    let mut refused = 0;
    for _ in 0..40 {
        let answer = world.get(&person, "/device?user_code=BCDF-GHJK").await;
        refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 20, "{refused}");
}
