//! Suggested policies as Cedar that people read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use vouchsafe_model::action::Action;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_model::resource::ResourceKind;
use vouchsafe_model::subject::Grade;

use super::cover::{Draft, Groups, Principal};
use super::{OfResource, SuggestOptions, Suggested, SuggestedFile, Use};
use crate::moment;

/// Longest `@id`.
const MAX_ID: usize = 64;
/// Names in one line of a list.
const IN_LINE: usize = 3;

/// `@id`s, each given once.
#[derive(Default)]
pub(super) struct Ids {
    given: BTreeSet<String>,
}

impl Ids {
    /// None of which is one of these.
    pub(super) fn besides(taken: impl Iterator<Item = PolicyName>) -> Self {
        Self { given: taken.map(|name| name.to_string()).collect() }
    }

    /// An id that begins with the wish, as far as there is room.
    pub(super) fn name(&mut self, wish: &str) -> PolicyName {
        let mut number = 1_u64;
        loop {
            let end = if number == 1 { String::new() } else { format!("-{number}") };
            let begin: String = wish.chars().take(MAX_ID - end.len()).collect();
            let text = format!("{begin}{end}");
            number += 1;
            if self.given.contains(&text) {
                continue;
            }
            if let Ok(name) = PolicyName::parse(&text) {
                self.given.insert(text);
                return name;
            }
        }
    }
}

/// The file of one resource, and the policies in it.
#[expect(clippy::too_many_arguments, reason = "one call, and each is something else")]
pub(super) fn file(
    groups: &Groups<'_>,
    resource: &ResourceName,
    kind: ResourceKind,
    drafts: &[Draft],
    kept: &OfResource,
    rare: &OfResource,
    options: &SuggestOptions,
    ids: &mut Ids,
) -> (SuggestedFile, Vec<Suggested>) {
    let mut text = format!(
        "// Suggested by `vouchsafe policy suggest` for {resource}, from what was used. Read it before you publish it: what\n\
         // people did is not always what they should do. It takes the place of other permits of {resource}.\n"
    );
    let mut policies = Vec::new();
    for draft in drafts {
        let suggested = suggested(groups, resource, draft, kept, options, ids);
        text.push('\n');
        text.push_str(&policy(&suggested, kind, draft, options));
        policies.push(suggested);
    }
    text.push_str(&rarely(resource, kind, rare, options, ids));
    (SuggestedFile { name: format!("suggested-{resource}.cedar"), text }, policies)
}

fn suggested(
    groups: &Groups<'_>,
    resource: &ResourceName,
    draft: &Draft,
    kept: &OfResource,
    options: &SuggestOptions,
    ids: &mut Ids,
) -> Suggested {
    let users = draft.users(groups);
    let used = |user: &&UserName| {
        draft.actions.iter().all(|action| kept.get(action).is_some_and(|uses| uses.contains_key(*user)))
    };
    let beyond: Vec<UserName> = users.iter().filter(|user| !used(user)).cloned().collect();
    let (all, those) = (users.len(), users.len() - beyond.len());
    let period = period(draft.first, draft.last);
    let accesses = draft.accesses;
    let (id, group, who) = match &draft.principal {
        Principal::Group(group) if beyond.is_empty() => {
            (format!("suggested-{resource}-{group}"), Some(group.clone()), format!("All {all} members of {group}"))
        }
        Principal::Group(group) => {
            let who = format!("{those} of {all} members of {group}");
            (format!("suggested-{resource}-{group}"), Some(group.clone()), who)
        }
        Principal::Users(_) if all == 1 => (format!("suggested-{resource}-people"), None, "One person".to_owned()),
        Principal::Users(_) => (format!("suggested-{resource}-people"), None, format!("{all} people")),
    };
    Suggested {
        id: ids.name(&id),
        resource: resource.clone(),
        actions: draft.actions.iter().copied().collect(),
        group,
        users: all,
        used: those,
        beyond,
        accesses,
        first: draft.first,
        last: draft.last,
        grade: demanded(draft, options).map(|grade| grade.as_str().to_owned()),
        reason: format!("{who} used {resource} {period}, in {accesses} accesses."),
    }
}

/// The grade that a policy demands, where it is asked to and there is one to demand.
fn demanded(draft: &Draft, options: &SuggestOptions) -> Option<Grade> {
    draft.grade.filter(|grade| options.demand_grade && *grade >= Grade::Hardware)
}

