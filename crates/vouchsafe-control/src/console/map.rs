//! The access map: who may reach what, and who did.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_wire::api::{ResourceDoc, UsesQuery};

use super::access::{self, Accesses, DAYS};
use super::graph::{self, Graph, Node};
use super::parts::{cards, count, empty, grouped, link, value};
use super::{Admin, ConsoleError, Fields, frame, paged};
use crate::administrator::reach::{self, Reach};
use crate::context::Context;
use crate::pages::layout::at;
use crate::store::{self, resources};

/// Most people that are drawn one by one; of more, those stand together who are in the same groups.
const MOST_PEOPLE: usize = 22;
/// Most that are drawn in any column.
const MOST_NODES: usize = 26;
/// Rows of the table on one page.
const PAGE: usize = 50;

/// What is asked for.
struct Asked {
    user: Option<String>,
    group: Option<String>,
    resource: Option<String>,
}

/// One person, or several who are in the same groups, and one resource.
struct Line {
    who: String,
    resource: String,
    /// How many may, and how many did.
    may: usize,
    did: usize,
    accesses: u64,
    passed: u64,
    last: u64,
    by: BTreeSet<String>,
}

/// `GET /map?user=&group=&resource=`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let asked = Asked { user: fields.short("user"), group: fields.short("group"), resource: fields.short("resource") };
    let mut read = context.store.read().await?;
    let docs = resources::list(&mut read).await?;
    drop(read);
    let names: Vec<ResourceName> = docs
        .iter()
        .filter(|doc| asked.resource.as_ref().is_none_or(|name| *name == doc.name))
        .filter_map(|doc| ResourceName::parse(&doc.name).ok())
        .collect();
    let reach = reach::reach(&context, &names).await?;
    let whose = UsesQuery { user: asked.user.clone(), resource: asked.resource.clone(), ..UsesQuery::default() };
    let accesses = access::count(&context, whose, &actor).await?;
    let groups: Vec<String> =
        store::groups::list(&mut *context.store.read().await?).await?.into_iter().map(|group| group.name).collect();
    let seen = Seen::new(&asked, &reach, &accesses, &docs);
    let lines = seen.lines();
    let whole = reach.whole && accesses.whole;
    let head = html! {
        div .head { h1 { "Access map" } (graph::legend()) }
        (filter(&asked, &groups, &docs, &reach))
    };
    let (shown, pages) = paged(&lines, PAGE, &fields, "/map");
    let may: usize = lines.iter().map(|line| line.may).sum();
    let did: usize = lines.iter().map(|line| line.did.min(line.may)).sum();
    let body = html! {
        ul .tiles {
            li { div { strong { (grouped(may as u64)) } span { "rights" } span .sub { "people and resources" } } }
            li { div { strong .allow { (grouped(did as u64)) } span { "used" } span .sub { "in the last " (DAYS) " days" } } }
            li { div { strong .pass { (grouped((may - did) as u64)) } span { "unused" } span .sub { "could be taken away" } } }
            li { div { strong .deny { (grouped(lines.iter().filter(|line| line.passed > 0).count() as u64)) } span { "passed by a mode" } span .sub { "wait for a policy" } } }
        }
        section aria-label="Map" {
            @if lines.is_empty() {
                (empty("There is nothing to draw yet", html! {
                    "Add a resource and a policy that opens it to a group, and the people in it show up here. " a href="/policy" { "To the policy" }
                }))
            } @else { (seen.graph(&lines).draw("Who may reach what, and who did; the same stands in the table below")) }
            @if !whole { p .faint { "There is more than is shown here: choose a user, a group or a resource." } }
        }
        @if !lines.is_empty() {
            section aria-labelledby="as-table" { h2 #as-table { "The same as a table" } (table(shown)) (pages) }
        }
    };
    Ok(frame::headed("Access map", "Access map", &actor.label(), head, body))
}

fn filter(asked: &Asked, groups: &[String], docs: &[ResourceDoc], reach: &Reach) -> Markup {
    let select = |name: &str, label: &str, chosen: &Option<String>, words: &mut dyn Iterator<Item = &str>| {
        html! {
            div .field {
                label for=(name) { (label) }
                select id=(name) name=(name) {
                    option value="" { "all" }
                    @for word in words.take(1_000) { option value=(word) selected[chosen.as_deref() == Some(word)] { (word) } }
                }
            }
        }
    };
    let users = &mut reach.people.users.iter().map(UserName::as_str);
    html! {
        form .inline method="get" action="/map" {
            (select("group", "Group", &asked.group, &mut groups.iter().map(String::as_str)))
            (select("user", "User", &asked.user, users))
            (select("resource", "Resource", &asked.resource, &mut docs.iter().map(|doc| doc.name.as_str())))
            button { "Show" }
            a .button href="/map" { "All" }
        }
    }
}

