use futures_util::StreamExt as _;
use futures_util::future::join_all;
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_wire::audit::Kind;

use super::*;
use crate::precondition::Precondition;
use crate::store::sessions;

#[tokio::test]
async fn a_person_registers_by_invitation_and_signs_in_again() {
    let world = World::new().await;
    let mut client = Client::new();
    let mut passkey = world.person("alice", &mut client).await;
    let page = world.get(&client, "/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("alice"));
    let answer = world.authenticate(&client, &mut passkey, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["next"], format!("{ORIGIN}/"));
    let old = client.clone();
    client.cookie = Some(answer.cookie());
    assert_eq!(world.get(&client, "/").await.status, StatusCode::OK);
    assert_eq!(world.get(&old, "/").await.location(), "/sign-in", "the session before is dead");
    let records = world.records("sign-in").await;
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.user.as_deref() == Some("alice")
        && record.outcome.as_deref() == Some("ok")
        && record.auth_methods == ["passkey"]));
    assert_eq!(world.count("SELECT COUNT(*) FROM users WHERE last_sign_in IS NOT NULL").await, 1);
}

#[tokio::test]
async fn i12_a_ceremony_is_used_once_even_when_it_fails() {
    let world = World::new().await;
    let mut client = Client::new();
    let mut passkey = world.person("alice", &mut client).await;
    client.cookie = None;
    let begun = world.post(&client, "/webauthn/authenticate/start", &json!({})).await.json();
    let good = json!({ "ceremony": begun["ceremony"], "credential": passkey.get(&begun["publicKey"]) });
    let first = world.post(&client, "/webauthn/authenticate/finish", &good).await;
    assert_eq!(first.status, StatusCode::OK);
    let replay = world.post(&client, "/webauthn/authenticate/finish", &good).await;
    assert_eq!(replay.status, StatusCode::FORBIDDEN);

    let begun = world.post(&client, "/webauthn/authenticate/start", &json!({})).await.json();
    let mut bad = passkey.get(&begun["publicKey"]);
    bad["response"]["signature"] = "MEUC".into();
    let body = json!({ "ceremony": begun["ceremony"], "credential": bad });
    assert_eq!(world.post(&client, "/webauthn/authenticate/finish", &body).await.status, StatusCode::FORBIDDEN);
    let body = json!({ "ceremony": begun["ceremony"], "credential": passkey.get(&begun["publicKey"]) });
    let retry = world.post(&client, "/webauthn/authenticate/finish", &body).await;
    assert_eq!(retry.json()["type"], "not_good", "a failed attempt uses the ceremony up");
    let failed =
        world.records("sign-in").await.into_iter().filter(|record| record.outcome.as_deref() == Some("failed"));
    assert_eq!(failed.count(), 3);
}

#[tokio::test]
async fn wrong_origin_missing_verification_and_clones_are_refused() {
    let world = World::new().await;
    let mut client = Client::new();
    let mut passkey = world.person("alice", &mut client).await;
    let mut other = world.person("bob", &mut Client::new()).await;
    client.cookie = None;
    passkey.origin = "https://auth.vouchsafe.localhost.evil.example".to_owned();
    assert_eq!(world.authenticate(&client, &mut passkey, None).await.status, StatusCode::FORBIDDEN);
    passkey.origin = "https://wiki.vouchsafe.localhost:8443".to_owned();
    assert_eq!(world.authenticate(&client, &mut passkey, None).await.status, StatusCode::FORBIDDEN);
    passkey.origin = ORIGIN.to_owned();
    passkey.verifies = false;
    assert_eq!(world.authenticate(&client, &mut passkey, None).await.status, StatusCode::FORBIDDEN);
    passkey.verifies = true;
    assert_eq!(world.authenticate(&client, &mut passkey, None).await.status, StatusCode::OK);
    passkey.rewind();
    assert_eq!(world.authenticate(&client, &mut passkey, None).await.status, StatusCode::FORBIDDEN, "a clone");
    other.claim(&passkey);
    assert_eq!(world.authenticate(&client, &mut other, None).await.status, StatusCode::FORBIDDEN, "another's handle");

    let invite = world.invited("carol").await;
    let mut weak = Authenticator::new(ORIGIN);
    weak.verifies = false;
    assert_eq!(world.register(&client, &invite, &mut weak).await.status, StatusCode::FORBIDDEN);
    weak.verifies = true;
    weak.origin = "https://evil.example".to_owned();
    assert_eq!(world.register(&client, &invite, &mut weak).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.count("SELECT COUNT(*) FROM passkeys WHERE user_name = 'carol'").await, 0);
    weak.origin = ORIGIN.to_owned();
    assert_eq!(
        world.register(&client, &invite, &mut weak).await.status,
        StatusCode::OK,
        "the invitation was not used up"
    );
}

