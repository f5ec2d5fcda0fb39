//! One version of all policies, grants and resources, ready to decide.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use cedar_policy::{Authorizer, EntityUid, Policy, PolicyId, PolicySet, SlotId, Template};
use serde::{Deserialize, Serialize};
use vouchsafe_model::name::{PolicyName, ResourceName};
use vouchsafe_model::resource::{Resource, ResourceKind, ResourceSpec, Sensitivity};

use crate::annotation::{DeviceNeed, Effect, Notes};
use crate::check::{self, Parsed};
use crate::diagnostic::{Diagnostic, nearest};
use crate::index::{Index, Lineage, Number, Scope, Side};
use crate::moment;
use crate::schema::{Words, uid};
use crate::source::{PolicyFile, PolicySource};

/// The template of every grant. Slots are filled with entity ids, never with text.
const GRANT: &str = "permit(principal == ?principal, action, resource == ?resource);";

/// Most distinct slices that are remembered for sharing; past that, unused ones are forgotten.
const MAX_SHARED: usize = 8_192;

/// One version of all policies, grants and resources, ready to decide. Cheap to share in an `Arc`.
pub struct Engine {
    pub(crate) words: &'static Words,
    pub(crate) authorizer: Authorizer,
    pub(crate) index: Index,
    version: u64,
    entries: Vec<Entry>,
    by_id: HashMap<PolicyId, Number>,
    resources: BTreeMap<ResourceName, Arc<Resource>>,
    console: Arc<Resource>,
    warnings: Vec<Diagnostic>,
    shared: Mutex<HashMap<Vec<Number>, Weak<PolicySet>>>,
}

/// One policy or grant.
pub(crate) struct Entry {
    pub(crate) name: PolicyName,
    pub(crate) id: PolicyId,
    pub(crate) effect: Effect,
    pub(crate) scope: Scope,
    pub(crate) notes: Notes,
    /// File that it stands in; `grants` for a grant.
    pub(crate) file: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) body: Body,
}

/// What Cedar evaluates of an entry.
pub(crate) enum Body {
    Policy(Policy),
    Grant { user: EntityUid, resource: EntityUid },
}

impl Entry {
    /// Whether it is a permit whose time is over. A forbid never expires.
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        self.ends().is_some_and(|ends| ends <= now)
    }

    /// When it stops to permit.
    pub(crate) fn ends(&self) -> Option<SystemTime> {
        match self.effect {
            Effect::Permit => self.notes.expires,
            Effect::Forbid => None,
        }
    }

    /// Whether it counts only with a proven device.
    pub(crate) fn needs_device(&self) -> bool {
        self.effect == Effect::Permit && self.notes.device == DeviceNeed::Enrolled
    }
}

/// One policy, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyListing {
    /// Its `@id`.
    pub id: PolicyName,
    /// File that it stands in.
    pub file: String,
    /// Its `@reason`.
    pub reason: Option<String>,
    /// Its `@owner`.
    pub owner: Option<String>,
    /// Its `@expires`, in UTC as in RFC 3339.
    pub expires: Option<String>,
    /// Whether it allows or forbids.
    pub effect: Effect,
    /// As it stands in the file, with its annotations.
    pub text: String,
}

