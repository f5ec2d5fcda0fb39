//! A record of a decision turned back into the question that was decided.
//!
//! Nothing is guessed: a record that doesn't say everything that the policies read is not replayed, and says why.
//! What policies read of the resource (its kind, groups, tags) isn't in the record: it belongs to the policies' side, as
//! grants do, and is that of the engine which decides again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::id::{SessionId, UserId};
use vouchsafe_model::mode::Lenience;
use vouchsafe_model::name::{GroupName, ResourceName, Tag, UserName};
use vouchsafe_model::resource::PathRules;
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{Admission, Detail, Engine, KeyAgreement, OwnedDetail, PreparedSubject, Request};
use vouchsafe_wire::audit::{FORMER_FORMAT, Kind, MAX_LIST_ENTRIES, Record};
use vouchsafe_wire::canonical::CanonicalTarget;

/// A decision of the past: what was asked, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Id of the decision.
    pub id: Option<String>,
    /// Who asked, as she was known then.
    pub subject: SubjectFacts,
    /// What for.
    pub resource: ResourceName,
    /// To do what.
    pub action: Action,
    /// From where.
    pub ip: IpAddr,
    /// How the key of the connection was agreed on.
    pub agreement: KeyAgreement,
    /// What only requests of its kind have.
    pub what: What,
    /// When.
    pub at: SystemTime,
    /// What came of it.
    pub verdict: Verdict,
}

/// What is asked for, besides the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// As it was decided on.
    pub detail: OwnedDetail,
    /// Paths that some server takes the path for; they had to be permitted too.
    pub other_paths: Vec<String>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the policies said.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// By which policies and grants.
    pub policies: Vec<String>,
    /// By which mode it went on though it was denied.
    pub passed: Option<Lenience>,
}

/// Why a record of a decision is not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum NotReplayed {
    /// No policy was asked, since nobody was proven, the session had ended, or the like: no policy changes that.
    #[error("no policy was asked")]
    NoPolicyAsked,
    /// It doesn't say of the device what policies may read.
    #[error("the record is of a format that did not say everything")]
    FormerFormat,
    /// Something in it was too long to be kept whole.
    #[error("the record was shortened")]
    Shortened,
    /// What was asked for doesn't exist any more, or is of another kind now.
    #[error("the resource is gone, or is of another kind now")]
    ResourceGone,
    /// A member is missing, or isn't what it has to be.
    #[error("`{member}` of the record can't be used")]
    Unusable {
        /// Which.
        member: &'static str,
    },
}

impl NotReplayed {
    /// The word in machine-readable answers.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            NotReplayed::NoPolicyAsked => "no_policy_asked",
            NotReplayed::FormerFormat => "former_format",
            NotReplayed::Shortened => "shortened",
            NotReplayed::ResourceGone => "resource_gone",
            NotReplayed::Unusable { .. } => "unusable",
        }
    }
}

impl Recorded {
    /// Reads a record of a decision.
    ///
    /// # Errors
    /// [`NotReplayed`], also for records of other kinds.
    pub fn of(record: &Record) -> Result<Self, NotReplayed> {
        let verdict = verdict(record)?;
        if record.v == FORMER_FORMAT {
            return Err(NotReplayed::FormerFormat);
        }
        let at = moment(record.time_us, "time_us")?;
        let action: Action = parsed(record.action.as_deref(), "action")?;
        let console = ResourceName::console();
        let resource = match text(record.resource.as_deref(), "resource")? {
            name if name == console.as_str() => console,
            _ => parsed(record.resource.as_deref(), "resource")?,
        };
        Ok(Self {
            id: record.id.clone(),
            subject: subject(record)?,
            resource,
            action,
            ip: parsed(record.ip.as_deref(), "ip")?,
            agreement: KeyAgreement::of(record.is_post_quantum()),
            what: what(record, action)?,
            at,
            verdict,
        })
    }

    /// Decides it again, as a gateway would that has this engine.
    #[must_use]
    pub fn decide(&self, engine: &Arc<Engine>) -> Decision {
        self.decide_as(&PreparedSubject::new(Arc::clone(engine), Arc::new(self.subject.clone())))
    }

    /// The same with the subject made ready before: of these facts, and no others.
    #[must_use]
    pub fn decide_as(&self, subject: &PreparedSubject) -> Decision {
        let Self { id: _, subject: _, resource, action, ip, agreement, what, at, verdict: _ } = self;
        let What { detail, other_paths } = what;
        let (action, ip, agreement, detail) = (*action, *ip, *agreement, detail.as_detail());
        let request = Request { resource, action, ip, agreement, detail };
        let also = other_paths.iter().filter_map(|path| match request.detail {
            Detail::Http { method, host, path: _ } => Some(Detail::Http { method, host, path }),
            Detail::Net { .. } | Detail::Console { .. } => None,
        });
        match subject.admit(&request, also, *at) {
            Ok(Admission::Permitted(permit)) => permit.decision().clone(),
            Ok(admission @ Admission::Tolerated(_)) => admission.decision().clone(),
            Err(denial) => denial,
        }
    }
}

