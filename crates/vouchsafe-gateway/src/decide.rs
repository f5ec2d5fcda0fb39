//! The decision itself, and its audit record.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use parking_lot::RwLock;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::id::{DecisionId, DeviceId, FlowId};
use vouchsafe_model::mode::Lenience;
use vouchsafe_model::name::{GroupName, PolicyName, ResourceName, SiteName, Tag, UserName};
use vouchsafe_model::subject::{DeviceFacts, SubjectFacts};
use vouchsafe_policy::{Admission, Detail, Engine, KeyAgreement, PolicyFile, PolicySource, PreparedSubject, Request};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_runtime::link::Snapshot;
use vouchsafe_runtime::tls::Negotiated;
use vouchsafe_wire::audit::{Draft, Kind, Member, Members, Ready};
use vouchsafe_wire::canonical::CanonicalTarget;

use crate::facts;
use crate::record::NotRecorded;

/// The engine in force. Replaced as a whole at each snapshot.
pub(crate) struct Current(RwLock<Arc<Engine>>);

impl Current {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(RwLock::new(engine))
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn replace(&self, engine: Arc<Engine>) {
        *self.0.write() = engine;
    }
}

/// Makes an engine of a snapshot. The controller checked the policies before it published them; if
/// they fail here all the same, the engine knows none, and everything is denied. What stood in the
/// former engine already isn't read again.
pub(crate) fn compile(snapshot: &Snapshot, former: Option<&Engine>) -> Option<Arc<Engine>> {
    let source = |files: &[(String, String)]| PolicySource {
        version: snapshot.policy_version,
        files: files.iter().map(|(name, text)| PolicyFile { name: name.clone(), text: text.clone() }).collect(),
        grants: snapshot.grants.clone(),
        resources: snapshot.resources.clone(),
    };
    let source_of_all = source(&snapshot.policy_files);
    match Engine::compile_spread(source_of_all, former, &side_by_side) {
        Ok(engine) => Some(engine),
        Err(diagnostics) => {
            tracing::error!(
                version = snapshot.policy_version,
                mistakes = diagnostics.len(),
                first = diagnostics.first().map(|d| d.message.as_str()),
                "published policies can't be used; everything is denied until a good version comes"
            );
            let mut empty = source(&[]);
            empty.grants.clear();
            Engine::compile(empty).ok()
        }
    }
}

/// One question to the policy engine, kept as long as its flow is open.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    resource: ResourceName,
    action: Action,
    origin: Origin,
    what: What,
}

/// Where a request comes from, and on what kind of connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) ip: IpAddr,
    /// Of the connection that carries it: inside a tunnel, not of the tunnel's.
    pub(crate) agreement: KeyAgreement,
}

/// What is asked for. A question about a web request owns it in its canonical form, so that what is
/// decided on and what is sent are one value.
#[derive(Debug, Clone)]
enum What {
    Http { host: Arc<str>, target: Arc<CanonicalTarget> },
    Net { port: u16 },
    Console { operation: String, target: Arc<CanonicalTarget> },
}

impl Question {
    /// May this request be made to that web app?
    pub(crate) fn http(
        resource: ResourceName,
        action: Action,
        origin: Origin,
        host: Arc<str>,
        target: Arc<CanonicalTarget>,
    ) -> Self {
        Self { resource, action, origin, what: What::Http { host, target } }
    }

    /// May a tunnel lead to that port?
    pub(crate) fn net(resource: ResourceName, origin: Origin, port: u16) -> Self {
        Self { resource, action: Action::NetConnect, origin, what: What::Net { port } }
    }

    /// May this be done in the console or API?
    pub(crate) fn console(action: Action, origin: Origin, target: Arc<CanonicalTarget>) -> Self {
        let operation = format!("{} {}", target.method(), target.path());
        Self { resource: ResourceName::console(), action, origin, what: What::Console { operation, target } }
    }

    /// What is asked for.
    pub(crate) fn resource(&self) -> &ResourceName {
        &self.resource
    }

    /// Where it comes from.
    pub(crate) fn ip(&self) -> IpAddr {
        self.origin.ip
    }

    /// The canonical request that is decided on, where there is one.
    pub(crate) fn target(&self) -> Option<&Arc<CanonicalTarget>> {
        match &self.what {
            What::Http { target, .. } | What::Console { target, .. } => Some(target),
            What::Net { .. } => None,
        }
    }

