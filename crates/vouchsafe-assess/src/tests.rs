//! Whole looks at whole hosts, made up file by file.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::finding::{Area, Severity};
use crate::report::{Baseline, Who};

/// Unix seconds of the looks.
const NOW: u64 = 1_790_000_000;
/// Stands where secrets are.
const CANARY: &str = "hunter2canary";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text.replace("CANARY", CANARY)).unwrap();
}

/// A host on which much is wrong.
fn open_host(root: &Path) {
    for (path, text) in [
        ("/etc/hostname", "db1\n"),
        ("/etc/os-release", "ID=debian\nVERSION_ID=\"10\"\nPRETTY_NAME=\"Debian GNU/Linux 10 (buster)\"\n"),
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nann:x:1001:1001:<script>alert(1)</script>:/home/ann:/bin/bash\n\
             bob:x:1002:1002::/home/bob:/bin/bash\n",
        ),
        ("/etc/shadow", "root:*:19000:0:99999:7:::\nann:$1$CANARY$abc:15000:0:99999:7:::\nbob::19000:0:99999:7:::\n"),
        ("/etc/group", "root:x:0:\ndocker:x:998:ann\nann:x:1001:\n"),
        ("/etc/sudoers", "Defaults env_reset\nann ALL=(ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n"),
        ("/etc/sudoers.d/backup", "bob ALL=(root) NOPASSWD: /usr/bin/rsync *\n"),
        ("/etc/sudoers.d/old.bak", "everybody ALL=(ALL) NOPASSWD: ALL\n"),
        (
            "/etc/ssh/sshd_config",
            "PermitRootLogin yes\nCiphers aes128-cbc,aes256-gcm@openssh.com\nMatch User bob\n  PermitEmptyPasswords yes\n",
        ),
        (
            "/home/ann/.ssh/authorized_keys",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS ann\n",
        ),
        (
            "/root/.ssh/authorized_keys",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS ann\nnonsense\n",
        ),
        ("/etc/postgresql/15/main/postgresql.conf", "listen_addresses = '*'\nport = 5432\nssl = off\n"),
        (
            "/etc/postgresql/15/main/pg_hba.conf",
            "local all all trust\nhost all all 0.0.0.0/0 md5\nhost app app 10.0.0.0/8 trust\nhost x x 10.0.0.0/8 ldap ldapbindpasswd=CANARY\nbroken line\n",
        ),
        ("/etc/nginx/nginx.conf", "http { include sites-enabled/*; }\n"),
        (
            "/etc/nginx/sites-available/wiki",
            "server {\n listen 80;\n server_name \"<img src=x>\" wiki.example;\n location / {\n  proxy_pass http://10.0.0.7:8080;\n\
             proxy_set_header Authorization \"Basic CANARY\";\n }\n}\n",
        ),
        ("/etc/docker/daemon.json", "{\"hosts\": [\"tcp://0.0.0.0:2375\"]}\n"),
        ("/var/lib/dpkg/status", "Package: x\nStatus: install ok installed\n\n"),
        ("/proc/sys/kernel/osrelease", "6.1.0-1-amd64\n"),
        (
            "/proc/net/tcp",
            "  sl  local_address rem_address   st\n\
             \x20  0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 101 1\n\
             \x20  1: 00000000:0050 00000000:0000 0A 0:0 0:0 0 0 0 102 1\n\
             \x20  2: 00000000:1538 00000000:0000 0A 0:0 0:0 0 0 0 103 1\n\
             \x20  3: 00000000:18EB 00000000:0000 0A 0:0 0:0 0 0 0 104 1\n\
             \x20  4: 0100007F:0BB8 00000000:0000 0A 0:0 0:0 0 0 0 105 1\n",
        ),
    ] {
        write(root, path, text);
    }
    fs::create_dir_all(root.join("etc/nginx/sites-enabled")).unwrap();
    symlink("/etc/nginx/sites-available/wiki", root.join("etc/nginx/sites-enabled/wiki")).unwrap();
    for (pid, name, inode) in
        [("11", "sshd", 101), ("12", "nginx", 102), ("13", "postgres", 103), ("14", "redis-server", 104)]
    {
        write(root, &format!("/proc/{pid}/comm"), &format!("{name}\n"));
        fs::create_dir_all(root.join(format!("proc/{pid}/fd"))).unwrap();
        symlink(format!("socket:[{inode}]"), root.join(format!("proc/{pid}/fd/3"))).unwrap();
    }
}

