//! What `iptables-save` and `ip6tables-save` print (iptables-extensions(8)).

use super::{MAX_RULES, Protocol, Rule, Ruleset, Verdict, net, ports};
use crate::finding::Evidence;
use crate::text::numbered;

/// The `filter` table of a file, and the lines that make no sense.
pub(super) fn read(file: &str, text: &str, v6: bool) -> (Ruleset, Vec<(usize, &'static str)>) {
    let mut set = Ruleset { v4: !v6, v6, ..Ruleset::default() };
    let mut broken = Vec::new();
    let mut count = 0;
    let mut in_filter = false;
    for (number, line) in numbered(text) {
        let line = line.trim();
        if let Some(table) = line.strip_prefix('*') {
            in_filter = table == "filter";
            continue;
        }
        if line.is_empty() || line.starts_with('#') || !in_filter || line == "COMMIT" {
            continue;
        }
        count += 1;
        if count > MAX_RULES {
            broken.push((number, "too many rules; the rest was left out"));
            break;
        }
        let seen = Evidence::line(file, number, line);
        if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let chain = set.chains.entry(name.to_owned()).or_default();
            if name == "INPUT" {
                chain.accepts = Some(policy != "DROP");
            }
            chain.seen = Some(seen);
            continue;
        }
        match rule(line) {
            Ok(Some((chain, rule))) => set.chains.entry(chain).or_default().rules.push(rule),
            Ok(None) => {}
            Err(why) => broken.push((number, why)),
        }
    }
    (set, broken)
}

fn rule(line: &str) -> Result<Option<(String, Rule)>, &'static str> {
    let words = words(line)?;
    // Counters of `iptables-save -c`.
    let mut words = words.iter().map(String::as_str).skip_while(|word| word.starts_with('[')).peekable();
    match words.next() {
        Some("-A" | "--append") => {}
        Some("-N" | "-P") => return Ok(None),
        _ => return Err("it is no rule that is understood"),
    }
    let chain = words.next().ok_or("a rule names no chain")?.to_owned();
    let mut rule = Rule::new();
    let mut not = false;
    while let Some(word) = words.next() {
        let was_not = std::mem::take(&mut not);
        match word {
            "!" => not = true,
            "-p" | "--protocol" => {
                let protocols = match words.next().unwrap_or_default() {
                    "tcp" | "6" => Some(vec![Protocol::Tcp]),
                    "udp" | "17" => Some(vec![Protocol::Udp]),
                    "all" | "0" => None,
                    _ => Some(Vec::new()),
                };
                rule.protocols = protocols;
                rule.conditional |= was_not;
            }
            "-s" | "--source" => {
                let nets = words.next().unwrap_or_default().split(',').map(net).collect::<Option<Vec<_>>>();
                let nets = nets.ok_or("the source is no address")?;
                if was_not { rule.not_from = Some(nets) } else { rule.from = Some(nets) }
            }
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                let list = words.next().unwrap_or_default().split(',').map(ports).collect::<Option<Vec<_>>>();
                rule.ports = Some(list.ok_or("the port is none")?);
                rule.conditional |= was_not;
            }
            "-i" | "--in-interface" => match (words.next().unwrap_or_default(), was_not) {
                ("lo", false) => rule.passes_by = true,
                ("lo", true) => {}
                _ => rule.conditional = true,
            },
            "--ctstate" | "--state" => {
                let states = words.next().unwrap_or_default();
                let has_new = states.split(',').any(|state| state == "NEW");
                rule.passes_by |= has_new == was_not;
            }
            "-j" | "--jump" | "-g" | "--goto" => {
                rule.verdict = match words.next().unwrap_or_default() {
                    "ACCEPT" => Verdict::Accept,
                    "DROP" | "REJECT" => Verdict::Drop,
                    "RETURN" => Verdict::Return,
                    "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "SET" | "AUDIT" | "TRACE" | "CT" | "NOTRACK"
                    | "" => Verdict::Continue,
                    other => Verdict::Jump(other.to_owned()),
                };
            }
            "-m" | "--match" | "--comment" | "--reject-with" | "--log-prefix" | "--log-level" | "--nflog-prefix"
            | "--nflog-group" | "--set-mark" | "--set-xmark" => {
                words.next();
            }
            "--log-tcp-options" | "--log-ip-options" | "--log-uid" => {}
            // A new connection begins with it.
            "--syn" => {}
            _ => {
                rule.conditional = true;
                while words.next_if(|next| !next.starts_with('-') && *next != "!").is_some() {}
            }
        }
    }
    Ok(Some((chain, rule)))
}

fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => word.get_or_insert_default().extend(letters.next()),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (end, Some(begin)) if end == begin => quote = None,
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}
