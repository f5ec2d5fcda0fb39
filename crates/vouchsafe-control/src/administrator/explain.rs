//! Why something is or would be allowed or denied.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vouchsafe_model::action::Action;
use vouchsafe_model::name::UserName;
use vouchsafe_model::resource::{ResourceKind, ResourceSpec};
use vouchsafe_model::subject::{DeviceFacts, Grade, UserFacts};
use vouchsafe_policy::{Engine, Explanation, KeyAgreement, OwnedDetail, PolicyListing, Question};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::ExplainRequest;

use super::{AdministratorError, gate, shortened};
use crate::context::Context;
use crate::directory::{DirectoryError, devices, users};
use crate::store::{facts, policy};

/// Explains one request under the policy in force.
pub(crate) async fn explain(context: &Context, asked: &ExplainRequest) -> Result<Explanation, AdministratorError> {
    let ExplainRequest { user, device, grade, resource, action, method, path, ip, post_quantum, auth_age, at } = asked;
    let name = UserName::parse(user)?;
    let mut read = context.store.read().await?;
    users::enabled(&mut read, &name).await?;
    let user: UserFacts =
        facts::user(&mut read, &name).await?.ok_or(crate::store::StoreError::Corrupt { what: "user" })?;
    let device = match device {
        None => None,
        Some(text) => {
            let shown = devices::show(&mut read, text).await?;
            let id = shown.id.parse()?;
            // One that is there, but has no facts, is locked.
            Some(facts::device(&mut read, &id).await?.ok_or(DirectoryError::DeviceLocked { name: shown.name })?)
        }
    };
    let device = of_grade(device, grade.as_deref(), &name)?;
    let ip = match ip {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => text.parse().map_err(|_| AdministratorError::Value {
            member: "ip",
            given: shortened(text),
            expected: "an IP address",
        })?,
    };
    let now = at.map_or_else(clock::now, clock::from_unix_seconds);
    let mut subject = gate::subject(&user, device);
    subject.auth.at = now.checked_sub(Duration::from_secs(auth_age.unwrap_or(0))).unwrap_or(now);
    subject.expires = now.checked_add(Duration::from_secs(3600)).unwrap_or(now);
    let current = policy::current(&mut read).await?;
    let engine = gate::compile(&mut read, policy::to_engine(&current.files), current.version).await?;
    drop(read);
    let action = action.as_deref().map(str::parse::<Action>).transpose()?;
    let (action, detail) = request(context, &engine, resource, action, method.as_deref(), path.as_deref());
    let (facts, resource, agreement) = (subject, resource.clone(), KeyAgreement::of(*post_quantum));
    let question = Question { facts, resource, action, ip, agreement, detail };
    tokio::task::spawn_blocking(move || vouchsafe_policy::explain(&engine, &question, now))
        .await
        .map_err(|_| AdministratorError::BrokenOff)
}

/// The texts of policies as they stand in a version; those that it doesn't have are left out.
pub(crate) async fn texts(
    context: &Context,
    version: u64,
    names: &[String],
) -> Result<Vec<PolicyListing>, AdministratorError> {
    let mut read = context.store.read().await?;
    let engine = match policy::highest(&mut read).await? {
        current if current == version => context.live.engine(&mut read).await?,
        _ => {
            let then = super::policy::show(&mut read, version).await?;
            gate::compile(&mut read, policy::to_engine(&then.files), version).await?
        }
    };
    let mut found = engine.policies();
    found.retain(|policy| names.iter().any(|name| name == policy.id.as_str()));
    Ok(found)
}

/// The device as if its key were kept so.
fn of_grade(
    device: Option<DeviceFacts>,
    grade: Option<&str>,
    owner: &UserName,
) -> Result<Option<DeviceFacts>, AdministratorError> {
    let Some(word) = grade else { return Ok(device) };
    let grade = Grade::from_word(word).ok_or_else(|| AdministratorError::Value {
        member: "grade",
        given: shortened(word),
        expected: "none, software, hardware or hardware-attested",
    })?;
    match (grade, device) {
        (Grade::None, _) => Ok(None),
        (grade, Some(device)) => Ok(Some(DeviceFacts { grade, ..device })),
        (grade, None) => Ok(Some(DeviceFacts { grade, ..gate::new_device(Some(owner))? })),
    }
}

/// What is asked to be done, with what only requests of that kind have.
fn request(
    context: &Context,
    engine: &Engine,
    resource: &str,
    action: Option<Action>,
    method: Option<&str>,
    path: Option<&str>,
) -> (Action, OwnedDetail) {
    let known = if resource == "console" {
        Some((ResourceKind::Console, 0))
    } else {
        engine.resources().find(|known| known.name.as_str() == resource).map(|known| match &known.spec {
            ResourceSpec::Http(http) => (ResourceKind::Http, http.upstream.port),
            ResourceSpec::Tcp(tcp) => (ResourceKind::Tcp, tcp.port),
            ResourceSpec::Udp(udp) => (ResourceKind::Udp, udp.port),
            ResourceSpec::Console => (ResourceKind::Console, 0),
        })
    };
    let (kind, port) = known.unwrap_or((ResourceKind::Http, 0));
    let action = action.unwrap_or(match (kind, method) {
        (ResourceKind::Http, Some(method)) if !matches!(method, "GET" | "HEAD" | "OPTIONS") => Action::HttpWrite,
        (ResourceKind::Http, _) => Action::HttpRead,
        (ResourceKind::Tcp | ResourceKind::Udp, _) => Action::NetConnect,
        (ResourceKind::Console, _) => Action::ConsoleRead,
    });
    let detail = match action {
        Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => OwnedDetail::Http {
            method: method.unwrap_or(if action == Action::HttpWrite { "POST" } else { "GET" }).to_owned(),
            host: context.settings.domain.host(resource),
            path: path.unwrap_or("/").to_owned(),
        },
        Action::NetConnect => OwnedDetail::Net { port },
        Action::ConsoleRead | Action::ConsoleWrite => {
            // As a gateway calls it: method and path.
            let method = method.unwrap_or(if action == Action::ConsoleRead { "GET" } else { "POST" });
            OwnedDetail::Console { operation: format!("{method} {}", path.unwrap_or("/v1/status")) }
        }
    };
    (action, detail)
}
