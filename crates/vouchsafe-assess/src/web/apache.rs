//! Apache: `apache2.conf` or `httpd.conf` with what it includes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use super::tree::{MAX_BLOCKS, MAX_DEPTH, MAX_DIRECTIVES, MAX_FILES, Node, named};
use super::{Bind, CertificateFiles, Site, Upstream, host_and_port};
use crate::finding::Area;
use crate::notes::Notes;
use crate::source::Source;
use crate::text::continued;

/// The main file and the folder that names are relative to, by Debian and by Red Hat.
const PLACES: [(&str, &str); 2] =
    [("/etc/apache2/apache2.conf", "/etc/apache2"), ("/etc/httpd/conf/httpd.conf", "/etc/httpd")];
/// Modules that Debian's program has inside.
const INSIDE: [&str; 9] = ["core", "so", "http", "log_config", "logio", "watchdog", "version", "unixd", "authz_core"];
/// Variables that Debian sets in `envvars`.
const VARIABLES: [(&str, &str); 5] = [
    ("APACHE_LOG_DIR", "/var/log/apache2"),
    ("APACHE_RUN_DIR", "/var/run/apache2"),
    ("APACHE_LOCK_DIR", "/var/lock/apache2"),
    ("APACHE_RUN_USER", "www-data"),
    ("APACHE_RUN_GROUP", "www-data"),
];

/// Looks at every virtual host.
pub(super) fn look(source: &Source, notes: &mut Notes) -> Vec<Site> {
    let mut found = Vec::new();
    for (file, root) in PLACES {
        let variables = VARIABLES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut reader =
            Reader { source, notes, root: root.to_owned(), variables, modules: Vec::new(), files: 0, directives: 0 };
        let nodes = reader.read(file, 0, 0);
        found.extend(sites(&nodes));
    }
    found
}

struct Reader<'a> {
    source: &'a Source,
    notes: &'a mut Notes,
    root: String,
    variables: BTreeMap<String, String>,
    /// Without `_module`.
    modules: Vec<String>,
    files: usize,
    directives: usize,
}