/// The same host, mended.
fn closed_host(root: &Path) {
    open_host(root);
    for (path, text) in [
        ("/etc/os-release", "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"),
        ("/etc/passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\nann:x:1001:1001::/home/ann:/bin/bash\n"),
        ("/etc/shadow", "root:*:19000:0:99999:7:::\nann:!:20000:0:99999:7:::\n"),
        ("/etc/group", "root:x:0:\nann:x:1001:\n"),
        ("/etc/sudoers", "%admins ALL=(ALL) ALL\n"),
        (
            "/etc/ssh/sshd_config",
            "PermitRootLogin no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowGroups ann\nDisableForwarding yes\n",
        ),
        ("/root/.ssh/authorized_keys", ""),
        (
            "/etc/postgresql/15/main/postgresql.conf",
            "listen_addresses = '*'\nssl = on\nlog_connections = on\nssl_cert_file = '/etc/ssl/db.pem'\n",
        ),
        ("/etc/postgresql/15/main/pg_hba.conf", "local all postgres peer\nhostssl app app 10.0.0.0/8 scram-sha-256\n"),
        (
            "/etc/nginx/sites-available/wiki",
            "server {\n listen 127.0.0.1:80;\n server_name wiki.example;\n location / { proxy_pass http://127.0.0.1:3000; }\n}\n",
        ),
        ("/etc/docker/daemon.json", "{}\n"),
        ("/etc/apt/apt.conf.d/20auto-upgrades", "APT::Periodic::Unattended-Upgrade \"1\";\n"),
        (
            "/etc/nftables.conf",
            "table inet filter {\n chain input {\n  type filter hook input priority 0; policy drop;\n  iif lo accept\n  ct state established,related accept\n\
             ip saddr 10.0.0.0/8 tcp dport { 22, 5432 } accept\n }\n}\n",
        ),
    ] {
        write(root, path, text);
    }
}

fn looked(make: fn(&Path)) -> Report {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    look(&Source::collected(dir.path()).unwrap(), &Options { now: NOW, ..Options::default() })
}

fn ids(report: &Report) -> Vec<&str> {
    let mut ids: Vec<&str> = report.findings.iter().map(|found| found.id).collect();
    ids.dedup();
    ids
}

