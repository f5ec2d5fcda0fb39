use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType};

use super::*;

/// Writes the files of an enrolled device, certified by an authority made here.
pub(crate) fn enrolled(dir: &Path, spiffe: Option<&str>, not_after: u64) -> StateDir {
    let id = DeviceId::from_random([7; 16]);
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    let uri = spiffe.map_or_else(|| format!("spiffe://corp.example/device/{id}"), str::to_owned);
    leaf.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let chain = leaf.signed_by(&key, &issuer).unwrap().pem();
    let state = StateDir::below(dir);
    state.create().unwrap();
    state.write(KEY, &key.serialize_pem()).unwrap();
    state.write(CERTIFICATE, &chain).unwrap();
    state.write(ROOT, &root_pem).unwrap();
    let domain = BaseDomain::parse("corp.example").unwrap();
    let file = DeviceFile {
        id,
        name: "laptop".into(),
        owner: Some("alice".into()),
        domain,
        port: 1,
        not_after,
        renew_at: not_after / 3 * 2,
    };
    file.write(&state).unwrap();
    state
}

#[test]
fn a_device_is_read_back_and_its_key_stays_private() {
    let temp = tempfile::tempdir().unwrap();
    let state = enrolled(temp.path(), None, u64::MAX / 4);
    let device = Device::load(temp.path()).unwrap();
    assert_eq!((device.name(), device.owner(), device.port()), ("laptop", Some("alice"), 1));
    assert_eq!(device.authority(OwnHost::Api), "api.corp.example:1");
    let key = state.path().join(KEY);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = std::fs::read_to_string(key).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!format!("{device:?}").contains(secret));
}

#[test]
fn no_device_says_where_it_was_looked_for() {
    let temp = tempfile::tempdir().unwrap();
    let error = Device::load(temp.path()).unwrap_err();
    assert!(matches!(error, DeviceError::NotEnrolled { .. }));
    assert!(error.to_string().contains(&temp.path().display().to_string()));
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    enrolled(temp.path(), Some("spiffe://corp.example/device/dev_00000000000000000000000001"), u64::MAX / 4);
    let error = Device::load(temp.path()).unwrap_err();
    assert!(matches!(error, DeviceError::Certificate(CertificateError::Identity { .. })), "{error}");
}

#[test]
fn a_key_that_does_not_belong_to_the_certificate_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let state = enrolled(temp.path(), None, u64::MAX / 4);
    state.write(KEY, &KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(Device::load(temp.path()), Err(DeviceError::Certificate(CertificateError::Tls(_)))));
}

#[test]
fn damaged_files_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let state = enrolled(temp.path(), None, u64::MAX / 4);
    state.write(FILE, "id = 7\n").unwrap();
    assert_eq!(Device::load(temp.path()).unwrap_err().to_string(), "`device.toml` of the device is damaged");
}

#[tokio::test]
async fn an_expired_certificate_that_nobody_renews_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    enrolled(temp.path(), None, 1);
    let device = Device::load(temp.path()).unwrap();
    // Port 1 of a name that does not exist: unreachable, not a way around the expiry.
    assert!(device.current().await.is_err());
}

#[tokio::test]
async fn a_renewal_by_another_process_is_taken_over() {
    let temp = tempfile::tempdir().unwrap();
    enrolled(temp.path(), None, 1_000_000);
    let device = Device::load(temp.path()).unwrap();
    let before = device.certified().sha256;
    let far = u64::MAX / 4;
    // The other process has the same key; here a new set of files with another key stands in, so
    // only the expiry can be compared: the certificate of a foreign key must not be taken.
    let state = StateDir::below(temp.path());
    let mut file = DeviceFile::read(&state).unwrap().unwrap();
    file.not_after = far;
    file.renew_at = far;
    file.write(&state).unwrap();
    device.renew().await.unwrap();
    assert_eq!(device.not_after(), far);
    assert_eq!(device.certified().sha256, before);
}

#[tokio::test]
async fn an_enrolled_device_is_not_given_up_by_accident() {
    let temp = tempfile::tempdir().unwrap();
    enrolled(temp.path(), None, u64::MAX / 4);
    let ticket = Ticket { host: "gw.corp.example".into(), port: 1, code: "a".repeat(26), root_sha256: [0; 32] };
    let name = DeviceName::parse("laptop").unwrap();
    let error = Device::enrol(temp.path(), &ticket, &name, Former::Keep).await.unwrap_err();
    assert!(matches!(error, DeviceError::AlreadyEnrolled { .. }), "{error}");
}
