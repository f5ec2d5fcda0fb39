//! One version of all policies, grants and resources, ready to decide.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use cedar_policy::EntityUid;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::GrantId;
use vouchsafe_model::mode::Mode;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_model::resource::{Resource, ResourceKind, ResourceSpec, Sensitivity};

use crate::annotation::{DeviceNeed, Effect, Notes};
use crate::check::{self, Former, Kind, Meaning, Parsed, Source};
use crate::diagnostic::{Diagnostic, nearest};
use crate::evaluator::{Condition, Expression, Object};
use crate::facts;
use crate::index::{Index, Lineage, Number, Scope, Side};
use crate::moment;
use crate::schema::{Words, uid};
use crate::source::{PolicyFile, PolicySource};
use crate::spread::{self, Spread};

/// One version of all policies, grants and resources, ready to decide. Cheap to share in an `Arc`.
pub struct Engine {
    pub(crate) words: &'static Words,
    pub(crate) index: Index,
    version: u64,
    /// By number. A number that nothing has is free for the next version.
    entries: Vec<Option<Arc<Entry>>>,
    /// The policies of the files, in their order.
    listed: Vec<Number>,
    templates: BTreeMap<PolicyName, Arc<Entry>>,
    unlinked: Vec<Unlinked>,
    files: Vec<Former>,
    resources: BTreeMap<ResourceName, Arc<Target>>,
    console: Arc<Target>,
    warnings: Vec<Diagnostic>,
}

/// One policy or grant.
pub(crate) struct Entry {
    pub(crate) name: PolicyName,
    pub(crate) effect: Effect,
    pub(crate) scope: Scope,
    pub(crate) notes: Notes,
    /// File that it stands in; `grants` for a grant.
    pub(crate) file: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) body: Body,
    /// What decides besides the scope; `None` when nothing does.
    pub(crate) condition: Option<Arc<Condition>>,
}

/// Where an entry comes from.
pub(crate) enum Body {
    /// Of a file; its text is what it was read from.
    Policy,
    /// Of a file, with slots. It is in no index, and decides nothing.
    Template,
    /// A right of one user to one resource is its scope, and no text that a name could break out of.
    Grant {
        grant: Grant,
        /// What it is made from; `None` for the built-in template.
        template: Option<Arc<Entry>>,
    },
}

/// A resource, and what of it is made ready once.
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    pub(crate) lineage: Lineage,
    pub(crate) object: Object,
}

impl Target {
    /// `None` when Cedar refuses the entity, for which typed values give it no reason.
    fn new(words: &Words, resource: Resource) -> Option<Self> {
        let group = |name: &vouchsafe_model::name::ResourceGroupName| uid(&words.types.resource_group, name.as_str());
        let own = resource_uid(words, resource.spec.kind(), resource.name.as_str());
        let lineage = Lineage::new(own, resource.groups.iter().map(group).collect());
        let object = facts::object(&resource, &lineage)?;
        Some(Self { resource: Arc::new(resource), lineage, object })
    }
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

    /// Whether it can decide anything: a template can't.
    fn is_in_force(&self) -> bool {
        match &self.body {
            Body::Policy | Body::Grant { .. } => true,
            Body::Template => false,
        }
    }

    /// The template that it was made from, of a grant made from one of the files.
    pub(crate) fn template(&self) -> Option<&Arc<Entry>> {
        match &self.body {
            Body::Policy | Body::Template => None,
            Body::Grant { template, .. } => template.as_ref(),
        }
    }

    /// Whether it counts only with a proven device.
    pub(crate) fn needs_device(&self) -> bool {
        self.effect == Effect::Permit && self.notes.device == DeviceNeed::Enrolled
    }
}

/// One template, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateListing {
    /// Its `@id`, by which grants name it.
    pub id: PolicyName,
    /// File that it stands in.
    pub file: String,
    /// Its `@reason`.
    pub reason: Option<String>,
    /// Its `@owner`.
    pub owner: Option<String>,
    /// Its `@expires`: no grant made from it holds longer. In UTC as in RFC 3339.
    pub expires: Option<String>,
    /// The actions that a grant made from it can permit.
    pub actions: Vec<Action>,
    /// As it stands in the file, with its annotations.
    pub text: String,
}

