//! The guide's proxies take away what we take away: the names are kept in one place, and these tests fail where a file of
//! the guide doesn't follow.

use std::collections::BTreeSet;

use super::*;

const NGINX: &str = include_str!("../../../../../docs/guide/existing-proxies/nginx.conf");
const NGINX_STRIP: &str = include_str!("../../../../../docs/guide/existing-proxies/vouchsafe-strip.conf");
const NGINX_PROXY: &str = include_str!("../../../../../docs/guide/existing-proxies/vouchsafe-proxy.conf");
const CADDY: &str = include_str!("../../../../../docs/guide/existing-proxies/Caddyfile");
const GUIDE: &str = include_str!("../../../../../docs/guide/existing-proxies.md");

/// What stands between two texts.
fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, behind) = text.split_once(start).unwrap_or_else(|| panic!("no {start:?}"));
    behind.split_once(end).unwrap_or_else(|| panic!("no {end:?} behind {start:?}")).0
}

/// The fields that lines of nginx set or clear.
fn set_by_nginx(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("proxy_set_header "));
    let names = lines.filter_map(|line| line.split_whitespace().next()).map(str::to_ascii_lowercase);
    let (mut once, mut all) = (BTreeSet::new(), Vec::new());
    all.extend(names);
    assert!(all.iter().all(|name| once.insert(name.clone())), "set twice: {all:?}");
    once
}

/// Each of our names is there, and of each beginning at least one; nothing is there that we let through, or that the gateway
/// has to see.
fn follows(taken: &BTreeSet<String>, whose: &str) {
    for name in STRIPPED {
        assert!(taken.contains(*name), "{whose} doesn't take `{name}` away");
    }
    for prefix in STRIPPED_PREFIXES {
        assert!(taken.iter().any(|name| name.starts_with(prefix)), "{whose} takes nothing away that begins `{prefix}`");
    }
    for name in taken {
        let name: HeaderName = name.parse().unwrap();
        assert!(!redirects(&name), "{whose} hides `{name}` from the gateway, which refuses it");
    }
}

#[test]
fn nginx_takes_away_what_we_take_away() {
    let question = between(NGINX, "location = /vouchsafe-check {", "\n    }");
    let app = between(NGINX, "location / {", "\n    }");
    assert!([question, app].iter().all(|block| block.contains("include vouchsafe-strip.conf;")));
    let strip = set_by_nginx(NGINX_STRIP);
    for name in &strip {
        let line = format!("proxy_set_header {name} \"\";");
        assert!(NGINX_STRIP.to_ascii_lowercase().contains(&line), "{line}");
        assert!(is_stripped(&name.parse().unwrap()), "the gateway itself lets `{name}` through");
    }
    let with = |block: &str| set_by_nginx(&[block, NGINX_STRIP].join("\n"));
    let (question, app) = (with(&[question, NGINX_PROXY].join("\n")), with(app));
    follows(&app, "nginx, in front of the app,");
    follows(&question, "nginx, in front of the question,");
    let hidden: Vec<_> = question.difference(&app).filter(|name| is_stripped(&name.parse().unwrap())).collect();
    assert!(hidden.is_empty(), "neither seen by the gateway nor taken away: {hidden:?}");
}

#[test]
fn traefik_takes_away_what_we_take_away() {
    let strip = between(GUIDE, "vouchsafe-strip:", "}");
    let names = strip.split([',', '{', '\n']).filter_map(|part| part.trim().strip_suffix(": \"\""));
    let taken: BTreeSet<String> = names.map(str::to_ascii_lowercase).collect();
    follows(&taken, "Traefik");
    for name in &taken {
        assert!(is_stripped(&name.parse().unwrap()), "the gateway itself lets `{name}` through");
    }
    assert!(GUIDE.contains("[vouchsafe-strip, vouchsafe-proof, vouchsafe-check, vouchsafe-clean]"));
    // What nginx has to name, so has Traefik.
    let missing: Vec<String> = set_by_nginx(NGINX_STRIP).difference(&taken).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn caddy_takes_away_what_we_take_away() {
    let lines = between(CADDY, "(vouchsafe-strip) {", "\n}").lines();
    let patterns: Vec<String> = lines
        .filter_map(|line| line.trim().strip_prefix("request_header -"))
        .map(|pattern| pattern.trim().to_ascii_lowercase())
        .collect();
    // Whether it takes away all that begin so, or the one name itself.
    let takes = |start: &str, end: &str| {
        patterns.iter().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(_), Some(_)) => start.contains(pattern.trim_matches('*')),
            (None, Some(prefix)) => start.starts_with(prefix),
            (Some(_), None) => false,
            (None, None) => end.is_empty() && start == pattern,
        })
    };
    assert!(STRIPPED.iter().all(|name| takes(name, "")), "{:?}", STRIPPED.iter().find(|name| !takes(name, "")));
    for prefix in STRIPPED_PREFIXES {
        assert!(takes(prefix, "*"), "Caddy doesn't take away all that begins `{prefix}`");
    }
    for name in REDIRECTING.iter().chain(REDIRECTING_PREFIXES).filter(|name| !name.starts_with("x-envoy-")) {
        assert!(!takes(name, "") && !takes(name, "*"), "Caddy hides `{name}` from the gateway, which refuses it");
    }
    assert!(takes("a_b", ""), "another spelling");
    let first = between(CADDY, "route {", "reverse_proxy");
    assert!(first.contains("import vouchsafe-strip"), "before anything else");
}
