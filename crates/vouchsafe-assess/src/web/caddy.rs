//! Caddy: the Caddyfile (Caddy documentation, "Caddyfile Concepts"). Its JSON is not read.

use std::rc::Rc;

use super::tree::{MAX_BLOCKS, MAX_DEPTH, MAX_DIRECTIVES, MAX_FILES, Node};
use super::{Bind, CertificateFiles, Site, Upstream, host_and_port};
use crate::finding::Area;
use crate::notes::Notes;
use crate::source::Source;

const FILE: &str = "/etc/caddy/Caddyfile";

/// Looks at every site.
pub(super) fn look(source: &Source, notes: &mut Notes) -> Vec<Site> {
    let mut reader = Reader { source, notes, files: 0, directives: 0 };
    let nodes = reader.read(FILE, 0);
    if source.is_there("/etc/caddy/caddy.json") || source.is_there("/etc/caddy/config.json") {
        let how = "look at what `caddy adapt` and the admin endpoint say";
        reader.notes.gap(Area::Caddy, "/etc/caddy", None, "there is a configuration in JSON, which is not read", how);
    }
    sites(&nodes)
}

struct Reader<'a> {
    source: &'a Source,
    notes: &'a mut Notes,
    files: usize,
    directives: usize,
}

/// A line's words, and where it opens or closes a block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    words: Vec<String>,
    number: usize,
    opens: bool,
    closes: bool,
}

impl Reader<'_> {
    fn read(&mut self, file: &str, depth: usize) -> Vec<Node> {
        let Some(text) = self.notes.text(Area::Caddy, self.source, file) else { return Vec::new() };
        self.files += 1;
        let (lines, broken) = lines(&text);
        for (line, why) in broken {
            self.notes.broken(Area::Caddy, file, line, why);
        }
        let mut lines = lines.into_iter();
        let file: Rc<str> = Rc::from(file);
        let mut nodes = self.block(&file, &mut lines, 0);
        // One site alone needs no braces.
        if let Some(first) = nodes.first()
            && depth == 0
            && first.children.is_none()
            && first.name != "import"
        {
            let (name, args, line) = (first.name.clone(), first.args.clone(), first.line);
            let children = Some(nodes.split_off(1));
            nodes = vec![Node { name, args, file, line, children }];
        }
        self.imported(nodes, depth, &mut Vec::new())
    }

    fn block(&mut self, file: &Rc<str>, lines: &mut std::vec::IntoIter<Line>, blocks: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        while let Some(line) = lines.next() {
            self.directives += 1;
            if self.directives > MAX_DIRECTIVES || blocks > MAX_BLOCKS {
                self.notes.broken(Area::Caddy, file, line.number, "too many lines or blocks; the rest was left out");
                *lines = Vec::new().into_iter();
                return nodes;
            }
            if line.closes {
                if blocks > 0 {
                    return nodes;
                }
                self.notes.broken(Area::Caddy, file, line.number, "a `}` too many, so Caddy does not start");
                continue;
            }
            let children = line.opens.then(|| self.block(file, lines, blocks + 1));
            let mut words = line.words.into_iter();
            let name = words.next().unwrap_or_default();
            nodes.push(Node { name, args: words.collect(), file: file.clone(), line: line.number, children });
        }
        if blocks > 0 {
            self.notes.gap(
                Area::Caddy,
                file,
                None,
                "the file ends inside of a block, so Caddy does not start",
                "mend the file, then look again",
            );
        }
        nodes
    }

    /// Puts files and snippets where they are imported.
    fn imported(&mut self, nodes: Vec<Node>, depth: usize, outer: &mut Vec<Node>) -> Vec<Node> {
        let is_snippet = |node: &Node| node.name.starts_with('(') && node.name.ends_with(')');
        outer.extend(nodes.iter().filter(|node| is_snippet(node)).cloned());
        let mut found = Vec::new();
        for mut node in nodes {
            if is_snippet(&node) {
                continue;
            }
            if node.name == "import" {
                if depth >= MAX_DEPTH || self.files >= MAX_FILES || self.directives > MAX_DIRECTIVES {
                    let why = "too many imports; this one was left out";
                    self.notes.broken(Area::Caddy, &node.file, node.line, why);
                    continue;
                }
                let wanted = format!("({})", node.arg(0));
                if let Some(snippet) = outer.iter().find(|known| known.name == wanted).cloned() {
                    let inner = snippet.children.unwrap_or_default();
                    self.directives += inner.len() + 1;
                    found.extend(self.imported(inner, depth + 1, outer));
                    continue;
                }
                let pattern = node.arg(0);
                let pattern =
                    if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/caddy/{pattern}") };
                let files = self.notes.glob(Area::Caddy, self.source, &pattern);
                if files.is_empty() && !pattern.contains(['*', '?', '[']) {
                    self.notes.broken(
                        Area::Caddy,
                        &node.file,
                        node.line,
                        format!("`{}` is imported and not there", node.arg(0)),
                    );
                }
                for file in files {
                    found.extend(self.read(&file, depth + 1));
                }
                continue;
            }
            if let Some(children) = node.children.take() {
                node.children = Some(self.imported(children, depth, outer));
            }
            found.push(node);
        }
        found
    }
}