/// A grant that nothing was made of, so that it permits nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlinked {
    /// Which.
    pub grant: GrantId,
    /// The template that it is to be made from.
    pub template: PolicyName,
    /// Whose.
    pub user: UserName,
    /// To what.
    pub resource: ResourceName,
    /// Whether there is such a template, but it says nothing about resources of this kind.
    pub is_of_other_kind: bool,
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
        Self::build(source, None, &spread::in_turn)
    }

    /// Makes a source ready to decide that differs little from another, which was made ready before.
    /// The result is that of [`Engine::compile`]; what stands in both is not read again.
    ///
    /// # Errors
    /// All diagnostics, warnings too, when at least one of them is an error.
    pub fn compile_after(source: PolicySource, former: &Self) -> Result<Arc<Self>, Vec<Diagnostic>> {
        Self::build(source, Some(former), &spread::in_turn)
    }

    /// [`Engine::compile_after`], or [`Engine::compile`] when there was none before, with the work on
    /// many policies spread over the cores that the caller has.
    ///
    /// # Errors
    /// All diagnostics, warnings too, when at least one of them is an error.
    pub fn compile_spread(
        source: PolicySource,
        former: Option<&Self>,
        spread: Spread<'_>,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        Self::build(source, former, spread)
    }

    fn build(source: PolicySource, former: Option<&Self>, spread: Spread<'_>) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let words = Words::get().map_err(|broken| vec![*broken])?;
        let PolicySource { version, files, grants, resources } = source;
        let known = former.map_or(&[] as &[Former], Self::files);
        let (parsed, diagnostics) = check::inspect(words, &files, known, spread);
        let mut building = Building::new(words, diagnostics, former);
        building.resources(resources);
        let of_files = parsed.iter().filter_map(|parsed| match &parsed.source {
            Source::Kept(number) => Some(*number),
            Source::Fresh(..) => None,
        });
        let of_files: Vec<Number> = of_files.collect();
        let grants = building.known_grants(grants, &of_files);
        let kept: Kept = of_files.into_iter().chain(grants.iter().filter_map(|(_, number)| *number)).collect();
        building.keep_only(&kept);
        building.policies(parsed, files);
        building.grants(grants);
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
        self.target(name).map(|target| &target.resource)
    }

    /// The files as they were read.
    pub(crate) fn files(&self) -> &[Former] {
        &self.files
    }

    pub(crate) fn target(&self, name: &ResourceName) -> Option<&Target> {
        if *name == self.console.resource.name {
            Some(&self.console)
        } else {
            self.resources.get(name).map(Arc::as_ref)
        }
    }

    /// Every resource, the console first.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(self.console.as_ref()).chain(self.resources.values().map(Arc::as_ref))
    }

    /// The resources of the source, sorted by name. The console, which has no upstream, isn't among them.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values().map(|target| &target.resource)
    }

    /// What is doubtful in the source though it can be used: grants and policies that name no
    /// resource, conditions that never hold.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The templates of the files, by name.
    #[must_use]
    pub fn templates(&self) -> Vec<TemplateListing> {
        self.templates.values().map(|entry| TemplateListing::of(entry)).collect()
    }

    /// The template of that name.
    #[must_use]
    pub fn template(&self, name: &PolicyName) -> Option<TemplateListing> {
        self.templates.get(name).map(|entry| TemplateListing::of(entry))
    }

    /// Grants that permit nothing, because of their templates.
    #[must_use]
    pub fn unlinked(&self) -> &[Unlinked] {
        &self.unlinked
    }

    /// The policies of the files, in their order, for people. Neither templates nor grants are among them.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyListing> {
        let of_files = self.listed.iter().filter_map(|number| self.entry(*number));
        of_files
            .map(|entry| PolicyListing {
                id: entry.name.clone(),
                file: entry.file.as_ref().to_owned(),
                reason: entry.notes.reason.as_deref().map(str::to_owned),
                owner: entry.notes.owner.clone(),
                expires: entry.notes.expires.and_then(moment::to_text),
                effect: entry.effect,
                text: entry.text.as_ref().to_owned(),
            })
            .collect()
    }

    pub(crate) fn entry(&self, number: Number) -> Option<&Arc<Entry>> {
        usize::try_from(number).ok().and_then(|number| self.entries.get(number)).and_then(Option::as_ref)
    }

    /// The policy or grant of that id. Looks at all of them: for people, not for decisions.
    pub(crate) fn named(&self, name: &PolicyName) -> Option<&Arc<Entry>> {
        self.entries.iter().flatten().find(|entry| entry.name == *name)
    }
}