#[test]
fn what_is_wrong_is_found_with_its_place() {
    let report = looked(open_host);
    let ids = ids(&report);
    for expected in [
        "account-as-root",
        "account-empty-password",
        "account-second-root",
        "account-weak-hash",
        "container-tcp-open",
        "firewall-none",
        "listen-data-store",
        "listen-everybody",
        "pg-dead-rule",
        "pg-every-database",
        "pg-everywhere",
        "pg-md5",
        "pg-no-connection-log",
        "pg-no-tls",
        "pg-tls-off",
        "pg-trust",
        "ssh-empty-passwords",
        "ssh-every-account",
        "ssh-forwarding",
        "ssh-key-of-root",
        "ssh-key-shared",
        "ssh-password-login",
        "ssh-root-login",
        "ssh-weak-algorithms",
        "sudo-no-password",
        "sudo-no-password-command",
        "sudo-wildcard",
        "system-end-of-life",
        "updates-not-automatic",
        "web-cleartext",
        "web-no-sign-in",
        "web-upstream-cleartext",
    ] {
        assert!(ids.contains(&expected), "{expected} is missing: {ids:?}");
    }
    let found = |id: &str| report.findings.iter().find(|found| found.id == id).unwrap();
    let seen = &found("sudo-no-password").evidence[0];
    assert_eq!(
        (seen.file.as_str(), seen.line, seen.text.as_str()),
        ("/etc/sudoers", Some(2), "ann ALL=(ALL) NOPASSWD: ALL")
    );
    assert_eq!(found("ssh-key-shared").evidence.len(), 3, "toor and root share a home: {:?}", found("ssh-key-shared"));
    assert!(
        !report.findings.iter().any(|found| found.subject.contains("everybody")),
        "sudo passes over files with a dot"
    );
    assert!(
        report
            .findings
            .iter()
            .all(|found| !found.evidence.is_empty() && !found.remedy.is_empty() && !found.pillars.is_empty())
    );
    assert!(report.findings.windows(2).all(|two| two[0].severity >= two[1].severity));
    // What can't be read is never fine.
    let gap = |area: Area, line: usize| report.gaps.iter().any(|gap| gap.area == area && gap.line == Some(line));
    assert!(gap(Area::Postgres, 5) && gap(Area::Ssh, 2), "{:#?}", report.gaps);
    let reach = |port: u16| report.services.iter().find(|service| service.port == port).unwrap().who;
    assert_eq!((reach(22), reach(6379), reach(3000)), (Who::Everybody, Who::Everybody, Who::ThisHost));
}

#[test]
fn no_secret_and_no_markup_gets_into_a_report() {
    let report = looked(open_host);
    let json = serde_json::to_string(&report).unwrap();
    let page = page(&report);
    for text in [&json, &page] {
        assert!(!text.contains(CANARY), "{:?}", text.find(CANARY).map(|at| &text[at.saturating_sub(200)..at + 20]));
    }
    assert!(!page.contains("<img") && !page.contains("<script"), "text from elsewhere is escaped");
    assert!(page.contains("&lt;img src=x&gt;"));
    assert!(page.contains("default-src 'none'; style-src 'sha256-") && !page.contains("style=\""));
    // Nothing is loaded from anywhere.
    for word in ["src=", "http-equiv=\"refresh\"", "@import", "url("] {
        assert!(!page.replace("src=x", "").contains(word), "{word}");
    }
}

#[test]
fn progress_is_shown_and_stages_rise() {
    let before = looked(open_host);
    let baseline = Baseline::parse(serde_json::to_string(&before).unwrap().as_bytes()).unwrap();
    let mut after = looked(closed_host);
    after.compare(&baseline);
    let progress = after.progress.clone().unwrap();
    assert!(progress.solved.len() > 20, "{progress:#?}");
    assert!(progress.solved.iter().any(|change| change.id == "pg-trust"));
    // The kernel of the made-up host is from no package, which leaves what is about updates open.
    assert!(progress.not_seen.iter().all(|change| !change.id.starts_with("sudo")));
    assert_eq!(progress.same + progress.new.len(), after.findings.len());
    // Nothing is open to others any more that applications would be judged by.
    for step in progress.pillars.iter().filter(|step| step.now.is_some()) {
        assert!(step.now >= step.then, "{step:?}");
    }
    assert!(progress.pillars.iter().filter(|step| step.now > step.then).count() >= 3, "{:#?}", progress.pillars);
    assert!(!after.findings.iter().any(|found| found.severity >= Severity::High), "{:#?}", after.findings);
    assert!(page(&after).contains("Since "));
    let mut same = looked(open_host);
    same.compare(&baseline);
    let progress = same.progress.unwrap();
    assert_eq!((progress.new.len(), progress.solved.len(), progress.same), (0, 0, same.findings.len()));
    assert!(Baseline::parse(b"{}").is_err() && Baseline::parse(b"[1").is_err());
}

