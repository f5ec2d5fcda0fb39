//! sudo: who may become whom, and whether anything is asked (sudoers(5)).

use std::collections::BTreeMap;

use crate::finding::{Area, Evidence, Severity};
use crate::kinds;
use crate::notes::Notes;
use crate::source::Source;
use crate::text::{continued, short};

const FILE: &str = "/etc/sudoers";
/// Deepest inclusion, as in sudo.
const MAX_DEPTH: usize = 128;
/// Most files.
const MAX_FILES: usize = 512;
/// Most rules.
const MAX_RULES: usize = 20_000;
/// Deepest alias of aliases.
const MAX_ALIASES: usize = 8;
/// Most names that an alias is followed to.
const MAX_NAMES: usize = 1_000;

/// One command that somebody may run as somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    users: Vec<String>,
    run_as: String,
    asks: bool,
    command: String,
    line: usize,
    text: String,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Rules(Vec<Rule>),
    /// Names of the alias, by kind and name.
    Aliases(Vec<((String, String), Vec<String>)>),
    /// `Defaults !authenticate`, and for whom.
    NoAuthentication(String),
    Include(String),
    IncludeFolder(String),
    Nothing,
}

/// Reads one line, already joined with those that continue it.
fn entry(line: usize, text: &str) -> Result<Entry, &'static str> {
    let text = text.trim();
    for (word, folder) in [("includedir", true), ("include", false)] {
        let rest = text.strip_prefix(['#', '@']).and_then(|rest| rest.strip_prefix(word));
        if let Some(path) = rest.filter(|rest| rest.starts_with([' ', '\t'])) {
            let path = path.trim().trim_matches('"').replace("\\ ", " ");
            return Ok(if folder { Entry::IncludeFolder(path) } else { Entry::Include(path) });
        }
    }
    let bare = without_comment(text);
    let bare = bare.trim();
    if bare.is_empty() {
        return Ok(Entry::Nothing);
    }
    let first = bare.split([' ', '\t', ':', '@', '>', '!']).next().unwrap_or_default();
    if first == "Defaults" {
        let rest = bare.get(8..).unwrap_or_default();
        let (whom, settings) = if rest.starts_with([':', '@', '>', '!']) {
            rest.split_once([' ', '\t']).unwrap_or((rest, ""))
        } else {
            ("", rest)
        };
        let off = top_level(settings, ',').iter().any(|setting| setting.trim().replace(' ', "") == "!authenticate");
        return Ok(if off { Entry::NoAuthentication(whom.to_owned()) } else { Entry::Nothing });
    }
    if let Some(kind) = first.strip_suffix("_Alias") {
        let rest = bare.get(first.len()..).unwrap_or_default();
        let aliases = top_level(rest, ':').into_iter().map(|one| {
            let (name, members) = one.split_once('=').ok_or("an alias has no `=`")?;
            let members = top_level(members, ',').iter().map(|member| member.trim().to_owned()).collect();
            Ok(((kind.to_owned(), name.trim().to_owned()), members))
        });
        return Ok(Entry::Aliases(aliases.collect::<Result<_, &'static str>>()?));
    }
    Ok(Entry::Rules(rules(line, text, bare)?))
}

fn rules(line: usize, text: &str, bare: &str) -> Result<Vec<Rule>, &'static str> {
    let (left, right) = split_at_sign(bare).ok_or("it is no rule: there is no `=`")?;
    let left = join_lists(left);
    let mut words: Vec<&str> = left.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    // The last word names hosts.
    words.pop().ok_or("it is no rule: nobody is named")?;
    let users: Vec<String> = words.join(" ").split(',').map(|user| user.trim().trim_matches('"').to_owned()).collect();
    if words.is_empty() || users.iter().all(String::is_empty) {
        return Err("it is no rule: no user or no host is named");
    }
    // `users hosts = commands : hosts = commands`
    let (right, further) = match right.split_once(" : ") {
        Some((right, further)) if further.contains('=') => (right, Some(further)),
        _ => (right, None),
    };
    let (mut run_as, mut asks) = ("root".to_owned(), true);
    let mut found = match further {
        Some(further) => rules(line, text, &format!("{} {further}", users.join(",")))?,
        None => Vec::new(),
    };
    for command in top_level(right, ',') {
        let mut rest = command.trim();
        if let Some(inner) = rest.strip_prefix('(') {
            let (who, behind) = inner.split_once(')').ok_or("a parenthesis is not closed")?;
            run_as = who.split(':').next().unwrap_or_default().trim().to_owned();
            if run_as.is_empty() {
                // A group only: the user stays who it is.
                run_as = "itself".to_owned();
            }
            rest = behind.trim();
        }
        loop {
            let word = rest.split([' ', '\t', ':', '=']).next().unwrap_or_default();
            let behind = rest.get(word.len()..).unwrap_or_default().trim_start();
            let is_name = !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            match behind.chars().next() {
                Some(':') if is_name => {
                    match word {
                        "NOPASSWD" => asks = false,
                        "PASSWD" => asks = true,
                        _ => {}
                    }
                    rest = behind.get(1..).unwrap_or_default().trim_start();
                }
                // `TIMEOUT=5m`, `CWD=/x`
                Some('=') if is_name => {
                    rest = behind.split_once([' ', '\t']).map_or("", |(_, rest)| rest).trim_start();
                }
                _ => break,
            }
        }
        if rest.is_empty() {
            return Err("a rule names no command");
        }
        let (users, run_as, command) = (users.clone(), run_as.clone(), rest.to_owned());
        found.push(Rule { users, run_as, asks, command, line, text: text.to_owned() });
    }
    Ok(found)
}

