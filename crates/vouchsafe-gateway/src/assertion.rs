//! The signed assertion that tells an upstream who asks (ES256 JWT, audience = resource, 60 s).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use vouchsafe_model::id::SessionId;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::subject::{Epoch, SubjectFacts};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::tls::{self, TlsError};
use vouchsafe_wire::token::{ASSERTION_LIFE_SECONDS, ASSERTION_TYP, AssertionClaims};

/// A remembered assertion is used for this long, so that it always has half its life left.
const REUSE: Duration = Duration::from_secs(ASSERTION_LIFE_SECONDS / 2);
/// Most assertions that are remembered.
const MAX_REMEMBERED: usize = 10_000;

type Key = (SessionId, Epoch, ResourceName);

/// Failure to sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssertionError {
    /// The key is not a P-256 key in PKCS#8 form.
    #[error("the assertion key can't be read")]
    Key(#[from] TlsError),
    /// The library refused to sign.
    #[error("the assertion can't be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// Signs assertions, and signs the same one only every half minute.
pub(crate) struct AssertionSigner {
    issuer: String,
    key: EncodingKey,
    header: Header,
    remembered: Mutex<HashMap<Key, (SystemTime, HeaderValue)>>,
}

impl AssertionSigner {
    pub(crate) fn new(issuer: String, key_pem: &str, kid: String) -> Result<Self, AssertionError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(ASSERTION_TYP.to_owned());
        header.kid = Some(kid);
        let key = EncodingKey::from_ec_der(tls::private_key(key_pem, "assertion key")?.secret_der());
        Ok(Self { issuer, key, header, remembered: Mutex::new(HashMap::new()) })
    }

    /// The value of the assertion header for an admitted request of that subject.
    pub(crate) fn value(&self, facts: &SubjectFacts, resource: &ResourceName) -> Result<HeaderValue, AssertionError> {
        let now = clock::now();
        let key = (facts.session, facts.epoch, resource.clone());
        if let Some((signed, value)) = self.remembered.lock().get(&key)
            && now.duration_since(*signed).is_ok_and(|age| age < REUSE)
        {
            return Ok(value.clone());
        }
        let claims = self.claims(facts, resource, now);
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(AssertionError::Sign)?;
        let mut value = HeaderValue::from_str(&token).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key, (now, value.clone()));
        Ok(value)
    }

    fn claims(&self, facts: &SubjectFacts, resource: &ResourceName, now: SystemTime) -> AssertionClaims {
        let iat = clock::unix_seconds(now);
        AssertionClaims {
            iss: self.issuer.clone(),
            sub: facts.user.name.to_string(),
            aud: resource.to_string(),
            exp: iat + ASSERTION_LIFE_SECONDS,
            iat,
            uid: facts.user.id.to_string(),
            groups: facts.user.groups.iter().map(ToString::to_string).collect(),
            device: facts.device.as_ref().map(|device| device.id.to_string()),
            device_grade: facts.grade().as_str().to_owned(),
            sid: facts.session.to_string(),
            amr: facts.auth.methods.iter().map(|method| method.as_str().to_owned()).collect(),
            auth_time: clock::unix_seconds(facts.auth.at),
        }
    }
}
