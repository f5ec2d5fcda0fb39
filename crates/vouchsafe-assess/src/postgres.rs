//! PostgreSQL: what its files say about who gets in. It is never connected to.

mod conf;
pub(crate) mod hba;
mod include;

use crate::Options;
use crate::finding::{Area, Evidence, Severity};
use crate::kinds;
use crate::notes::Notes;
use crate::source::Source;
use crate::text::numbered;
use conf::Settings;
use hba::{From, Rule, Way};

/// Where clusters are configured, by Debian and by others.
const PLACES: [&str; 4] =
    ["/etc/postgresql/*/*", "/var/lib/pgsql/data", "/var/lib/pgsql/*/data", "/var/lib/postgresql/data"];
/// Most rules of roles that are read.
const MAX_ROLES: usize = 20_000;

/// One cluster.
#[derive(Debug)]
pub(crate) struct Database {
    /// `/etc/postgresql/15/main`
    pub place: String,
    pub port: u16,
    /// As in `listen_addresses`.
    pub listens: Vec<String>,
    pub tls: bool,
    pub rules: Vec<Rule>,
    /// Certificate and key, where TLS is on.
    pub certificate: Option<(String, String)>,
    pub logs: bool,
}

impl Database {
    /// Whether it listens to more than this host.
    pub(crate) fn is_open(&self) -> bool {
        self.listens.iter().any(|address| !matches!(address.as_str(), "localhost" | "127.0.0.1" | "::1"))
    }
}

/// Looks at every cluster.
pub(crate) fn look(source: &Source, options: &Options, notes: &mut Notes) -> Vec<Database> {
    let mut databases = Vec::new();
    for pattern in PLACES {
        for place in notes.glob(Area::Postgres, source, pattern) {
            let file = format!("{place}/postgresql.conf");
            if source.is_there(&file) || source.is_there(&format!("{place}/pg_hba.conf")) {
                databases.push(cluster(source, &place, notes));
            }
        }
    }
    if let Some(roles) = &options.roles {
        judge_roles(roles, notes);
    }
    databases
}

fn cluster(source: &Source, place: &str, notes: &mut Notes) -> Database {
    let file = format!("{place}/postgresql.conf");
    let mut settings = Settings::default();
    settings.read(source, &file, 0, notes);
    // What `ALTER SYSTEM` wrote counts most, and stands with the data.
    let data = settings.get("data_directory").map_or_else(|| place.to_owned(), |setting| setting.value.clone());
    settings.read(source, &format!("{data}/postgresql.auto.conf"), 0, notes);
    let named = |name: &str, default: &str| match settings.get(name) {
        Some(setting) if setting.value.starts_with('/') => setting.value.clone(),
        Some(setting) if !setting.value.is_empty() => format!("{data}/{}", setting.value),
        _ => format!("{place}/{default}"),
    };
    let (hba_file, ident_file) = (named("hba_file", "pg_hba.conf"), named("ident_file", "pg_ident.conf"));
    let listens = settings.value("listen_addresses", "localhost").split(',').map(|one| one.trim().to_owned());
    let tls = settings.is_on("ssl", false);
    let certificate = tls.then(|| (named("ssl_cert_file", "server.crt"), named("ssl_key_file", "server.key")));
    let logs = settings.get("log_connections").is_some_and(|setting| {
        !matches!(setting.value.to_ascii_lowercase().as_str(), "off" | "false" | "no" | "0" | "")
    });
    let database = Database {
        place: place.to_owned(),
        port: settings.value("port", "5432").parse().unwrap_or(5_432),
        listens: listens.filter(|one| !one.is_empty()).collect(),
        tls,
        rules: hba::read(source, &hba_file, notes),
        certificate,
        logs,
    };
    judge_settings(&database, &settings, &file, notes);
    judge_rules(&database, notes);
    judge_map(source, &ident_file, notes);
    database
}

