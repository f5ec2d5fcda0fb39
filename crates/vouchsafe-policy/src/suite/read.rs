//! A test file as its author wrote it, checked and taken apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Outcome, Reason};
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::mode::Mode;
use vouchsafe_model::name::{
    DeviceName, GroupName, NameError, PolicyName, ResourceGroupName, ResourceName, Tag, UserName,
};
use vouchsafe_model::resource::{
    Endpoint, HttpSpec, Resource, ResourceSpec, Sensitivity, TcpSpec, UdpSpec, UpstreamScheme,
};
use vouchsafe_model::subject::{DeviceFacts, Grade};

use super::table::Reader;
use super::{Case, CaseQuestion, Details, DeviceSpec, OwnerSpec, Placed, SubjectSpec, SuiteFile};
use crate::diagnostic::{Diagnostic, nearest};
use crate::moment;
use crate::source::PolicyFile;

/// Longest that a sign-in can be ago: ten years.
const MAX_AUTH_AGE: u64 = 315_360_000;
/// What stands in `owner` for a device that is nobody's; no user can have the name.
const NOBODY: &str = "nobody";
const FILE: [&str; 6] = ["defaults", "subjects", "devices", "resources", "cases", "case"];
const SUBJECT: [&str; 2] = ["user", "groups"];
const DEVICE: [&str; 3] = ["grade", "owner", "tags"];
const RESOURCE: [&str; 5] = ["kind", "groups", "tags", "sensitivity", "port"];
/// What a case asks; `defaults` can have all of it.
const ASKED: [&str; 12] = [
    "subject",
    "device",
    "resource",
    "action",
    "method",
    "path",
    "host",
    "operation",
    "ip",
    "post_quantum",
    "auth_age",
    "at",
];
const CASE: [&str; 16] = [
    "name",
    "expect",
    "by",
    "reason",
    "subject",
    "device",
    "resource",
    "action",
    "method",
    "path",
    "host",
    "operation",
    "ip",
    "post_quantum",
    "auth_age",
    "at",
];

/// Reads one file; `left` is how many questions there may be yet.
pub(super) fn file(file: &PolicyFile, left: &mut usize) -> (SuiteFile, Vec<Diagnostic>) {
    let mut suite = SuiteFile { name: file.name.clone(), resources: Vec::new(), cases: Vec::new() };
    let mut reader = Reader::new(file);
    match DeTable::parse(&file.text) {
        Ok(parsed) => read(&mut reader, parsed.get_ref(), &mut suite, left),
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join(" ");
            reader.mistake("toml", message, error.span().unwrap_or_default(), None);
        }
    }
    let mut wrong = reader.wrong;
    wrong.sort_by_key(|mistake| mistake.offset);
    (suite, wrong)
}

fn read(reader: &mut Reader<'_>, table: &DeTable<'_>, suite: &mut SuiteFile, left: &mut usize) {
    reader.known_only(table, &FILE, "a file of tests");
    let mut named = Named::default();
    for (name, table) in reader.named(table, "subjects") {
        reader.known_only(table, &SUBJECT, "a subject");
        if let Some(subject) = subject(reader, &name, table) {
            named.subjects.insert(name.value, Arc::new(subject));
        }
    }
    for (name, table) in reader.named(table, "devices") {
        reader.known_only(table, &DEVICE, "a device");
        if let Some(device) = device(reader, &name, table) {
            named.devices.insert(name.value, Arc::new(device));
        }
    }
    for (name, table) in reader.named(table, "resources") {
        reader.known_only(table, &RESOURCE, "a resource");
        suite.resources.extend(resource(reader, &name, table));
    }
    let nothing = Asked::default();
    let defaults = match reader.table(table, "defaults") {
        Some(table) => {
            reader.known_only(table, &ASKED, "the defaults");
            asked(reader, table, &named, &nothing)
        }
        None => nothing,
    };
    let mut cases = reader.tables(table, "cases");
    cases.extend(reader.tables(table, "case"));
    for (at, table) in cases {
        suite.cases.extend(case(reader, &at, table, &named, &defaults, left));
    }
}

/// What cases can name.
#[derive(Default)]
struct Named {
    subjects: BTreeMap<String, Arc<SubjectSpec>>,
    devices: BTreeMap<String, Arc<DeviceSpec>>,
}

fn subject(reader: &mut Reader<'_>, name: &Placed<String>, table: &DeTable<'_>) -> Option<SubjectSpec> {
    let user = reader.text(table, "user").unwrap_or_else(|| name.clone());
    let user = parsed(reader, &user, UserName::parse)?;
    let groups = reader.texts(table, "groups").map(|groups| all(reader, &groups, GroupName::parse));
    Some(SubjectSpec { label: name.value.clone(), user, groups })
}