#[tokio::test]
async fn i12_an_invitation_is_used_once_also_in_parallel() {
    let world = World::new().await;
    let client = Client::new();
    let invite = world.invited("alice").await;
    let mut ready = Vec::new();
    for _ in 0..2 {
        let begun = world.post(&client, "/webauthn/register/start", &json!({ "invite": invite })).await.json();
        assert_eq!(begun["publicKey"]["authenticatorSelection"]["residentKey"], "required");
        assert_eq!(begun["publicKey"]["authenticatorSelection"]["userVerification"], "required");
        let credential = Authenticator::new(ORIGIN).create(&begun["publicKey"]);
        ready.push(json!({ "ceremony": begun["ceremony"], "credential": credential }));
    }
    let answers = join_all(ready.iter().map(|body| world.post(&client, "/webauthn/register/finish", body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM passkeys").await, 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions").await, 1);
    let again = world.register(&client, &invite, &mut Authenticator::new(ORIGIN)).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    let begun = world.post(&client, "/webauthn/authenticate/start", &json!({})).await.json();
    for secret in [invite.as_str(), begun["ceremony"].as_str().unwrap()] {
        world.assert_not_stored(secret);
    }
}

#[tokio::test]
async fn a_recovery_changes_nothing_until_used_and_then_replaces_all() {
    let world = World::new().await;
    let mut client = Client::new();
    let mut old = world.person("alice", &mut client).await;
    let invite = world.invited_again("alice").await;
    assert_eq!(world.get(&client, "/").await.status, StatusCode::OK);
    let begun = world.post(&Client::new(), "/webauthn/register/start", &json!({ "invite": invite })).await.json();
    assert_eq!(begun["recovery"], true);
    let mut fresh = Authenticator::new(ORIGIN);
    assert_eq!(world.register(&Client::new(), &invite, &mut fresh).await.status, StatusCode::OK);
    assert_eq!(world.get(&client, "/").await.location(), "/sign-in", "sessions end");
    assert_eq!(world.authenticate(&Client::new(), &mut old, None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.authenticate(&Client::new(), &mut fresh, None).await.status, StatusCode::OK);
    assert_eq!(world.records("passkey.remove").await.len(), 1);
}

#[tokio::test]
async fn a_second_passkey_needs_session_token_and_a_fresh_sign_in() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    let start = "/webauthn/register/start";
    assert_eq!(world.post(&client, start, &json!({})).await.status, StatusCode::FORBIDDEN, "no anti-forgery token");
    let begun = world.post_with_csrf(&client, start, &json!({})).await.json();
    assert_eq!(begun["publicKey"]["excludeCredentials"].as_array().map(Vec::len), Some(1));
    let mut second = Authenticator::new(ORIGIN);
    let body =
        json!({ "ceremony": begun["ceremony"], "name": "key\u{7}", "credential": second.create(&begun["publicKey"]) });
    let signed_out = Client { cookie: None, ..client.clone() };
    let stolen = world.post(&signed_out, "/webauthn/register/finish", &body).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    let begun = world.post_with_csrf(&client, start, &json!({})).await.json();
    let body =
        json!({ "ceremony": begun["ceremony"], "name": "key\u{7}", "credential": second.create(&begun["publicKey"]) });
    assert_eq!(world.post_with_csrf(&client, "/webauthn/register/finish", &body).await.status, StatusCode::OK);
    assert_eq!(world.authenticate(&Client::new(), &mut second, None).await.status, StatusCode::OK);
    let sessions = async || {
        let mut read = world.context.store.read().await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions").fetch_one(&mut *read).await.unwrap();
        count
    };
    assert_eq!(sessions().await, 2);

    let first: String = {
        let mut read = world.context.store.read().await.unwrap();
        sqlx::query_scalar("SELECT id FROM passkeys WHERE name = 'Passkey'").fetch_one(&mut *read).await.unwrap()
    };
    let csrf = world.csrf(&client).await;
    let remove = format!("csrf={csrf}&passkey={first}");
    assert_eq!(
        world.submit(&client, "/passkeys/remove", format!("passkey={first}")).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(sessions().await, 2, "a refused removal ends nothing");
    assert_eq!(world.submit(&client, "/passkeys/remove", remove.clone()).await.status, StatusCode::SEE_OTHER);
    assert_eq!(sessions().await, 1, "what may have been opened with it ends, and what she asks in stays");
    assert_eq!(world.get(&client, "/").await.status, StatusCode::OK);
    let last: String = {
        let mut read = world.context.store.read().await.unwrap();
        sqlx::query_scalar("SELECT id FROM passkeys").fetch_one(&mut *read).await.unwrap()
    };
    let answer = world.submit(&client, "/passkeys/remove", format!("csrf={csrf}&passkey={last}")).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "the last one stays");
    world.run("UPDATE sessions SET auth_time = auth_time - 3600").await;
    assert_eq!(world.post_with_csrf(&client, start, &json!({})).await.json()["type"], "step_up");
}

#[tokio::test]
async fn the_way_to_an_app_is_a_code_for_one_host_one_device_one_time() {
    let world = World::new().await;
    let mut client = Client::new();
    let mut passkey = world.person("alice", &mut client).await;
    let path = format!("/sign-in?app=wiki&state={STATE}");
    let code = |answer: &Answer| {
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert!(answer.location().starts_with("https://wiki.vouchsafe.localhost:8443/.vouchsafe/callback?code="));
        assert_eq!(query(answer.location(), "state"), STATE);
        query(answer.location(), "code")
    };
    let first = code(&world.get(&client, &path).await);
    let cookie = world.redeem(&client, &first, "wiki").await.expect("a cookie");
    assert_eq!(world.redeem(&client, &first, "wiki").await, None, "twice");
    let other = code(&world.get(&client, &path).await);
    assert_eq!(world.redeem(&client, &other, "finance").await, None, "another host");
    assert_eq!(world.redeem(&client, &other, "wiki").await, None, "the wrong try used it up");
    let other = code(&world.get(&client, &path).await);
    let elsewhere = Client::on(DeviceId::from_random([9; 16]));
    assert_eq!(world.redeem(&elsewhere, &other, "wiki").await, None, "another device");
    let late = code(&world.get(&client, &path).await);
    world.run("UPDATE app_codes SET expires = 1").await;
    assert_eq!(world.redeem(&client, &late, "wiki").await, None, "too late");
    let parallel = code(&world.get(&client, &path).await);
    let tries = join_all((0..10).map(|_| world.redeem(&client, &parallel, "wiki"))).await;
    assert_eq!(tries.iter().flatten().count(), 1);
    for secret in [&first, &other, &cookie, client.cookie.as_ref().unwrap().split_once('=').unwrap().1] {
        world.assert_not_stored(secret);
    }
    // Whoever is signed out is asked first, and comes back to the same place.
    let stranger = Client::new();
    let page = world.get(&stranger, &path).await;
    assert!(page.body.contains("wiki.vouchsafe.localhost"));
    let answer = world.authenticate(&stranger, &mut passkey, Some(&path)).await;
    assert_eq!(answer.json()["next"], format!("{ORIGIN}{path}"));
    // An ended session carries nobody anywhere.
    let ended = code(&world.get(&client, &path).await);
    world.submit(&client, "/sign-out", format!("csrf={}", world.csrf(&client).await)).await;
    assert_eq!(world.redeem(&client, &ended, "wiki").await, None);
}

/// A gateway that remembers a cookie has to hear that it is gone.
#[tokio::test]
async fn i6_a_cookie_that_makes_room_for_another_is_told_of() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    let told = async || {
        let mut read = world.context.store.read().await.unwrap();
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM feed WHERE kind = 'session'").fetch_one(&mut *read).await.unwrap();
        count
    };
    let begun = told().await;
    for number in 1..=9 {
        let answer = world.get(&client, &format!("/sign-in?app=wiki&state={STATE}")).await;
        assert!(world.redeem(&client, &query(answer.location(), "code"), "wiki").await.is_some());
        assert_eq!(told().await - begun, i64::from(number == 9), "cookie {number}");
    }
}

