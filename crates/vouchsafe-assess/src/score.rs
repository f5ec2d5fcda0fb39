//! Stages of the CISA Zero Trust Maturity Model v2.0 (April 2023), as far as files of one host can show them.
//!
//! A pillar is as mature as the function of it that is furthest behind. What a host's files can't show is "not
//! assessed" and never counted. The last stage is never given: it asks for what only operation shows.

use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::finding::{Area, Pillar};
use crate::firewall::Firewall;
use crate::kinds;
use crate::notes::Notes;
use crate::postgres::Database;
use crate::services::{Services, What, Who};
use crate::ssh::Ssh;
use crate::updates::Updates;
use crate::web::Site;

/// A stage of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Static, by hand, by network.
    Traditional,
    /// First steps away from that.
    Initial,
    /// By identity and policy, in most places.
    Advanced,
    /// Everywhere, by itself and all the time.
    Optimal,
}

impl Stage {
    /// From the first to the last.
    pub const ALL: [Self; 4] = [Self::Traditional, Self::Initial, Self::Advanced, Self::Optimal];

    /// Its name in the model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Traditional => "Traditional",
            Self::Initial => "Initial",
            Self::Advanced => "Advanced",
            Self::Optimal => "Optimal",
        }
    }

    fn points(self) -> u32 {
        match self {
            Self::Traditional => 0,
            Self::Initial => 33,
            Self::Advanced => 67,
            Self::Optimal => 100,
        }
    }
}

/// One function of a pillar.
#[derive(Debug, Clone, Serialize)]
pub struct Function {
    /// Its name in the model.
    pub name: &'static str,
    /// Its stage; absent where a host's files don't show it.
    pub stage: Option<Stage>,
    /// Why.
    pub reason: String,
}

/// One pillar.
#[derive(Debug, Clone, Serialize)]
pub struct PillarScore {
    /// Which.
    pub pillar: Pillar,
    /// That of the function furthest behind; absent where none was assessed.
    pub stage: Option<Stage>,
    /// Mean of the assessed functions, 0 to 100.
    pub points: Option<u32>,
    /// All of them.
    pub functions: Vec<Function>,
}

/// All pillars.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// The five, then what cuts across them.
    pub pillars: Vec<PillarScore>,
}

/// What was seen.
pub(crate) struct Seen<'a> {
    pub accounts: &'a Accounts,
    pub ssh: &'a Ssh,
    pub databases: &'a [Database],
    pub sites: &'a [Site],
    pub firewall: &'a Firewall,
    pub updates: &'a Updates,
    pub services: &'a Services,
}

/// Scores what was seen.
pub(crate) fn of(seen: &Seen<'_>, notes: &Notes) -> Score {
    let pillars = Pillar::ALL.map(|pillar| {
        let functions = match pillar {
            Pillar::Identity => identity(seen, notes),
            Pillar::Devices => devices(seen, notes),
            Pillar::Networks => networks(seen, notes),
            Pillar::Applications => applications(seen),
            Pillar::Data => data(seen, notes),
            Pillar::Visibility => visibility(seen),
            Pillar::Automation => automation(seen, notes),
            Pillar::Governance => governance(),
        };
        let stages: Vec<Stage> = functions.iter().filter_map(|function| function.stage).collect();
        let count = u32::try_from(stages.len()).unwrap_or(u32::MAX);
        let points = (count > 0).then(|| stages.iter().map(|stage| stage.points()).sum::<u32>() / count);
        PillarScore { pillar, stage: stages.iter().min().copied(), points, functions }
    });
    Score { pillars: pillars.to_vec() }
}

fn is(name: &'static str, stage: Stage, reason: impl Into<String>) -> Function {
    Function { name, stage: Some(stage), reason: reason.into() }
}

fn not_assessed(name: &'static str, reason: impl Into<String>) -> Function {
    Function { name, stage: None, reason: reason.into() }
}

/// Whether something of an area could not be read: then the best that can be said of it is not said.
fn has_gap(notes: &Notes, area: Area) -> bool {
    notes.gaps.iter().any(|gap| gap.area == area)
}

