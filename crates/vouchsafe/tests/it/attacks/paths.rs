//! G2, the structural part: what we decide on is what real servers see. Canonical paths go to nginx,
//! Apache, Node and gunicorn as the gateway would write them, and each says what it takes them for.
//!
//! `VOUCHSAFE_DIFFERENTIAL` sets how many paths are tried; a few hundred otherwise.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use vouchsafe_model::resource::{Leeway, PathCase, PathRules};
use vouchsafe_wire::canonical::CanonicalTarget;

use super::probe::{Answer, h1};
use super::strict::Strict;
use crate::peers::{Server, free_address};
use crate::world::World;

/// A server of another make that says what path it was asked for.
struct Judge {
    name: &'static str,
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    _server: Server,
}

impl Judge {
    async fn start(name: &'static str, dir: &Path) -> Self {
        let address = free_address();
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("directory");
        let fill =
            |text: &str| text.replace("DIR", &dir.display().to_string()).replace("ADDRESS", &address.to_string());
        let (program, file, text) = match name {
            "nginx" => ("/usr/sbin/nginx", "nginx.conf", include_str!("paths/nginx.conf")),
            "apache" => ("/usr/sbin/apache2", "apache.conf", include_str!("paths/apache.conf")),
            "node" => ("node", "node.js", include_str!("paths/node.js")),
            _ => ("gunicorn", "app.py", include_str!("paths/app.py")),
        };
        let path = dir.join(file).display().to_string();
        std::fs::write(&path, fill(text)).expect("written");
        let (dir_text, listen) = (dir.display().to_string(), address.to_string());
        let arguments: Vec<&str> = match name {
            "nginx" => vec!["-p", &dir_text, "-c", &path],
            "apache" => vec!["-X", "-d", &dir_text, "-f", &path],
            "node" => vec![&path, &listen],
            _ => vec!["--chdir", &dir_text, "-b", &listen, "-w", "1", "-k", "gthread", "--threads", "4", "app:app"],
        };
        let server = Server::start(program, &arguments, &dir.join("log"), address).await;
        Self { name, address, connection: None, _server: server }
    }