/// Anybody can ask an app host to redeem a code, and bring the cookie that belongs to it as well.
#[tokio::test]
async fn i11_codes_that_somebody_made_up_neither_fill_the_log_nor_hold_up_the_writer() {
    let world = World::new().await;
    let stranger = Client::new();
    let (asked, by) = (&world, &stranger);
    let guess = |number: u64| async move { asked.redeem(by, &format!("{number:043}"), "wiki").await };
    for number in 0..10 {
        assert_eq!(guess(number).await, None);
    }
    let before = world.records("app-sign-in").await.len();
    assert_eq!(before, 10, "the first few are on record");
    // The others cost nobody anything, not even while somebody else changes something. (One or two may
    // be due for a record by now.)
    let held = world.context.store.write().await.unwrap();
    let others = futures_util::stream::iter(10..200).map(guess).buffer_unordered(190).take(180);
    assert!(others.collect::<Vec<_>>().await.iter().all(Option::is_none));
    drop(held);
    assert_eq!(world.records("app-sign-in").await.len(), before);
    // A good code of the same address is as good as ever.
    let mut client = Client { ip: stranger.ip, ..Client::new() };
    world.person("alice", &mut client).await;
    let answer = world.get(&client, &format!("/sign-in?app=wiki&state={STATE}")).await;
    assert!(world.redeem(&client, &query(answer.location(), "code"), "wiki").await.is_some());
}

