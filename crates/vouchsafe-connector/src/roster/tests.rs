use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SigningKey as _,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use vouchsafe_model::id::ControllerId;
use vouchsafe_runtime::roster::ROSTER_LIFE;
use vouchsafe_runtime::tls::CertificateRefusal;
use vouchsafe_wire::roster::{SignedRoster, signed_bytes};
use vouchsafe_wire::spiffe::CertifiedIdentity;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn domain(text: &str) -> BaseDomain {
    BaseDomain::parse(text).unwrap()
}

fn gateway(number: u8) -> GatewayId {
    GatewayId::from_random([number; 16])
}

/// An installation: its root, and what signs for it.
struct Installation {
    root: Issuer<'static, KeyPair>,
    root_der: CertificateDer<'static>,
}

/// A key with its certificate.
struct Signer {
    key: KeyPair,
    certificate: Bytes,
}

impl Installation {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let root_der = certificate.der().clone();
        Self { root: Issuer::from_ca_cert_der(&root_der, key).unwrap(), root_der }
    }

    fn signer(&self, identity: CertifiedIdentity, of: &str, ends: SystemTime) -> Signer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.to_uri(&domain(of)).as_str().try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = OffsetDateTime::from(clock::now() - 400 * DAY);
        params.not_after = OffsetDateTime::from(ends);
        let certificate = params.signed_by(&key, &self.root).unwrap();
        Signer { key, certificate: Bytes::copy_from_slice(certificate.der()) }
    }

    fn controller(&self) -> Signer {
        let id = CertifiedIdentity::Controller(ControllerId::from_random([9; 16]));
        self.signer(id, "corp.example", clock::now() + 90 * DAY)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root_der.clone()).unwrap();
        Arc::new(roots)
    }

    fn rosters(&self, dir: &Path) -> Rosters {
        fs::create_dir_all(dir.join(FOLDER)).unwrap();
        Rosters::load(dir, self.roots(), domain("corp.example"))
    }
}

impl Signer {
    fn list(&self, sequence: u64, gateways: &[u8]) -> Bytes {
        self.list_of(&roster(sequence, gateways), "corp.example")
    }

    fn list_of(&self, roster: &Roster, of: &str) -> Bytes {
        let payload = roster.payload(&domain(of));
        let signature = self.key.sign(&signed_bytes(&payload)).unwrap().into();
        SignedRoster { payload, signature, chain: vec![self.certificate.clone()] }.to_bytes()
    }
}

fn roster(sequence: u64, gateways: &[u8]) -> Roster {
    let (made, addresses) = (clock::now(), vec![Endpoint::parse("10.0.0.5:443").unwrap()]);
    let gateways = gateways.iter().map(|number| (gateway(*number), addresses.clone())).collect();
    Roster { sequence, made, ends: made + ROSTER_LIFE, gateways }
}

#[test]
fn a_list_is_the_controllers_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Installation::new(), Installation::new());
    let (controller, rosters) = (ours.controller(), ours.rosters(dir.path()));
    assert!(!rosters.believes(gateway(1)), "without a list nobody is believed");
    let refused = |bytes: &[u8]| {
        let refused = rosters.take(bytes).unwrap_err();
        assert!(!rosters.believes(gateway(1)) && rosters.addresses().is_empty());
        refused
    };
    // A gateway's certificate signs nothing, nor does a controller's of elsewhere, nor one that has ended.
    let role = ours.signer(CertifiedIdentity::Gateway(gateway(1)), "corp.example", clock::now() + DAY);
    assert_eq!(refused(&role.list(1, &[1])), RosterError::Certificate(CertificateRefusal::Role));
    assert!(matches!(refused(&theirs.controller().list(1, &[1])), RosterError::Certificate(_)));
    let id = CertifiedIdentity::Controller(ControllerId::from_random([9; 16]));
    let other = ours.signer(id, "other.example", clock::now() + DAY);
    assert_eq!(refused(&other.list(1, &[1])), RosterError::Certificate(CertificateRefusal::TrustDomain));
    let ended = ours.signer(id, "corp.example", clock::now() - DAY);
    assert_eq!(refused(&ended.list(1, &[1])), RosterError::Certificate(CertificateRefusal::Expired));
    // The right certificate with a signature of another key, or none.
    let other_key = Signer { key: KeyPair::generate().unwrap(), certificate: controller.certificate.clone() };
    assert_eq!(refused(&other_key.list(1, &[1])), RosterError::Certificate(CertificateRefusal::Signature));
    let payload = roster(1, &[1]).payload(&domain("corp.example"));
    let unsigned = SignedRoster { payload, signature: Bytes::new(), chain: vec![controller.certificate.clone()] };
    assert_eq!(refused(&unsigned.to_bytes()), RosterError::Certificate(CertificateRefusal::Signature));
    let nobody = SignedRoster { chain: Vec::new(), ..unsigned };
    assert!(matches!(refused(&nobody.to_bytes()), RosterError::Certificate(_)));
    // Of an installation that has the same controller, as after a change of its name.
    assert_eq!(refused(&controller.list_of(&roster(1, &[1]), "other.example")), RosterError::OtherDomain);
    assert_eq!(refused(&vec![0; MAX_ROSTER_BYTES + 1]), RosterError::Unreadable);
    assert!(matches!(refused(b""), RosterError::Certificate(_)));
    assert_eq!(rosters.take(&controller.list(1, &[1])), Ok(Taken::New));
    assert!(rosters.believes(gateway(1)) && !rosters.believes(gateway(2)));
    assert_eq!(rosters.addresses(), [Address::parse("10.0.0.5:443").unwrap()]);
}

