//! `pg_hba.conf`: who may connect from where, and what is asked of them (PostgreSQL documentation §21.1).
//! The first rule that fits counts, also when it refuses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::finding::{Area, Evidence};
use crate::notes::Notes;
use crate::postgres::include;
use crate::source::Source;
use crate::text::continued;

/// Most rules.
const MAX_RULES: usize = 20_000;
/// Most rules that each rule is compared with.
const MAX_COMPARED: usize = 500;

/// Which connections a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The socket in the file system.
    Local,
    /// TCP, with encryption or without.
    Host,
    /// TCP with TLS.
    Tls,
    /// TCP without TLS.
    NoTls,
    /// TCP with encryption by GSSAPI.
    Gss,
    /// TCP without encryption by GSSAPI.
    NoGss,
}

/// Where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// This host, by the socket.
    Socket,
    /// Everywhere.
    All,
    /// An address of this host.
    SameHost,
    /// A network that this host is in.
    SameNet,
    /// A network.
    Net(IpNet),
    /// A name, or the end of names.
    Name(String),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub way: Way,
    pub databases: Vec<String>,
    pub users: Vec<String>,
    pub from: From,
    pub method: String,
    /// `name=value`, values apart: some are secrets.
    pub options: Vec<(String, String)>,
    pub file: String,
    pub line: usize,
    pub text: String,
}

impl Rule {
    /// Where it stands.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::line(&self.file, self.line, &self.text)
    }

    /// Whether it is about this host only.
    pub(crate) fn is_local(&self) -> bool {
        match &self.from {
            From::Socket | From::SameHost => true,
            From::Net(net) => net.addr().is_loopback() && net.prefix_len() >= 8,
            From::Name(name) => name == "localhost",
            From::All | From::SameNet => false,
        }
    }

    /// Whether it takes connections from everywhere.
    pub(crate) fn is_everywhere(&self) -> bool {
        match &self.from {
            From::All => true,
            From::Net(net) => net.prefix_len() == 0,
            From::Socket | From::SameHost | From::SameNet | From::Name(_) => false,
        }
    }

    /// Whether no connection of it can be in the clear.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.way, Way::Tls | Way::Gss | Way::Local)
    }

    /// What tells it from others, in every run.
    pub(crate) fn subject(&self) -> String {
        let from = match &self.from {
            From::Socket => "local".to_owned(),
            From::All => "all".to_owned(),
            From::SameHost => "samehost".to_owned(),
            From::SameNet => "samenet".to_owned(),
            From::Net(net) => net.to_string(),
            From::Name(name) => name.clone(),
        };
        format!("{} as {} from {from}, {}", self.databases.join(","), self.users.join(","), self.file)
    }

    /// Whether each connection that the other fits fits this one.
    fn covers(&self, other: &Rule) -> bool {
        let way = match self.way {
            Way::Host => other.way != Way::Local,
            same => same == other.way,
        };
        // A name with a sign in front is a group, a file or a pattern, whose members are not known here.
        let names = |mine: &[String], theirs: &[String]| {
            mine.iter().any(|name| name == "all") || theirs.iter().all(|name| mine.contains(name))
        };
        // `all` is not the connections of a replica.
        let replicates = |rule: &Rule| rule.databases.iter().any(|name| name == "replication");
        let databases = names(&self.databases, &other.databases) && (replicates(self) || !replicates(other));
        let from = match (&self.from, &other.from) {
            (From::Socket, From::Socket) => true,
            (From::All, theirs) => *theirs != From::Socket,
            (From::Net(mine), From::Net(theirs)) => mine.contains(theirs),
            (mine, theirs) => mine == theirs,
        };
        way && databases && names(&self.users, &other.users) && from
    }
}

/// The rules of a file with what it includes, in order.
pub(crate) fn read(source: &Source, file: &str, notes: &mut Notes) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut files = 0;
    read_into(source, file, 0, &mut files, &mut rules, notes);
    rules
}