fn identity(seen: &Seen<'_>, notes: &Notes) -> Vec<Function> {
    let ssh = seen.ssh;
    let bad = [&kinds::ACCOUNT_EMPTY_PASSWORD, &kinds::SSH_EMPTY_PASSWORDS, &kinds::PG_TRUST];
    let proofless = bad.iter().any(|kind| notes.has(kind));
    let passwords_at_the_web = seen.sites.iter().any(|site| site.sign_in.contains(&"password"));
    let authentication = if proofless {
        is("Authentication", Stage::Traditional, "somebody gets in without any proof")
    } else if ssh.takes_passwords || passwords_at_the_web {
        is("Authentication", Stage::Traditional, "a password alone is enough for SSH or a site")
    } else if !ssh.configured && seen.sites.iter().all(|site| site.sign_in.is_empty()) {
        not_assessed("Authentication", "nothing was found here that people sign in to")
    } else if has_gap(notes, Area::Ssh) {
        is("Authentication", Stage::Initial, "keys in place of passwords, as far as it could be read")
    } else if ssh.configured && ssh.keys > 0 && ssh.keys == ssh.keys_in_hardware {
        is("Authentication", Stage::Advanced, "every authorised key lives in hardware, which is phishing-resistant")
    } else if ssh.has_authority {
        is("Authentication", Stage::Advanced, "SSH takes certificates of an authority")
    } else {
        is("Authentication", Stage::Initial, "keys in place of passwords; most of them are files that can be copied")
    };
    let stores = if seen.accounts.all.is_empty() {
        not_assessed("Identity Stores", "the list of accounts could not be read")
    } else if seen.accounts.central {
        is("Identity Stores", Stage::Initial, "accounts also come from a directory of the company (nsswitch.conf)")
    } else {
        is("Identity Stores", Stage::Traditional, "accounts are this host's own")
    };
    let standing = [
        &kinds::SUDO_NO_PASSWORD,
        &kinds::SUDO_NO_AUTHENTICATION,
        &kinds::ACCOUNT_AS_ROOT,
        &kinds::ACCOUNT_SECOND_ROOT,
    ];
    let shared = [&kinds::SSH_KEY_SHARED, &kinds::SSH_KEY_OF_ROOT];
    let access = if seen.accounts.all.is_empty() {
        not_assessed("Access Management", "accounts and sudo could not be read")
    } else if standing.iter().any(|kind| notes.has(kind)) {
        is("Access Management", Stage::Traditional, "some are root all the time, without being asked for anything")
    } else if shared.iter().any(|kind| notes.has(kind)) {
        is(
            "Access Management",
            Stage::Traditional,
            "keys are shared, or open root directly, so rights belong to nobody in particular",
        )
    } else if has_gap(notes, Area::Sudo) || has_gap(notes, Area::Ssh) {
        is("Access Management", Stage::Initial, "rights are named; not all of them could be read")
    } else if ssh.has_authority {
        is("Access Management", Stage::Advanced, "access comes with certificates that end")
    } else {
        is(
            "Access Management",
            Stage::Initial,
            "people become root under their own name, with a password; rights have no end",
        )
    };
    vec![
        authentication,
        stores,
        not_assessed("Risk Assessments", "risk of identities is judged elsewhere; files of a host don't show it"),
        access,
    ]
}

fn devices(seen: &Seen<'_>, notes: &Notes) -> Vec<Function> {
    let compliance = match (seen.updates.automatic, seen.updates.fresh) {
        (None, _) => {
            not_assessed("Policy Enforcement & Compliance Monitoring", "the state of packages could not be read")
        }
        (Some(false), _) | (_, Some(false)) => is(
            "Policy Enforcement & Compliance Monitoring",
            Stage::Traditional,
            "updates are installed by hand, or their lists are old",
        ),
        (Some(true), None | Some(true)) => is(
            "Policy Enforcement & Compliance Monitoring",
            Stage::Initial,
            "security updates are installed by themselves; whether anybody compares the state with a rule is not seen",
        ),
    };
    let asks = |site: &Site| site.client_certificates;
    let by_certificate = seen
        .databases
        .iter()
        .flat_map(|database| &database.rules)
        .any(|rule| rule.method == "cert" && !rule.is_local());
    let open: Vec<&Site> = seen
        .sites
        .iter()
        .filter(|site| !site.only_redirects && !site.binds.iter().all(|bind| bind.is_local()))
        .collect();
    let access = if open.is_empty() && seen.databases.is_empty() && !seen.ssh.configured {
        not_assessed("Resource Access", "nothing was found that devices come to")
    } else if !open.is_empty() && open.iter().all(|site| asks(site)) && !has_gap(notes, Area::Nginx) {
        is(
            "Resource Access",
            Stage::Advanced,
            "every site wants a certificate of the client; whether it stands for a device is not seen",
        )
    } else if open.iter().any(|site| asks(site)) || by_certificate {
        is("Resource Access", Stage::Initial, "some services want a certificate of the client")
    } else {
        is("Resource Access", Stage::Traditional, "no service asks which device it is")
    };
    vec![
        compliance,
        not_assessed("Asset & Supply Chain Risk Management", "an inventory is kept elsewhere"),
        access,
        not_assessed("Device Threat Protection", "protection of devices that come here is not seen from here"),
    ]
}