fn judge_settings(database: &Database, settings: &Settings, file: &str, notes: &mut Notes) {
    let place = &database.place;
    if !database.tls && database.is_open() {
        let seen =
            vec![settings.evidence("listen_addresses", "localhost", file), settings.evidence("ssl", "off", file)];
        notes.find(&kinds::PG_TLS_OFF, place, "PostgreSQL listens beyond this host, and nothing is encrypted.", seen);
    }
    if let Some(setting) =
        settings.get("password_encryption").filter(|setting| setting.value.eq_ignore_ascii_case("md5"))
    {
        let seen = vec![Evidence::line(&setting.file, setting.line, &setting.text)];
        notes.find(&kinds::PG_MD5, format!("password_encryption, {place}"), "New passwords are kept as MD5.", seen);
    }
    if let Some(setting) = settings.get("ssl_min_protocol_version")
        && matches!(setting.value.as_str(), "TLSv1" | "TLSv1.1" | "")
    {
        let seen = vec![Evidence::line(&setting.file, setting.line, &setting.text)];
        notes.find(&kinds::PG_OLD_TLS, place, "PostgreSQL takes versions of TLS older than 1.2.", seen);
    }
    if !database.logs {
        let seen = vec![settings.evidence("log_connections", "off", file)];
        notes.find(&kinds::PG_NO_CONNECTION_LOG, place, "Nobody can tell later who connected.", seen);
    }
}

fn judge_rules(database: &Database, notes: &mut Notes) {
    let dead = hba::shadowed(&database.rules);
    for (rule, covered_by) in database.rules.iter().zip(dead) {
        if let Some(earlier) = covered_by {
            let what = format!(
                "This rule never applies: line {} of `{}` takes all of its connections.",
                earlier.line, earlier.file
            );
            notes.find(&kinds::PG_DEAD_RULE, rule.subject(), what, vec![rule.evidence(), earlier.evidence()]);
            continue;
        }
        if rule.method == "reject" {
            continue;
        }
        judge_method(rule, notes);
        if rule.is_local() {
            continue;
        }
        let seen = || vec![rule.evidence()];
        if rule.is_everywhere() {
            notes.find(&kinds::PG_EVERYWHERE, rule.subject(), "Every address may try to sign in.", seen());
        } else if rule.from == From::SameNet {
            let what = "Every machine in the same networks may try to sign in.";
            notes.find_as(&kinds::PG_EVERYWHERE, Severity::Low, rule.subject(), what, seen());
        }
        if !rule.is_encrypted() {
            let (severity, what) = match rule.way {
                Way::NoTls => (Severity::High, "Connections of this rule are never encrypted by TLS."),
                Way::Host | Way::NoGss | Way::Tls | Way::Gss | Way::Local => {
                    (Severity::Medium, "The client chooses whether its connection is encrypted.")
                }
            };
            notes.find_as(&kinds::PG_NO_TLS, severity, rule.subject(), what, seen());
        }
        let all = |names: &[String]| names.iter().any(|name| name == "all");
        if all(&rule.databases) && all(&rule.users) {
            notes.find(&kinds::PG_EVERY_DATABASE, rule.subject(), "Every role may try every database.", seen());
        }
    }
}

fn judge_method(rule: &Rule, notes: &mut Notes) {
    let seen = || vec![rule.evidence()];
    match rule.method.as_str() {
        "trust" => {
            let (severity, what) = match (&rule.from, rule.is_local()) {
                (_, false) => (Severity::Critical, "Whoever comes from there is any role of this rule, without proof."),
                (From::Socket, true) => {
                    (Severity::Medium, "Every process of this host is any role of this rule, without proof.")
                }
                (_, true) => (
                    Severity::High,
                    "Every process of this host, and what tunnels to it, is any role of this rule, without proof.",
                ),
            };
            notes.find_as(&kinds::PG_TRUST, severity, rule.subject(), what, seen());
        }
        "password" | "ldap" | "radius" | "pam" | "bsd" if !rule.is_local() => {
            let (severity, what) = if rule.is_encrypted() {
                (Severity::Low, "The server sees everybody's password, inside of TLS.")
            } else {
                (Severity::High, "Passwords may go over the network in the clear.")
            };
            notes.find_as(&kinds::PG_CLEARTEXT_PASSWORD, severity, rule.subject(), what, seen());
        }
        "md5" => {
            let what = "This rule takes MD5 passwords, whose hash is as good as the password.";
            notes.find(&kinds::PG_MD5, rule.subject(), what, seen());
        }
        "ident" if !rule.is_local() => {
            notes.find(
                &kinds::PG_IDENT_NETWORK,
                rule.subject(),
                "The other machine says who its user is, and is believed.",
                seen(),
            );
        }
        _ => {}
    }
}

