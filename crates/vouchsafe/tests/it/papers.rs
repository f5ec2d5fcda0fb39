//! Certificates for servers of others that tests talk to, and for ourselves at them.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Certificates of one authority: a receiver's and a client's.
pub struct Papers {
    dir: TempDir,
}

impl Papers {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut root = CertificateParams::new(Vec::new()).expect("parameters");
        root.distinguished_name.push(DnType::CommonName, "authority of the receiver");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).expect("written");
        write("root.pem", root.self_signed(&key).expect("root").pem());
        let issuer = Issuer::new(root, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("key");
            let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
            leaf.distinguished_name.push(DnType::CommonName, name);
            write(&format!("{name}.pem"), leaf.signed_by(&key, &issuer).expect("certificate").pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("read")
    }
}
