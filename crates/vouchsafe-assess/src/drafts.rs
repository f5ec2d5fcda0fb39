//! Drafts: a resource for each service found, for a manifest (`docs/spec/manifest.md`).
//!
//! Nothing is guessed. What to dial, what is spoken there and who comes today are out of facts; where a fact is
//! missing, the draft stands there as a comment and asks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::Serialize;
use vouchsafe_model::moment;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_wire::resource::{ResourceDoc, TrialDoc};

use crate::postgres::Database;
use crate::postgres::hba::From;
use crate::services::{Service, What, Who};
use crate::web::Site;

/// Most drafts.
const MAX_DRAFTS: usize = 1_000;

/// Who answers for resources that only observe, and until when they do.
#[derive(Debug, Clone)]
pub struct Watch {
    /// A user that exists.
    pub owner: UserName,
    /// At most 90 days ahead; from then on the resource enforces.
    pub until: SystemTime,
}

/// A resource that could be.
#[derive(Debug, Clone, Serialize)]
pub struct Draft {
    /// Its name as a resource.
    pub name: String,
    /// `http` or `tcp`.
    pub kind: &'static str,
    /// What to dial, where the facts say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The upstream gets its own name as host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_header_upstream: bool,
    /// One line for people.
    pub description: String,
    /// Who comes today, where the facts say it: what an observing resource is bound to.
    pub from: Vec<IpNet>,
    /// Where that is known from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from_why: String,
    /// What a person has to say or check.
    pub questions: Vec<String>,
}

impl Draft {
    /// The resource, where nothing is missing that it can't be without. It observes where somebody answers for that
    /// and the networks are known from which people come today; else it enforces.
    #[must_use]
    pub fn resource(&self, watch: Option<&Watch>) -> Option<ResourceDoc> {
        let doc = ResourceDoc {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            upstream: self.upstream.clone()?,
            description: self.description.clone(),
            host_header: self.host_header_upstream.then(|| "upstream".to_owned()),
            ..ResourceDoc::default()
        };
        let observing = watch.and_then(|watch| self.trial(watch)).map(|trial| ResourceDoc {
            mode: Some("observe".to_owned()),
            observe: Some(trial),
            ..doc.clone()
        });
        // Networks that are too wide to be anybody's boundary don't become one.
        [observing, Some(doc)].into_iter().flatten().find(|doc| doc.to_resource().is_ok())
    }

    fn trial(&self, watch: &Watch) -> Option<TrialDoc> {
        let Watch { owner, until } = watch;
        (!self.from.is_empty()).then_some(TrialDoc {
            from: self.from.iter().map(ToString::to_string).collect(),
            owner: owner.to_string(),
            reason: "found by `vouchsafe assess`; what people do there today is watched first".to_owned(),
            until: moment::to_text(*until)?,
        })
    }

