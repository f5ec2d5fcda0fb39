//! What an attached gateway is told: changes in the order of the feed, snapshots, and that all of it is out.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::roster::announceable;
use vouchsafe_wire::control::message::{Deltas, Down, DownKind, Hello, Pong, Welcome};
use vouchsafe_wire::control::{MAX_CHANGES, VERSION, frame};
use vouchsafe_wire::roster::MAX_ADDRESSES;

use super::Outgoing;
use super::outcome::with_outcomes;
use super::stream::Ended;
use crate::checkpoints::Checkpoints;
use crate::context::Context;
use crate::store::certified::{self, Holder};
use crate::store::feed::{self, Entry, FeedReader, Row, Since};
use crate::store::{Store, StoreError, gateways};

pub(super) async fn send(out: &mpsc::Sender<Bytes>, kind: DownKind) -> Result<(), Ended> {
    out.send(frame(&Down { kind: Some(kind) })).await.map_err(|_| Ended::Gone)
}

/// Shortest time between two checkpoints that one gateway is told: it syncs each to its disk.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(5);

/// Waits until there is a larger checkpoint than the one that was told, and its time has come; false when there will be none.
async fn newer(signed: &mut watch::Receiver<u64>, (told, next): (u64, Instant)) -> bool {
    let there = signed.wait_for(|size| *size > told).await.is_ok();
    tokio::time::sleep_until(next).await;
    there
}

/// Where a stream begins.
pub(super) struct Beginning {
    feed: FeedReader,
    /// What came before is not told, as it can't concern a gateway that knows nothing yet.
    skipped: Option<u64>,
    /// Newest row that tells of a snapshot.
    snapshot_row: u64,
}

impl Beginning {
    /// `None` when the gateway is none of ours.
    pub(super) async fn of(
        context: &Context,
        gateway: GatewayId,
        ip: IpAddr,
        hello: &Hello,
    ) -> Result<Option<Self>, StoreError> {
        let Context { store, rosters, .. } = context;
        let mut read = store.read().await?;
        let newest = feed::newest(&mut read).await?;
        let snapshot_row = feed::newest_snapshot(&mut read).await?;
        drop(read);
        let skipped = (hello.last_sequence == 0).then_some(newest);
        let feed = store.follow(skipped.unwrap_or(hello.last_sequence));
        // Behind the point from which its removal would be read.
        let mut write = store.write().await?;
        if gateways::find(write.connection(), &gateway).await?.is_none() {
            return Ok(None);
        }
        gateways::came_from(write.connection(), &gateway, ip).await?;
        certified::seen(write.connection(), Holder::Gateway(gateway), clock::unix_seconds(clock::now())).await?;
        let addresses: Vec<Endpoint> =
            hello.addresses.iter().take(MAX_ADDRESSES).filter_map(|text| announceable(text)).collect();
        let elsewhere = gateways::announces(write.connection(), &gateway, &addresses).await?;
        write.commit().await?;
        if elsewhere {
            rosters.gateways_changed();
        }
        Ok(Some(Self { feed, skipped, snapshot_row }))
    }
}

/// The half that tells.
pub(super) struct Teller {
    store: Store,
    gateway: GatewayId,
    out: mpsc::Sender<Bytes>,
    feed: FeedReader,
    skipped: Option<u64>,
    snapshots: watch::Receiver<Option<Outgoing>>,
    /// Lists of gateways, which it hands on to connectors.
    rosters: watch::Receiver<Option<Bytes>>,
    /// Checkpoints of the audit log, which it keeps.
    checkpoints: Arc<Checkpoints>,
    signed: watch::Receiver<u64>,
    /// Size of the newest that it was told, and when the next may be.
    checkpoint: (u64, Instant),
    /// Snapshot that the gateway has.
    snapshot: u64,
    /// Row of the feed that told of the newest snapshot: what is older is not the truth any more.
    snapshot_row: u64,
    /// The ping that is to be answered, once the snapshot of this row is out.
    due: Option<(u64, u64)>,
}

impl Teller {
    pub(super) fn new(
        context: &Context,
        gateway: GatewayId,
        hello: &Hello,
        beginning: Beginning,
        mut snapshots: watch::Receiver<Option<Outgoing>>,
        out: mpsc::Sender<Bytes>,
    ) -> Self {
        let Beginning { feed, skipped, snapshot_row } = beginning;
        // The first look is at what is there.
        snapshots.mark_changed();
        let mut rosters = context.rosters.newest();
        rosters.mark_changed();
        let (store, snapshot) = (context.store.clone(), hello.snapshot_sequence);
        let checkpoints = Arc::clone(&context.checkpoints);
        let (signed, checkpoint) = (checkpoints.follow(), (0, Instant::now()));
        Self {
            store,
            gateway,
            out,
            feed,
            skipped,
            snapshots,
            rosters,
            checkpoints,
            signed,
            checkpoint,
            snapshot,
            snapshot_row,
            due: None,
        }
    }

