//! The firewall as its saved rules describe it: what is open, and to whom.
//!
//! Rules that ask something which isn't understood are never taken as a yes: what they would open is unknown.

mod iptables;
mod nft;

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::finding::{Area, Evidence};
use crate::kinds;
use crate::notes::Notes;
use crate::source::Source;

/// Deepest jump.
const MAX_JUMPS: usize = 16;
/// Most rules looked at for one question.
const MAX_STEPS: usize = 100_000;
/// Most rules of all files.
const MAX_RULES: usize = 50_000;

/// How a packet is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// What happens to a packet that a rule fits.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Return,
    /// It is counted or logged, and goes on.
    Continue,
}

/// A rule, as far as it matters to a new connection from another machine.
#[derive(Debug, Clone)]
struct Rule {
    /// `None`: both; an empty list: neither.
    protocols: Option<Vec<Protocol>>,
    ports: Option<Vec<(u16, u16)>>,
    from: Option<Vec<IpNet>>,
    /// All but those.
    not_from: Option<Vec<IpNet>>,
    /// It is about this host's own packets, or about connections that are open already.
    passes_by: bool,
    /// It asks something that is not understood.
    conditional: bool,
    verdict: Verdict,
}

impl Rule {
    fn new() -> Self {
        Self {
            protocols: None,
            ports: None,
            from: None,
            not_from: None,
            passes_by: false,
            conditional: false,
            verdict: Verdict::Continue,
        }
    }

    fn fits(&self, protocol: Protocol, port: u16) -> bool {
        !self.passes_by
            && self.protocols.as_ref().is_none_or(|all| all.contains(&protocol))
            && self.ports.as_ref().is_none_or(|all| all.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    }
}

/// Rules in order, and what happens to a packet at their end.
#[derive(Debug, Clone, Default)]
struct Chain {
    rules: Vec<Rule>,
    /// Of a chain that packets come to from the network.
    accepts: Option<bool>,
    seen: Option<Evidence>,
}

/// One table of rules.
#[derive(Debug, Clone, Default)]
struct Ruleset {
    v4: bool,
    v6: bool,
    chains: BTreeMap<String, Chain>,
}

/// Who may open a connection to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    Everybody,
    Only(Vec<IpNet>),
    Nobody,
    /// A rule asks something that is not understood, or the rules could not be read.
    Unknown,
}

impl Reach {
    /// Both must let a packet in.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, _) | (_, Self::Nobody) => Self::Nobody,
            (Self::Everybody, other) => other,
            (this, Self::Everybody) => this,
            (Self::Only(one), Self::Only(two)) => {
                // Of two networks one holds the other, or they have nothing in common.
                let inner = one.iter().flat_map(|a| {
                    two.iter().filter_map(move |b| if b.contains(a) { Some(*a) } else { a.contains(b).then_some(*b) })
                });
                let inner: Vec<IpNet> = inner.collect();
                if inner.is_empty() { Self::Nobody } else { Self::Only(inner) }
            }
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }

    /// Either lets a packet in.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everybody, _) | (_, Self::Everybody) => Self::Everybody,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Nobody, other) => other,
            (this, Self::Nobody) => this,
            (Self::Only(mut one), Self::Only(two)) => {
                one.extend(two);
                one.sort();
                one.dedup();
                Self::Only(one)
            }
        }
    }
}

/// All saved rules.
#[derive(Debug, Default)]
pub(crate) struct Firewall {
    rulesets: Vec<Ruleset>,
    /// Another program keeps rules that are not read.
    pub foreign: bool,
    /// Something in the files was not understood, and may open a port.
    pub partial: bool,
}

impl Firewall {
    /// Whether there are rules for packets that come in.
    pub(crate) fn has_rules(&self, v6: bool) -> bool {
        self.tables(v6).any(|set| set.chains.values().any(|chain| chain.accepts.is_some()))
    }

