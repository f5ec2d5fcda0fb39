//! SPIFFE ids in our certificates (SPIFFE-ID §2; X.509-SVID §2): `spiffe://<domain>/<role>/<id>`.

use vouchsafe_model::id::{ConnectorId, ControllerId, DeviceId, GatewayId};
use vouchsafe_model::name::BaseDomain;

/// What a certificate of ours may do; it stands as the first path segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertifiedIdentity {
    /// A device, for tunnels and the API.
    Device(DeviceId),
    /// A policy enforcement point, for the control channel and towards upstreams.
    Gateway(GatewayId),
    /// A controller, towards gateways.
    Controller(ControllerId),
    /// A connector, towards gateways.
    Connector(ConnectorId),
}

/// Failure to read a SPIFFE id as one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Not `spiffe://` and our trust domain, byte by byte.
    #[error("the SPIFFE id is of another trust domain")]
    TrustDomain,
    /// Not exactly one role we know and one id of its kind.
    #[error("the SPIFFE id is not `/device/<id>`, `/gateway/<id>`, `/controller/<id>` or `/connector/<id>`")]
    Path,
}

impl CertifiedIdentity {
    /// Reads a SPIFFE id, strictly: no case folding, no percent-encoding, no further segments.
    ///
    /// # Errors
    /// [`SpiffeError`] when it is not one of ours.
    pub fn parse(uri: &str, domain: &BaseDomain) -> Result<Self, SpiffeError> {
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(domain.as_str()))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(SpiffeError::TrustDomain)?;
        match path.split_once('/') {
            Some(("device", id)) => id.parse().map(CertifiedIdentity::Device).map_err(|_| SpiffeError::Path),
            Some(("gateway", id)) => id.parse().map(CertifiedIdentity::Gateway).map_err(|_| SpiffeError::Path),
            Some(("controller", id)) => id.parse().map(CertifiedIdentity::Controller).map_err(|_| SpiffeError::Path),
            Some(("connector", id)) => id.parse().map(CertifiedIdentity::Connector).map_err(|_| SpiffeError::Path),
            _ => Err(SpiffeError::Path),
        }
    }

    /// The trust domain of a SPIFFE id, where it is not known yet which one it must be.
    #[must_use]
    pub fn trust_domain(uri: &str) -> Option<BaseDomain> {
        let (domain, _) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        BaseDomain::parse(domain).ok().filter(|parsed| parsed.as_str() == domain)
    }

    /// The id as it stands in the certificate's only URI name.
    #[must_use]
    pub fn to_uri(self, domain: &BaseDomain) -> String {
        match self {
            CertifiedIdentity::Device(id) => format!("spiffe://{domain}/device/{id}"),
            CertifiedIdentity::Gateway(id) => format!("spiffe://{domain}/gateway/{id}"),
            CertifiedIdentity::Controller(id) => format!("spiffe://{domain}/controller/{id}"),
            CertifiedIdentity::Connector(id) => format!("spiffe://{domain}/connector/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_its_own_ids() {
        let domain = BaseDomain::parse("corp.example").expect("valid");
        let roles = [
            CertifiedIdentity::Device(DeviceId::from_random([1; 16])),
            CertifiedIdentity::Gateway(GatewayId::from_random([2; 16])),
            CertifiedIdentity::Controller(ControllerId::from_random([3; 16])),
        ];
        for role in roles {
            assert_eq!(CertifiedIdentity::parse(&role.to_uri(&domain), &domain), Ok(role));
            assert_eq!(CertifiedIdentity::trust_domain(&role.to_uri(&domain)), Some(domain.clone()));
        }
        for bad in
            ["spiffe://Corp.example/device/x", "spiffe:///device/x", "https://corp.example/x", "spiffe://corp.example"]
        {
            assert_eq!(CertifiedIdentity::trust_domain(bad), None, "{bad}");
        }
    }

    #[test]
    fn a171_other_spellings_are_refused() {
        let domain = BaseDomain::parse("corp.example").expect("valid");
        let id = CertifiedIdentity::Device(DeviceId::from_random([9; 16]));
        let uri = id.to_uri(&domain);
        assert_eq!(CertifiedIdentity::parse(&uri, &domain), Ok(id));
        for bad in [
            uri.replace("corp", "Corp"),
            uri.replace("/device/", "/device//"),
            uri.replace("/device/", "/../device/"),
            uri.replace("/device/", "/gateway/"),
            uri.replace("/device/", "/controller/"),
            uri.replace("/device/", "/connector/"),
            uri.replace("device", "%64evice"),
            format!("{uri}/"),
            format!("{uri}?x"),
            uri.replace("corp.example", "corp.example.evil"),
            uri.replace("spiffe", "SPIFFE"),
            "spiffe://corp.example/".into(),
            format!("{uri}\0"),
            uri.replace("corp.example", "corp.example:443"),
        ] {
            assert!(CertifiedIdentity::parse(&bad, &domain).is_err(), "{bad} was accepted");
        }
    }
}
