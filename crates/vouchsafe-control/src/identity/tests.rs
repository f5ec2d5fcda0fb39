//! The endpoints as a browser, a device and a thief see them.

mod authenticator;
mod devices;
mod own;
mod people;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{Caller, OwnHost, ProvenDevice};
use vouchsafe_wire::api::NewUser;
use vouchsafe_wire::audit::Record;

use self::authenticator::Authenticator;
use super::{Identity, Redeemer, routes};
use crate::context::Context;
use crate::directory::{self, Actor};
use crate::store::testing;

const ORIGIN: &str = "https://auth.vouchsafe.localhost:8443";
const STATE: &str = "0123456789abcdefghijABCDEFGHIJ_-0123456789a";

struct World {
    dir: tempfile::TempDir,
    context: Context,
    redeemer: Redeemer,
    auth: Router,
    gateway: Router,
}

/// Where a request comes from.
#[derive(Clone)]
struct Client {
    ip: IpAddr,
    device: Option<ProvenDevice>,
    cookie: Option<String>,
    /// PEM of the device's key.
    key: String,
}

impl Client {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let ip = IpAddr::from([192, 0, 2, NEXT.fetch_add(1, Ordering::Relaxed)]);
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        Self { ip, device: None, cookie: None, key }
    }

    fn on(device: DeviceId) -> Self {
        Self {
            device: Some(ProvenDevice {
                id: device,
                certificate_sha256: [7; 32],
                not_after: clock::now() + std::time::Duration::from_secs(3600),
            }),
            ..Self::new()
        }
    }

    fn caller(&self, host: OwnHost) -> Caller {
        Caller { host, ip: self.ip, post_quantum: true, device: self.device.clone(), subject: None, decision: None }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        Self { status: head.status, headers: head.headers, body }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |value| value.to_str().unwrap())
    }

    fn cookie(&self) -> String {
        let line = self.headers[header::SET_COOKIE].to_str().unwrap();
        for part in ["__Host-vouchsafe=", "; Path=/;", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(line.contains(part), "{line}");
        }
        line.split(';').next().unwrap().to_owned()
    }
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = Context::for_test(dir.path()).await;
        let Identity { auth, gateway } = routes(context.clone()).unwrap();
        Self { dir, context, redeemer: Redeemer::default(), auth, gateway }
    }

    async fn send(&self, client: &Client, host: OwnHost, mut request: http::request::Builder, body: String) -> Answer {
        if let Some(cookie) = &client.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(client.caller(host));
        let router = match host {
            OwnHost::Auth => &self.auth,
            _ => &self.gateway,
        };
        Answer::of(router.clone().oneshot(request).await.unwrap()).await
    }

    async fn get(&self, client: &Client, path: &str) -> Answer {
        self.send(client, OwnHost::Auth, Request::get(path), String::new()).await
    }

    async fn post(&self, client: &Client, path: &str, body: &Value) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("sec-fetch-site", "same-origin");
        self.send(client, OwnHost::Auth, request, body.to_string()).await
    }

    /// What a script of ours sends for a signed-in person.
    async fn post_with_csrf(&self, client: &Client, path: &str, body: &Value) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("sec-fetch-site", "same-origin")
            .header("x-vouchsafe-csrf", self.csrf(client).await);
        self.send(client, OwnHost::Auth, request, body.to_string()).await
    }

    async fn submit(&self, client: &Client, path: &str, body: String) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        self.send(client, OwnHost::Auth, request, body).await
    }

    async fn csrf(&self, client: &Client) -> String {
        let page = self.get(client, "/").await;
        let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").expect("signed in");
        rest.split('"').next().unwrap().to_owned()
    }

    /// A user and the token of the link.
    async fn invited(&self, name: &str) -> String {
        let new = NewUser { name: name.to_owned(), groups: vec![] };
        let invited = directory::users::add(&self.context, &new, &Actor::Controller).await.unwrap();
        self.token(&invited.link)
    }

    async fn invited_again(&self, name: &str) -> String {
        let invited = directory::users::invite(&self.context, name, &Actor::Controller).await.unwrap();
        self.token(&invited.link)
    }

    fn token(&self, link: &str) -> String {
        let (page, token) = link.split_once('#').unwrap();
        assert_eq!(page, format!("{ORIGIN}/invite"));
        token.to_owned()
    }

    async fn register(&self, client: &Client, invite: &str, authenticator: &mut Authenticator) -> Answer {
        let begun = self.post(client, "/webauthn/register/start", &json!({ "invite": invite })).await;
        if begun.status != StatusCode::OK {
            return begun;
        }
        let begun = begun.json();
        let credential = authenticator.create(&begun["publicKey"]);
        self.post(
            client,
            "/webauthn/register/finish",
            &json!({ "ceremony": begun["ceremony"], "credential": credential }),
        )
        .await
    }

    async fn authenticate(&self, client: &Client, authenticator: &mut Authenticator, next: Option<&str>) -> Answer {
        let begun = self.post(client, "/webauthn/authenticate/start", &json!({})).await.json();
        let credential = authenticator.get(&begun["publicKey"]);
        let body = json!({ "ceremony": begun["ceremony"], "credential": credential, "next": next });
        self.post(client, "/webauthn/authenticate/finish", &body).await
    }

    /// A user with a passkey, signed in by that client.
    async fn person(&self, name: &str, client: &mut Client) -> Authenticator {
        let mut authenticator = Authenticator::new(ORIGIN);
        let invite = self.invited(name).await;
        let answer = self.register(client, &invite, &mut authenticator).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        client.cookie = Some(answer.cookie());
        authenticator
    }

    async fn records(&self, action: &str) -> Vec<Record> {
        let all = testing::records(&self.context.store).into_iter();
        all.filter(|record| record.action.as_deref() == Some(action)).collect()
    }

    async fn count(&self, statement: &'static str) -> i64 {
        let mut read = self.context.store.read().await.unwrap();
        sqlx::query_scalar(statement).fetch_one(&mut *read).await.unwrap()
    }

    async fn run(&self, statement: &'static str) {
        let mut write = self.context.store.write().await.unwrap();
        sqlx::query(statement).execute(write.connection()).await.unwrap();
        write.commit().await.unwrap();
    }

    /// Every byte of the database on disk.
    fn database(&self) -> Vec<u8> {
        ["vouchsafe.db", "vouchsafe.db-wal"]
            .iter()
            .flat_map(|file| std::fs::read(self.dir.path().join(file)).unwrap_or_default())
            .collect()
    }

    fn assert_not_stored(&self, secret: &str) {
        let stored = self.database();
        assert!(!secret.is_empty() && !stored.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }

    async fn redeem(&self, client: &Client, code: &str, label: &str) -> Option<String> {
        let device = client.device.as_ref().map(|device| device.id);
        let redeemed = self.redeemer.redeem(&self.context, code, label, device, client.ip).await.unwrap();
        redeemed.map(|redeemed| redeemed.cookie)
    }
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn query(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

fn now() -> u64 {
    clock::unix_seconds(clock::now())
}
