//! The list of gateways that a controller signs for connectors: made here, and verified here.
//!
//! It passes through gateways, of which any may have been taken over, also when a connector joins. So it brings
//! the certificate of its key along, which must lead to the installation's root as a controller's: nothing that
//! a connector has to be told before is needed to verify it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message as _;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::resource::{Endpoint, UpstreamHost, never_by_name};
use vouchsafe_wire::roster::{self as wire, Listed, MAX_ADDRESSES, MAX_GATEWAYS, MAX_ROSTER_BYTES, SignedRoster};

use crate::clock;
use crate::tls::{CertificateRefusal, signed_by_controller};

/// How long a list says anything: the longest lease and the longest grace of a resource, and the hour until the
/// next one is made. So nobody who may still be served through a connector loses it for want of a controller.
pub const ROSTER_LIFE: Duration = Duration::from_secs(26 * 3600);

/// The gateways of an installation at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Number of the newest row of the change feed when it was made.
    pub sequence: u64,
    /// When it was made.
    pub made: SystemTime,
    /// Until when it says anything.
    pub ends: SystemTime,
    /// All gateways that were not removed, with the addresses at which connectors reach them.
    pub gateways: Vec<(GatewayId, Vec<Endpoint>)>,
}

/// Why a list is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// It is none, or longer than any of ours.
    #[error("it can't be read")]
    Unreadable,
    /// Its key is not one of a controller of ours.
    #[error("the certificate of its key is refused")]
    Certificate(#[from] CertificateRefusal),
    /// It is of another installation.
    #[error("it is of another installation")]
    OtherDomain,
    /// This machine's clock can't be right.
    #[error("the clock of this machine is before 1970")]
    Clock,
}

impl Roster {
    /// The bytes that are signed.
    #[must_use]
    pub fn payload(&self, domain: &BaseDomain) -> Bytes {
        let Self { sequence, made, ends, gateways } = self;
        let listed = |(id, addresses): &(GatewayId, Vec<Endpoint>)| Listed {
            id: id.to_string(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
        };
        let message = wire::Roster {
            domain: domain.to_string(),
            sequence: *sequence,
            made_us: clock::unix_micros(*made),
            ends_us: clock::unix_micros(*ends),
            gateways: gateways.iter().map(listed).collect(),
        };
        message.encode_to_vec().into()
    }

    /// Reads a list and verifies whose it is. Whether it says anything still, and is the newest, is for
    /// [`Roster::is_over`] and [`Roster::is_newer_than`] to say.
    ///
    /// # Errors
    /// [`RosterError`].
    pub fn verified(
        bytes: &[u8],
        roots: &Arc<RootCertStore>,
        domain: &BaseDomain,
        now: SystemTime,
    ) -> Result<Self, RosterError> {
        if bytes.len() > MAX_ROSTER_BYTES {
            return Err(RosterError::Unreadable);
        }
        let SignedRoster { payload, signature, chain } =
            SignedRoster::decode(bytes).map_err(|_| RosterError::Unreadable)?;
        let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| RosterError::Clock)?;
        let time = UnixTime::since_unix_epoch(since);
        signed_by_controller(&wire::signed_bytes(&payload), &signature, &chain, roots, domain, time)?;
        // From here on it is the controller's.
        let message = wire::Roster::decode(payload).map_err(|_| RosterError::Unreadable)?;
        let wire::Roster { domain: of, sequence, made_us, ends_us, gateways } = message;
        if of != domain.as_str() {
            return Err(RosterError::OtherDomain);
        }
        if gateways.len() > MAX_GATEWAYS {
            return Err(RosterError::Unreadable);
        }
        let time = |us| SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(us)).ok_or(RosterError::Unreadable);
        let (made, ends) = (time(made_us)?, time(ends_us)?);
        let gateways = gateways.iter().map(|Listed { id, addresses }| {
            let id: GatewayId = id.parse().map_err(|_| RosterError::Unreadable)?;
            let addresses = addresses.iter().take(MAX_ADDRESSES).filter_map(|text| announceable(text));
            Ok((id, addresses.collect()))
        });
        let gateways = gateways.collect::<Result<_, RosterError>>()?;
        Ok(Self { sequence, made, ends, gateways })
    }

    /// Whether it takes the place of another.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.sequence, self.made) > (other.sequence, other.made)
    }

    /// Whether it has that gateway.
    #[must_use]
    pub fn has(&self, gateway: GatewayId) -> bool {
        self.gateways.iter().any(|(id, _)| *id == gateway)
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.ends <= now
    }
}

/// An address that a gateway may announce to connectors: of some other machine than theirs, as far as that can be seen.
#[must_use]
pub fn announceable(text: &str) -> Option<Endpoint> {
    let endpoint = Endpoint::parse(text).ok()?;
    match &endpoint.host {
        UpstreamHost::Ip(address) => may_be_dialled(*address).then_some(endpoint),
        UpstreamHost::Name(name) if name == "localhost" || name.ends_with(".localhost") => None,
        UpstreamHost::Name(_) => Some(endpoint),
    }
}

/// Whether a connector dials an address because a list said so: not its own machine, nor what a cloud keeps for it.
#[must_use]
pub fn may_be_dialled(address: IpAddr) -> bool {
    never_by_name(address).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a159_no_gateway_has_a_connector_dial_itself_or_a_clouds_services() {
        for good in ["10.0.0.5:443", "[fd00::5]:8443", "gw1.corp.example:443"] {
            assert_eq!(announceable(good).unwrap().to_string(), good);
        }
        for bad in [
            "127.0.0.1:443",
            "[::1]:443",
            "[::ffff:127.0.0.1]:443",
            "169.254.169.254:80",
            "100.100.100.200:80",
            "0.0.0.0:443",
            "localhost:443",
            "gw.localhost:443",
            "gw1.corp.example",
            "gw1.corp.example:0",
            "https://gw1.corp.example:443",
            "",
        ] {
            assert_eq!(announceable(bad), None, "{bad}");
        }
    }
}
