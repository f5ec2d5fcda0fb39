//! Between messages and the words of the model. What can't be read is an error, never a default: a fact
//! that is missing must not decide anything.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::{SiteName, UserName};
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};

use super::message;
use crate::resource::ResourceDoc;

/// A message is well-formed, but says something that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control channel brought an unreadable {what}")]
pub struct Unreadable {
    /// Which value.
    pub what: &'static str,
}

fn read<T: FromStr>(text: &str, what: &'static str) -> Result<T, Unreadable> {
    text.parse().map_err(|_| Unreadable { what })
}

fn to_us(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn from_us(us: u64, what: &'static str) -> Result<SystemTime, Unreadable> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(us)).ok_or(Unreadable { what })
}

fn texts<T: ToString>(set: &BTreeSet<T>) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

fn set<T: FromStr + Ord>(texts: &[String], what: &'static str) -> Result<BTreeSet<T>, Unreadable> {
    texts.iter().map(|text| read(text, what)).collect()
}

impl From<&DeviceFacts> for message::Device {
    fn from(facts: &DeviceFacts) -> Self {
        let DeviceFacts { id, name, grade, owner, tags } = facts;
        Self {
            id: id.to_string(),
            name: name.to_string(),
            grade: grade.as_str().to_owned(),
            owner: owner.as_ref().map(UserName::to_string).unwrap_or_default(),
            tags: texts(tags),
        }
    }
}

impl TryFrom<&message::Device> for DeviceFacts {
    type Error = Unreadable;

    fn try_from(device: &message::Device) -> Result<Self, Unreadable> {
        let message::Device { id, name, grade, owner, tags } = device;
        Ok(Self {
            id: read(id, "device id")?,
            name: read(name, "device name")?,
            grade: Grade::from_word(grade).ok_or(Unreadable { what: "device grade" })?,
            owner: if owner.is_empty() { None } else { Some(read(owner, "user name")?) },
            tags: set(tags, "tag")?,
        })
    }
}

/// Facts of a user whose name is said beside them.
#[must_use]
pub fn user(facts: &UserFacts) -> message::User {
    let UserFacts { id, name: _, groups } = facts;
    message::User { id: id.to_string(), groups: texts(groups) }
}

/// Facts of the user of that name.
///
/// # Errors
/// [`Unreadable`].
pub fn read_user(name: &UserName, user: &message::User) -> Result<UserFacts, Unreadable> {
    let message::User { id, groups } = user;
    Ok(UserFacts { id: read(id, "user id")?, name: name.clone(), groups: set(groups, "group name")? })
}

/// A subject with the host label of its cookie.
#[must_use]
pub fn subject(facts: &SubjectFacts, audience: Option<String>) -> message::Subject {
    let SubjectFacts { session, user, device, auth, expires, epoch } = facts;
    let UserFacts { id, name, groups } = user;
    let AuthFacts { methods, at } = auth;
    message::Subject {
        session: session.to_string(),
        user_id: id.to_string(),
        user: name.to_string(),
        groups: texts(groups),
        device: device.as_ref().map(Into::into),
        methods: methods.iter().map(|method| method.as_str().to_owned()).collect(),
        auth_time_us: to_us(*at),
        expires_us: to_us(*expires),
        epoch: epoch.0,
        audience,
    }
}

impl TryFrom<&message::Subject> for SubjectFacts {
    type Error = Unreadable;

    fn try_from(subject: &message::Subject) -> Result<Self, Unreadable> {
        let message::Subject {
            session,
            user_id,
            user,
            groups,
            device,
            methods,
            auth_time_us,
            expires_us,
            epoch,
            audience: _,
        } = subject;
        let method = |word: &String| AuthMethod::from_word(word).ok_or(Unreadable { what: "sign-in method" });
        Ok(Self {
            session: read(session, "session id")?,
            user: UserFacts {
                id: read(user_id, "user id")?,
                name: read(user, "user name")?,
                groups: set(groups, "group name")?,
            },
            device: device.as_ref().map(TryInto::try_into).transpose()?,
            auth: AuthFacts {
                methods: methods.iter().map(method).collect::<Result<_, _>>()?,
                at: from_us(*auth_time_us, "time of sign-in")?,
            },
            expires: from_us(*expires_us, "end of a session")?,
            epoch: Epoch(*epoch),
        })
    }
}

impl From<&Grant> for message::Grant {
    fn from(grant: &Grant) -> Self {
        let Grant { id, user, resource, expires, reason, template } = grant;
        Self {
            id: id.to_string(),
            user: user.to_string(),
            resource: resource.to_string(),
            expires_us: expires.map(to_us),
            reason: reason.clone(),
            template: template.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<&message::Grant> for Grant {
    type Error = Unreadable;

    fn try_from(grant: &message::Grant) -> Result<Self, Unreadable> {
        let message::Grant { id, user, resource, expires_us, reason, template } = grant;
        Ok(Self {
            id: read(id, "grant id")?,
            user: read(user, "user name")?,
            resource: read(resource, "resource name")?,
            expires: expires_us.map(|us| from_us(us, "end of a grant")).transpose()?,
            reason: reason.clone(),
            template: if template.is_empty() { None } else { Some(read(template, "name of a template")?) },
        })
    }
}

/// All grants of a snapshot.
///
/// # Errors
/// [`Unreadable`], also where one stands among those of templates that names none: it isn't all that the built-in
/// template gives.
pub fn grants(built_in: &[message::Grant], of_templates: &[message::Grant]) -> Result<Vec<Grant>, Unreadable> {
    let unreadable = Unreadable { what: "grant of a template" };
    let of_template = |grant: &message::Grant| match Grant::try_from(grant)? {
        Grant { template: None, .. } => Err(unreadable),
        grant => Ok(grant),
    };
    built_in.iter().map(Grant::try_from).chain(of_templates.iter().map(of_template)).collect()
}

/// A connector out of a snapshot.
///
/// # Errors
/// [`Unreadable`].
pub fn connector(connector: &message::Connector) -> Result<(ConnectorId, SiteName), Unreadable> {
    let message::Connector { id, site } = connector;
    Ok((read(id, "connector id")?, read(site, "site name")?))
}

/// A resource as it stands in a snapshot; `None` for the console, which every gateway knows.
///
/// # Errors
/// [`Unreadable`] when it has no JSON form.
pub fn resource_text(resource: &Resource) -> Result<Option<String>, Unreadable> {
    let Some(doc) = ResourceDoc::from_resource(resource) else { return Ok(None) };
    serde_json::to_string(&doc).map(Some).map_err(|_| Unreadable { what: "resource" })
}

/// A resource out of a snapshot. One whose mode can't be read enforces: what a controller of another
/// version means by it, nobody here knows.
///
/// # Errors
/// [`Unreadable`].
pub fn resource(text: &str) -> Result<Resource, Unreadable> {
    let unreadable = Unreadable { what: "resource" };
    let read = |doc: ResourceDoc| doc.to_resource().ok();
    if let Some(resource) = serde_json::from_str(text).ok().and_then(read) {
        return Ok(resource);
    }
    let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|_| unreadable)?;
    members.remove("mode");
    members.remove("observe");
    let doc = serde_json::from_value(members.into()).map_err(|_| unreadable)?;
    read(doc).ok_or(unreadable)
}
