//! A small installation to ask about: marketing, finance, a wiki, a database, an erp.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Decision;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::{DeviceId, GrantId, SessionId, UserId};
use vouchsafe_model::name::{DeviceName, GroupName, ResourceGroupName, ResourceName, Tag, UserName};
use vouchsafe_model::resource::{Endpoint, HttpSpec, Resource, ResourceSpec, Sensitivity, TcpSpec, UpstreamScheme};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{
    Detail, Diagnostic, Engine, KeyAgreement, Permit, PolicyFile, PolicySource, PreparedSubject, Request,
};

/// 2026-11-21T00:00:00Z.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_219_200)
}

pub(crate) fn name(text: &str) -> ResourceName {
    ResourceName::parse(text).expect("resource name")
}

fn resource(text: &str, groups: &[&str], spec: ResourceSpec) -> Resource {
    Resource {
        name: name(text),
        spec,
        groups: groups.iter().map(|group| ResourceGroupName::parse(group).expect("group")).collect(),
        tags: BTreeSet::from([Tag::parse("made-for-tests").expect("tag")]),
        sensitivity: Sensitivity::Internal,
        offline_grace: std::time::Duration::ZERO,
        via: None,
        description: String::new(),
        mode: vouchsafe_model::mode::Mode::Enforce,
    }
}

pub(crate) fn http(text: &str, groups: &[&str]) -> Resource {
    let spec = HttpSpec::new(UpstreamScheme::Http, Endpoint::parse("127.0.0.1:8080").expect("endpoint"));
    resource(text, groups, ResourceSpec::Http(spec))
}

pub(crate) fn tcp(text: &str, groups: &[&str]) -> Resource {
    let spec = TcpSpec { upstream: Endpoint::parse("127.0.0.1:5432").expect("endpoint"), port: 5432 };
    resource(text, groups, ResourceSpec::Tcp(spec))
}

pub(crate) fn resources() -> Vec<Resource> {
    vec![http("wiki", &["intranet"]), http("erp", &["intranet", "money"]), tcp("ledger", &["money"])]
}

pub(crate) fn file(text: &str) -> PolicyFile {
    PolicyFile { name: "test.cedar".into(), text: text.into() }
}

pub(crate) fn source(text: &str) -> PolicySource {
    PolicySource { version: 7, files: vec![file(text)], grants: Vec::new(), resources: resources() }
}

pub(crate) fn engine(text: &str) -> Arc<Engine> {
    Engine::compile(source(text)).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
}

pub(crate) fn printed(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|each| format!("{each}\n\n")).collect()
}

pub(crate) fn user(text: &str) -> UserName {
    UserName::parse(text).expect("user name")
}

/// A user in groups, signed in a minute ago, on an enrolled device with a hardware key of her own.
pub(crate) fn facts(who: &str, groups: &[&str]) -> SubjectFacts {
    SubjectFacts {
        session: SessionId::from_random([1; 16]),
        user: UserFacts {
            id: UserId::from_random([2; 16]),
            name: user(who),
            groups: groups.iter().map(|group| GroupName::parse(group).expect("group")).collect(),
        },
        device: Some(DeviceFacts {
            id: DeviceId::from_random([3; 16]),
            name: DeviceName::parse("laptop").expect("device name"),
            grade: Grade::Hardware,
            owner: Some(user(who)),
            tags: BTreeSet::new(),
        }),
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: now() - Duration::from_secs(60) },
        expires: now() + Duration::from_secs(3_600),
        epoch: Epoch(3),
    }
}

pub(crate) fn without_device(facts: SubjectFacts) -> SubjectFacts {
    SubjectFacts { device: None, ..facts }
}

pub(crate) fn grant(number: u8, who: &str, of: &str, expires: Option<SystemTime>) -> Grant {
    Grant {
        id: GrantId::from_random([number; 16]),
        user: user(who),
        resource: name(of),
        expires,
        reason: "month end".into(),
        template: None,
    }
}

pub(crate) const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 3, 4));

pub(crate) fn detail_of(action: Action) -> Detail<'static> {
    match action {
        Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => {
            Detail::Http { method: "GET", host: "wiki.vouchsafe.localhost", path: "/a/b" }
        }
        Action::NetConnect => Detail::Net { port: 5432 },
        Action::ConsoleRead | Action::ConsoleWrite => Detail::Console { operation: "policy.publish" },
    }
}

pub(crate) fn ask_at(
    engine: &Arc<Engine>,
    facts: &SubjectFacts,
    of: &str,
    action: Action,
    at: SystemTime,
) -> Result<Permit, Decision> {
    let of = name(of);
    let request =
        Request { resource: &of, action, ip: ADDRESS, agreement: KeyAgreement::Other, detail: detail_of(action) };
    PreparedSubject::new(engine.clone(), Arc::new(facts.clone())).decide(&request, at)
}

pub(crate) fn ask(engine: &Arc<Engine>, facts: &SubjectFacts, of: &str, action: Action) -> Result<Permit, Decision> {
    ask_at(engine, facts, of, action, now())
}
