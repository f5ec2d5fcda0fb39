//! The worked example of `docs/guide/week.md`: a host with nginx, PostgreSQL and OpenSSH goes from open to enforced,
//! by the guide's own commands, and nobody of the rightful people is ever kept out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;
use vouchsafe_demo::postgres::{Cluster, PsqlTls};
use vouchsafe_wire::api::AuditQuery;

use crate::database::{Connect, cluster};
use crate::peers::{Ran, Server, curl, curl_as, free_address, run};
use crate::ssh::sshd;
use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World};

const GUIDE: &str = include_str!("../../../../docs/guide/week.md");

/// A web server as Debian's would stand there, and nothing else.
const NGINX: &str = "daemon off;\nmaster_process off;\npid DIR/nginx.pid;\nerror_log stderr;\nevents { worker_connections 64; }\n\
    http {\n  access_log DIR/access.log combined;\n  client_body_temp_path DIR/body;\n  proxy_temp_path DIR/proxy;\n\
    fastcgi_temp_path DIR/fastcgi;\n  uwsgi_temp_path DIR/uwsgi;\n  scgi_temp_path DIR/scgi;\n\
    server { listen ADDRESS; location / { root DIR/www; } }\n}\n";

/// The host, and the gateway that is put in front of it.
struct Host {
    world: World,
    /// Where the guide's commands are typed.
    desk: PathBuf,
    web: SocketAddr,
    shell: SocketAddr,
    database: Cluster,
    me: String,
    _servers: [Server; 2],
}

impl Host {
    async fn start() -> Self {
        let world = World::start().await;
        let folder = |name: &str| {
            let dir = world.dir.path().join(name);
            std::fs::create_dir(&dir).expect("directory");
            dir
        };
        let (desk, www, ssh) = (folder("desk"), folder("nginx"), folder("ssh"));
        let (web, shell) = (free_address(), free_address());
        std::fs::create_dir(www.join("www")).expect("directory");
        std::fs::write(www.join("www/index.html"), "the wiki\n").expect("a page");
        let settings = NGINX.replace("DIR", &www.display().to_string()).replace("ADDRESS", &web.to_string());
        let file = www.join("nginx.conf");
        std::fs::write(&file, settings).expect("settings");
        let arguments = ["-p", &www.display().to_string(), "-c", &file.display().to_string()];
        let nginx = Server::start("/usr/sbin/nginx", &arguments, &www.join("error.log"), web).await;
        let server = sshd(&ssh, shell).await;
        let database = cluster("ledger").await;
        let me = run("id", &["-un"]).await.out.trim().to_owned();
        let host = Self { world, desk, web, shell, database, me, _servers: [nginx, server] };
        host.collect().await;
        host
    }

    /// The host's files as `assess --root` reads them, and what `ss` says of these three servers: the machine that
    /// runs this test has others, which are nobody's business.
    async fn collect(&self) {
        let at = |name: &str| {
            let path = self.desk.join("host/etc").join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
            path
        };
        let copy = |from: PathBuf, to: &str| {
            let text = std::fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            std::fs::write(at(to), text).expect("copied");
        };
        copy(self.world.dir.path().join("nginx/nginx.conf"), "nginx/nginx.conf");
        copy(self.world.dir.path().join("ssh/sshd_config"), "ssh/sshd_config");
        for file in ["pg_hba.conf", "postgresql.conf"] {
            copy(self.database.data().join(file), &format!("postgresql/15/main/{file}"));
        }
        std::fs::write(at("hostname"), "shop1\n").expect("written");
        let ours = [self.web, self.shell, self.database.address()].map(|address| format!(":{} ", address.port()));
        let ss = run("ss", &["-tulpn"]).await;
        assert_eq!(ss.code, 0, "{}", ss.err);
        let lines = ss.out.lines().enumerate();
        let kept = lines.filter(|(at, line)| *at == 0 || ours.iter().any(|port| line.contains(port.as_str())));
        let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
        assert_eq!(kept.len(), 4, "{}", ss.out);
        std::fs::write(self.desk.join("ss.txt"), kept.join("\n") + "\n").expect("written");
    }