impl TemplateListing {
    fn of(entry: &Entry) -> Self {
        Self {
            id: entry.name.clone(),
            file: entry.file.as_ref().to_owned(),
            reason: entry.notes.reason.as_deref().map(str::to_owned),
            owner: entry.notes.owner.clone(),
            expires: entry.notes.expires.and_then(moment::to_text),
            actions: entry.scope.action.actions.clone(),
            text: entry.text.as_ref().to_owned(),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("version", &self.version)
            .field("policies", &self.entries.iter().flatten().count())
            .field("resources", &self.resources.len())
            .finish_non_exhaustive()
    }
}

/// What a grant says of itself.
fn said(grant: &Grant) -> Arc<str> {
    match grant.reason.as_str() {
        "" => "granted explicitly".into(),
        reason => format!("granted explicitly: {reason}").into(),
    }
}

fn resource_uid(words: &Words, kind: ResourceKind, name: &str) -> EntityUid {
    uid(words.types.of_kind(kind), name)
}

/// The numbers of those entries of a former version that this one has too.
type Kept = HashSet<Number>;

struct Building<'e> {
    words: &'static Words,
    former: Option<&'e Engine>,
    diagnostics: Vec<Diagnostic>,
    /// By number: at first those of the former version.
    entries: Vec<Option<Arc<Entry>>>,
    /// Numbers that are free for new entries.
    free: Vec<Number>,
    removed: Vec<(Number, Arc<Entry>)>,
    added: Vec<Number>,
    listed: Vec<Number>,
    templates: BTreeMap<PolicyName, Arc<Entry>>,
    unlinked: Vec<Unlinked>,
    files: Vec<Former>,
    resources: BTreeMap<ResourceName, Arc<Target>>,
    /// Each condition once, however many policies have it.
    conditions: HashMap<Expression, Arc<Condition>>,
}

impl<'e> Building<'e> {
    fn new(words: &'static Words, diagnostics: Vec<Diagnostic>, former: Option<&'e Engine>) -> Self {
        Self {
            words,
            former,
            diagnostics,
            entries: former.map(|former| former.entries.clone()).unwrap_or_default(),
            free: Vec::new(),
            removed: Vec::new(),
            added: Vec::new(),
            listed: Vec::new(),
            templates: BTreeMap::new(),
            unlinked: Vec::new(),
            files: Vec::new(),
            resources: BTreeMap::new(),
            conditions: HashMap::new(),
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
            let known = self.former.and_then(|former| former.resources.get(&name));
            let known = known.filter(|known| *known.resource == resource).map(Arc::clone);
            let Some(target) = known.or_else(|| Target::new(self.words, resource).map(Arc::new)) else {
                let message = format!("the resource `{name}` can't be told to Cedar");
                self.diagnostics.push(Diagnostic::general("internal", message));
                continue;
            };
            if self.resources.insert(name.clone(), target).is_some() {
                let message = format!("there are two resources of the name `{name}`");
                self.diagnostics.push(Diagnostic::general("duplicate_resource", message));
            }
        }
    }

