//! What the controller shows of itself to those who run it (`docs/reference/metrics.md`).

use std::fmt;

use vouchsafe_runtime::internal::BoxFuture;
use vouchsafe_runtime::vitals::{Page, Vitals};
use vouchsafe_wire::health::{Check, Note};

use crate::context::Context;
use crate::streams::Figures;

/// The controller, as those who run it see it.
pub(crate) struct ControllerVitals(pub(crate) Context);

impl Vitals for ControllerVitals {
    fn figures(&self, page: &mut Page<'_>) -> fmt::Result {
        let store = &self.0.store;
        let newest = store.newest();
        page.gauge("vouchsafe_feed_sequence", "Number of the newest change that gateways hear of", newest)?;
        page.gauge("vouchsafe_audit_log_records", "Records in the audit log", store.log().size())?;
        let (checkpoints, size) = (&self.0.checkpoints, store.log().size());
        let signed = checkpoints.published().map_or(0, |published| published.checkpoint.size);
        page.gauge(
            "vouchsafe_audit_unhashed_records",
            "Records that the tree over the log lacks",
            size.saturating_sub(checkpoints.integrated()),
        )?;
        page.gauge("vouchsafe_audit_signed_records", "Records that the newest checkpoint covers", signed)?;
        let trouble = u64::from(checkpoints.trouble().is_some());
        page.gauge("vouchsafe_audit_unsigned", "1 when no checkpoint can be signed", trouble)?;
        if let Some(silent) = checkpoints.silent_witnesses() {
            let cosigned = checkpoints.cosigned().map_or(0, |cosigned| cosigned.checkpoint.size);
            let help = "Records that the newest checkpoint covers which enough witnesses cosigned";
            page.gauge("vouchsafe_audit_cosigned_records", help, cosigned)?;
            let silent = u64::try_from(silent).unwrap_or(u64::MAX);
            page.gauge(
                "vouchsafe_audit_silent_witnesses",
                "Witnesses that gave no cosignature when asked last",
                silent,
            )?;
        }
        let room = &self.0.room;
        page.gauge("vouchsafe_audit_disk_available_bytes", "Room on the disk of the audit log", room.available())?;
        page.gauge(
            "vouchsafe_audit_disk_low",
            "1 when there is little of it, 2 when it is full",
            room.supply().level(),
        )?;
        let [delivered, failed, dropped, waiting] = self.0.webhooks.figures();
        page.counter("vouchsafe_webhook_messages", "Messages that webhooks took", delivered)?;
        page.counter("vouchsafe_webhook_failures", "Attempts to send one that failed", failed)?;
        page.counter("vouchsafe_webhook_given_up", "Messages that were given up", dropped)?;
        page.gauge("vouchsafe_webhook_waiting_messages", "Messages that wait for webhooks", waiting)?;
        let streams = self.0.streams.figures();
        let each = |figure: fn(&Figures) -> u64| {
            let labelled = streams.iter().map(move |(name, figures)| ([("stream", name.as_str())], figure(figures)));
            labelled.collect::<Vec<_>>()
        };
        page.counters("vouchsafe_audit_stream_records", "Records that were sent to a stream", each(|one| one.sent))?;
        page.counters(
            "vouchsafe_audit_stream_failures",
            "Attempts to send some that failed",
            each(|one| one.failures),
        )?;
        let behind = each(|one| one.next).into_iter().map(|(labels, next)| (labels, size.saturating_sub(next)));
        page.gauges("vouchsafe_audit_stream_behind_records", "Records that a stream hasn't taken for certain", behind)?;
        let Some(reached) = self.0.channel.get() else { return Ok(()) };
        let attendance = reached.attached.attendance(newest);
        page.gauge("vouchsafe_gateways_attached", "Gateways that are attached", attendance.attached)?;
        page.gauge(
            "vouchsafe_gateways_behind_changes",
            "Changes that the gateway furthest behind hasn't acknowledged",
            attendance.most_behind,
        )
    }

    fn notes(&self) -> Vec<Note> {
        let words = self.0.checkpoints.words(self.0.store.log());
        let mut notes = vec![Note { name: "checkpoints".to_owned(), words }];
        notes.extend(self.0.room.words().map(|words| Note { name: "disk".to_owned(), words }));
        notes
    }

    fn checks(&self) -> BoxFuture<'_, Vec<Check>> {
        Box::pin(async move { vec![self.store().await] })
    }
}

impl ControllerVitals {
    /// Whether a change could be made now: a turn to write is taken, and given back.
    async fn store(&self) -> Check {
        match self.0.store.write().await {
            Ok(_turn) => Check::holds("store", "changes can be made and recorded"),
            Err(error) => Check::fails(
                "store",
                format!("no change can be made: {}", causes(&error)),
                "look whether the disk is full, and at the log",
            ),
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
