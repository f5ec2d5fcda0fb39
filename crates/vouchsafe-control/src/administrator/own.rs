//! What somebody can reach herself, for her own page. She needs no right for it: it is about nobody else.

use std::time::{Duration, Instant};

use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_policy::{OnDevice, WhatCan};
use vouchsafe_runtime::clock;

use super::AdministratorError;
use crate::context::Context;

/// Longest time that it takes; what was found by then is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// What she can reach.
pub(crate) struct Reached {
    /// On whatever device; what policies demand of it stays as a condition.
    pub(crate) somehow: WhatCan,
    /// On the device of this very session, or without one.
    pub(crate) here: WhatCan,
    /// Whether that is all.
    pub(crate) whole: bool,
}

/// Finds what whoever is signed in can reach. Few at a time are worked on, apart from what administrators ask.
pub(crate) async fn reached(context: &Context, facts: &SubjectFacts) -> Result<Reached, AdministratorError> {
    let mut read = context.store.read().await?;
    let engine = context.live.engine(&mut read).await?;
    drop(read);
    let (user, device) = (facts.user.clone(), facts.device.clone());
    let work = move || {
        let (deadline, now) = (Instant::now() + PATIENCE, clock::now());
        let mut whole = true;
        let mut goes_on = || {
            whole = whole && Instant::now() <= deadline;
            whole
        };
        let here = engine.what_can_while(&user, &OnDevice::This(device), now, &mut goes_on);
        let somehow = engine.what_can_while(&user, &OnDevice::Any, now, &mut goes_on);
        Reached { somehow, here, whole }
    };
    context.own_rights.work(work).await
}