    /// The grants with their entries, where the former version had just the same, made from what is kept of the files.
    fn known_grants(&self, grants: Vec<Grant>, of_files: &[Number]) -> Vec<(Grant, Option<Number>)> {
        let of_files = of_files.iter().filter_map(|number| self.entry(*number));
        let templates: HashMap<&PolicyName, &Arc<Entry>> = of_files
            .filter(|entry| matches!(entry.body, Body::Template))
            .map(|template| (&template.name, template))
            .collect();
        let same_template = |of: &Option<Arc<Entry>>| match of {
            Some(of) => templates.get(&of.name).is_some_and(|kept| Arc::ptr_eq(kept, of)),
            None => true,
        };
        let mut known: HashMap<String, (Number, &Grant, &Option<Arc<Entry>>, &Entry)> = HashMap::new();
        if !grants.is_empty() {
            for (number, entry) in (0..).zip(&self.entries) {
                if let Some(entry) = entry
                    && let Body::Grant { grant, template } = &entry.body
                {
                    known.insert(grant.id.to_string(), (number, grant, template, entry));
                }
            }
        }
        let same = |grant: &Grant| {
            let (number, before, template, entry) = known.remove(&grant.id.to_string())?;
            let target = self.resources.get(&grant.resource)?;
            let stands =
                before == grant && same_template(template) && entry.scope.resource.named() == Some(&target.lineage.uid);
            stands.then_some(number)
        };
        let mut same = same;
        grants
            .into_iter()
            .map(|grant| {
                let number = same(&grant);
                (grant, number)
            })
            .collect()
    }

    /// Takes away all entries but these.
    fn keep_only(&mut self, kept: &Kept) {
        for (number, slot) in (0..).zip(&mut self.entries) {
            if !kept.contains(&number) {
                self.removed.extend(slot.take().map(|entry| (number, entry)));
                self.free.push(number);
            }
        }
    }

    fn place(&mut self, entry: Entry) -> Option<Number> {
        let entry = Some(Arc::new(entry));
        let number = match self.free.pop() {
            Some(number) => {
                *usize::try_from(number).ok().and_then(|at| self.entries.get_mut(at))? = entry;
                number
            }
            None => {
                self.entries.push(entry);
                Number::try_from(self.entries.len()).ok()?.checked_sub(1)?
            }
        };
        self.added.push(number);
        Some(number)
    }

    fn entry(&self, number: Number) -> Option<&Arc<Entry>> {
        usize::try_from(number).ok().and_then(|at| self.entries.get(at)).and_then(Option::as_ref)
    }

    fn policies(&mut self, parsed: Vec<Parsed>, files: Vec<PolicyFile>) {
        let resources = std::mem::take(&mut self.resources);
        let known = Known::of(self.words, &resources);
        // Whether a policy names something that exists is asked again only where that may have changed.
        let same_names = self.former.is_some_and(|former| Known::of(self.words, &former.resources) == known);
        let mut placed: Vec<Vec<(Range<usize>, Number)>> = files.iter().map(|_| Vec::new()).collect();
        for Parsed { name, source, file: index, at } in parsed {
            let (Some(file), Some(placed)) = (files.get(index), placed.get_mut(index)) else { continue };
            let (number, stood) = match source {
                Source::Kept(number) => (Some(number), true),
                Source::Fresh(meaning) => {
                    let entry = self.read(name, *meaning, file, &at);
                    (self.place(entry), false)
                }
            };
            let Some(number) = number else { continue };
            if !(stood && same_names)
                && let Some(entry) = self.entry(number)
            {
                self.diagnostics.extend(known.doubt(self.words, &entry.scope.resource, file, at.clone()));
            }
            match self.entry(number).filter(|entry| matches!(entry.body, Body::Template)) {
                Some(template) => drop(self.templates.insert(template.name.clone(), Arc::clone(template))),
                None => self.listed.push(number),
            }
            placed.push((at, number));
        }
        for (file, placed) in files.into_iter().zip(placed) {
            // What there is something to say of is read again each time, and it is said again.
            let told: Vec<usize> =
                self.diagnostics.iter().filter(|told| told.file == file.name).map(|told| told.offset).collect();
            let is_clean = |at: &Range<usize>| !told.iter().any(|offset| at.contains(offset));
            let clean = placed.into_iter().filter(|(at, _)| is_clean(at));
            let policies = clean.filter_map(|(at, number)| Some((at, number, Arc::clone(self.entry(number)?))));
            let policies = policies.collect();
            self.files.push(Former { whole: told.is_empty(), policies, file });
        }
        self.resources = resources;
    }

