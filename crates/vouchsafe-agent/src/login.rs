//! Signing in on this device (RFC 8628): the person proves who she is in a browser, this device
//! polls until she has. The device code is worthless without the device's key.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use vouchsafe_runtime::clock;
use vouchsafe_wire::device::{DeviceAuthorization, GRANT_DEVICE_CODE, OauthError, TokenAnswer};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::device::{Certified, Device, DeviceError};
use crate::exchange::{Content, ExchangeError, Refusal};
use crate::session::{Session, SessionError, SignedIn};

/// What `slow_down` adds to the interval (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Longest interval between two polls.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// Failure to sign in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The person, or a policy, said no.
    #[error("the sign-in was refused: {words}")]
    Denied {
        /// Why, in the gateway's words.
        words: String,
    },
    /// Nobody confirmed the code in time.
    #[error("nobody confirmed the code in time")]
    Expired,
    /// The gateway answered with an error that is not for people.
    #[error("the gateway answered `{code}`: {words}")]
    Protocol {
        /// OAuth error code.
        code: String,
        /// Its description.
        words: String,
    },
    /// The page to go to is not one of the installation's.
    #[error("the gateway sends to `{link}`, which is not a page of `{domain}`")]
    ForeignLink {
        /// The link.
        link: String,
        /// The base domain.
        domain: String,
    },
    /// The gateway can't be asked.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The session can't be kept.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// When to poll, and what an answer means; pure.
#[derive(Debug)]
struct Polling {
    interval: Duration,
    until: SystemTime,
}

/// What an answer of the token endpoint leads to.
#[derive(Debug)]
enum Step {
    /// Ask again after that time.
    Wait(Duration),
    /// It is over.
    Fail(LoginError),
}

impl Polling {
    fn new(authorization: &DeviceAuthorization, now: SystemTime) -> Self {
        let life = Duration::from_secs(authorization.expires_in.min(3600));
        let interval = Duration::from_secs(authorization.interval.clamp(1, MAX_INTERVAL.as_secs()));
        Self { interval, until: now.checked_add(life).unwrap_or(now) }
    }

    fn handle_error(&mut self, error: OauthError, now: SystemTime) -> Step {
        match error.error.as_str() {
            "authorization_pending" => self.wait(now),
            "slow_down" => {
                self.interval = self.interval.saturating_add(SLOWER).min(MAX_INTERVAL);
                self.wait(now)
            }
            "access_denied" => Step::Fail(LoginError::Denied { words: error.error_description }),
            "expired_token" => Step::Fail(LoginError::Expired),
            _ => Step::Fail(LoginError::Protocol { code: error.error, words: error.error_description }),
        }
    }

    /// A poll that found no gateway counts as slow: RFC 8628 §3.5 asks for back-off.
    fn handle_silence(&mut self, error: DeviceError, now: SystemTime) -> Step {
        if !error.is_unreachable() {
            return Step::Fail(error.into());
        }
        self.interval = self.interval.saturating_mul(2).min(MAX_INTERVAL);
        match self.wait(now) {
            Step::Fail(_) => Step::Fail(error.into()),
            wait @ Step::Wait(_) => wait,
        }
    }

    fn wait(&self, now: SystemTime) -> Step {
        if now >= self.until { Step::Fail(LoginError::Expired) } else { Step::Wait(self.interval) }
    }
}

/// A sign-in that waits for the person.
pub struct Login {
    device: Arc<Device>,
    certified: Arc<Certified>,
    authorization: DeviceAuthorization,
    polling: Polling,
}

