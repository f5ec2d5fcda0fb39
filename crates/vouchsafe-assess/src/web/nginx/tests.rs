//! The reader against nginx itself, and sites as they are judged.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn read(files: &[(&str, &str)]) -> (Vec<Site>, Notes) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    let mut notes = Notes::default();
    let sites = look(&Source::collected(dir.path()).unwrap(), &mut notes);
    (sites, notes)
}

/// Configurations with what is hard about them; `DIR` is their folder.
const MAIN: &str = "pid DIR/pid; error_log stderr;\nevents {}\nhttp {\n  access_log off; # quiet\n  include DIR/conf.d/*.conf;\n  include \"DIR/sites/[a-b]*\";\n  \
    map $host $x { default 'a;b{'; ~^x\\{2\\} \"y\\\"}\"; }\n  server { listen 127.0.0.1:1; server_name ${host}x; return 200 \"{}\"; include DIR/snippets/one; }\n}\n";

#[test]
fn nginx_reads_the_same_files_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display().to_string();
    let files = [
        ("/nginx.conf", MAIN),
        ("/conf.d/z.conf", "server { listen 127.0.0.1:2; include DIR/snippets/*; }"),
        ("/conf.d/a.conf", "# nothing\n"),
        ("/conf.d/not.txt", "broken {"),
        ("/sites/b", "server { listen 127.0.0.1:3; location / { include DIR/snippets/one; } }"),
        ("/sites/a", "server\n{\nlisten 127.0.0.1:4 ;}"),
        ("/sites/c", "broken"),
        ("/snippets/one", "add_header X 1;"),
        ("/snippets/two", "add_header Y 1;\n"),
    ];
    let files: Vec<(&str, String)> = files.iter().map(|(path, text)| (*path, text.replace("DIR", &place))).collect();
    write(dir.path(), &files.iter().map(|(path, text)| (*path, text.as_str())).collect::<Vec<_>>());
    let output = Command::new("/usr/sbin/nginx")
        .args(["-T", "-q", "-p", &place, "-c"])
        .arg(dir.path().join("nginx.conf"))
        .output();
    let output = output.expect("nginx; run ./test, which installs it");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut theirs: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# configuration file ")?.strip_suffix(':'))
        .map(str::to_owned)
        .collect();
    assert!(output.status.success() && theirs.len() > 5, "{}", String::from_utf8_lossy(&output.stderr));
    let mut notes = Notes::default();
    let source = Source::host().unwrap();
    let mut mine = files_read(&source, &format!("{place}/nginx.conf"), &mut notes);
    assert_eq!(notes.gaps, []);
    // nginx prints each file once.
    let mut seen = Vec::new();
    mine.retain(|file| {
        !seen.contains(file) && {
            seen.push(file.clone());
            true
        }
    });
    theirs.retain(|file| file.starts_with(&place));
    assert_eq!(mine, theirs);
}

#[test]
fn sites_are_read_with_what_is_around_them() {
    let (sites, notes) = read(&[
        (
            "/etc/nginx/nginx.conf",
            "http {\n ssl_protocols TLSv1 TLSv1.2;\n upstream app { server 10.0.0.7:8080; server unix:/x; }\n include sites-enabled/*;\n}\n\
             stream { server { listen 5432; proxy_pass 10.0.0.9:5432; } }\n",
        ),
        (
            "/etc/nginx/sites-enabled/a",
            "server { listen 80 default_server; listen [::]:80; server_name a.example; return 301 https://$host$request_uri; }\n\
             server { listen 443 ssl; server_name a.example www.a.example; ssl_certificate /etc/ssl/a.pem; ssl_certificate_key a.key;\n\
             auth_basic \"x\"; location / { proxy_pass http://app; } location /open { auth_basic off; proxy_pass https://10.0.0.8; }\n\
             location /status { stub_status; auth_basic off; } }\n\
             server { listen 127.0.0.1:8080; allow 10.0.0.0/8; deny all; root /srv; autoindex on; access_log off; }\n",
        ),
    ]);
    assert_eq!(notes.gaps, []);
    assert!(sites[0].only_redirects && sites[0].binds.iter().all(|bind| bind.is_default));
    let site = &sites[1];
    assert_eq!((site.binds[0].port, site.binds[0].tls, site.old_tls.is_some()), (443, true, true));
    assert_eq!(
        site.upstreams.iter().map(|one| (one.host.as_str(), one.port, one.verified)).collect::<Vec<_>>(),
        [("10.0.0.7", 8080, None), ("10.0.0.8", 443, Some(false))]
    );
    assert!(site.sign_in.is_empty() && site.asks_somewhere);
    assert_eq!(site.certificates[0].key.as_deref(), Some("/etc/nginx/a.key"));
    assert_eq!(site.open_status.len(), 1);
    assert_eq!(sites[2].only_from, Some(vec!["10.0.0.0/8".parse().unwrap()]));
    assert!(!sites[2].logs && sites[2].listings.len() == 1 && sites[2].binds[0].is_local());
    assert!(sites[3].is_stream && sites[3].upstreams[0].port == 5432);
}

#[test]
fn broken_files_are_named_and_the_rest_is_read() {
    for (text, line) in [
        ("http {\n server {\n", 3),
        ("http { server { listen 80 } }\n", 1),
        ("}\n", 1),
        ("http {\n include gone.conf;\n}\n", 2),
        ("http { server_name \"open\n", 2),
        ("events\n", 2),
        (";\n", 1),
    ] {
        let (_, notes) = read(&[("/etc/nginx/nginx.conf", text)]);
        assert_eq!(notes.gaps.first().and_then(|gap| gap.line), Some(line), "{text}");
    }
    let (sites, notes) = read(&[
        ("/etc/nginx/nginx.conf", "http { include conf.d/*; }"),
        ("/etc/nginx/conf.d/a", "server { listen 81; "),
        ("/etc/nginx/conf.d/b", "server { listen 82; }"),
    ]);
    assert_eq!(sites.iter().map(|site| site.binds[0].port).collect::<Vec<_>>(), [81, 82]);
    assert_eq!(notes.gaps.len(), 1);
    let (_, notes) = read(&[("/etc/nginx/nginx.conf", "include nginx.conf;")]);
    assert!(notes.gaps.iter().any(|gap| gap.why.contains("include each other")));
    let (_, notes) = read(&[("/etc/nginx/nginx.conf", &"a {".repeat(5_000))]);
    assert!(notes.gaps.iter().any(|gap| gap.why.contains("too deep")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_file_is_too_broken(text in "(http \\{|server \\{|location / \\{|\\}|;|(listen|proxy_pass|include|return|x_by_lua_block) [a-z0-9:./\\[\\]$\\{\\}\"'\\\\ ]{0,20};?|\\PC{0,20}){0,12}") {
        read(&[("/etc/nginx/nginx.conf", &text)]);
    }
}