impl Engine {
    /// Makes a source ready to decide.
    ///
    /// # Errors
    /// All diagnostics, warnings too, when at least one of them is an error.
    pub fn compile(source: PolicySource) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let words = Words::get().map_err(|broken| vec![*broken])?;
        let PolicySource { version, files, grants, resources } = source;
        let (parsed, diagnostics) = check::inspect(words, &files);
        let mut building = Building::new(words, diagnostics);
        building.resources(resources);
        for policy in &parsed {
            building.policy(policy, &files);
        }
        for grant in &grants {
            building.grant(grant);
        }
        building.finish(version).map(Arc::new)
    }

    /// Number of this version, as given in the source.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The resource of that name; [`ResourceName::console`] names the console.
    #[must_use]
    pub fn resource(&self, name: &ResourceName) -> Option<&Arc<Resource>> {
        if *name == self.console.name { Some(&self.console) } else { self.resources.get(name) }
    }

    /// The resources of the source, sorted by name. The console, which has no upstream, isn't among them.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// What is doubtful in the source though it can be used: grants and policies that name no
    /// resource, conditions that never hold.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The policies of the files, in their order, for people. Grants aren't among them.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyListing> {
        let of_files = self.entries.iter().filter(|entry| matches!(entry.body, Body::Policy(_)));
        of_files
            .map(|entry| PolicyListing {
                id: entry.name.clone(),
                file: entry.file.as_ref().to_owned(),
                reason: entry.notes.reason.clone(),
                owner: entry.notes.owner.clone(),
                expires: entry.notes.expires.and_then(moment::to_text),
                effect: entry.effect,
                text: entry.text.as_ref().to_owned(),
            })
            .collect()
    }

    pub(crate) fn entry(&self, number: Number) -> Option<&Entry> {
        usize::try_from(number).ok().and_then(|number| self.entries.get(number))
    }

    pub(crate) fn find(&self, id: &PolicyId) -> Option<(Number, &Entry)> {
        let number = *self.by_id.get(id)?;
        Some((number, self.entry(number)?))
    }

    /// The entity of a resource with its groups.
    pub(crate) fn lineage(&self, resource: &Resource) -> Lineage {
        let group =
            |name: &vouchsafe_model::name::ResourceGroupName| uid(&self.words.types.resource_group, name.as_str());
        Lineage {
            uid: resource_uid(self.words, resource.spec.kind(), resource.name.as_str()),
            ancestors: resource.groups.iter().map(group).collect(),
        }
    }

    /// Cedar's set of just these entries. Subjects with the same rights share it.
    pub(crate) fn policy_set(&self, numbers: &[Number]) -> Option<Arc<PolicySet>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = shared.get(numbers).and_then(Weak::upgrade) {
            return Some(set);
        }
        let set = Arc::new(build_set(numbers.iter().filter_map(|number| self.entry(*number)))?);
        if shared.len() >= MAX_SHARED {
            shared.retain(|_, set| set.strong_count() > 0);
        }
        if shared.len() < MAX_SHARED {
            shared.insert(numbers.to_vec(), Arc::downgrade(&set));
        }
        Some(set)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("version", &self.version)
            .field("policies", &self.entries.len())
            .field("resources", &self.resources.len())
            .finish_non_exhaustive()
    }
}

fn resource_uid(words: &Words, kind: ResourceKind, name: &str) -> EntityUid {
    uid(words.types.of_kind(kind), name)
}

/// `None` when Cedar refuses an entry, which a compiled engine gives it no reason for.
fn build_set<'e>(entries: impl Iterator<Item = &'e Entry>) -> Option<PolicySet> {
    let mut set = PolicySet::new();
    // The space keeps it apart from every `@id`.
    let template = PolicyId::new("grant template");
    for entry in entries {
        match &entry.body {
            Body::Policy(policy) => set.add(policy.clone()).ok()?,
            Body::Grant { user, resource } => {
                if set.template(&template).is_none() {
                    set.add_template(Template::parse(Some(template.clone()), GRANT).ok()?).ok()?;
                }
                let slots =
                    HashMap::from([(SlotId::principal(), user.clone()), (SlotId::resource(), resource.clone())]);
                set.link(template.clone(), entry.id.clone(), slots).ok()?;
            }
        }
    }
    Some(set)
}

struct Building {
    words: &'static Words,
    diagnostics: Vec<Diagnostic>,
    entries: Vec<Entry>,
    resources: BTreeMap<ResourceName, Arc<Resource>>,
    groups: Vec<String>,
    granted: HashSet<PolicyName>,
}

