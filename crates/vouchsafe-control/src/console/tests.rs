use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use http::{Request, header};
use tower::ServiceExt as _;
use vouchsafe_model::id::{ConnectorId, DecisionId, GatewayId, RequestId, SessionId, UserId};
use vouchsafe_model::name::{SiteName, UserName};
use vouchsafe_model::subject::{AuthFacts, Epoch, SubjectFacts, UserFacts};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_runtime::link::{AttachedConnector, Attendance};
use vouchsafe_wire::api::{
    NewUser, PolicyFileDoc, PolicyVersion, ProposalDoc, ProposalState, RequestDoc, RequestState, ResourceDoc,
};
use vouchsafe_wire::audit::{Kind, Record};

use super::*;
use crate::directory;
use crate::store::{connectors as store, proposals, requests};

fn caller(subject: Option<SubjectFacts>) -> Caller {
    Caller {
        host: OwnHost::Console,
        ip: IpAddr::from([192, 0, 2, 1]),
        post_quantum: true,
        device: None,
        decision: subject.as_ref().map(|_| DecisionId::from_random([1; 16])),
        subject: subject.map(Arc::new),
    }
}

fn admin() -> SubjectFacts {
    SubjectFacts {
        session: SessionId::from_random([2; 16]),
        user: UserFacts {
            id: UserId::from_random([3; 16]),
            name: UserName::parse("root").unwrap(),
            groups: BTreeSet::new(),
        },
        device: None,
        auth: AuthFacts { methods: BTreeSet::new(), at: clock::now() },
        expires: clock::now(),
        epoch: Epoch(1),
    }
}

async fn get(router: &Router, path: &str, caller: Option<Caller>) -> (StatusCode, String, String) {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = router.clone().oneshot(request).await.unwrap();
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap(), policy)
}

const PATHS: [&str; 27] = [
    "/",
    "/start",
    "/start/app?upstream=http://10.0.0.7:3000",
    "/start/protected?name=wiki",
    "/assessment",
    "/?window=7d",
    "/map",
    "/map?user=alice",
    "/users",
    "/users/alice",
    "/devices",
    "/sessions",
    "/resources",
    "/resources/wiki",
    "/connectors",
    "/requests",
    "/policy",
    "/policy/diff",
    "/policy/diff?recorded=1",
    "/policy/edit",
    "/policy/edit?file=a.cedar",
    "/proposals",
    "/proposals/prp_00000000000000000000000001",
    "/webhooks",
    "/audit",
    "/streams",
    "/decisions/dec_a",
];

