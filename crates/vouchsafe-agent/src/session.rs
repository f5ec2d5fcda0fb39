//! Who is signed in on this device, and a fresh access token for what they ask.
//!
//! `session.json` is shared by all processes of the user (`proxy`, `connect`, every verb), so it is
//! read again for every use and changed only under the lock: a refresh token is good for one
//! refresh, and two processes that used the same one would end the session.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};
use vouchsafe_runtime::clock;
use vouchsafe_wire::device::{GRANT_REFRESH, OauthError, TokenAnswer};
use vouchsafe_wire::ticket::hex;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::device::{Certified, Device, DeviceError};
use crate::exchange::{Content, ExchangeError, Refusal};
use crate::state::StateError;

/// Name of the session's file.
pub(crate) const FILE: &str = "session.json";
/// A token with less life than this is replaced before it is used, seconds.
const LEAST_LIFE_SECONDS: u64 = 60;

/// Failure to use the session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The session's file can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The session's file is damaged.
    #[error("`session.json` of the device is damaged")]
    Damaged(#[source] serde_json::Error),
    /// The gateway could not be asked for a token.
    #[error("no fresh access token")]
    Refresh(#[source] DeviceError),
}

/// An access token: whoever holds it *and* the device's key is the user.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The token itself, to be sent to the gateway and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is known of a sign-in without asking the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// User name.
    pub user: String,
    /// When the session ends by itself, unix seconds.
    pub expires: u64,
}

/// `session.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionFile {
    user: String,
    session_expires: u64,
    refresh_token: Secret,
    /// By audience and certificate: a token is bound to the certificate it was asked for with.
    access_tokens: BTreeMap<String, AccessToken>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessToken {
    token: Secret,
    expires: u64,
}

impl SessionFile {
    fn read(device: &Device) -> Result<Option<Self>, SessionError> {
        let Some(mut text) = device.state.read(FILE)? else { return Ok(None) };
        let session = serde_json::from_str(&text).map_err(SessionError::Damaged);
        text.zeroize();
        session.map(Some)
    }

    fn write(&self, device: &Device) -> Result<(), SessionError> {
        let mut text = serde_json::to_string(self).map_err(SessionError::Damaged)?;
        let written = device.state.write(FILE, &text);
        text.zeroize();
        Ok(written?)
    }

    fn fresh(&self, slot: &str, now: u64) -> Option<Secret> {
        let token = self.access_tokens.get(slot)?;
        (token.expires >= now.saturating_add(LEAST_LIFE_SECONDS)).then(|| token.token.clone())
    }

    /// Takes a token answer over the former session, if any.
    fn take(former: Option<Self>, answer: &TokenAnswer, slot: String, now: u64) -> Self {
        let mut access_tokens = former.map(|former| former.access_tokens).unwrap_or_default();
        access_tokens.retain(|_, token| token.expires > now);
        let expires = now.saturating_add(answer.expires_in);
        access_tokens.insert(slot, AccessToken { token: Secret(answer.access_token.clone()), expires });
        Self {
            user: answer.user.clone(),
            session_expires: answer.session_expires,
            refresh_token: Secret(answer.refresh_token.clone()),
            access_tokens,
        }
    }
}

/// The session on a device. Cheap to clone; keeps nothing but the device.
#[derive(Debug, Clone)]
pub struct Session {
    device: Arc<Device>,
}

impl Session {
    /// The session on that device, if somebody is signed in or not.
    #[must_use]
    pub fn on(device: Arc<Device>) -> Self {
        Self { device }
    }

    /// Who is signed in, as far as this device knows.
    ///
    /// # Errors
    /// [`SessionError`] when the file can't be read.
    pub fn signed_in(&self) -> Result<Option<SignedIn>, SessionError> {
        let now = clock::unix_seconds(clock::now());
        let session = SessionFile::read(&self.device)?.filter(|session| session.session_expires > now);
        Ok(session.map(|session| SignedIn { user: session.user, expires: session.session_expires }))
    }