impl Reader<'_> {
    fn read(&mut self, file: &str, depth: usize, blocks: usize) -> Vec<Node> {
        let Some(text) = self.notes.text(Area::Apache, self.source, file) else { return Vec::new() };
        self.files += 1;
        let lines: Vec<(usize, String)> = continued(&text).map(|(line, text)| (line, text.into_owned())).collect();
        let mut lines = lines.into_iter();
        self.block(&Rc::from(file), &mut lines, None, depth, blocks)
    }

    /// Directives up to the end of the section of that name, or of the file.
    fn block(
        &mut self,
        file: &Rc<str>,
        lines: &mut std::vec::IntoIter<(usize, String)>,
        inside: Option<&str>,
        depth: usize,
        blocks: usize,
    ) -> Vec<Node> {
        let mut nodes = Vec::new();
        while let Some((line, text)) = lines.next() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            self.directives += 1;
            if self.directives > MAX_DIRECTIVES {
                self.notes.broken(Area::Apache, file, line, "too many directives; the rest was left out");
                *lines = Vec::new().into_iter();
                return nodes;
            }
            if let Some(end) = text.strip_prefix("</") {
                let end = end.trim_end_matches('>').trim();
                if inside.is_some_and(|name| name.eq_ignore_ascii_case(end)) {
                    return nodes;
                }
                let why = format!("`</{}>` closes nothing, so Apache does not start", crate::text::short(end, 40));
                self.notes.broken(Area::Apache, file, line, why);
                continue;
            }
            let opens = text.starts_with('<');
            let bare = if opens {
                let Some(bare) = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')) else {
                    self.notes.broken(Area::Apache, file, line, "a section without `>`, so Apache does not start");
                    continue;
                };
                bare
            } else {
                text
            };
            let mut words = words(bare).into_iter().map(|word| self.with_variables(&word));
            let Some(written) = words.next() else { continue };
            let args: Vec<String> = words.collect();
            let name = written.to_ascii_lowercase();
            let mut children = None;
            if opens {
                if blocks >= MAX_BLOCKS {
                    self.notes.broken(
                        Area::Apache,
                        file,
                        line,
                        "sections are too deep; the rest of the file was left out",
                    );
                    *lines = Vec::new().into_iter();
                    return nodes;
                }
                let counts = self.counts(&name, &args);
                let inner = if counts {
                    self.block(file, lines, Some(&written), depth, blocks + 1)
                } else {
                    skip(lines, &written);
                    Vec::new()
                };
                match name.as_str() {
                    "ifmodule" | "ifdefine" | "ifversion" | "iffile" | "ifdirective" | "ifsection" => {
                        nodes.extend(inner);
                        continue;
                    }
                    _ => children = Some(inner),
                }
            }
            let node = Node { name, args, file: file.clone(), line, children };
            match node.name.as_str() {
                "include" | "includeoptional" => nodes.extend(self.include(&node, depth, blocks)),
                "define" => {
                    self.variables.insert(node.arg(0).to_owned(), node.arg(1).to_owned());
                }
                "loadmodule" => self.modules.push(node.arg(0).trim_end_matches("_module").to_owned()),
                "serverroot" if node.arg(0).starts_with('/') => self.root = node.arg(0).to_owned(),
                _ => nodes.push(node),
            }
        }
        if let Some(name) = inside {
            let why = format!("the file ends inside of `<{}>`, so Apache does not start", crate::text::short(name, 40));
            self.notes.gap(Area::Apache, file, None, why, "mend the file, then look again");
        }
        nodes
    }

    /// Whether a section that depends on something is in force.
    fn counts(&self, name: &str, args: &[String]) -> bool {
        let first = args.first().map_or("", String::as_str);
        let (wanted, what) = first.strip_prefix('!').map_or((true, first), |what| (false, what));
        match name {
            "ifmodule" => {
                let module = what.trim_end_matches(".c").trim_start_matches("mod_").trim_end_matches("_module");
                let there = INSIDE.contains(&module) || self.modules.iter().any(|known| known == module);
                there == wanted
            }
            "ifdefine" => self.variables.contains_key(what) == wanted,
            // Version, files and directives: taken as in force, so that nothing is overlooked.
            _ => true,
        }
    }

    fn with_variables(&self, word: &str) -> String {
        if !word.contains("${") {
            return word.to_owned();
        }
        let mut text = String::new();
        let mut rest = word;
        while let Some((before, behind)) = rest.split_once("${") {
            text.push_str(before);
            match behind.split_once('}') {
                Some((name, after)) => {
                    match self.variables.get(name) {
                        Some(value) if text.len() < 4_096 => text.push_str(value),
                        _ => text.push_str(&format!("${{{name}}}")),
                    }
                    rest = after;
                }
                None => {
                    text.push_str("${");
                    rest = behind;
                }
            }
        }
        text + rest
    }

    fn include(&mut self, node: &Node, depth: usize, blocks: usize) -> Vec<Node> {
        let pattern = node.arg(0);
        let mut pattern =
            if pattern.starts_with('/') { pattern.to_owned() } else { format!("{}/{pattern}", self.root) };
        if depth >= MAX_DEPTH || self.files >= MAX_FILES {
            let why = "too many files include each other; this one was left out";
            self.notes.broken(Area::Apache, &node.file, node.line, why);
            return Vec::new();
        }
        if pattern.ends_with('/') || self.source.list(&pattern).is_ok() {
            pattern = format!("{}/*", pattern.trim_end_matches('/'));
        }
        let files = self.notes.glob(Area::Apache, self.source, &pattern);
        if files.is_empty() && node.name == "include" && !pattern.contains(['*', '?', '[']) {
            let why = format!("`{pattern}` is included and not there");
            self.notes.broken(Area::Apache, &node.file, node.line, why);
        }
        files.iter().flat_map(|file| self.read(file, depth + 1, blocks)).collect()
    }
}

