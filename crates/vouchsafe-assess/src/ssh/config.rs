//! sshd's configuration, read as sshd reads it (OpenSSH 9.2, `servconf.c`).
//!
//! The first value counts; some keywords gather. `Match` blocks are read a second time for a connection, and
//! what they say first stands before the rest. A file that `Include` names begins in the state of the
//! including one and gives that state back, and inside a block that doesn't match none of its own match.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use crate::finding::{Area, Evidence};
use crate::notes::Notes;
use crate::source::Source;
use crate::text::{numbered, wild};

/// Deepest `Include`, as in sshd.
const MAX_DEPTH: usize = 16;
/// Most files.
const MAX_FILES: usize = 256;
/// Most lines with something in them, of all files.
const MAX_DIRECTIVES: usize = 20_000;

/// Keywords whose values add up over lines.
const GATHERED: [&str; 11] = [
    "port",
    "listenaddress",
    "hostkey",
    "hostcertificate",
    "allowusers",
    "denyusers",
    "allowgroups",
    "denygroups",
    "acceptenv",
    "logverbose",
    "subsystem",
];

/// Keywords with the values that they have where nothing is said.
const DEFAULTS: [(&str, &str); 28] = [
    ("port", "22"),
    ("permitrootlogin", "prohibit-password"),
    ("passwordauthentication", "yes"),
    ("kbdinteractiveauthentication", "yes"),
    ("pubkeyauthentication", "yes"),
    ("permitemptypasswords", "no"),
    ("hostbasedauthentication", "no"),
    ("usepam", "no"),
    ("authenticationmethods", "any"),
    ("authorizedkeysfile", ".ssh/authorized_keys .ssh/authorized_keys2"),
    ("strictmodes", "yes"),
    ("ignorerhosts", "yes"),
    ("permituserenvironment", "no"),
    ("disableforwarding", "no"),
    ("allowtcpforwarding", "yes"),
    ("allowagentforwarding", "yes"),
    ("allowstreamlocalforwarding", "yes"),
    ("gatewayports", "no"),
    ("permittunnel", "no"),
    ("permittty", "yes"),
    ("permituserrc", "yes"),
    ("x11forwarding", "no"),
    ("x11uselocalhost", "yes"),
    ("maxauthtries", "6"),
    ("maxsessions", "10"),
    ("logingracetime", "120"),
    ("loglevel", "INFO"),
    ("forcecommand", "none"),
];

/// Keywords without a default that matters here.
const OTHERS: &str = "acceptenv addressfamily allowgroups allowusers authorizedkeyscommand authorizedkeyscommanduser \
    authorizedprincipalscommand authorizedprincipalscommanduser authorizedprincipalsfile banner \
    casignaturealgorithms channeltimeout chrootdirectory ciphers clientalivecountmax clientaliveinterval compression \
    debianbanner denygroups denyusers exposeauthinfo fingerprinthash gssapiauthentication gssapicleanupcredentials \
    gssapikexalgorithms gssapikeyexchange gssapistorecredentialsonrekey gssapistrictacceptorcheck \
    hostbasedacceptedalgorithms hostbasedacceptedkeytypes hostbasedusesnamefrompacketonly hostcertificate hostkey \
    hostkeyagent hostkeyalgorithms ignoreuserknownhosts include ipqos kerberosauthentication kerberosgetafstoken \
    kerberosorlocalpasswd kerberosticketcleanup kexalgorithms listenaddress logverbose macs match maxstartups \
    modulifile permitlisten permitopen persourcemaxstartups persourcenetblocksize persourcepenalties \
    persourcepenaltyexemptlist pidfile printlastlog printmotd protocol pubkeyacceptedalgorithms \
    pubkeyacceptedkeytypes pubkeyauthoptions rdomain refuseconnection rekeylimit requiredrsasize revokedkeys \
    rhostsrsaauthentication rsaauthentication sacl securitykeyprovider setenv serverkeybits showpatchlevel \
    skeyauthentication sshdauthpath sshdsessionpath streamlocalbindmask streamlocalbindunlink subsystem syslogfacility \
    tcpkeepalive trustedusercakeys unusedconnectiontimeout usedns uselogin useprivilegeseparation versionaddendum \
    x11displayoffset xauthlocation keyregenerationinterval";

/// Keywords that take `yes` and `no` only.
const FLAGS: [&str; 12] = [
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "pubkeyauthentication",
    "permitemptypasswords",
    "hostbasedauthentication",
    "usepam",
    "strictmodes",
    "disableforwarding",
    "allowagentforwarding",
    "x11forwarding",
    "permittty",
    "permituserrc",
];

/// One line that sets something.
#[derive(Debug, Clone)]
pub(crate) struct Directive {
    /// In lower case, aliases resolved.
    pub keyword: String,
    pub values: Vec<String>,
    pub file: Rc<str>,
    pub line: usize,
    pub text: String,
}

