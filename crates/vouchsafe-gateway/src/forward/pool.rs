//! Connections to upstreams that wait for their next request.
//!
//! A connection is used again only after the exchange before it was read to its end; anything else
//! is closed. Connections are kept apart by resource, so one resource's never serves another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::Resource;
use vouchsafe_runtime::body::Body;

/// How long a connection may wait. Shorter than the 60–75 s after which servers close theirs.
const IDLE: Duration = Duration::from_secs(45);
/// Most connections that wait for one resource.
const MAX_IDLE: usize = 64;

struct Waiting {
    /// The resource as it was when the connection was opened; a changed one has another.
    resource: Arc<Resource>,
    sender: SendRequest<Body>,
    since: Instant,
}

/// All waiting connections.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<ResourceName, Vec<Waiting>>>);

impl Pool {
    /// A connection for exactly this version of the resource, newest first.
    pub(crate) fn take(&self, resource: &Arc<Resource>) -> Option<SendRequest<Body>> {
        let mut pool = self.0.lock();
        let waiting = pool.get_mut(&resource.name)?;
        while let Some(candidate) = waiting.pop() {
            let usable = *candidate.resource == **resource
                && candidate.since.elapsed() < IDLE
                && !candidate.sender.is_closed()
                && candidate.sender.is_ready();
            if usable {
                return Some(candidate.sender);
            }
        }
        None
    }

    /// Gives a connection back whose last exchange is over.
    pub(crate) fn give_back(&self, resource: Arc<Resource>, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut pool = self.0.lock();
        let waiting = pool.entry(resource.name.clone()).or_default();
        if waiting.len() < MAX_IDLE {
            waiting.push(Waiting { resource, sender, since: Instant::now() });
        }
    }

    /// Closes connections that have waited too long or are closed already.
    pub(crate) fn tidy(&self) {
        self.0.lock().retain(|_, waiting| {
            waiting.retain(|candidate| candidate.since.elapsed() < IDLE && !candidate.sender.is_closed());
            !waiting.is_empty()
        });
    }
}
