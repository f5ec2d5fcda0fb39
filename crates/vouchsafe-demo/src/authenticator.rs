//! A WebAuthn authenticator in software, for the demo and for tests: no product code uses it.
//!
//! It plays browser and authenticator at once: it takes the JSON that a server sends
//! (`PublicKeyCredentialCreationOptionsJSON`, `PublicKeyCredentialRequestOptionsJSON`) and gives what
//! `PublicKeyCredential.toJSON()` gives in a browser (WebAuthn Level 3, §5.1.8 and §5.1.9). Keys are
//! P-256, discoverable, and live in memory only. It keeps the browser's one rule that stops phishing:
//! an origin gets nothing of a relying party it doesn't belong to.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Host, Url};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::tls::sha256;

/// COSE name of ECDSA over P-256 with SHA-256 (RFC 9053 §2.1).
const ES256: i64 = -7;
/// Everything of a P-256 SubjectPublicKeyInfo that stands before the point (RFC 5480 §2).
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED_CREDENTIAL: u8 = 0x40;

/// Failure of a ceremony, as a browser would refuse it.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticatorError {
    /// The server's options lack a member, or one has the wrong form.
    #[error("the server's WebAuthn options are not usable: {why}")]
    Options {
        /// What is wrong.
        why: String,
    },
    /// The origin is neither the relying party's host nor below it.
    #[error("origin `{origin}` may not use passkeys of `{rp_id}`")]
    ForeignOrigin {
        /// The page's origin.
        origin: String,
        /// The relying party that was asked for.
        rp_id: String,
    },
    /// The server takes no key of a kind that this authenticator makes.
    #[error("the server takes no ES256 keys")]
    NoCommonAlgorithm,
    /// One of the credentials that the server excludes is already here.
    #[error("this authenticator holds a passkey for that account already")]
    AlreadyRegistered,
    /// No passkey fits the request.
    #[error("this authenticator holds no passkey for `{rp_id}`")]
    NoCredential {
        /// The relying party that was asked for.
        rp_id: String,
    },
    /// The key could not be made or used.
    #[error("the authenticator's key could not be {what}")]
    Key {
        /// `made` or `used`.
        what: &'static str,
    },
}

/// Passkeys of one person, in memory. Its `Debug` form shows no keys.
#[derive(Default)]
pub struct Authenticator {
    credentials: Vec<Credential>,
}

struct Credential {
    id: Vec<u8>,
    rp_id: String,
    user_handle: Vec<u8>,
    key: EcdsaKeyPair,
    uses: AtomicU32,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({} passkeys)", self.credentials.len())
    }
}