    fn tables(&self, v6: bool) -> impl Iterator<Item = &Ruleset> {
        self.rulesets.iter().filter(move |set| if v6 { set.v6 } else { set.v4 })
    }

    /// Who may come to a port.
    pub(crate) fn reach(&self, protocol: Protocol, port: u16, v6: bool) -> Reach {
        if self.foreign {
            return Reach::Unknown;
        }
        let mut reach = Reach::Everybody;
        for set in self.tables(v6) {
            for chain in set.chains.values() {
                if let Some(accepts) = chain.accepts {
                    reach = reach.and(of_chain(set, chain, accepts, protocol, port, v6));
                }
            }
        }
        if self.partial && reach != Reach::Everybody { Reach::Unknown } else { reach }
    }

    /// Whether a port that nothing names is open.
    pub(crate) fn accepts_by_default(&self, v6: bool) -> bool {
        // Of several ports, since one of them could be named.
        [1, 19_999, 47_123].iter().all(|port| self.reach(Protocol::Tcp, *port, v6) == Reach::Everybody)
    }
}

/// A walk of one packet through the rules.
struct Walk<'s> {
    set: &'s Ruleset,
    protocol: Protocol,
    port: u16,
    v6: bool,
    steps: usize,
    /// Networks that were let in on the way.
    only: Vec<IpNet>,
    /// All but these were refused on the way.
    limit: Option<Vec<IpNet>>,
    unknown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    Dropped,
    Open,
}

fn of_chain(set: &Ruleset, chain: &Chain, accepts: bool, protocol: Protocol, port: u16, v6: bool) -> Reach {
    let mut walk = Walk { set, protocol, port, v6, steps: 0, only: Vec::new(), limit: None, unknown: false };
    let end = walk.through(chain, 0);
    if walk.steps >= MAX_STEPS {
        return Reach::Unknown;
    }
    let accepted = end == End::Accepted || (end == End::Open && accepts);
    match (accepted, walk.limit) {
        (true, None) => Reach::Everybody,
        (true, Some(mut limit)) => {
            limit.extend(walk.only);
            Reach::Only(limit)
        }
        (false, _) if walk.unknown => Reach::Unknown,
        (false, _) if walk.only.is_empty() => Reach::Nobody,
        (false, _) => Reach::Only(walk.only),
    }
}

impl Walk<'_> {
    fn through(&mut self, chain: &Chain, depth: usize) -> End {
        for rule in &chain.rules {
            self.steps += 1;
            if self.steps >= MAX_STEPS {
                return End::Open;
            }
            if !rule.fits(self.protocol, self.port) {
                continue;
            }
            let verdict = match &rule.verdict {
                Verdict::Continue => continue,
                Verdict::Return if rule.from.is_none() && rule.not_from.is_none() && !rule.conditional => {
                    return End::Open;
                }
                Verdict::Return => continue,
                Verdict::Accept => End::Accepted,
                Verdict::Drop => End::Dropped,
                Verdict::Jump(name) => {
                    let Some(next) = self.set.chains.get(name).filter(|_| depth < MAX_JUMPS) else {
                        self.unknown = true;
                        continue;
                    };
                    self.through(next, depth + 1)
                }
            };
            let family = |nets: &Vec<IpNet>| {
                nets.iter().filter(|net| matches!(net, IpNet::V6(_)) == self.v6).copied().collect::<Vec<_>>()
            };
            match (verdict, &rule.from, &rule.not_from) {
                (End::Open, ..) => {}
                (End::Accepted, _, _) if rule.conditional => self.unknown = true,
                // Some are refused, and who that is isn't understood: the others still come.
                (End::Dropped, _, _) if rule.conditional => {}
                (End::Accepted, Some(nets), _) => {
                    let nets = family(nets);
                    if nets.iter().any(|net| net.prefix_len() == 0) {
                        return End::Accepted;
                    }
                    self.only.extend(nets);
                }
                (End::Dropped, None, Some(nets)) => self.limit = Some(family(nets)),
                (End::Dropped, Some(nets), _) if family(nets).iter().any(|net| net.prefix_len() == 0) => {
                    return End::Dropped;
                }
                (End::Accepted, None, Some(_)) => return End::Accepted,
                (End::Dropped, Some(_), _) => {}
                (end, None, None) => return end,
            }
        }
        End::Open
    }
}