impl Directive {
    /// Where it stands.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::line(&self.file, self.line, &self.text)
    }
}

/// What a file holds, in order.
#[derive(Debug, Clone)]
enum Item {
    Set(Directive),
    Match(Rc<Match>),
    Include(Vec<Vec<Item>>),
}

/// The head of a `Match` block: all of it must hold.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    criteria: Vec<(Criterion, String)>,
    /// As it was written.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Criterion {
    All,
    User,
    Group,
    Host,
    Address,
    LocalAddress,
    LocalPort,
    RoutingDomain,
    /// Known to newer versions, never true here.
    Other,
}

/// Who comes, from where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    pub user: String,
    pub groups: Vec<String>,
    pub host: String,
    pub address: Option<IpAddr>,
    pub local_address: Option<IpAddr>,
    pub local_port: u16,
}

/// A whole configuration.
#[derive(Debug, Default)]
pub(crate) struct SshdConfig {
    items: Vec<Item>,
}

/// What counts for somebody.
#[derive(Debug, Default, Clone)]
pub(crate) struct Effective {
    values: BTreeMap<String, Vec<Directive>>,
}

impl SshdConfig {
    /// Reads a file and what it includes.
    pub(crate) fn read(source: &Source, file: &str, notes: &mut Notes) -> Option<Self> {
        let text = notes.text(Area::Ssh, source, file)?;
        let mut reader = Reader { source, notes, files: 1, directives: 0 };
        let items = reader.parse(&Rc::from(file), &text, 0);
        Some(Self { items })
    }

    /// What counts where no `Match` block does, or for one connection.
    pub(crate) fn effective(&self, connection: Option<&Connection>) -> Effective {
        let mut global = Effective::default();
        let mut pass = Pass { connection: None, active: true, out: &mut global };
        pass.run(&self.items, Flags::default());
        if let Some(connection) = connection {
            let mut matched = Effective::default();
            let mut pass = Pass { connection: Some(connection), active: false, out: &mut matched };
            pass.run(&self.items, Flags { match_only: true, never: false });
            global.values.extend(matched.values);
        }
        global
    }

    /// Every line inside a `Match` block, with the block.
    pub(crate) fn conditional(&self) -> Vec<(Rc<Match>, Directive)> {
        fn walk(items: &[Item], outer: Option<&Rc<Match>>, found: &mut Vec<(Rc<Match>, Directive)>) {
            let mut block = outer.cloned();
            for item in items {
                match item {
                    // `Match all` ends the block above, for all that matters.
                    Item::Match(head) if head.is_all() => block = outer.cloned(),
                    Item::Match(head) => block = Some(head.clone()),
                    Item::Set(directive) => found.extend(block.clone().map(|block| (block, directive.clone()))),
                    Item::Include(files) => files.iter().for_each(|file| walk(file, block.as_ref(), found)),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.items, None, &mut found);
        found
    }
}

impl Effective {
    /// The lines that give a keyword its value; empty where the default counts.
    pub(crate) fn lines(&self, keyword: &str) -> &[Directive] {
        self.values.get(keyword).map_or(&[], Vec::as_slice)
    }

    /// All values of a keyword, or its default.
    pub(crate) fn values(&self, keyword: &str) -> Vec<&str> {
        let lines = self.lines(keyword);
        if lines.is_empty() {
            let default = DEFAULTS.iter().find(|(name, _)| *name == keyword).map_or("", |(_, value)| *value);
            return default.split_whitespace().collect();
        }
        lines.iter().flat_map(|line| line.values.iter().map(String::as_str)).collect()
    }

    /// The first value in lower case, or the default; empty where there is none.
    pub(crate) fn word(&self, keyword: &str) -> String {
        let first = self.values(keyword).first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        match first.as_str() {
            "true" => "yes".to_owned(),
            "false" => "no".to_owned(),
            "without-password" => "prohibit-password".to_owned(),
            "silent" => "quiet".to_owned(),
            _ => first,
        }
    }

    /// Whether a keyword says yes.
    pub(crate) fn says_yes(&self, keyword: &str) -> bool {
        self.word(keyword) == "yes"
    }

    /// Where a keyword got its value, or that it is the default.
    pub(crate) fn evidence(&self, keyword: &str, file: &str) -> Vec<Evidence> {
        let lines = self.lines(keyword);
        if lines.is_empty() {
            let default = DEFAULTS.iter().find(|(name, _)| *name == keyword).map_or("", |(_, value)| *value);
            return vec![Evidence::file(file, format!("not set, so {keyword} is `{default}`"))];
        }
        lines.iter().take(5).map(Directive::evidence).collect()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// Before the first `Match` of the second reading.
    match_only: bool,
    /// Inside a block that doesn't match.
    never: bool,
}

/// One reading of the configuration.
struct Pass<'a> {
    connection: Option<&'a Connection>,
    active: bool,
    out: &'a mut Effective,
}

impl Pass<'_> {
    fn run(&mut self, items: &[Item], mut flags: Flags) {
        for item in items {
            match item {
                Item::Set(directive) if self.active => self.set(directive),
                Item::Set(_) => {}
                Item::Match(head) => {
                    self.active = !flags.never && head.holds(self.connection);
                    flags.match_only = false;
                }
                Item::Include(files) => {
                    let before = self.active;
                    for file in files {
                        let inner = if flags.match_only { flags } else { Flags { match_only: false, never: !before } };
                        self.run(file, inner);
                        self.active = before;
                    }
                }
            }
        }
    }

    fn set(&mut self, directive: &Directive) {
        let lines = self.out.values.entry(directive.keyword.clone()).or_default();
        if lines.is_empty() || GATHERED.contains(&directive.keyword.as_str()) {
            lines.push(directive.clone());
        }
    }
}

impl Match {
    fn is_all(&self) -> bool {
        matches!(self.criteria.as_slice(), [(Criterion::All, _)])
    }

