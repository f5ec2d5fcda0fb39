//! What gateways ask of the controller, answered from the store.
//!
//! The epoch of a subject's facts is the highest number of the change feed in the transaction that
//! reads them: facts read later never have a lower one, and any change of them has a higher one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, watch};
use vouchsafe_model::id::{DeviceId, GatewayId};
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{
    Attendance, BoxFuture, ControlLink, Credential, GatewayCertificates, KnownSubject, LinkError, News, NoSubject,
    RecordBatch, RedeemedCode, Snapshot,
};
use vouchsafe_wire::ticket::hex;

use crate::audit;
use crate::context::Context;
use crate::identity::Redeemer;
use crate::store::{StoreError, connectors, facts, grants, policy, resources};

/// Least wait before a snapshot that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The controller's side of the control channel, in the same process.
pub(crate) struct Link {
    context: Context,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    redeemer: Redeemer,
}

impl Link {
    /// Makes the first snapshot, and keeps making new ones whenever a commit changes one.
    pub(crate) async fn start(context: Context, mut signals: mpsc::UnboundedReceiver<()>) -> Result<Self, StoreError> {
        // What was committed until here is in the first snapshot.
        while signals.try_recv().is_ok() {}
        let (sender, snapshots) = watch::channel(Arc::new(snapshot(&context).await?));
        let tasks = context.tasks.clone();
        let maker = context.clone();
        tasks.clone().spawn_vital("snapshots", async move {
            loop {
                tokio::select! {
                    signal = signals.recv() => if signal.is_none() { return },
                    () = tasks.draining() => return,
                }
                // Many changes at once make one snapshot: it is read after the last of them.
                while signals.try_recv().is_ok() {}
                let mut made = snapshot(&maker).await;
                while let Err(error) = made {
                    tracing::error!(error = &error as &dyn std::error::Error, "the snapshot could not be made");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => made = snapshot(&maker).await,
                        () = tasks.draining() => return,
                    }
                }
                if let Ok(made) = made {
                    sender.send_replace(Arc::new(made));
                }
            }
        });
        Ok(Self { context, snapshots, redeemer: Redeemer::default() })
    }
}

/// Everything that all gateways need, of one moment.
async fn snapshot(context: &Context) -> Result<Snapshot, StoreError> {
    let mut read = context.store.read().await?;
    let current = policy::current(&mut read).await?;
    let now = clock::unix_seconds(clock::now());
    Ok(Snapshot {
        sequence: facts::epoch(&mut read).await?.0,
        policy_version: current.version,
        policy_files: current.files.into_iter().map(|file| (file.name, file.text)).collect(),
        grants: grants::list(&mut read, now).await?.iter().map(grants::to_model).collect::<Result<_, _>>()?,
        resources: resources::all(&mut read).await?,
        connectors: connectors::admitted(&mut read).await?,
    })
}

fn failed(error: &(dyn std::error::Error + 'static)) -> LinkError {
    tracing::error!(error, "a gateway's question could not be answered");
    let causes = std::iter::successors(Some(error), |error| error.source());
    LinkError { why: causes.map(ToString::to_string).collect::<Vec<_>>().join(": ") }
}

async fn subject(context: &Context, credential: Credential) -> Result<Result<KnownSubject, NoSubject>, StoreError> {
    let mut read = context.store.read().await?;
    let (session, audience) = match credential {
        Credential::Session(session) => (session, None),
        Credential::AppCookie(hash) => match facts::session_of_cookie(&mut read, &hex(&hash)).await? {
            Some((session, label)) => (session, Some(label)),
            None => return Ok(Err(NoSubject::Unknown)),
        },
    };
    let now = clock::unix_seconds(clock::now());
    let facts = facts::subject_by_session(&mut read, &session, now).await?;
    Ok(facts.map(|facts| KnownSubject { facts: Arc::new(facts), audience }))
}

impl ControlLink for Link {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    fn rosters(&self) -> watch::Receiver<Option<Bytes>> {
        self.context.rosters.newest()
    }

    fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>> {
        self.context.ca.certificates()
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.context.store.changes()
    }

    fn attends(&self, gateway: GatewayId, attendance: Arc<dyn Attendance>) {
        // There is one gateway in this process.
        let _ = self.context.own_gateway.set((gateway, attendance));
    }

    fn committed(&self, sequence: u64) -> Option<Instant> {
        self.context.store.committed(sequence)
    }

    fn subject(&self, credential: Credential) -> BoxFuture<'_, Result<Result<KnownSubject, NoSubject>, LinkError>> {
        Box::pin(async move { subject(&self.context, credential).await.map_err(|error| failed(&error)) })
    }

    fn device(&self, id: DeviceId) -> BoxFuture<'_, Result<Option<DeviceFacts>, LinkError>> {
        Box::pin(async move {
            let mut read = self.context.store.read().await.map_err(|error| failed(&error))?;
            facts::device(&mut read, &id).await.map_err(|error| failed(&error))
        })
    }

    fn redeem(
        &self,
        code: String,
        label: String,
        device: Option<DeviceId>,
        ip: IpAddr,
    ) -> BoxFuture<'_, Result<Option<RedeemedCode>, LinkError>> {
        Box::pin(async move {
            let redeemed = self.redeemer.redeem(&self.context, &code, &label, device, ip).await;
            redeemed.map_err(|error| failed(&error))
        })
    }

    fn deliver(&self, gateway: GatewayId, batch: RecordBatch) -> BoxFuture<'_, Result<u64, LinkError>> {
        Box::pin(async move { audit::deliver(&self.context, gateway, batch).await.map_err(|error| failed(&error)) })
    }
}

#[cfg(test)]
mod tests;
