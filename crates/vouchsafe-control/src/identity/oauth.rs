//! Tokens of devices: the device authorization grant (RFC 8628) and refresh (RFC 6749 §6), every
//! one bound to the device's certificate (RFC 8705).

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};
use vouchsafe_model::id::SessionId;
use vouchsafe_model::subject::{DeviceFacts, SubjectFacts};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_wire::device::{DeviceAuthorization, GRANT_DEVICE_CODE, GRANT_REFRESH, OauthError, TokenAnswer};
use vouchsafe_wire::token::{ACCESS_LIFE_SECONDS, AUDIENCE_API, AUDIENCE_GATEWAY, AccessClaims, Confirmation};

use super::Service;
use super::guard::{AUTH_LABEL, Peer, field};
use super::refusal::Refusal;
use super::secret::{Secret, UserCode, hash};
use super::session::{SESSION_LIFE_SECONDS, open, refused_record, signed_in_record, step_record};
use super::succession::{self, Shown, Standing};
use crate::directory::end_session;
use crate::store::enrolment::{self, CodeState, DeviceCode};
use crate::store::sessions::{NewSession, SessionKind};
use crate::store::tokens::{self, RefreshState};
use crate::store::{StoreError, Write, facts, passkeys};

/// Life of a device code, seconds.
const CODE_LIFE_SECONDS: u64 = 600;
/// Least seconds between polls; each poll that comes too soon adds as much (RFC 8628 §3.5).
const INTERVAL_SECONDS: u64 = 5;
const ACTION: &str = "device-sign-in";

/// Refusal in the form of RFC 6749 §5.2.
#[derive(Debug)]
pub(super) enum TokenRefusal {
    /// A code of the specifications, and words for people.
    Oauth(&'static str, &'static str),
    /// What every endpoint may refuse.
    Other(Refusal),
}

impl<E: Into<Refusal>> From<E> for TokenRefusal {
    fn from(error: E) -> Self {
        TokenRefusal::Other(error.into())
    }
}

impl IntoResponse for TokenRefusal {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            TokenRefusal::Oauth(error, description) => (StatusCode::BAD_REQUEST, error, description.to_owned()),
            TokenRefusal::Other(refusal) => {
                refusal.log();
                let (status, _) = refusal.status();
                let error = match status {
                    StatusCode::INTERNAL_SERVER_ERROR => "server_error",
                    StatusCode::TOO_MANY_REQUESTS => "slow_down",
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "invalid_client",
                    _ => "invalid_request",
                };
                (status, error, refusal.to_string())
            }
        };
        let body = OauthError { error: error.to_owned(), error_description: description };
        (status, Json(body)).into_response()
    }
}

fn fields(headers: &HeaderMap, body: &[u8]) -> Result<Vec<(String, String)>, TokenRefusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    if !form && !body.is_empty() {
        return Err(TokenRefusal::Oauth("invalid_request", "The body must be a form."));
    }
    Ok(url::form_urlencoded::parse(body).into_owned().take(16).collect())
}

/// `POST /oauth/device_authorization`.
pub(super) async fn device_authorization(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<DeviceAuthorization>, TokenRefusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let proven = peer.device()?;
    let device = proven.id;
    // RFC 9470 §4. How fresh the sign-in then is stands in its session; gateways decide by that.
    let fresh = field(&fields(&headers, &body)?, "max_age").map_or("", |_| "&fresh=1");
    let (code, user_code) = (Secret::fresh(), UserCode::fresh());
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    // One that is locked has no facts either.
    if facts::device(write.connection(), &device).await?.is_none() {
        return Err(Refusal::DeviceUnknown.into());
    }
    note_certificate(&mut write, &peer, proven).await?;
    let row = DeviceCode {
        code_hash: code.hash(),
        device,
        ip: peer.ip().to_string(),
        state: CodeState::Pending,
        session: None,
        interval: INTERVAL_SECONDS,
        last_poll: 0,
        created: now,
        expires: now.saturating_add(CODE_LIFE_SECONDS),
    };
    enrolment::insert_code(write.connection(), &row, &user_code.hash()).await?;
    write.commit().await?;
    let uri = format!("{}/device", service.context.settings.origin(AUTH_LABEL));
    Ok(Json(DeviceAuthorization {
        device_code: code.expose().to_owned(),
        user_code: user_code.shown(),
        verification_uri_complete: format!("{uri}?user_code={}{fresh}", user_code.shown()),
        verification_uri: uri,
        expires_in: CODE_LIFE_SECONDS,
        interval: INTERVAL_SECONDS,
    }))
}

