//! The promise that a revoked right is dead within a second, measured: many open flows of every kind, a change that ends
//! the right behind some of them, and the time from then to the last byte of each that arrives at the upstream.
//!
//! The change is one policy that is taken out, or one membership or lock for each of several people. Time counts from
//! when the administrator's request was *sent*, so what the API itself takes is in it. The upstream notes when the last byte
//! of each flow arrived, and when it saw its end (FIN, RST or the close of a WebSocket). Every flow whose right ends
//! carries a byte again and again, the others seldom.
//!
//! - `kind`: the kinds of flow
//! - `upstream`, `clients` (with `h3`): both ends, each a process of its own
//! - `installed` (with `network`): what is measured
//! - `report`: what came out

mod clients;
mod h3;
pub(crate) mod installed;
mod kind;
mod network;
mod report;
mod upstream;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::{Value, json};
use vouchsafe_runtime::clock;

use self::clients::{Flow, Order};
use self::installed::{Form, Installed, LEAVING, person};
use self::kind::Kind;
use self::report::{Measured, Report};
use crate::ours::{OTHERS, listening, pinned};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longest wait for all flows to be open, and for those to end whose right has.
const OPENING: Duration = Duration::from_secs(120);
const ENDING: Duration = Duration::from_secs(10);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long everything rests before a change, and after the last flow has ended.
const REST: Duration = Duration::from_secs(3);
/// How often a flow carries a byte that nobody revokes.
const SELDOM_MS: u64 = 10_000;

/// How large a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    /// Open flows, over all kinds.
    flows: usize,
    /// People they belong to, each with all kinds.
    people: usize,
    /// Those of them whose right ends.
    leaving: usize,
    /// Milliseconds between two bytes of their flows.
    every: u64,
    /// How often each change is made.
    rounds: usize,
}

impl Shape {
    /// Ten people, since more than so many are not signed in at once from one address.
    const DEFAULT: Self = Self { flows: 10_000, people: 10, leaving: 1, every: 100, rounds: 3 };
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// One policy is taken out.
    Policy,
    /// Each of them is taken out of the group, all at once.
    Group,
    /// Each of them is locked, all at once.
    Lock,
}

impl Change {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Change::Policy => "policy",
            Change::Group => "group",
            Change::Lock => "lock",
        }
    }
}

/// Runs one end of a flow.
pub(crate) fn end(name: &str, arguments: &[String]) -> Result<()> {
    match name {
        "revoke-upstream" => upstream::run(arguments),
        "revoke-clients" => clients::run(),
        _ => Err(format!("no end is called `{name}`").into()),
    }
}

/// Reads arguments: `[one | apart] [--flows N] [--people N] [--leaving N] [--every MS] [--rounds N] [--json]`.
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut forms, mut shape, mut as_json) = (vec![Form::One, Form::Apart], Shape::DEFAULT, false);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<usize> { Ok(arguments.next().ok_or("a number is missing")?.parse()?) };
        match argument.as_str() {
            "one" => forms = vec![Form::One],
            "apart" => forms = vec![Form::Apart],
            "--flows" => shape.flows = number()?,
            "--people" => shape.people = number()?,
            "--leaving" => shape.leaving = number()?,
            "--every" => shape.every = number()?.try_into()?,
            "--rounds" => shape.rounds = number()?,
            "--json" => as_json = true,
            other => return Err(format!("`{other}` is no argument of `revoke`").into()),
        }
    }
    if shape.flows < shape.people * Kind::ALL.len() || shape.leaving > shape.people || shape.every == 0 {
        return Err(format!("each person needs a flow of each of the {} kinds", Kind::ALL.len()).into());
    }
    // The processes that hold flows inherit it.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    for form in forms {
        let report = measure(form, &shape).await?;
        if as_json { report.json()? } else { report.table() }
    }
    Ok(())
}