#[tokio::test]
async fn sign_in_never_redirects_to_a_place_of_somebody_elses_choice() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    for bad in ["app=evil.example", "app=wiki%2Eevil", "app=auth", "app=gw", "app=", "app=wiki&app=b", "app=xn--a"] {
        let answer = world.get(&client, &format!("/sign-in?{bad}&state={STATE}")).await;
        assert_eq!(answer.location(), "/", "{bad}");
    }
    assert_eq!(world.get(&client, "/sign-in?app=wiki&state=short").await.location(), "/");
    assert_eq!(world.get(&client, "/sign-in?next=https://evil.example").await.location(), "/");
}

#[tokio::test]
async fn i9_a_cookie_is_good_on_its_own_device_only() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    let mut thief = Client::on(DeviceId::from_random([3; 16]));
    thief.cookie.clone_from(&client.cookie);
    assert_eq!(world.get(&thief, "/").await.location(), "/sign-in");
    let page = world.get(&thief, &format!("/sign-in?app=wiki&state={STATE}")).await;
    assert_eq!(page.status, StatusCode::OK, "asked to sign in, no code");
    assert_eq!(world.count("SELECT COUNT(*) FROM app_codes").await, 0);
    let noted =
        world.records("sign-in").await.into_iter().any(|record| record.reason.as_deref() == Some("device_mismatch"));
    assert!(noted);
    // A device that is not enrolled can't open a session at all.
    let mut passkey = world.person("bob", &mut Client::new()).await;
    let answer = world.authenticate(&thief, &mut passkey, None).await;
    assert_eq!(answer.json()["type"], "device_unknown");
}

#[tokio::test]
async fn an_app_cookie_is_no_cookie_of_the_sign_in_host() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    let answer = world.get(&client, &format!("/sign-in?app=wiki&state={STATE}")).await;
    let cookie = world.redeem(&client, &query(answer.location(), "code"), "wiki").await.unwrap();
    let app = Client { cookie: Some(format!("__Host-vouchsafe={cookie}")), ..client.clone() };
    assert_eq!(world.get(&app, "/").await.location(), "/sign-in");
}

