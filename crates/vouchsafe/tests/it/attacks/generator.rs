//! The classes behind G1 to G4, and A275: requests that are wrong in ways that nobody listed. Good
//! requests are changed at random; whatever then reaches an upstream must be one whole canonical
//! request that the policy permits, as alice, and nothing may panic.
//!
//! `VOUCHSAFE_MUTATIONS` sets how many are sent in each way; a few hundred otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::probe::{self, Answer};
use super::{Lab, Way};
use crate::world::World;

/// What tends to be read in two ways.
const SPLICES: [&str; 44] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\u{b}",
    ":",
    ";",
    ",",
    "/",
    "//",
    "..",
    "/../",
    "%2e%2e",
    "%2f",
    "%5c",
    "\\",
    "%00",
    "%",
    "#",
    "?",
    "@",
    "[",
    "]",
    "*",
    "\u{e9}",
    "\u{ff0f}",
    "_",
    "-",
    "HTTP/1.0",
    "HTTP/2",
    "GET /admin HTTP/1.1\r\n",
    "\r\nTransfer-Encoding: chunked\r\n",
    "\r\nContent-Length: 5\r\n",
    "\r\nContent-Length: 0\r\n",
    "chunked",
    "0\r\n\r\n",
    "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    "\r\nHost: app-b\r\n",
    "\r\nX-Vouchsafe-User: own\r\n",
    "\r\nx_vouchsafe_user: own\r\n",
    "\r\nExpect: 100-continue\r\n",
    "/admin",
];