/// Lines with their words: quotes, backquotes, heredocs, comments, escaped line ends.
fn lines(text: &str) -> (Vec<Line>, Vec<(usize, &'static str)>) {
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    let mut letters = text.chars().peekable();
    let mut number = 1;
    let mut words: Vec<(String, bool)> = Vec::new();
    let mut begun = 1;
    loop {
        let letter = letters.next();
        if words.is_empty() {
            begun = number;
        }
        match letter {
            None | Some('\n') => {
                finish(&mut words, begun, &mut found);
                if letter.is_none() {
                    return (found, broken);
                }
                number += 1;
            }
            Some(space) if space.is_whitespace() => {}
            Some('#') => while letters.next_if(|letter| *letter != '\n').is_some() {},
            Some('\\') if letters.peek() == Some(&'\n') => {
                letters.next();
                number += 1;
            }
            Some(quote @ ('"' | '`')) => {
                let mut word = String::new();
                loop {
                    match letters.next() {
                        None => {
                            broken.push((begun, "a quote is not closed, so Caddy does not start"));
                            break;
                        }
                        Some('\\') if quote == '"' && letters.peek() == Some(&'"') => word.extend(letters.next()),
                        Some(end) if end == quote => break,
                        Some(letter) => {
                            number += usize::from(letter == '\n');
                            word.push(letter);
                        }
                    }
                }
                words.push((word, true));
            }
            Some(first) => {
                let mut word = String::from(first);
                while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
                    word.push(letter);
                }
                if let Some(marker) = word.strip_prefix("<<").filter(|marker| !marker.is_empty()) {
                    let marker = marker.to_owned();
                    let mut body = String::new();
                    let mut line = String::new();
                    // Up to a line that holds the marker alone.
                    loop {
                        let letter = letters.next();
                        if letter.is_none() || letter == Some('\n') {
                            number += usize::from(letter.is_some());
                            if line.trim() == marker || letter.is_none() {
                                break;
                            }
                            body.push_str(&line);
                            line.clear();
                            continue;
                        }
                        line.extend(letter);
                    }
                    words.push((body, true));
                    // The marker's line ended the line as well.
                    finish(&mut words, begun, &mut found);
                } else {
                    words.push((word, false));
                }
            }
        }
    }
}

/// Makes lines of the words gathered: `{` ends one and opens a block, `}` stands alone.
fn finish(words: &mut Vec<(String, bool)>, number: usize, found: &mut Vec<Line>) {
    if words.is_empty() {
        return;
    }
    let taken = std::mem::take(words);
    if let [(word, false)] = taken.as_slice()
        && word == "}"
    {
        found.push(Line { words: Vec::new(), number, opens: false, closes: true });
        return;
    }
    let opens = taken.last().is_some_and(|(word, quoted)| word == "{" && !quoted);
    let count = taken.len() - usize::from(opens);
    let words = taken.into_iter().take(count).map(|(word, _)| word).collect();
    found.push(Line { words, number, opens, closes: false });
}

fn sites(nodes: &[Node]) -> Vec<Site> {
    let mut found = Vec::new();
    let mut http_port = 80;
    let mut https_port = 443;
    for node in nodes {
        let Some(children) = &node.children else { continue };
        if node.name.is_empty() {
            // Options for all sites.
            let port = |name: &str| node.last(name).and_then(|node| node.arg(0).parse().ok());
            http_port = port("http_port").unwrap_or(http_port);
            https_port = port("https_port").unwrap_or(https_port);
            continue;
        }
        let _ = children;
        let addresses: Vec<String> = std::iter::once(&node.name)
            .chain(&node.args)
            .flat_map(|word| word.split(','))
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect();
        if found.len() < super::MAX_SITES {
            found.push(site(node, &addresses, http_port, https_port));
        }
    }
    found
}

