//! HAProxy: `haproxy.cfg`, in sections (HAProxy configuration manual §2).

use std::net::IpAddr;

use ipnet::IpNet;

use super::tree::MAX_DIRECTIVES;
use super::{Bind, CertificateFiles, Site, Upstream, host_and_port};
use crate::finding::{Area, Evidence};
use crate::kinds;
use crate::notes::Notes;
use crate::source::Source;
use crate::text::numbered;

const FILE: &str = "/etc/haproxy/haproxy.cfg";
const MORE: &str = "/etc/haproxy/conf.d/*.cfg";
/// Most words of a line, as in HAProxy.
const MAX_WORDS: usize = 64 * 4;

/// A line.
#[derive(Debug, Clone)]
struct Line {
    words: Vec<String>,
    seen: Evidence,
}

impl Line {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// The word behind another.
    fn behind(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|known| known == word)?;
        self.words.get(at + 1).map(String::as_str)
    }
}

/// A section with its lines.
#[derive(Debug, Clone)]
struct Section {
    kind: String,
    name: String,
    /// Which `defaults` it takes, where it says so.
    from: Option<String>,
    seen: Evidence,
    lines: Vec<Line>,
}

impl Section {
    fn last(&self, name: &str) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.word(0) == name)
    }

    fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Line> {
        self.lines.iter().filter(move |line| line.word(0) == name)
    }
}

/// Looks at every frontend.
pub(super) fn look(source: &Source, notes: &mut Notes) -> Vec<Site> {
    let mut sections = Vec::new();
    let mut files = vec![FILE.to_owned()];
    files.extend(notes.glob(Area::Haproxy, source, MORE));
    for file in files {
        if let Some(text) = notes.text(Area::Haproxy, source, &file) {
            for (line, why) in read(&file, &text, &mut sections) {
                notes.broken(Area::Haproxy, &file, line, why);
            }
        }
    }
    for section in &sections {
        statistics(section, notes);
    }
    sites(&sections)
}

const KINDS: [&str; 16] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "fcgi-app",
    "log-forward",
    "crt-store",
];

