//! nftables as `nft` reads and prints it (nft(8)).

use std::collections::BTreeMap;

use super::{MAX_RULES, Protocol, Rule, Ruleset, Verdict, net, ports};
use crate::finding::{Area, Evidence};
use crate::notes::Notes;
use crate::source::Source;

/// Deepest inclusion, as in nft.
const MAX_DEPTH: usize = 16;
/// Most files.
const MAX_FILES: usize = 200;
/// Most words of one file.
const MAX_WORDS: usize = 500_000;

/// The tables of a file and of what it includes.
pub(super) fn read(source: &Source, file: &str, notes: &mut Notes) -> Vec<Ruleset> {
    let mut reader = Reader { source, notes, tables: BTreeMap::new(), names: BTreeMap::new(), files: 0, rules: 0 };
    reader.file(file, 0);
    reader.tables.into_values().collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    line: usize,
    quoted: bool,
}

impl Word {
    fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }
}

/// Words, with `{`, `}`, `,`, `;`, `=`, `:` behind a space, and line ends as words of their own.
fn words(text: &str) -> (Vec<Word>, Option<&'static str>) {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    let mut line = 1;
    while let Some(letter) = letters.next() {
        if words.len() > MAX_WORDS {
            return (words, Some("too long; the rest was left out"));
        }
        let mut push = |text: String, quoted| words.push(Word { text, line, quoted });
        match letter {
            '\n' => {
                push("\n".to_owned(), false);
                line += 1;
            }
            '\\' if letters.peek() == Some(&'\n') => {
                letters.next();
                line += 1;
            }
            space if space.is_whitespace() => {}
            '#' => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '"' => {
                let mut word = String::new();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some(letter) if letter != '\n' => word.push(letter),
                        _ => return (words, Some("a quote is not closed; the rest was left out")),
                    }
                }
                push(word, true);
            }
            '{' | '}' | ',' | ';' | '=' => push(letter.to_string(), false),
            _ => {
                let mut word = String::from(letter);
                while let Some(next) = letters
                    .next_if(|next| !next.is_whitespace() && !matches!(next, '{' | '}' | ',' | ';' | '"' | '#' | '='))
                {
                    word.push(next);
                }
                push(word, false);
            }
        }
    }
    (words, None)
}

struct Reader<'a> {
    source: &'a Source,
    notes: &'a mut Notes,
    /// By family and name.
    tables: BTreeMap<(String, String), Ruleset>,
    /// Values of `define` (`$name`) and members of sets (`@name`).
    names: BTreeMap<String, Vec<String>>,
    files: usize,
    rules: usize,
}