#[tokio::test]
async fn i13_nothing_is_shown_without_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let router = routes(Context::for_test(dir.path()).await);
    for path in PATHS {
        for caller in [None, Some(caller(None))] {
            let (status, body, policy) = get(&router, path, caller).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
            assert!(!body.contains("<table"), "{path}");
            assert!(policy.contains("default-src 'none'"));
        }
    }
    for nobody in [None, Some(caller(None))] {
        assert_eq!(get(&router, "/you", nobody).await.0, StatusCode::FORBIDDEN);
    }
    assert_eq!(get(&router, "/you", Some(caller(Some(admin())))).await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn pages_show_what_there_is_and_escape_it() {
    const HOSTILE: &str = "<script>alert(1)</script>";
    let dir = tempfile::tempdir().unwrap();
    let context = Context::for_test(dir.path()).await;
    let new = NewUser { name: "alice".to_owned(), groups: vec![] };
    directory::users::add(&context, &new, &Actor::Controller).await.unwrap();
    let mut write = context.store.write().await.unwrap();
    let resource: ResourceDoc = serde_json::from_value(serde_json::json!({
        "name": "wiki", "kind": "http", "upstream": "http://127.0.0.1:8080", "description": HOSTILE,
        "mode": "observe",
        "observe": {"from": ["10.0.0.0/8"], "owner": "alice", "reason": HOSTILE, "until": "2999-12-31T18:00:00Z"},
    }))
    .unwrap();
    crate::store::resources::put(write.connection(), &resource).await.unwrap();
    let text = format!("// {HOSTILE}\n@id(\"a\") permit (principal, action, resource);\n");
    let version = PolicyVersion {
        version: 1,
        created: 1,
        by: "root".to_owned(),
        approved_by: None,
        note: HOSTILE.to_owned(),
        current: true,
        confirm_by: None,
        policies: 1,
        files: vec![PolicyFileDoc { name: "a.cedar".to_owned(), text }],
        tests: Vec::new(),
        invariants: Vec::new(),
        proofs: Vec::new(),
    };
    policy::insert(write.connection(), &version).await.unwrap();
    requests::insert(write.connection(), &request(HOSTILE, RequestState::Open)).await.unwrap();
    requests::insert(write.connection(), &request(HOSTILE, RequestState::Denied)).await.unwrap();
    proposals::insert(write.connection(), &proposal(HOSTILE)).await.unwrap();
    let mut record = Record::new(Kind::Decision, clock::unix_micros(clock::now()));
    record.user = Some("alice".to_owned());
    record.resource = Some("wiki".to_owned());
    record.outcome = Some("deny".to_owned());
    record.passed = Some("observe".to_owned());
    record.reason = Some("no_permit".to_owned());
    record.id = Some("dec_a".to_owned());
    record.path = Some(HOSTILE.to_owned());
    record.tls = Some("1.3 X25519MLKEM768".to_owned());
    write.audit(record);
    write.commit().await.unwrap();
    let router = routes(context.clone());
    // All readers of the store but one are somebody else's: no page waits for a second while it holds one.
    let mut held = Vec::new();
    for _ in 1..crate::store::READERS {
        held.push(context.store.read().await.unwrap());
    }
    let limit = std::time::Duration::from_secs(20);
    for path in PATHS {
        let page = tokio::time::timeout(limit, get(&router, path, Some(caller(Some(admin()))))).await;
        let (status, body, _) = page.unwrap_or_else(|_| panic!("{path} waits for a second reader"));
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!body.contains(HOSTILE), "{path}");
        assert!(body.contains("aria-current=\"page\""), "{path}");
    }
    drop(held);
    let (_, body, _) = get(&router, "/", Some(caller(Some(admin())))).await;
    assert!(body.contains("no_permit") && body.contains("chip weak"));
    assert!(body.contains("passed: mode observe"), "it isn't taken for a denial that stood");
    let (_, body, _) = get(&router, "/decisions/dec_a", Some(caller(Some(admin())))).await;
    assert!(body.contains("1.3 X25519MLKEM768") && body.contains("big pass") && body.contains("The same request now"));
    let (_, body, _) = get(&router, "/resources", Some(caller(Some(admin())))).await;
    assert!(body.contains("<bdi>observe") && body.contains("10.0.0.0/8; alice answers"), "{body}");
    let (_, body, _) = get(&router, "/requests", Some(caller(Some(admin())))).await;
    assert!(body.contains("alice asks for wiki, for 2 h") && body.contains(">denied<"), "{body}");
    let mut alice = admin();
    alice.user.name = UserName::parse("alice").unwrap();
    let (_, body, _) = get(&router, "/requests", Some(caller(Some(alice)))).await;
    assert!(body.contains("somebody else has to decide") && !body.contains("<form"), "{body}");
    let one = format!("/proposals/{}", proposal("").doc.proposal);
    let (_, body, _) = get(&router, &one, Some(caller(Some(admin())))).await;
    assert!(body.contains("Approve: put it into force") && body.contains("value=\"d1\""), "{body}");
    let mut author = admin();
    author.user.name = UserName::parse("alice").unwrap();
    let (_, body, _) = get(&router, &one, Some(caller(Some(author)))).await;
    assert!(body.contains("It is your own") && !body.contains("formaction"), "{body}");
    let (_, body, _) = get(&router, "/policy/diff", Some(caller(Some(admin())))).await;
    assert!(body.contains("recorded=1"), "{body}");
    let (_, body, _) = get(&router, "/policy/diff?recorded=1", Some(caller(Some(admin())))).await;
    assert!(body.contains("request") && body.contains("role=\"status\""), "{body}");
    let (_, body, _) = get(&router, "/audit?user=alice&outcome=deny", Some(caller(Some(admin())))).await;
    assert!(body.contains("no_permit"));
    let (_, body, _) = get(&router, "/audit?user=bob", Some(caller(Some(admin())))).await;
    assert!(!body.contains("no_permit") && body.contains("Nothing yet."));
    let records = crate::store::testing::records(&context.store);
    let reads = records.iter().filter(|record| record.kind == Kind::AuditRead).count();
    assert!(reads >= 4, "every reading is recorded");
}

fn request(reason: &str, state: RequestState) -> RequestDoc {
    RequestDoc {
        id: RequestId::from_random(clock::random()).to_string(),
        user: "alice".to_owned(),
        resource: "wiki".to_owned(),
        seconds: 7_200,
        template: None,
        reason: reason.to_owned(),
        state,
        created: 1_790_000_000,
        open_until: 1_790_600_000,
        decided_by: None,
        decided: None,
        note: reason.to_owned(),
        grant: None,
    }
}