/// Cut at `#`, unless it begins the number of a user or is escaped.
fn without_comment(text: &str) -> String {
    let mut before = ' ';
    let mut quoted = false;
    for (at, letter) in text.char_indices() {
        if letter == '"' && before != '\\' {
            quoted = !quoted;
        }
        let number = text.get(at + 1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let starts_word = matches!(before, ' ' | '\t' | ',' | '%' | '(');
        if letter == '#' && !quoted && before != '\\' && !(number && starts_word) {
            return text.get(..at).unwrap_or_default().to_owned();
        }
        before = letter;
    }
    text.to_owned()
}

/// `a , b` as `a,b`: commas with spaces around them do not end a list.
fn join_lists(text: &str) -> String {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    parts.join(",")
}

/// At the first `=` that is not escaped and not in parentheses.
fn split_at_sign(text: &str) -> Option<(&str, &str)> {
    let (mut before, mut quoted) = (' ', false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if before != '\\' => quoted = !quoted,
            '=' if before != '\\' && !quoted => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
        before = letter;
    }
    None
}

/// Parts between a sign outside of parentheses and quotes. `:` behind a tag is no end.
fn top_level(text: &str, sign: char) -> Vec<&str> {
    let (mut depth, mut quoted, mut before, mut from) = (0_u32, false, ' ', 0);
    let mut parts = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if before != '\\' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ if letter == sign && before != '\\' && depth == 0 && !quoted => {
                parts.push(text.get(from..at).unwrap_or_default());
                from = at + letter.len_utf8();
            }
            _ => {}
        }
        before = letter;
    }
    parts.push(text.get(from..).unwrap_or_default());
    parts
}

/// All files together.
#[derive(Debug, Default)]
struct Sudoers {
    rules: Vec<(String, Rule)>,
    aliases: BTreeMap<(String, String), Vec<String>>,
    files: usize,
}