fn device(reader: &mut Reader<'_>, name: &Placed<String>, table: &DeTable<'_>) -> Option<DeviceSpec> {
    if Grade::from_word(&name.value).is_some() {
        let message = format!("`{}` is the word of a grade, and stands for a plain device of it", name.value);
        reader.mistake("reserved_name", message, name.at.clone(), Some("choose another name".to_owned()));
        return None;
    }
    let grade = match reader.text(table, "grade") {
        None => {
            let hint = "write `grade = \"software\"`, \"hardware\" or \"hardware-attested\"".to_owned();
            reader.mistake(
                "missing_key",
                format!("the device `{}` has no grade", name.value),
                name.at.clone(),
                Some(hint),
            );
            return None;
        }
        Some(word) => match Grade::from_word(&word.value).filter(|grade| *grade != Grade::None) {
            Some(grade) => grade,
            None => {
                let words = ["software", "hardware", "hardware-attested"];
                return unknown_word(reader, "grade", &word, &words);
            }
        },
    };
    let owner = match reader.text(table, "owner") {
        None => OwnerSpec::Subject,
        Some(owner) if owner.value == NOBODY => OwnerSpec::Nobody,
        Some(owner) => OwnerSpec::User(parsed(reader, &owner, UserName::parse)?),
    };
    let tags = reader.texts(table, "tags").unwrap_or_default();
    let tags = all(reader, &tags, Tag::parse);
    let facts = facts_of(grade, parsed(reader, name, DeviceName::parse)?, tags);
    Some(DeviceSpec { label: name.value.clone(), facts: Some(facts), owner })
}

fn facts_of(grade: Grade, name: DeviceName, tags: BTreeSet<Tag>) -> DeviceFacts {
    DeviceFacts { id: DeviceId::from_random([0; 16]), name, grade, owner: None, tags }
}

/// A device that is told by nothing but its grade.
fn plain_device(word: &str) -> Option<DeviceSpec> {
    let grade = Grade::from_word(word)?;
    let facts = match grade {
        Grade::None => None,
        Grade::Software | Grade::Hardware | Grade::HardwareAttested => {
            Some(facts_of(grade, DeviceName::parse("device").ok()?, BTreeSet::new()))
        }
    };
    Some(DeviceSpec { label: word.to_owned(), facts, owner: OwnerSpec::Subject })
}

fn resource(reader: &mut Reader<'_>, name: &Placed<String>, table: &DeTable<'_>) -> Option<Resource> {
    let kind = reader.text(table, "kind");
    let port = reader.number(table, "port", 65_535).and_then(|port| u16::try_from(port).ok());
    // Where it lives is nothing that a policy can ask for.
    let upstream = Endpoint::parse(&format!("127.0.0.1:{}", port.unwrap_or(1).max(1))).ok()?;
    let spec = match kind.as_ref().map(|kind| kind.value.as_str()) {
        Some("http") => ResourceSpec::Http(HttpSpec::new(UpstreamScheme::Http, upstream)),
        Some("tcp") => ResourceSpec::Tcp(TcpSpec { port: upstream.port, upstream }),
        Some("udp") => {
            ResourceSpec::Udp(UdpSpec { port: upstream.port, upstream, idle_timeout: Duration::from_secs(120) })
        }
        Some(_) => return kind.and_then(|kind| unknown_word(reader, "kind", &kind, &["http", "tcp", "udp"])),
        None => {
            let message = format!("the resource `{}` has no kind", name.value);
            let hint = "write `kind = \"http\"`, \"tcp\" or \"udp\"".to_owned();
            reader.mistake("missing_key", message, name.at.clone(), Some(hint));
            return None;
        }
    };
    let sensitivity = match reader.text(table, "sensitivity") {
        None => Sensitivity::default(),
        Some(word) => match Sensitivity::from_word(&word.value) {
            Some(level) => level,
            None => {
                let words = Sensitivity::ALL.map(Sensitivity::as_str);
                return unknown_word(reader, "sensitivity", &word, &words);
            }
        },
    };
    let groups = reader.texts(table, "groups").unwrap_or_default();
    let tags = reader.texts(table, "tags").unwrap_or_default();
    Some(Resource {
        name: parsed(reader, name, ResourceName::parse)?,
        spec,
        groups: all(reader, &groups, ResourceGroupName::parse),
        tags: all(reader, &tags, Tag::parse),
        sensitivity,
        description: String::new(),
        offline_grace: Duration::ZERO,
        via: None,
        // A mode changes no answer of the policies.
        mode: Mode::Enforce,
    })
}