/// One by alice, on top of version 1.
fn proposal(note: &str) -> proposals::Kept {
    let text = format!("// {note}\n@id(\"b\") forbid (principal, action, resource);\n");
    let doc = ProposalDoc {
        proposal: "prp_00000000000000000000000001".to_owned(),
        digest: "d1".to_owned(),
        base: 1,
        stale: false,
        kind: "publish".to_owned(),
        protected: vec!["b".to_owned()],
        by: "alice".to_owned(),
        created: 1_790_000_000,
        note: note.to_owned(),
        open_until: 1_790_600_000,
        confirm_within: None,
        state: ProposalState::Open,
        decided_by: None,
        decided: None,
        decision: String::new(),
        became: None,
        files: vec![PolicyFileDoc { name: "b.cedar".to_owned(), text }],
        tests: Vec::new(),
        invariants: Vec::new(),
    };
    proposals::Kept { doc, from: String::new() }
}

async fn with_default_policy(context: &Context) {
    let text = vouchsafe_policy::default_policy().text;
    let version = PolicyVersion {
        version: 1,
        created: 1,
        by: "root".to_owned(),
        approved_by: None,
        note: String::new(),
        current: true,
        confirm_by: None,
        policies: 2,
        files: vec![PolicyFileDoc { name: "default.cedar".to_owned(), text }],
        tests: Vec::new(),
        invariants: Vec::new(),
        proofs: Vec::new(),
    };
    let mut write = context.store.write().await.unwrap();
    policy::insert(write.connection(), &version).await.unwrap();
    write.commit().await.unwrap();
}

/// Knows of one connector that is attached to the gateway of this process.
struct Here(ConnectorId);

impl Attendance for Here {
    fn connectors(&self) -> Vec<AttachedConnector> {
        let since = clock::from_unix_seconds(1_790_000_000);
        vec![AttachedConnector { id: self.0, since, connections: 1, streams: 2 }]
    }
}