impl Authenticator {
    /// An authenticator without passkeys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a passkey: `navigator.credentials.create({publicKey: options})` on a page of `origin`,
    /// with the user present and verified.
    ///
    /// # Errors
    /// [`AuthenticatorError`] where a browser would refuse too.
    pub fn create(&mut self, options: &Value, origin: &str) -> Result<Value, AuthenticatorError> {
        let options: CreationOptions = read(options)?;
        let origin = Origin::parse(origin)?;
        let rp_id = origin.relying_party(options.rp.id)?;
        if !options.pub_key_cred_params.iter().any(|offer| offer.alg == ES256) {
            return Err(AuthenticatorError::NoCommonAlgorithm);
        }
        for excluded in &options.exclude_credentials {
            let id = decode(&excluded.id, "excludeCredentials")?;
            if self.credentials.iter().any(|held| held.id == id) {
                return Err(AuthenticatorError::AlreadyRegistered);
            }
        }
        let user_handle = decode(&options.user.id, "user.id")?;
        decode(&options.challenge, "challenge")?;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| AuthenticatorError::Key { what: "made" })?;
        let credential =
            Credential { id: clock::random::<32>().to_vec(), rp_id, user_handle, key, uses: AtomicU32::new(0) };
        let client_data = client_data("webauthn.create", &options.challenge, &origin.text);
        let auth_data = credential.attested_data()?;
        let attestation = cbor(&Cbor::Map(vec![
            (Cbor::from("fmt"), Cbor::from("none")),
            (Cbor::from("attStmt"), Cbor::Map(Vec::new())),
            (Cbor::from("authData"), Cbor::Bytes(auth_data.clone())),
        ]))?;
        let mut public_key = P256_SPKI_PREFIX.to_vec();
        public_key.extend_from_slice(credential.key.public_key().as_ref());
        let extensions = if options.extensions.get("credProps") == Some(&Value::Bool(true)) {
            json!({"credProps": {"rk": true}})
        } else {
            json!({})
        };
        let id = encode(&credential.id);
        // A second passkey for the same account and site replaces the first (WebAuthn §6.3.2, step 7).
        self.credentials.retain(|held| held.rp_id != credential.rp_id || held.user_handle != credential.user_handle);
        self.credentials.push(credential);
        Ok(json!({
            "id": id,
            "rawId": id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": extensions,
            "response": {
                "attestationObject": encode(&attestation),
                "authenticatorData": encode(&auth_data),
                "clientDataJSON": encode(client_data.as_bytes()),
                "publicKey": encode(&public_key),
                "publicKeyAlgorithm": ES256,
                "transports": ["internal"],
            },
        }))
    }

    /// Uses a passkey: `navigator.credentials.get({publicKey: options})` on a page of `origin`, with
    /// the user present and verified. Without `allowCredentials` it picks the newest of the site.
    ///
    /// # Errors
    /// [`AuthenticatorError`] where a browser would refuse too.
    pub fn get(&self, options: &Value, origin: &str) -> Result<Value, AuthenticatorError> {
        let options: RequestOptions = read(options)?;
        let origin = Origin::parse(origin)?;
        let rp_id = origin.relying_party(options.rp_id)?;
        decode(&options.challenge, "challenge")?;
        let allowed = options
            .allow_credentials
            .iter()
            .map(|allowed| decode(&allowed.id, "allowCredentials"))
            .collect::<Result<Vec<_>, _>>()?;
        let credential = self
            .credentials
            .iter()
            .rev()
            .find(|held| held.rp_id == rp_id && (allowed.is_empty() || allowed.contains(&held.id)))
            .ok_or(AuthenticatorError::NoCredential { rp_id })?;
        let client_data = client_data("webauthn.get", &options.challenge, &origin.text);
        let count = credential.uses.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let auth_data = credential.data(USER_PRESENT | USER_VERIFIED, count);
        let mut signed = auth_data.clone();
        signed.extend_from_slice(&sha256(client_data.as_bytes()));
        let signature =
            credential.key.sign(&SystemRandom::new(), &signed).map_err(|_| AuthenticatorError::Key { what: "used" })?;
        let id = encode(&credential.id);
        Ok(json!({
            "id": id,
            "rawId": id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "authenticatorData": encode(&auth_data),
                "clientDataJSON": encode(client_data.as_bytes()),
                "signature": encode(signature.as_ref()),
                "userHandle": encode(&credential.user_handle),
            },
        }))
    }
}

impl Credential {
    /// Authenticator data without attested credential data (WebAuthn §6.1).
    fn data(&self, flags: u8, count: u32) -> Vec<u8> {
        let mut data = sha256(self.rp_id.as_bytes()).to_vec();
        data.push(flags);
        data.extend_from_slice(&count.to_be_bytes());
        data
    }