/// What is asked, as far as it is said.
#[derive(Default, Clone)]
struct Asked {
    subjects: Option<Vec<Arc<SubjectSpec>>>,
    devices: Option<Vec<Arc<DeviceSpec>>>,
    resources: Option<Vec<String>>,
    actions: Option<Vec<Action>>,
    details: Arc<Details>,
}

/// Reads what a case or the defaults ask; what they don't say is as in `otherwise`.
fn asked(reader: &mut Reader<'_>, table: &DeTable<'_>, named: &Named, otherwise: &Asked) -> Asked {
    let mut asked = otherwise.clone();
    if let Some(names) = some(reader, table, "subject") {
        let known = |name: &Placed<String>| named.subjects.get(&name.value).cloned();
        let found = names.iter().map(|name| known(name).or_else(|| undeclared(reader, name)));
        asked.subjects = Some(found.flatten().collect());
    }
    if let Some(names) = some(reader, table, "device") {
        let mut devices = Vec::with_capacity(names.len());
        for name in &names {
            let known = named.devices.get(&name.value).cloned();
            match known.or_else(|| plain_device(&name.value).map(Arc::new)) {
                Some(device) => devices.push(device),
                None => {
                    let grades = Grade::ALL.map(Grade::as_str);
                    let known = named.devices.keys().map(String::as_str).chain(grades);
                    let hint = match nearest(&name.value, known) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!(
                            "name it at the head of the file, as `[devices.{}]`, or use a grade: {}",
                            name.value,
                            grades.join(", ")
                        ),
                    };
                    let message = format!("there is no device `{}`", name.value);
                    reader.mistake("unknown_device", message, name.at.clone(), Some(hint));
                }
            }
        }
        asked.devices = Some(devices);
    }
    if let Some(names) = some(reader, table, "resource") {
        asked.resources = Some(names.into_iter().map(|name| name.value).collect());
    }
    if let Some(words) = some(reader, table, "action") {
        asked.actions = actions(reader, &words);
    }
    asked.details = Arc::new(details(reader, table, &otherwise.details));
    asked
}

/// One text or several; a list without any asks for nothing, and is a mistake.
fn some(reader: &mut Reader<'_>, table: &DeTable<'_>, key: &str) -> Option<Vec<Placed<String>>> {
    let found = reader.texts(table, key)?;
    if found.is_empty()
        && let Some((name, _)) = table.iter().find(|(name, _)| name.get_ref().as_ref() == key)
    {
        let message = format!("`{key}` is an empty list, so nothing would be asked");
        reader.mistake("invalid_value", message, name.span(), Some("take the case out, or the key".to_owned()));
    }
    Some(found)
}

/// A user of the directory, whom the file says nothing of.
fn undeclared(reader: &mut Reader<'_>, name: &Placed<String>) -> Option<Arc<SubjectSpec>> {
    let user = parsed(reader, name, UserName::parse)?;
    Some(Arc::new(SubjectSpec { label: name.value.clone(), user, groups: None }))
}

/// `None` for all that a resource knows.
fn actions(reader: &mut Reader<'_>, words: &[Placed<String>]) -> Option<Vec<Action>> {
    let mut actions = Vec::with_capacity(words.len());
    for word in words {
        if word.value == "access" {
            return None;
        }
        match Action::from_str(&word.value) {
            Ok(action) => actions.push(action),
            Err(_) => {
                let known: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).chain(["access"]).collect();
                let _: Option<()> = unknown_word(reader, "action", word, &known);
            }
        }
    }
    Some(actions)
}

fn details(reader: &mut Reader<'_>, table: &DeTable<'_>, otherwise: &Details) -> Details {
    let mut text = |key: &str, default: &Option<String>| reader.text(table, key).map(|it| it.value).or(default.clone());
    let method = text("method", &otherwise.method);
    let host = text("host", &otherwise.host);
    let operation = text("operation", &otherwise.operation);
    let path = match reader.text(table, "path") {
        Some(path) if !path.value.starts_with('/') || path.value.contains(['?', '#']) => {
            let hint = "policies see the canonical path, which begins with `/` and has no query".to_owned();
            reader.mistake("invalid_value", "this is no path".to_owned(), path.at, Some(hint));
            None
        }
        Some(path) => Some(path.value),
        None => otherwise.path.clone(),
    };
    let ip = match reader.text(table, "ip") {
        Some(ip) => IpAddr::from_str(&ip.value).map_err(|_| {
            let hint = Some("such as \"10.0.0.7\" or \"2001:db8::7\"".to_owned());
            reader.mistake("invalid_value", "this is no IP address".to_owned(), ip.at, hint);
        }),
        None => Err(()),
    };
    let at = match reader.moment(table, "at") {
        Some(at) => {
            let read = moment::parse_rfc3339(&at.value);
            if read.is_none() {
                let hint = "write it as in RFC 3339, such as 2027-01-31T18:00:00Z".to_owned();
                reader.mistake("invalid_value", "this is no instant".to_owned(), at.at, Some(hint));
            }
            read
        }
        None => otherwise.at,
    };
    Details {
        method,
        path,
        host,
        operation,
        ip: ip.ok().or(otherwise.ip),
        post_quantum: reader.truth(table, "post_quantum").unwrap_or(otherwise.post_quantum),
        auth_age: reader.number(table, "auth_age", MAX_AUTH_AGE).unwrap_or(otherwise.auth_age),
        at,
    }
}