/// Numbers that look random and are always the same (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides.max(1)).expect("small")).expect("small")
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    /// One to three changes.
    fn change(&mut self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.roll(3) {
            let at = self.roll(text.len() + 1);
            match self.roll(5) {
                0 if at < text.len() => {
                    text.remove(at);
                }
                1 if at < text.len() => text[at] ^= 1 << self.roll(8),
                2 => {
                    let end = (at + 1 + self.roll(20)).min(text.len());
                    let again = text.get(at..end).unwrap_or_default().to_vec();
                    drop(text.splice(at..at, again));
                }
                _ => drop(text.splice(at..at, self.pick(&SPLICES).bytes())),
            }
        }
        text
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own knob, which changes nothing but how long it takes")]
fn how_many() -> usize {
    std::env::var("VOUCHSAFE_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(250)
}

/// Sends all samples, sixteen at a time.
async fn send_all(lab: &Arc<Lab>, samples: Vec<(Way, Sample)>) -> Vec<Answer> {
    let mut samples = samples.into_iter();
    let mut running = JoinSet::new();
    let mut answers = Vec::new();
    loop {
        while running.len() < 16 {
            let Some((way, sample)) = samples.next() else { break };
            let lab = Arc::clone(lab);
            running.spawn(async move {
                match sample {
                    Sample::Bytes(bytes) => lab.bytes(way, &bytes).await,
                    Sample::Fields(fields, body) => {
                        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                        let (sni, device) =
                            if way == Way::H2Proxied { ("gw", Some(&lab.laptop)) } else { ("app-a", None) };
                        probe::h2(&lab.world, sni, device, &fields, body.as_deref()).await
                    }
                }
            });
        }
        match running.join_next().await {
            Some(answer) => answers.push(answer.expect("the probe itself does not panic")),
            None => return answers,
        }
    }
}

enum Sample {
    Bytes(Vec<u8>),
    Fields(Vec<(String, String)>, Option<Vec<u8>>),
}

fn panics(world: &World) -> Vec<String> {
    world.log().lines().filter(|line| line.contains("panicked")).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a275_changed_requests_reach_nobody_but_as_what_was_permitted() {
    let lab = Arc::new(Lab::start().await);
    let count = how_many();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut samples = Vec::new();
    for way in [Way::H1, Way::H1Proxied] {
        let bodies =
            ["\r\n", "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"];
        for number in 0..count {
            let target = format!("/public/{number}");
            let method = if number % 3 == 0 { "GET" } else { "POST" };
            let good = format!("{}{}", lab.head(way, method, &target), bodies[number % 3]);
            // The credential stays what it is: without it there is nothing to get wrong.
            samples.push((way, Sample::Bytes(dice.change(good.as_bytes()))));
        }
    }
    for way in [Way::H2, Way::H2Proxied] {
        let proxied = way == Way::H2Proxied;
        for number in 0..count {
            let credential = if proxied {
                ("proxy-authorization".to_owned(), format!("Bearer {}", lab.laptop.token))
            } else {
                ("cookie".to_owned(), lab.cookie.clone())
            };
            let mut fields: Vec<(String, String)> = vec![
                (":method".into(), if number % 3 == 0 { "GET".into() } else { "POST".into() }),
                (":scheme".into(), if proxied { "http".into() } else { "https".into() }),
                (":authority".into(), lab.host("app-a")),
                (":path".into(), format!("/public/{number}")),
                credential,
                ("accept".into(), "*/*".into()),
            ];
            for _ in 0..=dice.roll(2) {
                let at = dice.roll(fields.len());
                match dice.roll(6) {
                    0 => drop(fields.remove(at)),
                    1 => {
                        let again = fields[at].clone();
                        fields.insert(dice.roll(fields.len() + 1), again);
                    }
                    2 => {
                        let moved = fields.remove(at);
                        fields.insert(dice.roll(fields.len() + 1), moved);
                    }
                    3 => fields[at].0 = String::from_utf8_lossy(&dice.change(fields[at].0.as_bytes())).into_owned(),
                    _ => fields[at].1 = String::from_utf8_lossy(&dice.change(fields[at].1.as_bytes())).into_owned(),
                }
                if fields.is_empty() {
                    break;
                }
            }
            let body = (number % 3 != 0).then(|| b"hello".to_vec());
            samples.push((way, Sample::Fields(fields, body)));
        }
    }
    let sent = samples.len();
    let answers = send_all(&lab, samples).await;
    assert_eq!(answers.len(), sent);
    let mut statuses = BTreeMap::<u16, usize>::new();
    for answer in &answers {
        *statuses.entry(answer.status).or_default() += 1;
        let known = [0, 200, 400, 401, 403, 404, 405, 407, 408, 421, 431, 501, 502, 505];
        assert!(known.contains(&answer.status), "{answer:?}");
    }
    // Enough were good, and enough refused, for this to say something.
    let good = statuses.get(&200).copied().unwrap_or_default();
    assert!(good > sent / 20 && good < sent, "{statuses:?}");
    for seen in lab.app.take() {
        let parts: Vec<&str> = seen.line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts.as_slice() else { panic!("no request line: {seen:?}") };
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        let permitted = ["/public/", "/pub/", "/read/", "/pkg.Svc/"].iter().any(|prefix| path.starts_with(prefix));
        assert!(permitted && !path.contains("//") && !path.contains("/."), "{seen:?}");
        let canonical = vouchsafe_wire::canonical::CanonicalTarget::parse(
            method,
            target,
            vouchsafe_model::resource::PathRules::STRICT,
        );
        assert_eq!(canonical.expect("canonical").to_target(), *target, "{seen:?}");
        assert_eq!(seen.values("x-vouchsafe-user"), ["alice"], "{seen:?}");
        assert_eq!(seen.values("x-vouchsafe-assertion").len(), 1, "{seen:?}");
        assert_eq!(seen.values("host"), [lab.host("app-a")], "{seen:?}");
        assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"], "{seen:?}");
        assert!(seen.values("content-length").len() + seen.values("transfer-encoding").len() <= 1, "{seen:?}");
        let own = seen
            .fields
            .iter()
            .any(|(name, value)| value == "own" && super::identity::as_cgi(name).starts_with("X_VOUCHSAFE"));
        assert!(!own, "{seen:?}");
    }
    assert_eq!(lab.other.bytes(), 0);
    assert!(lab.after_victims("at the end").await.is_empty());
    assert!(panics(&lab.world).is_empty(), "{:?}", panics(&lab.world));
}