fn read_into(source: &Source, file: &str, depth: usize, files: &mut usize, rules: &mut Vec<Rule>, notes: &mut Notes) {
    let Some(text) = include::text(source, file, depth, files, notes) else { return };
    let beside = |name: &str| include::beside(file, name);
    for (line, text) in continued(&text) {
        match parse(file, line, &text) {
            Ok(Line::Nothing) => {}
            Ok(Line::Include(path)) => {
                let path = beside(&path);
                if !source.is_there(&path) {
                    notes.broken(Area::Postgres, file, line, format!("`{path}` is included and not there"));
                }
                read_into(source, &path, depth + 1, files, rules, notes);
            }
            Ok(Line::IncludeIfThere(path)) => read_into(source, &beside(&path), depth + 1, files, rules, notes),
            Ok(Line::IncludeFolder(path)) => {
                for path in notes.glob(Area::Postgres, source, &format!("{}/*.conf", beside(&path))) {
                    read_into(source, &path, depth + 1, files, rules, notes);
                }
            }
            Ok(Line::Rule(_)) if rules.len() >= MAX_RULES => {
                notes.broken(Area::Postgres, file, line, "too many rules; the rest was left out");
                return;
            }
            Ok(Line::Rule(rule)) => rules.push(*rule),
            Err(why) => notes.broken(Area::Postgres, file, line, format!("not read as a rule: {why}")),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Nothing,
    Rule(Box<Rule>),
    Include(String),
    IncludeIfThere(String),
    IncludeFolder(String),
}

/// Fields, each a list of names; a name in quotes is no keyword.
fn fields(line: &str) -> Result<Vec<Vec<(String, bool)>>, &'static str> {
    let mut fields: Vec<Vec<(String, bool)>> = Vec::new();
    let mut letters = line.chars().peekable();
    let mut list_goes_on = false;
    loop {
        while letters.next_if(|letter| matches!(letter, ' ' | '\t' | '\r')).is_some() {}
        match letters.peek() {
            None | Some('#') => return Ok(fields),
            Some(',') => {
                letters.next();
                list_goes_on = true;
                continue;
            }
            Some(_) => {}
        }
        let (mut word, mut quoted, mut was_quoted) = (String::new(), false, false);
        let mut ends_with_comma = false;
        while let Some(letter) = letters.peek().copied() {
            match letter {
                '"' => {
                    quoted = !quoted;
                    was_quoted = true;
                    letters.next();
                    continue;
                }
                ' ' | '\t' | '\r' | '#' if !quoted => break,
                ',' if !quoted => {
                    letters.next();
                    ends_with_comma = true;
                    break;
                }
                _ => word.push(letter),
            }
            letters.next();
        }
        if quoted {
            return Err("a quote is not closed");
        }
        match fields.last_mut() {
            Some(last) if list_goes_on => last.push((word, was_quoted)),
            _ => fields.push(vec![(word, was_quoted)]),
        }
        list_goes_on = ends_with_comma;
    }
}

fn parse(file: &str, line: usize, text: &str) -> Result<Line, &'static str> {
    let fields = fields(text)?;
    let Some(first) = fields.first().and_then(|list| list.first()).map(|(word, _)| word.as_str()) else {
        return Ok(Line::Nothing);
    };
    let word = |at: usize| fields.get(at).and_then(|list| list.first()).map(|(word, _)| word.clone());
    // A keyword in quotes is the name of something.
    let name = |(word, quoted): &(String, bool)| {
        let is_keyword = matches!(word.as_str(), "all" | "replication" | "sameuser" | "samerole" | "samegroup");
        if *quoted && is_keyword { format!("\"{word}\"") } else { word.clone() }
    };
    let names = |at: usize| fields.get(at).map(|list| list.iter().map(name).collect::<Vec<_>>());
    let way = match first {
        "local" => Way::Local,
        "host" => Way::Host,
        "hostssl" => Way::Tls,
        "hostnossl" => Way::NoTls,
        "hostgssenc" => Way::Gss,
        "hostnogssenc" => Way::NoGss,
        "include" => return Ok(Line::Include(word(1).ok_or("no file is named")?)),
        "include_if_exists" => return Ok(Line::IncludeIfThere(word(1).ok_or("no file is named")?)),
        "include_dir" => return Ok(Line::IncludeFolder(word(1).ok_or("no folder is named")?)),
        _ => return Err("it begins with no type of connection"),
    };
    let databases = names(1).ok_or("no database is named")?;
    let users = names(2).ok_or("no role is named")?;
    let (from, method_at) = if way == Way::Local {
        (From::Socket, 3)
    } else {
        let address = word(3).ok_or("no address is named")?;
        match address.as_str() {
            "all" => (From::All, 4),
            "samehost" => (From::SameHost, 4),
            "samenet" => (From::SameNet, 4),
            _ => network(&address, word(4).as_deref())?,
        }
    };
    let method = word(method_at).ok_or("no method is named")?;
    let options = fields.iter().skip(method_at + 1).flatten();
    let options = options
        .map(|(word, _)| word.split_once('=').ok_or("an option has no `=`"))
        .map(|option| option.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())))
        .collect::<Result<_, _>>()?;
    let (file, text) = (file.to_owned(), text.to_owned());
    Ok(Line::Rule(Box::new(Rule { way, databases, users, from, method, options, file, line, text })))
}

