//! How long a gateway may act on what it was told last: the lease, and the grace of each resource.

use std::time::Duration;

use vouchsafe_model::decision::Reason;
use vouchsafe_policy::Admission;
use vouchsafe_runtime::link::ControlLink;

/// By what the word of the controller holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// By the lease.
    Leased,
    /// The lease is over, and the resource has a grace that is not.
    OnGrace,
}

/// Whether what was admitted may be done still, without word of the controller.
pub(crate) fn holds(link: &dyn ControlLink, admission: &Admission) -> Result<Standing, Reason> {
    let freshness = link.freshness();
    match freshness.is_within(Duration::ZERO) {
        true => Ok(Standing::Leased),
        false if freshness.is_within(admission.resource().offline_grace) => Ok(Standing::OnGrace),
        false => Err(Reason::ControllerSilent),
    }
}

/// Whether the controller has been silent for longer than the lease, so that only resources with a grace are
/// open.
pub(crate) fn is_over(link: &dyn ControlLink) -> bool {
    !link.freshness().is_within(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use vouchsafe_runtime::link::{Freshness, LEASE};

    use super::*;

    #[test]
    fn i6_a_gateway_stops_at_lease_and_grace_and_not_later() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        for (silence, grace, holds) in [
            (Duration::ZERO, Duration::ZERO, true),
            (LEASE, Duration::ZERO, true),
            (LEASE + Duration::from_nanos(1), Duration::ZERO, false),
            (LEASE + second, second, true),
            (LEASE + second * 2, second, false),
            (hour, hour, true),
            // One that was removed has no grace, whatever the resource says.
            (Duration::MAX, hour * 24, false),
        ] {
            assert_eq!(Freshness { silence, lease: LEASE }.is_within(grace), holds, "{silence:?} {grace:?}");
        }
    }
}