async fn measure(form: Form, shape: &Shape) -> Result<Report> {
    let dir = tempfile::tempdir_in(std::env::current_exe()?.parent().ok_or("no directory")?)?;
    let mut installed = Installed::start(form, dir.path()).await?;
    let (upstream, said) = End::announced(&["revoke-upstream", &installed.upstream_ip.to_string()])?;
    let each = shape.flows / shape.people / Kind::ALL.len();
    let far = Kind::ALL.iter().filter(|kind| kind.is_far()).count() * each * shape.people;
    let far_of_each = far.div_ceil(installed.gateways.len());
    installed.furnish(listening(&said)?, far_of_each, shape.people, shape.leaving).await?;
    let mut clients = End::start(&["revoke-clients"])?;
    clients.send(&serde_json::to_string(&installed.place()?)?)?;
    let mut run = Run { installed, upstream, clients, shape, each, next: 1, places: BTreeMap::new() };
    // What is in force everywhere and which connectors are attached settles first.
    tokio::time::sleep(REST).await;
    run.open(0..shape.people).await?;
    let mut report = Report::new(form, shape, each);
    for round in 0..shape.rounds {
        let last = round + 1 == shape.rounds;
        for change in [Change::Policy, Change::Group, Change::Lock] {
            // A lock ends sessions as well, so nothing comes behind it.
            if change == Change::Lock && !last {
                continue;
            }
            tokio::time::sleep(REST).await;
            report.add(change, run.revoke(change).await?);
            if change != Change::Lock {
                run.restore(change).await?;
                run.open(0..shape.leaving).await?;
            }
        }
    }
    run.upstream.stop();
    run.clients.stop();
    Ok(report)
}

struct Run<'s> {
    installed: Installed,
    upstream: End,
    clients: End,
    shape: &'s Shape,
    /// Flows of each kind that each person has.
    each: usize,
    next: u64,
    /// Kind and person of each flow that is open.
    places: BTreeMap<u64, (Kind, usize)>,
}