#[tokio::test]
async fn a_form_is_taken_from_the_consoles_own_page_and_with_a_decision_alone() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::for_test(dir.path()).await;
    let origin = context.settings.origin("console");
    with_default_policy(&context).await;
    let router = routes(context);
    let id = RequestId::from_random([7; 16]);
    let session = SessionId::from_random([7; 16]);
    let decide = format!("/v1/resources/wiki/requests/{id}/approve");
    let end = format!("/v1/sessions/{session}/end");
    let send_to = async |path: &str,
                         form: &'static str,
                         site: Option<&'static str>,
                         from: Option<&str>,
                         caller: Option<Caller>| {
        let mut request = Request::post(path);
        for (name, value) in [("sec-fetch-site", site), ("origin", from)] {
            request = value.into_iter().fold(request, |request, value| request.header(name, value));
        }
        let mut request = request.body(Body::from(form)).unwrap();
        caller.into_iter().for_each(|caller| drop(request.extensions_mut().insert(caller)));
        router.clone().oneshot(request).await.unwrap().status()
    };
    let send = async |site: Option<&'static str>, from: Option<&str>, caller: Option<Caller>| {
        send_to(&decide, "note=x", site, from, caller).await
    };
    let allowed = || Some(caller(Some(admin())));
    // Neither from another page, nor without a decision, does any form do anything.
    let forms = [
        (decide.as_str(), "note=x"),
        (end.as_str(), "back=/sessions"),
        ("/v1/locks", "kind=user&name=alice&back=/users/alice"),
        ("/v1/locks/user/alice/remove", "back=/sessions"),
        ("/v1/users/alice/sign-out", "back=/sessions"),
        ("/v1/policy/check", "file=&text=permit"),
        ("/v1/policy/diff", "file=&text=permit"),
        ("/v1/policy/simulate", "file=&text=permit"),
        ("/v1/policy/publish", "file=&text=permit"),
        ("/v1/policy/pending/prp_00000000000000000000000001/approve", "digest=d1&note=x"),
        ("/v1/policy/pending/prp_00000000000000000000000001/reject", "digest=d1&note=x"),
        ("/v1/webhooks/chat/test", ""),
        ("/v1/audit/streams/siem/test", ""),
    ];
    for (path, form) in forms {
        for nobody in [None, Some(caller(None))] {
            assert_eq!(send_to(path, form, Some("same-origin"), None, nobody).await, StatusCode::FORBIDDEN, "{path}");
        }
        for site in ["same-site", "cross-site", "none"] {
            assert_eq!(send_to(path, form, Some(site), None, allowed()).await, StatusCode::FORBIDDEN, "{path}");
        }
        let odd = send_to(path, "unknown=1", Some("same-origin"), None, allowed()).await;
        assert_eq!(odd, StatusCode::BAD_REQUEST, "{path}");
    }
    // What the API calls otherwise is asked of the policy as well: here nobody is signed in by that session.
    for path in [end.as_str(), "/v1/locks/user/alice/remove"] {
        assert_eq!(send_to(path, "", Some("same-origin"), None, allowed()).await, StatusCode::FORBIDDEN, "{path}");
    }
    // There is no such user; and nobody is led elsewhere.
    let lock = "kind=user&name=nobody&back=/sessions";
    assert_eq!(send_to("/v1/locks", lock, Some("same-origin"), None, allowed()).await, StatusCode::NOT_FOUND);
    for back in ["back=//evil.example", "back=https://evil.example", "back=/%5Cevil.example", "back=/%0d%0aa"] {
        let led = send_to("/v1/users/root/sign-out", back, Some("same-origin"), None, allowed()).await;
        assert_eq!(led, StatusCode::BAD_REQUEST, "{back}");
    }
    // Whoever approves says what she looked at.
    let approve = "/v1/policy/pending/prp_00000000000000000000000001/approve";
    assert_eq!(send_to(approve, "note=x", Some("same-origin"), None, allowed()).await, StatusCode::BAD_REQUEST);
    assert_eq!(send_to(approve, "digest=d1", Some("same-origin"), None, allowed()).await, StatusCode::NOT_FOUND);
    for nowhere in ["/v1/webhooks/chat/test", "/v1/audit/streams/siem/test"] {
        assert_eq!(send_to(nowhere, "", Some("same-origin"), None, allowed()).await, StatusCode::NOT_FOUND);
    }
    // There is no such request.
    assert_eq!(send(Some("same-origin"), None, allowed()).await, StatusCode::NOT_FOUND);
    assert_eq!(send(None, Some(&origin), allowed()).await, StatusCode::NOT_FOUND);
    for (site, from) in [(None, None), (Some("same-site"), Some(origin.as_str())), (None, Some("null"))] {
        assert_eq!(send(site, from, allowed()).await, StatusCode::FORBIDDEN, "{site:?} {from:?}");
    }
    for nobody in [None, Some(caller(None))] {
        assert_eq!(send(Some("same-origin"), None, nobody).await, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn connectors_are_shown_with_where_they_are_attached() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::for_test(dir.path()).await;
    let router = routes(context.clone());
    let page = async || get(&router, "/connectors", Some(caller(Some(admin())))).await.1;
    assert!(page().await.contains("No connector has joined."));
    let (here, away) = (ConnectorId::from_random([4; 16]), ConnectorId::from_random([5; 16]));
    let mut write = context.store.write().await.unwrap();
    for (id, name) in [(here, "here"), (away, "away")] {
        let site = SiteName::parse("frankfurt").unwrap();
        let kept = store::Kept { id, name: name.to_owned(), site, key_sha256: name.to_owned() };
        store::insert(write.connection(), &kept, 1_790_000_000, 1).await.unwrap();
    }
    write.commit().await.unwrap();
    let gateway = GatewayId::from_random([6; 16]);
    assert!(context.own_gateway.set((gateway, Arc::new(Here(here)))).is_ok());
    let body = page().await;
    let rows: Vec<&str> = body.split("<tr ").collect();
    let row = |name: &str| *rows.iter().find(|row| row.contains(&format!("<bdi>{name}</bdi>"))).unwrap();
    assert!(row("here").contains(&gateway.to_string()) && row("here").contains("1 connection since"), "{body}");
    assert!(row("here").contains("2 streams") && row("here").contains("frankfurt"), "{body}");
    assert!(row("away").contains("<bdi>nowhere"), "{body}");
}

#[tokio::test]
async fn the_editor_says_what_is_wrong_and_publishes_through_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::for_test(dir.path()).await;
    with_default_policy(&context).await;
    let router = routes(context.clone());
    let send = async |path: &str, fields: &[(&str, &str)]| {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request = Request::post(path).header("sec-fetch-site", "same-origin").body(Body::from(form)).unwrap();
        request.extensions_mut().insert(caller(Some(admin())));
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let wrong =
        [("name", "wiki.cedar"), ("text", "@id(\"wiki\")\npermit (principal, action, resource) when { oops };")];
    let (status, body) = send("/v1/policy/check", &wrong).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("<code>wiki.cedar:2:") && body.contains("when { oops };"), "what was typed stays: {body}");
    let fine = "@id(\"wiki\")\r\n@reason(\"All.\")\r\npermit (principal, action == Action::\"http:read\", resource);";
    let (_, body) = send("/v1/policy/check", &[("name", "wiki.cedar"), ("text", fine)]).await;
    assert!(body.contains("3 policies"), "{body}");
    let (_, body) = send("/v1/policy/diff", &[("name", "wiki.cedar"), ("text", fine)]).await;
    assert!(body.contains("gain access"), "{body}");
    let (_, body) = send("/v1/policy/simulate", &[("name", "wiki.cedar"), ("text", fine)]).await;
    assert!(body.contains("On the past"), "{body}");
    // Who has no session any more publishes nothing, whatever the gateway said before.
    let (status, body) = send("/v1/policy/publish", &[("name", "wiki.cedar"), ("text", fine), ("base", "1")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("refused"), "{body}");
    let mut read = context.store.read().await.unwrap();
    assert_eq!(policy::highest(&mut read).await.unwrap(), 1);
}