impl Login {
    /// Asks the gateway for a code.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn start(device: Arc<Device>) -> Result<Self, LoginError> {
        Self::start_with(device, None).await
    }

    /// The same, for a sign-in that is no older than so many seconds: the person proves anew who she is, also
    /// where her browser is signed in (RFC 9470 §4).
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn start_fresh(device: Arc<Device>, max_age: u64) -> Result<Self, LoginError> {
        Self::start_with(device, Some(max_age)).await
    }

    async fn start_with(device: Arc<Device>, max_age: Option<u64>) -> Result<Self, LoginError> {
        let certified = device.current().await?;
        let (id, age) = (device.id().to_string(), max_age.map(|age| age.to_string()));
        let age = age.as_deref().map(|age| ("max_age", age));
        let form: Vec<(&str, &str)> = [("client_id", id.as_str())].into_iter().chain(age).collect();
        let sent = device.send_with(&certified, Method::POST, "/oauth/device_authorization", Content::Form(&form));
        let authorization: DeviceAuthorization = sent.await?.json().map_err(DeviceError::from)?;
        for link in [&authorization.verification_uri, &authorization.verification_uri_complete] {
            if !is_ours(link, &device) {
                let (link, domain) = (link.chars().take(200).collect(), device.domain().to_string());
                return Err(LoginError::ForeignLink { link, domain });
            }
        }
        let polling = Polling::new(&authorization, clock::now());
        Ok(Self { device, certified, authorization, polling })
    }

    /// The link with the code in it.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.authorization.verification_uri_complete
    }

    /// The code that the page shows too, for comparing.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.authorization.user_code
    }

    /// How long the code is good for.
    #[must_use]
    pub fn life(&self) -> Duration {
        Duration::from_secs(self.authorization.expires_in)
    }

    /// Polls until the person has confirmed or refused, and keeps the session.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn finish(mut self) -> Result<SignedIn, LoginError> {
        let id = self.device.id().to_string();
        let form = [
            ("grant_type", GRANT_DEVICE_CODE),
            ("device_code", self.authorization.device_code.as_str()),
            ("client_id", id.as_str()),
            ("resource", AUDIENCE_GATEWAY),
        ];
        let mut pause = self.polling.interval;
        loop {
            tokio::time::sleep(pause).await;
            let sent = self.device.send_with(&self.certified, Method::POST, "/oauth/token", Content::Form(&form)).await;
            let step = match sent {
                Err(error) => self.polling.handle_silence(error, clock::now()),
                Ok(answer) if answer.status.is_success() => {
                    let answer: TokenAnswer = answer.json().map_err(DeviceError::from)?;
                    let session = Session::on(self.device.clone());
                    return Ok(session.keep(&self.certified, AUDIENCE_GATEWAY, &answer).await?);
                }
                Ok(answer) => match serde_json::from_slice::<OauthError>(&answer.body) {
                    Ok(error) => self.polling.handle_error(error, clock::now()),
                    Err(_) => {
                        let refusal = Refusal::read(answer.status, &answer.body);
                        return Err(DeviceError::from(ExchangeError::from(refusal)).into());
                    }
                },
            };
            match step {
                Step::Wait(next) => pause = next,
                Step::Fail(error) => return Err(error),
            }
        }
    }
}

/// Whether a link leads to a page of the device's installation: it is opened in a browser.
fn is_ours(link: &str, device: &Device) -> bool {
    let Ok(url) = url::Url::parse(link) else { return false };
    url.scheme() == "https"
        && url.username().is_empty()
        && url.password().is_none()
        && url.host_str().is_some_and(|host| device.domain().label_of(host).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn polling() -> Polling {
        let authorization = DeviceAuthorization {
            device_code: "d".into(),
            user_code: "ABCD".into(),
            verification_uri: String::new(),
            verification_uri_complete: String::new(),
            expires_in: 600,
            interval: 5,
        };
        Polling::new(&authorization, UNIX_EPOCH)
    }

    fn error(code: &str) -> OauthError {
        OauthError { error: code.into(), error_description: "words".into() }
    }

    #[test]
    fn slow_down_slows_down_for_good() {
        let mut polling = polling();
        let pause = |step| match step {
            Step::Wait(pause) => pause.as_secs(),
            Step::Fail(error) => panic!("{error}"),
        };
        assert_eq!(pause(polling.handle_error(error("authorization_pending"), UNIX_EPOCH)), 5);
        assert_eq!(pause(polling.handle_error(error("slow_down"), UNIX_EPOCH)), 10);
        assert_eq!(pause(polling.handle_error(error("authorization_pending"), UNIX_EPOCH)), 10);
        for _ in 0..20 {
            polling.handle_error(error("slow_down"), UNIX_EPOCH);
        }
        assert_eq!(polling.interval, MAX_INTERVAL);
    }

    #[test]
    fn every_end_is_told_apart() {
        let later = UNIX_EPOCH + Duration::from_secs(601);
        let ends = [("access_denied", UNIX_EPOCH), ("expired_token", UNIX_EPOCH), ("authorization_pending", later)];
        let fails: Vec<LoginError> = ends
            .into_iter()
            .map(|(code, now)| match polling().handle_error(error(code), now) {
                Step::Fail(error) => error,
                Step::Wait(_) => panic!("{code} goes on"),
            })
            .collect();
        assert!(matches!(fails.as_slice(), [LoginError::Denied { .. }, LoginError::Expired, LoginError::Expired]));
        assert!(matches!(polling().handle_error(error("odd"), UNIX_EPOCH), Step::Fail(LoginError::Protocol { .. })));
    }

    #[test]
    fn only_pages_of_the_installation_are_opened() {
        let temp = tempfile::tempdir().unwrap();
        crate::device::tests_enrolled(temp.path());
        let device = Device::load(temp.path()).unwrap();
        assert!(is_ours("https://auth.corp.example:8443/device?code=A", &device));
        for bad in [
            "http://auth.corp.example/",
            "https://auth.corp.example.evil/",
            "https://x@auth.corp.example/",
            "file:///etc/passwd",
            "https://evil/",
            "",
        ] {
            assert!(!is_ours(bad, &device), "{bad}");
        }
    }
}
