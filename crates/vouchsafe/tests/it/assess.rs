//! A look at a host through the real binary: for people, for programs, as a page, and as drafts that are applied.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use serde_json::Value;

use crate::chrome::Chrome;
use crate::peers::{Ran, run};
use crate::world::{VOUCHSAFE, World};

/// A host as it is often met. What stands behind `CANARY` is secret.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "shop1\n"),
    ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nann:x:1001:1001:<b>Ann</b>:/home/ann:/bin/bash\n"),
    ("etc/shadow", "root:*:19000:0:99999:7:::\nann:$1$CANARY$x:15000:0:99999:7:::\n"),
    ("etc/group", "root:x:0:\ndocker:x:998:ann\n"),
    ("etc/sudoers", "ann ALL=(ALL) NOPASSWD: ALL\nnonsense\n"),
    ("etc/ssh/sshd_config", "PermitRootLogin yes\nAllowGroups staff\n"),
    ("etc/postgresql/15/main/postgresql.conf", "listen_addresses = '*'\nssl = on\nlog_connections = on\n"),
    (
        "etc/postgresql/15/main/pg_hba.conf",
        "local all postgres peer\nhost all all 10.0.0.0/8 ldap ldapserver=x ldapbindpasswd=CANARY\n",
    ),
    ("etc/nginx/nginx.conf", "http { ssl_protocols TLSv1.2 TLSv1.3; include sites-enabled/*; }\n"),
    (
        "etc/nginx/sites-available/wiki",
        "server { listen 80; server_name wiki.example; return 301 https://$host$request_uri; }\n\
         server { listen 443 ssl; server_name wiki.example; location / { proxy_pass http://10.0.0.7:8080; } }\n\
         server { listen 127.0.0.1:8080; server_name \"<script>alert(1)</script>\"; location / { proxy_pass http://127.0.0.1:3000; } }\n",
    ),
    (
        "etc/nftables.conf",
        "table inet filter {\n chain input {\n  type filter hook input priority 0; policy drop;\n  tcp dport { 80, 443 } accept\n\
         ip saddr 10.0.0.0/8 tcp dport { 22, 5432 } accept\n }\n}\n",
    ),
];

/// What `ss -tulpn` prints there.
const SS: &str = "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n\
    tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n\
    tcp LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:((\"nginx\",pid=2,fd=6))\n\
    tcp LISTEN 0 511 0.0.0.0:443 0.0.0.0:* users:((\"nginx\",pid=2,fd=7))\n\
    tcp LISTEN 0 511 127.0.0.1:8080 0.0.0.0:* users:((\"nginx\",pid=2,fd=8))\n\
    tcp LISTEN 0 244 0.0.0.0:5432 0.0.0.0:* users:((\"postgres\",pid=3,fd=5))\n\
    tcp LISTEN 0 511 127.0.0.1:6379 0.0.0.0:* users:((\"redis-server\",pid=4,fd=5))\n";