#[tokio::test]
async fn disabled_people_are_out_at_once() {
    let world = World::new().await;
    let mut client = Client::new();
    let mut passkey = world.person("alice", &mut client).await;
    world.person("bob", &mut Client::new()).await;
    world.run("UPDATE users SET disabled = 1 WHERE name = 'alice'").await;
    assert_eq!(world.get(&client, "/").await.location(), "/sign-in");
    assert_eq!(world.authenticate(&client, &mut passkey, None).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn forged_posts_do_nothing() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    let csrf = world.csrf(&client).await;
    let form = "application/x-www-form-urlencoded";
    let post = |headers: &[(&str, &str)]| {
        let mut request = Request::post("/sign-out").header(header::CONTENT_TYPE, form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    };
    let body = || format!("csrf={csrf}&everywhere=1");
    for headers in [
        vec![],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("sec-fetch-site", "none")],
        vec![("origin", "https://wiki.vouchsafe.localhost:8443")],
        vec![("origin", "null")],
        vec![("sec-fetch-site", "same-site"), ("origin", ORIGIN)],
    ] {
        let answer = world.send(&client, OwnHost::Auth, post(&headers), body()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let wrong = world.submit(&client, "/sign-out", format!("csrf={}", "a".repeat(43))).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions").await, 1);
    // Sign-in itself can't be started from another site, nor by a form.
    let start = |kind: &'static str, site: &'static str| {
        Request::post("/webauthn/authenticate/start").header(header::CONTENT_TYPE, kind).header("sec-fetch-site", site)
    };
    let answer = world.send(&client, OwnHost::Auth, start("application/json", "cross-site"), "{}".into()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = world.send(&client, OwnHost::Auth, start("text/plain", "same-origin"), "{}".into()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let answer = world.send(&client, OwnHost::Auth, post(&[("origin", ORIGIN)]), body()).await;
    assert_eq!(answer.location(), "/signed-out");
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions").await, 0);
}

#[tokio::test]
async fn every_answer_carries_the_policies() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    for path in ["/", "/sign-in", "/invite", "/device", "/signed-out", "/nothing", "/.well-known/jwks.json"] {
        let answer = world.get(&client, path).await;
        let text = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let policy = text("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(text("cache-control"), "no-store", "{path}");
        assert_eq!(text("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(text("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(text("x-frame-options"), "DENY", "{path}");
        assert!(!text("strict-transport-security").is_empty(), "{path}");
        assert!(!answer.body.contains("onclick") && !answer.body.contains("style="), "{path}");
    }
    assert_eq!(world.get(&client, "/nothing").await.status, StatusCode::NOT_FOUND);
    let page = world.get(&client, "/sign-in?fresh=1").await.body;
    let (_, rest) = page.split_once("src=\"/assets/").unwrap();
    let script = format!("/assets/{}", rest.split('"').next().unwrap());
    let asset = world.get(&client, &script).await;
    assert_eq!(asset.status, StatusCode::OK);
    assert!(asset.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
}

#[tokio::test]
async fn i11_a_source_that_hurries_is_slowed_down() {
    let world = World::new().await;
    let client = Client::new();
    let mut refused = 0;
    for _ in 0..200 {
        let answer = world.post(&client, "/webauthn/register/start", &json!({ "invite": "x" })).await;
        refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 20, "{refused}");
    let large = json!({ "invite": "x".repeat(70 * 1024) });
    let answer = world.post(&Client::new(), "/webauthn/register/start", &large).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// A store that can't write must never let anybody believe that a session has ended.
#[tokio::test]
async fn a129_a_revocation_that_can_not_be_written_is_an_error_and_nothing_else() {
    let world = World::new().await;
    let mut client = Client::new();
    world.person("alice", &mut client).await;
    let csrf = world.csrf(&client).await;
    let mut read = world.context.store.read().await.unwrap();
    let session = sessions::of_user(&mut read, &user("alice")).await.unwrap().remove(0).id.to_string();
    drop(read);
    world.run("CREATE TRIGGER broken BEFORE DELETE ON sessions BEGIN SELECT RAISE(ABORT, 'no room'); END").await;
    for (path, body) in [
        ("/sign-out", format!("csrf={csrf}")),
        ("/sign-out", format!("csrf={csrf}&everywhere=1")),
        ("/sessions/end", format!("csrf={csrf}&session={session}")),
    ] {
        let answer = world.submit(&client, path, body).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {}", answer.body);
        assert!(answer.headers.get(header::SET_COOKIE).is_none(), "{path}: the browser keeps what is still good");
        assert!(!answer.body.contains("no room"), "{path}: {}", answer.body);
    }
    let by = Actor::Controller;
    assert!(directory::sessions::end(&world.context, &session, &by).await.is_err());
    assert!(directory::users::sign_out(&world.context, "alice", &by).await.is_err());
    assert!(directory::users::delete(&world.context, "alice", &Precondition::Nothing, &by).await.is_err());
    // Nothing of it is half done, and nothing is on record as done.
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions").await, 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM ended_sessions").await, 0);
    assert_eq!(world.count("SELECT COUNT(*) FROM users WHERE deleted = 1").await, 0);
    let ended = |record: &Record| record.kind == Kind::SessionEnd;
    assert!(!testing::records(&world.context.store).iter().any(ended));
    world.run("DROP TRIGGER broken").await;
    let answer = world.submit(&client, "/sign-out", format!("csrf={csrf}")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert_eq!(world.count("SELECT COUNT(*) FROM sessions").await, 0);
}