/// A line of `pg_ident.conf`: map, name in the system, role.
fn mapping(line: &str) -> Option<Result<(String, String, String), &'static str>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') || line.starts_with("include") {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('"')).collect();
    Some(match words.as_slice() {
        [map, system, role, ..] => Ok(((*map).to_owned(), (*system).to_owned(), (*role).to_owned())),
        _ => Err("it has not three fields"),
    })
}

fn judge_map(source: &Source, file: &str, notes: &mut Notes) {
    let Some(text) = notes.text(Area::Postgres, source, file) else { return };
    for (line, text) in numbered(&text) {
        let (map, system, role) = match mapping(text) {
            None => continue,
            Some(Err(why)) => {
                notes.broken(Area::Postgres, file, line, format!("not read as a map: {why}"));
                continue;
            }
            Some(Ok(mapping)) => mapping,
        };
        let everybody = matches!(system.as_str(), "/.*" | "/^.*$" | "/^(.*)$" | "/(.*)" | "/^.+$" | "/.+" | "all");
        // `/^(.*)$ \1` lets everybody be the role of their own name, which is what `peer` does anyway.
        if (everybody && role != "\\1") || role == "all" || role.starts_with('/') {
            let what = format!("The map `{map}` lets users of the system that match `{system}` be `{role}`.");
            notes.find(
                &kinds::PG_ANY_USER_MAP,
                format!("{map}: {system} {role}"),
                what,
                vec![Evidence::line(file, line, text)],
            );
        }
    }
}

/// `pg_dumpall --roles-only`: attributes of roles.
fn judge_roles(dump: &str, notes: &mut Notes) {
    let file = "dump of roles";
    notes.have_read(Area::Postgres, file);
    let mut count = 0;
    for (line, text) in numbered(dump) {
        let Some(rest) = text.strip_prefix("ALTER ROLE ").and_then(|rest| rest.split_once(" WITH ")) else { continue };
        let (name, attributes) = (rest.0.trim_matches('"'), rest.1.trim_end_matches(';'));
        count += 1;
        if count > MAX_ROLES {
            notes.broken(Area::Postgres, file, line, "too many roles; the rest was left out");
            return;
        }
        let (attributes, password) = attributes.split_once(" PASSWORD ").unwrap_or((attributes, ""));
        let has = |word: &str| attributes.split_whitespace().any(|attribute| attribute == word);
        let shown = format!("ALTER ROLE {name} WITH {attributes}");
        let seen = || vec![Evidence { file: file.to_owned(), line: Some(line), text: crate::text::short(&shown, 160) }];
        if has("SUPERUSER") && has("LOGIN") && name != "postgres" {
            let what = format!("`{name}` may do everything in every database.");
            notes.find(&kinds::PG_SUPERUSER, name, what, seen());
        }
        if password.starts_with("'md5") {
            notes.find(&kinds::PG_ROLE_MD5, name, format!("The password of `{name}` is kept as MD5."), seen());
        }
    }
    if count == 0 {
        notes.gap(
            Area::Postgres,
            file,
            None,
            "no `ALTER ROLE … WITH …` is in it",
            "make it with `pg_dumpall --roles-only`",
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roles_are_judged_and_their_passwords_never_shown() {
        let mut notes = Notes::default();
        let dump = "CREATE ROLE ann;\nALTER ROLE ann WITH SUPERUSER INHERIT LOGIN PASSWORD 'md5canary' VALID UNTIL 'x';\n\
            ALTER ROLE bob WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$canary';\nALTER ROLE postgres WITH SUPERUSER LOGIN;\n";
        judge_roles(dump, &mut notes);
        let found: Vec<_> = notes.findings.iter().map(|found| (found.id, found.subject.as_str())).collect();
        assert_eq!(found, [("pg-superuser", "ann"), ("pg-role-md5", "ann")]);
        assert!(!format!("{:?}", notes.findings).contains("canary"));
    }

    proptest! {
        #[test]
        fn no_dump_and_no_map_is_too_broken(text in "(ALTER ROLE [a-z\" ]{0,10}( WITH )?[A-Z' ]{0,40};?\n|\\PC{0,40}\n){0,5}") {
            let mut notes = Notes::default();
            judge_roles(&text, &mut notes);
            for line in text.lines() {
                let _ = mapping(line);
            }
        }
    }
}