#[test]
fn drafts_are_of_facts_and_ask_for_the_rest() {
    let report = looked(closed_host);
    let draft = |name: &str| {
        report.drafts.iter().find(|draft| draft.name == name).unwrap_or_else(|| panic!("{name}: {:#?}", report.drafts))
    };
    let database = draft("postgres");
    assert_eq!(database.upstream.as_deref(), Some("127.0.0.1:5432"));
    assert_eq!((database.from.len(), database.from_why.as_str()), (1, "by pg_hba.conf"));
    assert_eq!(draft("ssh").from_why, "by the firewall's saved rules");
    // nginx holds port 80 of every address, while its site wants one of them.
    assert_eq!(draft("wiki").upstream.as_deref(), Some("http://127.0.0.1:80"));
    for draft in &report.drafts {
        let text = draft.toml(None);
        let parsed: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let doc = draft.resource(None);
        assert_eq!(parsed.contains_key("resources"), doc.is_some(), "{text}");
        assert!(doc.is_none_or(|doc| doc.to_resource().is_ok()));
    }
}

#[test]
fn a_host_without_anything_is_not_called_safe() {
    let report = looked(|_| {});
    assert!(report.score.pillars.iter().filter(|pillar| pillar.stage.is_none()).count() >= 6, "{:#?}", report.score);
    assert!(!report.gaps.is_empty());
    assert!(!page(&report).is_empty());
}

#[test]
fn this_host_can_be_looked_at() {
    let report = look(&Source::host().unwrap(), &Options { now: NOW, ..Options::default() });
    assert!(report.areas.iter().any(|looked| looked.area == Area::Accounts && !looked.files.is_empty()));
    assert!(page(&report).len() > 1_000);
}

/// Copies a file or a folder of this machine into a root.
fn copy(root: &Path, path: &str) {
    let from = Path::new(path);
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap().flatten() {
            copy(root, &entry.path().display().to_string());
        }
    } else {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|error| panic!("{path}: {error}; run ./test, which installs it"));
    }
}

#[test]
fn configurations_of_debians_packages_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    for path in [
        "/etc/nginx/nginx.conf",
        "/etc/nginx/mime.types",
        "/etc/nginx/conf.d",
        "/etc/nginx/sites-available",
        "/etc/ssh/sshd_config",
        "/etc/passwd",
        "/etc/group",
    ] {
        copy(dir.path(), path);
    }
    fs::create_dir_all(dir.path().join("etc/nginx/modules-enabled")).unwrap();
    fs::create_dir_all(dir.path().join("etc/nginx/sites-enabled")).unwrap();
    symlink("../sites-available/default", dir.path().join("etc/nginx/sites-enabled/default")).unwrap();
    let sample = fs::read_dir("/usr/share/postgresql")
        .unwrap()
        .flatten()
        .find_map(|entry| fs::read_to_string(entry.path().join("postgresql.conf.sample")).ok());
    write(
        dir.path(),
        "/etc/postgresql/15/main/postgresql.conf",
        &sample.expect("PostgreSQL; run ./test, which installs it"),
    );
    let report = look(&Source::collected(dir.path()).unwrap(), &Options { now: NOW, ..Options::default() });
    let read = [Area::Nginx, Area::Ssh, Area::Postgres, Area::Accounts];
    let gaps: Vec<_> = report.gaps.iter().filter(|gap| read.contains(&gap.area)).collect();
    assert!(gaps.is_empty(), "{gaps:#?}");
    for area in read {
        assert!(report.areas.iter().any(|looked| looked.area == area && !looked.files.is_empty()), "{area:?}");
    }
}

#[test]
fn every_kind_of_finding_is_in_the_reference() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/findings.md");
    let text = fs::read_to_string(file).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    for kind in catalogue() {
        let pillars: Vec<&str> = kind.pillars.iter().map(|pillar| pillar.name()).collect();
        let row = format!(
            "| `{}` | {} | {} | {} | {} |",
            kind.id,
            kind.severity.word(),
            kind.title,
            kind.remedy,
            pillars.join(", ")
        );
        assert!(rows.contains(&row.as_str()), "the reference lacks or has outdated:\n{row}");
    }
    assert_eq!(rows.len(), catalogue().len(), "the reference has kinds that there are not");
}

