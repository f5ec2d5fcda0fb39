//! HTTP through vouchsafe (identity, decision and audit of every request) beside proxies that know
//! nobody, and one that asks an authorization server.

mod foreign;
mod report;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::contenders::{self, Company, Contender, POLICIES, Server, WHO};
use crate::cpu;
use crate::load::{Connections, Outcome, Pace, h2};
use crate::statistics::{micros, percentile};

use self::report::{Goal, Row};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONNECTIONS: usize = 64;
const H2_CONNECTIONS: usize = 4;
const H2_STREAMS: usize = 16;
const RATE: u32 = 8_000;
const RATE_CONNECTIONS: usize = 32;
/// Requests a second while policies change.
const SWAP_RATE: u32 = 4_000;
const ROUND: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);
/// What a server does behind its answers (records to be delivered) counts as well: it has so long.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How long ten thousand policies may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(180);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Http1,
    Http2,
    Rate,
    Swap,
    Foreign,
}

/// `http [part] [rounds]`: one part, or all.
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut parts, mut rounds) = (vec![Part::Http1, Part::Http2, Part::Rate, Part::Swap, Part::Foreign], 7);
    if let Some(part) = arguments.next() {
        parts = vec![match part.as_str() {
            "h1" => Part::Http1,
            "h2" => Part::Http2,
            "rate" => Part::Rate,
            "swap" => Part::Swap,
            "foreign" => Part::Foreign,
            _ => return Err("parts of `http` are h1, h2, rate, swap and foreign".into()),
        }];
    }
    if let Some(number) = arguments.next() {
        rounds = number.parse()?;
    }
    // Not where temporary files go: that may be memory, and records are synced.
    let dir = tempfile::tempdir_in(std::env::current_exe()?.parent().unwrap_or(Path::new(".")))?;
    let mut field = Field::enter(dir.path()).await?;
    report::head();
    for part in parts {
        match part {
            Part::Http1 => field.flat_out(part, rounds).await?,
            Part::Http2 => field.flat_out(part, rounds).await?,
            Part::Rate => field.fixed_rate(rounds).await?,
            Part::Swap => field.swap(rounds).await?,
            Part::Foreign => foreign::run(&field.company).await?,
        }
    }
    Ok(())
}

/// All contenders, ready.
struct Field {
    direct: Contender,
    nginx: Contender,
    asking: Contender,
    haproxy: Contender,
    company: Company,
    _servers: Vec<Server>,
}

impl Field {
    async fn enter(dir: &Path) -> Result<Self> {
        let (upstream, upstream_server) = contenders::nginx_upstream(dir)?;
        let direct = contenders::direct(dir, upstream, &upstream_server)?;
        let (nginx, nginx_server) = contenders::nginx_mtls(dir, upstream)?;
        let (asking, asking_servers) = contenders::nginx_auth_request(dir, upstream)?;
        let (haproxy, haproxy_server) = contenders::haproxy(dir, upstream)?;
        let company = Company::found(dir, upstream).await?;
        let mut servers = vec![upstream_server, nginx_server, haproxy_server];
        servers.extend(asking_servers);
        let field = Self { direct, nginx, asking, haproxy, company, _servers: servers };
        field.knows_the_person().await?;
        Ok(field)
    }