    /// Authenticator data with the new credential in it: AAGUID zero, id, COSE key (WebAuthn §6.5.1).
    fn attested_data(&self) -> Result<Vec<u8>, AuthenticatorError> {
        let point = self.key.public_key().as_ref();
        let (Some(x), Some(y), Ok(id_length)) = (point.get(1..33), point.get(33..65), u16::try_from(self.id.len()))
        else {
            return Err(AuthenticatorError::Key { what: "made" });
        };
        let cose = Cbor::Map(vec![
            (Cbor::from(1), Cbor::from(2)),
            (Cbor::from(3), Cbor::from(ES256)),
            (Cbor::from(-1), Cbor::from(1)),
            (Cbor::from(-2), Cbor::Bytes(x.to_vec())),
            (Cbor::from(-3), Cbor::Bytes(y.to_vec())),
        ]);
        let mut data = self.data(USER_PRESENT | USER_VERIFIED | ATTESTED_CREDENTIAL, 0);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&id_length.to_be_bytes());
        data.extend_from_slice(&self.id);
        data.extend_from_slice(&cbor(&cose)?);
        Ok(data)
    }
}

struct Origin {
    text: String,
    host: String,
}

impl Origin {
    fn parse(text: &str) -> Result<Self, AuthenticatorError> {
        let foreign = || AuthenticatorError::ForeignOrigin { origin: text.to_owned(), rp_id: String::new() };
        let url = Url::parse(text).map_err(|_| foreign())?;
        // Passkeys work in secure contexts only, and never on bare addresses.
        let Some(Host::Domain(host)) = url.host() else { return Err(foreign()) };
        let secure = url.scheme() == "https" || (url.scheme() == "http" && host == "localhost");
        if !secure {
            return Err(foreign());
        }
        Ok(Self { text: url.origin().ascii_serialization(), host: host.to_owned() })
    }

    /// The relying party that pages of this origin may act for: the host itself or a domain above it.
    fn relying_party(&self, asked: Option<String>) -> Result<String, AuthenticatorError> {
        let rp_id = asked.unwrap_or_else(|| self.host.clone());
        let below = self.host.strip_suffix(&rp_id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        // A name of one label would be a public suffix, unless it is the whole host (`localhost`).
        if below && !rp_id.is_empty() && (rp_id.contains('.') || rp_id == self.host) {
            Ok(rp_id)
        } else {
            Err(AuthenticatorError::ForeignOrigin { origin: self.text.clone(), rp_id })
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreationOptions {
    rp: RelyingParty,
    user: UserEntity,
    challenge: String,
    pub_key_cred_params: Vec<Offer>,
    #[serde(default)]
    exclude_credentials: Vec<Descriptor>,
    #[serde(default)]
    extensions: Value,
}

#[derive(Deserialize)]
struct RelyingParty {
    id: Option<String>,
}

#[derive(Deserialize)]
struct UserEntity {
    id: String,
}

#[derive(Deserialize)]
struct Offer {
    alg: i64,
}

#[derive(Deserialize)]
struct Descriptor {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestOptions {
    rp_id: Option<String>,
    challenge: String,
    #[serde(default)]
    allow_credentials: Vec<Descriptor>,
}

fn read<T: for<'de> Deserialize<'de>>(options: &Value) -> Result<T, AuthenticatorError> {
    T::deserialize(options).map_err(|error| AuthenticatorError::Options { why: error.to_string() })
}

fn client_data(ceremony: &str, challenge: &str, origin: &str) -> String {
    json!({"type": ceremony, "challenge": challenge, "origin": origin, "crossOrigin": false}).to_string()
}

fn cbor(value: &Cbor) -> Result<Vec<u8>, AuthenticatorError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| AuthenticatorError::Options { why: format!("not expressible in CBOR: {error}") })?;
    Ok(bytes)
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str, member: &str) -> Result<Vec<u8>, AuthenticatorError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| AuthenticatorError::Options { why: format!("`{member}` is not base64url without padding") })
}

#[cfg(test)]
mod tests {
    use webauthn_rs::prelude::{DiscoverableKey, Passkey, Uuid, Webauthn, WebauthnBuilder};

    use super::*;

    const ORIGIN: &str = "https://auth.corp.example:8443";

