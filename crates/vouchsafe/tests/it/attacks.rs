//! The attack catalogue's samples of groups G1 to G5, in each version of HTTP where they exist, each
//! test named by the number of its attack. Every sample is sent directly with a session cookie and, where
//! it can be, over a device's connection to the gateway with its token.

mod absent;
mod agreement;
mod assertion;
mod authority;
mod canaries;
mod credentials;
mod framing;
mod generator;
mod guard;
mod identity;
mod pages;
mod paths;
pub(crate) mod probe;
mod sizes;
mod streams;
pub(crate) mod strict;
mod target;
mod upgrade;
mod variants;

use serde_json::json;

use crate::world::{Person, TestDevice, World};
use probe::h3::h3;
use probe::{Answer, h1, h2};
use strict::{Seen, Strict};

/// Staff may do everything below `/public/` and `/pub/`, and read below `/read/`. `app-b` is nobody's.
const POLICY: &str = r#"
@id("public") @device("none")
permit (principal in Group::"staff", action in [Action::"http:read", Action::"http:write", Action::"http:upgrade"], resource == Http::"app-a")
when { context.request.path like "/public/*" || context.request.path like "/pub/*" || context.request.path like "/pkg.Svc/*" };

@id("read") @device("none")
permit (principal in Group::"staff", action == Action::"http:read", resource == Http::"app-a")
when { context.request.path like "/read/*" };

@id("no-admin")
forbid (principal, action in [Action::"http:read", Action::"http:write", Action::"http:upgrade"], resource == Http::"app-a")
when { context.request.path like "/admin*" };
"#;

struct Lab {
    world: World,
    app: Strict,
    other: Strict,
    laptop: TestDevice,
    cookie: String,
    victim: String,
    /// Alice and bob.
    people: [Person; 2],
}

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    H1,
    H1Proxied,
    H2,
    H2Proxied,
    H3,
    H3Proxied,
}

const WAYS: [Way; 6] = [Way::H1, Way::H1Proxied, Way::H2, Way::H2Proxied, Way::H3, Way::H3Proxied];
const H1_WAYS: [Way; 2] = [Way::H1, Way::H1Proxied];
/// Each request on a stream of its own.
const STREAM_WAYS: [Way; 4] = [Way::H2, Way::H2Proxied, Way::H3, Way::H3Proxied];

impl Lab {
    async fn start() -> Self {
        let world = World::start().await;
        let (app, other) = (Strict::start(&world.tasks).await, Strict::start(&world.tasks).await);
        let http = |name: &str, to: &Strict| json!({"name": name, "kind": "http", "upstream": format!("http://{}", to.address), "identity_headers": "plain"});
        world.apply(&["staff"], json!([http("app-a", &app), http("app-b", &other)]), POLICY).await;
        let (alice, bob) = (world.person("alice", &["staff"]).await, world.person("bob", &["staff"]).await);
        let laptop = world.device(&alice, "laptop").await;
        let (cookie, victim) =
            (world.cookie(&alice, "app-a", "/public/").await, world.cookie(&bob, "app-a", "/public/").await);
        let lab = Self { world, app, other, laptop, cookie, victim, people: [alice, bob] };
        // Every way works, so that no refusal below has another cause than its sample.
        for way in WAYS {
            let answer = lab.send(way, "GET", "/public/control", &[]).await;
            assert_eq!(answer.status, 200, "{way:?}: {answer:?}");
        }
        lab.app.take();
        lab
    }

    /// `app-a.<domain>:<port>`.
    fn host(&self, app: &str) -> String {
        format!("{}:{}", self.world.host(app), self.world.port)
    }

    /// A well-made request for `app-a`, but for what the sample puts in.
    async fn send(&self, way: Way, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        match way {
            Way::H1 | Way::H1Proxied => {
                let rest: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                self.raw(way, method, target, &format!("{rest}\r\n")).await
            }
            Way::H2 | Way::H2Proxied | Way::H3 | Way::H3Proxied => self.frames(way, method, target, fields, None).await,
        }
    }

    /// Request line, `Host` and credential for HTTP/1.1.
    fn head(&self, way: Way, method: &str, target: &str) -> String {
        let host = self.host("app-a");
        match way {
            Way::H1Proxied => {
                let token = &self.laptop.token;
                format!(
                    "{method} http://{host}{target} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n"
                )
            }
            _ => format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n", self.cookie),
        }
    }

    /// The head of HTTP/1.1 and then `rest`, byte by byte: more fields, the empty line, a body.
    async fn raw(&self, way: Way, method: &str, target: &str, rest: &str) -> Answer {
        self.bytes(way, format!("{}{rest}", self.head(way, method, target)).as_bytes()).await
    }

    async fn bytes(&self, way: Way, bytes: &[u8]) -> Answer {
        match way {
            Way::H1Proxied => h1(&self.world, "gw", Some(&self.laptop), bytes).await,
            _ => h1(&self.world, "app-a", None, bytes).await,
        }
    }

    /// The same, for samples behind which the server closes: everything until it does.
    async fn bytes_to_end(&self, way: Way, bytes: &[u8]) -> Answer {
        match way {
            Way::H1Proxied => probe::h1_to_end(&self.world, "gw", Some(&self.laptop), bytes).await,
            _ => probe::h1_to_end(&self.world, "app-a", None, bytes).await,
        }
    }

