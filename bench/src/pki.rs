//! An authority with one server and one client, for contenders that know nothing of vouchsafe.

use std::error::Error;
use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use vouchsafe_runtime::tls;

/// Writes `ca.pem`, and `.pem` and `.key` of `server` (for `bench.test`) and `client`. P-256, as ours.
pub(crate) fn make(dir: &Path) -> Result<(), Box<dyn Error>> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // Names of their own: OpenSSL takes a leaf that is called like its issuer for self-signed.
    ca.distinguished_name.push(DnType::CommonName, "bench authority");
    fs::write(dir.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    for (name, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["bench.test".to_owned()])?;
        params.extended_key_usages = vec![purpose];
        params.distinguished_name.push(DnType::CommonName, "bench end");
        fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, &issuer)?.pem())?;
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// A bare client: the product's algorithms, webpki's checks.
pub(crate) fn client(dir: &Path) -> Result<ClientConfig, Box<dyn Error>> {
    let read = |name: &str| fs::read_to_string(dir.join(name));
    Ok(ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(tls::roots(&read("ca.pem")?, "bench")?)
        .with_client_auth_cert(
            tls::certificates(&read("client.pem")?, "bench")?,
            tls::private_key(&read("client.key")?, "bench")?,
        )?)
}

/// A bare server: the product's algorithms, webpki's checks.
pub(crate) fn server(dir: &Path) -> Result<ServerConfig, Box<dyn Error>> {
    let read = |name: &str| fs::read_to_string(dir.join(name));
    let roots = tls::roots(&read("ca.pem")?, "bench")?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider()).build()?;
    Ok(ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            tls::certificates(&read("server.pem")?, "bench")?,
            tls::private_key(&read("server.key")?, "bench")?,
        )?)
}
