//! Logs in, observed accesses out, with what could not be used and why.

use std::collections::HashMap;
use std::io::{self, BufRead};

use serde::Serialize;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_model::observed::{Observed, Source, Tally};

use crate::file::MAX_ENTRIES;
use crate::format::Read;
use crate::haproxy::{self, Captures};
use crate::lines::{Layout, Record, Records};
use crate::names::{Meant, Names};
use crate::time::Clock;
use crate::web::{
    APACHE_COMBINED, APACHE_COMMON, APACHE_VHOST, Fields, NGINX_COMBINED, NGINX_COMMON, Template, TemplateError,
};
use crate::{postgres, sshd};

/// Malformed lines that are shown.
const EXAMPLES: usize = 5;
/// Characters that are shown of one.
const EXCERPT: usize = 120;
/// Unknown names that are told apart, and characters of each.
const MAX_UNKNOWN: usize = 10_000;
const MAX_UNKNOWN_CHARS: usize = 200;

/// Which log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// nginx's access log; the first description that a line has counts.
    Nginx(Vec<Template>),
    /// Apache's access log.
    Apache(Vec<Template>),
    /// HAProxy's HTTP log.
    Haproxy(Captures),
    /// PostgreSQL's CSV log.
    Postgres,
    /// The log of OpenSSH's server.
    Sshd,
}

impl Format {
    /// nginx's, as its `log_format` says or by the name `combined`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn nginx(format: Option<&str>, fields: Fields<'_>) -> Result<Self, TemplateError> {
        let formats: &[&str] = match &format {
            None | Some("combined" | "common") => &[NGINX_COMBINED, NGINX_COMMON],
            Some(format) => &[format],
        };
        formats.iter().map(|format| Template::nginx(format, fields)).collect::<Result<_, _>>().map(Format::Nginx)
    }

    /// Apache's, as its `LogFormat` says or by the names `common`, `combined` and `vhost_combined`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn apache(format: Option<&str>, fields: Fields<'_>) -> Result<Self, TemplateError> {
        let formats: &[&str] = match &format {
            None | Some("combined" | "common") => &[APACHE_COMBINED, APACHE_COMMON],
            Some("vhost_combined") => &[APACHE_VHOST],
            Some(format) => &[format],
        };
        formats.iter().map(|format| Template::apache(format, fields)).collect::<Result<_, _>>().map(Format::Apache)
    }

    /// Where accesses of it come from.
    #[must_use]
    pub const fn source(&self) -> Source {
        match self {
            Format::Nginx(_) => Source::Nginx,
            Format::Apache(_) => Source::Apache,
            Format::Haproxy(_) => Source::Haproxy,
            Format::Postgres => Source::Postgres,
            Format::Sshd => Source::Sshd,
        }
    }

    fn layout(&self) -> Layout {
        match self {
            Format::Postgres => Layout::Quoted,
            Format::Nginx(_) | Format::Apache(_) | Format::Haproxy(_) | Format::Sshd => Layout::Lines,
        }
    }

    fn read<'l>(&self, bytes: &'l [u8], clock: &Clock) -> Read<'l> {
        match self {
            Format::Nginx(templates) | Format::Apache(templates) => {
                let read = templates.iter().find_map(|template| template.read(bytes, clock));
                read.unwrap_or(Read::Malformed("it doesn't have the form of the log format"))
            }
            Format::Haproxy(captures) => haproxy::read(bytes, *captures, clock),
            Format::Postgres => postgres::read(bytes, clock),
            Format::Sshd => sshd::read(bytes, clock),
        }
    }
}

/// What is to be read, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which log it is.
    pub format: Format,
    /// Who and what names are.
    pub names: Names,
    /// What every line is about; else the host, backend or database in it tells.
    pub resource: Option<ResourceName>,
    /// What the log doesn't say about its times.
    pub clock: Clock,
}

/// What became of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records, which are lines in most logs.
    pub records: u64,
    /// Those that are taken: accesses of known users to known resources.
    pub taken: u64,
    /// Those that were refused, or of which it isn't sure that they were let in.
    pub refused: u64,
    /// Those about something else.
    pub other: u64,
    /// Accesses of nobody: the log has no name.
    pub nobody: u64,
    /// Accesses of names that are to be ignored.
    pub ignored: u64,
    /// Accesses of names that nobody said a user or resource for.
    pub unmapped: u64,
    /// Records that can't be read.
    pub malformed: u64,
    /// The first of them.
    pub examples: Vec<Malformed>,
    /// Names of users that nobody said who they are, most frequent first.
    pub unmapped_users: Vec<Unmapped>,
    /// Hosts, backends or databases that nobody said what they are.
    pub unmapped_resources: Vec<Unmapped>,
    /// Accesses beyond the most kinds of them that are told apart.
    pub beyond: u64,
    /// The first taken access, unix seconds.
    pub first: Option<u64>,
    /// The last taken access, unix seconds.
    pub last: Option<u64>,
    /// Kinds of accesses: users, resources and actions.
    pub kinds: usize,
    /// Users among them.
    pub users: usize,
    /// Resources among them.
    pub resources: usize,
}