    /// Tells until the gateway goes or is removed.
    pub(super) async fn tell(
        &mut self,
        lease: Duration,
        mut pings: watch::Receiver<Option<u64>>,
    ) -> Result<Infallible, Ended> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or_default();
        send(&self.out, DownKind::Welcome(Welcome { version: VERSION, lease_ms })).await?;
        if let Some(through) = self.skipped {
            let deltas = Deltas { after: 0, through, changes: Vec::new(), everything: true };
            send(&self.out, DownKind::Deltas(deltas)).await?;
        }
        loop {
            let before = self.feed.position();
            tokio::select! {
                found = self.feed.next() => self.deltas(before, found?).await?,
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| Ended::Gone)?;
                    self.send_snapshot().await?;
                }
                changed = self.rosters.changed() => {
                    changed.map_err(|_| Ended::Gone)?;
                    let roster = self.rosters.borrow_and_update().clone();
                    if let Some(roster) = roster {
                        send(&self.out, DownKind::Roster(roster)).await?;
                    }
                }
                signed = newer(&mut self.signed, self.checkpoint) => {
                    if !signed {
                        return Err(Ended::Gone);
                    }
                    self.send_checkpoint().await?;
                }
                // One at a time: the newest of those that came meanwhile is next.
                changed = pings.changed(), if self.due.is_none() => {
                    changed.map_err(|_| Ended::Gone)?;
                    let ping = *pings.borrow_and_update();
                    self.catch_up().await?;
                    self.due = ping.map(|nonce| (nonce, self.snapshot_row));
                }
            }
            if let Some((nonce, row)) = self.due
                && self.snapshot >= row
            {
                self.due = None;
                send(&self.out, DownKind::Pong(Pong { nonce, sequence: self.feed.position() })).await?;
            }
        }
    }

    /// Tells of whatever was committed until now, and of no more: what goes on being committed must not keep the
    /// answer to a ping back.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        let newest = feed::newest(&mut *self.store.read().await?).await?;
        while self.feed.position() < newest {
            let before = self.feed.position();
            let found = self.feed.now().await?;
            if found == Since::Rows(Vec::new()) {
                return Ok(());
            }
            self.deltas(before, found).await?;
        }
        Ok(())
    }

    /// Sends the snapshot that is in force. One with a lower number than the gateway has is sent too: what
    /// that means, the gateway says.
    async fn send_snapshot(&mut self) -> Result<(), Ended> {
        let Some(Outgoing { sequence, message }) = self.snapshots.borrow_and_update().clone() else { return Ok(()) };
        if sequence != self.snapshot {
            self.out.send(message).await.map_err(|_| Ended::Gone)?;
            self.snapshot = sequence;
        }
        Ok(())
    }

    /// Sends the newest checkpoint, unless it is in doubt whether it is one.
    async fn send_checkpoint(&mut self) -> Result<(), Ended> {
        let published = self.checkpoints.published().filter(|_| self.checkpoints.trouble().is_none());
        let size = published.as_ref().map_or(0, |published| published.checkpoint.size);
        self.checkpoint = (size.max(*self.signed.borrow()), Instant::now() + CHECKPOINT_PAUSE);
        match published {
            Some(published) => send(&self.out, DownKind::Checkpoint(published.note.to_string().into())).await,
            None => Ok(()),
        }
    }

    async fn deltas(&mut self, after: u64, found: Since) -> Result<(), Ended> {
        let rows = match found {
            Since::Everything { sequence } => {
                let mut read = self.store.read().await?;
                if gateways::find(&mut read, &self.gateway).await?.is_none() {
                    return Err(Ended::Removed);
                }
                self.snapshot_row = feed::newest_snapshot(&mut read).await?;
                drop(read);
                let deltas = Deltas { after, through: sequence, changes: Vec::new(), everything: true };
                return send(&self.out, DownKind::Deltas(deltas)).await;
            }
            Since::Rows(rows) => rows,
        };
        debug_assert!(rows.len() <= MAX_CHANGES);
        let mut changed = Vec::with_capacity(rows.len());
        for Row { entry, sequence } in rows {
            match entry {
                Entry::Facts(change) => changed.push((sequence, change)),
                Entry::Gateway(id) if id == self.gateway => return Err(Ended::Removed),
                Entry::Gateway(_) => {}
                // It comes by its own way; no ping from here on is answered before.
                Entry::Snapshot => self.snapshot_row = sequence,
            }
        }
        // Behind the rows, so that it is never older than they are.
        let changes = with_outcomes(&self.store, changed).await;
        let deltas = Deltas { after, through: self.feed.position(), changes, everything: false };
        send(&self.out, DownKind::Deltas(deltas)).await
    }
}

#[cfg(test)]
mod tests;