/// Passes over a section, with those of the same name inside.
fn skip(lines: &mut std::vec::IntoIter<(usize, String)>, name: &str) {
    let (open, close) = (format!("<{}", name.to_ascii_lowercase()), format!("</{}>", name.to_ascii_lowercase()));
    let mut depth = 1_usize;
    for (_, text) in lines.by_ref() {
        let text = text.trim().to_ascii_lowercase();
        if text.starts_with(&close) {
            depth -= 1;
        } else if text.starts_with(&open) {
            depth += 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// Words with quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', Some(begin)) if letters.peek() == Some(&begin) => {
                word.get_or_insert_default().extend(letters.next())
            }
            ('"' | '\'', None) if word.is_none() => {
                quote = Some(letter);
                word = Some(String::new());
            }
            (end, Some(begin)) if end == begin => {
                quote = None;
                words.extend(word.take());
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn sites(nodes: &[Node]) -> Vec<Site> {
    let listens = named(nodes, "listen").filter_map(|node| bind(node.arg(0), false));
    let listens: Vec<Bind> = listens.take(100).collect();
    let hosts: Vec<&Node> = named(nodes, "virtualhost").take(super::MAX_SITES).collect();
    let main =
        Node { name: String::new(), args: Vec::new(), file: Rc::from(""), line: 0, children: Some(nodes.to_vec()) };
    let mut found: Vec<Site> = Vec::new();
    for host in &hosts {
        let mut site = site(host, &main);
        for address in host.args.iter().take(100) {
            let tls = host.last("sslengine").is_some_and(|node| node.arg(0).eq_ignore_ascii_case("on"));
            let Some(mut wanted) = bind(address, tls) else { continue };
            // What no `Listen` opens is not there.
            let open: Vec<&Bind> =
                listens.iter().filter(|listen| wanted.port == 0 || listen.port == wanted.port).collect();
            let taken = |known: &Site, bind: &Bind| {
                known.binds.iter().any(|other| other.port == bind.port && other.address == bind.address)
            };
            for listen in open {
                wanted.port = listen.port;
                let mut bind = Bind { address: wanted.address.or(listen.address), ..wanted.clone() };
                bind.is_default = !found.iter().any(|known| taken(known, &bind));
                site.binds.push(bind);
            }
        }
        if !site.binds.is_empty() {
            found.push(site);
        }
    }
    if hosts.is_empty()
        && let Some(first) = named(nodes, "listen").next()
    {
        let mut whole = site(&main, &main);
        whole.seen = first.evidence();
        whole.binds = listens.into_iter().map(|bind| Bind { is_default: true, ..bind }).collect();
        found.push(whole);
    }
    found
}

fn bind(text: &str, tls: bool) -> Option<Bind> {
    if let Ok(port) = text.parse() {
        return Some(Bind { address: None, port, tls, is_default: false });
    }
    let (host, port) = match text.strip_suffix(":*") {
        Some(host) => (host.to_owned(), Some(0)),
        None => host_and_port(text)?,
    };
    let address = match host.trim_matches(['[', ']']) {
        "*" | "_default_" | "0.0.0.0" | "::" | "" => None,
        host => Some(host.parse::<IpAddr>().ok()?),
    };
    Some(Bind { address, port: port.unwrap_or(0), tls, is_default: false })
}

fn site(host: &Node, main: &Node) -> Site {
    let mut site = Site::new(Area::Apache, host.evidence());
    let said = |name: &str| host.last(name).or_else(|| main.last(name));
    site.names = host.all("servername").chain(host.all("serveralias")).flat_map(|node| node.args.clone()).collect();
    for name in &mut site.names {
        let bare = name.split_once("://").map_or(name.as_str(), |(_, bare)| bare);
        *name = bare.split(':').next().unwrap_or_default().to_owned();
    }
    if let Some(node) = said("sslprotocol") {
        let versions = versions(&node.args);
        let ssl = versions.iter().any(|version| version.starts_with("SSL"));
        if ssl || versions.iter().any(|version| matches!(*version, "TLSv1" | "TLSv1.1")) {
            site.old_tls = Some((node.evidence(), ssl));
        }
        site.newest_tls = versions == ["TLSv1.3"];
    }
    let key = said("sslcertificatekeyfile").map(|node| node.arg(0).to_owned());
    let certificates = host.all("sslcertificatefile").map(|node| node.arg(0).to_owned());
    site.certificates = certificates.map(|certificate| CertificateFiles { certificate, key: key.clone() }).collect();
    site.client_certificates = said("sslverifyclient").is_some_and(|node| node.arg(0).eq_ignore_ascii_case("require"));
    site.logs = host.last("customlog").or_else(|| host.last("transferlog")).or_else(|| main.last("customlog")).or_else(|| main.last("globallog")).is_some()
        // Debian's `other-vhosts-access-log`.
        || main.last("customlog").is_some();
    access(host, &mut site);
    for node in std::iter::once(host).chain(host.inside()) {
        match node.name.as_str() {
            "proxypass" | "proxypassmatch" => {
                let target = node.args.iter().find(|arg| arg.contains("://"));
                let verified = said("sslproxyverify").is_some_and(|node| node.arg(0).eq_ignore_ascii_case("require"));
                if let Some(mut upstream) = target.and_then(|url| Upstream::of_url(url, node.evidence()))
                    && !target.is_some_and(|url| url.starts_with("balancer:") || url.starts_with("unix:"))
                {
                    upstream.verified = upstream.tls.then_some(verified);
                    site.upstreams.push(upstream);
                }
            }
            "options" => {
                let shows = node
                    .args
                    .iter()
                    .any(|arg| matches!(arg.to_ascii_lowercase().as_str(), "indexes" | "+indexes" | "all"));
                if shows {
                    site.listings.push(node.evidence());
                }
            }
            _ => {}
        }
    }
    let serves = ["documentroot", "proxypass", "proxypassmatch"]
        .iter()
        .any(|name| *name != "documentroot" && host.last(name).is_some());
    site.only_redirects = !serves && redirects(host);
    for place in host.inside().into_iter().filter(|node| node.name.starts_with("location")) {
        let status =
            place.last("sethandler").filter(|node| node.arg(0) == "server-status" || node.arg(0) == "server-info");
        let closed = place.all("require").any(|node| {
            !matches!(node.args.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), ["all", "granted"])
        });
        site.open_status.extend(status.filter(|_| !closed).map(Node::evidence));
    }
    site
}

/// Everything is sent elsewhere.
fn redirects(host: &Node) -> bool {
    let whole = host
        .all("redirect")
        .chain(host.all("redirectpermanent"))
        .any(|node| node.args.iter().any(|arg| arg == "/") && node.args.iter().any(|arg| arg.starts_with("https://")));
    let rewritten = host.all("rewriterule").any(|node| {
        let every = matches!(node.arg(0), "^" | "^(.*)$" | ".*" | "(.*)" | "^/?(.*)" | "^(.*)" | "^/(.*)$");
        every && node.arg(1).starts_with("https://") && node.arg(2).to_ascii_uppercase().contains('R')
    });
    whole || rewritten
}

fn access(host: &Node, site: &mut Site) {
    let asks = |node: &Node| {
        let who = node
            .all("require")
            .any(|rule| matches!(rule.arg(0), "valid-user" | "user" | "group" | "claim" | "ldap-group" | "ldap-user"));
        let how = node.last("authtype").map(|node| node.arg(0).to_ascii_lowercase());
        who.then_some(match how.as_deref() {
            Some("openid-connect" | "auth-openidc" | "mellon" | "shibboleth") => "another service",
            _ => "password",
        })
    };
    let root = host.last("documentroot").map(|node| node.arg(0).trim_end_matches('/').to_owned());
    let is_whole = |node: &Node| match node.name.as_str() {
        "location" => node.arg(0) == "/",
        "proxy" => node.arg(0) == "*",
        "directory" => node.arg(0) == "/" || root.as_deref() == Some(node.arg(0).trim_end_matches('/')),
        _ => false,
    };
    let mut whole = vec![host];
    whole.extend(host.block().iter().filter(|node| is_whole(node)));
    site.sign_in = whole.iter().filter_map(|node| asks(node)).collect();
    site.sign_in.dedup();
    site.asks_somewhere = host.inside().into_iter().any(|node| asks(node).is_some());
    if site.client_certificates {
        site.sign_in.push("client certificate");
    }
    for place in whole {
        let rules: Vec<&Node> = place.all("require").collect();
        if !rules.is_empty() && rules.iter().all(|rule| rule.arg(0) == "ip") {
            let nets = rules.iter().flat_map(|rule| rule.args.iter().skip(1));
            site.only_from = nets
                .map(|text| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)))
                .collect();
        } else if rules.iter().any(|rule| rule.arg(0) == "local") && rules.len() == 1 {
            site.only_from = ["127.0.0.0/8", "::1/128"].iter().map(|net| net.parse().ok()).collect();
        }
    }
}

