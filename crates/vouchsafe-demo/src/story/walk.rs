//! The steps of the walk, in order (issue 2, requirement 14).

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use vouchsafe_agent::tunnel::Port;
use vouchsafe_wire::api::{GrantDoc, NewGrant};

use super::company::{DATABASE_PORT, Person, database_name, page};
use super::report::{Expectation, Proof, Report, Step};
use super::step::{Scene, Seen};
use super::{Story, StoryError};
use crate::apps::Department;
use crate::browser::dial::Direct;
use crate::browser::{Browser, Cause};
use crate::laptop::Ask;
use crate::postgres::{Cluster, PsqlTls};

/// A change is in force everywhere within this time (DESIGN, I6).
const PROMISE: Duration = Duration::from_secs(1);
const LOOPBACK: &str = "127.0.0.1";
const NO_DEVICE: &str = "no device";
const A_THIEF: &str = "a thief";

const NOBODY: &str = "Nobody is let in unknown";
const AT_WORK: &str = "Alice of marketing, on her enrolled laptop";
const DEVICELESS: &str = "The same Alice, in a browser without a device";
const NOT_HERS: &str = "Finance is not hers";
const GRANTED: &str = "Until somebody grants it to her";
const TAKEN_BACK: &str = "The grant is taken back";
const BOB: &str = "Bob of finance, on his own laptop";
const ANYWHERE: &str = "Where a request comes from changes nothing";
const STOLEN: &str = "What is stolen is worth nothing elsewhere";
const LOST: &str = "Alice's laptop is lost, and removed";

/// Takes the walk.
pub(super) async fn take(story: &Story, on_step: impl FnMut(&Step)) -> Result<Report, StoryError> {
    let mut walk = Walk { story, report: Report::default(), on_step, heard: 0 };
    walk.nobody().await?;
    walk.at_work().await?;
    let visitor = walk.deviceless().await?;
    walk.not_hers(NOT_HERS).await?;
    walk.grants().await?;
    walk.bob().await?;
    walk.anywhere(&visitor).await?;
    walk.stolen().await?;
    walk.lost().await?;
    if story.company.databases.is_none() {
        walk.report
            .notes
            .push("The databases were left out, since no PostgreSQL server was found or wanted.".to_owned());
    }
    Ok(walk.report)
}

struct Walk<'s, F> {
    story: &'s Story,
    report: Report,
    on_step: F,
    heard: usize,
}

fn allowed() -> Expectation {
    Expectation::Allowed
}

fn denied(reason: &'static str) -> Expectation {
    Expectation::Denied(vec![reason])
}