/// Adds the sections of a text; gives the lines that make no sense.
fn read(file: &str, text: &str, sections: &mut Vec<Section>) -> Vec<(usize, &'static str)> {
    let mut broken = Vec::new();
    let mut count = 0;
    for (number, line) in numbered(text) {
        let words = match words(line) {
            Ok(words) if words.is_empty() => continue,
            Ok(words) => words,
            Err(why) => {
                broken.push((number, why));
                continue;
            }
        };
        count += 1;
        if count > MAX_DIRECTIVES {
            broken.push((number, "too many lines; the rest was left out"));
            break;
        }
        let seen = Evidence::line(file, number, line);
        let line = Line { words, seen: seen.clone() };
        if KINDS.contains(&line.word(0)) {
            let from = line.behind("from").map(str::to_owned);
            let (kind, name) = (line.word(0).to_owned(), line.word(1).to_owned());
            sections.push(Section { kind, name, from, seen, lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else {
            broken.push((number, "a line before the first section, so HAProxy does not start"));
        }
    }
    broken
}

/// Words with quotes and backslashes, up to a comment.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', Some('"') | None) => word.get_or_insert_default().extend(letters.next()),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (end, Some(begin)) if end == begin => quote = None,
            ('#', None) => break,
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
        if words.len() > MAX_WORDS {
            return Err("too many words in a line, so HAProxy does not start");
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed, so HAProxy does not start");
    }
    words.extend(word);
    Ok(words)
}

/// `10.0.0.1:80,:::443 ssl crt /etc/x.pem`
fn binds(line: &Line) -> Vec<Bind> {
    let tls = line.has("ssl");
    let parts = line.word(1).split(',').filter_map(|part| {
        let part = part
            .strip_prefix("ipv4@")
            .or_else(|| part.strip_prefix("ipv6@"))
            .or_else(|| part.strip_prefix("quic4@"))
            .unwrap_or(part);
        if part.starts_with('/') || part.contains('@') || part.contains('$') {
            return None;
        }
        let (host, port) = part.rsplit_once(':')?;
        let ports = port.split_once('-').map_or(port, |(first, _)| first);
        let address = match host.trim_matches(['[', ']']) {
            "" | "*" | "0.0.0.0" | "::" => None,
            "localhost" => Some(std::net::Ipv4Addr::LOCALHOST.into()),
            host => Some(host.parse::<IpAddr>().ok()?),
        };
        // A frontend answers for all names.
        Some(Bind { address, port: ports.parse().ok()?, tls, is_default: true })
    });
    parts.collect()
}

fn statistics(section: &Section, notes: &mut Notes) {
    let subject = || format!("{} {}", section.kind, section.name).trim().to_owned();
    if section.kind == "global" {
        for line in section.all("stats").filter(|line| line.word(1) == "socket") {
            let address = line.word(2);
            let tcp = !address.starts_with('/')
                && !address.starts_with("unix@")
                && !address.starts_with("abns@")
                && address.contains(':');
            let local = address.contains("127.0.0.1:") || address.contains("localhost:") || address.contains("[::1]:");
            if tcp && !local {
                let what = "HAProxy takes commands from the network.";
                notes.find(&kinds::PROXY_STATS_OPEN, "stats socket", what, vec![line.seen.clone()]);
            }
        }
        return;
    }
    let shown: Vec<&Line> =
        section.all("stats").filter(|line| matches!(line.word(1), "enable" | "uri" | "admin")).collect();
    let Some(first) = shown.first() else { return };
    let guarded = section.all("stats").any(|line| line.word(1) == "auth")
        || section
            .all("http-request")
            .chain(section.all("stats"))
            .any(|line| line.has("auth") || line.word(1) == "deny" || line.word(2) == "deny");
    let local = section.all("bind").flat_map(binds).all(|bind| bind.is_local()) && section.last("bind").is_some();
    if !guarded && !local {
        notes.find(
            &kinds::PROXY_STATS_OPEN,
            subject(),
            "The statistics page asks nobody who they are.",
            vec![first.seen.clone()],
        );
    } else if let Some(admin) = shown.iter().find(|line| line.word(1) == "admin").filter(|_| !local) {
        let what = "Servers can be switched off on the statistics page.";
        notes.find_as(
            &kinds::PROXY_STATS_OPEN,
            crate::finding::Severity::Medium,
            subject(),
            what,
            vec![admin.seen.clone()],
        );
    }
}

fn sites(sections: &[Section]) -> Vec<Site> {
    let empty = Section {
        kind: String::new(),
        name: String::new(),
        from: None,
        seen: Evidence::file(FILE, ""),
        lines: Vec::new(),
    };
    let global = sections.iter().find(|section| section.kind == "global").unwrap_or(&empty);
    let mut defaults = &empty;
    let mut found = Vec::new();
    for section in sections {
        match section.kind.as_str() {
            "defaults" => defaults = section,
            "frontend" | "listen" if found.len() < super::MAX_SITES => {
                let named = section
                    .from
                    .as_ref()
                    .and_then(|name| sections.iter().find(|other| other.kind == "defaults" && other.name == *name));
                found.push(site(section, named.unwrap_or(defaults), global, sections));
            }
            _ => {}
        }
    }
    found
}

fn site(section: &Section, defaults: &Section, global: &Section, sections: &[Section]) -> Site {
    let mut site = Site::new(Area::Haproxy, section.seen.clone());
    let said = |name: &str| section.last(name).or_else(|| defaults.last(name));
    site.is_stream = said("mode").is_none_or(|line| line.word(1) == "tcp");
    site.binds = section.all("bind").flat_map(binds).collect();
    site.logs = said("log").is_some();
    for line in section.all("bind").filter(|line| line.has("ssl")) {
        let options = |line: &Line| line.behind("ssl-min-ver").map(str::to_owned);
        let global_min = global.last("ssl-default-bind-options");
        let (oldest, seen) = match (options(line), global_min) {
            (Some(oldest), _) => (oldest, &line.seen),
            (None, Some(global)) => (options(global).unwrap_or_default(), &global.seen),
            (None, None) => (String::new(), &line.seen),
        };
        if matches!(oldest.as_str(), "SSLv3" | "TLSv1.0" | "TLSv1.1") {
            site.old_tls = Some((seen.clone(), oldest == "SSLv3"));
        }
        site.newest_tls = oldest == "TLSv1.3";
        site.client_certificates |= line.behind("verify") == Some("required");
        let certificates = line.words.windows(2).filter_map(|pair| match pair {
            [word, file] if word == "crt" && file.starts_with('/') && !file.ends_with('/') => Some(file.clone()),
            _ => None,
        });
        // Certificate and key stand in one file.
        site.certificates
            .extend(certificates.map(|file| CertificateFiles { key: Some(file.clone()), certificate: file }));
    }
    if site.is_stream {
        site.names.push(section.name.clone());
    } else {
        site.names = names(section);
        if site.names.is_empty() {
            site.names.push(section.name.clone());
        }
    }
    let rules = || section.all("http-request").chain(defaults.all("http-request"));
    let always = |line: &&Line| !line.has("if") && !line.has("unless");
    if rules().any(|line| line.word(1) == "auth")
        || section.lines.iter().any(|line| line.words.iter().any(|word| word.contains("http_auth(")))
    {
        site.asks_somewhere = true;
        site.sign_in.push("password");
    }
    if site.client_certificates {
        site.sign_in.push("client certificate");
    }
    site.only_from = only_from(section);
    let to_https =
        |line: &Line| line.has("scheme") && line.has("https") && line.words.iter().any(|word| word == "redirect");
    let redirects = section.all("redirect").chain(rules()).find(|line| to_https(line));
    let backends = backends(section, sections);
    // Where TLS is spoken as well, only the part in the clear is sent away.
    if let Some(redirect) = redirects {
        if always(&redirect) || section.all("bind").all(|line| !line.has("ssl")) {
            site.only_redirects = always(&redirect) || backends.is_empty();
        } else if redirect.words.iter().any(|word| word.contains("ssl_fc")) {
            for bind in &mut site.binds {
                // What is not encrypted leads to what is.
                bind.tls = true;
            }
        }
    }
    for backend in backends.into_iter().take(super::MAX_UPSTREAMS) {
        if site.upstreams.len() >= super::MAX_UPSTREAMS {
            break;
        }
        site.upstreams.extend(
            backend.all("server").filter_map(|line| server(line, backend, defaults)).take(super::MAX_UPSTREAMS),
        );
        let asks = |line: &Line| line.word(1) == "auth";
        if backend.all("http-request").any(asks) {
            site.asks_somewhere = true;
        }
    }
    site
}

fn server(line: &Line, backend: &Section, defaults: &Section) -> Option<Upstream> {
    let general = backend.last("default-server").or_else(|| defaults.last("default-server"));
    let tls = line.has("ssl") || general.is_some_and(|general| general.has("ssl"));
    let (host, port) = host_and_port(line.word(2))?;
    if host.is_empty() || host.starts_with('/') || host.contains('@') {
        return None;
    }
    let none = |line: &Line| line.behind("verify") == Some("none");
    // What the server says of itself counts before what is said of all.
    let unchecked = if line.behind("verify").is_some() { none(line) } else { general.is_some_and(none) };
    let verified = tls.then_some(!unchecked);
    Some(Upstream { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), verified, seen: line.seen.clone() })
}

/// The section itself, and every backend that it names.
fn backends<'s>(section: &'s Section, sections: &'s [Section]) -> Vec<&'s Section> {
    let named = section.all("default_backend").chain(section.all("use_backend")).map(|line| line.word(1));
    let mut names: Vec<&str> = named.collect();
    names.sort_unstable();
    names.dedup();
    let mut found: Vec<&Section> = if section.kind == "listen" { vec![section] } else { Vec::new() };
    found.extend(
        sections.iter().filter(|other| {
            matches!(other.kind.as_str(), "backend" | "listen") && names.contains(&other.name.as_str())
        }),
    );
    found
}

/// Host names that rules compare with, whole.
fn names(section: &Section) -> Vec<String> {
    let mut names = Vec::new();
    for line in section.all("acl") {
        let compares = matches!(
            line.word(2),
            "hdr(host)" | "req.hdr(host)" | "hdr(Host)" | "req.hdr(Host)" | "ssl_fc_sni" | "req.ssl_sni"
        );
        if compares {
            let values = line.words.iter().skip(3).filter(|word| !word.starts_with('-'));
            names.extend(values.map(|name| name.to_ascii_lowercase()));
        }
    }
    names.sort();
    names.dedup();
    names
}

/// `acl inside src 10.0.0.0/8` with `http-request deny unless inside` (or `if !inside`), for TCP likewise.
fn only_from(section: &Section) -> Option<Vec<IpNet>> {
    let refusal = section
        .all("http-request")
        .filter(|line| matches!(line.word(1), "deny" | "reject"))
        .chain(section.all("tcp-request").filter(|line| line.has("reject")));
    for line in refusal {
        let condition = match (line.behind("unless"), line.behind("if")) {
            (Some(name), None) => Some(name),
            (None, Some(name)) => name.strip_prefix('!'),
            _ => None,
        };
        // More words make it something else.
        let Some(name) = condition.filter(|_| {
            line.words.last().is_some_and(|last| last.trim_start_matches('!') == condition.unwrap_or_default())
        }) else {
            continue;
        };
        let lists: Vec<&Line> = section.all("acl").filter(|acl| acl.word(1) == name).collect();
        if lists.is_empty() || lists.iter().any(|acl| acl.word(2) != "src" || acl.has("-f")) {
            continue;
        }
        let nets = lists.iter().flat_map(|acl| acl.words.iter().skip(3));
        return nets
            .map(|text| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)))
            .collect();
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_sites(text: &str) -> Vec<Site> {
        let mut sections = Vec::new();
        assert_eq!(read(FILE, text, &mut sections), []);
        sites(&sections)
    }

    #[test]
    fn frontends_are_joined_with_their_backends() {
        let sites = read_sites(
            "global\n  log /dev/log local0\n  ssl-default-bind-options ssl-min-ver TLSv1.1 # old\n\
             defaults\n  mode http\n  log global\n\
             frontend web\n  bind *:80\n  bind :443 ssl crt /etc/ssl/web.pem\n  http-request redirect scheme https unless { ssl_fc }\n\
             \x20 acl wiki hdr(host) -i Wiki.example wiki.example.org\n  use_backend wiki if wiki\n  default_backend app\n\
             backend wiki\n  server a 10.0.0.7:8080 ssl verify none\n\
             backend app\n  server a 127.0.0.1:3000\n  http-request auth\n\
             listen db\n  mode tcp\n  bind 10.0.0.1:5432\n  acl inside src 10.0.0.0/8\n  tcp-request connection reject if !inside\n  server a 10.0.0.9:5432\n",
        );
        assert_eq!(sites[0].names, ["wiki.example", "wiki.example.org"]);
        assert_eq!(
            sites[0].binds.iter().map(|bind| (bind.port, bind.tls)).collect::<Vec<_>>(),
            [(80, true), (443, true)]
        );
        assert!(sites[0].old_tls.is_some() && sites[0].asks_somewhere && sites[0].sign_in.is_empty());
        assert_eq!(sites[0].upstreams[0].verified, None.or(Some(false)));
        assert!(sites[0].upstreams.iter().any(|upstream| upstream.port == 3000 && upstream.is_local()));
        assert_eq!(sites[0].certificates[0].certificate, "/etc/ssl/web.pem");
        assert!(sites[1].is_stream);
        assert_eq!(sites[1].only_from, Some(vec!["10.0.0.0/8".parse().unwrap()]));
    }

    #[test]
    fn an_open_statistics_page_is_found_and_its_password_never_shown() {
        for (lines, expected) in [
            ("bind :9000\n stats enable", true),
            ("bind 127.0.0.1:9000\n stats enable", false),
            ("bind :9000\n stats enable\n stats auth admin:canary", false),
        ] {
            let mut sections = Vec::new();
            read(FILE, &format!("listen stats\n {lines}\n"), &mut sections);
            let mut notes = Notes::default();
            statistics(&sections[0], &mut notes);
            assert_eq!(notes.has(&kinds::PROXY_STATS_OPEN), expected, "{lines}");
            assert!(
                !format!("{sections:?}").split("seen").skip(1).any(|seen| seen.contains("stats auth admin:canary"))
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_broken(text in "((frontend|listen|backend|defaults|bind|server|acl|http-request|stats) [a-z0-9:.,\"'\\\\/ ]{0,30}\n|\\PC{0,40}\n){0,8}") {
            let mut sections = Vec::new();
            let _ = read(FILE, &text, &mut sections);
            let _ = sites(&sections);
            let mut notes = Notes::default();
            sections.iter().for_each(|section| statistics(section, &mut notes));
        }
    }
}