    fn holds(&self, connection: Option<&Connection>) -> bool {
        let Some(connection) = connection else { return self.is_all() };
        self.criteria.iter().all(|(criterion, pattern)| match criterion {
            Criterion::All => true,
            Criterion::User => in_list(&connection.user, pattern) == Some(true),
            Criterion::Group => {
                let verdicts: Vec<_> = connection.groups.iter().map(|group| in_list(group, pattern)).collect();
                !verdicts.contains(&Some(false)) && verdicts.contains(&Some(true))
            }
            Criterion::Host => {
                let (host, pattern) = (connection.host.to_ascii_lowercase(), pattern.to_ascii_lowercase());
                in_list(&host, &pattern) == Some(true)
            }
            Criterion::Address => connection.address.is_some_and(|address| in_networks(address, pattern)),
            Criterion::LocalAddress => connection.local_address.is_some_and(|address| in_networks(address, pattern)),
            Criterion::LocalPort => pattern.parse() == Ok(connection.local_port),
            Criterion::RoutingDomain | Criterion::Other => false,
        })
    }
}

/// Whether a list of patterns takes a name: yes, no by a pattern with `!`, or not named.
fn in_list(name: &str, patterns: &str) -> Option<bool> {
    let mut found = None;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if wild(pattern, name) => return Some(false),
            None if wild(pattern, name) => found = Some(true),
            _ => {}
        }
    }
    found
}

fn in_networks(address: IpAddr, patterns: &str) -> bool {
    let text = address.to_string();
    let mut found = false;
    for pattern in patterns.split(',') {
        let (wanted, bare) = pattern.strip_prefix('!').map_or((true, pattern), |bare| (false, bare));
        let net = bare.parse::<IpNet>().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from));
        if net.map_or_else(|| wild(bare, &text), |net| net.contains(&address)) {
            if !wanted {
                return false;
            }
            found = true;
        }
    }
    found
}

struct Reader<'a> {
    source: &'a Source,
    notes: &'a mut Notes,
    files: usize,
    directives: usize,
}