/// What the picture is made of.
struct Seen<'s> {
    asked: &'s Asked,
    reach: &'s Reach,
    accesses: &'s Accesses,
    docs: &'s [ResourceDoc],
    /// Groups of each person who is looked at.
    people: BTreeMap<String, BTreeSet<String>>,
    /// Under what name each person stands.
    together: BTreeMap<String, String>,
}

impl<'s> Seen<'s> {
    fn new(asked: &'s Asked, reach: &'s Reach, accesses: &'s Accesses, docs: &'s [ResourceDoc]) -> Self {
        let mut people: BTreeMap<String, BTreeSet<String>> =
            reach.people.users.iter().map(|user| (user.to_string(), BTreeSet::new())).collect();
        for (group, members) in &reach.people.members {
            for member in members {
                if let Some(groups) = people.get_mut(member.as_str()) {
                    groups.insert(group.to_string());
                }
            }
        }
        people.retain(|name, groups| {
            asked.user.as_ref().is_none_or(|user| user == name)
                && asked.group.as_ref().is_none_or(|group| groups.contains(group))
        });
        let able: BTreeSet<&str> = reach.rights.keys().map(|(user, _)| user.as_str()).collect();
        let did: BTreeSet<&str> = accesses.used.keys().map(|(user, _)| user.as_str()).collect();
        people.retain(|name, _| able.contains(name.as_str()) || did.contains(name.as_str()));
        let alone = people.len() <= MOST_PEOPLE;
        let name = |(name, groups): (&String, &BTreeSet<String>)| match alone {
            true => (name.clone(), name.clone()),
            false if groups.is_empty() => (name.clone(), "in no group".to_owned()),
            false => (name.clone(), groups.iter().cloned().collect::<Vec<_>>().join(" + ")),
        };
        let together = people.iter().map(name).collect();
        Self { asked, reach, accesses, docs, people, together }
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines: BTreeMap<(String, String), Line> = BTreeMap::new();
        let is_asked = |resource: &str| self.asked.resource.as_ref().is_none_or(|name| name == resource);
        let mut line = |who: &str, resource: &str, change: &dyn Fn(&mut Line)| {
            let Some(name) = self.together.get(who) else { return };
            let fresh = || Line {
                who: name.clone(),
                resource: resource.to_owned(),
                may: 0,
                did: 0,
                accesses: 0,
                passed: 0,
                last: 0,
                by: BTreeSet::new(),
            };
            change(lines.entry((name.clone(), resource.to_owned())).or_insert_with(fresh));
        };
        for ((user, resource), right) in &self.reach.rights {
            line(user.as_str(), resource.as_str(), &|line| {
                line.may += 1;
                line.by.extend(right.by.iter().map(ToString::to_string));
            });
        }
        for ((user, resource), used) in &self.accesses.used {
            if is_asked(resource) && self.docs.iter().any(|doc| doc.name == *resource) {
                line(user, resource, &|line| {
                    line.did += usize::from(used.count > used.passed);
                    line.accesses += used.count;
                    line.passed += used.passed;
                    line.last = line.last.max(used.last);
                });
            }
        }
        let mut lines: Vec<Line> = lines.into_values().collect();
        // What may be worth a change comes first.
        lines.sort_by_key(|line| ["passed", "unused", "used"].iter().position(|class| *class == line.class()));
        lines
    }

