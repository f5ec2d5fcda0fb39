//! What somebody wants to protect, as the guide's form says it, and the manifest that it comes to.

use std::net::IpAddr;
use std::time::Duration;

use vouchsafe_model::moment;
use vouchsafe_model::name::{GroupName, ResourceName};
use vouchsafe_model::resource::Resource;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AssessedDraft, GroupDoc, Manifest, PolicyFileDoc, ResourceDoc};
use vouchsafe_wire::resource::TrialDoc;

use super::super::Fields;
use crate::administrator::{AdministratorError, resources as administered};
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{groups, policy, resources};

/// Fields of the guide's forms.
pub(super) const FIELDS: &[&str] =
    &["upstream", "kind", "name", "description", "group", "device", "from", "days", "until", "digest"];
/// How long it may be watched, days.
pub(super) const DAYS: [u64; 3] = [7, 14, 30];
/// What listens under these names speaks no HTTP.
const NO_WEB: [&str; 9] =
    ["ssh", "postgres", "redis-server", "valkey-server", "mysqld", "mariadbd", "mongod", "memcached", "etcd"];
/// Why it is watched, for the record.
const REASON: &str = "watched first, by the first steps in the console";

/// What somebody wants.
pub(super) struct Wanted {
    pub(super) upstream: String,
    pub(super) is_web: bool,
    pub(super) name: String,
    pub(super) description: String,
    /// The group that is to use it; empty is one of its own name.
    pub(super) group: String,
    pub(super) needs_device: bool,
    /// Networks, with commas.
    pub(super) from: String,
    pub(super) days: u64,
    /// RFC 3339; empty until a plan is shown.
    pub(super) until: String,
    owner: String,
}

/// What it comes to.
pub(super) struct Ready {
    pub(super) manifest: Manifest,
    pub(super) resource: Resource,
    /// Text of the policy for it.
    pub(super) policy: String,
}

impl Wanted {
    /// What a form or query says; where it says nothing, what is usual.
    pub(super) fn of(fields: &Fields, actor: &Actor) -> Self {
        let text = |name: &str| fields.text(name).unwrap_or_default().to_owned();
        Self {
            upstream: text("upstream"),
            is_web: fields.text("kind") != Some("tcp"),
            name: text("name"),
            description: text("description"),
            group: text("group"),
            needs_device: fields.text("device") != Some("none"),
            from: fields.text("from").map_or_else(|| around(actor), ToOwned::to_owned),
            days: fields.number("days").filter(|days| DAYS.contains(days)).unwrap_or(14),
            until: text("until"),
            owner: actor.label(),
        }
    }

    /// Fills in what a look at the host says.
    pub(super) fn begin_with(&mut self, draft: &AssessedDraft) {
        self.upstream = draft.upstream.clone().unwrap_or_default();
        self.is_web = draft.kind == "http" || !NO_WEB.contains(&draft.name.as_str());
        self.name.clone_from(&draft.name);
        self.description.clone_from(&draft.description);
        if !draft.from.is_empty() {
            self.from = draft.from.join(", ");
        }
    }

    /// The same with the moment from which it enforces.
    pub(super) fn with_an_end(mut self) -> Self {
        if self.until.is_empty() {
            let end = clock::now() + Duration::from_secs(self.days * 86_400);
            // In whole seconds, as it is kept: what is sent again must be the same.
            let end = clock::from_unix_seconds(clock::unix_seconds(end));
            self.until = moment::to_text(end).unwrap_or_default();
        }
        self
    }

