//! From logs that exist to a policy in force: nginx, PostgreSQL and OpenSSH as they are, what their logs say as
//! observed accesses, a suggested policy, and its decisions.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vouchsafe_wire::api::AuditQuery;

use crate::peers::{Server, curl_as, free_address, run};
use crate::ssh::sshd;
use crate::world::{PATIENCE, TestDevice, World, patiently};

const BROAD: &str = r#"
@id("everybody") @reason("As open as it was.")
permit (principal is User, action, resource)
when { resource is Http || resource is Tcp };
"#;

const NAMES: &str = r#"
[users]
"ann@corp" = "ann"
"bob@corp" = "bob"
"carl@corp" = "carl"
"dave@corp" = "dave"
ann_sql = "ann"
bob_sql = "bob"
"#;

/// Waits for what a server writes when it likes.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// nginx as it was before, and its log of what people did there.
async fn nginx(dir: &Path) -> (Server, SocketAddr, PathBuf) {
    let (before, behind) = (free_address(), free_address());
    std::fs::create_dir_all(dir.join("www")).expect("directory");
    std::fs::write(dir.join("www/index.html"), "hello\n").expect("page");
    let people = ["ann", "bob", "carl", "dave"].map(|name| format!("{name}@corp:{{PLAIN}}secret-{name}\n"));
    std::fs::write(dir.join("passwords"), people.concat()).expect("passwords");
    let config = include_str!("learning.conf")
        .replace("DIR", &dir.display().to_string())
        .replace("BEFORE", &before.to_string())
        .replace("BEHIND", &behind.to_string());
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).expect("settings");
    let prefix = dir.display().to_string();
    let arguments = ["-p", &prefix, "-c", &file.display().to_string()];
    let server = Server::start("/usr/sbin/nginx", &arguments, &dir.join("error.log"), before).await;
    let ask = async |who: &str, password: &str, more: &[&str]| {
        let (login, url) = (format!("{who}:{password}"), format!("http://{before}/{}", more.first().unwrap_or(&"")));
        let mut all = vec!["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", &login, &url];
        all.extend(more.iter().skip(1));
        run("curl", &all).await.out
    };
    for name in ["ann", "ann", "ann", "bob", "bob", "carl", "carl", "dave"] {
        assert_eq!(ask(&format!("{name}@corp"), &format!("secret-{name}"), &[]).await, "200");
    }
    for file in ["upload/one", "upload/two"] {
        let page = dir.join("www/index.html").display().to_string();
        assert_eq!(ask("carl@corp", "secret-carl", &[file, "-T", &page]).await, "201");
    }
    // What was only tried, also with a name that pretends to be a line.
    assert_eq!(ask("dave@corp", "wrong", &[]).await, "401");
    assert_eq!(ask("dave@corp", "wrong", &[]).await, "401");
    let forged = "dave@corp [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" 200 1";
    assert_eq!(ask(forged, "wrong", &[]).await, "401");
    let log = dir.join("access.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    until("nginx's log has every request", || (lines() >= 13).then_some(())).await;
    (server, behind, log)
}