/// A record that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// In which file.
    pub file: String,
    /// In which line it begins.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
    /// How it begins, harmless to a terminal.
    pub text: String,
}

/// A name that nobody said anything of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmapped {
    /// As it stands in the log; empty for all beyond those that are told apart.
    pub name: String,
    /// In how many accesses.
    pub count: u64,
}

/// Reads logs.
#[derive(Debug)]
pub struct Importer {
    plan: Plan,
    tally: Tally,
    users: HashMap<String, u64>,
    places: HashMap<String, u64>,
    summary: Summary,
}

impl Importer {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let (users, places) = (HashMap::new(), HashMap::new());
        Self { plan, tally: Tally::new(MAX_ENTRIES), users, places, summary: Summary::default() }
    }

    /// Reads a file of that name to its end.
    ///
    /// # Errors
    /// What the reader gives; what was read before counts.
    pub fn read(&mut self, file: &str, from: impl BufRead) -> io::Result<()> {
        let mut records = Records::new(from, self.plan.format.layout());
        while let Some(record) = records.next()? {
            self.record(file, &record);
        }
        Ok(())
    }

    fn record(&mut self, file: &str, record: &Record<'_>) {
        self.summary.records += 1;
        let Some(bytes) = record.bytes else {
            return self.malformed(file, record.number, "it is longer than is looked at", b"");
        };
        let access = match self.plan.format.read(bytes, &self.plan.clock) {
            Read::Access(access) => access,
            Read::Refused => return self.summary.refused += 1,
            Read::Other => return self.summary.other += 1,
            // An empty line between others says nothing, and nothing is wrong with it.
            Read::Malformed(_) if bytes.is_empty() => return self.summary.other += 1,
            Read::Malformed(why) => return self.malformed(file, record.number, why, bytes),
        };
        let Some(name) = access.user else { return self.summary.nobody += 1 };
        let place = access.place.as_deref().unwrap_or_default();
        let user = self.plan.names.user(&name);
        let resource = match &self.plan.resource {
            Some(resource) => Meant::Known(resource.clone()),
            None => self.plan.names.resource(place),
        };
        match (user, resource) {
            (Meant::Ignored, _) | (_, Meant::Ignored) => self.summary.ignored += 1,
            (Meant::Known(user), Meant::Known(resource)) => {
                let (action, at, source) = (access.action, access.at, self.plan.format.source());
                self.summary.taken += 1;
                self.tally.add(Observed { user, resource, action, count: 1, first: at, last: at, grade: None, source });
            }
            (user, resource) => {
                self.summary.unmapped += 1;
                if user == Meant::Unknown {
                    note(&mut self.users, &name);
                }
                if resource == Meant::Unknown {
                    note(&mut self.places, place);
                }
            }
        }
    }

    fn malformed(&mut self, file: &str, line: u64, why: &str, bytes: &[u8]) {
        self.summary.malformed += 1;
        if self.summary.examples.len() < EXAMPLES {
            let begin = bytes.get(..4 * EXCERPT).unwrap_or(bytes);
            let text = String::from_utf8_lossy(begin);
            let harmless = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
            let text = text.chars().take(EXCERPT).map(harmless).collect();
            self.summary.examples.push(Malformed { file: file.to_owned(), line, why: why.to_owned(), text });
        }
    }

    /// What was observed, and what became of the lines.
    #[must_use]
    pub fn finish(self) -> (Vec<Observed>, Summary) {
        let Self { plan: _, tally, users, places, mut summary } = self;
        summary.beyond = tally.beyond();
        let observed = tally.into_observed();
        summary.unmapped_users = counted(users);
        summary.unmapped_resources = counted(places);
        summary.first = observed.iter().map(|one| one.first).min();
        summary.last = observed.iter().map(|one| one.last).max();
        summary.kinds = observed.len();
        let users: std::collections::BTreeSet<&UserName> = observed.iter().map(|one| &one.user).collect();
        let resources: std::collections::BTreeSet<&ResourceName> = observed.iter().map(|one| &one.resource).collect();
        (summary.users, summary.resources) = (users.len(), resources.len());
        (observed, summary)
    }
}

fn note(counts: &mut HashMap<String, u64>, name: &str) {
    let name: String = name.chars().take(MAX_UNKNOWN_CHARS).collect();
    let room = counts.len() < MAX_UNKNOWN || counts.contains_key(&name);
    *counts.entry(if room { name } else { String::new() }).or_default() += 1;
}