impl Reader<'_> {
    fn file(&mut self, file: &str, depth: usize) {
        if depth > MAX_DEPTH || self.files >= MAX_FILES {
            self.notes.gap(
                Area::Firewall,
                file,
                None,
                "too many files include each other; this one was left out",
                "look at it by hand",
            );
            return;
        }
        self.files += 1;
        let Some(text) = self.notes.text(Area::Firewall, self.source, file) else { return };
        let (words, broken) = words(&text);
        if let Some(why) = broken {
            self.notes.gap(Area::Firewall, file, None, why, "mend the file, then look again");
        }
        let lines: Vec<&str> = text.lines().collect();
        let mut rest = words.as_slice();
        while !rest.is_empty() {
            let (statement, behind) = statement(rest);
            rest = behind;
            self.top(file, &lines, statement, depth);
        }
    }

    fn top(&mut self, file: &str, lines: &[&str], words: &[Word], depth: usize) {
        let Some(first) = words.first() else { return };
        // `add table …` is `table …`.
        let words = if first.is("add") || first.is("create") { words.get(1..).unwrap_or_default() } else { words };
        let text = |at: usize| words.get(at).map_or("", |word| word.text.as_str());
        match text(0) {
            "include" => {
                let pattern = if text(1).starts_with('/') { text(1).to_owned() } else { format!("/etc/{}", text(1)) };
                for file in self.notes.glob(Area::Firewall, self.source, &pattern) {
                    self.file(&file, depth + 1);
                }
            }
            "define" => {
                let values = values(words.get(3..).unwrap_or_default());
                self.names.insert(format!("${}", text(1)), values);
            }
            "flush" | "delete" | "destroy" | "reset" | "undefine" | "list" => {}
            "table" => {
                let (family, name, body) = named(words.get(1..).unwrap_or_default());
                self.table(file, lines, &family, &name, body);
            }
            "chain" | "rule" | "set" => {
                let rest = words.get(1..).unwrap_or_default();
                let (family, rest) = family(rest);
                let table = rest.first().map_or("", |word| word.text.as_str()).to_owned();
                let rest = rest.get(1..).unwrap_or_default();
                let key = (family.clone(), table);
                self.open(&key);
                if text(0) == "rule" {
                    let chain = rest.first().map_or("", |word| word.text.as_str()).to_owned();
                    self.rule(file, lines, &key, &chain, rest.get(1..).unwrap_or_default());
                } else {
                    let mut inner =
                        vec![words.first().cloned().unwrap_or(Word { text: String::new(), line: 0, quoted: false })];
                    inner.extend_from_slice(rest);
                    self.inside(file, lines, &key, &inner);
                }
            }
            other => {
                let why = format!(
                    "`{}` is not understood, so what it closes or opens is not known",
                    crate::text::short(other, 40)
                );
                self.notes.broken(Area::Firewall, file, words.first().map_or(0, |word| word.line), why);
            }
        }
    }

    fn open(&mut self, key: &(String, String)) {
        let set = self.tables.entry(key.clone()).or_default();
        set.v4 = matches!(key.0.as_str(), "ip" | "inet");
        set.v6 = matches!(key.0.as_str(), "ip6" | "inet");
    }

    fn table(&mut self, file: &str, lines: &[&str], family: &str, name: &str, body: &[Word]) {
        let key = (family.to_owned(), name.to_owned());
        self.open(&key);
        // Sets first: rules may name them before they are written.
        for pass in ["set", "chain"] {
            let mut rest = body;
            while !rest.is_empty() {
                let (statement, behind) = statement(rest);
                rest = behind;
                if statement.first().is_some_and(|word| word.is(pass)) {
                    self.inside(file, lines, &key, statement);
                }
            }
        }
    }

    /// `set name { … }` or `chain name { … }`
    fn inside(&mut self, file: &str, lines: &[&str], key: &(String, String), words: &[Word]) {
        let name = words.get(1).map_or("", |word| word.text.as_str()).to_owned();
        let body = body(words);
        if words.first().is_some_and(|word| word.is("set")) {
            let elements = body.iter().position(|word| word.is("elements"));
            let members = elements.map(|at| values(body.get(at + 2..).unwrap_or_default())).unwrap_or_default();
            self.names.insert(format!("@{name}"), members);
            return;
        }
        let seen = words.first().map(|word| evidence(file, lines, word.line));
        if let Some(set) = self.tables.get_mut(key) {
            set.chains.entry(name.clone()).or_default().seen = seen;
        }
        let mut rest = body;
        while !rest.is_empty() {
            let (statement, behind) = statement(rest);
            rest = behind;
            self.rule(file, lines, key, &name, statement);
        }
    }

    fn rule(&mut self, file: &str, lines: &[&str], key: &(String, String), chain: &str, words: &[Word]) {
        let Some(first) = words.first() else { return };
        let seen = evidence(file, lines, first.line);
        let text = |at: usize| words.get(at).map_or("", |word| word.text.as_str());
        self.rules += 1;
        if self.rules > MAX_RULES {
            self.notes.broken(Area::Firewall, file, first.line, "too many rules; the rest was left out");
            return;
        }
        let rule = match text(0) {
            "type" => {
                let hook = words.iter().position(|word| word.is("hook")).and_then(|at| words.get(at + 1));
                if hook.is_some_and(|hook| hook.is("input")) && text(1) == "filter" {
                    self.chain(key, chain, |chain| {
                        chain.accepts.get_or_insert(true);
                    });
                }
                return;
            }
            "policy" => {
                let accepts = text(1) != "drop";
                self.chain(key, chain, |chain| {
                    if let Some(known) = &mut chain.accepts {
                        *known = accepts;
                        chain.seen = Some(seen.clone());
                    }
                });
                return;
            }
            "comment" | "devices" | "flags" => return,
            _ => rule(words, &self.names),
        };
        self.chain(key, chain, |chain| chain.rules.push(rule));
    }

    fn chain(&mut self, key: &(String, String), name: &str, change: impl FnOnce(&mut super::Chain)) {
        if let Some(set) = self.tables.get_mut(key) {
            change(set.chains.entry(name.to_owned()).or_default());
        }
    }
}