    /// Waits until the policies are in force, then looks whether the upstream is told who asks. Under
    /// load it only checks that somebody is named.
    async fn knows_the_person(&self) -> Result<()> {
        let target = &self.company.contender.target;
        let text = String::from_utf8_lossy(&target.request).replacen("/api/figures", WHO, 1);
        let begun = Instant::now();
        loop {
            let answer = said(crate::load::get(target, text.as_bytes()).await)?;
            match subject(&answer).as_deref() {
                Some("bench") => return Ok(()),
                Some(other) => return Err(format!("the upstream was told that `{other}` asks").into()),
                None if begun.elapsed() > IN_FORCE => {
                    return Err(format!("the upstream was told nobody: {answer}").into());
                }
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn flat_out(&mut self, part: Part, rounds: usize) -> Result<()> {
        let contenders = [&self.nginx, &self.asking, &self.haproxy, &self.company.contender];
        let mut rows = contenders.map(|contender| Row::of(contender.name));
        for _ in 0..rounds {
            for (contender, row) in contenders.iter().zip(&mut rows) {
                match part {
                    Part::Http2 => measure_h2(contender, row).await?,
                    _ => measure_h1(contender, row, CONNECTIONS, Pace::Closed, ROUND).await?,
                }
            }
        }
        match part {
            Part::Http2 => report::title(&format!(
                "HTTP/2, {H2_CONNECTIONS} connections with {H2_STREAMS} streams each, flat out, {rounds} rounds"
            )),
            _ => report::title(&format!("HTTP/1.1, {CONNECTIONS} connections, flat out, {rounds} rounds")),
        }
        report::table(&rows);
        let [nginx, asking, haproxy, ours] = &rows;
        let goals = match part {
            Part::Http2 => [Goal::at_most(1.0, "nginx h2"), Goal::no("auth_request"), Goal::no("haproxy h2")],
            _ => [Goal::at_most(0.95, "nginx"), Goal::at_most(0.55, "auth_request"), Goal::no("haproxy")],
        };
        for (goal, other) in goals.iter().zip([nginx, asking, haproxy]) {
            report::ratio("CPU per request", goal, &ours.cpu, &other.cpu);
        }
        let name = if part == Part::Http2 { "http2" } else { "http1" };
        report::bars(name, &rows)
    }

    async fn fixed_rate(&mut self, rounds: usize) -> Result<()> {
        let contenders = [&self.direct, &self.nginx, &self.asking, &self.haproxy, &self.company.contender];
        let mut rows = contenders.map(|contender| Row::of(contender.name));
        for _ in 0..rounds {
            for (contender, row) in contenders.iter().zip(&mut rows) {
                measure_h1(contender, row, RATE_CONNECTIONS, Pace::PerSecond(RATE), ROUND).await?;
            }
        }
        report::title(&format!(
            "HTTP/1.1, {RATE} requests a second on {RATE_CONNECTIONS} connections, {rounds} rounds"
        ));
        report::table(&rows);
        let [direct, nginx, asking, _, ours] = &rows;
        let added =
            |row: &Row| row.p50.iter().zip(&direct.p50).map(|(with, without)| with - without).collect::<Vec<_>>();
        report::ratio("added p50", &Goal::at_most(0.5, "auth_request"), &added(ours), &added(asking));
        report::ratio("added p50", &Goal::no("nginx"), &added(ours), &added(nginx));
        report::ratio("p99", &Goal::at_most(1.1, "nginx"), &ours.p99, &nginx.p99);
        Ok(())
    }

    /// The same load with and without a policy that changes each second, in turn.
    async fn swap(&mut self, rounds: usize) -> Result<()> {
        let mut rows = [Row::of("policies at rest"), Row::of("one of them changes each second")];
        let (mut number, mut applied) = (0, Vec::new());
        let length = Duration::from_secs(4);
        for _ in 0..rounds {
            let [rest, change] = &mut rows;
            measure_h1(&self.company.contender, rest, RATE_CONNECTIONS, Pace::PerSecond(SWAP_RATE), length).await?;
            let Company { contender, publisher, .. } = &mut self.company;
            let mut measuring =
                std::pin::pin!(measure_h1(contender, change, RATE_CONNECTIONS, Pace::PerSecond(SWAP_RATE), length));
            let mut every = tokio::time::interval(Duration::from_secs(1));
            loop {
                let changing = async {
                    every.tick().await;
                    number += 1;
                    let begun = Instant::now();
                    publisher.change_one_policy(number).await.map(|()| begun.elapsed())
                };
                tokio::select! {
                    measured = &mut measuring => break measured?,
                    changed = changing => applied.push(micros(changed?)),
                }
            }
        }
        report::title(&format!(
            "HTTP/1.1, {SWAP_RATE} requests a second, {POLICIES} policies, {rounds} rounds of {length:?}"
        ));
        report::table(&rows);
        let [rest, change] = &rows;
        report::ratio("p99", &Goal::at_most(1.1, "at rest"), &change.p99, &rest.p99);
        println!(
            "changes applied: {}, median {:.0} ms each",
            applied.len(),
            crate::statistics::Spread::of(&applied).median / 1e3
        );
        println!();
        Ok(())
    }
}

/// Whom an assertion is about.
fn subject(assertion: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims.get("sub").and_then(serde_json::Value::as_str).map(str::to_owned)
}

async fn measure_h1(
    contender: &Contender,
    row: &mut Row,
    connections: usize,
    pace: Pace,
    length: Duration,
) -> Result<()> {
    let mut open = said(Connections::open(&contender.target, contender.transport, connections).await)?;
    said(open.drive(pace, WARM_UP).await)?;
    let before = spent(contender);
    let outcome = said(open.drive(pace, length).await)?;
    note(contender, row, outcome, before).await;
    Ok(())
}

async fn measure_h2(contender: &Contender, row: &mut Row) -> Result<()> {
    let mut open = said(h2::Connections::open(&contender.target, &contender.request, H2_CONNECTIONS).await)?;
    said(open.drive(H2_STREAMS, Pace::Closed, WARM_UP).await)?;
    let before = spent(contender);
    let outcome = said(open.drive(H2_STREAMS, Pace::Closed, ROUND).await)?;
    note(contender, row, outcome, before).await;
    Ok(())
}

async fn note(contender: &Contender, row: &mut Row, mut outcome: Outcome, before: Duration) {
    tokio::time::sleep(AFTERWARDS).await;
    let cpu = spent(contender).saturating_sub(before);
    let requests = outcome.latencies.len() as f64;
    row.cpu.push(micros(cpu) / requests);
    row.per_second.push(requests / outcome.elapsed.as_secs_f64());
    row.p50.push(micros(percentile(&mut outcome.latencies, 50)));
    row.p99.push(micros(percentile(&mut outcome.latencies, 99)));
}

/// CPU time of a contender so far, with all its helpers.
fn spent(contender: &Contender) -> Duration {
    contender.helpers.iter().chain([&contender.pid]).map(|pid| cpu::of(*pid)).sum()
}

fn said<T>(result: std::result::Result<T, crate::load::Failure>) -> Result<T> {
    result.map_err(|error| error.to_string().into())
}