    async fn frames(
        &self,
        way: Way,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let host = self.host("app-a");
        let bearer = format!("Bearer {}", self.laptop.token);
        let proxied = matches!(way, Way::H2Proxied | Way::H3Proxied);
        let mut all = vec![
            (":method", method),
            (":scheme", if proxied { "http" } else { "https" }),
            (":authority", &host),
            (":path", target),
        ];
        all.push(if proxied { ("proxy-authorization", &bearer) } else { ("cookie", &self.cookie) });
        all.extend(fields);
        let (sni, device) = if proxied { ("gw", Some(&self.laptop)) } else { ("app-a", None) };
        self.streamed(way, sni, device, &all, body).await
    }

    /// A request on a stream, of exactly these fields.
    async fn streamed(
        &self,
        way: Way,
        sni: &str,
        device: Option<&TestDevice>,
        fields: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        match way {
            Way::H1 | Way::H1Proxied => panic!("HTTP/1.1 has no streams"),
            Way::H2 | Way::H2Proxied => h2(&self.world, sni, device, fields, body).await,
            Way::H3 | Way::H3Proxied => h3(&self.world, sni, device, fields, body).await,
        }
    }

    /// The sample was refused: with one of these statuses, or as a protocol error (0 stands for it).
    /// Nothing reached an upstream, and the decision, where there is one, is recorded once with a
    /// reason of its own.
    async fn refused(&self, sample: &str, answer: &Answer, statuses: &[u16]) {
        assert!(statuses.contains(&answer.status), "{sample}: not refused with {statuses:?}: {answer:?}");
        assert!(answer.answers <= 1, "{sample}: more than one answer: {answer:?}");
        assert_eq!((self.app.bytes(), self.other.bytes()), (0, 0), "{sample}: bytes upstream: {:?}", self.app.take());
        if let Some(id) = answer.decision() {
            let record = self.world.decision(id).await;
            assert_eq!(record.outcome.as_deref(), Some("deny"), "{sample}: {record:?}");
            let known = [
                "ambiguous_request",
                "condition_failed",
                "credential_invalid",
                "forbidden",
                "misdirected_request",
                "no_permit",
                "sign_in_required",
                "unknown_resource",
            ];
            let reason = record.reason.as_deref().unwrap_or_default();
            assert!(known.contains(&reason), "{sample}: {record:?}");
            assert!(answer.reason() == Some(reason) || reason == "unknown_resource", "{sample}: {answer:?}");
        }
    }

    /// Exactly one request went upstream, with this line.
    fn one(&self, sample: &str, answer: &Answer, line: &str) -> Seen {
        assert_eq!((answer.status, answer.answers), (200, 1), "{sample}: {answer:?}");
        let seen = self.app.take();
        let [one] = seen.as_slice() else { panic!("{sample}: not one request upstream: {seen:?}") };
        assert_eq!(one.line, line, "{sample}");
        one.clone()
    }

    /// What went upstream because of the sample. Others get their own answers meanwhile.
    async fn after_victims(&self, sample: &str) -> Vec<Seen> {
        for number in 0..3 {
            let line = format!("GET /public/victim/{number} HTTP/1.1");
            let request = format!("{line}\r\nHost: {}\r\nCookie: {}\r\n\r\n", self.host("app-a"), self.victim);
            let answer = h1(&self.world, "app-a", None, request.as_bytes()).await;
            let own = answer.status == 200 && answer.answers == 1 && answer.text.ends_with(&format!("\r\n\r\n{line}"));
            assert!(own, "{sample}: a victim got another's answer: {answer:?}");
        }
        let (victims, rest): (Vec<Seen>, Vec<Seen>) =
            self.app.take().into_iter().partition(|seen| seen.line.starts_with("GET /public/victim/"));
        assert_eq!(victims.len(), 3, "{sample}: one request upstream for each of the victims: {victims:?}");
        rest
    }

    /// The sample was refused and left nothing behind, or it was read in exactly one way: at most one
    /// whole request upstream, canonical, with this body.
    async fn harmless(&self, sample: &str, answer: &Answer, bodies: &[&[u8]]) {
        let rest = self.after_victims(sample).await;
        assert!(rest.len() <= 1, "{sample}: {rest:?}");
        for seen in rest.iter().filter(|seen| seen.complete) {
            assert_eq!(seen.line, "POST /public/sample HTTP/1.1", "{sample}");
            assert!(bodies.contains(&seen.body.as_slice()), "{sample}: {seen:?}");
            assert_eq!(answer.status, 200, "{sample}: {answer:?}");
        }
        let refused = answer.status >= 400 || answer.closed || answer.error.is_some();
        assert!(refused || rest.len() == 1, "{sample}: neither refused nor answered: {answer:?}");
        let doubt = answer.status >= 400 && answer.error.is_none();
        assert!(!doubt || answer.closed, "{sample}: where the next request begins is in doubt: {answer:?}");
        assert_eq!(self.other.bytes(), 0, "{sample}");
    }

    /// The sample was refused by HTTP and left nothing behind.
    async fn refused_and_harmless(&self, sample: &str, answer: &Answer) {
        assert!((400..=505).contains(&answer.status) || (answer.status == 0 && answer.closed), "{sample}: {answer:?}");
        let rest = self.after_victims(sample).await;
        assert!(rest.iter().all(|seen| !seen.complete), "{sample}: {rest:?}");
    }
}