/// What was decided, where policies decided it.
fn verdict(record: &Record) -> Result<Verdict, NotReplayed> {
    let unusable = |member| NotReplayed::Unusable { member };
    if record.kind != Kind::Decision {
        return Err(unusable("kind"));
    }
    let reason = Reason::from_code(text(record.reason.as_deref(), "reason")?).ok_or(unusable("reason"))?;
    // Without an epoch, the enforcement point itself said no.
    if record.user.is_none() || record.epoch.unwrap_or_default() == 0 || !reason.is_of_policies() {
        return Err(NotReplayed::NoPolicyAsked);
    }
    let outcome = match text(record.outcome.as_deref(), "outcome")? {
        "allow" => Outcome::Allow,
        "deny" => Outcome::Deny,
        _ => return Err(unusable("outcome")),
    };
    let passed = match record.passed.as_deref() {
        None => None,
        Some("observe") => Some(Lenience::Observe),
        Some("warn") => Some(Lenience::Warn),
        Some(_) => return Err(unusable("passed")),
    };
    let fits = (outcome == Outcome::Allow) == (reason == Reason::Permitted);
    if !fits || (passed.is_some() && outcome == Outcome::Allow) {
        return Err(unusable("outcome"));
    }
    Ok(Verdict { outcome, reason, policies: record.policies.clone(), passed })
}

fn subject(record: &Record) -> Result<SubjectFacts, NotReplayed> {
    let grade: Grade = word(record.grade.as_deref(), "grade", Grade::from_word)?;
    let device = match &record.device {
        None if grade == Grade::None => None,
        None => return Err(NotReplayed::Unusable { member: "grade" }),
        Some(_) => Some(DeviceFacts {
            id: parsed(record.device.as_deref(), "device")?,
            name: parsed(record.device_name.as_deref(), "device_name")?,
            grade,
            owner: match record.device_owner {
                Some(_) => Some(parsed(record.device_owner.as_deref(), "device_owner")?),
                None => None,
            },
            tags: set::<Tag>(&record.device_tags, "device_tags")?,
        }),
    };
    let methods: BTreeSet<AuthMethod> = record
        .auth_methods
        .iter()
        .map(|method| word(Some(method), "auth_methods", AuthMethod::from_word))
        .collect::<Result<_, _>>()?;
    let name: UserName = parsed(record.user.as_deref(), "user")?;
    let groups = set::<GroupName>(&record.groups, "groups")?;
    let session: SessionId = parsed(record.session.as_deref(), "session")?;
    let signed_in = record.auth_time_us.ok_or(NotReplayed::Unusable { member: "auth_time_us" })?;
    Ok(SubjectFacts {
        session,
        // No policy reads the number of a user: her name never becomes another's.
        user: UserFacts { id: UserId::from_random([0; 16]), name, groups },
        device,
        auth: AuthFacts { methods, at: moment(signed_in, "auth_time_us")? },
        // It had not ended, or no policy would have been asked.
        expires: never(),
        epoch: Epoch(record.epoch.unwrap_or_default()),
    })
}

fn what(record: &Record, action: Action) -> Result<What, NotReplayed> {
    let (detail, other_paths) = match action {
        Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => {
            let host = text(record.host.as_deref(), "host")?.to_owned();
            let (method, path, other_paths) = canonical(record)?;
            (OwnedDetail::Http { method, host, path }, other_paths)
        }
        Action::NetConnect => {
            let port = record.port.ok_or(NotReplayed::Unusable { member: "port" })?;
            (OwnedDetail::Net { port }, Vec::new())
        }
        Action::ConsoleRead | Action::ConsoleWrite => {
            let (method, path, _) = canonical(record)?;
            (OwnedDetail::Console { operation: format!("{method} {path}") }, Vec::new())
        }
    };
    Ok(What { detail, other_paths })
}

/// Method and path, and what else the path may be read as.
fn canonical(record: &Record) -> Result<(String, String, Vec<String>), NotReplayed> {
    let (method, path) = (text(record.method.as_deref(), "method")?, text(record.path.as_deref(), "path")?);
    // What is canonical under the rules of any resource is so under the widest, and reads the same.
    let target = CanonicalTarget::parse(method, path, PathRules::WIDEST);
    match target {
        Ok(target) if target.path() == path && target.query().is_none() => {
            Ok((method.to_owned(), path.to_owned(), target.other_readings().to_vec()))
        }
        Ok(_) | Err(_) => Err(NotReplayed::Unusable { member: "path" }),
    }
}

/// A moment behind all that records can name.
fn never() -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(1 << 45)).unwrap_or(UNIX_EPOCH)
}

fn moment(micros: u64, member: &'static str) -> Result<SystemTime, NotReplayed> {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).ok_or(NotReplayed::Unusable { member })
}

/// A text that is there, and whole.
fn text<'r>(value: Option<&'r str>, member: &'static str) -> Result<&'r str, NotReplayed> {
    match value {
        Some(value) if value.ends_with(CUT) => Err(NotReplayed::Shortened),
        Some(value) => Ok(value),
        None => Err(NotReplayed::Unusable { member }),
    }
}

/// How a text ends of which something is missing. None that is read here ends so by itself.
const CUT: char = '…';

fn parsed<T: FromStr>(value: Option<&str>, member: &'static str) -> Result<T, NotReplayed> {
    text(value, member)?.parse().map_err(|_| NotReplayed::Unusable { member })
}

fn word<T>(value: Option<&str>, member: &'static str, of: impl Fn(&str) -> Option<T>) -> Result<T, NotReplayed> {
    of(text(value, member)?).ok_or(NotReplayed::Unusable { member })
}

/// All entries of a list; one that is full may have had more.
fn set<T: FromStr + Ord>(list: &[String], member: &'static str) -> Result<BTreeSet<T>, NotReplayed> {
    if list.len() >= MAX_LIST_ENTRIES {
        return Err(NotReplayed::Shortened);
    }
    list.iter().map(|entry| parsed(Some(entry), member)).collect()
}
