use std::fs;

use proptest::prelude::*;

use super::*;

fn read(files: &[(&str, &str)]) -> (Firewall, Notes) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut notes = Notes::default();
    let firewall = look(&Source::collected(dir.path()).unwrap(), &mut notes);
    (firewall, notes)
}

fn only(nets: &[&str]) -> Reach {
    Reach::Only(nets.iter().map(|net| net.parse().unwrap()).collect())
}

const NFT: &str = r#"#!/usr/sbin/nft -f
flush ruleset
define OFFICE = { 203.0.113.0/24, 198.51.100.7 }
table inet filter {
    set admins {
        type ipv4_addr; flags interval
        elements = { 10.9.0.0/16 }
    }
    chain services { tcp dport { 80, 443 } accept; }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname "lo" accept
        icmp type { echo-request } accept
        ip saddr $OFFICE tcp dport 22 counter packets 0 bytes 0 accept comment "from the office"
        ip saddr @admins tcp dport 5432 accept
        udp dport 53 log prefix "dns " accept
        tcp dport 9000-9010 limit rate 3/second accept
        jump services
        log prefix "dropped: " drop
    }
    chain forward { type filter hook forward priority 0; policy accept; }
}
"#;

#[test]
fn nftables_open_what_they_name() {
    let (firewall, notes) = read(&[("/etc/nftables.conf", NFT)]);
    assert_eq!(notes.gaps, []);
    let reach = |port| firewall.reach(Protocol::Tcp, port, false);
    assert_eq!(reach(22), only(&["203.0.113.0/24", "198.51.100.7/32"]));
    assert_eq!(reach(5432), only(&["10.9.0.0/16"]));
    assert_eq!(reach(443), Reach::Everybody);
    assert_eq!(reach(9005), Reach::Unknown);
    assert_eq!(reach(3000), Reach::Nobody);
    assert_eq!(firewall.reach(Protocol::Udp, 53, true), Reach::Everybody);
    // The office has no address of IPv6.
    assert_eq!(firewall.reach(Protocol::Tcp, 22, true), Reach::Nobody);
    assert!(!notes.has(&kinds::FIREWALL_ACCEPTS) && !notes.has(&kinds::FIREWALL_NONE));
}

#[test]
fn what_is_accepted_by_default_is_found() {
    let empty = "table inet filter {\n chain input {\n  type filter hook input priority filter;\n }\n}\n";
    let (_, notes) = read(&[("/etc/nftables.conf", empty)]);
    assert!(notes.has(&kinds::FIREWALL_ACCEPTS));
    let closed_at_the_end = "table inet f {\n chain input {\n  type filter hook input priority 0; policy accept;\n  tcp dport ssh accept\n  reject with icmpx type port-unreachable\n }\n}\n";
    let (firewall, notes) = read(&[("/etc/nftables.conf", closed_at_the_end)]);
    assert!(!notes.has(&kinds::FIREWALL_ACCEPTS));
    assert_eq!(firewall.reach(Protocol::Tcp, 22, true), Reach::Everybody);
    assert!(read(&[]).1.has(&kinds::FIREWALL_NONE));
}

#[test]
fn iptables_follow_jumps_and_sources() {
    let v4 = "# x\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:office - [0:0]\n\
        -A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A INPUT -p tcp -m multiport --dports 80,443 -m comment --comment \"the web\" -j ACCEPT\n\
        -A INPUT -s 10.0.0.0/8 -j office\n-A office -p tcp -m tcp --dport 22 -j ACCEPT\n\
        -A INPUT -i eth1 -p tcp --dport 6379 -j ACCEPT\nCOMMIT\n";
    let (firewall, notes) = read(&[("/etc/iptables/rules.v4", v4)]);
    assert_eq!(notes.gaps, []);
    let reach = |port| firewall.reach(Protocol::Tcp, port, false);
    assert_eq!(reach(443), Reach::Everybody);
    assert_eq!(reach(22), only(&["10.0.0.0/8"]));
    assert_eq!(reach(6379), Reach::Unknown);
    assert_eq!(reach(25), Reach::Nobody);
    // Nothing is said of IPv6.
    assert_eq!(firewall.reach(Protocol::Tcp, 25, true), Reach::Everybody);
    assert_eq!(notes.findings.iter().map(|found| found.subject.as_str()).collect::<Vec<_>>(), ["IPv6"]);
    let but = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT ! -s 10.0.0.0/8 -p tcp --dport 5432 -j DROP\n-A INPUT -p tcp --bad\nCOMMIT\n";
    let (firewall, _) = read(&[("/etc/iptables/rules.v4", but)]);
    assert_eq!(firewall.reach(Protocol::Tcp, 5432, false), only(&["10.0.0.0/8"]));
    // What a line that isn't understood opens is not known.
    let (firewall, notes) = read(&[("/etc/iptables/rules.v4", &but.replace("COMMIT", "-I INPUT -j ACCEPT\nCOMMIT"))]);
    assert_eq!(firewall.reach(Protocol::Tcp, 5432, false), Reach::Unknown);
    assert_eq!(notes.gaps.iter().map(|gap| gap.line).collect::<Vec<_>>(), [Some(5)]);
}

#[test]
fn rules_that_are_not_read_are_no_yes() {
    let (firewall, notes) = read(&[("/etc/ufw/ufw.conf", "ENABLED=yes\n")]);
    assert_eq!(firewall.reach(Protocol::Tcp, 22, false), Reach::Unknown);
    assert!(!notes.has(&kinds::FIREWALL_NONE) && notes.gaps.len() == 1);
}

#[test]
fn chains_in_a_circle_end() {
    let circle = "*filter\n:INPUT DROP [0:0]\n-A INPUT -j a\n-A a -j a\n-A a -j a\n-A a -j a\nCOMMIT\n";
    let (firewall, _) = read(&[("/etc/iptables/rules.v4", circle)]);
    assert_eq!(firewall.reach(Protocol::Tcp, 22, false), Reach::Unknown);
}

proptest! {
    #[test]
    fn no_rules_are_too_broken(text in "((-A|:)(INPUT|x)( (-[spij]|!|--dport|--ctstate) [a-z0-9./,:\"]{0,12}){0,4}\n|\\PC{0,40}\n){0,6}") {
        let (set, _) = iptables::read("f", &format!("*filter\n{text}"), false);
        let firewall = Firewall { rulesets: vec![set], ..Firewall::default() };
        let _ = firewall.reach(Protocol::Tcp, 22, false);
    }

    #[test]
    fn no_tables_are_too_broken(text in "((table|chain|set|tcp dport|ip saddr|ct state|iif|log|counter|elements) [a-z0-9{},;$@!= \"\n]{0,20}|\\PC{0,30}\n){0,8}") {
        nft::any_words(&text);
    }
}