fn networks(seen: &Seen<'_>, notes: &Notes) -> Vec<Function> {
    let open: Vec<_> = seen
        .services
        .all
        .iter()
        .filter(|service| {
            service.protocol == "tcp" && matches!(service.who, Who::Everybody | Who::Unknown | Who::Networks)
        })
        .collect();
    let to_all = open
        .iter()
        .filter(|service| service.who == Who::Everybody && !matches!(service.what, What::Https | What::Vouchsafe));
    let segmentation = if seen.firewall.foreign {
        not_assessed("Network Segmentation", "the firewall's rules could not be read")
    } else if notes.has(&kinds::FIREWALL_NONE) || notes.has(&kinds::FIREWALL_ACCEPTS) {
        is(
            "Network Segmentation",
            Stage::Traditional,
            "the host lets in what nobody named; only what stands in front of it limits who comes",
        )
    } else if to_all.count() > 0 || has_gap(notes, Area::Firewall) {
        is(
            "Network Segmentation",
            Stage::Initial,
            "the host drops what nobody named; services that are named are open to everybody",
        )
    } else {
        is("Network Segmentation", Stage::Advanced, "each service is open to named networks only")
    };
    let clear = [
        &kinds::WEB_CLEARTEXT,
        &kinds::PG_NO_TLS,
        &kinds::PG_TLS_OFF,
        &kinds::LISTEN_CLEARTEXT,
        &kinds::WEB_UPSTREAM_CLEARTEXT,
        &kinds::WEB_OLD_TLS,
        &kinds::CERT_EXPIRED,
    ];
    let unknown = open.iter().filter(|service| service.encrypted.is_none()).count();
    let encryption = if clear.iter().any(|kind| notes.has(kind)) {
        is("Traffic Encryption", Stage::Traditional, "some traffic is in the clear, or under outdated encryption")
    } else if open.is_empty() {
        not_assessed("Traffic Encryption", "nothing listens beyond this host, as far as it was seen")
    } else if unknown > 0 {
        not_assessed("Traffic Encryption", format!("of {unknown} services it is not known whether they encrypt"))
    } else if seen.sites.iter().any(|site| site.binds.iter().any(|bind| bind.tls))
        && seen.sites.iter().all(|site| site.newest_tls || site.only_redirects)
    {
        is("Traffic Encryption", Stage::Advanced, "all of it is encrypted, sites with TLS 1.3 only")
    } else {
        is(
            "Traffic Encryption",
            Stage::Initial,
            "what leaves the host is encrypted; older versions and long-lived keys are still taken",
        )
    };
    vec![
        segmentation,
        not_assessed("Network Traffic Management", "how traffic is steered is decided outside of this host"),
        encryption,
        not_assessed("Network Resilience", "one host does not show what happens when it fails"),
    ]
}

fn applications(seen: &Seen<'_>) -> Vec<Function> {
    let open: Vec<&Site> = seen
        .sites
        .iter()
        .filter(|site| !site.only_redirects && !site.is_stream && !site.binds.iter().all(|bind| bind.is_local()))
        .collect();
    let by_service = |site: &&&Site| site.sign_in.iter().any(|how| matches!(*how, "another service" | "token"));
    let access = if open.is_empty() {
        not_assessed("Application Access", "no site was found that others come to")
    } else if open.iter().any(|site| site.sign_in.is_empty()) {
        is(
            "Application Access",
            Stage::Traditional,
            "some proxies let everybody through; each application decides alone",
        )
    } else if open.iter().filter(by_service).count() == open.len() {
        is(
            "Application Access",
            Stage::Initial,
            "each site asks an identity service first; whether it looks at devices and risk is not seen",
        )
    } else {
        is("Application Access", Stage::Traditional, "sites ask for static passwords or certificates")
    };
    let elsewhere = "it happens outside of this host";
    vec![
        access,
        not_assessed("Application Threat Protections", "what inspects content was not looked for"),
        not_assessed(
            "Accessible Applications",
            "whether an application could be open to the world safely is not for its files to say",
        ),
        not_assessed("Secure Application Development & Deployment Workflow", elsewhere),
        not_assessed("Application Security Testing", elsewhere),
    ]
}