    /// What the server takes the target for, or why it refuses it.
    async fn path(&mut self, target: &str) -> Result<Vec<u8>, String> {
        for _ in 0..2 {
            let mut stream = match self.connection.take() {
                Some(stream) => stream,
                None => BufReader::new(TcpStream::connect(self.address).await.expect("connected")),
            };
            let request = format!("GET {target} HTTP/1.1\r\nhost: app.example\r\n\r\n");
            // A server may have closed its side since; then once more, on a new connection.
            if stream.write_all(request.as_bytes()).await.is_ok()
                && let Ok((answer, keeps)) = read_answer(&mut stream).await
            {
                if keeps {
                    self.connection = Some(stream);
                }
                return answer;
            }
        }
        panic!("{} does not answer to {target}", self.name);
    }
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<(Result<Vec<u8>, String>, bool)> {
    let (mut status, mut length, mut path, mut keeps) = (String::new(), 0, None, true);
    if stream.read_line(&mut status).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a length"),
            "connection" => keeps = value.eq_ignore_ascii_case("keep-alive"),
            "x-path" => path = STANDARD.decode(value).ok(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let refused = status.contains(" 400 ");
    Ok((if refused { Err(status) } else { Ok(path.unwrap_or(body)) }, keeps))
}

/// Percent-decoding, once.
fn decoded(path: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(path).collect()
}

/// Paths made of what parsers disagree on, the same in each run.
struct Corpus(u64);

impl Corpus {
    fn number(&mut self, below: u64) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn path(&mut self) -> String {
        const PARTS: &[&str] = &[
            "a",
            "b",
            "admin",
            "public",
            "A",
            "/",
            "/",
            "/",
            ".",
            "..",
            "%2e",
            "%2E",
            "%2f",
            "%2F",
            "%5c",
            "\\",
            ";",
            ";x=1",
            "%3b",
            "%25",
            "%2525",
            "%20",
            "+",
            "%00",
            "%0a",
            "%09",
            "%c3%a9",
            "%c0%ae",
            "%ff",
            "%ef%bc%8e",
            "%e2%80%a5",
            "%7e",
            "~",
            "%41",
            "%7c",
            "|",
            "^",
            "[",
            "]",
            "%5b",
            ":",
            "@",
            "!",
            "$",
            "&",
            "'",
            "(",
            ")",
            "*",
            ",",
            "=",
            "%2c",
            "%3a",
            "%3f",
            "%23",
            "%22",
            "%3c",
            "{",
            "\"",
            "<",
            "`",
            "%",
            "%4",
            "%zz",
            "%u002e",
            "-",
            "_",
            "0",
            "http:",
            "//",
            "/./",
            "/../",
            "con",
            "::$DATA",
            "~1",
            "%7f",
            "%80",
        ];
        let mut path = "/".to_owned();
        for _ in 0..self.number(9) {
            let at = usize::try_from(self.number(u64::try_from(PARTS.len()).expect("few"))).expect("small");
            path.push_str(PARTS[at]);
        }
        path
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own knob, which changes nothing but how long it takes")]
fn how_many() -> usize {
    std::env::var("VOUCHSAFE_DIFFERENTIAL").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[tokio::test(flavor = "multi_thread")]
async fn a017_to_a027_real_servers_see_the_path_that_was_decided_on() {
    let dir = tempfile::tempdir().expect("directory");
    let count = how_many();
    let mut judges = Vec::new();
    for name in ["nginx", "apache", "node", "gunicorn"] {
        judges.push(Judge::start(name, dir.path()).await);
    }
    let folded = PathRules { case: PathCase::Folded, ..PathRules::STRICT };
    let mut corpus = Corpus(0x9e37_79b9_7f4a_7c15);
    for rules in [PathRules::STRICT, PathRules::WIDEST, folded] {
        let mut tried = 0;
        while tried < count {
            let given = corpus.path();
            let Ok(target) = CanonicalTarget::parse("GET", &given, rules) else { continue };
            tried += 1;
            let sent = target.to_target();
            // Decided on: the path itself, and each path that it may be taken for.
            let mut readings: Vec<Vec<u8>> = target.other_readings().iter().map(|path| decoded(path)).collect();
            readings.push(decoded(target.path()));
            for judge in &mut judges {
                let seen = judge.path(&sent).await;
                let seen = seen.unwrap_or_else(|why| panic!("{} refuses {sent} (of {given}): {why}", judge.name));
                assert!(
                    readings.contains(&seen),
                    "{} takes {sent} (of {given}) for {:?}, which was not decided on",
                    judge.name,
                    String::from_utf8_lossy(&seen)
                );
            }
        }
    }
}

/// All but `/admin` is open to staff, on four apps that differ in the leeway that they are given.
const POLICY: &str = r#"
@id("all") @device("none")
permit (principal in Group::"staff", action in [Action::"http:read", Action::"http:write"], resource in ResourceGroup::"apps");

@id("no-admin")
forbid (principal, action in [Action::"http:read", Action::"http:write"], resource in ResourceGroup::"apps")
when { context.request.path == "/admin" || context.request.path like "/admin/*" };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a019_a023_leeway_is_the_resources_own_and_every_reading_is_decided_on() {
    let world = World::start().await;
    let app = Strict::start(&world.tasks).await;
    let upstream = format!("http://{}", app.address);
    let resource = |name: &str, option: Option<(&str, &str)>| {
        let mut doc = json!({"name": name, "kind": "http", "upstream": upstream, "groups": ["apps"]});
        if let Some((option, value)) = option {
            doc[option] = value.into();
        }
        doc
    };
    let resources = json!([
        resource("strict", None),
        resource("slashes", Some(("encoded_slashes", "keep"))),
        resource("doubles", Some(("double_slashes", "keep"))),
        resource("params", Some(("path_parameters", "keep"))),
        resource("folded", Some(("path_case", "fold"))),
    ]);
    world.apply(&["staff"], resources, POLICY).await;
    let alice = world.person("alice", &["staff"]).await;
    for (name, given, expected) in [
        ("strict", "/a/b?C=%2F;", Ok("/a/b?C=%2F;")),
        ("strict", "/a%2fb", Err(400)),
        ("strict", "/a//b", Err(400)),
        ("strict", "/a;b", Err(400)),
        ("strict", "/ADMIN/x", Ok("/ADMIN/x")),
        ("slashes", "/p/group%2fproject", Ok("/p/group%2Fproject")),
        ("slashes", "/admin%2Fx", Err(403)),
        ("slashes", "/a%2F..%2Fadmin", Err(400)),
        ("slashes", "/a//b", Err(400)),
        ("slashes", "/.vouchsafe%2Fsignout", Err(400)),
        ("doubles", "/a//b", Ok("/a//b")),
        ("doubles", "/admin//x", Err(403)),
        ("doubles", "//admin/x", Err(400)),
        ("doubles", "/a%2F%2Fb", Err(400)),
        ("params", "/a;v=1/b", Ok("/a;v=1/b")),
        ("params", "/admin;v=1", Err(403)),
        ("params", "/admin;v=1/x", Err(403)),
        ("params", "/a/..;/admin", Err(400)),
        ("params", "/;/admin", Err(400)),
        ("folded", "/A/B?C=D", Ok("/a/b?C=D")),
        ("folded", "/ADMIN/x", Err(403)),
        ("folded", "/%41dmin/x", Err(403)),
        ("folded", "/%E2%84%AAelvin", Err(400)),
        ("folded", "/.VOUCHSAFE/x", Err(400)),
    ] {
        let cookie = world.cookie(&alice, name, "/").await;
        app.take();
        let host = format!("{}:{}", world.host(name), world.port);
        let request = format!("GET {given} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
        let answer: Answer = h1(&world, name, None, request.as_bytes()).await;
        let seen = app.take();
        match expected {
            Ok(sent) => {
                assert_eq!(answer.status, 200, "{name} {given}: {answer:?}");
                let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
                assert_eq!(lines, [format!("GET {sent} HTTP/1.1")], "{name} {given}");
            }
            Err(status) => {
                assert_eq!(answer.status, status, "{name} {given}: {answer:?}");
                assert!(seen.is_empty(), "{name} {given}: {seen:?}");
                let record = world.decision(answer.decision().expect("a decision")).await;
                assert_eq!(record.outcome.as_deref(), Some("deny"), "{name} {given}");
                let reason = if status == 400 { "ambiguous_request" } else { "forbidden" };
                assert_eq!(record.reason.as_deref(), Some(reason), "{name} {given}");
            }
        }
        // Without a session all apps, and those that don't exist, look the same.
        let request = format!("GET {given} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = h1(&world, name, None, request.as_bytes()).await;
        let nothing = request.replace(&host, &format!("{}:{}", world.host("nothing"), world.port));
        let unknown = h1(&world, "nothing", None, nothing.as_bytes()).await;
        assert_eq!((answer.status, answer.reason()), (unknown.status, unknown.reason()), "{name} {given}");
    }
    let every = |leeway| PathRules {
        encoded_slashes: leeway,
        double_slashes: leeway,
        parameters: leeway,
        case: PathCase::Sensitive,
    };
    assert_eq!((every(Leeway::Refused), every(Leeway::Kept)), (PathRules::STRICT, PathRules::WIDEST));
}

/// A signed-in person without any right learns nothing of which apps there are: not by paths that one
/// of them reads and another refuses, either. What she tried stands in the log under her name.
#[tokio::test(flavor = "multi_thread")]
async fn paths_tell_nobody_which_apps_exist() {
    let world = World::start().await;
    let app = Strict::start(&world.tasks).await;
    let http = |name: &str| json!({"name": name, "kind": "http", "upstream": format!("http://{}", app.address)});
    let mut lax = http("lax");
    for leeway in ["encoded_slashes", "double_slashes", "path_parameters"] {
        lax[leeway] = "keep".into();
    }
    let tcp = json!({"name": "tcp", "kind": "tcp", "upstream": "127.0.0.1:1"});
    world.apply(&["staff"], json!([http("strict"), lax, tcp]), "").await;
    let mallory = world.person("mallory", &[]).await;
    for name in ["strict", "lax", "tcp", "nothing", "www"] {
        mallory.browser.open(&world.url(name, "/"), &mallory.authenticator).await.expect("opened");
        let cookies = mallory.browser.cookies_of(&world.host(name));
        let cookie = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").map(|(_, value)| value);
        let Some(cookie) = cookie else {
            // No app can be called so, and nobody is signed in there.
            assert_eq!(name, "www");
            continue;
        };
        for path in ["/", "/a//b", "/a%2Fb", "/a;b=1", "/.vouchsafe%2Fx", "/.vouchsafe;x/y"] {
            let host = format!("{}:{}", world.host(name), world.port);
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: __Host-vouchsafe={cookie}\r\n\r\n");
            let answer = h1(&world, name, None, request.as_bytes()).await;
            assert_eq!((answer.status, answer.reason()), (403, Some("no_permit")), "{name} {path}: {answer:?}");
            let record = world.decision(answer.decision().expect("a decision")).await;
            assert_eq!(record.user.as_deref(), Some("mallory"), "{name} {path}: {record:?}");
        }
    }
}

/// An app as GitLab is: projects are named `group%2Fproject` in its API. The rules are given on the
/// command line, shown there, and decided on.
#[tokio::test(flavor = "multi_thread")]
async fn a019_path_rules_are_set_and_shown_by_the_command_line() {
    let world = World::start().await;
    let judge = Judge::start("node", world.dir.path()).await;
    let upstream = format!("http://{}", judge.address);
    let add = |name: &'static str, rules: &'static [&'static str]| {
        let mut arguments = vec!["resource", "add", "http", name, &upstream, "--group", "apps"];
        arguments.extend(rules);
        arguments.into_iter().map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let state = world.state_dir();
    let cli = async |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        world.cli(&state, &arguments).await
    };
    let (code, _, err) = cli(&add("strict", &[])).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = cli(&add("git", &["--encoded-slashes", "keep"])).await;
    assert!(code == 0 && out.contains("encoded slashes") && out.contains("keep"), "{out}{err}");
    const ALL: &[&str] = &["--double-slashes", "keep", "--path-parameters", "keep", "--path-case", "fold"];
    let (code, out, err) = cli(&add("lax", ALL)).await;
    assert_eq!(code, 0, "{err}");
    let show: Vec<String> = ["resource", "show", "lax"].map(ToOwned::to_owned).to_vec();
    let (_, shown, _) = cli(&show).await;
    for words in ["double slashes", "path parameters", "path case", "fold"] {
        assert!(out.contains(words) && shown.contains(words), "{words}: {out} {shown}");
    }
    let (code, _, err) = cli(&add("wrong", &["--encoded-slashes", "yes"])).await;
    assert!(code == 2 && err.contains("refuse") && err.contains("keep"), "{code}: {err}");
    // The same resources, now with a policy.
    let resources: serde_json::Value = world.admin.get("/v1/resources").await.expect("resources");
    let kept = |name: &str| {
        let all = resources.as_array().expect("a list");
        all.iter().find(|resource| resource["name"] == name).cloned().expect("kept")
    };
    assert_eq!(kept("git")["encoded_slashes"], "keep");
    assert!(kept("strict").get("encoded_slashes").is_none());
    world.apply(&["staff"], json!([kept("git"), kept("strict"), kept("lax")]), POLICY).await;
    let alice = world.person("alice", &["staff"]).await;
    for (name, path, status, seen) in [
        ("git", "/api/v4/projects/group%2Fproject", 200, "/api/v4/projects/group/project"),
        ("git", "/admin%2Fx", 403, ""),
        ("git", "/a//b", 400, ""),
        ("strict", "/api/v4/projects/group%2Fproject", 400, ""),
        ("lax", "/A//b;c=d", 200, "/a//b;c=d"),
        ("lax", "/Admin//x", 403, ""),
        ("lax", "/a%2Fb", 400, ""),
    ] {
        let cookie = world.cookie(&alice, name, "/").await;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {}:{}\r\nCookie: {cookie}\r\n\r\n", world.host(name), world.port);
        let answer: Answer = h1(&world, name, None, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{name} {path}: {answer:?}");
        if status == 200 {
            assert!(answer.text.ends_with(seen), "{name} {path}: {answer:?}");
        } else {
            let record = world.decision(answer.decision().expect("a decision")).await;
            assert_eq!(record.outcome.as_deref(), Some("deny"), "{name} {path}");
        }
    }
}
