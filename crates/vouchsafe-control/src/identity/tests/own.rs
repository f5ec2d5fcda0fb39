//! A person's own page: hers alone, with what she can do about it.

use vouchsafe_wire::api::{AuditQuery, PolicyFileDoc, PolicyVersion, ResourceDoc};
use vouchsafe_wire::audit::Kind;

use super::*;
use crate::store::{policy, requests, resources, sessions};

const MAY_ASK: &str = r#"
@id("may-ask") @device("none")
permit (principal == User::"alice", action == Action::"console:write", resource == Console::"console")
  when { context.request.operation like "POST /v1/resources/*/requests"
      || context.request.operation like "POST /v1/resources/*/requests/*/withdraw" };
@id("wiki") @device("none")
permit (principal == User::"alice", action == Action::"http:read", resource == Http::"wiki");
@id("payroll")
permit (principal == User::"alice", action, resource == Http::"payroll");
@id("vault")
permit (principal == User::"bob", action, resource == Http::"vault");
"#;

impl World {
    async fn publish(&self, text: &str) {
        let mut write = self.context.store.write().await.unwrap();
        let highest = policy::highest(write.connection()).await.unwrap();
        for (name, description) in [("wiki", "<b>Notes</b>"), ("payroll", "Salaries"), ("vault", "Secrets of Bob")] {
            let doc =
                json!({"name": name, "kind": "http", "upstream": "http://127.0.0.1:9", "description": description});
            let doc: ResourceDoc = serde_json::from_value(doc).unwrap();
            resources::put(write.connection(), &doc).await.unwrap();
        }
        let version = PolicyVersion {
            version: highest + 1,
            created: 1,
            by: "root".to_owned(),
            approved_by: None,
            note: String::new(),
            current: true,
            confirm_by: None,
            policies: 4,
            files: vec![PolicyFileDoc { name: "a.cedar".to_owned(), text: text.to_owned() }],
            tests: Vec::new(),
            invariants: Vec::new(),
            proofs: Vec::new(),
        };
        policy::insert(write.connection(), &version).await.unwrap();
        write.snapshot_changed();
        write.commit().await.unwrap();
    }

    async fn session_of(&self, name: &str) -> String {
        let mut read = self.context.store.read().await.unwrap();
        sessions::of_user(&mut read, &user(name)).await.unwrap().remove(0).id.to_string()
    }

