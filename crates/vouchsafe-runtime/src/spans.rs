//! Where the time of a request went: a span for each request and one for each stage of it, exported by OTLP. A controller
//! has one for each question of a gateway too.
//!
//! Nothing is noted unless an endpoint was given. What is noted says which decision it was and how it went, and nothing of
//! who asked for what: no user, device, address, path or query. The decision's id leads to all that in the audit log.
//!
//! Spans are for finding what is slow, so they may be lost: they wait in a bounded queue, and where that is full, or nobody
//! takes them at the endpoint, they go. No request ever waits for it.

mod export;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::{HeaderMap, Method};
use tokio::sync::mpsc;

pub use self::export::{Endpoint, EndpointError, SendError};
use crate::clock;
use crate::task::TaskGroup;

/// Requests whose spans wait for being exported.
const QUEUE: usize = 2_048;
/// Stages of one request that are kept.
const MAX_STAGES: usize = 16;

/// Where spans go, and what goes along.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Where.
    pub endpoint: Endpoint,
    /// Header fields; they may be secrets, so each is marked as sensitive.
    pub headers: HeaderMap,
    /// Roots that its certificate must lead to, PEM; otherwise those of the public authorities.
    pub roots_pem: Option<String>,
    /// What is known of this process; `service.name` takes the place of ours.
    pub attributes: Vec<(String, String)>,
}

impl Collector {
    /// One to which nothing goes along.
    #[must_use]
    pub fn at(endpoint: Endpoint) -> Self {
        Self { endpoint, headers: HeaderMap::new(), roots_pem: None, attributes: Vec::new() }
    }
}

/// Takes spans of requests, where they are wanted.
pub struct Spans {
    queue: mpsc::Sender<Trace>,
    /// Requests whose spans were lost.
    lost: Arc<AtomicU64>,
}

/// One request or question, and what became of it.
#[derive(Debug)]
struct Trace {
    trace: [u8; 16],
    began: SystemTime,
    ended: SystemTime,
    root: Root,
    decided: Option<Decided>,
    stages: Vec<Stage>,
}

/// What a trace is of.
#[derive(Debug, Clone, Copy)]
enum Root {
    Request { method: &'static str, protocol: &'static str, status: u16 },
    Question { kind: &'static str, failed: bool },
}

/// What was decided, for its span.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Id of the decision and of its audit record.
    pub decision: String,
    /// `allow` or `deny`.
    pub outcome: &'static str,
    /// Reason, as in audit records.
    pub reason: &'static str,
    /// Name of the resource, where there is one.
    pub resource: Option<String>,
    /// Id of the flow, where one was opened.
    pub flow: Option<String>,
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    began: SystemTime,
    ended: SystemTime,
}

/// What is noted while a request is worked on.
#[derive(Debug, Default)]
struct Notes {
    decided: Option<Decided>,
    stages: Vec<Stage>,
}

tokio::task_local! {
    static NOTES: RefCell<Notes>;
}

impl Spans {
    /// Exports to that collector until the group ends. `service` is what the process calls itself, with its version.
    #[must_use]
    pub fn start(collector: Collector, service: (&'static str, &'static str), tasks: &TaskGroup) -> Arc<Self> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let exporter = export::Exporter::new(collector, service, Arc::clone(&lost), tasks.clone());
        tasks.spawn("spans", exporter.run(requests));
        Arc::new(Self { queue, lost })
    }

    /// Works on a request, and notes how long each stage of that took. `status` reads the answer.
    pub async fn of<F: Future>(
        &self,
        method: &Method,
        protocol: &'static str,
        work: F,
        status: impl FnOnce(&F::Output) -> u16,
    ) -> F::Output {
        let method = known(method);
        self.noted(work, |output| Root::Request { method, protocol, status: status(output) }).await
    }

    /// Answers a question of that kind; `failed` says whether that could not be done.
    pub async fn of_question<F: Future>(
        &self,
        kind: &'static str,
        work: F,
        failed: impl FnOnce(&F::Output) -> bool,
    ) -> F::Output {
        self.noted(work, |output| Root::Question { kind, failed: failed(output) }).await
    }

    async fn noted<F: Future>(&self, work: F, root: impl FnOnce(&F::Output) -> Root) -> F::Output {
        let (trace, began) = (clock::random(), clock::now());
        let noted = async {
            let output = work.await;
            (output, NOTES.with(RefCell::take))
        };
        let (output, Notes { decided, stages }) = NOTES.scope(RefCell::default(), noted).await;
        let trace = Trace { trace, began, ended: clock::now(), root: root(&output), decided, stages };
        if self.queue.try_send(trace).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        output
    }
}

/// A stage of a request, from here until it is dropped. Costs a look at a thread's variable where nothing is noted.
#[must_use = "the stage ends when this is dropped"]
pub fn stage(name: &'static str) -> impl Drop + Send {
    struct Open(Option<(&'static str, SystemTime)>);

    impl Drop for Open {
        fn drop(&mut self) {
            let Some((name, began)) = self.0 else { return };
            // Outside of its request nobody asks any more.
            let _ = NOTES.try_with(|notes| {
                let stages = &mut notes.borrow_mut().stages;
                if stages.len() < MAX_STAGES {
                    stages.push(Stage { name, began, ended: clock::now() });
                }
            });
        }
    }

    Open(NOTES.try_with(|_| (name, clock::now())).ok())
}

/// Notes what was decided; the last one counts. `decided` is asked only where something is noted.
pub fn decided(decided: impl FnOnce() -> Decided) {
    let _ = NOTES.try_with(|notes| notes.borrow_mut().decided = Some(decided()));
}

/// The method, where it is one of HTTP's: clients may send any text.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// What one batch is made of: that many requests at most.
type Batch = Vec<Trace>;

#[cfg(test)]
mod tests;