fn site(node: &Node, addresses: &[String], http_port: u16, https_port: u16) -> Site {
    let mut site = Site::new(Area::Caddy, node.evidence());
    let bound = node.last("bind").and_then(|bind| bind.arg(0).parse().ok());
    for address in addresses {
        let (scheme, rest) =
            address.split_once("://").map_or((None, address.as_str()), |(scheme, rest)| (Some(scheme), rest));
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix(':') {
            Some(port) => (String::new(), port.parse().ok()),
            None => host_and_port(authority).unwrap_or((authority.to_owned(), None)),
        };
        let plain = scheme == Some("http")
            || port == Some(http_port)
            || (host.is_empty() && port != Some(https_port) && node.last("tls").is_none());
        let port = port.unwrap_or(if plain { http_port } else { https_port });
        let is_default = host.is_empty();
        if !host.is_empty() {
            site.names.push(host);
        }
        let bind = Bind { address: bound, port, tls: !plain, is_default };
        if !site.binds.contains(&bind) {
            site.binds.push(bind);
        }
    }
    if let Some(tls) = node.last("tls") {
        if tls.args.len() == 2 {
            site.certificates
                .push(CertificateFiles { certificate: tls.arg(0).to_owned(), key: Some(tls.arg(1).to_owned()) });
        }
        site.client_certificates = tls
            .last("client_auth")
            .is_some_and(|auth| auth.last("mode").is_none_or(|mode| mode.arg(0).starts_with("require")));
        site.newest_tls = tls.last("protocols").is_some_and(|protocols| protocols.arg(0) == "tls1.3");
    }
    // Without one that picks some requests, a directive is about all of them.
    let whole = |node: &&Node| !node.arg(0).starts_with(['/', '@']);
    for inner in node.inside() {
        match inner.name.as_str() {
            "basic_auth" | "basicauth" => site.asks_somewhere = true,
            "forward_auth" => site.asks_somewhere = true,
            "reverse_proxy" => {
                let named = inner.args.iter().filter(|arg| !arg.starts_with(['/', '@', '*']));
                let more = inner.all("to").flat_map(|to| &to.args);
                let unchecked = inner.inside().iter().any(|node| node.name == "tls_insecure_skip_verify");
                for target in named.chain(more) {
                    if let Some(mut upstream) = Upstream::of_url(target, inner.evidence()) {
                        upstream.tls |= inner.inside().iter().any(|node| node.name == "tls");
                        upstream.verified = upstream.tls.then_some(!unchecked);
                        site.upstreams.push(upstream);
                    }
                }
            }
            "file_server" if inner.args.iter().any(|arg| arg == "browse") || inner.last("browse").is_some() => {
                site.listings.push(inner.evidence());
            }
            _ => {}
        }
    }
    let asks = |names: [&str; 2]| names.iter().any(|name| node.all(name).any(|node| whole(&node)));
    if asks(["basic_auth", "basicauth"]) {
        site.sign_in.push("password");
    }
    if asks(["forward_auth", "forward_auth"]) {
        site.sign_in.push("another service");
    }
    if site.client_certificates {
        site.sign_in.push("client certificate");
    }
    site.only_redirects = node.all("redir").any(|node| node.args.len() <= 2 && !node.arg(0).starts_with(['/', '@']));
    site.logs = node.last("log").is_some();
    site
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Vec<Site>, Notes) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/caddy")).unwrap();
        fs::write(dir.path().join("etc/caddy/Caddyfile"), text).unwrap();
        let mut notes = Notes::default();
        let sites = look(&Source::collected(dir.path()).unwrap(), &mut notes);
        (sites, notes)
    }

    #[test]
    fn sites_are_read_with_snippets() {
        let (sites, notes) = read(
            "{\n\temail a@b\n}\n(guard) {\n\tbasic_auth {\n\t\tann $2a$14$canarycanarycanarycanary\n\t}\n}\n\
             wiki.example, www.wiki.example {\n\timport guard\n\tlog\n\treverse_proxy 10.0.0.7:8080 127.0.0.1:8081\n}\n\
             http://plain.example:8080 {\n\tfile_server browse\n\trespond <<END\n  { not a block\n  END\n}\n",
        );
        assert_eq!(notes.gaps, []);
        assert_eq!(sites[0].names, ["wiki.example", "www.wiki.example"]);
        assert_eq!(sites[0].sign_in, ["password"]);
        assert_eq!(sites[0].binds, [Bind { address: None, port: 443, tls: true, is_default: false }]);
        assert_eq!(sites[0].upstreams.len(), 2);
        assert!(sites[0].logs && !sites[1].logs);
        assert_eq!((sites[1].binds[0].port, sites[1].binds[0].tls), (8080, false));
        assert_eq!(sites[1].listings.len(), 1);
    }

    #[test]
    fn one_site_needs_no_braces_and_broken_ones_are_named() {
        let (sites, _) = read(":8080\nreverse_proxy localhost:3000\n");
        assert_eq!((sites[0].binds[0].port, sites[0].upstreams[0].port), (8080, 3000));
        let (_, notes) = read("a.example {\n reverse_proxy x:1\n");
        assert_eq!(notes.gaps.len(), 1);
        let (_, notes) = read("a.example {\n}\n}\n");
        assert_eq!(notes.gaps[0].line, Some(3));
        let (_, notes) = read("(a) {\n import a\n import a\n}\nx.example {\n import a\n}\n");
        assert!(!notes.gaps.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_file_is_too_broken(text in "([a-z.:/@(){}\"`\\\\<# ]{0,20}\n|(tls|import|reverse_proxy|bind) [a-z:{}0-9 ]{0,12}\n|\\PC{0,30}\n){0,10}") {
            read(&text);
        }
    }
}