/// The versions that `SSLProtocol` leaves.
fn versions(args: &[String]) -> Vec<&'static str> {
    const ALL: [&str; 4] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    let mut on: Vec<&'static str> = Vec::new();
    let mut first = true;
    for arg in args {
        let (adds, name) = match arg.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, arg.strip_prefix('+').unwrap_or(arg)),
        };
        // A word without a sign replaces what was there.
        if adds && !arg.starts_with('+') && !first {
            on.clear();
        }
        first = false;
        let meant: Vec<&'static str> = if name.eq_ignore_ascii_case("all") {
            ALL.to_vec()
        } else {
            let known = ALL.iter().chain(&["SSLv3", "SSLv2"]);
            known.filter(|version| version.eq_ignore_ascii_case(name)).copied().collect()
        };
        on.retain(|version| !meant.contains(version));
        if adds {
            on.extend(meant);
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn read(files: &[(&str, &str)]) -> (Vec<Site>, Notes) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut notes = Notes::default();
        let sites = look(&Source::collected(dir.path()).unwrap(), &mut notes);
        (sites, notes)
    }

    #[test]
    fn virtual_hosts_are_read_with_modules_variables_and_includes() {
        let (sites, notes) = read(&[
            (
                "/etc/apache2/apache2.conf",
                "IncludeOptional mods-enabled/*.load\nInclude ports.conf\nDefine BASE /srv\nSSLProtocol all -SSLv3 -TLSv1\n\
                 CustomLog ${APACHE_LOG_DIR}/access.log combined\nIncludeOptional sites-enabled/*.conf\n",
            ),
            ("/etc/apache2/mods-enabled/ssl.load", "LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\n"),
            (
                "/etc/apache2/ports.conf",
                "Listen 80\n<IfModule ssl_module>\n Listen 443\n</IfModule>\n<IfModule mod_gnutls.c>\n Listen 444\n</IfModule>\n",
            ),
            (
                "/etc/apache2/sites-enabled/a.conf",
                "<VirtualHost *:80>\n ServerName a.example\n Redirect permanent / https://a.example/\n</VirtualHost>\n",
            ),
            (
                "/etc/apache2/sites-enabled/b.conf",
                "<VirtualHost *:443>\n ServerName a.example\n SSLEngine on\n SSLCertificateFile /etc/ssl/a.pem\n SSLCertificateKeyFile /etc/ssl/a.key\n\
                 ProxyPass / http://10.0.0.7:8080/\n <Location />\n  AuthType Basic\n  Require valid-user\n </Location>\n\
                 <Location \"/server-status\">\n  SetHandler server-status\n </Location>\n\
                 <Directory ${BASE}/x>\n  Options \\\n   Indexes\n </Directory>\n</VirtualHost>\n<VirtualHost *:444>\n</VirtualHost>\n",
            ),
        ]);
        assert_eq!(notes.gaps, []);
        assert_eq!(sites.len(), 2, "{sites:#?}");
        assert!(sites[0].only_redirects && !sites[1].only_redirects);
        assert_eq!((sites[1].binds[0].port, sites[1].binds[0].tls), (443, true));
        assert_eq!(sites[1].sign_in, ["password"]);
        assert_eq!(sites[1].upstreams[0].host, "10.0.0.7");
        assert!(sites[1].old_tls.is_some() && sites[1].logs);
        assert_eq!((sites[1].listings.len(), sites[1].open_status.len()), (1, 1));
        assert_eq!(sites[1].certificates[0].key.as_deref(), Some("/etc/ssl/a.key"));
    }

    #[test]
    fn broken_sections_are_named() {
        let (_, notes) = read(&[(
            "/etc/apache2/apache2.conf",
            "Listen 80\n</IfModule>\n<VirtualHost *:80\n<Directory />\nInclude gone.conf\n",
        )]);
        let lines: Vec<_> = notes.gaps.iter().map(|gap| gap.line).collect();
        assert_eq!(lines, [Some(2), Some(3), Some(5), None]);
    }

    #[test]
    fn versions_are_added_and_taken_away() {
        let read = |text: &str| versions(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read("all -SSLv3 -TLSv1 -TLSv1.1"), ["TLSv1.2", "TLSv1.3"]);
        assert_eq!(read("-all +TLSv1.3"), ["TLSv1.3"]);
        assert_eq!(read("TLSv1.2"), ["TLSv1.2"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_file_is_too_broken(text in "(</?(VirtualHost|IfModule|Location)( [!a-z*:0-9$\\{\\}\"]{0,12})?>?\n|(Listen|Include|Require|ProxyPass) [a-z:/0-9\"' \\\\]{0,20}\n|\\PC{0,30}\n){0,10}") {
            read(&[("/etc/apache2/apache2.conf", &text)]);
        }
    }
}