fn host(dir: &Path) {
    for (path, text) in FILES {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    fs::create_dir(dir.join("etc/nginx/sites-enabled")).expect("made");
    symlink("/etc/nginx/sites-available/wiki", dir.join("etc/nginx/sites-enabled/wiki")).expect("linked");
}

/// Every path below a folder, with what a change would show in.
fn state(dir: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let meta = path.symlink_metadata().expect("metadata");
            found.push((path.display().to_string(), meta.ino(), meta.mtime_nsec(), meta.ctime_nsec()));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn assess(arguments: &[&str]) -> Ran {
    run(VOUCHSAFE, &[&["assess"], arguments].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_looked_at_and_nothing_of_it_changes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (root, ss, earlier) = (path("host"), path("ss.txt"), path("earlier.json"));
    host(Path::new(&root));
    fs::write(&ss, SS).expect("written");
    let before = state(Path::new(&root));

    let ran = assess(&["--root", &root, "--ss", &ss, "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    fs::write(&earlier, &ran.out).expect("written");
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let found =
        |id: &str| findings.iter().find(|found| found["id"] == id).unwrap_or_else(|| panic!("{id}: {findings:#?}"));
    assert_eq!(found("sudo-no-password")["evidence"][0]["line"], 1);
    assert_eq!(found("account-weak-hash")["severity"], "high");
    assert_eq!(found("pg-cleartext-password")["evidence"][0]["file"], "/etc/postgresql/15/main/pg_hba.conf");
    assert!(!ran.out.contains("CANARY"), "a secret is shown");
    let gaps = report["gaps"].as_array().expect("gaps");
    assert!(gaps.iter().any(|gap| gap["file"] == "/etc/sudoers" && gap["line"] == 2), "{gaps:#?}");
    let service = |port: u64| {
        report["services"].as_array().expect("services").iter().find(|service| service["port"] == port).cloned()
    };
    assert_eq!(service(5432).expect("PostgreSQL")["networks"][0], "10.0.0.0/8");
    assert_eq!(service(6379).expect("Redis")["who"], "this-host");

    // For people: nothing wider than it may be, and nothing that a terminal would obey.
    let ran = assess(&["--root", &root, "--ss", &ss, "--all"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("sudo-no-password") && ran.out.contains("/etc/sudoers:1"), "{}", ran.out);
    assert!(!ran.out.contains("CANARY") && !ran.out.contains('\u{1b}'));

    // One thing is mended.
    let sudoers = Path::new(&root).join("etc/sudoers");
    assert_eq!(state(Path::new(&root)), before);
    fs::write(&sudoers, "ann ALL=(ALL) ALL\n").expect("written");
    let ran = assess(&["--root", &root, "--ss", &ss, "--baseline", &earlier, "--json"]).await;
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["progress"]["solved"][0]["id"], "sudo-no-password", "{}", report["progress"]);
    assert_eq!(report["progress"]["new"][0]["id"], "sudo-everything");

    // What can't be used is said, and nothing is written over.
    for (arguments, words) in [
        (["--root", "/nonexistent", "--all"], "can't look at"),
        (["--root", root.as_str(), "--baseline=/etc/hostname"], "can't compare"),
        (["--root", root.as_str(), "--drafts=/etc"], "is not empty"),
    ] {
        let ran = assess(&arguments).await;
        assert!(ran.code == 1 && ran.err.contains(words), "{arguments:?}: {} {}", ran.code, ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_applied_and_the_page_is_read_in_a_browser() {
    let world = World::start().await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (root, ss, page, drafts) = (path("host"), path("ss.txt"), path("report.html"), path("drafts"));
    host(Path::new(&root));
    fs::write(&ss, SS).expect("written");
    let ran = assess(&["--root", &root, "--ss", &ss, "--html", &page, "--drafts", &drafts, "--owner", "ann"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(fs::metadata(&page).expect("the page").mode() & 0o777, 0o600);

    let (code, out, err) = world.cli(&world.state_dir(), &["apply", "-f", &drafts, "--yes"]).await;
    assert!(code != 0 && err.contains("ann"), "somebody who exists answers for what observes: {out}{err}");
    let (code, _, err) = world.cli(&world.state_dir(), &["user", "add", "ann"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = world.cli(&world.state_dir(), &["apply", "-f", &drafts, "--yes"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let (_, out, _) = world.cli(&world.state_dir(), &["resource", "list", "--json"]).await;
    let resources: Value = serde_json::from_str(&out).expect("JSON");
    let upstream = |name: &str| {
        let list = resources.as_array().expect("a list");
        list.iter().find(|resource| resource["name"] == name).map(|found| found["upstream"].clone())
    };
    let observing = |name: &str| {
        let list = resources.as_array().expect("a list");
        list.iter().any(|resource| resource["name"] == name && resource["mode"] == "observe")
    };
    assert!(observing("postgres"), "its networks are known: {resources}");
    assert_eq!(upstream("ssh"), Some("127.0.0.1:22".into()), "{resources}");
    assert_eq!(upstream("postgres"), Some("127.0.0.1:5432".into()));
    assert_eq!(upstream("wiki"), Some("https://wiki.example:443".into()));
    assert_eq!(upstream("web-8080"), Some("http://127.0.0.1:8080".into()));

    let chrome = Chrome::start(&world).await;
    chrome.open(&format!("file://{page}")).await;
    let text = chrome.text().await;
    assert!(text.contains("How far is shop1 from zero trust?") && text.contains("<script>alert(1)</script>"), "{text}");
    assert!(
        chrome.script("getComputedStyle(document.querySelector('section')).borderRadius").await == "14px",
        "the style counts"
    );
    chrome.look("assess").await;
    chrome.finish(&[]).await;
}