/// `POST /oauth/token`.
pub(super) async fn token(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TokenAnswer>, TokenRefusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let proven = peer.device()?.clone();
    let fields = fields(&headers, &body)?;
    let missing = |what| TokenRefusal::Oauth("invalid_request", what);
    let audience = match field(&fields, "resource") {
        None if fields.iter().any(|(name, _)| name == "resource") => {
            return Err(TokenRefusal::Oauth("invalid_target", "Only one `resource` can be asked for."));
        }
        None | Some(AUDIENCE_GATEWAY) => AUDIENCE_GATEWAY,
        Some(AUDIENCE_API) => AUDIENCE_API,
        Some(_) => return Err(TokenRefusal::Oauth("invalid_target", "There are no tokens for this `resource`.")),
    };
    let mut write = service.context.store.write().await?;
    let Some(device) = facts::device(write.connection(), &proven.id).await? else {
        return Err(Refusal::DeviceUnknown.into());
    };
    note_certificate(&mut write, &peer, &proven).await?;
    let verdict = match field(&fields, "grant_type") {
        Some(GRANT_DEVICE_CODE) => {
            let code = field(&fields, "device_code").ok_or(missing("`device_code` is missing."))?;
            by_code(&mut write, &peer, &device, code).await?
        }
        Some(GRANT_REFRESH) => {
            let token = field(&fields, "refresh_token").ok_or(missing("`refresh_token` is missing."))?;
            by_refresh(&mut write, &peer, &device, token).await?
        }
        Some(_) => return Err(TokenRefusal::Oauth("unsupported_grant_type", "This grant is not offered.")),
        None => return Err(missing("`grant_type` is missing.")),
    };
    let answer = match verdict {
        Ok(facts) => Ok(issue(&service, &mut write, &facts, &proven, audience).await?),
        Err(refusal) => Err(refusal),
    };
    // A refusal is written as well: polls are counted, used-up codes removed, sessions ended.
    write.commit().await?;
    answer.map(Json)
}

/// Notes which certificate of the device is in use. Another program of the device may still have the one before the
/// newest, so that is no reason to refuse; but a copy of the device would have it too, so it is on record.
async fn note_certificate(write: &mut Write, peer: &Peer, proven: &ProvenDevice) -> Result<(), StoreError> {
    if succession::seen(write, Shown::of(proven)).await? == Some(Standing::Outdated) {
        tracing::warn!(device = %proven.id, "an outdated certificate asks for tokens: there may be a copy of this device");
        let why = "asks for tokens with a certificate that was replaced by one that has been used since; there may be \
                   a copy of the device";
        write.audit(step_record(&peer.nobody(), "device.outdated", &proven.id, why));
    }
    Ok(())
}

type Verdict = Result<SubjectFacts, TokenRefusal>;

const WRONG_CODE: TokenRefusal =
    TokenRefusal::Oauth("invalid_grant", "This code is not, or no longer, good on this device. Sign in again.");

async fn by_code(write: &mut Write, peer: &Peer, device: &DeviceFacts, code: &str) -> Result<Verdict, StoreError> {
    let now = clock::unix_seconds(clock::now());
    let found = match Secret::presented(code) {
        Some(code) => enrolment::find_code(write.connection(), &code.hash()).await?,
        None => None,
    };
    let Some(row) = found else {
        write.audit(refused_record(peer, ACTION, None, "the device code is unknown or was used already"));
        return Ok(Err(WRONG_CODE));
    };
    if row.device != device.id {
        let mut record = refused_record(peer, ACTION, None, "the device code belongs to another device");
        record.reason = Some("device_mismatch".to_owned());
        write.audit(record);
        return Ok(Err(WRONG_CODE));
    }
    if row.expires <= now {
        enrolment::remove_code(write.connection(), &row.code_hash).await?;
        return Ok(Err(TokenRefusal::Oauth("expired_token", "Nobody approved in time. Sign in again.")));
    }
    match row.state {
        CodeState::Pending => {
            let early = now < row.last_poll.saturating_add(row.interval);
            let interval = if early { row.interval.saturating_add(INTERVAL_SECONDS) } else { row.interval };
            enrolment::polled(write.connection(), &row.code_hash, interval, now).await?;
            Ok(Err(if early {
                TokenRefusal::Oauth("slow_down", "Ask less often: five seconds more from now on.")
            } else {
                TokenRefusal::Oauth("authorization_pending", "Nobody has approved yet.")
            }))
        }
        CodeState::Denied => {
            enrolment::remove_code(write.connection(), &row.code_hash).await?;
            write.audit(refused_record(peer, ACTION, None, "a person refused it"));
            Ok(Err(TokenRefusal::Oauth("access_denied", "The sign-in was refused.")))
        }
        CodeState::Approved => {
            enrolment::remove_code(write.connection(), &row.code_hash).await?;
            let Some(approved_in) = row.session else { return Ok(Err(WRONG_CODE)) };
            let Ok(approver) = facts::subject_by_session(write.connection(), &approved_in, now).await? else {
                write.audit(refused_record(peer, ACTION, None, "the session that approved it has ended"));
                return Ok(Err(WRONG_CODE));
            };
            open_cli(write, peer, device, &approver, now).await
        }
    }
}