    /// Types a command that stands in the guide, with words more that only a test needs.
    async fn guide(&self, command: &str, more: &[&str]) -> Ran {
        assert!(
            GUIDE.lines().any(|line| line.trim_start_matches("$ ").trim() == command),
            "the guide has no `{command}`"
        );
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some("vouchsafe"));
        let mut process = Command::new(VOUCHSAFE);
        process.args(words).args(more).arg("--dir").arg(self.world.state_dir()).current_dir(&self.desk);
        process.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE * 2, process.output()).await.expect("ends").expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    async fn done(&self, command: &str, more: &[&str]) -> String {
        let ran = self.guide(command, more).await;
        assert_eq!(ran.code, 0, "{command}: {}{}", ran.out, ran.err);
        ran.out
    }

    async fn wiki(&self, device: Option<&TestDevice>) -> u16 {
        match device {
            Some(device) => {
                let url = format!("http://{}:{}/", self.world.host("wiki"), self.world.port);
                curl_as(&self.world, device, &[&url]).await.status
            }
            None => curl(&self.world, &[self.world.url("wiki", "/").as_str()]).await.status,
        }
    }

    async fn ledger(&self, device: &TestDevice) -> bool {
        let connect = Connect::start(device, "ledger").await;
        self.database.psql(connect.address, PsqlTls::Off, "SELECT count(*) FROM figures").await.expect("psql").success
    }

    async fn shell(&self, device: &TestDevice) -> bool {
        let file = |name: &str| self.world.dir.path().join("ssh").join(name).display().to_string();
        let proxy = format!("ProxyCommand={VOUCHSAFE} pipe build:{} --dir {}", self.shell.port(), device.dir.display());
        let known = format!("UserKnownHostsFile={}", file("known_hosts"));
        let (key, me) = (file("user_key"), self.me.as_str());
        let mut all = vec!["-F", "none", "-T", "-i", &key, "-l", me, "-o", &proxy, "-o", &known];
        all.extend(["-o", "HostKeyAlias=build-host", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        all.extend(["build", "echo here"]);
        let ran = run("ssh", &all).await;
        ran.code == 0 && ran.out == "here\n"
    }

    /// How many requests are on record; waits until there are at least so many.
    async fn recorded(&self, least: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let query = AuditQuery { kind: Some("decision".into()), ..AuditQuery::default() };
            let ours = ["wiki", "ledger", "build"];
            let records = self.world.audit(query).await;
            let found = records.iter().filter(|one| one.resource.as_deref().is_some_and(|name| ours.contains(&name)));
            let found = found.count();
            if found >= least {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found} of {least} decisions are on record");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// The draft of a service, under the name that people know it by and reached as they know it.
fn named(desk: &Path, draft: &str, name: &str, port: Option<u16>) {
    let path = desk.join("drafts").join(draft);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{draft}: {error}"));
    let old = draft.trim_end_matches(".toml");
    let new = match port {
        Some(port) => format!("name = \"{name}\"\nport = {port}"),
        None => format!("name = \"{name}\""),
    };
    let changed = text.replace(&format!("name = \"{old}\""), &new);
    assert!(changed != text && changed.contains("mode = \"observe\""), "{text}");
    let company = desk.join("company");
    std::fs::create_dir_all(&company).expect("made");
    std::fs::write(company.join(format!("{name}.toml")), changed).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_open_network_to_zero_trust_in_a_week() {
    let host = Host::start().await;
    let world = &host.world;
    for group in ["engineers", "contractors"] {
        let _: Value = world.admin.put(&format!("/v1/groups/{group}")).await.expect("a group");
    }
    let ann = world.person("ann", &["engineers"]).await;
    let bob = world.person("bob", &["engineers"]).await;
    let carl = world.person("carl", &["contractors"]).await;
    let ann = world.device(&ann, "ann-laptop").await;
    let bob = world.device(&bob, "bob-laptop").await;
    let carl = world.device(&carl, "carl-laptop").await;

    // Monday: what is there?
    let seen = ["--root", "host", "--ss", "ss.txt"];
    let report = host.done("vouchsafe assess --html report.html --drafts drafts --owner ann", &seen).await;
    assert!(report.contains("pg-") || report.contains("ssh-"), "{report}");
    named(&host.desk, &format!("web-{}.toml", host.web.port()), "wiki", None);
    named(&host.desk, "postgres.toml", "ledger", None);
    named(&host.desk, "ssh.toml", "build", None);
    let plan = host.done("vouchsafe plan -f company", &[]).await;
    assert!(plan.contains("add resource/wiki") && plan.contains("add resource/ledger"), "{plan}");
    host.done("vouchsafe apply -f company", &["--yes"]).await;

    // Tuesday to Thursday: everybody goes on as before, and is seen. Somebody who hasn't signed in passes as nobody.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while host.wiki(None).await != 200 {
        assert!(tokio::time::Instant::now() < deadline, "it observes: {}", world.log());
    }
    for _ in 0..3 {
        assert_eq!((host.wiki(Some(&ann)).await, host.wiki(Some(&bob)).await), (200, 200));
    }
    for _ in 0..2 {
        assert!(host.ledger(&ann).await && host.ledger(&bob).await, "nobody is blocked");
        assert!(host.shell(&ann).await, "nobody is blocked");
    }
    assert_eq!(host.wiki(Some(&carl)).await, 200, "nobody is blocked");
    host.recorded(14).await;
    let progress: Value =
        serde_json::from_str(&host.done("vouchsafe resource progress wiki", &["--json"]).await).unwrap();
    assert!(progress["would_deny"].as_u64() >= Some(8) && progress["safe"] == json!(false), "{progress}");

    // Friday: a policy from what was done, looked at from every side.
    let policy = host.desk.join("company/policy");
    std::fs::create_dir_all(&policy).expect("made");
    std::fs::write(policy.join("base.cedar"), host.done("vouchsafe policy show", &[]).await).expect("written");
    let suggested = host.done("vouchsafe policy suggest --since 7d -o company/policy", &["--json"]).await;
    let suggested: Value = serde_json::from_str(&suggested).expect("JSON");
    let coverage = &suggested["answer"]["coverage"];
    assert_eq!(coverage["allowed"], coverage["kept"], "all that is kept is allowed: {suggested}");
    let rare = suggested["answer"]["rare"].as_array().expect("a list");
    assert!(rare.len() == 1 && rare[0]["user"] == "carl", "{suggested}");
    std::fs::create_dir_all(host.desk.join("company/tests")).expect("made");
    std::fs::create_dir_all(host.desk.join("company/invariants")).expect("made");
    for (name, title) in
        [("tests/week.toml", "company/tests/week.toml"), ("invariants/week.toml", "company/invariants/week.toml")]
    {
        std::fs::write(host.desk.join("company").join(name), block(title)).expect("written");
    }
    let people = "[[groups]]\nname = \"administrators\"\n\n[[groups]]\nname = \"engineers\"\nmembers = [\"ann\", \"bob\"]\n\n\
                  [[groups]]\nname = \"contractors\"\nmembers = [\"carl\"]\n";
    std::fs::write(host.desk.join("company/people.toml"), people).expect("written");
    host.done("vouchsafe policy test company", &[]).await;
    host.done("vouchsafe policy prove company", &[]).await;
    let simulated = host.guide("vouchsafe policy simulate company/policy", &["--json"]).await;
    assert_eq!(simulated.code, 0, "nobody loses anything: {}{}", simulated.out, simulated.err);
    // Of what went on while all was only observed, the draft allows all but what carl did once.
    let found: Value = serde_json::from_str(&simulated.out).expect("JSON");
    assert_eq!((&found["tolerated"]["requests"], &found["tolerated"]["people"]), (&json!(1), &json!(1)), "{found}");
    assert_eq!((&found["changes"][0]["people"][0]["user"], &found["covered"]), (&json!("carl"), &json!(12)), "{found}");
    host.done("vouchsafe policy diff -f company/policy", &[]).await;
    let published = host.done("vouchsafe policy publish company --reason week --confirm-within 1h", &[]).await;
    assert!(published.contains("version 2 is in force"), "{published}");
    host.done("vouchsafe policy confirm 2", &[]).await;

    // Under the policy in force, and still observing, the rightful are let in by right.
    let by_right = async |device: &TestDevice| {
        let url = format!("http://{}:{}/", world.host("wiki"), world.port);
        let answer = curl_as(world, device, &[&url]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    };
    for device in [&ann, &bob] {
        by_right(device).await;
    }
    // The week after: warned, then enforced.
    for name in ["wiki", "ledger", "build"] {
        host.done(&format!("vouchsafe resource mode {name} warn --for 7d"), &["--yes"]).await;
    }
    assert_eq!((host.wiki(Some(&ann)).await, host.wiki(Some(&bob)).await), (200, 200));
    assert!(host.ledger(&ann).await && host.shell(&ann).await);
    for name in ["wiki", "ledger", "build"] {
        host.done(&format!("vouchsafe resource mode {name} enforce"), &["--yes"]).await;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while host.wiki(Some(&carl)).await != 403 {
        assert!(tokio::time::Instant::now() < deadline, "it enforces: {}", world.log());
    }
    // All that was kept, and nothing of what was dropped.
    assert_eq!((host.wiki(Some(&ann)).await, host.wiki(Some(&bob)).await), (200, 200));
    assert!(host.ledger(&ann).await && host.ledger(&bob).await && host.shell(&ann).await);
    assert_eq!((host.wiki(Some(&carl)).await, host.wiki(None).await), (403, 401));
    assert!(!host.ledger(&carl).await && !host.shell(&carl).await && !host.shell(&bob).await);
    let resources = host.done("vouchsafe resource list", &["--json"]).await;
    let resources: Value = serde_json::from_str(&resources).expect("JSON");
    assert!(resources.as_array().expect("a list").iter().all(|one| one.get("mode").is_none()), "{resources}");
}

/// A file that stands in the guide below its name.
fn block(name: &str) -> &'static str {
    let (_, behind) = GUIDE.split_once(&format!("# {name}\n")).unwrap_or_else(|| panic!("the guide has no {name}"));
    behind.split("```").next().expect("a block that ends")
}