    /// A token for that audience with at least a minute to live; `None` when nobody is signed in.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn token(&self, audience: &str) -> Result<Option<Secret>, SessionError> {
        let certified = self.device.current().await.map_err(SessionError::Refresh)?;
        self.token_for(&certified, audience).await
    }

    /// The same, bound to a certain certificate of the device.
    pub(crate) async fn token_for(
        &self,
        certified: &Certified,
        audience: &str,
    ) -> Result<Option<Secret>, SessionError> {
        let slot = slot(audience, certified);
        let now = || clock::unix_seconds(clock::now());
        match SessionFile::read(&self.device)? {
            None => return Ok(None),
            Some(session) => {
                if let Some(token) = session.fresh(&slot, now()) {
                    return Ok(Some(token));
                }
            }
        }
        let _lock = self.device.state.lock().await?;
        // Read again: whoever held the lock has most likely refreshed.
        let Some(session) = SessionFile::read(&self.device)? else { return Ok(None) };
        if let Some(token) = session.fresh(&slot, now()) {
            return Ok(Some(token));
        }
        let form = [
            ("grant_type", GRANT_REFRESH),
            ("refresh_token", session.refresh_token.expose()),
            ("resource", audience),
            ("client_id", &self.device.id().to_string()),
        ];
        let sent = self.device.send_with(certified, Method::POST, "/oauth/token", Content::Form(&form)).await;
        let answer = sent.map_err(SessionError::Refresh)?;
        if let Ok(refused) = serde_json::from_slice::<OauthError>(&answer.body)
            && refused.error == "invalid_grant"
        {
            tracing::info!(reason = refused.error_description, "the session has ended");
            self.device.state.remove(FILE)?;
            return Ok(None);
        }
        let answer: TokenAnswer = answer.json().map_err(|error| SessionError::Refresh(error.into()))?;
        let session = SessionFile::take(Some(session), &answer, slot, now());
        session.write(&self.device)?;
        Ok(Some(Secret(answer.access_token)))
    }

    /// Keeps a new sign-in in place of any former one.
    pub(crate) async fn keep(
        &self,
        certified: &Certified,
        audience: &str,
        answer: &TokenAnswer,
    ) -> Result<SignedIn, SessionError> {
        let _lock = self.device.state.lock().await?;
        let now = clock::unix_seconds(clock::now());
        SessionFile::take(None, answer, slot(audience, certified), now).write(&self.device)?;
        Ok(SignedIn { user: answer.user.clone(), expires: answer.session_expires })
    }

    /// Ends the session: tells the gateway and forgets the tokens, in that order; they are
    /// forgotten also when the gateway can't be told.
    ///
    /// # Errors
    /// [`SessionError::Refresh`] when the gateway could not be told, so the session still lives there.
    pub async fn sign_out(&self) -> Result<SignOut, SessionError> {
        // Before the lock is taken: a renewal that is due takes it too.
        let certified = self.device.current().await;
        let _lock = self.device.state.lock().await?;
        let Ok(Some(session)) = SessionFile::read(&self.device) else {
            // A damaged file is no session, and goes as well.
            self.device.state.remove(FILE)?;
            return Ok(SignOut::NobodyWas);
        };
        let id = self.device.id().to_string();
        let form = [("token", session.refresh_token.expose()), ("client_id", &id)];
        let sent = match certified {
            Ok(certified) => {
                self.device.send_with(&certified, Method::POST, "/oauth/revoke", Content::Form(&form)).await
            }
            Err(error) => Err(error),
        };
        self.device.state.remove(FILE)?;
        let answer = sent.map_err(SessionError::Refresh)?;
        if answer.status.is_success() {
            Ok(SignOut::Was(session.user))
        } else {
            let refusal = Refusal::read(answer.status, &answer.body);
            Err(SessionError::Refresh(ExchangeError::from(refusal).into()))
        }
    }
}

/// Who was signed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignOut {
    /// This user.
    Was(String),
    /// Nobody was signed in.
    NobodyWas,
}