/// Looks at saved rules.
pub(crate) fn look(source: &Source, notes: &mut Notes) -> Firewall {
    let mut firewall = Firewall::default();
    for file in ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"] {
        firewall.rulesets.extend(nft::read(source, file, notes));
    }
    for (file, v6) in [
        ("/etc/iptables/rules.v4", false),
        ("/etc/iptables/rules.v6", true),
        ("/etc/sysconfig/iptables", false),
        ("/etc/sysconfig/ip6tables", true),
    ] {
        if let Some(text) = notes.text(Area::Firewall, source, file) {
            let (set, broken) = iptables::read(file, &text, v6);
            for (line, why) in broken {
                notes.broken(Area::Firewall, file, line, why);
            }
            firewall.rulesets.push(set);
        }
    }
    let ufw = notes
        .text(Area::Firewall, source, "/etc/ufw/ufw.conf")
        .is_some_and(|text| text.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")));
    for (name, there) in [("ufw", ufw), ("firewalld", source.is_there("/etc/firewalld/firewalld.conf"))] {
        if there {
            firewall.foreign = true;
            let how = "save what `nft list ruleset` prints as etc/nftables.conf of a --root directory";
            notes.gap(Area::Firewall, "", None, format!("{name} keeps rules of its own, which are not read"), how);
        }
    }
    // A file that is there and can't be read may close anything.
    firewall.foreign |= notes.gaps.iter().any(|gap| gap.area == Area::Firewall && gap.line.is_none());
    firewall.partial = notes.gaps.iter().any(|gap| gap.area == Area::Firewall);
    judge(&firewall, notes);
    firewall
}

fn judge(firewall: &Firewall, notes: &mut Notes) {
    if firewall.foreign {
        return;
    }
    if !firewall.has_rules(false) && !firewall.has_rules(true) {
        let what = "No saved rules for packets that come in were found, so whatever listens can be reached.";
        let seen = Evidence::file("/etc/nftables.conf", "no rules here, nor in /etc/iptables/rules.v4 and rules.v6");
        notes.find(&kinds::FIREWALL_NONE, "host", what, vec![seen]);
        return;
    }
    for (v6, name) in [(false, "IPv4"), (true, "IPv6")] {
        if !firewall.has_rules(v6) {
            let seen = Evidence::file("/etc/nftables.conf", format!("no rules for {name}"));
            notes.find(&kinds::FIREWALL_NONE, name, format!("There are rules, but none for {name}."), vec![seen]);
        } else if firewall.accepts_by_default(v6) {
            let chains = firewall.tables(v6).flat_map(|set| set.chains.values());
            let seen: Vec<Evidence> =
                chains.filter(|chain| chain.accepts == Some(true)).filter_map(|chain| chain.seen.clone()).collect();
            notes.find(
                &kinds::FIREWALL_ACCEPTS,
                name,
                format!("Over {name}, ports that no rule names are open."),
                seen,
            );
        }
    }
}

/// `22`, `80-90`, `80:90`
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().or_else(|| service(text));
    Some((number(first)?, number(last)?))
}

/// Names of ports that rules use.
fn service(name: &str) -> Option<u16> {
    Some(match name {
        "ssh" => 22,
        "smtp" => 25,
        "domain" => 53,
        "http" => 80,
        "ntp" => 123,
        "imap2" => 143,
        "https" => 443,
        "imaps" => 993,
        "mysql" => 3306,
        "postgresql" => 5432,
        _ => return None,
    })
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests;
