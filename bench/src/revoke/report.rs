//! What came out, as a table and as JSON.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};

use super::installed::Form;
use super::kind::Kind;
use super::{Change, Shape};
use crate::statistics::percentile;

/// The promise.
const GOAL: Duration = Duration::from_secs(1);

/// One flow whose right ended.
pub(crate) struct Measured {
    pub(crate) kind: Kind,
    /// From the change to its last byte at the upstream; `None` where the client sends none.
    pub(crate) last: Option<Duration>,
    /// From the change to its end there.
    pub(crate) end: Duration,
    /// How long the change's request took.
    pub(crate) took: Duration,
    /// `/proc/loadavg` right before.
    pub(crate) load: String,
    /// Flows that were open.
    pub(crate) open: usize,
}

/// All changes of one form.
pub(crate) struct Report {
    form: Form,
    shape: Shape,
    each: usize,
    changes: Vec<(Change, Vec<Measured>)>,
}

/// 50th and 99th percentile, and the most.
struct Figures([Duration; 3]);

impl Figures {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        let most = times.iter().max().copied()?;
        Some(Self([percentile(&mut times, 50), percentile(&mut times, 99), most]))
    }

    fn milliseconds(&self) -> [f64; 3] {
        self.0.map(|time| (time.as_secs_f64() * 1e4).round() / 10.0)
    }

    fn json(of: Option<Self>) -> Value {
        of.map_or(Value::Null, |figures| {
            let [p50, p99, max] = figures.milliseconds();
            json!({"p50_ms": p50, "p99_ms": p99, "max_ms": max})
        })
    }

    fn words(of: Option<Self>) -> String {
        of.map_or("".to_owned(), |figures| {
            let [p50, p99, max] = figures.milliseconds();
            format!("{p50:.0} / {p99:.0} / {max:.0}")
        })
    }
}

impl Report {
    pub(crate) fn new(form: Form, shape: &Shape, each: usize) -> Self {
        Self { form, shape: shape.clone(), each, changes: Vec::new() }
    }

    pub(crate) fn add(&mut self, change: Change, measured: Vec<Measured>) {
        match self.changes.iter_mut().find(|(known, _)| *known == change) {
            Some((_, all)) => all.extend(measured),
            None => self.changes.push((change, measured)),
        }
    }

    /// For people.
    pub(crate) fn table(&self) {
        let Shape { people, leaving, every, .. } = self.shape;
        println!(
            "{}; {people} people with {} flows of each of {} kinds.",
            self.form.words(),
            self.each,
            Kind::ALL.len()
        );
        println!(
            "The right of {leaving} of them ends; their flows carry a byte every {every} ms. Times in ms, p50 / p99 / \
             max, from when the administrator's request was sent. Product on one processor, clients and upstream on \
             another.\n"
        );
        for (change, measured) in &self.changes {
            let open = measured.iter().map(|one| one.open).max().unwrap_or_default();
            let took = Figures::of(measured.iter().map(|one| one.took).collect());
            let mut loads: Vec<&str> = measured.iter().map(|one| one.load.as_str()).collect();
            loads.dedup();
            println!("| {}: {open} open | flows | last byte at the upstream | end at the upstream |", change.name());
            println!("| --- | --- | --- | --- |");
            let groups = Kind::ALL.iter().map(|kind| (kind.words(), Some(*kind))).chain([("all", None)]);
            for (words, kind) in groups {
                let (count, last, end) = figures(measured, kind);
                println!("| {words} | {count} | {} | {} |", Figures::words(last), Figures::words(end));
            }
            println!("\nThe request itself took {}; load average before: {}.", Figures::words(took), loads.join(", "));
            let (_, _, end) = figures(measured, None);
            let holds = end.is_some_and(|Figures([_, p99, _])| p99 <= GOAL);
            println!("p99 within {GOAL:?}: {}\n", if holds { "yes" } else { "NO" });
        }
    }

    /// For programs: one line.
    pub(crate) fn json(&self) -> Result<(), Box<dyn Error>> {
        let changes: Vec<Value> = self.changes.iter().map(|(change, measured)| {
            let kinds: Vec<Value> = Kind::ALL.iter().map(|kind| (kind.name(), Some(*kind))).chain([("all", None)]).map(|(name, kind)| {
                let (count, last, end) = figures(measured, kind);
                json!({"kind": name, "flows": count, "last_byte": Figures::json(last), "end": Figures::json(end)})
            }).collect();
            let took = Figures::of(measured.iter().map(|one| one.took).collect());
            let mut loads: Vec<&str> = measured.iter().map(|one| one.load.as_str()).collect();
            loads.dedup();
            let open = measured.iter().map(|one| one.open).max();
            json!({"change": change.name(), "open": open, "request": Figures::json(took), "loadavg": loads, "kinds": kinds})
        }).collect();
        crate::say(&json!({"form": self.form.name(), "shape": self.shape, "changes": changes}))
    }
}

/// Of one kind, or of all: how many, their last bytes, their ends.
fn figures(measured: &[Measured], kind: Option<Kind>) -> (usize, Option<Figures>, Option<Figures>) {
    let of_kind = || measured.iter().filter(|one| kind.is_none_or(|kind| one.kind == kind));
    let last = Figures::of(of_kind().filter_map(|one| one.last).collect());
    (of_kind().count(), last, Figures::of(of_kind().map(|one| one.end).collect()))
}