fn data(seen: &Seen<'_>, notes: &Notes) -> Vec<Function> {
    let rules = || seen.databases.iter().flat_map(|database| &database.rules).filter(|rule| rule.method != "reject");
    let access = if seen.databases.is_empty() {
        not_assessed("Data Access", "no database was found whose rules are read here")
    } else if notes.has(&kinds::PG_TRUST) || notes.has(&kinds::PG_EVERY_DATABASE) || notes.has(&kinds::PG_EVERYWHERE) {
        is(
            "Data Access",
            Stage::Traditional,
            "rules of PostgreSQL are open to every role, every address, or without proof",
        )
    } else if has_gap(notes, Area::Postgres) {
        is("Data Access", Stage::Initial, "databases, roles and networks are named, as far as the rules could be read")
    } else if rules().filter(|rule| !rule.is_local()).all(|rule| matches!(rule.method.as_str(), "cert" | "gss"))
        && rules().any(|rule| !rule.is_local())
    {
        is("Data Access", Stage::Advanced, "named roles with certificates or tickets only")
    } else {
        is("Data Access", Stage::Initial, "databases, roles and networks are named; rights have no end")
    };
    let encryption = if seen.databases.is_empty() {
        not_assessed("Data Encryption", "no database was found; encryption of disks was not looked for")
    } else if notes.has(&kinds::PG_NO_TLS) || notes.has(&kinds::PG_TLS_OFF) {
        is("Data Encryption", Stage::Traditional, "data leaves the database in the clear, or may")
    } else {
        is(
            "Data Encryption",
            Stage::Initial,
            "data leaves the database encrypted; encryption at rest was not looked for",
        )
    };
    vec![
        not_assessed("Data Inventory Management", "which data there is, is not seen from a host's configuration"),
        not_assessed("Data Categorization", "no labels of data are read here"),
        not_assessed("Data Availability", "copies and backups were not looked for"),
        access,
        encryption,
    ]
}

fn visibility(seen: &Seen<'_>) -> Vec<Function> {
    let mut parts: Vec<(bool, &str)> = Vec::new();
    if seen.ssh.configured {
        parts.push((seen.ssh.logs, "SSH"));
    }
    parts.extend(seen.sites.iter().map(|site| (site.logs, site.area.name())));
    parts.extend(seen.databases.iter().map(|database| (database.logs, "PostgreSQL")));
    let name = "Visibility & Analytics";
    if parts.is_empty() {
        return vec![not_assessed(name, "nothing was found here that keeps a log of access")];
    }
    let mut silent: Vec<&str> = parts.iter().filter(|(logs, _)| !logs).map(|(_, name)| *name).collect();
    silent.sort_unstable();
    silent.dedup();
    vec![if silent.is_empty() {
        is(
            name,
            Stage::Initial,
            "each service keeps a log of its own; whether anybody brings them together is not seen",
        )
    } else {
        is(name, Stage::Traditional, format!("no log of access is kept by: {}", silent.join(", ")))
    }]
}

fn automation(seen: &Seen<'_>, notes: &Notes) -> Vec<Function> {
    let name = "Automation & Orchestration";
    vec![match seen.updates.automatic {
        Some(true) if !notes.has(&kinds::CERT_EXPIRED) && !notes.has(&kinds::CERT_ENDS_SOON) => {
            is(name, Stage::Initial, "security updates come by themselves; how the host is configured is not seen")
        }
        Some(true) => is(name, Stage::Traditional, "certificates run out, so nobody renews them by a program"),
        Some(false) => is(name, Stage::Traditional, "updates are installed by hand"),
        None => not_assessed(name, "the state of packages could not be read"),
    }]
}

fn governance() -> Vec<Function> {
    vec![not_assessed("Governance", "rules of the organisation are not written in a host's files")]
}
