//! The signed list of gateways for connectors (`docs/spec/connector.md`): made at the start, at each change of the
//! gateways, and once in a while, since each says something for a time only.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::roster::{ROSTER_LIFE, Roster};
use vouchsafe_wire::roster::{MAX_GATEWAYS, MAX_ROSTER_BYTES};

use crate::ca::{CaError, RosterSigner};
use crate::context::Context;
use crate::store::{StoreError, feed, gateways};

/// How often a new list is made though nothing has changed.
const EVERY: Duration = Duration::from_secs(3600);
/// Wait after one that could not be made.
const RETRY: Duration = Duration::from_secs(1);

/// The newest list, and who asks for the next.
#[derive(Default)]
pub(crate) struct Rosters {
    newest: watch::Sender<Option<Bytes>>,
    changed: Notify,
}

impl Rosters {
    /// The newest list with its signature, and a signal at each new one.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<Bytes>> {
        self.newest.subscribe()
    }

    /// Says that gateways, or where they are reached, are others from the last commit on.
    pub(crate) fn gateways_changed(&self) {
        self.changed.notify_one();
    }
}

/// Makes the first list, and keeps making new ones.
pub(crate) async fn start(context: &Context) -> Result<(), CaError> {
    let mut maker = Maker { context: context.clone(), signer: signer(context).await?, last: SystemTime::UNIX_EPOCH };
    maker.make().await?;
    let tasks = context.tasks.clone();
    context.tasks.spawn_vital("lists of gateways", async move {
        loop {
            tokio::select! {
                () = maker.context.rosters.changed.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
                () = tasks.draining() => return,
            }
            while let Err(error) = maker.make().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the list of gateways can't be made; it is tried again"
                );
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = tasks.draining() => return,
                }
            }
        }
    });
    Ok(())
}

async fn signer(context: &Context) -> Result<RosterSigner, CaError> {
    let now = clock::unix_seconds(clock::now());
    context.ca.roster_signer(&context.store, &context.settings, now).await
}

struct Maker {
    context: Context,
    signer: RosterSigner,
    /// When the last one was made: of two with the same number the later is the newer, whatever the clock does.
    last: SystemTime,
}

impl Maker {
    async fn make(&mut self) -> Result<(), CaError> {
        let now = clock::now();
        if clock::unix_seconds(now) >= self.signer.renew_at {
            self.signer = signer(&self.context).await?;
        }
        let made = now.max(self.last + Duration::from_micros(1));
        let mut roster = roster(&self.context, made).await?;
        let domain = &self.context.settings.domain;
        let mut signed = self.signer.sign(roster.payload(domain))?;
        if signed.len() > MAX_ROSTER_BYTES {
            tracing::error!(
                "the addresses of the gateways are too long for one list; connectors find them by DNS only"
            );
            roster.gateways.iter_mut().for_each(|(_, addresses)| addresses.clear());
            signed = self.signer.sign(roster.payload(domain))?;
        }
        self.last = made;
        self.context.rosters.newest.send_replace(Some(signed));
        Ok(())
    }
}

/// The gateways of this moment: the one in this process, and those that joined.
async fn roster(context: &Context, made: SystemTime) -> Result<Roster, StoreError> {
    let mut read = context.store.read().await?;
    let sequence = feed::newest(&mut read).await?;
    let mut all = vec![(context.ca.gateway_identity().id, Vec::new())];
    all.extend(gateways::announced(&mut read).await?);
    if all.len() > MAX_GATEWAYS {
        tracing::error!(most = MAX_GATEWAYS, "there are more gateways than connectors can be told of");
        all.truncate(MAX_GATEWAYS);
    }
    Ok(Roster { sequence, made, ends: made + ROSTER_LIFE, gateways: all })
}

#[cfg(test)]
mod tests;