    fn read(&mut self, name: PolicyName, meaning: Meaning, file: &PolicyFile, at: &Range<usize>) -> Entry {
        let Meaning { kind, effect, scope, notes, expression } = meaning;
        let condition = expression.map(|expression| {
            let made = || Arc::new(Condition::new(expression.clone()));
            Arc::clone(self.conditions.entry(expression.clone()).or_insert_with(made))
        });
        Entry {
            name,
            effect,
            scope,
            notes,
            file: file.name.as_str().into(),
            text: file.text.get(at.clone()).unwrap_or_default().into(),
            condition,
            body: match kind {
                Kind::Policy => Body::Policy,
                Kind::Template => Body::Template,
            },
        }
    }

    fn grants(&mut self, grants: Vec<(Grant, Option<Number>)>) {
        let mut granted: HashSet<String> = HashSet::new();
        for (grant, known) in grants {
            let id = grant.id.to_string();
            let Ok(name) = PolicyName::parse(&id) else { continue };
            let Some(target) = self.resources.get(&grant.resource) else {
                let message = format!(
                    "the grant `{id}` to `{}` is of the resource `{}`, which doesn't exist",
                    grant.user, grant.resource
                );
                let found = Diagnostic::general("grant_without_resource", message).warning();
                self.diagnostics.push(found.hint("remove the grant, or add the resource"));
                continue;
            };
            if !granted.insert(id.clone()) {
                let message = format!("there are two grants of the id `{id}`");
                self.diagnostics.push(Diagnostic::general("duplicate_grant", message));
                continue;
            }
            if known.is_some() {
                continue;
            }
            let kind = target.resource.spec.kind();
            let resource = target.lineage.uid.clone();
            let entry = match &grant.template {
                None => self.built_in(name, grant, resource),
                Some(of) => {
                    let template = self.templates.get(of);
                    let acts = |template: &&Arc<Entry>| {
                        template.scope.action.actions.iter().any(|action| kind.actions().contains(action))
                    };
                    match template.filter(acts) {
                        Some(template) => self.linked(name, grant, resource, Arc::clone(template)),
                        None => {
                            let is_of_other_kind = template.is_some();
                            self.unlink(&grant, of.clone(), is_of_other_kind);
                            continue;
                        }
                    }
                }
            };
            self.place(entry);
        }
    }

    /// A grant made from the built-in template.
    fn built_in(&self, name: PolicyName, grant: Grant, resource: EntityUid) -> Entry {
        let user = uid(&self.words.types.user, grant.user.as_str());
        Entry {
            name,
            effect: Effect::Permit,
            text: format!("permit(principal == {user}, action, resource == {resource});").into(),
            scope: Scope::of_grant(user, resource, None, self.words),
            notes: Notes { reason: Some(said(&grant)), expires: grant.expires, ..Notes::default() },
            file: "grants".into(),
            condition: None,
            body: Body::Grant { grant, template: None },
        }
    }

    /// A grant made from a template of the files: what Cedar links, with the end that comes first.
    fn linked(&self, name: PolicyName, grant: Grant, resource: EntityUid, template: Arc<Entry>) -> Entry {
        let user = uid(&self.words.types.user, grant.user.as_str());
        let Notes { reason, advice, owner, expires, device, approval: _ } = template.notes.clone();
        Entry {
            name,
            effect: template.effect,
            text: format!("{}\n// ?principal = {user}, ?resource = {resource}", template.text).into(),
            scope: Scope::of_grant(user, resource, Some(&template.scope.action), self.words),
            notes: Notes {
                reason: reason.or_else(|| Some(said(&grant))),
                advice,
                owner,
                expires: grant.expires.into_iter().chain(expires).min(),
                device,
                ..Notes::default()
            },
            file: "grants".into(),
            condition: template.condition.clone(),
            body: Body::Grant { grant, template: Some(template) },
        }
    }

    /// Notes a grant that nothing can be made of: it permits nothing.
    fn unlink(&mut self, grant: &Grant, template: PolicyName, is_of_other_kind: bool) {
        let Grant { id, user, resource, .. } = grant;
        let why = if is_of_other_kind { "says nothing about such a resource" } else { "doesn't exist" };
        let message =
            format!("the grant `{id}` of `{user}` to `{resource}` is of the template `{template}`, which {why}");
        let found = Diagnostic::general("grant_without_template", message).warning();
        self.diagnostics.push(found.hint("it permits nothing: remove it, or keep the template"));
        let (grant, user, resource) = (*id, user.clone(), resource.clone());
        self.unlinked.push(Unlinked { grant, template, user, resource, is_of_other_kind });
    }