impl<F: FnMut(&Step)> Walk<'_, F> {
    async fn step(
        &mut self,
        scene: Scene<'_>,
        act: impl AsyncFnOnce() -> Result<Seen, StoryError>,
    ) -> Result<(), StoryError> {
        self.story.step(&mut self.report, scene, act).await?;
        for step in self.report.steps.iter().skip(self.heard) {
            (self.on_step)(step);
        }
        self.heard = self.report.steps.len();
        Ok(())
    }

    /// A browser that nobody has used, on a machine that is no device of ours.
    fn stranger(&self, from: Option<IpAddr>) -> Result<Browser, StoryError> {
        let world = &self.story.world;
        let direct = Direct { from, ..Direct::loopback(world.port) };
        Ok(Browser::new(Arc::new(direct), &world.root_pem, self.story.tasks.clone())?)
    }

    fn host(&self, label: &str) -> String {
        format!("{label}.{}", self.story.world.domain)
    }

    /// One request of a person's browser on her laptop.
    async fn visit(
        &mut self,
        chapter: &'static str,
        person: &Person,
        department: Department,
        expected: Expectation,
    ) -> Result<(), StoryError> {
        let url = page(&self.story.world, department.name(), "/")?;
        let asked = format!("GET {}/", department.name());
        let scene = Scene {
            chapter,
            by: person.name,
            on: person.laptop.name(),
            from: LOOPBACK,
            asked: &asked,
            resource: department.name(),
            expected,
        };
        self.step(scene, async || {
            let answer = person.laptop.browser().get_once(&url, Cause::Typed).await;
            let seen = Seen::page(answer.as_ref());
            Ok(match &answer {
                Ok(page) if page.status.is_success() => {
                    let greeted = page.text().contains(&format!("<strong>{}</strong>", person.name));
                    seen.proof(format!("the app greeted {}", person.name), greeted)
                }
                Ok(_) | Err(_) => seen,
            })
        })
        .await
    }

    /// One query through the tunnel of a person's laptop.
    async fn query(
        &mut self,
        chapter: &'static str,
        person: &Person,
        department: Department,
        (cluster, sql, rows): (&Cluster, &str, &str),
    ) -> Result<(), StoryError> {
        let resource = database_name(department);
        let asked = format!("psql {resource}");
        let host = self.host(resource);
        let local = person.laptop.connect(&host, DATABASE_PORT).await?;
        let scene = Scene {
            chapter,
            by: person.name,
            on: person.laptop.name(),
            from: LOOPBACK,
            asked: &asked,
            resource,
            expected: allowed(),
        };
        self.step(scene, async || {
            let answer = cluster.psql(local, PsqlTls::Off, sql).await?;
            Ok(Seen::psql(&answer).proof("psql got the rows", answer.stdout == rows))
        })
        .await
    }

    /// A tunnel that is asked for and must not open.
    async fn refused_tunnel(
        &mut self,
        chapter: &'static str,
        person: &Person,
        department: Department,
    ) -> Result<(), StoryError> {
        let resource = database_name(department);
        let asked = format!("psql {resource}");
        let host = self.host(resource);
        let scene = Scene {
            chapter,
            by: person.name,
            on: person.laptop.name(),
            from: LOOPBACK,
            asked: &asked,
            resource,
            expected: denied("no_permit"),
        };
        self.step(scene, async || Ok(Seen::tunnel(person.laptop.tunnels(), &host, DATABASE_PORT).await)).await
    }

    async fn nobody(&mut self) -> Result<(), StoryError> {
        let stranger = self.stranger(None)?;
        let causes = [
            ("/", "GET marketing/", Cause::Typed, Expectation::SignIn(vec!["sign_in_required"])),
            ("/api/figures", "GET marketing/api/figures", Cause::Tool, denied("sign_in_required")),
        ];
        for (path, asked, cause, expected) in causes {
            let url = page(&self.story.world, "marketing", path)?;
            let by = if cause == Cause::Tool { "curl" } else { "a browser" };
            let scene =
                Scene { chapter: NOBODY, by, on: NO_DEVICE, from: LOOPBACK, asked, resource: "marketing", expected };
            self.step(scene, async || {
                let answer = stranger.get_once(&url, cause).await;
                let seen = Seen::page(answer.as_ref());
                Ok(match (&answer, cause) {
                    (Ok(page), Cause::Tool) => seen.proof("status 401", page.status.as_u16() == 401),
                    (Ok(_) | Err(_), _) => seen,
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn at_work(&mut self) -> Result<(), StoryError> {
        let company = &self.story.company;
        let alice = &company.alice;
        // The first visit signs in to the app host; the step is the request after that.
        alice.laptop.browser().open(&page(&self.story.world, "marketing", "/")?, &alice.authenticator).await?;
        self.visit(AT_WORK, alice, Department::Marketing, allowed()).await?;
        if let Some(databases) = &company.databases {
            let query = (&databases.marketing, "SELECT count(*) FROM campaigns", "3");
            self.query(AT_WORK, alice, Department::Marketing, query).await?;
        }
        Ok(())
    }

    async fn deviceless(&mut self) -> Result<Browser, StoryError> {
        let visitor = self.stranger(None)?;
        let url = page(&self.story.world, "marketing", "/")?;
        visitor.open(&url, &self.story.company.alice.authenticator).await?;
        self.visit_without_device(DEVICELESS, &visitor, LOOPBACK).await?;
        Ok(visitor)
    }

    async fn visit_without_device(
        &mut self,
        chapter: &'static str,
        visitor: &Browser,
        from: &str,
    ) -> Result<(), StoryError> {
        let url = page(&self.story.world, "marketing", "/")?;
        let scene = Scene {
            chapter,
            by: "alice",
            on: NO_DEVICE,
            from,
            asked: "GET marketing/",
            resource: "marketing",
            expected: denied("device_required"),
        };
        self.step(scene, async || {
            let answer = visitor.get_once(&url, Cause::Typed).await;
            let seen = Seen::page(answer.as_ref());
            Ok(match &answer {
                Ok(page) => seen.proof("the page says what to do", page.text().contains("vouchsafe enroll")),
                Err(_) => seen,
            })
        })
        .await
    }

    async fn not_hers(&mut self, chapter: &'static str) -> Result<(), StoryError> {
        let company = &self.story.company;
        let alice = &company.alice;
        alice.laptop.browser().open(&page(&self.story.world, "finance", "/")?, &alice.authenticator).await?;
        self.visit(chapter, alice, Department::Finance, denied("no_permit")).await?;
        if company.databases.is_some() {
            self.refused_tunnel(chapter, alice, Department::Finance).await?;
        }
        Ok(())
    }

    async fn grants(&mut self) -> Result<(), StoryError> {
        let company = &self.story.company;
        let mut resources = vec![Department::Finance.name()];
        if company.databases.is_some() {
            resources.push(database_name(Department::Finance));
        }
        let mut grants = Vec::new();
        for resource in resources {
            let grant = NewGrant {
                user: company.alice.name.to_owned(),
                resource: resource.to_owned(),
                seconds: Some(3600),
                reason: "Helps with the yearly audit".to_owned(),
                template: None,
            };
            let grant: GrantDoc = self.story.admin.post("/v1/grants", &grant).await?;
            grants.push(grant.id);
        }
        tokio::time::sleep(PROMISE).await;
        self.visit(GRANTED, &company.alice, Department::Finance, allowed()).await?;
        let mut held = None;
        if let Some(databases) = &company.databases {
            let query = (&databases.finance, "SELECT count(*) FROM ledger", "3");
            self.query(GRANTED, &company.alice, Department::Finance, query).await?;
            let host = self.host(database_name(Department::Finance));
            held = company.alice.laptop.tunnels().open(&host, Port::Number(DATABASE_PORT)).await.ok();
        }
        for grant in grants {
            self.story.admin.delete(&format!("/v1/grants/{grant}")).await?;
        }
        let taken_back = Instant::now();
        let mut cut = None;
        if let Some(mut tunnel) = held {
            // The server says nothing before it is spoken to, so the end is the gateway's doing.
            let mut byte = [0; 1];
            let end = tokio::time::timeout(PROMISE * 3, tunnel.read(&mut byte)).await;
            cut = matches!(end, Ok(Ok(0) | Err(_))).then(|| taken_back.elapsed());
        }
        tokio::time::sleep_until(taken_back + PROMISE).await;
        self.not_hers(TAKEN_BACK).await?;
        if company.databases.is_some()
            && let Some(step) = self.report.steps.last_mut()
        {
            let what = match cut {
                Some(after) => format!("her open connection was cut after {} ms", after.as_millis()),
                None => "her open connection was cut".to_owned(),
            };
            step.proofs.push(Proof::notable(what, cut.is_some_and(|after| after <= PROMISE)));
        }
        Ok(())
    }

    async fn bob(&mut self) -> Result<(), StoryError> {
        let company = &self.story.company;
        let bob = &company.bob;
        for department in [Department::Finance, Department::Marketing] {
            bob.laptop.browser().open(&page(&self.story.world, department.name(), "/")?, &bob.authenticator).await?;
        }
        self.visit(BOB, bob, Department::Finance, allowed()).await?;
        self.visit(BOB, bob, Department::Marketing, denied("no_permit")).await?;
        self.visit(BOB, &company.alice, Department::Finance, denied("no_permit")).await
    }

    async fn anywhere(&mut self, visitor: &Browser) -> Result<(), StoryError> {
        let story = self.story;
        let alice = &story.company.alice;
        let mut sources = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))];
        match own_address() {
            Some(address) => sources.push(address),
            None => self.report.notes.push("This machine has no address but loopback to come from.".to_owned()),
        }
        let token = alice.laptop.access_token().await?;
        for source in sources {
            let from = source.to_string();
            let direct = Direct { from: Some(source), ..Direct::loopback(story.world.port) };
            self.visit_without_device(ANYWHERE, &visitor.through(Arc::new(direct)), &from).await?;
            if story.company.databases.is_none() {
                continue;
            }
            for (department, expected) in
                [(Department::Marketing, allowed()), (Department::Finance, denied("no_permit"))]
            {
                let ask = (alice, database_name(department), token.as_str(), Some(source));
                self.ask(ANYWHERE, ("alice", &from), ask, expected).await?;
            }
        }
        Ok(())
    }

    /// A raw request for a tunnel, with a token that may be another's.
    async fn ask(
        &mut self,
        chapter: &'static str,
        (by, from): (&str, &str),
        (on, resource, token, source): (&Person, &str, &str, Option<IpAddr>),
        expected: Expectation,
    ) -> Result<(), StoryError> {
        let host = self.host(resource);
        let asked = match by {
            A_THIEF => format!("CONNECT {resource} with her token"),
            _ => format!("CONNECT {resource}"),
        };
        let scene = Scene { chapter, by, on: on.laptop.name(), from, asked: &asked, resource, expected };
        let root_pem = &self.story.world.root_pem;
        self.step(scene, async || {
            let ask = Ask { host: &host, port: DATABASE_PORT, token, from: source };
            Ok(Seen::answer(&on.laptop.ask(&ask, root_pem).await?))
        })
        .await
    }

    async fn stolen(&mut self) -> Result<(), StoryError> {
        let company = &self.story.company;
        let (alice, bob) = (&company.alice, &company.bob);
        let url = page(&self.story.world, "marketing", "/")?;
        let host = self.host("marketing");
        let loot = alice.laptop.browser().cookies_of(&host);
        let on_bobs = bob.laptop.fresh_browser(&self.story.world.root_pem)?;
        for (thief, on) in [(self.stranger(None)?, NO_DEVICE), (on_bobs, bob.laptop.name())] {
            for (name, value) in &loot {
                thief.plant_cookie(&host, name, value);
            }
            let scene = Scene {
                chapter: STOLEN,
                by: A_THIEF,
                on,
                from: LOOPBACK,
                asked: "GET marketing/ with her cookie",
                resource: "marketing",
                expected: Expectation::SignIn(vec!["device_mismatch"]),
            };
            self.step(scene, async || Ok(Seen::page(thief.get_once(&url, Cause::Typed).await.as_ref()))).await?;
        }
        let token = alice.laptop.access_token().await?;
        let ask = (bob, database_name(Department::Marketing), token.as_str(), None);
        self.ask(STOLEN, (A_THIEF, LOOPBACK), ask, denied("device_mismatch")).await
    }

    async fn lost(&mut self) -> Result<(), StoryError> {
        let alice = &self.story.company.alice;
        let token = alice.laptop.access_token().await?;
        self.story.admin.delete(&format!("/v1/devices/{}", alice.laptop.id())).await?;
        tokio::time::sleep(PROMISE).await;
        let gone = || Expectation::Denied(vec!["device_unknown", "session_ended"]);
        self.visit(LOST, alice, Department::Marketing, gone()).await?;
        let ask = (alice, database_name(Department::Marketing), token.as_str(), None);
        self.ask(LOST, ("alice", LOOPBACK), ask, gone()).await
    }
}

/// An address of this machine that isn't loopback. Connecting a UDP socket sends nothing: it only
/// asks the routing table from where packets to a documentation address (RFC 5737) would come.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
