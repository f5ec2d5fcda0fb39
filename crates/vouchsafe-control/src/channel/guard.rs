//! What gateways let through to console and API is decided once more here, on the controller's own facts and
//! policies. A gateway that was taken over can then speak for those who pass through it, but make nobody an
//! administrator (I13).

use std::sync::Arc;

use parking_lot::RwLock;
use vouchsafe_model::action::Action;
use vouchsafe_model::resource::PathRules;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_policy::{Engine, KeyAgreement, PolicyFile, PolicySource, PreparedSubject};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_runtime::internal::Caller;
use vouchsafe_runtime::link::{ControlLink as _, Snapshot};
use vouchsafe_wire::canonical::CanonicalTarget;

use crate::context::Context;
use crate::link::Link;

/// The policies in force; none as long as they can't be read, and then nobody may do anything.
#[derive(Clone, Default)]
pub(super) struct Guard(Arc<RwLock<Option<Arc<Engine>>>>);

impl Guard {
    /// Follows the policies from here on.
    pub(super) fn follow(context: &Context, link: &Link) -> Self {
        let guard = Self::default();
        let (mut snapshots, tasks, kept) = (link.snapshots(), context.tasks.clone(), guard.clone());
        snapshots.mark_changed();
        context.tasks.spawn_vital("policies of the console", async move {
            loop {
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() { return },
                    () = tasks.draining() => return,
                }
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                let former = kept.0.read().clone();
                let compiled = tokio::task::spawn_blocking(move || compile(&snapshot, former.as_deref())).await;
                *kept.0.write() = compiled.ok().flatten();
            }
        });
        guard
    }

    /// Whether that subject may do this with console or API.
    pub(super) fn allows(&self, subject: &Arc<SubjectFacts>, caller: &Caller, method: &str, target: &str) -> bool {
        let Some(engine) = self.0.read().clone() else { return false };
        // The gateway sends what it decided on, which is canonical.
        let Ok(target) = CanonicalTarget::parse(method, target, PathRules::default()) else { return false };
        let action = match target.method() {
            "GET" | "HEAD" => Action::ConsoleRead,
            _ => Action::ConsoleWrite,
        };
        let operation = format!("{} {}", target.method(), target.path());
        let prepared = PreparedSubject::new(engine, Arc::clone(subject));
        let agreement = KeyAgreement::of(caller.post_quantum);
        prepared.decide_console(action, &operation, caller.ip, agreement, clock::now()).is_ok()
    }
}

fn compile(snapshot: &Snapshot, former: Option<&Engine>) -> Option<Arc<Engine>> {
    let file = |(name, text): &(String, String)| PolicyFile { name: name.clone(), text: text.clone() };
    let source = PolicySource {
        version: snapshot.policy_version,
        files: snapshot.policy_files.iter().map(file).collect(),
        grants: snapshot.grants.clone(),
        resources: snapshot.resources.clone(),
    };
    Engine::compile_spread(source, former, &side_by_side)
        .inspect_err(|_| tracing::error!("published policies can't be used; console and API are closed"))
        .ok()
}