fn case(
    reader: &mut Reader<'_>,
    at: &Range<usize>,
    table: &DeTable<'_>,
    named: &Named,
    defaults: &Asked,
    left: &mut usize,
) -> Option<Case> {
    reader.known_only(table, &CASE, "a case");
    let line = reader.line(at.start);
    let name = reader.text(table, "name").map_or_else(|| format!("case in line {line}"), |name| name.value);
    let expect = match reader.text(table, "expect") {
        Some(word) if word.value == "allow" => Some(Outcome::Allow),
        Some(word) if word.value == "deny" => Some(Outcome::Deny),
        Some(word) => unknown_word(reader, "expect", &word, &["allow", "deny"]),
        None => missing(reader, "expect", at, "write `expect = \"allow\"` or `expect = \"deny\"`"),
    };
    let by = reader.texts(table, "by").unwrap_or_default();
    let by: Vec<PolicyName> = all(reader, &by, PolicyName::parse);
    let reason = reader.text(table, "reason").and_then(|word| {
        let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        Reason::from_code(&word.value).or_else(|| unknown_word(reader, "reason", &word, &codes))
    });
    let Asked { subjects, devices, resources, actions, details } = asked(reader, table, named, defaults);
    let wants = "say it in the case, or for all of them in `[defaults]`";
    let subjects = subjects.or_else(|| missing(reader, "subject", at, wants));
    let devices = devices.or_else(|| missing(reader, "device", at, "name one, or a grade: `device = \"software\"`"));
    let resources = resources.or_else(|| missing(reader, "resource", at, wants));
    let (expect, subjects, devices, resources) = (expect?, subjects?, devices?, resources?);
    let actions: Vec<Option<Action>> =
        actions.map_or_else(|| vec![None], |actions| actions.into_iter().map(Some).collect());
    let each = actions.iter().map(|action| if action.is_some() { 1 } else { 3 }).sum::<usize>();
    let count = subjects.len().saturating_mul(devices.len()).saturating_mul(resources.len()).saturating_mul(each);
    if count > *left {
        let message = format!("with this case there are more than {} questions", super::MAX_QUESTIONS);
        reader.mistake("too_many_cases", message, at.clone(), Some("ask for fewer combinations".to_owned()));
        return None;
    }
    *left -= count;
    let mut questions = Vec::with_capacity(count);
    for subject in &subjects {
        for device in &devices {
            for resource in &resources {
                for action in &actions {
                    questions.push(CaseQuestion {
                        subject: Arc::clone(subject),
                        device: Arc::clone(device),
                        resource: resource.clone(),
                        action: *action,
                        details: Arc::clone(&details),
                    });
                }
            }
        }
    }
    Some(Case { name, line, questions, expect, by, reason })
}

fn missing<T>(reader: &mut Reader<'_>, key: &str, at: &Range<usize>, hint: &str) -> Option<T> {
    reader.mistake("missing_key", format!("this case has no `{key}`"), at.clone(), Some(hint.to_owned()));
    None
}

fn unknown_word<T>(reader: &mut Reader<'_>, key: &str, word: &Placed<String>, known: &[&str]) -> Option<T> {
    let hint = match nearest(&word.value, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("it is one of {}", known.join(", ")),
    };
    let given: String = word.value.chars().take(60).collect();
    reader.mistake("invalid_value", format!("`{given}` is no {key}"), word.at.clone(), Some(hint));
    None
}

fn parsed<T>(
    reader: &mut Reader<'_>,
    text: &Placed<String>,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Option<T> {
    let wrong = |error: &dyn Display| error.to_string();
    match parse(&text.value) {
        Ok(value) => Some(value),
        Err(error) => {
            reader.mistake("invalid_name", wrong(&error), text.at.clone(), None);
            None
        }
    }
}

fn all<T, C: FromIterator<T>>(
    reader: &mut Reader<'_>,
    texts: &[Placed<String>],
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> C {
    texts.iter().filter_map(|text| parsed(reader, text, &parse)).collect()
}