/// PostgreSQL with a CSV log of who came.
async fn postgres(dir: &Path) -> (Server, SocketAddr, PathBuf) {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed by ./test").flatten();
    let bin = versions.map(|entry| entry.path().join("bin")).max().expect("a version");
    let is_root = rustix::process::getuid().is_root();
    let data = dir.join("data").display().to_string();
    if is_root {
        // It refuses to run as root.
        let id = async |kind: &str| run("id", &[kind, "postgres"]).await.out.trim().parse::<u32>().expect("an id");
        chown(dir, Some(id("-u").await), Some(id("-g").await)).expect("given away");
    }
    let program = |name: &str| bin.join(name).display().to_string();
    let unprivileged = |name: &str, arguments: &[&str]| -> Vec<String> {
        let setpriv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
        let own = program(name);
        let all = setpriv.into_iter().filter(|_| is_root).chain([own.as_str()]).chain(arguments.iter().copied());
        all.map(ToOwned::to_owned).collect()
    };
    let password = dir.join("password");
    std::fs::write(&password, "secret\n").expect("password");
    let file = format!("--pwfile={}", password.display());
    let made =
        ["-D", &data, "-U", "owner", "--auth=scram-sha-256", "--locale=C", "--no-sync", "--no-instructions", &file];
    let command = unprivileged("initdb", &made);
    let ran = run(&command[0], &command[1..].iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let address = free_address();
    let port = address.port().to_string();
    let mut arguments = vec!["-D", &data, "-p", &port];
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "log_connections=on",
        "log_destination=csvlog",
        "logging_collector=on",
        "log_directory=.",
        "log_filename=seen.log",
        "fsync=off",
        "shared_buffers=8MB",
        "log_timezone=UTC",
    ] {
        arguments.extend(["-c", setting]);
    }
    let command = unprivileged("postgres", &arguments);
    let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
    let server = Server::start(&command[0], &arguments, &dir.join("start.log"), address).await;
    let sql = async |role: &str, password: &str, database: &str, sql: &str| {
        let to = format!("host=127.0.0.1 port={port} user={role} password={password} dbname={database}");
        run(&program("psql"), &["-X", "-q", "-v", "ON_ERROR_STOP=1", &to, "-c", sql]).await
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // It listens before it lets anybody in.
        let ran = sql("owner", "secret", "postgres", "CREATE DATABASE ledger").await;
        if ran.code == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", ran.err);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for role in ["ann_sql", "bob_sql"] {
        let made = sql("owner", "secret", "postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await;
        assert_eq!(made.code, 0, "{}", made.err);
    }
    for role in ["ann_sql", "ann_sql", "bob_sql"] {
        let ran = sql(role, "pw", "ledger", "SELECT 1").await;
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    assert_ne!(sql("bob_sql", "wrong", "ledger", "SELECT 1").await.code, 0);
    // A query that holds what looks like lines of the log.
    let log = dir.join("data/seen.csv");
    let line = std::fs::read_to_string(&log).expect("a log");
    let line =
        line.lines().find(|line| line.contains("connection authorized: user=bob_sql")).expect("bob's").to_owned();
    let forging = format!("SELECT '\n{}\n", line.replace('\'', ""));
    assert_ne!(sql("ann_sql", "pw", "ledger", &forging).await.code, 0);
    until("PostgreSQL's log has every query", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.contains("unterminated quoted string") && text.contains("password authentication failed")).then_some(())
    })
    .await;
    (server, address, log)
}

/// OpenSSH's server, and its log with what syslog puts in front.
async fn openssh(dir: &Path) -> (Server, SocketAddr, PathBuf) {
    let address = free_address();
    let server = sshd(dir, address).await;
    let me = run("id", &["-un"]).await.out.trim().to_owned();
    let file = |name: &str| dir.join(name).display().to_string();
    let (key, port) = (file("user_key"), address.port().to_string());
    for (who, code) in [(me.as_str(), 0), (me.as_str(), 0), ("nobody-such", 255)] {
        let arguments = ["-F", "none", "-T", "-i", &key, "-l", who, "-p", &port, "-o", "StrictHostKeyChecking=no"];
        let more = [
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "127.0.0.1",
            "true",
        ];
        let ran = run("ssh", &[&arguments[..], &more[..]].concat()).await;
        assert_eq!(ran.code, code, "{}", ran.err);
    }
    let log = dir.join("sshd.log");
    let text = until("sshd's log has every sign-in", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.matches("Accepted publickey").count() == 2 && text.contains("Invalid user nobody-such")).then_some(text)
    })
    .await;
    let now = run("date", &["-u", "+%b %e %H:%M:%S"]).await.out;
    let lines: String = text.lines().map(|line| format!("{} build sshd[4711]: {line}\n", now.trim())).collect();
    let syslog = dir.join("auth.log");
    std::fs::write(&syslog, lines).expect("written");
    (server, address, syslog)
}