fn evidence(file: &str, lines: &[&str], line: usize) -> Evidence {
    Evidence::line(file, line, lines.get(line.saturating_sub(1)).copied().unwrap_or_default())
}

/// Up to the end of a line or a `;`, blocks in one piece; and what follows.
fn statement(words: &[Word]) -> (&[Word], &[Word]) {
    let start = words.iter().position(|word| !word.is("\n") && !word.is(";")).unwrap_or(words.len());
    let words = words.get(start..).unwrap_or_default();
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        if word.is("{") {
            depth += 1;
        } else if word.is("}") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && (word.is("\n") || word.is(";")) {
            return (words.get(..at).unwrap_or_default(), words.get(at + 1..).unwrap_or_default());
        }
    }
    (words, &[])
}

/// What stands between the first `{` and its `}`.
fn body(words: &[Word]) -> &[Word] {
    let Some(open) = words.iter().position(|word| word.is("{")) else { return &[] };
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(open) {
        if word.is("{") {
            depth += 1;
        } else if word.is("}") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return words.get(open + 1..at).unwrap_or_default();
            }
        }
    }
    words.get(open + 1..).unwrap_or_default()
}

/// Family, where one is named, else `ip`.
fn family(words: &[Word]) -> (String, &[Word]) {
    match words.first() {
        Some(word) if matches!(word.text.as_str(), "ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev") => {
            (word.text.clone(), words.get(1..).unwrap_or_default())
        }
        _ => ("ip".to_owned(), words),
    }
}

fn named(words: &[Word]) -> (String, String, &[Word]) {
    let (family, rest) = family(words);
    (family, rest.first().map_or("", |word| word.text.as_str()).to_owned(), body(rest))
}

/// Members of `{ a, b }`, or the one value.
fn values(words: &[Word]) -> Vec<String> {
    let inner = if words.iter().any(|word| word.is("{")) { body(words) } else { words };
    inner
        .iter()
        .filter(|word| !matches!(word.text.as_str(), "," | "\n" | ";" | "="))
        .map(|word| word.text.clone())
        .take(MAX_RULES)
        .collect()
}

/// Words of one match of a rule, and what follows: a value or a set of them.
fn operand(words: &[Word], names: &BTreeMap<String, Vec<String>>) -> (bool, Option<Vec<String>>, usize) {
    let mut at = 0;
    let mut not = false;
    while let Some(word) = words.get(at).filter(|word| word.is("!=") || word.is("==") || word.is("!") || word.is("=")) {
        not |= word.text.starts_with('!');
        at += 1;
    }
    let rest = words.get(at..).unwrap_or_default();
    let Some(first) = rest.first() else { return (not, None, at) };
    if first.is("vmap") || first.is("map") {
        return (not, None, words.len());
    }
    if first.is("{") {
        let inner = body(rest);
        let members = inner.iter().filter(|word| !word.is(",") && !word.is("\n"));
        let members =
            members.flat_map(|word| names.get(&word.text).cloned().unwrap_or_else(|| vec![word.text.clone()]));
        return (not, Some(members.collect()), at + inner.len() + 2);
    }
    if first.text.starts_with(['$', '@']) {
        return (not, names.get(&first.text).cloned(), at + 1);
    }
    let mut values = vec![first.text.clone()];
    let mut end = at + 1;
    // `established,related`
    while words.get(end).is_some_and(|word| word.is(",")) {
        values.extend(words.get(end + 1).map(|word| word.text.clone()));
        end += 2;
    }
    (not, Some(values), end)
}