    fn finish(self, version: u64) -> Result<Engine, Vec<Diagnostic>> {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(self.diagnostics);
        }
        let Some(console) = Target::new(self.words, console()) else {
            return Err(vec![Diagnostic::general("internal", "the console can't be told to Cedar".to_owned())]);
        };
        Ok(Engine {
            words: self.words,
            index: self.index(),
            version,
            entries: self.entries,
            listed: self.listed,
            templates: self.templates,
            unlinked: self.unlinked,
            files: self.files,
            resources: self.resources,
            console: Arc::new(console),
            warnings: self.diagnostics,
        })
    }

    /// The former index with what changed, or a new one where most did.
    fn index(&self) -> Index {
        let changes = self.removed.len() + self.added.len();
        match self.former.filter(|_| changes < self.entries.len() / 4) {
            Some(former) => {
                let mut index = former.index.clone();
                let removed = self.removed.iter().filter(|(_, entry)| entry.is_in_force());
                removed.for_each(|(number, entry)| index.remove(*number, &entry.scope));
                let added = self.added.iter().filter_map(|number| Some((*number, self.entry(*number)?)));
                let added = added.filter(|(_, entry)| entry.is_in_force());
                added.for_each(|(number, entry)| index.add(number, &entry.scope));
                index
            }
            None => {
                let entries = (0..).zip(&self.entries);
                let entries = entries.filter_map(|(number, entry)| Some((number, entry.as_ref()?)));
                Index::of(
                    entries.filter(|(_, entry)| entry.is_in_force()).map(|(number, entry)| (number, &entry.scope)),
                )
            }
        }
    }
}

/// What policies can be about.
#[derive(PartialEq, Eq)]
struct Known<'r> {
    groups: BTreeSet<&'r str>,
    resources: HashSet<&'r EntityUid>,
    console: EntityUid,
}

impl<'r> Known<'r> {
    fn of(words: &Words, resources: &'r BTreeMap<ResourceName, Arc<Target>>) -> Self {
        Self {
            groups: resources.values().flat_map(|target| &target.resource.groups).map(|group| group.as_str()).collect(),
            resources: resources.values().map(|target| &target.lineage.uid).collect(),
            console: resource_uid(words, ResourceKind::Console, ResourceName::console().as_str()),
        }
    }

    /// A warning of a policy about a resource or group that nothing has the name of.
    fn doubt(&self, words: &Words, side: &Side, file: &PolicyFile, at: Range<usize>) -> Option<Diagnostic> {
        let named = side.named()?;
        let of = named.type_name();
        let id = named.id().unescaped();
        let is_group = *of == words.types.resource_group;
        if *named == self.console || self.resources.contains(named) || (is_group && self.groups.contains(id)) {
            return None;
        }
        let (what, known): (&str, Vec<&str>) = if is_group {
            ("resource group", self.groups.iter().copied().collect())
        } else if of == self.console.type_name() {
            ("console", vec![self.console.id().unescaped()])
        } else {
            let same_type = self.resources.iter().filter(|resource| resource.type_name() == of);
            ("resource", same_type.map(|resource| resource.id().unescaped()).collect())
        };
        let message = format!("there is no {what} {named}, so the policy does nothing");
        let found = Diagnostic::at("unknown_resource", message, &file.name, &file.text, at).warning();
        Some(match nearest(id, known) {
            Some(meant) => found.hint(format!("did you mean `{of}::\"{meant}\"`?")),
            None => found,
        })
    }
}

/// Our own console and API as a resource.
fn console() -> Resource {
    Resource {
        name: ResourceName::console(),
        spec: ResourceSpec::Console,
        groups: BTreeSet::new(),
        tags: BTreeSet::new(),
        sensitivity: Sensitivity::Restricted,
        offline_grace: std::time::Duration::ZERO,
        via: None,
        description: "vouchsafe's own console and API".to_owned(),
        mode: Mode::Enforce,
    }
}
