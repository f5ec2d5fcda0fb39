//! Carrying a session from the sign-in host to an app host: a one-time code, bound to session and
//! host, good for a minute, exchanged by the gateway for that host's own cookie.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::ResourceName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{Change, RedeemedCode};
use vouchsafe_wire::audit::Kind;

use super::guard::SignedIn;
use super::rate::{Pace, RateLimit};
use super::refusal::Refusal;
use super::secret::{Secret, is_token_text};
use crate::context::Context;
use crate::directory::Actor;
use crate::store::tokens::{self, AppCode};
use crate::store::{StoreError, Write, facts, resources};

/// Life of a code, seconds.
const CODE_LIFE_SECONDS: u64 = 60;

/// An app host that asked for a sign-in, with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppTarget {
    label: String,
    state: String,
}

impl AppTarget {
    /// Accepts the label of a resource or of the console, and 43 characters of base64url.
    pub(super) fn parse(label: &str, state: &str) -> Option<Self> {
        let known = label == ResourceName::console().as_str() || ResourceName::parse(label).is_ok();
        (known && is_token_text(state)).then(|| Self { label: label.to_owned(), state: state.to_owned() })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }
}

/// Makes a code for that host and returns where the browser takes it.
pub(super) async fn send(context: &Context, signed_in: &SignedIn, target: &AppTarget) -> Result<String, Refusal> {
    let code = Secret::fresh();
    let now = clock::unix_seconds(clock::now());
    let row = AppCode {
        session: signed_in.facts.session,
        label: target.label.clone(),
        expires: now.saturating_add(CODE_LIFE_SECONDS),
    };
    let mut write = context.store.write().await?;
    tokens::insert_app_code(write.connection(), &code.hash(), &row, now).await?;
    let port = match ResourceName::parse(&target.label) {
        Ok(name) => resources::show(write.connection(), &name).await?.and_then(|resource| resource.proxy_port),
        Err(_) => None,
    };
    write.commit().await?;
    // A proxy that asks us may serve the app's name at a port of its own. Only an administrator says which: whoever
    // listens at another port of that host would else be sent the code.
    let origin = context.settings.origin_at(&target.label, port.map_or(context.settings.port, NonZeroU16::get));
    Ok(format!("{origin}/.vouchsafe/callback?code={}&state={}", code.expose(), target.state))
}

/// Exchanges codes for cookies.
pub(crate) struct Redeemer {
    /// Records of codes that were never ours. Anybody can make them up, so they must neither fill the
    /// log nor stand in the way of those who change something (I11).
    strays: RateLimit,
}

impl Default for Redeemer {
    fn default() -> Self {
        Self { strays: RateLimit::new(10, Duration::from_secs(10)) }
    }
}

impl Redeemer {
    /// Exchanges a code for the cookie of the app host with that label. The code is gone afterwards,
    /// whatever the outcome.
    pub(crate) async fn redeem(
        &self,
        context: &Context,
        code: &str,
        label: &str,
        device: Option<DeviceId>,
        ip: IpAddr,
    ) -> Result<Option<RedeemedCode>, StoreError> {
        let Some(code) = Secret::presented(code) else { return Ok(None) };
        let is_ours = tokens::knows_app_code(&mut *context.store.read().await?, &code.hash()).await?;
        if !is_ours && self.strays.take(ip, clock::now()) == Pace::TooFast {
            return Ok(None);
        }
        redeem(context, &code, label, device, ip).await
    }
}

async fn redeem(
    context: &Context,
    code: &Secret,
    label: &str,
    device: Option<DeviceId>,
    ip: IpAddr,
) -> Result<Option<RedeemedCode>, StoreError> {
    let mut write = context.store.write().await?;
    let nobody = match device {
        Some(id) => Actor::Device { id, ip },
        None => Actor::Anonymous { ip },
    };
    let verdict = exchange(&mut write, code, label, device, ip).await?;
    let (redeemed, mut record) = match verdict {
        Ok((redeemed, actor)) => {
            let mut record = actor.record(Kind::SignIn, clock::now());
            record.outcome = Some("ok".to_owned());
            (Some(redeemed), record)
        }
        Err(why) => {
            let mut record = nobody.record(Kind::SignIn, clock::now());
            record.outcome = Some("failed".to_owned());
            record.detail = Some(why.to_owned());
            (None, record)
        }
    };
    record.action = Some("app-sign-in".to_owned());
    record.target = Some(format!("app/{label}"));
    write.audit(record);
    write.commit().await?;
    Ok(redeemed)
}

async fn exchange(
    write: &mut Write,
    code: &Secret,
    label: &str,
    device: Option<DeviceId>,
    ip: IpAddr,
) -> Result<Result<(RedeemedCode, Actor), &'static str>, StoreError> {
    let now = clock::unix_seconds(clock::now());
    let Some(row) = tokens::take_app_code(write.connection(), &code.hash()).await? else {
        return Ok(Err("the code is unknown or was used already"));
    };
    if row.expires <= now {
        return Ok(Err("the code has expired"));
    }
    if row.label != label {
        return Ok(Err("the code is for another host"));
    }
    let Ok(facts) = facts::subject_by_session(write.connection(), &row.session, now).await? else {
        return Ok(Err("the session has ended"));
    };
    if facts.device.as_ref().map(|device| device.id) != device {
        return Ok(Err("the session belongs to another device"));
    }
    let cookie = Secret::fresh();
    if tokens::insert_cookie(write.connection(), &cookie.hash(), &facts.session, label).await? {
        // Gateways may remember one that is gone.
        write.change(Change::Session(facts.session));
    }
    let redeemed = RedeemedCode {
        cookie: cookie.expose().to_owned(),
        max_age_seconds: clock::unix_seconds(facts.expires).saturating_sub(now),
    };
    // For the record alone: nothing is decided on it.
    let (name, session) = (facts.user.name, Some(facts.session));
    let actor = Actor::User { name, session, device, ip, post_quantum: false, decision: None };
    Ok(Ok((redeemed, actor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_label_and_a_state_are_a_target() {
        let state = "s".repeat(43);
        assert!(AppTarget::parse("wiki", &state).is_some());
        assert!(AppTarget::parse("console", &state).is_some());
        for label in ["auth", "gw", "api", "", "a.b", "a/b", "-a", "xn--a", "A", "wiki:80", "wiki@x"] {
            assert!(AppTarget::parse(label, &state).is_none(), "{label}");
        }
        for state in ["", "s", &"s".repeat(44), &format!("{}&", "s".repeat(42))] {
            assert!(AppTarget::parse("wiki", state).is_none(), "{state}");
        }
    }
}