#[test]
fn what_was_is_not_played_back_also_not_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let installation = Installation::new();
    let (controller, rosters) = (installation.controller(), installation.rosters(dir.path()));
    let with_both = controller.list(7, &[1, 2]);
    assert_eq!(rosters.take(&with_both), Ok(Taken::New));
    assert_eq!(rosters.take(&with_both), Ok(Taken::Known));
    // Gateway 1 was removed.
    assert_eq!(rosters.take(&controller.list(8, &[2])), Ok(Taken::New));
    for played_back in [&with_both, &controller.list(7, &[1])] {
        assert_eq!(rosters.take(played_back), Ok(Taken::Known));
        assert!(!rosters.believes(gateway(1)) && rosters.believes(gateway(2)));
    }
    let rosters = installation.rosters(dir.path());
    assert!(!rosters.believes(gateway(1)) && rosters.believes(gateway(2)), "kept");
    assert_eq!(rosters.take(&with_both), Ok(Taken::Known));
    assert!(!rosters.believes(gateway(1)));
    // The next of the same number was made later: it goes on for longer.
    let ends = |rosters: &Rosters| rosters.newest.borrow().as_ref().unwrap().ends;
    let before = ends(&rosters);
    assert_eq!(rosters.take(&controller.list(8, &[2, 3])), Ok(Taken::New));
    assert!(ends(&rosters) > before && rosters.believes(gateway(3)));
    // What is damaged on disk is none.
    fs::write(dir.path().join(FOLDER).join(FILE), b"nonsense").unwrap();
    assert!(!installation.rosters(dir.path()).believes(gateway(2)));
}

#[test]
fn a_list_that_has_ended_says_where_to_look_and_whom_to_believe_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let installation = Installation::new();
    let (controller, rosters) = (installation.controller(), installation.rosters(dir.path()));
    let made = clock::now() - ROSTER_LIFE;
    let over = Roster { made, ends: made + ROSTER_LIFE, ..roster(3, &[1]) };
    assert_eq!(rosters.take(&controller.list_of(&over, "corp.example")), Ok(Taken::New));
    assert!(!rosters.believes(gateway(1)));
    assert_eq!(rosters.addresses().len(), 1);
    assert_eq!(rosters.take(&controller.list(3, &[1])), Ok(Taken::New));
    assert!(rosters.believes(gateway(1)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_its_gateway_brings_no_list_or_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let installation = Installation::new();
    let (controller, rosters) = (installation.controller(), installation.rosters(dir.path()));
    assert_eq!(rosters.doubted(gateway(1)).await, "it brings no list of gateways that has it");
    let doubted = rosters.doubted(gateway(1));
    let telling = async {
        tokio::time::sleep(INTRODUCTION / 2).await;
        rosters.take(&controller.list(1, &[1])).unwrap();
        tokio::time::sleep(INTRODUCTION * 10).await;
        rosters.take(&controller.list(2, &[1, 2])).unwrap();
        tokio::time::sleep(INTRODUCTION * 10).await;
        rosters.take(&controller.list(3, &[2])).unwrap();
        tokio::time::Instant::now()
    };
    let (why, removed) = tokio::join!(doubted, telling);
    assert_eq!(why, "it is not on the list of gateways any more");
    assert_eq!(removed.elapsed(), Duration::ZERO, "at once");
}

proptest! {
    /// Whatever becomes of its bytes on the way, a list is refused or says exactly what was signed.
    #[test]
    fn nothing_of_a_list_can_be_changed(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        let installation = Installation::new();
        let whole = roster(5, &[1, 2]);
        let mut bytes = installation.controller().list_of(&whole, "corp.example").to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= with }
        if let Ok(read) = Roster::verified(&bytes, &installation.roots(), &domain("corp.example"), clock::now()) {
            prop_assert_eq!(read.sequence, whole.sequence);
            prop_assert_eq!(read.gateways, whole.gateways);
        }
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes in any::<Vec<u8>>()) {
        let installation = Installation::new();
        let read = Roster::verified(&bytes, &installation.roots(), &domain("corp.example"), clock::now());
        prop_assert!(read.is_err());
    }
}