    /// As a TOML file. What is asked of a person stands above; an incomplete resource is all comment.
    #[must_use]
    pub fn toml(&self, watch: Option<&Watch>) -> String {
        let mut text = format!("# Draft by `vouchsafe assess`: {}\n", line(&self.description));
        for question in &self.questions {
            text.push_str(&format!("# CHECK: {}\n", line(question)));
        }
        if self.from.is_empty() {
            text.push_str("# WHO comes today is not known from this host's files.\n");
        } else {
            let list: Vec<String> = self.from.iter().map(ToString::to_string).collect();
            text.push_str(&format!("# WHO comes today ({}): {}\n", line(&self.from_why), list.join(", ")));
        }
        let Some(doc) = self.resource(watch) else {
            text.push_str("#\n# [[resources]]\n");
            text.push_str(&format!("# name = \"{}\"\n# kind = \"{}\"\n# upstream = \"…\"\n", self.name, self.kind));
            return text;
        };
        text.push_str(match (&doc.mode, watch) {
            (Some(_), _) => "# MODE: it observes. Nobody from these networks is kept out before `until`.\n",
            (None, Some(_)) => "# MODE: it enforces, since no boundary is known or it is too wide to observe within.\n",
            (None, None) => {
                "# MODE: it enforces. `vouchsafe assess --drafts DIR --owner USER` drafts it to observe first.\n"
            }
        });
        text.push('\n');
        // A list of one, so that the table of the mode gets its whole name.
        text + &toml::to_string(&Drafts { resources: [doc] }).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Drafts {
    resources: [ResourceDoc; 1],
}

/// Text that stays in one line of a comment.
fn line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// A draft for each service and site.
pub(crate) fn of(services: &[Service], databases: &[Database], sites: &[Site]) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut names = BTreeSet::new();
    for service in services.iter().filter(|service| service.protocol == "tcp") {
        if drafts.len() >= MAX_DRAFTS {
            break;
        }
        match service.what {
            What::Vouchsafe => {}
            What::Http | What::Https => {
                for site in sites.iter().filter(|site| is_site_of(site, service)) {
                    drafts.extend(of_site(site, service));
                }
            }
            What::Ssh => drafts.push(plain("ssh", "SSH of this host", service)),
            What::Postgres => {
                let database = databases.iter().find(|database| database.port == service.port);
                drafts.push(of_database(database, service));
            }
            What::Other => {
                let hint = service.process.clone().unwrap_or_else(|| format!("port-{}", service.port));
                drafts.push(plain(&hint, &format!("{} of this host", service.name), service));
            }
        }
    }
    for draft in &mut drafts {
        draft.name = unused(&draft.name, &mut names);
        draft.description = description(&draft.description);
        draft.from.sort();
        draft.from.dedup();
    }
    // The same site on a second port, or the same port of a second address.
    let mut seen = BTreeSet::new();
    drafts.retain(|draft| {
        draft.upstream.is_none() || seen.insert((draft.kind, draft.upstream.clone(), draft.host_header_upstream))
    });
    drafts
}

fn description(text: &str) -> String {
    let clean: String = text.chars().filter(|letter| !letter.is_control()).collect();
    crate::text::short(&clean, 60)
}

fn is_site_of(site: &Site, service: &Service) -> bool {
    let area = service.name.contains(site.area.name());
    !site.is_stream && area && site.binds.iter().any(|bind| bind.port == service.port)
}

/// Where the gateway dials a port of this host, when it runs there.
fn dial(service: &Service) -> Option<String> {
    let every = service.bound.iter().any(IpAddr::is_unspecified);
    let v6_only = service.bound.iter().all(IpAddr::is_ipv6) && !every;
    if every {
        return Some("127.0.0.1".to_owned());
    }
    let first = service.bound.iter().find(|address| address.is_ipv4()).or_else(|| service.bound.first())?;
    Some(if v6_only || first.is_ipv6() { format!("[{first}]") } else { first.to_string() })
}

/// Who comes today, by how the service is bound and by the firewall.
fn from(service: &Service, draft: &mut Draft) {
    match service.who {
        Who::ThisHost => {
            draft.from = ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect();
            draft.from_why = "it listens to this host only".to_owned();
        }
        Who::Networks => {
            draft.from = service.networks.clone();
            draft.from_why = "by the firewall's saved rules".to_owned();
        }
        Who::Everybody => draft.questions.push(
            "nothing on this host limits who reaches it. Which networks come today? Only you know what stands in front of it".to_owned(),
        ),
        Who::Unknown => draft.questions.push(
            "the firewall's rules for it could not be judged. Which networks come today?".to_owned(),
        ),
        Who::Nobody => draft.questions.push("the firewall lets nobody in. Is it still needed?".to_owned()),
    }
}

fn empty(hint: &str, kind: &'static str, description: &str) -> Draft {
    Draft {
        name: hint.to_owned(),
        kind,
        upstream: None,
        host_header_upstream: false,
        description: description.to_owned(),
        from: Vec::new(),
        from_why: String::new(),
        questions: Vec::new(),
    }
}

fn here(draft: &mut Draft) {
    let what = "the address is right where the gateway runs on this host. Elsewhere write the address that leads here, or `via` a connector";
    draft.questions.push(what.to_owned());
}

fn plain(hint: &str, description: &str, service: &Service) -> Draft {
    let mut draft = empty(hint, "tcp", description);
    draft.upstream = dial(service).map(|host| format!("{host}:{}", service.port));
    here(&mut draft);
    from(service, &mut draft);
    draft
}

fn of_database(database: Option<&Database>, service: &Service) -> Draft {
    let mut draft = plain("postgres", "PostgreSQL of this host", service);
    // Its own rules are narrower than the firewall.
    if let Some(database) = database.filter(|_| service.who != Who::ThisHost) {
        let rules: Vec<_> = database.rules.iter().filter(|rule| rule.method != "reject" && !rule.is_local()).collect();
        let nets: Option<Vec<IpNet>> = rules
            .iter()
            .map(|rule| match &rule.from {
                From::Net(net) => Some(*net),
                From::Socket | From::All | From::SameHost | From::SameNet | From::Name(_) => None,
            })
            .collect();
        if let Some(nets) = nets.filter(|nets| !nets.is_empty() && nets.iter().all(|net| net.prefix_len() > 0)) {
            draft.from = nets;
            draft.from_why = "by pg_hba.conf".to_owned();
            draft.questions.retain(|question| !question.contains("come today"));
        }
    }
    draft
}

/// A name that stands for one host.
fn host_name(site: &Site) -> Option<&str> {
    let plain = |name: &&String| {
        name.contains('.')
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-'))
            && !name.starts_with('.')
    };
    site.names.iter().find(plain).map(String::as_str)
}

fn of_site(site: &Site, service: &Service) -> Option<Draft> {
    let bind = site.binds.iter().find(|bind| bind.port == service.port)?;
    if site.only_redirects || (!bind.tls && site.binds.iter().any(|bind| bind.tls)) {
        // The port in the clear of a site that has one with TLS.
        return None;
    }
    let name = host_name(site);
    let hint =
        name.map_or_else(|| format!("web-{}", bind.port), |name| name.split('.').next().unwrap_or_default().to_owned());
    let mut draft = empty(&hint, "http", &format!("{} of this host", site.label()));
    let at_home = dial(service);
    match (bind.tls, name, bind.is_default) {
        // The certificate has the site's name, not the address.
        (true, Some(name), _) => {
            draft.upstream = Some(format!("https://{name}:{}", bind.port));
            draft.host_header_upstream = true;
            draft.questions.push(format!(
                "the gateway has to resolve `{name}` to this host, and not to itself once the name leads to the gateway"
            ));
            draft.questions.push(
                "where no public authority signed the certificate, add `upstream_ca` with the PEM of the one that did"
                    .to_owned(),
            );
        }
        (true, None, _) => {
            draft.questions.push(format!("which name does its certificate have? Write `https://NAME:{}`", bind.port));
        }
        (false, _, true) => {
            draft.upstream = at_home.map(|host| format!("http://{host}:{}", bind.port));
            here(&mut draft);
        }
        (false, Some(name), false) => {
            draft.upstream = Some(format!("http://{name}:{}", bind.port));
            draft.host_header_upstream = true;
            draft.questions.push(format!("another site answers for other names there, so the gateway has to ask for `{name}`, and to resolve it to this host"));
        }
        (false, None, false) => {
            draft.questions.push(
                "another site answers for other names there, and this one has no name. How is it reached?".to_owned(),
            );
        }
    }
    match &site.only_from {
        Some(nets) if !nets.is_empty() && service.who != Who::ThisHost => {
            draft.from = nets.clone();
            draft.from_why = "by the site's own rules".to_owned();
        }
        _ => from(service, &mut draft),
    }
    Some(draft)
}

/// A resource's name out of any text, that is not taken yet.
fn unused(hint: &str, taken: &mut BTreeSet<String>) -> String {
    let mut label: String = hint
        .to_ascii_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .take(50)
        .collect::<String>()
        .trim_matches('-')
        .to_owned();
    if ResourceName::parse(&label).is_err() {
        label = format!("app-{}", label.trim_start_matches("xn--")).trim_end_matches('-').to_owned();
    }
    for number in 1..=MAX_DRAFTS * 2 {
        let name = if number == 1 { label.clone() } else { format!("{label}-{number}") };
        if ResourceName::parse(&name).is_ok() && taken.insert(name.clone()) {
            return name;
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_incomplete_draft_is_all_comment() {
        let mut draft = empty("wiki", "http", "wiki\n[[resources]]");
        draft.questions.push("which?\nname = \"x\"".to_owned());
        assert!(draft.toml(None).lines().all(|line| line.starts_with('#')), "{}", draft.toml(None));
        draft.upstream = Some("http://127.0.0.1:3000".to_owned());
        draft.description = "wiki".to_owned();
        assert!(draft.toml(None).contains("\nupstream = \"http://127.0.0.1:3000\"\n"));
    }

    #[test]
    fn a_draft_observes_only_within_a_boundary_that_is_known() {
        let watch = Watch {
            owner: UserName::parse("ann").unwrap(),
            until: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
        };
        let mut draft = empty("wiki", "http", "wiki");
        draft.upstream = Some("http://127.0.0.1:3000".to_owned());
        let mode = |draft: &Draft, watch| draft.resource(watch).and_then(|doc| doc.mode);
        assert_eq!(mode(&draft, Some(&watch)), None, "nobody knows who comes");
        draft.from = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(mode(&draft, None), None, "nobody answers for it");
        assert_eq!(mode(&draft, Some(&watch)).as_deref(), Some("observe"));
        let text = draft.toml(Some(&watch));
        for part in ["[[resources]]", "mode = \"observe\"", "[resources.observe]", "owner = \"ann\"", "10.0.0.0/8"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        draft.from = vec!["8.0.0.0/6".parse().unwrap()];
        assert_eq!(mode(&draft, Some(&watch)), None, "no boundary is half the world");
        assert!(draft.toml(Some(&watch)).contains("it enforces, since"));
    }

    proptest! {
        #[test]
        fn every_name_can_be_one_of_a_resource(hints in prop::collection::vec("(xn--)?\\PC{0,70}|auth|wiki", 1..6)) {
            let mut taken = BTreeSet::new();
            for hint in &hints {
                prop_assert!(ResourceName::parse(&unused(hint, &mut taken)).is_ok(), "{hint}");
            }
            prop_assert_eq!(taken.len(), hints.len());
        }
    }
}