    /// As fields of a form.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { upstream, is_web, name, description, group, needs_device, from, days, until, owner: _ } = self;
        vec![
            ("upstream", upstream.clone()),
            ("kind", if *is_web { "web" } else { "tcp" }.to_owned()),
            ("name", name.clone()),
            ("description", description.clone()),
            ("group", group.clone()),
            ("device", if *needs_device { "enrolled" } else { "none" }.to_owned()),
            ("from", from.clone()),
            ("days", days.to_string()),
            ("until", until.clone()),
        ]
    }

    /// Name of the group that is to use it.
    pub(super) fn group(&self) -> &str {
        if self.group.is_empty() { &self.name } else { &self.group }
    }

    /// The whole of what is and of what is wanted, for a plan.
    pub(super) async fn ready(&self, context: &Context) -> Result<Ready, AdministratorError> {
        let (name, group) = (ResourceName::parse(&self.name)?, GroupName::parse(self.group())?);
        let doc = administered::checked(&context.settings, &self.resource())?;
        let resource = doc.to_resource()?;
        let text = self.policy(&name, &group);
        let file = PolicyFileDoc { name: format!("apps/{name}.cedar"), text: text.clone() };
        let mut read = context.store.read().await?;
        let mut all = resources::list(&mut read).await?;
        match all.iter().find(|known| known.name == doc.name) {
            None => all.push(doc),
            Some(known) if *known == doc => {}
            Some(_) => return Err(taken(&name, "one that no resource has yet")),
        }
        let mut files = policy::current(&mut read).await?.files;
        match files.iter().find(|known| known.name == file.name) {
            None => files.push(file),
            Some(known) if known.text == file.text => {}
            Some(_) => return Err(taken(&name, "one that no file of the policy has yet")),
        }
        let present = groups::list(&mut read).await?;
        let is_new = !present.iter().any(|known| known.name == group.as_str());
        let groups = is_new.then(|| {
            let kept = present.into_iter().map(|known| GroupDoc { name: known.name, members: None });
            let new = GroupDoc { name: group.to_string(), members: Some(vec![self.owner.clone()]) };
            kept.chain([new]).collect()
        });
        let manifest = Manifest { groups, resources: Some(all), policy: Some(files), tests: None, invariants: None };
        Ok(Ready { manifest, resource, policy: text })
    }

    fn resource(&self) -> ResourceDoc {
        let bare = self.upstream.strip_prefix("http://").or(self.upstream.strip_prefix("tcp://"));
        let (kind, upstream) = match self.is_web {
            true if self.upstream.contains("://") => ("http", self.upstream.clone()),
            true => ("http", format!("http://{}", self.upstream)),
            false => ("tcp", bare.unwrap_or(&self.upstream).trim_end_matches('/').to_owned()),
        };
        let from = self.from.split([',', ' ']).map(str::trim).filter(|net| !net.is_empty()).map(ToOwned::to_owned);
        ResourceDoc {
            name: self.name.clone(),
            kind: kind.to_owned(),
            upstream,
            description: self.description.clone(),
            mode: Some("observe".to_owned()),
            observe: Some(TrialDoc {
                from: from.collect(),
                owner: self.owner.clone(),
                reason: REASON.to_owned(),
                until: self.until.clone(),
            }),
            ..ResourceDoc::default()
        }
    }

    fn policy(&self, name: &ResourceName, group: &GroupName) -> String {
        let kind = if self.is_web { "Http" } else { "Tcp" };
        let (device, words) = match self.needs_device {
            true => ("", " on an enrolled device"),
            false => ("@device(\"none\")\n", ""),
        };
        format!(
            "// Who may use {name}. Made by the first steps in the console.\n\
             @id(\"{name}-users\")\n\
             @reason(\"Members of {group} use {name}{words}.\")\n\
             {device}permit (principal in Group::\"{group}\", action, resource == {kind}::\"{name}\");\n"
        )
    }
}

fn taken(name: &ResourceName, expected: &'static str) -> AdministratorError {
    AdministratorError::Value { member: "name", given: name.to_string(), expected }
}

/// The network that whoever fills in the form comes from.
fn around(actor: &Actor) -> String {
    match actor {
        Actor::User { ip, .. } if !ip.is_loopback() => match ip {
            IpAddr::V4(ip) => format!("{ip}/32"),
            IpAddr::V6(ip) => format!("{ip}/128"),
        },
        _ => "127.0.0.0/8, ::1/128".to_owned(),
    }
}