/// An address with its mask behind the slash or in the next field; and where the method stands.
fn network(address: &str, next: Option<&str>) -> Result<(From, usize), &'static str> {
    if address.contains('/') {
        return address.parse().map(|net| (From::Net(net), 4)).map_err(|_| "the address is none");
    }
    let Ok(bare) = address.parse::<IpAddr>() else {
        return Ok((From::Name(address.to_ascii_lowercase()), 4));
    };
    let mask = next.and_then(|next| next.parse::<IpAddr>().ok()).ok_or("an address has neither `/` nor a mask")?;
    let net = match (bare, mask) {
        (IpAddr::V4(bare), IpAddr::V4(mask)) => Ipv4Net::with_netmask(bare, mask).ok().map(IpNet::V4),
        (IpAddr::V6(bare), IpAddr::V6(mask)) => Ipv6Net::with_netmask(bare, mask).ok().map(IpNet::V6),
        _ => None,
    };
    net.map(|net| (From::Net(net), 5)).ok_or("the mask does not fit the address")
}

/// For each rule, the earlier one that takes all of its connections.
pub(crate) fn shadowed(rules: &[Rule]) -> Vec<Option<&Rule>> {
    let mut seen: Vec<&Rule> = Vec::new();
    rules
        .iter()
        .map(|rule| {
            let before = seen.iter().take(MAX_COMPARED).copied().find(|earlier| earlier.covers(rule));
            seen.push(rule);
            before
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Rule {
        match parse("f", 1, text) {
            Ok(Line::Rule(rule)) => *rule,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn rules_are_read_in_all_their_forms() {
        let read = rule("host all,\"with space\" ann , bob 10.0.0.0 255.0.0.0 md5 # old");
        assert_eq!(read.databases, ["all", "with space"]);
        assert_eq!(read.users, ["ann", "bob"]);
        assert_eq!(read.from, From::Net("10.0.0.0/8".parse().unwrap()));
        assert_eq!(read.method, "md5");
        let read = rule("hostssl all all ::/0 ldap ldapserver=x ldapbindpasswd=\"a b\"");
        assert_eq!(read.options[1], ("ldapbindpasswd".to_owned(), "a b".to_owned()));
        assert!(read.is_everywhere() && read.is_encrypted());
        assert!(rule("local all all peer").is_local() && rule("host all all 127.0.0.1/32 trust").is_local());
        assert!(!rule("host all all samenet trust").is_local() && !rule("host all all .corp.example trust").is_local());
        assert_eq!(parse("f", 1, "include_dir \"x y\""), Ok(Line::IncludeFolder("x y".into())));
        for bad in [
            "hostx all all all trust",
            "host all all 10.0.0.1 trust",
            "host all all",
            "local all \"x",
            "host a b 10.0.0.0/99 md5",
        ] {
            assert!(parse("f", 1, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_behind_one_that_takes_all_of_it_is_dead() {
        let rules: Vec<Rule> = [
            "host all all 10.0.0.0/8 reject",
            "hostssl app ann 10.1.0.0/16 trust",
            "host all all 11.0.0.0/8 md5",
            "host replication all 10.0.0.0/8 md5",
            "local all all peer",
        ]
        .map(rule)
        .to_vec();
        let dead: Vec<bool> = shadowed(&rules).iter().map(Option::is_some).collect();
        assert_eq!(dead, [false, true, false, false, false]);
    }

    proptest! {
        #[test]
        fn no_line_is_too_broken(line in "((host|local|hostssl) [a-z,\"# ]{0,30}[0-9./:]{0,20} [a-z=\"]{0,20}|\\PC{0,60})") {
            let _ = parse("f", 1, &line);
        }
    }
}
