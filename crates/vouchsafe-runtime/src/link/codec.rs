//! The words of [`super`] as messages of the control channel, and back.

use std::sync::Arc;

use crate::clock;
use bytes::Bytes;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::subject::{DeviceFacts, SubjectFacts};
use vouchsafe_wire::control::message::{self, ChangeKind, Era, Nobody, PolicyFile};
use vouchsafe_wire::control::{FrameError, Unreadable, convert, decode, encode};

use super::{AttachedConnector, Change, Delta, KnownSubject, NoSubject, Outcome, Snapshot};

/// Failure to read a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is no message of ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It says something that can't be.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is of another installation.
    #[error("the snapshot is of another installation, `{domain}`")]
    Domain {
        /// Whose it is.
        domain: String,
    },
}

/// A connector that is attached, as a gateway tells of it.
#[must_use]
pub fn attached_connector(attached: &AttachedConnector) -> message::AttachedConnector {
    let AttachedConnector { id, since, connections, streams } = *attached;
    message::AttachedConnector { id: id.to_string(), since_us: clock::unix_micros(since), connections, streams }
}

/// The same, read; `None` when its id is none.
#[must_use]
pub fn read_attached_connector(told: &message::AttachedConnector) -> Option<AttachedConnector> {
    let message::AttachedConnector { id, since_us, connections, streams } = told;
    let since = clock::from_unix_micros(*since_us);
    Some(AttachedConnector { id: id.parse().ok()?, since, connections: *connections, streams: *streams })
}

/// The bytes of a snapshot, for signing.
///
/// # Errors
/// [`Unreadable`] when a resource has no text form.
pub fn snapshot(snapshot: &Snapshot, domain: &BaseDomain, eras: &[Era]) -> Result<Bytes, Unreadable> {
    let Snapshot { sequence, policy_version, policy_files, grants, resources, connectors } = snapshot;
    let (built_in, of_templates): (Vec<&Grant>, Vec<&Grant>) =
        grants.iter().partition(|grant| grant.template.is_none());
    let resources = resources.iter().filter_map(|resource| convert::resource_text(resource).transpose());
    Ok(encode(&message::Snapshot {
        domain: domain.to_string(),
        sequence: *sequence,
        policy_version: *policy_version,
        policy_files: policy_files
            .iter()
            .map(|(name, text)| PolicyFile { name: name.clone(), text: text.clone() })
            .collect(),
        grants: built_in.into_iter().map(Into::into).collect(),
        template_grants: of_templates.into_iter().map(Into::into).collect(),
        resources: resources.collect::<Result<_, _>>()?,
        eras: eras.to_vec(),
        connectors: connectors
            .iter()
            .map(|(id, site)| message::Connector { id: id.to_string(), site: site.to_string() })
            .collect(),
    }))
}

/// A snapshot whose signature was verified, and the eras of its history.
///
/// # Errors
/// [`SnapshotError`].
pub fn read_snapshot(payload: &[u8], domain: &BaseDomain) -> Result<(Snapshot, Vec<Era>), SnapshotError> {
    let message::Snapshot {
        domain: of,
        sequence,
        policy_version,
        policy_files,
        grants,
        resources,
        eras,
        connectors,
        template_grants,
    } = decode(payload)?;
    if of != domain.as_str() {
        return Err(SnapshotError::Domain { domain: of.chars().take(80).collect() });
    }
    let snapshot = Snapshot {
        sequence,
        policy_version,
        policy_files: policy_files.into_iter().map(|PolicyFile { name, text }| (name, text)).collect(),
        grants: convert::grants(&grants, &template_grants)?,
        resources: resources.iter().map(|text| convert::resource(text)).collect::<Result<_, _>>()?,
        connectors: connectors.iter().map(convert::connector).collect::<Result<_, _>>()?,
    };
    Ok((snapshot, eras))
}

/// A change as a message.
#[must_use]
pub fn change(delta: &Delta) -> message::Change {
    let Delta { sequence, change, outcome } = delta;
    let kind = match change {
        Change::User(name) => Some(ChangeKind::User(name.to_string())),
        Change::Device(id) => Some(ChangeKind::Device(id.to_string())),
        Change::Session(id) => Some(ChangeKind::Session(id.to_string())),
        Change::Everything => None,
    };
    let outcome = outcome.as_ref().map(|outcome| match outcome {
        Outcome::User(facts) => message::Outcome::User(convert::user(facts)),
        Outcome::Device(facts) => message::Outcome::Device(facts.into()),
        Outcome::Gone(why) => message::Outcome::Gone(nobody(*why)),
    });
    message::Change { kind, row: *sequence, outcome }
}

/// What a message says changed, among the rows behind one number up to another. What can't be read changed everything;
/// what became of it, where that can't be read or is not of it, has to be asked for.
#[must_use]
pub fn read_change(message: &message::Change, after: u64, through: u64) -> Delta {
    let message::Change { kind, row, outcome } = message;
    let read = match kind {
        Some(ChangeKind::User(name)) => name.parse().ok().map(Change::User),
        Some(ChangeKind::Device(id)) => id.parse().ok().map(Change::Device),
        Some(ChangeKind::Session(id)) => id.parse().ok().map(Change::Session),
        None => None,
    };
    let change = read.unwrap_or(Change::Everything);
    if !(after..=through).contains(row) || *row == after {
        return Delta { sequence: through, change, outcome: None };
    }
    let outcome = match (&change, outcome) {
        (Change::User(name), Some(message::Outcome::User(user))) => {
            convert::read_user(name, user).ok().map(Outcome::User)
        }
        (Change::Device(id), Some(message::Outcome::Device(device))) => {
            DeviceFacts::try_from(device).ok().filter(|device| device.id == *id).map(Outcome::Device)
        }
        (Change::User(_) | Change::Device(_) | Change::Session(_), Some(message::Outcome::Gone(why))) => {
            Some(Outcome::Gone(read_nobody(*why)))
        }
        (_, Some(message::Outcome::User(_) | message::Outcome::Device(_) | message::Outcome::Gone(_)) | None) => None,
    };
    Delta { sequence: *row, change, outcome }
}

/// Why a credential stands for nobody, as a message has it.
#[must_use]
pub fn nobody(why: NoSubject) -> i32 {
    let nobody = match why {
        NoSubject::Unknown => Nobody::Unknown,
        NoSubject::Ended => Nobody::Ended,
        NoSubject::DeviceRemoved => Nobody::DeviceRemoved,
    };
    nobody.into()
}

/// Why a credential stands for nobody.
#[must_use]
pub fn read_nobody(nobody: i32) -> NoSubject {
    match Nobody::try_from(nobody) {
        Ok(Nobody::Unknown) | Err(_) => NoSubject::Unknown,
        Ok(Nobody::Ended) => NoSubject::Ended,
        Ok(Nobody::DeviceRemoved) => NoSubject::DeviceRemoved,
    }
}

/// A subject as a message.
#[must_use]
pub fn subject(known: KnownSubject) -> message::Subject {
    convert::subject(&known.facts, known.audience)
}

/// A subject out of a message.
///
/// # Errors
/// [`Unreadable`].
pub fn read_subject(message: message::Subject) -> Result<KnownSubject, Unreadable> {
    let facts = SubjectFacts::try_from(&message)?;
    Ok(KnownSubject { facts: Arc::new(facts), audience: message.audience })
}