    fn graph(&self, lines: &[Line]) -> Graph {
        let mut graph = Graph { columns: vec!["Groups", "People", "Resources"], ..Graph::default() };
        // People of one group stand together, so that few lines cross.
        let mut who: Vec<(&BTreeSet<String>, &str)> = Vec::new();
        for (name, groups) in &self.people {
            let shown = self.together.get(name).map(String::as_str).unwrap_or_default();
            if !who.iter().any(|(_, known)| *known == shown) && lines.iter().any(|line| line.who == shown) {
                who.push((groups, shown));
            }
        }
        who.sort();
        who.truncate(MOST_NODES);
        let mut groups: Vec<&String> = Vec::new();
        for (of, _) in &who {
            for group in *of {
                if !groups.contains(&group) && groups.len() < MOST_NODES {
                    groups.push(group);
                }
            }
        }
        let mut place_of_group = BTreeMap::new();
        for group in groups {
            let class = if self.asked.group.as_ref() == Some(group) { "on" } else { "" };
            let members = self
                .reach
                .people
                .members
                .iter()
                .find(|(name, _)| name.as_str() == group)
                .map_or(0, |(_, all)| all.len());
            let node = Node {
                column: 0,
                label: group.clone(),
                note: members.to_string(),
                href: format!("/map?group={}", value(group)),
                class,
            };
            place_of_group.insert(group.clone(), graph.node(node));
        }
        let mut place_of_person = BTreeMap::new();
        for (order, (groups, name)) in who.iter().enumerate() {
            let people = self.together.values().filter(|shown| shown == name).count();
            let one = self.people.contains_key(*name);
            let class = if self.asked.user.as_deref() == Some(*name) { "on" } else { "" };
            let (href, note) = match (one, groups.first()) {
                (true, _) => (format!("/map?user={}", value(name)), String::new()),
                (false, Some(group)) => (
                    format!("/map?group={}", value(group)),
                    count(people as u64, "person").replace("persons", "people"),
                ),
                (false, None) => (String::new(), count(people as u64, "person").replace("persons", "people")),
            };
            let place = graph.node(Node { column: 1, label: (*name).to_owned(), note, href, class });
            place_of_person.insert(*name, (order, place));
            for group in *groups {
                if let Some(from) = place_of_group.get(group) {
                    graph.edge(*from, place, "", format!("{name} is in {group}"));
                }
            }
        }
        self.resources(&mut graph, lines, &place_of_person);
        graph
    }

    /// Adds resources, each near those who reach it, and what leads to them.
    fn resources(&self, graph: &mut Graph, lines: &[Line], people: &BTreeMap<&str, (usize, usize)>) {
        let mut by_resource: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        for line in lines.iter().filter(|line| people.contains_key(line.who.as_str())) {
            by_resource.entry(&line.resource).or_default().push(line);
        }
        let middle = |lines: &[&Line]| {
            let sum: usize =
                lines.iter().filter_map(|line| people.get(line.who.as_str())).map(|(order, _)| order * 100).sum();
            sum / lines.len().max(1)
        };
        let mut sorted: Vec<(&str, Vec<&Line>)> = by_resource.into_iter().collect();
        sorted.sort_by_key(|(_, lines)| middle(lines));
        for (resource, lines) in sorted.into_iter().take(MOST_NODES) {
            let doc = self.docs.iter().find(|doc| doc.name == resource);
            let sensitivity = doc.and_then(|doc| doc.sensitivity.as_deref()).unwrap_or("internal");
            let class = match sensitivity {
                "restricted" => "hot",
                "confidential" => "warm",
                _ if self.asked.resource.as_deref() == Some(resource) => "on",
                _ => "",
            };
            let href = format!("/map?resource={}", value(resource));
            let place =
                graph.node(Node { column: 2, label: resource.to_owned(), note: sensitivity.to_owned(), href, class });
            for line in lines {
                let Some((_, from)) = people.get(line.who.as_str()) else { continue };
                graph.edge(*from, place, line.class(), line.words());
            }
        }
    }
}

impl Line {
    fn class(&self) -> &'static str {
        match (self.may, self.did) {
            (0, _) => "passed",
            (_, 0) => "unused",
            (_, _) => "used",
        }
    }

    fn words(&self) -> String {
        let Line { who, resource, may, did, accesses, .. } = self;
        match (may, did) {
            (0, _) => format!("{who} may not reach {resource}; a mode let it pass {accesses} times"),
            (_, 0) => format!("{who} may reach {resource} and didn’t in {DAYS} days"),
            (1, _) => format!("{who} reached {resource} {accesses} times"),
            (_, _) => format!("{did} of {may} people ({who}) reached {resource}, {accesses} times"),
        }
    }
}

fn table(lines: &[Line]) -> Markup {
    cards(
        &["Who", "Resource", "Used", "Last", "By"],
        lines.iter().map(|line| {
            let one = line.may <= 1 && line.did <= 1;
            vec![
                html! { @if one { (link("users", &line.who)) } @else { bdi { (line.who) } " (" (line.may) ")" } },
                link("resources", &line.resource),
                html! {
                    @match line.class() {
                        "used" => { span .good-text { (grouped(line.accesses)) " times" } },
                        "unused" => span .warn-text { "not in " (DAYS) " days" },
                        _ => span .bad-text { "passed by a mode, " (grouped(line.passed)) " times" },
                    }
                    @if line.may > 1 { p .faint { (line.did) " of " (line.may) " people" } }
                },
                html! { @if line.last > 0 { (at(line.last)) } @else { span .faint { "never" } } },
                html! { @for policy in line.by.iter().take(6) { code { (policy) } " " } @if line.by.is_empty() { span .faint { "no policy" } } },
            ]
        }),
    )
}