impl Sudoers {
    fn read(&mut self, source: &Source, file: &str, depth: usize, notes: &mut Notes) {
        self.files += 1;
        if self.files > MAX_FILES || depth > MAX_DEPTH {
            notes.gap(
                Area::Sudo,
                file,
                None,
                "too many files include each other; this one was left out",
                "look at it by hand",
            );
            return;
        }
        let Some(text) = notes.text(Area::Sudo, source, file) else { return };
        if let Ok(stat) = source.stat(file)
            && (stat.mode & 0o022 != 0 || (source.label().is_none() && stat.uid != 0))
        {
            let seen = Evidence::file(file, format!("mode {:04o}, owned by user {}", stat.mode, stat.uid));
            notes.find(&kinds::SUDO_WRITABLE, file, format!("Others than root may change `{file}`."), vec![seen]);
        }
        for (line, text) in continued(&text) {
            match entry(line, &text) {
                Ok(Entry::Nothing) => {}
                Ok(Entry::Rules(rules)) if self.rules.len() + rules.len() <= MAX_RULES => {
                    self.rules.extend(rules.into_iter().map(|rule| (file.to_owned(), rule)));
                }
                Ok(Entry::Rules(_)) => notes.broken(Area::Sudo, file, line, "too many rules; this one was left out"),
                Ok(Entry::Aliases(aliases)) => self.aliases.extend(aliases),
                Ok(Entry::NoAuthentication(whom)) => {
                    let (severity, who) =
                        if whom.is_empty() { (Severity::Critical, "anybody") } else { (Severity::High, whom.as_str()) };
                    let what = format!("sudo asks for no password, for {who}.");
                    let seen = vec![Evidence::line(file, line, &text)];
                    notes.find_as(&kinds::SUDO_NO_AUTHENTICATION, severity, format!("Defaults{whom}"), what, seen);
                }
                Ok(Entry::Include(path)) => self.read(source, &absolute(&path), depth + 1, notes),
                Ok(Entry::IncludeFolder(path)) => {
                    let folder = absolute(&path);
                    match source.list(&folder) {
                        Ok(names) => {
                            // sudo passes over these as well.
                            let kept = names.iter().filter(|name| !name.contains('.') && !name.ends_with('~'));
                            kept.for_each(|name| self.read(source, &format!("{folder}/{name}"), depth + 1, notes));
                        }
                        Err(error) => notes.unreadable(Area::Sudo, &folder, error),
                    }
                }
                Err(why) => notes.broken(Area::Sudo, file, line, format!("not read as a rule: {why}")),
            }
        }
    }

    /// What a name stands for, aliases followed.
    fn expand(&self, kind: &str, name: &str, depth: usize, found: &mut Vec<String>) {
        if found.len() >= MAX_NAMES {
            return;
        }
        match self.aliases.get(&(kind.to_owned(), name.to_owned())) {
            Some(members) if depth < MAX_ALIASES => {
                members.iter().for_each(|member| self.expand(kind, member, depth + 1, found));
            }
            _ => found.push(name.to_owned()),
        }
    }