fn rule(words: &[Word], names: &BTreeMap<String, Vec<String>>) -> Rule {
    let mut rule = Rule::new();
    let mut rest = words;
    while let Some(first) = rest.first() {
        let second = rest.get(1).map_or("", |word| word.text.as_str());
        let behind = |count: usize| rest.get(count..).unwrap_or_default();
        let used = match (first.text.as_str(), second) {
            ("accept", _) => {
                rule.verdict = Verdict::Accept;
                1
            }
            ("drop", _) => {
                rule.verdict = Verdict::Drop;
                1
            }
            ("reject", _) => {
                rule.verdict = Verdict::Drop;
                rest.len()
            }
            ("return", _) => {
                rule.verdict = Verdict::Return;
                1
            }
            ("jump" | "goto", chain) => {
                rule.verdict = Verdict::Jump(chain.to_owned());
                2
            }
            ("tcp" | "udp" | "th", "dport") => {
                match first.text.as_str() {
                    "tcp" => rule.protocols = Some(vec![Protocol::Tcp]),
                    "udp" => rule.protocols = Some(vec![Protocol::Udp]),
                    _ => {}
                }
                let (not, values, used) = operand(behind(2), names);
                match values.map(|values| values.iter().map(|value| ports(value)).collect::<Option<Vec<_>>>()) {
                    Some(Some(list)) if !not => rule.ports = Some(list),
                    _ => rule.conditional = true,
                }
                2 + used
            }
            ("ip" | "ip6", "saddr") => {
                let (not, values, used) = operand(behind(2), names);
                match values.map(|values| values.iter().map(|value| net(value)).collect::<Option<Vec<_>>>()) {
                    Some(Some(nets)) if not => rule.not_from = Some(nets),
                    Some(Some(nets)) => rule.from = Some(nets),
                    _ => rule.conditional = true,
                }
                2 + used
            }
            ("ip", "protocol") | ("ip6", "nexthdr") | ("meta", "l4proto") => {
                let (not, values, used) = operand(behind(2), names);
                match values {
                    Some(values) if !not => {
                        let known = values.iter().filter_map(|value| match value.as_str() {
                            "tcp" | "6" => Some(Protocol::Tcp),
                            "udp" | "17" => Some(Protocol::Udp),
                            _ => None,
                        });
                        rule.protocols = Some(known.collect());
                    }
                    _ => rule.conditional = true,
                }
                2 + used
            }
            ("icmp" | "icmpv6" | "igmp" | "esp" | "ah", _) => {
                rule.protocols = Some(Vec::new());
                let (_, _, used) = operand(behind(2), names);
                2 + used
            }
            ("iif" | "iifname", _) => {
                let (not, values, used) = operand(behind(1), names);
                match values.as_deref() {
                    Some([name]) if name == "lo" && !not => rule.passes_by = true,
                    Some([name]) if name == "lo" => {}
                    _ => rule.conditional = true,
                }
                1 + used
            }
            ("meta", "iif" | "iifname") => 1,
            ("ct", "state") => {
                let (not, values, used) = operand(behind(2), names);
                match values {
                    Some(states) => rule.passes_by |= states.iter().any(|state| state == "new") == not,
                    // `vmap { established : accept, … }`: about those that are open, unless it names new ones.
                    None if !rest.iter().any(|word| word.is("new")) => rule.passes_by = true,
                    None => rule.conditional = true,
                }
                2 + used
            }
            ("counter", "packets") => 5,
            ("counter", "name") => 3,
            ("counter", _) | ("log", _) if first.is("counter") => 1,
            ("log", _) => {
                let options = ["prefix", "level", "group", "flags", "snaplen", "queue-threshold"];
                let mut used = 1;
                while rest.get(used).is_some_and(|word| options.iter().any(|option| word.is(option))) {
                    used += 2;
                }
                used
            }
            ("comment", _) => 2,
            ("handle", _) => 2,
            _ => {
                rule.conditional = true;
                1
            }
        };
        rest = rest.get(used.max(1)..).unwrap_or_default();
    }
    rule
}

/// What no text may bring down.
#[cfg(test)]
pub(super) fn any_words(text: &str) {
    let (words, _) = words(text);
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        let (statement, behind) = statement(rest);
        rest = behind;
        let _ = rule(statement, &BTreeMap::new());
        let _ = (body(statement), values(statement));
    }
}