    /// A decision on somebody's request.
    async fn decided(&self, name: &str, outcome: &str, advice: &[&str]) {
        let mut record = Record::new(Kind::Decision, clock::unix_micros(clock::now()));
        record.user = Some(name.to_owned());
        record.resource = Some("vault".to_owned());
        record.outcome = Some(outcome.to_owned());
        record.path = Some(format!("/of-{name}"));
        record.words = Some(format!("words for {name}"));
        record.advice = advice.iter().map(ToString::to_string).collect();
        let mut write = self.context.store.write().await.unwrap();
        write.audit(record);
        write.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_page_tells_its_person_what_is_hers_and_nothing_of_others() {
    let world = World::new().await;
    let mut alice = Client::new();
    let mut bob = Client::new();
    world.person("alice", &mut alice).await;
    world.person("bob", &mut bob).await;
    world.publish("@id(\"none\") permit (principal == User::\"carol\", action, resource);").await;
    let page = world.get(&alice, "/").await.body;
    for words in [
        "Nothing is open to you yet",
        "Nothing was denied",
        "You asked for nothing",
        "Nobody asked for you",
        "None is enrolled",
    ] {
        assert!(page.contains(words), "an empty page says what comes next: {words}");
    }
    world.publish(MAY_ASK).await;
    world.decided("alice", "deny", &["request-access"]).await;
    world.decided("bob", "deny", &["enrol-device"]).await;
    world.decided("bob", "allow", &[]).await;
    let page = world.get(&alice, "/").await.body;
    assert!(
        page.contains("href=\"https://wiki.vouchsafe.localhost:8443\"") && page.contains("&lt;b&gt;Notes"),
        "{page}"
    );
    assert!(
        page.contains("payroll") && page.contains("on an enrolled device") && page.contains("not on this device"),
        "{page}"
    );
    assert!(!page.contains("Secrets of Bob"), "what others reach");
    assert!(page.contains("words for alice") && page.contains("/ask?resource=vault"), "{page}");
    for path in ["/", "/activity", "/activity?show=denied", "/activity?show=sign-ins", "/activity?show=readers"] {
        let page = world.get(&alice, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(!page.body.contains("bob"), "{path}: {}", page.body);
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-store", "{path}");
    }
    let denied = world.get(&bob, "/activity?show=denied").await.body;
    assert!(
        denied.contains("words for bob") && denied.contains("vouchsafe enroll") && !denied.contains("words for alice")
    );
    for path in ["/activity?show=everything", "/activity?after=x"] {
        assert_eq!(world.get(&alice, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/activity", "/ask"] {
        assert_eq!(world.get(&Client::new(), path).await.location(), "/sign-in", "{path}");
    }
}

#[tokio::test]
async fn activity_has_pages_and_each_look_is_one_record() {
    let world = World::new().await;
    let mut alice = Client::new();
    world.person("alice", &mut alice).await;
    for _ in 0..30 {
        world.decided("alice", "allow", &[]).await;
    }
    let first = world.get(&alice, "/activity").await.body;
    assert_eq!(first.matches("/of-alice").count(), 25);
    let (_, rest) = first.split_once("after=").expect("another page");
    let after = rest.split('"').next().unwrap();
    let second =
        world.get(&alice, &format!("/activity?show=accesses&amp;after={after}").replace("&amp;", "&")).await.body;
    assert_eq!(second.matches("/of-alice").count(), 5);
    assert!(second.contains("Newest") && !second.contains("Older"));
    world.get(&alice, "/").await;
    let looks = world.records("audit.own").await;
    assert_eq!(looks.len(), 3);
    assert!(looks.iter().all(|look| look.kind == Kind::AuditRead && look.user.as_deref() == Some("alice")));
}

#[tokio::test]
async fn who_asked_the_log_for_somebody_is_told_to_her() {
    let world = World::new().await;
    let mut alice = Client::new();
    let mut root = Client::new();
    world.person("alice", &mut alice).await;
    world.person("root", &mut root).await;
    let by = |name: &str| Actor::User {
        name: user(name),
        session: None,
        device: None,
        ip: [192, 0, 2, 77].into(),
        post_quantum: true,
        decision: None,
    };
    let about = |name: &str| AuditQuery { user: Some(name.to_owned()), ..AuditQuery::default() };
    for (who, whom) in [("alice", "alice"), ("root", "alice2"), ("mallory", "bob")] {
        crate::audit::query(&world.context, &about(whom), &by(who)).await.unwrap();
    }
    let page = world.get(&alice, "/").await.body;
    assert!(page.contains("Nobody asked for you"), "neither her own looks nor looks at others: {page}");
    crate::audit::query(&world.context, &about("alice"), &by("root")).await.unwrap();
    for path in ["/", "/activity?show=readers"] {
        let page = world.get(&alice, path).await.body;
        assert!(
            page.contains("<bdi>root</bdi>") && page.contains("192.0.2.77") && !page.contains("mallory"),
            "{path}: {page}"
        );
    }
}

/// Ids of others' things, from a page of one's own and with all that makes a form ours (A-IDOR, A149).
#[tokio::test]
async fn nobody_ends_removes_or_withdraws_what_is_anothers() {
    let world = World::new().await;
    let mut alice = Client::new();
    let mut bob = Client::new();
    world.person("alice", &mut alice).await;
    world.person("bob", &mut bob).await;
    world.publish(&MAY_ASK.replace("principal == User::\"alice\", action == ", "principal, action == ")).await;
    let laptop = world.enrolled(Some("bob")).await;
    let nobodys = world.enrolled_as("kiosk", None).await;
    let csrf = world.csrf(&bob).await;
    let asked = world.submit(&bob, "/ask", format!("csrf={csrf}&resource=vault&hours=2&reason=a+look")).await;
    assert_eq!(asked.location(), "/#requests", "{}", asked.body);
    let mut read = world.context.store.read().await.unwrap();
    let request = requests::newest_of(&mut read, &user("bob"), 5).await.unwrap().remove(0);
    drop(read);
    let (session, device) = (world.session_of("bob").await, laptop.device.as_ref().unwrap().id);
    let kiosk = nobodys.device.as_ref().unwrap().id;
    let before = testing::records(&world.context.store).iter().filter(|record| record.kind != Kind::AuditRead).count();
    let csrf = world.csrf(&alice).await;
    for (path, fields) in [
        ("/sessions/end", format!("session={session}")),
        ("/devices/remove", format!("device={device}")),
        ("/devices/remove", format!("device={kiosk}")),
        ("/devices/remove", "device=laptop".to_owned()),
        ("/devices/remove", String::new()),
        ("/ask/withdraw", format!("request={}", request.id)),
        ("/ask/withdraw", "request=x".to_owned()),
    ] {
        let answer = world.submit(&alice, path, format!("csrf={csrf}&{fields}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path} {fields}: {}", answer.body);
        // Hers, but sent by another page, or without what only our page knows.
        let own = world.submit(&bob, path, format!("csrf={csrf}&{fields}")).await;
        assert_eq!(own.status, StatusCode::FORBIDDEN, "{path} {fields}: {}", own.body);
        let request = Request::post(path).header("sec-fetch-site", "same-site");
        let body = format!("csrf={}&{fields}", world.csrf(&bob).await);
        let own = world.send(&bob, OwnHost::Auth, request, body).await;
        assert_eq!(own.status, StatusCode::FORBIDDEN, "{path} {fields}: {}", own.body);
    }
    assert_eq!(world.session_of("bob").await, session);
    assert_eq!(world.count("SELECT COUNT(*) FROM devices").await, 2);
    assert_eq!(world.count("SELECT COUNT(*) FROM requests WHERE state = 'open'").await, 1);
    let after = testing::records(&world.context.store).iter().filter(|record| record.kind != Kind::AuditRead).count();
    assert_eq!(before, after, "nothing happened");
    // Her own go.
    let csrf = world.csrf(&bob).await;
    let answer = world.submit(&bob, "/ask/withdraw", format!("csrf={csrf}&request={}", request.id)).await;
    assert_eq!(answer.location(), "/#requests", "{}", answer.body);
    let answer = world.submit(&bob, "/devices/remove", format!("csrf={csrf}&device={device}")).await;
    assert_eq!(answer.location(), "/#devices", "{}", answer.body);
    let answer = world.submit(&bob, "/sessions/end", format!("csrf={csrf}&session={session}")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert_eq!(world.count("SELECT COUNT(*) FROM devices").await, 1);
    let removed = world.records("device.remove").await;
    assert_eq!((removed.len(), removed[0].user.as_deref()), (1, Some("bob")));
    let withdrawn = world.records("request.withdraw").await;
    assert_eq!((withdrawn.len(), withdrawn[0].outcome.as_deref()), (1, Some("ok")));
}

#[tokio::test]
async fn i13_whom_no_policy_lets_ask_is_told_so_and_it_is_recorded() {
    let world = World::new().await;
    let mut alice = Client::new();
    let mut bob = Client::new();
    world.person("alice", &mut alice).await;
    world.person("bob", &mut bob).await;
    world.publish(MAY_ASK).await;
    let form = "resource=vault&hours=2&reason=%3Cb%3Efigures";
    let csrf = world.csrf(&bob).await;
    let answer = world.submit(&bob, "/ask", format!("csrf={csrf}&{form}")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("No policy lets you ask for this from here"), "{}", answer.body);
    assert_eq!(world.count("SELECT COUNT(*) FROM requests").await, 0);
    let refused = world.records("request.add").await;
    assert_eq!(
        (refused.len(), refused[0].outcome.as_deref(), refused[0].user.as_deref()),
        (1, Some("failed"), Some("bob"))
    );

    let csrf = world.csrf(&alice).await;
    for bad in [
        "resource=vault&hours=2",
        "resource=vault&hours=3&reason=x",
        "resource=a.b&hours=2&reason=x",
        "hours=2&reason=x",
        "resource=vault&hours=2&reason=a%0Ab",
    ] {
        let answer = world.submit(&alice, "/ask", format!("csrf={csrf}&{bad}")).await;
        assert!(answer.status.is_client_error(), "{bad}: {}", answer.body);
    }
    assert_eq!(world.count("SELECT COUNT(*) FROM requests").await, 0);
    let answer = world.submit(&alice, "/ask", format!("csrf={csrf}&{form}")).await;
    assert_eq!(answer.location(), "/#requests", "{}", answer.body);
    // Sent twice, it is there once.
    let answer = world.submit(&alice, "/ask", format!("csrf={csrf}&{form}")).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    assert_eq!(world.count("SELECT COUNT(*) FROM requests").await, 1);
    let page = world.get(&alice, "/").await.body;
    assert!(page.contains("&lt;b&gt;figures") && page.contains(">waits<") && page.contains("Withdraw"), "{page}");
    world.run("UPDATE requests SET state = 'denied', decided = 5, decided_by = 'bob'").await;
    let page = world.get(&alice, "/").await.body;
    assert!(page.contains("/ask?resource=vault&amp;hours=2&amp;reason=%3Cb%3Efigures"), "{page}");
    let filled = world.get(&alice, "/ask?resource=vault&hours=2&reason=%3Cb%3Efigures").await.body;
    assert!(filled.contains("value=\"vault\"") && filled.contains("value=\"&lt;b&gt;figures\""), "{filled}");
}

/// A log that takes no record shows nothing of itself, and keeps nobody from ending a session.
#[tokio::test]
async fn a_page_is_there_also_when_the_policy_can_not_be_asked() {
    let world = World::new().await;
    let mut alice = Client::new();
    world.person("alice", &mut alice).await;
    world.publish("this is no policy").await;
    let page = world.get(&alice, "/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.body.contains("They can’t be shown now") && page.body.contains("Sign out everywhere"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn the_console_is_offered_to_those_whom_it_can_open_to() {
    let world = World::new().await;
    let mut alice = Client::new();
    world.person("alice", &mut alice).await;
    let see =
        r#"permit (principal == User::"alice", action == Action::"console:read", resource == Console::"console");"#;
    let elsewhere = format!(r#"{MAY_ASK} @id("see") {see}"#);
    let here = format!(r#"{MAY_ASK} @id("see") @device("none") {see}"#);
    for (policy, offered) in [(MAY_ASK, false), (&elsewhere, true), (&here, true)] {
        world.publish(policy).await;
        for path in ["/", "/activity", "/ask"] {
            let page = world.get(&alice, path).await;
            assert_eq!(page.status, StatusCode::OK);
            assert_eq!(page.body.contains(">Console</a>"), offered, "{path} {policy}");
        }
    }
}

#[tokio::test]
async fn a_page_waits_for_no_second_reader_while_it_holds_one() {
    let world = World::new().await;
    let mut alice = Client::new();
    world.person("alice", &mut alice).await;
    world.publish(MAY_ASK).await;
    // All readers of the store but one are somebody else's.
    let mut held = Vec::new();
    for _ in 1..crate::store::READERS {
        held.push(world.context.store.read().await.unwrap());
    }
    // Less than what the store waits for a reader.
    let limit = std::time::Duration::from_secs(20);
    for path in ["/", "/activity", "/ask"] {
        let page = tokio::time::timeout(limit, world.get(&alice, path)).await.expect("in time");
        assert_eq!(page.status, StatusCode::OK, "{path}");
    }
}