fn counted(counts: HashMap<String, u64>) -> Vec<Unmapped> {
    let mut all: Vec<Unmapped> = counts.into_iter().map(|(name, count)| Unmapped { name, count }).collect();
    all.sort_by(|one, other| (other.count, &one.name).cmp(&(one.count, &other.name)));
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::Others;

    fn plan(format: Format, names: &str, resource: Option<&str>) -> Plan {
        Plan {
            format,
            names: Names::parse(names, Others::Unknown).expect("names"),
            resource: resource.map(|name| ResourceName::parse(name).expect("resource")),
            clock: Clock { offset: None, now: 1_795_788_200 },
        }
    }

    fn run(plan: Plan, log: &[u8]) -> (Vec<Observed>, Summary) {
        let mut importer = Importer::new(plan);
        importer.read("access.log", log).expect("reads");
        importer.finish()
    }

    fn every() -> [Format; 5] {
        [
            Format::nginx(None, Fields::default()).expect("format"),
            Format::apache(Some("vhost_combined"), Fields::default()).expect("format"),
            Format::Haproxy(Captures { user: Some(1), host: None }),
            Format::Postgres,
            Format::Sshd,
        ]
    }

    const NAMES: &str = "[users]\nalice = \"ann\"\n[ignore]\nusers = [\"nagios\"]\n";

    #[test]
    fn every_line_is_counted_once_and_nothing_is_guessed() {
        let line = |user: &str, day: u32, method: &str, status: u16| {
            format!(
                "10.0.0.7 - {user} [{day}/Nov/2026:14:03:02 +0000] \"{method} / HTTP/1.1\" {status} 612 \"-\" \"-\"\n"
            )
        };
        let mut log = [
            line("alice", 26, "GET", 200),
            line("alice", 25, "GET", 200),
            line("alice", 27, "POST", 200),
            line("alice", 27, "GET", 401),
            line("ann", 27, "GET", 200),
            line("ann", 27, "GET", 200),
            line("eve", 27, "GET", 200),
            line("nagios", 27, "GET", 200),
            line("-", 27, "GET", 200),
            "\n".to_owned(),
            "nonsense\u{1b}[2J\n".to_owned(),
        ]
        .concat()
        .into_bytes();
        log.extend_from_slice(b"\xff\xfe\n");
        log.extend_from_slice(&vec![b'x'; 1 << 20]);
        let [nginx, ..] = every();
        let (observed, summary) = run(plan(nginx, NAMES, Some("wiki")), &log);
        let told: Vec<_> = observed
            .iter()
            .map(|one| (one.user.as_str(), one.resource.as_str(), one.action.as_str(), one.count, one.last - one.first))
            .collect();
        assert_eq!(told, [("ann", "wiki", "http:read", 2, 86_400), ("ann", "wiki", "http:write", 1, 0)]);
        let Summary { records, taken, refused, other, nobody, ignored, unmapped, malformed, .. } = summary;
        assert_eq!([records, taken, refused, other, nobody, ignored, unmapped, malformed], [13, 3, 1, 1, 1, 1, 3, 3]);
        let unmapped: Vec<_> = summary.unmapped_users.iter().map(|one| (one.name.as_str(), one.count)).collect();
        assert_eq!(unmapped, [("ann", 2), ("eve", 1)], "a name that is a user's is nobody's all the same");
        let examples: Vec<_> = summary.examples.iter().map(|one| (one.line, one.text.as_str())).collect();
        assert_eq!(examples, [(11, "nonsense\u{fffd}[2J"), (12, "\u{fffd}\u{fffd}"), (13, "")]);
        assert_eq!((summary.kinds, summary.users, summary.resources), (2, 1, 1));
    }

    #[test]
    fn places_are_resources_only_where_somebody_said_so() {
        let names = "[users]\nalice = \"ann\"\n[resources]\n\"wiki.example\" = \"wiki\"\n[ignore]\nresources = [\"old.example\"]\n";
        let line = |host: &str| {
            format!("{host}:443 ::1 - alice [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"-\"\n")
        };
        let log = ["Wiki.Example", "wiki.example", "erp.example", "old.example"].map(line).concat();
        let [_, apache, ..] = every();
        let (observed, summary) = run(plan(apache, names, None), log.as_bytes());
        assert_eq!((observed.len(), summary.taken, summary.ignored, summary.unmapped), (1, 2, 1, 1));
        assert_eq!(summary.unmapped_resources, [Unmapped { name: "erp.example".to_owned(), count: 1 }]);
    }

    proptest! {
        #[test]
        fn no_log_breaks_it_and_every_record_is_counted_once(
            chunks in proptest::collection::vec(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                "[ -~\n\"\\\\]{0,80}".prop_map(String::into_bytes),
                Just(b"10.0.0.7 - alice [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"-\"\n".to_vec()),
                Just(b"Nov 27 14:03:02 b sshd[1]: Accepted password for alice from ::1 port 1 ssh2\n".to_vec()),
                Just(b"2026-11-27 14:03:02 UTC,\"alice\",\"app\",1,,,2,,,,,LOG,,\"connection authorized: user=alice\"\n".to_vec()),
            ], 0..8)
        ) {
            let log = chunks.concat();
            for format in every() {
                let (observed, summary) = run(plan(format, NAMES, Some("wiki")), &log);
                let Summary { records, taken, refused, other, nobody, ignored, unmapped, malformed, .. } = summary;
                prop_assert_eq!(records, taken + refused + other + nobody + ignored + unmapped + malformed);
                prop_assert_eq!(taken, observed.iter().map(|one| one.count).sum::<u64>());
                prop_assert!(observed.iter().all(|one| one.user.as_str() == "ann"));
            }
        }
    }
}