    /// Decides. A path that an app may take for another one (`%2F`, `//`, `;`) needs a permit for
    /// each of them; the admission that is given is for the one that will be sent.
    pub(crate) fn admit(&self, ready: &facts::Ready, now: SystemTime) -> Result<Admission, Decision> {
        self.admit_subject(&ready.prepared, now)
    }

    fn admit_subject(&self, subject: &PreparedSubject, now: SystemTime) -> Result<Admission, Decision> {
        let others = match &self.what {
            What::Http { host, target } => Some((host, target)),
            What::Net { .. } | What::Console { .. } => None,
        };
        let also = others.into_iter().flat_map(|(host, target)| {
            target.other_readings().iter().map(move |path| Detail::Http { method: target.method(), host, path })
        });
        subject.admit(&self.request(), also, now)
    }

    /// Decides where nobody says who asks.
    pub(crate) fn admit_nobody(&self, engine: &Engine, now: SystemTime) -> Result<Admission, Decision> {
        engine.admit_nobody(&self.request(), now)
    }

    fn request(&self) -> Request<'_> {
        let detail = match &self.what {
            What::Http { host, target } => Detail::Http { method: target.method(), host, path: target.path() },
            What::Net { port } => Detail::Net { port: *port },
            What::Console { operation, .. } => Detail::Console { operation },
        };
        let Origin { ip, agreement } = self.origin;
        Request { resource: &self.resource, action: self.action, ip, agreement, detail }
    }
}

/// A decision with its id, ready to be recorded and quoted.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) id: DecisionId,
    pub(crate) decision: Decision,
    /// The moment that it was made for, which the record names: policies read the time.
    pub(crate) at: SystemTime,
}

impl Decided {
    pub(crate) fn new(decision: Decision, at: SystemTime) -> Self {
        Self { id: DecisionId::from_random(clock::random()), decision, at }
    }

    /// A denial by the enforcement point itself.
    pub(crate) fn denied(reason: Reason, engine: &Engine) -> Self {
        Self::new(Decision::denied(reason, engine.version()), clock::now())
    }
}

/// What is known of a request besides the decision, for its record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) shown: Option<Arc<Shown>>,
    pub(crate) protocol: &'static str,
    pub(crate) host: Option<Arc<str>>,
    pub(crate) port: Option<u16>,
    /// The canonical request, where there is one.
    pub(crate) target: Option<Arc<CanonicalTarget>>,
    /// Name of the resource as asked for, whether it exists or not.
    pub(crate) resource: Option<Arc<str>>,
    pub(crate) action: Option<Action>,
    /// Device proven on the connection, when there is no subject.
    pub(crate) device: Option<DeviceId>,
    /// The proxy that asks for somebody.
    pub(crate) proxy: Option<Arc<str>>,
}

/// What is the same in all records of a connection, written once.
#[derive(Debug)]
pub(crate) struct Shown {
    ip: String,
    ip_value: HeaderValue,
    tls: String,
    agreement: KeyAgreement,
}

impl Shown {
    /// Of a connection from there, whose handshake ended so.
    pub(crate) fn new(ip: IpAddr, tls: Negotiated) -> Arc<Self> {
        let ip = ip.to_string();
        // INVARIANT: an address is a header's value.
        let ip_value = HeaderValue::from_str(&ip).unwrap_or(HeaderValue::from_static(""));
        let agreement = KeyAgreement::of(tls.is_post_quantum());
        Arc::new(Self { ip, ip_value, tls: tls.to_string(), agreement })
    }

    /// The same, of somebody who isn't at the other end of the connection: how the key of her own was agreed on, nobody
    /// here knows.
    pub(crate) fn of_another(&self, ip: IpAddr) -> Arc<Self> {
        let ip = ip.to_string();
        // INVARIANT: as above.
        let ip_value = HeaderValue::from_str(&ip).unwrap_or(HeaderValue::from_static(""));
        Arc::new(Self { ip, ip_value, tls: self.tls.clone(), agreement: KeyAgreement::Other })
    }

    /// How the key of the client's connection was agreed on.
    pub(crate) fn agreement(&self) -> KeyAgreement {
        self.agreement
    }

    /// The client's address, as the value of a header.
    pub(crate) fn ip_value(&self) -> &HeaderValue {
        &self.ip_value
    }
}

/// What was opened by a decision.
pub(crate) struct Opened<'r> {
    pub(crate) flow: FlowId,
    /// The site whose connectors dial the upstream.
    pub(crate) via: Option<&'r SiteName>,
    /// The mode by which it passes though it is denied.
    pub(crate) by: Option<Lenience>,
}

