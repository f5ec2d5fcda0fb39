//! One certificate, from order to chain (RFC 8555 §7.4).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use vouchsafe_runtime::link::{Challenge, KeyAndChain};

use super::ChallengeKind;
use crate::ca::{Ca, CaError, CertificateRequest};

/// How long the authority may take to look at our answers, and to issue.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(120));

/// Failure to get a certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// The authority refused, or can't be reached.
    #[error(transparent)]
    Acme(#[from] Error),
    /// It does not offer the challenge that we can answer.
    #[error("the authority does not offer {0:?} for this name")]
    NotOffered(ChallengeKind),
    /// It looked and did not find our answer.
    #[error("the authority did not find the name to be ours: {0}")]
    NotProven(String),
    /// What it issued is not what was asked for.
    #[error(transparent)]
    Ca(#[from] CaError),
}

impl OrderError {
    /// Whether the authority says that we ask too much (RFC 8555 §6.6).
    pub(super) fn is_rate_limit(&self) -> bool {
        let OrderError::Acme(Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":rateLimited"))
    }
}

/// Gets a certificate for one name, with a fresh key. Our answers are shown as long as this runs,
/// and no longer.
pub(super) async fn obtain(
    account: &Account,
    ca: &Ca,
    host: &str,
    kind: ChallengeKind,
) -> Result<KeyAndChain, OrderError> {
    let _answers = Answers { ca, host };
    let identifiers = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prove(&mut order, ca, host, kind).await?;
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        Ok(OrderStatus::Pending | OrderStatus::Processing | OrderStatus::Invalid) | Err(Error::Api(_)) => {
            return Err(OrderError::NotProven(complaint(&mut order).await));
        }
        Err(error) => return Err(error.into()),
    }
    let request = CertificateRequest::new(host)?;
    order.finalize_csr(request.csr()).await?;
    let chain = order.poll_certificate(&POLL).await?;
    Ok(request.complete(chain, host)?)
}

async fn prove(order: &mut Order, ca: &Ca, host: &str, kind: ChallengeKind) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let wanted = match kind {
            ChallengeKind::TlsAlpn => ChallengeType::TlsAlpn01,
            ChallengeKind::Http => ChallengeType::Http01,
        };
        let mut challenge = authorization.challenge(wanted).ok_or(OrderError::NotOffered(kind))?;
        let answer = challenge.key_authorization();
        let host = host.to_owned();
        ca.answer(match kind {
            ChallengeKind::TlsAlpn => {
                let answer = CertificateRequest::answer(&host, answer.digest().as_ref())?;
                Challenge::TlsAlpn { host, answer }
            }
            ChallengeKind::Http => {
                Challenge::Http { host, token: challenge.token.clone(), answer: answer.as_str().to_owned() }
            }
        });
        challenge.set_ready().await.map_err(looked)?;
    }
    Ok(())
}

/// An authority that is quick has looked already when it answers that it will, and says then what it says else when it is asked
/// (RFC 8555 §6.7 names the kinds).
fn looked(error: Error) -> OrderError {
    const ABOUT_THE_NAME: [&str; 6] = ["caa", "connection", "dns", "incorrectResponse", "tls", "unauthorized"];
    let Error::Api(problem) = error else { return error.into() };
    let kind = problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default();
    if !ABOUT_THE_NAME.contains(&kind) {
        return Error::Api(problem).into();
    }
    OrderError::NotProven(problem.detail.clone().unwrap_or_else(|| problem.to_string()))
}

/// What the authority has to say about our answers.
async fn complaint(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await
            && let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref())
        {
            return problem.detail.clone().unwrap_or_else(|| problem.to_string());
        }
    }
    "it does not say why".to_owned()
}

/// Takes our answers back when the order is over, however it ends.
struct Answers<'o> {
    ca: &'o Ca,
    host: &'o str,
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.ca.forget_answers(self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str) -> Error {
        let problem = serde_json::json!({"type": kind, "detail": "nobody listens", "status": 403});
        Error::Api(serde_json::from_value(problem).unwrap())
    }

    #[test]
    fn an_authority_that_looked_at_once_is_told_from_one_that_refuses() {
        let quick = looked(problem("urn:ietf:params:acme:error:unauthorized"));
        assert_eq!(quick.to_string(), "the authority did not find the name to be ours: nobody listens");
        assert!(looked(problem("urn:ietf:params:acme:error:rateLimited")).is_rate_limit());
        assert!(matches!(looked(problem("urn:ietf:params:acme:error:malformed")), OrderError::Acme(Error::Api(_))));
    }
}