/// Opens the session of the device that asked. How and when the person proved who she is, is what
/// the approving session knows; its device is not. Nothing was proven anew, so it ends with that one.
async fn open_cli(
    write: &mut Write,
    peer: &Peer,
    device: &DeviceFacts,
    approver: &SubjectFacts,
    now: u64,
) -> Result<Verdict, StoreError> {
    let session = NewSession {
        id: SessionId::from_random(clock::random()),
        user: approver.user.name.clone(),
        device: Some(device.id),
        kind: SessionKind::Cli,
        methods: approver.auth.methods.iter().copied().collect(),
        auth_time: clock::unix_seconds(approver.auth.at),
        created: now,
        expires: now.saturating_add(SESSION_LIFE_SECONDS).min(clock::unix_seconds(approver.expires)),
    };
    open(write, &session).await?;
    passkeys::signed_in(write.connection(), &session.user, now).await?;
    write.audit(signed_in_record(&session, peer, ACTION));
    let facts = facts::subject_by_session(write.connection(), &session.id, now).await?;
    Ok(facts.map_err(|_| WRONG_CODE))
}

async fn by_refresh(write: &mut Write, peer: &Peer, device: &DeviceFacts, token: &str) -> Result<Verdict, StoreError> {
    const WRONG_TOKEN: TokenRefusal = TokenRefusal::Oauth("invalid_grant", "The sign-in has ended. Sign in again.");
    let now = clock::unix_seconds(clock::now());
    let hash = hash(token);
    let Some((session, state)) = tokens::find_refresh(write.connection(), &hash).await? else {
        write.audit(refused_record(peer, ACTION, None, "the refresh token is unknown, or its session has ended"));
        return Ok(Err(WRONG_TOKEN));
    };
    let Ok(facts) = facts::subject_by_session(write.connection(), &session, now).await? else {
        write.audit(refused_record(peer, ACTION, None, "the session of the refresh token has ended"));
        return Ok(Err(WRONG_TOKEN));
    };
    if facts.device.as_ref().map(|device| device.id) != Some(device.id) {
        let why = "the refresh token belongs to a session on another device";
        let mut record = refused_record(peer, ACTION, Some(&facts.user.name), why);
        record.reason = Some("device_mismatch".to_owned());
        write.audit(record);
        return Ok(Err(WRONG_TOKEN));
    }
    match state {
        // Two hold the same token, and we can't tell which of them is the thief (RFC 9700 §4.14.2).
        RefreshState::Used => {
            end_session(write, &session, "a refresh token was used twice", &peer.nobody()).await?;
            Ok(Err(WRONG_TOKEN))
        }
        RefreshState::Unused => {
            tokens::use_refresh(write.connection(), &hash).await?;
            Ok(Ok(facts))
        }
    }
}

async fn issue(
    service: &Service,
    write: &mut Write,
    facts: &SubjectFacts,
    proven: &ProvenDevice,
    audience: &str,
) -> Result<TokenAnswer, Refusal> {
    let now = clock::unix_seconds(clock::now());
    let session_expires = clock::unix_seconds(facts.expires);
    let expires = now.saturating_add(ACCESS_LIFE_SECONDS).min(session_expires);
    let claims = AccessClaims {
        iss: service.context.settings.issuer(),
        sub: facts.user.id.to_string(),
        aud: audience.to_owned(),
        exp: expires,
        iat: now,
        auth_time: clock::unix_seconds(facts.auth.at),
        jti: clock::random_code(),
        client_id: proven.id.to_string(),
        sid: facts.session.to_string(),
        cnf: Confirmation { x5t_s256: URL_SAFE_NO_PAD.encode(proven.certificate_sha256) },
    };
    let access_token = service.context.ca.sign_access_token(&claims)?;
    let refresh = Secret::fresh();
    tokens::insert_refresh(write.connection(), &refresh.hash(), &facts.session).await?;
    Ok(TokenAnswer {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: expires.saturating_sub(now),
        refresh_token: refresh.expose().to_owned(),
        user: facts.user.name.to_string(),
        session_expires,
    })
}

/// `POST /oauth/revoke` (RFC 7009): signs the device's session out. What is not ours is no error.
pub(super) async fn revoke(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, TokenRefusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let device = peer.device()?.id;
    let fields = fields(&headers, &body)?;
    let Some(token) = field(&fields, "token").and_then(Secret::presented) else { return Ok(StatusCode::OK) };
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    let Some((session, _)) = tokens::find_refresh(write.connection(), &token.hash()).await? else {
        return Ok(StatusCode::OK);
    };
    let Ok(facts) = facts::subject_by_session(write.connection(), &session, now).await? else {
        return Ok(StatusCode::OK);
    };
    if facts.device.as_ref().map(|device| device.id) == Some(device) {
        end_session(&mut write, &session, "signed out on the device", &peer.nobody()).await?;
        write.commit().await?;
    }
    Ok(StatusCode::OK)
}