/// The record of a decision but for its number, made by `source`. What can't be recorded must not
/// take effect.
pub(crate) fn record(
    source: &str,
    decided: &Decided,
    observed: &Observed,
    who: Option<&Who>,
    opened: Option<&Opened<'_>>,
) -> Result<Draft, NotRecorded> {
    let flow = opened.map(|opened| opened.flow);
    let Decision { outcome, reason, words, policies, advice, policy_version, epoch, step_up: _ } = &decided.decision;
    let before = |m: &mut Members<'_>| {
        m.maybe_text(Member::Action, observed.action.map(Action::as_str));
        if *outcome == Outcome::Deny {
            m.list(Member::Advice, advice.iter().map(|advice| advice.as_str()));
        }
        match who {
            Some(who) => {
                m.ready(&who.authentication, Member::AuthTimeUs);
                m.maybe_text(Member::Device, who.device.as_deref());
                m.ready(&who.described, Member::DeviceTags);
                m.number(Member::Epoch, epoch.0);
            }
            None => m.maybe_text(Member::Device, observed.device.map(|device| device.text()).as_deref()),
        }
        m.maybe_text(Member::Flow, flow.map(|flow| flow.text()).as_deref());
        if let Some(who) = who {
            m.text(Member::Grade, who.grade);
            m.ready(&who.groups, Member::Groups);
        }
        m.maybe_text(Member::Host, observed.host.as_deref());
        m.text(Member::Id, &decided.id.text());
        m.maybe_text(Member::Ip, observed.shown.as_ref().map(|shown| shown.ip.as_str()));
        m.kind(Kind::Decision);
        m.maybe_text(Member::Method, observed.target.as_ref().map(|target| target.method()));
        m.text(Member::Outcome, outcome.as_str());
        m.maybe_text(Member::Passed, opened.and_then(|opened| opened.by).map(Lenience::as_str));
        m.maybe_text(Member::Path, observed.target.as_ref().map(|target| target.path()));
        m.list(Member::Policies, policies.iter().map(PolicyName::as_str));
        m.number(Member::PolicyVersion, *policy_version);
        m.maybe_number(Member::Port, observed.port.map(u64::from));
        m.text(Member::Protocol, observed.protocol);
        m.maybe_text(Member::Proxy, observed.proxy.as_deref());
        m.text(Member::Reason, reason.code());
        m.maybe_text(Member::Resource, observed.resource.as_deref());
    };
    let after = |m: &mut Members<'_>| {
        m.number(Member::TimeUs, clock::unix_micros(decided.at));
        m.maybe_text(Member::Tls, observed.shown.as_ref().map(|shown| shown.tls.as_str()));
        m.maybe_text(Member::User, who.map(|who| who.user.as_str()));
        m.format();
        m.maybe_text(Member::Via, opened.and_then(|opened| opened.via).map(SiteName::as_str));
        m.text(Member::Words, words);
    };
    Draft::write(source, before, who.map(|who| who.session.as_str()), after).map_err(|error| {
        tracing::error!(%error, id = %decided.id, "the record of a decision can't be made");
        NotRecorded
    })
}

/// A subject as it stands in records: made once per epoch of its facts.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) device: Option<String>,
    pub(crate) grade: &'static str,
    authentication: Ready,
    /// What the policies may read of the device, besides its grade.
    described: Ready,
    groups: Ready,
}

impl Who {
    pub(crate) fn new(facts: &SubjectFacts) -> Self {
        let methods = facts.auth.methods.iter().map(|method| method.as_str());
        Self {
            user: facts.user.name.to_string(),
            session: facts.session.to_string(),
            device: facts.device.as_ref().map(|device| device.id.to_string()),
            grade: facts.grade().as_str(),
            authentication: Ready::new(|m| {
                m.list(Member::AuthMethods, methods);
                m.number(Member::AuthTimeUs, clock::unix_micros(facts.auth.at));
            }),
            described: Ready::new(|m| {
                if let Some(DeviceFacts { id: _, name, grade: _, owner, tags }) = &facts.device {
                    m.text(Member::DeviceName, name.as_str());
                    m.maybe_text(Member::DeviceOwner, owner.as_ref().map(UserName::as_str));
                    m.list(Member::DeviceTags, tags.iter().map(Tag::as_str));
                }
            }),
            groups: Ready::new(|m| m.list(Member::Groups, facts.user.groups.iter().map(GroupName::as_str))),
        }
    }
}

#[cfg(test)]
mod tests;