/// Runs a verb that has to succeed, and gives the JSON that it prints.
async fn json_of(world: &World, arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    let (code, out, err) = world.cli(&world.state_dir(), &all).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

async fn status(world: &World, device: &TestDevice, more: &[&str]) -> u16 {
    let url = format!("http://{}:{}/", world.host("wiki"), world.port);
    let mut all = vec![url.as_str()];
    all.extend(more);
    curl_as(world, device, &all).await.status
}

/// Whether the policy in force lets somebody do something on an enrolled device.
async fn allows(world: &World, who: &str, action: &str, resource: &str) -> bool {
    let asked = json!({"user": who, "grade": "software", "resource": resource, "action": action});
    let answer: Value = world.admin.post("/v1/policy/explain", &asked).await.expect("explained");
    answer["decision"]["outcome"] == "allow"
}

#[tokio::test(flavor = "multi_thread")]
async fn from_logs_that_exist_to_a_policy_that_allows_what_was_used() {
    let world = World::start().await;
    let folder = |name: &str| {
        let dir = world.dir.path().join(name);
        std::fs::create_dir(&dir).expect("directory");
        dir
    };
    // PostgreSQL's own user can't come through the world's directory.
    let data = tempfile::tempdir().expect("directory");
    let (nginx_dir, ssh_dir) = (folder("nginx"), folder("ssh"));
    let ((_nginx, behind, web_log), (_postgres, database, sql_log), (_sshd, host, ssh_log)) =
        tokio::join!(nginx(&nginx_dir), postgres(data.path()), openssh(&ssh_dir));
    let resources = json!([
        {"name": "wiki", "kind": "http", "upstream": format!("http://{behind}")},
        {"name": "ledger", "kind": "tcp", "upstream": database.to_string(), "port": 5432},
        {"name": "build", "kind": "tcp", "upstream": host.to_string(), "port": 22},
    ]);
    world.apply(&["writers"], resources.clone(), BROAD).await;
    let ann = world.person("ann", &["writers"]).await;
    world.invite("bob", &["writers"]).await;
    world.invite("carl", &[]).await;
    let dave = world.person("dave", &[]).await;
    let (laptop, tablet) = (world.device(&ann, "laptop").await, world.device(&dave, "tablet").await);

    let at = |name: &str| world.dir.path().join(name).display().to_string();
    let me = run("id", &["-un"]).await.out.trim().to_owned();
    std::fs::write(at("names.toml"), format!("{NAMES}\"{me}\" = \"ann\"\n[resources]\nledger = \"ledger\"\nbuild = \"build\"\n[ignore]\nusers = [\"owner\"]\n")).expect("written");
    let import = async |format: &str, log: &Path, more: &[&str]| {
        let (log, names, to) = (log.display().to_string(), at("names.toml"), at(&format!("{format}.jsonl")));
        let mut all = vec!["observed", "import", "--format", format, "--map", &names, "-o", &to, &log];
        all.extend(more);
        json_of(&world, &all).await
    };
    let web = import("nginx", &web_log, &["--resource", "wiki"]).await;
    assert_eq!((&web["taken"], &web["refused"], &web["unmapped"]), (&json!(10), &json!(3), &json!(0)), "{web}");
    assert_eq!(web["malformed"], 0, "{web}");
    let sql = import("postgres", &sql_log, &[]).await;
    assert_eq!((&sql["taken"], &sql["users"]), (&json!(4), &json!(2)), "{sql}");
    assert_eq!(sql["malformed"], 0, "{sql}");
    assert!(sql["ignored"].as_u64() >= Some(1) && sql["refused"].as_u64() >= Some(1), "{sql}");
    let ssh = import("sshd", &ssh_log, &[]).await;
    assert_eq!((&ssh["taken"], &ssh["unmapped"]), (&json!(2), &json!(0)), "{ssh}");

    let drafts = at("drafts");
    let files = ["nginx", "postgres", "sshd"].map(|name| at(&format!("{name}.jsonl")));
    let [web, sql, ssh] = &files;
    let seen = ["policy", "suggest", "--observed", web, "--observed", sql, "--observed", ssh];
    let answer = json_of(&world, &[&seen[..], &["-o", &drafts]].concat()).await;
    let suggestion = &answer["answer"];
    assert_eq!(
        suggestion["coverage"],
        json!({"observed": 16, "kept": 14, "allowed": 14, "without_device": 0, "rare": 2, "left_out": 0})
    );
    let rare: Vec<_> = suggestion["rare"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["user"].as_str(), one["resource"].as_str()))
        .collect();
    assert_eq!(rare, [(Some("bob"), Some("ledger")), (Some("dave"), Some("wiki"))]);
    // Five people, the first administrator among them, could do three things to the wiki and one to each of the others.
    assert_eq!(suggestion["rights"], json!({"today": 25, "suggested": 6, "gone": 19, "new": 0}));
    assert_eq!(suggestion["replaces"], json!(["everybody"]));

    // People read the same, and the Cedar alone is on standard output.
    let (code, out, err) = world.cli(&world.state_dir(), &seen).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("// Suggested by") && out.contains("principal in Group::\"writers\""), "{out}");
    assert!(err.contains("87.5 % of what was observed") && err.contains("2 rare accesses are left"), "{err}");

    // The same logs try any draft: what this one leaves out would be denied.
    let logs = ["--observed", web, "--observed", sql, "--observed", ssh];
    let (code, out, err) = world.cli(&world.state_dir(), &[&["policy", "simulate", &drafts], &logs[..]].concat()).await;
    assert!(code == 1 && out.contains("2 of 16 accesses would be denied"), "{out}{err}");
    assert!(out.contains("dave: http:read on wiki") && out.contains("bob: net:connect on ledger"), "{out}");
    let all = [&["policy", "simulate"], &logs[..]].concat();
    let found = json_of(&world, &all).await;
    assert_eq!((&found["accesses"], &found["open"], &found["denied"]), (&json!(16), &json!(16), &json!(0)), "{found}");

    let names = ["wiki", "ledger", "build"].map(|name| format!("{drafts}/suggested-{name}.cedar"));
    let policy: String = names.iter().map(|name| std::fs::read_to_string(name).expect(name)).collect();
    assert_eq!((status(&world, &tablet, &[]).await, allows(&world, "bob", "net:connect", "ledger").await), (200, true));
    world.apply(&["writers"], resources, &policy).await;
    for (who, action, resource, meant) in [
        ("ann", "http:read", "wiki", true),
        ("bob", "http:read", "wiki", true),
        ("carl", "http:read", "wiki", true),
        ("carl", "http:write", "wiki", true),
        ("ann", "net:connect", "ledger", true),
        ("ann", "net:connect", "build", true),
        // What was used seldom, and what was not used.
        ("dave", "http:read", "wiki", false),
        ("bob", "net:connect", "ledger", false),
        ("ann", "http:write", "wiki", false),
        ("bob", "net:connect", "build", false),
    ] {
        assert_eq!(allows(&world, who, action, resource).await, meant, "{who} {action} {resource}");
    }
    let found = json_of(&world, &all).await;
    assert_eq!(
        (&found["denied"], &found["denied_already"], &found["open"]),
        (&json!(2), &json!(2), &json!(14)),
        "{found}"
    );
    // And at the gateway.
    assert_eq!((status(&world, &laptop, &[]).await, status(&world, &tablet, &[]).await), (200, 403));
    assert_eq!(status(&world, &laptop, &["-X", "PUT"]).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_suggested_from_our_own_log_and_unused_rights_are_found() {
    let company = crate::http::Company::start().await;
    let world = &company.world;
    let bob = world.person("bob", &["marketing"]).await;
    let tablet = world.device(&bob, "tablet").await;
    let url = company.plain_url("marketing", "/");
    for device in [&company.laptop, &company.laptop, &tablet] {
        assert_eq!(curl_as(world, device, &[&url]).await.status, 200);
    }
    let mut seen = 0;
    for () in patiently() {
        let query =
            AuditQuery { resource: Some("marketing".into()), outcome: Some("allow".into()), ..AuditQuery::default() };
        seen = world.audit(query).await.iter().filter(|record| record.kind.as_str() == "decision").count();
        if seen == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(seen, 3);
    let answer = json_of(world, &["policy", "suggest", "--since", "1d", "--resource", "marketing"]).await;
    assert_eq!((&answer["looked"]["decisions"], &answer["looked"]["whole"]), (&json!(3), &json!(true)), "{answer}");
    let policies = answer["answer"]["policies"].as_array().expect("a list");
    assert_eq!(policies.len(), 1, "{answer}");
    assert_eq!((&policies[0]["users"], &policies[0]["accesses"]), (&json!(1), &json!(2)), "{answer}");
    assert_eq!(answer["answer"]["rare"][0]["user"], "bob", "{answer}");
    // With every access kept, the group stands for both.
    let answer =
        json_of(world, &["policy", "suggest", "--since", "1d", "--resource", "marketing", "--rare", "1"]).await;
    assert_eq!(answer["answer"]["policies"][0]["group"], "marketing", "{answer}");
    // Reading the log is on record.
    let reads = AuditQuery { kind: Some("audit_read".into()), ..AuditQuery::default() };
    let verbs: Vec<_> = world.audit(reads).await.into_iter().filter_map(|record| record.action).collect();
    assert!(verbs.iter().any(|verb| verb == "audit.suggest"), "{verbs:?}");

    let answer = json_of(world, &["policy", "suggest", "--unused", "1d", "--resource", "marketing"]).await;
    let text = answer["answer"]["files"][0]["text"].as_str().unwrap_or_default().to_owned();
    assert!(answer["answer"]["unused"].as_u64() >= Some(1), "{answer}");
    assert!(text.contains("forbid (") && !text.contains("Action::\"http:read\""), "{text}");
    let (code, out, err) = world.cli(&world.state_dir(), &["policy", "suggest", "--unused", "1d"]).await;
    assert!(code == 0 && out.contains("forbid (") && err.contains("rights"), "{out}{err}");
}
