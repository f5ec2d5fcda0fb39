//! A controller for unit tests that answers little, and fails where it is told to.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use vouchsafe_model::id::{DeviceId, GatewayId};
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_runtime::link::{
    BoxFuture, ControlLink, Credential, Freshness, GatewayCertificates, KnownSubject, LEASE, LinkError, News,
    NoSubject, RecordBatch, RedeemedCode, Snapshot,
};

/// Never answers who redeems a code, or always no; fails so many deliveries before it takes one.
#[derive(Default)]
pub(crate) struct PoorLink {
    /// Codes that came.
    pub(crate) codes: AtomicU64,
    /// Whether each is told to be none.
    pub(crate) refuses_codes: AtomicBool,
    /// Deliveries that fail still.
    pub(crate) failing: AtomicU64,
}

impl ControlLink for PoorLink {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        panic!("not asked for here")
    }

    fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>> {
        panic!("not asked for here")
    }

    fn news(&self) -> broadcast::Receiver<News> {
        panic!("not asked for here")
    }

    fn freshness(&self) -> Freshness {
        Freshness { silence: Duration::ZERO, lease: LEASE }
    }

    fn subject(&self, _: Credential) -> BoxFuture<'_, Result<Result<KnownSubject, NoSubject>, LinkError>> {
        panic!("not asked for here")
    }

    fn device(&self, _: DeviceId) -> BoxFuture<'_, Result<Option<DeviceFacts>, LinkError>> {
        panic!("not asked for here")
    }

    fn redeem(
        &self,
        _: String,
        _: String,
        _: Option<DeviceId>,
        _: IpAddr,
    ) -> BoxFuture<'_, Result<Option<RedeemedCode>, LinkError>> {
        self.codes.fetch_add(1, Ordering::SeqCst);
        match self.refuses_codes.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Ok(None))),
            false => Box::pin(std::future::pending()),
        }
    }

    fn deliver(&self, _: GatewayId, _: RecordBatch) -> BoxFuture<'_, Result<u64, LinkError>> {
        let fails = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let answer = if fails { Err(LinkError { why: "the control channel is down".into() }) } else { Ok(7) };
        Box::pin(std::future::ready(answer))
    }
}