impl Building {
    fn new(words: &'static Words, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            words,
            diagnostics,
            entries: Vec::new(),
            resources: BTreeMap::new(),
            groups: Vec::new(),
            granted: HashSet::new(),
        }
    }

    fn resources(&mut self, resources: Vec<Resource>) {
        for resource in resources {
            let name = resource.name.clone();
            if resource.spec == ResourceSpec::Console || name == ResourceName::console() {
                let message = format!("the resource `{name}` can't be a console: the one console is built in");
                self.diagnostics.push(Diagnostic::general("console_resource", message));
                continue;
            }
            self.groups.extend(resource.groups.iter().map(ToString::to_string));
            if self.resources.insert(name.clone(), Arc::new(resource)).is_some() {
                let message = format!("there are two resources of the name `{name}`");
                self.diagnostics.push(Diagnostic::general("duplicate_resource", message));
            }
        }
    }

    fn policy(&mut self, parsed: &Parsed, files: &[PolicyFile]) {
        let scope = Scope::of(&parsed.policy, self.words);
        self.doubt_resource(&scope.resource, parsed, files);
        let file = files.get(parsed.file).map_or("", |file| file.name.as_str());
        self.entries.push(Entry {
            name: parsed.name.clone(),
            id: parsed.policy.id().clone(),
            effect: parsed.policy.effect().into(),
            scope,
            notes: parsed.notes.clone(),
            file: file.into(),
            text: check::text_of(files, parsed),
            body: Body::Policy(parsed.policy.clone()),
        });
    }

    /// Warns of a policy about a resource or group that nothing has the name of.
    fn doubt_resource(&mut self, side: &Side, parsed: &Parsed, files: &[PolicyFile]) {
        let (Some(named), Some(file)) = (side.named(), files.get(parsed.file)) else { return };
        let of = named.type_name();
        let id = named.id().unescaped();
        let (what, known): (&str, Vec<&str>) = if *of == self.words.types.resource_group {
            ("resource group", self.groups.iter().map(String::as_str).collect())
        } else if of == self.words.types.of_kind(ResourceKind::Console) {
            ("console", vec!["console"])
        } else {
            let same_type = |resource: &&Arc<Resource>| self.words.types.of_kind(resource.spec.kind()) == of;
            ("resource", self.resources.values().filter(same_type).map(|resource| resource.name.as_str()).collect())
        };
        if known.contains(&id) {
            return;
        }
        let message = format!("there is no {what} {named}, so the policy does nothing");
        let found = Diagnostic::at("unknown_resource", message, &file.name, &file.text, parsed.at.clone()).warning();
        let found = match nearest(id, known) {
            Some(meant) => found.hint(format!("did you mean `{of}::\"{meant}\"`?")),
            None => found,
        };
        self.diagnostics.push(found);
    }

    fn grant(&mut self, grant: &vouchsafe_model::grant::Grant) {
        let id = grant.id.to_string();
        let Ok(name) = PolicyName::parse(&id) else { return };
        let Some(resource) = self.resources.get(&grant.resource) else {
            let message = format!(
                "the grant `{id}` to `{}` is of the resource `{}`, which doesn't exist",
                grant.user, grant.resource
            );
            let found = Diagnostic::general("grant_without_resource", message).warning();
            self.diagnostics.push(found.hint("remove the grant, or add the resource"));
            return;
        };
        if !self.granted.insert(name.clone()) {
            let message = format!("there are two grants of the id `{id}`");
            self.diagnostics.push(Diagnostic::general("duplicate_grant", message));
            return;
        }
        let user = uid(&self.words.types.user, grant.user.as_str());
        let resource = resource_uid(self.words, resource.spec.kind(), resource.name.as_str());
        let reason = if grant.reason.is_empty() {
            "granted explicitly".to_owned()
        } else {
            format!("granted explicitly: {}", grant.reason)
        };
        self.entries.push(Entry {
            id: PolicyId::new(&id),
            effect: Effect::Permit,
            scope: Scope::of_grant(user.clone(), resource.clone(), self.words),
            notes: Notes { reason: Some(reason), expires: grant.expires, ..Notes::default() },
            file: "grants".into(),
            text: format!("permit(principal == {user}, action, resource == {resource});").into(),
            body: Body::Grant { user, resource },
            name,
        });
    }

    fn finish(self, version: u64) -> Result<Engine, Vec<Diagnostic>> {
        let mut index = Index::default();
        let mut by_id = HashMap::with_capacity(self.entries.len());
        for (number, entry) in (0..).zip(&self.entries) {
            index.add(number, &entry.scope);
            by_id.insert(entry.id.clone(), number);
        }
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(self.diagnostics);
        }
        Ok(Engine {
            words: self.words,
            authorizer: Authorizer::new(),
            index,
            version,
            entries: self.entries,
            by_id,
            resources: self.resources,
            console: Arc::new(console()),
            warnings: self.diagnostics,
            shared: Mutex::new(HashMap::new()),
        })
    }
}

/// Our own console and API as a resource.
fn console() -> Resource {
    Resource {
        name: ResourceName::console(),
        spec: ResourceSpec::Console,
        groups: std::collections::BTreeSet::new(),
        tags: std::collections::BTreeSet::new(),
        sensitivity: Sensitivity::Restricted,
        description: "vouchsafe's own console and API".to_owned(),
    }
}