    fn server() -> Webauthn {
        let origin = Url::parse(ORIGIN).unwrap();
        WebauthnBuilder::new("auth.corp.example", &origin).unwrap().rp_name("vouchsafe").build().unwrap()
    }

    fn register(server: &Webauthn, authenticator: &mut Authenticator, user: Uuid) -> Passkey {
        let (options, state) = server.start_passkey_registration(user, "alice", "alice", None).unwrap();
        let options = serde_json::to_value(options).unwrap();
        let credential = authenticator.create(&options["publicKey"], ORIGIN).unwrap();
        server.finish_passkey_registration(&serde_json::from_value(credential).unwrap(), &state).unwrap()
    }

    #[test]
    fn webauthn_rs_accepts_registration_and_sign_in_without_a_user_name() {
        let server = server();
        let mut authenticator = Authenticator::new();
        let user = Uuid::new_v4();
        let mut passkey = register(&server, &mut authenticator, user);
        for round in 1..=2 {
            let (options, state) = server.start_discoverable_authentication().unwrap();
            let options = serde_json::to_value(options).unwrap();
            let credential = authenticator.get(&options["publicKey"], ORIGIN).unwrap();
            let credential = serde_json::from_value(credential).unwrap();
            let (seen, _) = server.identify_discoverable_authentication(&credential).unwrap();
            assert_eq!(seen, user);
            let key = DiscoverableKey::from(&passkey);
            let result = server.finish_discoverable_authentication_v2(&credential, state, key).unwrap();
            assert!(result.user_verified());
            assert_eq!(result.counter(), round);
            passkey.update_credential(&result);
        }
    }

    #[test]
    fn webauthn_rs_accepts_a_named_credential_and_refuses_an_altered_answer() {
        let server = server();
        let mut authenticator = Authenticator::new();
        let passkey = register(&server, &mut authenticator, Uuid::new_v4());
        let (options, state) = server.start_passkey_authentication(std::slice::from_ref(&passkey)).unwrap();
        let options = serde_json::to_value(options).unwrap();
        let good = authenticator.get(&options["publicKey"], ORIGIN).unwrap();
        let mut altered = good.clone();
        altered["response"]["authenticatorData"] = json!(encode(&[7; 37]));
        let altered = serde_json::from_value(altered).unwrap();
        assert!(server.finish_passkey_authentication(&altered, &state).is_err());
        assert!(server.finish_passkey_authentication(&serde_json::from_value(good).unwrap(), &state).is_ok());
    }

    #[test]
    fn another_site_gets_nothing() {
        let server = server();
        let mut authenticator = Authenticator::new();
        register(&server, &mut authenticator, Uuid::new_v4());
        let (options, _) = server.start_discoverable_authentication().unwrap();
        let options = serde_json::to_value(options).unwrap();
        for origin in [
            "https://auth.corp.example.evil",
            "https://evilauth.corp.example",
            "https://corp.example",
            "http://auth.corp.example",
            "https://127.0.0.1",
            "auth.corp.example",
        ] {
            let refused = authenticator.get(&options["publicKey"], origin);
            assert!(matches!(refused, Err(AuthenticatorError::ForeignOrigin { .. })), "{origin}: {refused:?}");
        }
    }

    #[test]
    fn an_excluded_passkey_is_not_made_twice() {
        let server = server();
        let mut authenticator = Authenticator::new();
        let user = Uuid::new_v4();
        let passkey = register(&server, &mut authenticator, user);
        let exclude = Some(vec![passkey.cred_id().clone()]);
        let (options, _) = server.start_passkey_registration(user, "alice", "alice", exclude).unwrap();
        let options = serde_json::to_value(options).unwrap();
        let refused = authenticator.create(&options["publicKey"], ORIGIN);
        assert!(matches!(refused, Err(AuthenticatorError::AlreadyRegistered)), "{refused:?}");
    }
}
