//! nginx: `nginx.conf` with what it includes, in the order in which nginx reads it.

use std::rc::Rc;

use ipnet::IpNet;

use super::tree::{MAX_BLOCKS, MAX_DEPTH, MAX_DIRECTIVES, MAX_FILES, Node, named};
use super::{Bind, CertificateFiles, Site, Upstream, host_and_port};
use crate::finding::Area;
use crate::notes::Notes;
use crate::source::Source;

const FILE: &str = "/etc/nginx/nginx.conf";
const FOLDER: &str = "/etc/nginx";

/// Looks at every site.
pub(super) fn look(source: &Source, notes: &mut Notes) -> Vec<Site> {
    let mut reader = Reader { source, notes, files: Vec::new(), directives: 0 };
    let nodes = reader.read(FILE, 0);
    sites(&nodes)
}

struct Reader<'a> {
    source: &'a Source,
    notes: &'a mut Notes,
    /// In the order in which they were read.
    files: Vec<String>,
    directives: usize,
}

impl Reader<'_> {
    fn read(&mut self, file: &str, depth: usize) -> Vec<Node> {
        let Some(text) = self.notes.text(Area::Nginx, self.source, file) else { return Vec::new() };
        self.files.push(file.to_owned());
        let file: Rc<str> = Rc::from(file);
        let mut tokens = Tokens::new(&text);
        self.block(&file, &mut tokens, depth, 0)
    }

    /// Directives up to the end of the block, or of the file.
    fn block(&mut self, file: &Rc<str>, tokens: &mut Tokens<'_>, depth: usize, blocks: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut begun = 0;
        loop {
            let token = tokens.next();
            if words.is_empty() {
                begun = tokens.line;
            }
            match token {
                Token::Word(word) => {
                    if words.len() < 10_000 {
                        words.push(word);
                    }
                    let code = words.first().is_some_and(|name| name.ends_with("_by_lua_block"));
                    if code && tokens.skip_code() {
                        words.clear();
                    }
                }
                Token::Semicolon | Token::Open => {
                    let opens = token == Token::Open;
                    let mut parts = std::mem::take(&mut words).into_iter();
                    let Some(name) = parts.next() else {
                        self.notes.broken(
                            Area::Nginx,
                            file,
                            tokens.line,
                            "a sign without a directive, so nginx does not start",
                        );
                        if opens {
                            // What is inside belongs to nothing.
                            let _ = self.inner(file, tokens, depth, blocks);
                        }
                        continue;
                    };
                    self.directives += 1;
                    if self.directives > MAX_DIRECTIVES {
                        self.notes.broken(Area::Nginx, file, tokens.line, "too many directives; the rest was left out");
                        return nodes;
                    }
                    let children = opens.then(|| self.inner(file, tokens, depth, blocks));
                    let node = Node { name, args: parts.collect(), file: file.clone(), line: begun, children };
                    if node.name == "include" && !opens {
                        nodes.extend(self.include(&node, depth));
                    } else {
                        nodes.push(node);
                    }
                }
                Token::Close if blocks > 0 && words.is_empty() => return nodes,
                Token::Close => {
                    let why = if words.is_empty() { "a `}` too many" } else { "a directive without `;`" };
                    self.notes.broken(Area::Nginx, file, tokens.line, format!("{why}, so nginx does not start"));
                    words.clear();
                    if blocks > 0 {
                        return nodes;
                    }
                }
                Token::Broken(why) => {
                    self.notes.broken(Area::Nginx, file, tokens.line, format!("{why}, so nginx does not start"));
                    words.clear();
                }
                Token::End => {
                    if blocks > 0 || !words.is_empty() {
                        let why = "the file ends inside of a block or directive, so nginx does not start";
                        self.notes.broken(Area::Nginx, file, tokens.line, why);
                    }
                    return nodes;
                }
            }
        }
    }

    fn inner(&mut self, file: &Rc<str>, tokens: &mut Tokens<'_>, depth: usize, blocks: usize) -> Vec<Node> {
        if blocks >= MAX_BLOCKS {
            self.notes.broken(Area::Nginx, file, tokens.line, "blocks are too deep; the rest of the file was left out");
            tokens.stop();
            return Vec::new();
        }
        self.block(file, tokens, depth, blocks + 1)
    }

    fn include(&mut self, node: &Node, depth: usize) -> Vec<Node> {
        let pattern = node.arg(0);
        let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{FOLDER}/{pattern}") };
        if depth >= MAX_DEPTH || self.files.len() >= MAX_FILES {
            let why = "too many files include each other; this one was left out";
            self.notes.broken(Area::Nginx, &node.file, node.line, why);
            return Vec::new();
        }
        let files = self.notes.glob(Area::Nginx, self.source, &pattern);
        if files.is_empty() && !pattern.contains(['*', '?', '[']) {
            let why = format!("`{pattern}` is included and not there");
            self.notes.broken(Area::Nginx, &node.file, node.line, why);
        }
        files.iter().flat_map(|file| self.read(file, depth + 1)).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    Broken(&'static str),
    End,
}

/// nginx's own way to split text (`ngx_conf_read_token`).
struct Tokens<'t> {
    letters: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str) -> Self {
        Self { letters: text.chars().peekable(), line: 1 }
    }

    fn stop(&mut self) {
        self.letters = "".chars().peekable();
    }

    fn letter(&mut self) -> Option<char> {
        let letter = self.letters.next();
        if letter == Some('\n') {
            self.line += 1;
        }
        letter
    }

    fn next(&mut self) -> Token {
        loop {
            match self.letters.peek().copied() {
                None => return Token::End,
                Some(space) if space.is_ascii_whitespace() => {
                    self.letter();
                }
                Some('#') => while self.letter().is_some_and(|letter| letter != '\n') {},
                Some(';') => {
                    self.letter();
                    return Token::Semicolon;
                }
                Some('{') => {
                    self.letter();
                    return Token::Open;
                }
                Some('}') => {
                    self.letter();
                    return Token::Close;
                }
                Some(quote @ ('"' | '\'')) => {
                    self.letter();
                    return self.quoted(quote);
                }
                Some(_) => return Token::Word(self.word()),
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Token {
        let mut word = String::new();
        loop {
            match self.letter() {
                None => return Token::Broken("a quote is not closed"),
                Some('\\') => match self.letter() {
                    Some(next) if next == quote || next == '\\' => word.push(next),
                    Some(next) => word.extend(['\\', next]),
                    None => return Token::Broken("a quote is not closed"),
                },
                Some(end) if end == quote => return Token::Word(word),
                Some(letter) => word.push(letter),
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        let mut in_variable = false;
        while let Some(letter) = self.letters.peek().copied() {
            match letter {
                '\\' => {
                    word.extend(self.letter());
                    word.extend(self.letter());
                    continue;
                }
                '{' if word.ends_with('$') => in_variable = true,
                '}' if in_variable => in_variable = false,
                ';' | '{' => break,
                // nginx takes a `}` inside of a word as a part of it.
                space if space.is_ascii_whitespace() => break,
                _ => {}
            }
            word.extend(self.letter());
        }
        word
    }

    /// Passes over `{ … }` of another language. Gives whether there was such a block.
    fn skip_code(&mut self) -> bool {
        while self.letters.peek().is_some_and(char::is_ascii_whitespace) {
            self.letter();
        }
        if self.letters.peek() != Some(&'{') {
            return false;
        }
        let mut depth = 0_usize;
        while let Some(letter) = self.letter() {
            match letter {
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        true
    }
}

/// The blocks around a place, innermost last: what is not said inside counts as said outside.
#[derive(Debug, Clone, Copy)]
struct Scope<'n> {
    http: &'n Node,
    server: &'n Node,
}

impl<'n> Scope<'n> {
    fn last(&self, name: &str) -> Option<&'n Node> {
        self.server.last(name).or_else(|| self.http.last(name))
    }
}

fn sites(nodes: &[Node]) -> Vec<Site> {
    let mut sites = Vec::new();
    for (http, is_stream) in
        named(nodes, "http").map(|http| (http, false)).chain(named(nodes, "stream").map(|s| (s, true)))
    {
        let upstreams: Vec<&Node> = http.all("upstream").collect();
        for server in http.all("server").filter(|server| server.children.is_some()) {
            if sites.len() < super::MAX_SITES {
                sites.push(site(Scope { http, server }, &upstreams, is_stream));
            }
        }
    }
    first_is_default(&mut sites);
    sites
}

/// Where none is said to be, the first server of an address answers for other names.
fn first_is_default(sites: &mut [Site]) {
    let binds: Vec<Bind> = sites.iter().flat_map(|site| site.binds.iter().cloned()).collect();
    let mut seen: Vec<(Option<std::net::IpAddr>, u16)> = Vec::new();
    for site in sites {
        for bind in &mut site.binds {
            let place = (bind.address, bind.port);
            let named = binds.iter().any(|other| other.is_default && (other.address, other.port) == place);
            if !named && !seen.contains(&place) {
                bind.is_default = true;
            }
            seen.push(place);
        }
    }
}

fn site(scope: Scope<'_>, upstreams: &[&Node], is_stream: bool) -> Site {
    let server = scope.server;
    let mut site = Site::new(Area::Nginx, server.evidence());
    site.is_stream = is_stream;
    site.names = server.all("server_name").flat_map(|node| node.args.clone()).filter(|name| !name.is_empty()).collect();
    let old_switch = server.last("ssl").is_some_and(|node| node.arg(0) == "on");
    for bind in server.all("listen").filter_map(|node| bind(node, old_switch)) {
        // `80` and `[::]:80` are one here.
        let same = site.binds.iter_mut().find(|known| (known.address, known.port) == (bind.address, bind.port));
        match same {
            Some(known) => {
                known.is_default |= bind.is_default;
                known.tls &= bind.tls;
            }
            None => site.binds.push(bind),
        }
    }
    if site.binds.is_empty() && server.last("listen").is_none() {
        site.binds.push(Bind { address: None, port: 80, tls: old_switch, is_default: false });
    }
    if let Some(node) = scope.last("ssl_protocols") {
        let has = |names: &[&str]| node.args.iter().any(|arg| names.contains(&arg.as_str()));
        let ssl = has(&["SSLv2", "SSLv3"]);
        if ssl || has(&["TLSv1", "TLSv1.1"]) {
            site.old_tls = Some((node.evidence(), ssl));
        }
        site.newest_tls = node.args == ["TLSv1.3"];
    }
    let keys: Vec<&str> = server.all("ssl_certificate_key").map(|node| node.arg(0)).collect();
    for (at, node) in server.all("ssl_certificate").enumerate() {
        let full = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("{FOLDER}/{path}") };
        let key = keys.get(at).map(|key| full(key));
        if !node.arg(0).contains('$') {
            site.certificates.push(CertificateFiles { certificate: full(node.arg(0)), key });
        }
    }
    site.client_certificates = scope.last("ssl_verify_client").is_some_and(|node| node.arg(0) == "on");
    site.only_from = only_from(scope);
    site.only_redirects = only_redirects(server);
    site.logs = scope.last("access_log").is_none_or(|node| node.arg(0) != "off") || is_stream;
    content(scope, upstreams, &mut site);
    site
}

fn bind(node: &Node, old_switch: bool) -> Option<Bind> {
    let address = node.arg(0);
    if address.starts_with("unix:") {
        return None;
    }
    let has = |word: &str| node.args.iter().any(|arg| arg == word);
    let (tls, is_default) = (old_switch || has("ssl") || has("quic"), has("default_server") || has("default"));
    if let Ok(port) = address.parse() {
        return Some(Bind { address: None, port, tls, is_default });
    }
    let (host, port) = host_and_port(address)?;
    let address = match host.as_str() {
        "*" | "0.0.0.0" | "::" => None,
        "localhost" => Some(std::net::Ipv4Addr::LOCALHOST.into()),
        host => Some(host.parse().ok()?),
    };
    Some(Bind { address, port: port.unwrap_or(80), tls, is_default })
}

/// Networks that `allow` names before `deny all`.
fn only_from(scope: Scope<'_>) -> Option<Vec<IpNet>> {
    let rules = |node: &Node| {
        let rules = node.block().iter().filter(|rule| matches!(rule.name.as_str(), "allow" | "deny"));
        rules.map(|rule| (rule.name.clone(), rule.arg(0).to_owned())).collect::<Vec<_>>()
    };
    let mut list = rules(scope.server);
    if list.is_empty() {
        list = rules(scope.http);
    }
    let (last, before) = list.split_last()?;
    if *last != ("deny".to_owned(), "all".to_owned()) {
        return None;
    }
    let net =
        |text: &str| text.parse::<IpNet>().ok().or_else(|| text.parse().ok().map(|one: std::net::IpAddr| one.into()));
    before.iter().filter(|(verb, _)| verb == "allow").map(|(_, text)| net(text)).collect()
}

fn only_redirects(server: &Node) -> bool {
    // Or refuses: nothing is served.
    let redirects = |node: &Node| node.all("return").any(|node| node.arg(0).starts_with(['3', '4', '5']));
    if redirects(server) {
        return true;
    }
    let places: Vec<&Node> = server.all("location").collect();
    let for_acme = |place: &Node| place.args.iter().any(|arg| arg.contains("/.well-known/acme-challenge"));
    let serves = ["root", "proxy_pass", "try_files", "alias", "fastcgi_pass"];
    let itself = serves.iter().any(|name| *name != "root" && server.last(name).is_some());
    !itself
        && places.iter().any(|place| redirects(place) && place.arg(0) == "/")
        && places.iter().all(|place| redirects(place) || for_acme(place))
}

/// What is asked of people at one place, given what is asked around it.
fn asked(node: &Node, around: &[&'static str]) -> Vec<&'static str> {
    let mut asked: Vec<&'static str> = around.to_vec();
    for (name, what) in [("auth_basic", "password"), ("auth_request", "another service"), ("auth_jwt", "token")] {
        match node.last(name) {
            Some(set) if set.arg(0) == "off" => asked.retain(|known| *known != what),
            Some(_) if !asked.contains(&what) => asked.push(what),
            _ => {}
        }
    }
    asked
}

fn content(scope: Scope<'_>, upstreams: &[&Node], site: &mut Site) {
    let base = asked(scope.server, &asked(scope.http, &[]));
    let verified = scope.last("proxy_ssl_verify").is_some_and(|node| node.arg(0) == "on");
    let listed = scope.last("autoindex").filter(|node| node.arg(0) == "on");
    site.listings.extend(listed.map(Node::evidence));
    let mut places: Vec<Vec<&'static str>> = Vec::new();
    walk(scope.server, &base, site.only_from.is_some(), verified, upstreams, site, &mut places);
    // A server without any place serves files.
    if places.is_empty() {
        places.push(base);
    }
    site.asks_somewhere = places.iter().any(|asked| !asked.is_empty());
    let everywhere = |what: &&'static str| places.iter().all(|asked| asked.contains(what));
    site.sign_in = ["password", "another service", "token"].into_iter().filter(everywhere).collect();
    if places.iter().all(|asked| !asked.is_empty()) && site.sign_in.is_empty() {
        site.sign_in = vec!["different ways"];
    }
    if site.client_certificates {
        site.sign_in.push("client certificate");
    }
}

fn walk(
    node: &Node,
    around: &[&'static str],
    closed: bool,
    verified: bool,
    upstreams: &[&Node],
    site: &mut Site,
    places: &mut Vec<Vec<&'static str>>,
) {
    for child in node.block() {
        match child.name.as_str() {
            "location" | "if" | "limit_except" => {
                let asked = asked(child, around);
                let closed =
                    closed || child.all("deny").any(|rule| rule.arg(0) == "all") || child.last("internal").is_some();
                let verified = child.last("proxy_ssl_verify").map_or(verified, |node| node.arg(0) == "on");
                let serves =
                    child.name == "location" && !child.all("return").any(|_| true) && child.last("internal").is_none();
                let for_acme = child.args.iter().any(|arg| arg.contains("/.well-known/acme-challenge"));
                let status = child.last("stub_status");
                if serves && !for_acme && status.is_none() {
                    places.push(asked.clone());
                }
                if let Some(status) = status.filter(|_| !closed && asked.is_empty()) {
                    site.open_status.push(status.evidence());
                }
                let listed = child.last("autoindex").filter(|node| node.arg(0) == "on");
                site.listings.extend(listed.map(Node::evidence));
                walk(child, &asked, closed, verified, upstreams, site, places);
            }
            "proxy_pass" | "grpc_pass" => {
                if node.name == "server" && !site.is_stream {
                    places.push(around.to_vec());
                }
                if site.upstreams.len() < super::MAX_UPSTREAMS {
                    site.upstreams.extend(passes_to(child, upstreams, verified));
                }
            }
            _ => {}
        }
    }
}

/// Where `proxy_pass` leads, groups of servers followed.
fn passes_to(node: &Node, groups: &[&Node], verified: bool) -> Vec<Upstream> {
    let url = node.arg(0);
    let Some(direct) = Upstream::of_url(url, node.evidence()) else { return Vec::new() };
    let check = |mut upstream: Upstream| {
        upstream.verified = upstream.tls.then_some(verified);
        upstream
    };
    let Some(group) = groups.iter().find(|group| group.arg(0) == direct.host) else { return vec![check(direct)] };
    let scheme = if direct.tls { "https" } else { "http" };
    let servers = group.all("server").filter(|server| !server.arg(0).starts_with("unix:"));
    servers
        .filter_map(|server| Upstream::of_url(&format!("{scheme}://{}", server.arg(0)), server.evidence()))
        .map(check)
        .take(super::MAX_UPSTREAMS)
        .collect()
}

/// Files in the order of reading, as `nginx -T` names them.
#[cfg(test)]
fn files_read(source: &Source, file: &str, notes: &mut Notes) -> Vec<String> {
    let mut reader = Reader { source, notes, files: Vec::new(), directives: 0 };
    reader.read(file, 0);
    reader.files
}

#[cfg(test)]
mod tests;