impl Run<'_> {
    /// Opens all flows of these people, spread over the gateways, and waits until all are at the upstream.
    async fn open(&mut self, people: std::ops::Range<usize>) -> Result<()> {
        let tokens = self.installed.tokens(people.clone()).await?;
        let (mut flows, first) = (Vec::new(), self.next);
        for person in people {
            for (at, kind) in Kind::ALL.into_iter().enumerate() {
                for one in 0..self.each {
                    let gateways: &[SocketAddr] = &self.installed.gateways;
                    let gateway = gateways.get((person + at + one) % gateways.len()).ok_or("no gateway")?;
                    let every = if person < self.shape.leaving { self.shape.every } else { SELDOM_MS };
                    let kind_name = kind.name().to_owned();
                    flows.push(Flow { number: self.next, kind: kind_name, person, gateway: *gateway, every });
                    self.places.insert(self.next, (kind, person));
                    self.next += 1;
                }
            }
        }
        let wanted = flows.len();
        let said = self.clients.ask(&serde_json::to_string(&Order { tokens, flows })?)?;
        if said.get("failed") != Some(&json!(0)) {
            return Err(format!("not all flows could be opened: {said}").into());
        }
        let begun = clock::since_boot();
        loop {
            let open = self.upstream.ask(&format!("count {first}"))?;
            if open == json!(wanted) {
                return Ok(());
            }
            if clock::since_boot() - begun > OPENING {
                return Err(format!("of {wanted} flows {open} arrived at the upstream").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes the change, waits for the ends, and gives what was seen.
    async fn revoke(&mut self, change: Change) -> Result<Vec<Measured>> {
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let (sent, took) = self.change(change).await?;
        let open = self.places.len();
        let concerned = self.places.values().filter(|(_, person)| *person < self.shape.leaving).count();
        let begun = clock::since_boot();
        while self.upstream.ask("count 0")?.as_u64() > u64::try_from(open - concerned).ok()
            && clock::since_boot() - begun < ENDING
        {
            tokio::time::sleep(LOOK).await;
        }
        // Whether anything follows what seemed to be the end.
        tokio::time::sleep(REST).await;
        let rows: Vec<(u64, u64, u64)> = serde_json::from_value(self.upstream.ask("report 0")?)?;
        let mut measured = Vec::new();
        for (number, last, ended) in rows {
            let Some((kind, person)) = self.places.get(&number).copied() else { continue };
            let is_concerned = person < self.shape.leaving;
            match (is_concerned, ended) {
                (true, 0) => return Err(format!("a flow outlived its right ({}, {change:?})", kind.words()).into()),
                (false, 0) => continue,
                (false, _) => {
                    return Err(format!("a flow ended that nobody revoked ({}, {change:?})", kind.words()).into());
                }
                (true, _) => {}
            }
            let from = u64::try_from(sent.get(&person).ok_or("no change of hers")?.as_micros())?;
            measured.push(Measured {
                kind,
                // What came before the change is no byte behind it.
                last: kind.client_sends().then(|| Duration::from_micros(last.saturating_sub(from))),
                end: Duration::from_micros(ended.saturating_sub(from)),
                took: *took.get(&person).ok_or("no change of hers")?,
                load: load.trim().to_owned(),
                open,
            });
            self.places.remove(&number);
        }
        if measured.len() != concerned {
            return Err(format!("{concerned} flows lost their right, and {} are known", measured.len()).into());
        }
        Ok(measured)
    }

    /// When the change that concerns each person was sent, and how long its answer took.
    async fn change(&self, change: Change) -> Result<(BTreeMap<usize, Duration>, BTreeMap<usize, Duration>)> {
        let people = 0..self.shape.leaving;
        if change == Change::Policy {
            let sent = self.installed.apply(false).await?;
            let took = clock::since_boot() - sent;
            return Ok((
                people.clone().map(|person| (person, sent)).collect(),
                people.map(|one| (one, took)).collect(),
            ));
        }
        let changes = people.map(|number| async move {
            let (sent, name) = (clock::since_boot(), person(number));
            let admin = &self.installed.admin;
            match change {
                Change::Lock => {
                    let lock = json!({"kind": "user", "name": name, "reason": "bench"});
                    let _: Value = admin.post("/v1/locks", &lock).await?;
                }
                Change::Policy | Change::Group => {
                    admin.delete(&format!("/v1/groups/{LEAVING}/members/{name}")).await?;
                }
            }
            Ok::<_, Box<dyn Error>>((number, sent, clock::since_boot() - sent))
        });
        let (mut all_sent, mut all_took) = (BTreeMap::new(), BTreeMap::new());
        for changed in futures_util::future::join_all(changes).await {
            let (number, sent, took) = changed?;
            all_sent.insert(number, sent);
            all_took.insert(number, took);
        }
        Ok((all_sent, all_took))
    }

    /// Takes the change back, and waits until that is in force.
    async fn restore(&self, change: Change) -> Result<()> {
        match change {
            Change::Policy => drop(self.installed.apply(true).await?),
            Change::Group => {
                for number in 0..self.shape.leaving {
                    let path = format!("/v1/groups/{LEAVING}/members/{}", person(number));
                    let _: Value = self.installed.admin.put(&path).await?;
                }
            }
            Change::Lock => {}
        }
        tokio::time::sleep(REST).await;
        Ok(())
    }
}

/// A process of ours that answers lines with lines. It ends when its standard input does.
struct End {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl End {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = pinned(OTHERS, &std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, input, output })
    }

    /// The same; gives what it says first.
    fn announced(arguments: &[&str]) -> Result<(Self, Value)> {
        let mut end = Self::start(arguments)?;
        let said = end.said()?;
        Ok((end, said))
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or("it has ended")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    fn said(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| format!("an end of the flows said `{line}`").into())
    }

    fn ask(&mut self, line: &str) -> Result<Value> {
        self.send(line)?;
        self.said()
    }

    fn stop(&mut self) {
        self.input = None;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