#[test]
fn large_files_come_to_an_end_in_time_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    for (path, line) in [
        ("/etc/passwd", "a:x:0:0::/home/a:/bin/sh\n"),
        ("/etc/group", "docker:x:0:a,b\n"),
        ("/etc/sudoers", "a, b ALL=(ALL) NOPASSWD: ALL, /bin/x *\n"),
        ("/etc/ssh/sshd_config", "Match User a\nPermitRootLogin yes\n"),
        ("/etc/postgresql/15/main/pg_hba.conf", "host a,b a,b 10.0.0.0/8 trust\n"),
        ("/etc/postgresql/15/main/pg_ident.conf", "m /.* postgres\n"),
        ("/etc/nginx/nginx.conf", "http{server{listen 1 ssl;location /{proxy_pass http://h:1;}}}"),
        ("/etc/apache2/apache2.conf", "Listen 1\n<VirtualHost *:1>\nProxyPass / http://h/\n</VirtualHost>\n"),
        ("/etc/haproxy/haproxy.cfg", "frontend f\n bind :1\n default_backend f\nbackend f\n server a h:1\n"),
        ("/etc/caddy/Caddyfile", "a.b {\n reverse_proxy h:1\n}\n"),
        (
            "/etc/nftables.conf",
            "table inet f { chain c { type filter hook input priority 0; policy drop; jump c\n tcp dport { 1, 2 } accept\n}}\n",
        ),
        (
            "/etc/iptables/rules.v4",
            "*filter\n:INPUT DROP\n-A INPUT -j INPUT\n-A INPUT -p tcp -m limit --limit 1 -j ACCEPT\n",
        ),
        ("/proc/net/tcp", "x 00000000:0001 0:0 0A 0 0 0 0 0 1\n"),
    ] {
        write(dir.path(), path, &line.repeat((1 << 16) / line.len()));
    }
    let source = Source::collected(dir.path()).unwrap();
    let begun = std::time::Instant::now();
    let report = look(&source, &Options { now: NOW, ..Options::default() });
    let _ = page(&report);
    // Some seconds, of a build without optimisation on a machine that has other things to do.
    assert!(begun.elapsed() < std::time::Duration::from_secs(120), "{:?}", begun.elapsed());
    assert!(report.findings.len() > 20 && !report.gaps.is_empty());
}

#[test]
fn permissions_of_keys_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    closed_host(dir.path());
    write(dir.path(), "/etc/ssh/ssh_host_ed25519_key", CANARY);
    fs::set_permissions(dir.path().join("etc/ssh/ssh_host_ed25519_key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(dir.path().join("home/ann/.ssh"), fs::Permissions::from_mode(0o777)).unwrap();
    let report = look(&Source::collected(dir.path()).unwrap(), &Options { now: NOW, ..Options::default() });
    let ids = ids(&report);
    assert!(ids.contains(&"ssh-host-key-readable") && ids.contains(&"ssh-keys-writable"), "{ids:?}");
    assert!(!serde_json::to_string(&report).unwrap().contains(CANARY));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Bytes in the place of any of the host's files.
    #[test]
    fn no_host_is_too_broken(at in 0..40_usize, bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..400_usize) {
        let dir = tempfile::tempdir().unwrap();
        open_host(dir.path());
        let mut files = Vec::new();
        let mut folders = vec![dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() { folders.push(entry.path()) } else if kind.is_file() { files.push(entry.path()) }
            }
        }
        files.sort();
        let file = &files[at % files.len()];
        let mut text = fs::read(file).unwrap();
        text.truncate(cut);
        text.extend(bytes);
        fs::write(file, text).unwrap();
        let report = look(&Source::collected(dir.path()).unwrap(), &Options { now: NOW, ..Options::default() });
        let _ = page(&report);
        prop_assert!(serde_json::to_string(&report).is_ok());
    }
}