fn slot(audience: &str, certified: &Certified) -> String {
    format!("{audience} {}", hex(&certified.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn answer(token: &str, refresh: &str) -> TokenAnswer {
        TokenAnswer {
            access_token: token.into(),
            token_type: "Bearer".into(),
            expires_in: 600,
            refresh_token: refresh.into(),
            user: "alice".into(),
            session_expires: 5_000,
        }
    }

    #[test]
    fn a_token_with_less_than_a_minute_is_not_used() {
        let session = SessionFile::take(None, &answer("one", "r1"), "gw".into(), 1_000);
        assert!(session.fresh("gw", 1_540).is_some());
        assert!(session.fresh("gw", 1_541).is_none());
        assert!(session.fresh("api", 1_000).is_none(), "a token of another audience");
    }

    #[test]
    fn a_refresh_keeps_tokens_that_live_and_replaces_the_refresh_token() {
        let first = SessionFile::take(None, &answer("one", "r1"), "gw".into(), 1_000);
        let second = SessionFile::take(Some(first), &answer("two", "r2"), "api".into(), 1_100);
        assert_eq!(second.refresh_token.expose(), "r2");
        assert!(second.fresh("gw", 1_200).is_some() && second.fresh("api", 1_200).is_some());
        let third = SessionFile::take(Some(second), &answer("three", "r3"), "api".into(), 9_000);
        assert_eq!(third.access_tokens.len(), 1, "dead tokens are not kept");
    }

    #[tokio::test]
    async fn the_file_is_private_and_debug_says_nothing() {
        let temp = tempfile::tempdir().unwrap();
        crate::device::tests_enrolled(temp.path());
        let device = Arc::new(Device::load(temp.path()).unwrap());
        let session = Session::on(device.clone());
        assert_eq!(session.signed_in().unwrap(), None);
        let mut answer = answer("tokensecret", "refreshsecret");
        answer.session_expires = u64::MAX / 4;
        session.keep(&device.certified(), "gw", &answer).await.unwrap();
        assert_eq!(session.signed_in().unwrap().unwrap().user, "alice");
        let path = device.state.path().join(FILE);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = session.token_for(&device.certified(), "gw").await.unwrap().unwrap();
        assert_eq!(token.expose(), "tokensecret");
        assert!(!format!("{token:?} {session:?}").contains("secret"));
    }

    #[tokio::test]
    async fn signing_out_forgets_the_tokens_even_when_the_gateway_is_away() {
        let temp = tempfile::tempdir().unwrap();
        crate::device::tests_enrolled(temp.path());
        let device = Arc::new(Device::load(temp.path()).unwrap());
        let session = Session::on(device.clone());
        assert_eq!(session.sign_out().await.unwrap(), SignOut::NobodyWas);
        let mut answer = answer("t", "r");
        answer.session_expires = u64::MAX / 4;
        session.keep(&device.certified(), "gw", &answer).await.unwrap();
        assert!(session.sign_out().await.is_err(), "the gateway of this test does not exist");
        assert_eq!(session.signed_in().unwrap(), None);
    }

    #[tokio::test]
    async fn signing_out_with_a_renewal_due_does_not_wait_for_itself() {
        let temp = tempfile::tempdir().unwrap();
        let soon = clock::unix_seconds(clock::now()) + 1_000;
        crate::device::tests_enrolled_until(temp.path(), soon);
        let device = Arc::new(Device::load(temp.path()).unwrap());
        let session = Session::on(device.clone());
        let mut answer = answer("t", "r");
        answer.session_expires = u64::MAX / 4;
        session.keep(&device.certified(), "gw", &answer).await.unwrap();
        let out = tokio::time::timeout(std::time::Duration::from_secs(25), session.sign_out()).await;
        assert!(out.expect("it ends").is_err(), "the gateway of this test does not exist");
        assert_eq!(session.signed_in().unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_panic() {
        let temp = tempfile::tempdir().unwrap();
        crate::device::tests_enrolled(temp.path());
        let device = Arc::new(Device::load(temp.path()).unwrap());
        device.state.write(FILE, "{\"user\":").unwrap();
        assert!(matches!(Session::on(device).signed_in(), Err(SessionError::Damaged(_))));
    }
}