impl Reader<'_> {
    fn parse(&mut self, file: &Rc<str>, text: &str, depth: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for (line, text) in numbered(text) {
            let text = text.trim_matches([' ', '\t', '\r', '\u{c}']);
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            self.directives += 1;
            if self.directives > MAX_DIRECTIVES {
                self.notes.broken(
                    Area::Ssh,
                    file,
                    line,
                    format!("more than {MAX_DIRECTIVES} lines; the rest was left out"),
                );
                break;
            }
            match split(text) {
                Ok((keyword, values)) => items.extend(self.item(file, line, text, keyword, values, depth)),
                Err(why) => self.notes.broken(Area::Ssh, file, line, why),
            }
        }
        items
    }

    fn item(
        &mut self,
        file: &Rc<str>,
        line: usize,
        text: &str,
        keyword: String,
        values: Vec<String>,
        depth: usize,
    ) -> Option<Item> {
        if values.is_empty() {
            self.notes.broken(Area::Ssh, file, line, format!("`{keyword}` has no value, so sshd does not start"));
            return None;
        }
        match keyword.as_str() {
            "match" => match criteria(&values) {
                Ok(criteria) => Some(Item::Match(Rc::new(Match { criteria, text: crate::text::shown(text) }))),
                Err(why) => {
                    self.notes.broken(Area::Ssh, file, line, why);
                    // What follows applies to somebody, but it is not known to whom: to nobody of those looked at.
                    let criteria = vec![(Criterion::Other, String::new())];
                    Some(Item::Match(Rc::new(Match { criteria, text: crate::text::shown(text) })))
                }
            },
            "include" => Some(Item::Include(self.include(file, line, &values, depth))),
            _ => {
                let known = DEFAULTS.iter().any(|(name, _)| *name == keyword)
                    || OTHERS.split_whitespace().any(|name| name == keyword);
                if !known {
                    let why = format!(
                        "`{keyword}` is no keyword that is known here; a version that doesn't know it does not start"
                    );
                    self.notes.broken(Area::Ssh, file, line, why);
                }
                let first = values.first().map(|value| value.to_ascii_lowercase()).unwrap_or_default();
                if FLAGS.contains(&keyword.as_str()) && !["yes", "no", "true", "false"].contains(&first.as_str()) {
                    let why = format!("`{keyword}` must be yes or no, so sshd does not start");
                    self.notes.broken(Area::Ssh, file, line, why);
                }
                Some(Item::Set(Directive { keyword, values, file: file.clone(), line, text: text.to_owned() }))
            }
        }
    }

    fn include(&mut self, file: &Rc<str>, line: usize, values: &[String], depth: usize) -> Vec<Vec<Item>> {
        let mut read = Vec::new();
        if depth >= MAX_DEPTH {
            self.notes.broken(Area::Ssh, file, line, format!("files include each other more than {MAX_DEPTH} deep"));
            return read;
        }
        for value in values {
            let pattern = if value.starts_with('/') { value.clone() } else { format!("/etc/ssh/{value}") };
            for name in self.notes.glob(Area::Ssh, self.source, &pattern) {
                self.files += 1;
                if self.files > MAX_FILES {
                    self.notes.broken(Area::Ssh, file, line, format!("more than {MAX_FILES} files are included"));
                    return read;
                }
                if let Some(text) = self.notes.text(Area::Ssh, self.source, &name) {
                    read.push(self.parse(&Rc::from(name), &text, depth + 1));
                }
            }
        }
        read
    }
}

/// Keyword in lower case, and its values.
pub(crate) fn split(line: &str) -> Result<(String, Vec<String>), &'static str> {
    let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
    let (keyword, rest) = line.split_at_checked(end).unwrap_or((line, ""));
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let keyword = keyword.trim_matches('"').to_ascii_lowercase();
    let keyword = match keyword.as_str() {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication".to_owned(),
        "pubkeyacceptedkeytypes" => "pubkeyacceptedalgorithms".to_owned(),
        _ => keyword,
    };
    Ok((keyword, words(rest)?))
}

/// Words with quotes and backslashes, up to a comment.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(first) = letters.peek().copied() {
        if matches!(first, ' ' | '\t') {
            letters.next();
            continue;
        }
        if first == '#' {
            break;
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(letter) = letters.next() {
            match (letter, quote) {
                ('\\', _) => match letters.peek().copied() {
                    Some(next @ ('\'' | '"' | '\\')) => {
                        letters.next();
                        word.push(next);
                    }
                    Some(' ') if quote.is_none() => {
                        letters.next();
                        word.push(' ');
                    }
                    _ => word.push('\\'),
                },
                (' ' | '\t', None) => break,
                ('"' | '\'', None) => quote = Some(letter),
                (end, Some(begin)) if end == begin => quote = None,
                _ => word.push(letter),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed, so sshd does not start");
        }
        words.push(word);
    }
    Ok(words)
}

fn criteria(values: &[String]) -> Result<Vec<(Criterion, String)>, &'static str> {
    let mut parts: Vec<&str> = Vec::new();
    for value in values {
        // `User=ann` is one word.
        match value.split_once('=') {
            Some((name, rest)) if parts.len().is_multiple_of(2) => parts.extend([name, rest]),
            _ => parts.push(value),
        }
    }
    let mut found = Vec::new();
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    while let Some(name) = parts.next() {
        let criterion = match name.to_ascii_lowercase().as_str() {
            "all" => {
                if !found.is_empty() || parts.next().is_some() {
                    return Err("`Match all` takes nothing else, so sshd does not start");
                }
                return Ok(vec![(Criterion::All, String::new())]);
            }
            "user" => Criterion::User,
            "group" => Criterion::Group,
            "host" => Criterion::Host,
            "address" => Criterion::Address,
            "localaddress" => Criterion::LocalAddress,
            "localport" => Criterion::LocalPort,
            "rdomain" => Criterion::RoutingDomain,
            "invalid-user" => {
                found.push((Criterion::Other, String::new()));
                continue;
            }
            "version" | "command" => Criterion::Other,
            _ => return Err("a criterion of `Match` is not known here; what the block says was left out"),
        };
        let pattern = parts.next().ok_or("a criterion of `Match` has no value, so sshd does not start")?;
        found.push((criterion, pattern.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