fn policy(suggested: &Suggested, kind: ResourceKind, draft: &Draft, options: &SuggestOptions) -> String {
    let mut text = String::new();
    if !suggested.beyond.is_empty() {
        text.push_str(&comment(&format!("Beyond what was used: {}.", listed(&suggested.beyond))));
    }
    text.push_str(&format!("@id(\"{}\")\n@reason(\"{}\")\n", suggested.id, suggested.reason));
    if options.without_device && draft.deviceless {
        text.push_str("@device(\"none\")\n");
    }
    let (scope, mut conditions) = match &draft.principal {
        Principal::Group(group) => (format!("principal in Group::\"{group}\""), Vec::new()),
        Principal::Users(users) => by_name(users),
    };
    conditions.extend(demanded(draft, options).map(|grade| match grade {
        Grade::HardwareAttested => "context.device.grade == \"hardware-attested\"".to_owned(),
        Grade::None | Grade::Software | Grade::Hardware => {
            "[\"hardware\", \"hardware-attested\"].contains(context.device.grade)".to_owned()
        }
    }));
    text.push_str(&rule("permit", &scope, &draft.actions, kind, &suggested.resource, &conditions));
    text
}

/// People by name: in the scope where it is one, in a condition where there are several.
pub(super) fn by_name(users: &BTreeSet<UserName>) -> (String, Vec<String>) {
    if let (Some(user), 1) = (users.first(), users.len()) {
        return (format!("principal == User::\"{user}\""), Vec::new());
    }
    let names: Vec<String> = users.iter().map(|user| format!("User::\"{user}\"")).collect();
    let lines: Vec<String> = names.chunks(IN_LINE).map(|names| names.join(", ")).collect();
    let list = match lines.as_slice() {
        [one] => format!("[{one}]"),
        lines => format!("[\n        {}\n    ]", lines.join(",\n        ")),
    };
    ("principal is User".to_owned(), vec![format!("{list}.contains(principal)")])
}

/// A policy without its annotations.
pub(super) fn rule(
    effect: &str,
    principal: &str,
    actions: &BTreeSet<Action>,
    kind: ResourceKind,
    resource: &ResourceName,
    conditions: &[String],
) -> String {
    let names: Vec<String> = actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
    let action = match names.as_slice() {
        [one] => format!("action == {one}"),
        several => format!("action in [{}]", several.join(", ")),
    };
    let entity = kind.entity_type();
    let when: String = conditions.iter().map(|condition| format!("\nwhen {{\n    {condition}\n}}")).collect();
    format!("{effect} (\n    {principal},\n    {action},\n    resource == {entity}::\"{resource}\"\n){when};\n")
}

/// What was used seldom, with the slashes in front.
fn rarely(
    resource: &ResourceName,
    kind: ResourceKind,
    rare: &OfResource,
    options: &SuggestOptions,
    ids: &mut Ids,
) -> String {
    let mut by_user: BTreeMap<&UserName, BTreeMap<Action, Use>> = BTreeMap::new();
    for (action, uses) in rare {
        for (user, used) in uses {
            by_user.entry(user).or_default().insert(*action, *used);
        }
    }
    if by_user.is_empty() {
        return String::new();
    }
    let head = format!(
        "Seldom: fewer than {} accesses. Nobody has these rights yet; take the slashes away from those that are right.",
        options.rare
    );
    let mut text = format!("\n{}", comment(&head));
    for (user, actions) in by_user {
        let id = ids.name(&format!("seldom-{resource}-{user}"));
        let count: u64 = actions.values().map(|used| used.count).fold(0, u64::saturating_add);
        let first = actions.values().map(|used| used.first).min().unwrap_or_default();
        let last = actions.values().map(|used| used.last).max().unwrap_or_default();
        let accesses = if count == 1 { "one access".to_owned() } else { format!("{count} accesses") };
        let reason = format!("One person used {resource} {}, in {accesses}.", period(first, last));
        let scope = format!("principal == User::\"{user}\"");
        let rule = rule("permit", &scope, &actions.keys().copied().collect(), kind, resource, &[]);
        let policy = format!("@id(\"{id}\")\n@reason(\"{reason}\")\n{rule}");
        text.push_str("//\n");
        policy.lines().for_each(|line| text.push_str(&format!("// {line}\n")));
    }
    text
}

/// Words as comments, in lines of a readable length.
pub(super) fn comment(words: &str) -> String {
    let mut text = String::new();
    let mut line = String::from("//");
    for word in words.split(' ') {
        if line.len() + word.len() > 118 && line.len() > 2 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("//");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// Names, the first of them where there are many.
fn listed(names: &[UserName]) -> String {
    let shown: Vec<&str> = names.iter().take(50).map(UserName::as_str).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `on 2026-11-27`, or `from … to …`.
fn period(first: u64, last: u64) -> String {
    let (first, last) = (day(first), day(last));
    if first == last { format!("on {first}") } else { format!("from {first} to {last}") }
}

/// A day as people write it.
pub(super) fn day(unix_seconds: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds)).and_then(moment::to_text);
    at.and_then(|text| text.get(..10).map(ToOwned::to_owned)).unwrap_or_else(|| unix_seconds.to_string())
}