    fn expanded(&self, kind: &str, names: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        names.iter().for_each(|name| self.expand(kind, name, 0, &mut found));
        found
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/etc/{path}") }
}

/// Looks at the rules of sudo.
pub(crate) fn look(source: &Source, notes: &mut Notes) {
    let mut sudoers = Sudoers::default();
    sudoers.read(source, FILE, 0, notes);
    for (file, rule) in &sudoers.rules {
        judge(&sudoers, file, rule, notes);
    }
}

fn judge(sudoers: &Sudoers, file: &str, rule: &Rule, notes: &mut Notes) {
    let runs_as =
        sudoers.expanded("Runas", &rule.run_as.split(',').map(|who| who.trim().to_owned()).collect::<Vec<_>>());
    let as_root = runs_as.iter().any(|who| matches!(who.as_str(), "ALL" | "root" | "#0"));
    let whom = if as_root { "root".to_owned() } else { short(&rule.run_as, 60) };
    let commands = sudoers.expanded("Cmnd", std::slice::from_ref(&rule.command));
    let all = commands.iter().any(|command| command == "ALL");
    // `!command` takes away from the others of the rule.
    if commands.iter().all(|command| command.starts_with('!')) {
        return;
    }
    let wild = commands.iter().any(|command| !command.starts_with('!') && command.contains('*'));
    let seen = || vec![Evidence::line(file, rule.line, &rule.text)];
    for user in sudoers.expanded("User", &rule.users) {
        if user == "root" || user.starts_with('!') {
            continue;
        }
        let user = short(&user, 80);
        let command = short(&rule.command, 80);
        match (rule.asks, all) {
            (false, true) => {
                let severity = if as_root { Severity::High } else { Severity::Medium };
                let what = format!("`{user}` may do everything as {whom}, and no password is asked for.");
                notes.find_as(&kinds::SUDO_NO_PASSWORD, severity, &user, what, seen());
            }
            (true, true) if as_root => {
                let what = format!("`{user}` may do everything as root, with a password.");
                notes.find(&kinds::SUDO_EVERYTHING, &user, what, seen());
            }
            (false, false) => {
                let what = format!("`{user}` runs `{}` as {whom} without a password.", crate::text::shown(&command));
                notes.find(
                    &kinds::SUDO_NO_PASSWORD_COMMAND,
                    format!("{user}, {}", crate::text::shown(&command)),
                    what,
                    seen(),
                );
            }
            (true, _) => {}
        }
        if wild && !all {
            let what = format!(
                "`{user}` runs `{}` as {whom}: the `*` stands for more than it seems.",
                crate::text::shown(&command)
            );
            notes.find(&kinds::SUDO_WILDCARD, format!("{user}, {}", crate::text::shown(&command)), what, seen());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(Vec<String>, String, bool, String)> {
        let Entry::Rules(rules) = entry(1, text).unwrap() else { panic!("{text}") };
        rules.into_iter().map(|rule| (rule.users, rule.run_as, rule.asks, rule.command)).collect()
    }

    #[test]
    fn rules_are_read_with_their_tags() {
        let one = |user: &str, who: &str, asks, command: &str| {
            (vec![user.to_owned()], who.to_owned(), asks, command.to_owned())
        };
        assert_eq!(read("%sudo\tALL=(ALL:ALL) ALL"), [one("%sudo", "ALL", true, "ALL")]);
        assert_eq!(read("ann ALL=(ALL) NOPASSWD: ALL # for now"), [one("ann", "ALL", false, "ALL")]);
        assert_eq!(
            read("ann ALL = (postgres) NOPASSWD:SETENV: /usr/bin/psql -c x\\,y, PASSWD: /bin/ls"),
            [one("ann", "postgres", false, "/usr/bin/psql -c x\\,y"), one("ann", "postgres", true, "/bin/ls")]
        );
        assert_eq!(read("ann, bob WEB, DB = /bin/ls")[0].0, ["ann", "bob"]);
        assert_eq!(read("#1001 ALL=TIMEOUT=5m ALL"), [one("#1001", "root", true, "ALL")]);
        assert_eq!(
            read("ann A=/bin/ls : B=NOPASSWD: ALL"),
            [one("ann", "root", false, "ALL"), one("ann", "root", true, "/bin/ls")]
        );
        assert_eq!(entry(1, "# ann ALL=(ALL) NOPASSWD: ALL"), Ok(Entry::Nothing));
        assert_eq!(entry(1, "#includedir /etc/sudoers.d"), Ok(Entry::IncludeFolder("/etc/sudoers.d".into())));
        assert_eq!(entry(1, "@include local"), Ok(Entry::Include("local".into())));
        assert_eq!(entry(1, "Defaults env_reset, !authenticate"), Ok(Entry::NoAuthentication(String::new())));
        assert_eq!(entry(1, "Defaults:ann !authenticate"), Ok(Entry::NoAuthentication(":ann".into())));
        assert_eq!(entry(1, "Defaults env_reset"), Ok(Entry::Nothing));
        assert!(
            entry(1, "ann everything").is_err()
                && entry(1, "ann = ALL").is_err()
                && entry(1, "ann ALL=(ALL ALL").is_err()
        );
    }

    proptest! {
        #[test]
        fn no_line_is_too_broken(text in "([A-Za-z_#@:=,()\\\\\" !*/]{0,60}|\\PC{0,60})") {
            let _ = entry(1, &text);
        }
    }
}
