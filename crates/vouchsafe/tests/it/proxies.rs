//! Existing proxies that ask a gateway: nginx, Caddy and Envoy, each with the very configuration that the guide shows.

mod attacks;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::Url;
use vouchsafe_demo::browser::Browser;
use vouchsafe_demo::browser::dial::{Dial, Stream};
use vouchsafe_runtime::internal::BoxFuture;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::{Kind, Record};

use crate::peers::{Curled, Server, curl, free_address};
use crate::upstreams::Pki;
use crate::world::{PATIENCE, Person, Recorder, World, patiently};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

/// Everybody of the staff reads; the handbook's editors' pages are for nobody, and nobody writes.
const POLICY: &str = r#"
@id("staff-wiki") @device("none")
permit (principal in Group::"staff", action == Action::"http:read", resource == Http::"wiki")
  when { !(context.request.path like "/admin*") && context.auth.age < 900 };
@id("staff-git") @device("none")
permit (principal in Group::"staff", action, resource == Http::"git");
"#;

/// A name service that leads every host to this machine, at the port that is asked for.
struct ByPort;

impl Dial for ByPort {
    fn dial<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(("127.0.0.1", port)).await?) as Box<dyn Stream>) })
    }
}

/// An app behind a proxy that asks, and alice of the staff.
struct Office {
    world: World,
    alice: Person,
    app: Recorder,
    pki: Pki,
    /// Where the proxy listens.
    proxy: SocketAddr,
    dir: PathBuf,
    server: Option<Server>,
}

impl Office {
    async fn start(kind: &str, name: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let files = dir.path().join("proxy");
        std::fs::create_dir_all(&files).expect("directory");
        std::fs::write(files.join("secret"), SECRET).expect("written");
        std::fs::set_permissions(files.join("secret"), std::fs::Permissions::from_mode(0o600)).expect("set");
        let list = format!(
            "[[proxy]]\nname = \"{name}\"\nkind = \"{kind}\"\nsecret_file = \"secret\"\nresources = [\"wiki\", \"plain\"]\n"
        );
        std::fs::write(files.join("proxies.toml"), list).expect("written");
        let list = files.join("proxies.toml").display().to_string();
        let world = World::start_with(dir, 0, &["--proxies".to_owned(), list]).await;
        let app = Recorder::start(&world.tasks).await;
        let proxy = free_address();
        let upstream = format!("http://{}", app.address);
        let resources = json!([
            {"name": "wiki", "kind": "http", "upstream": upstream, "proxy_port": proxy.port()},
            // Not for this proxy to ask for; served by no proxy; and no web app of a proxy's at all.
            {"name": "git", "kind": "http", "upstream": upstream, "proxy_port": proxy.port()},
            {"name": "plain", "kind": "http", "upstream": upstream},
        ]);
        world.apply(&["staff", "finance"], resources, POLICY).await;
        let mut alice = world.person("alice", &["staff"]).await;
        let pki = Pki::new(&world.host("wiki"));
        let roots = format!("{}\n{}", world.root_pem, pki.authority);
        let browser = Browser::new(Arc::new(ByPort), &roots, world.tasks.clone()).expect("browser");
        let enter = world.url("auth", "/");
        browser.sign_in(&enter, &alice.authenticator, None).await.expect("signed in");
        alice.browser = browser;
        std::fs::write(files.join("wiki.pem"), &pki.chain).expect("written");
        std::fs::write(files.join("wiki.key"), &pki.key).expect("written");
        std::fs::write(files.join("authority.pem"), &pki.authority).expect("written");
        std::fs::copy(&world.root_file, files.join("root.pem")).expect("copied");
        Self { world, alice, app, pki, proxy, dir: files, server: None }
    }

    /// A file of the guide, with the names, ports and paths of this test.
    fn config(&self, file: &str) -> PathBuf {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/existing-proxies");
        let text = std::fs::read_to_string(guide.join(file)).expect("in the guide");
        let here = |name: &str| self.dir.join(name).display().to_string();
        let text = text
            .replace("access.example.org:8443", &format!("{}:{}", self.world.domain, self.world.port))
            .replace("access.example.org", &self.world.domain)
            .replace("127.0.0.1:8443", &format!("127.0.0.1:{}", self.world.port))
            .replace("127.0.0.1:3000", &self.app.address.to_string())
            .replace("port_value: 8443", &format!("port_value: {}", self.world.port))
            .replace("port_value: 3000", &format!("port_value: {}", self.app.address.port()))
            .replace("0.0.0.0, port_value: 443", &format!("127.0.0.1, port_value: {}", self.proxy.port()))
            .replace("localhost:443", &format!("localhost:{}", self.proxy.port()))
            .replace("listen 443", &format!("listen {}", self.proxy))
            .replace("SECRET", SECRET);
        let text = ["nginx", "caddy", "envoy"].iter().fold(text, |text, name| {
            text.replace(&format!("/etc/{name}/vouchsafe-root.pem"), &here("root.pem"))
                .replace(&format!("/etc/{name}/wiki.pem"), &here("wiki.pem"))
                .replace(&format!("/etc/{name}/wiki.key"), &here("wiki.key"))
        });
        let path = self.dir.join(file);
        std::fs::write(&path, text).expect("written");
        path
    }

    async fn nginx() -> Self {
        let mut office = Self::start("nginx", "edge").await;
        office.config("nginx.conf");
        office.config("vouchsafe-proxy.conf");
        office.config("vouchsafe-strip.conf");
        let here = |name: &str| office.dir.join(name).display().to_string();
        let around = format!(
            "daemon off; master_process off; pid {}; error_log {} info;\nevents {{}}\nhttp {{ access_log off; \
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; \
             uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\ninclude {}; }}\n",
            here("nginx.pid"),
            here("nginx.error"),
            here("nginx.conf"),
            dir = office.dir.display()
        );
        let main = office.dir.join("main.conf");
        std::fs::write(&main, around).expect("written");
        let (prefix, main) = (office.dir.display().to_string(), main.display().to_string());
        let (arguments, log) = (["-p", &prefix, "-c", &main], office.dir.join("nginx.log"));
        office.server = Some(Server::start("/usr/sbin/nginx", &arguments, &log, office.proxy).await);
        office
    }

    fn url(&self, path: &str) -> Url {
        format!("https://{}:{}{path}", self.world.host("wiki"), self.proxy.port()).parse().expect("url")
    }

    /// curl to the proxy, with what it needs to believe its name.
    async fn curl(&self, path: &str, arguments: &[&str]) -> Curled {
        let authority = self.dir.join("authority.pem").display().to_string();
        let at = format!("{}:{}:127.0.0.1", self.world.host("wiki"), self.proxy.port());
        let url = format!("https://{}:{}{path}", self.world.host("wiki"), self.proxy.port());
        let mut all = vec!["--cacert", &authority, "--resolve", &at, "--path-as-is"];
        all.extend(arguments);
        all.push(&url);
        curl(&self.world, &all).await
    }

    /// The gateway itself, as the proxy would ask it.
    async fn ask(&self, path: &str, fields: &[String]) -> Curled {
        let at = format!("{}:{}:127.0.0.1", self.world.host("gw"), self.world.port);
        let url = format!("https://{}:{}{path}", self.world.host("gw"), self.world.port);
        let mut all = vec!["--resolve", &at];
        all.extend(fields.iter().flat_map(|field| ["-H", field.as_str()]));
        all.push(&url);
        curl(&self.world, &all).await
    }

    /// Signs alice in through the proxy; gives her cookie there, as a field.
    async fn cookie(&self) -> String {
        let url = self.url("/start?a=b");
        let open = || self.alice.browser.open(&url, &self.alice.authenticator);
        let mut page = open().await.expect("opened");
        // A proxy that got no answer in time says so with 5xx, which is no denial.
        for () in patiently() {
            if !page.status.is_server_error() {
                break;
            }
            page = open().await.expect("opened");
        }
        assert_eq!(page.status, 200, "{} {}", page.url, page.text());
        assert_eq!((page.url.port(), page.url.path()), (Some(self.proxy.port()), "/start"), "back at the proxy");
        assert_eq!(page.url.query(), Some("a=b"));
        let cookies = self.alice.browser.cookies_of(&self.world.host("wiki"));
        let (name, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("a session");
        format!("Cookie: {name}={value}")
    }

    /// The last request head that reached the app.
    fn last_head(&self) -> String {
        let text = self.app.text();
        let head = text.trim_end().rsplit("\r\n\r\n").find(|head| !head.is_empty()).unwrap_or_default();
        head.to_ascii_lowercase()
    }

    /// What every proxy has to do: let her in, tell the app who she is, keep our secrets, and deny.
    async fn serves(&self, name: &str, protocol: &str) {
        assert_eq!(self.app.connections(), 0);
        let stranger = self.curl("/page", &[]).await;
        assert_eq!(stranger.status, 401, "{stranger:?}");
        assert!(stranger.header("location").is_none(), "a program isn't sent anywhere: {stranger:?}");
        let browser = self.curl("/page?x=1", &["-H", "Accept: text/html"]).await;
        let to = browser.header("location").unwrap_or_default();
        let expected = self.url("/.vouchsafe/sign-in?to=%2Fpage%3Fx%3D1");
        assert_eq!((browser.status, to), (302, expected.as_str()), "{browser:?}");
        assert_eq!(browser.header("cache-control"), Some("no-store"), "{browser:?}");
        assert_eq!(self.app.connections(), 0, "nobody reached the app");

        let cookie = self.cookie().await;
        let spoofed = ["-H", &cookie, "-H", "Cookie: lang=de", "-H", "X-Vouchsafe-User: root", "-H"];
        let spoofed = [&spoofed[..], &["X-Vouchsafe-Assertion: x.y.z", "-H", "X-Vouchsafe-Proxy: me:me"]].concat();
        let answer = self.curl("/page?q=1", &spoofed).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let head = self.last_head();
        assert!(head.starts_with("get /page?q=1 http/1.1"), "{head}");
        assert_eq!(head.matches("x-vouchsafe-assertion: ey").count(), 1, "{head}");
        assert!(head.contains("lang=de") && !head.contains("__host-vouchsafe"), "{head}");
        for foreign in ["x.y.z", "x-vouchsafe-user", "x-vouchsafe-proxy", &SECRET.to_ascii_lowercase()] {
            assert!(!head.contains(foreign), "{foreign}: {head}");
        }

        self.sends_on_no_field_that_misleads(&cookie).await;

        // To some apps it is the same field (GHSA-f59h-q822-g45g); Envoy takes no such request at all.
        let alias = self.curl("/page", &["-H", &cookie, "-H", "X_Vouchsafe_User: root"]).await;
        assert!([0, 200, 400].contains(&alias.status), "answered, refused or broken off: {alias:?}");
        assert!(!self.app.text().to_ascii_lowercase().contains("root"));

        let before = self.app.connections();
        let denied = self.curl("/admin", &["-H", &cookie]).await;
        assert_eq!(denied.status, 403, "{denied:?}");
        // Envoy answers before the body came, and ends the stream; curl takes that for a fault in HTTP/2.
        let written = self.curl("/page", &["-H", &cookie, "-X", "POST", "-d", "x=1", "--http1.1"]).await;
        assert_eq!(written.status, 403, "{written:?}");
        assert!(!self.app.text().contains("/admin") && !self.app.text().contains("POST"));
        assert_eq!(self.app.connections(), before, "the app is not even connected to");
        // What only the proxy says can't be made to go by `Connection`, nor be said by the client (CVE-2024-45410).
        let named = "Connection: close, X-Vouchsafe-Proxy, X-Forwarded-Uri, X-Forwarded-Host, X-Forwarded-For";
        let uri =
            ["-H", named, "-H", "X-Forwarded-Uri: /page", "-H", "X-Forwarded-Method: GET", "-H", &cookie, "--http1.1"];
        let dropped = self.curl("/admin", &uri).await;
        assert!([400, 403].contains(&dropped.status), "{dropped:?}");
        assert!(!self.app.text().contains("/admin"));
        let record = self.world.decision(denied.decision()).await;
        let told = (record.proxy.as_deref(), record.protocol.as_deref(), record.reason.as_deref());
        assert_eq!(told, (Some(name), Some(protocol), Some("condition_failed")), "{record:?}");
        let what = (record.user.as_deref(), record.path.as_deref(), record.ip.as_deref(), record.resource.as_deref());
        assert_eq!(what, (Some("alice"), Some("/admin"), Some("127.0.0.1"), Some("wiki")), "{record:?}");

        // A WebSocket is another action than reading.
        let upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"];
        let own = format!("Origin: https://{}:{}", self.world.host("wiki"), self.proxy.port());
        let key = ["-H", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "--http1.1"];
        let socket = self.curl("/socket", &[&upgrade[..], &key, &["-H", &own, "-H", &cookie]].concat()).await;
        assert_eq!(socket.status, 403, "{socket:?}");
        let record = self.decided("http:upgrade").await;
        assert_eq!(record.reason.as_deref(), Some("no_permit"), "{record:?}");
        let from_evil = [&upgrade[..], &key, &["-H", "Origin: https://evil.example", "-H", &cookie]].concat();
        let evil = self.curl("/socket", &from_evil).await;
        assert!([401, 403].contains(&evil.status), "{evil:?}");
        assert!(!self.app.text().contains("/socket"));

        // A path that could be read in two ways reaches nobody.
        for path in [
            "/public/../admin",
            "/%61dmin",
            "//admin",
            "/public/%2e%2e/admin",
            "/public%2f..%2fadmin",
            "/admin%00",
            "/x;/../admin",
            "/.vouchsafe/../admin",
            "/x/../.vouchsafe/callback?code=1",
        ] {
            let answer = self.curl(path, &["-H", &cookie]).await;
            assert!(answer.status != 200 || answer.body.is_empty(), "{path}: {answer:?}");
        }
        let seen = self.app.text().to_ascii_lowercase();
        assert!(!seen.contains("admin") && !seen.contains("callback") && !seen.contains("%2e"), "{seen}");

        // What is revoked is over with the next request.
        let _: Value = self
            .world
            .admin
            .post("/v1/locks", &json!({"kind": "user", "name": "alice", "reason": "t"}))
            .await
            .expect("locked");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.curl("/page", &["-H", &cookie]).await.status != 401 {
            assert!(tokio::time::Instant::now() < deadline, "the lock never told");
        }
    }

    /// With a path that is permitted, what the client's fields say of it reaches no app: neither another request, nor
    /// another person.
    async fn sends_on_no_field_that_misleads(&self, cookie: &str) {
        for other in [
            "X-Original-URL: /elsewhere",
            "X-Original-URI: /elsewhere",
            "X-Rewrite-URL: /elsewhere",
            "X-HTTP-Method-Override: DELETE",
            "X-HTTP-Method: DELETE",
            "X-Method-Override: DELETE",
            "X-Middleware-Subrequest: elsewhere",
            "X-Script-Name: /elsewhere",
        ] {
            let answer = self.curl("/page", &["-H", cookie, "-H", other]).await;
            // nginx knows no other refusal than 403.
            assert!([400, 403].contains(&answer.status), "{other}: {answer:?}");
            let record = self.world.decision(answer.decision()).await;
            assert_eq!(record.reason.as_deref(), Some("ambiguous_request"), "{other}: {record:?}");
        }
        let names = [
            "Remote-User",
            "Remote-Groups",
            "X-Remote-User",
            "X-WebAuth-User",
            "X-WebAuth-Email",
            "X-User",
            "X-User-Id",
            "X-Forwarded-User",
            "X-Forwarded-Groups",
            "X-Forwarded-Uri",
            "X-Forwarded-Prefix",
            "Forwarded",
            "X-Real-IP",
            "True-Client-IP",
            "X-Auth-Request-Email",
            "X-Authentik-Username",
            "X-SSL-Client-Cert",
            "SSL-Client-Verify",
            "X-Pomerium-Jwt-Assertion",
            "Cf-Access-Jwt-Assertion",
            "X-Amzn-Oidc-Identity",
            "X-MS-Client-Principal",
            "Tailscale-User-Login",
            "X-Vouchsafe-User",
            "X-Vouchsafe-Groups",
            "X-Vouchsafe-Device",
            "X-Vouchsafe-Decision",
            "X-Vouchsafe-Would-Deny",
            "X-Vouchsafe-Port",
            "X-Vouchsafe-CSRF",
        ];
        let fields: Vec<String> = names.iter().map(|name| format!("{name}: mallory")).collect();
        let more = ["-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Forwarded-Proto: http", "-H", cookie];
        let fields = fields.iter().flat_map(|field| ["-H", field]).chain(more).collect::<Vec<_>>();
        let answer = self.curl("/page?misleads=0", &fields).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let head = self.last_head();
        assert!(head.starts_with("get /page?misleads=0 http/1.1"), "{head}");
        let of = |start: &str| head.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
        assert_eq!(of("x-forwarded-for:"), ["x-forwarded-for: 127.0.0.1"], "{head}");
        assert_eq!(of("x-forwarded-proto:"), ["x-forwarded-proto: https"], "{head}");
        // Such a name as nobody has thought of yet is taken away too, or the request is refused for it.
        let new = self.curl("/page", &["-H", cookie, "-H", "X-Auth-Invented: mallory"]).await;
        assert!([200, 403].contains(&new.status), "{new:?}");
        let seen = self.app.text().to_ascii_lowercase();
        assert!(!seen.contains("mallory") && !seen.contains("elsewhere") && !seen.contains("delete"), "{seen}");
    }

    /// The last decision on that action.
    async fn decided(&self, action: &str) -> Record {
        for () in patiently() {
            let query = AuditQuery { resource: Some("wiki".into()), ..AuditQuery::default() };
            let records = self.world.audit(query).await;
            let is = |record: &&Record| record.kind == Kind::Decision && record.action.as_deref() == Some(action);
            if let Some(record) = records.iter().rev().find(is) {
                return record.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no decision on {action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_asks_as_the_guide_has_it() {
    let office = Office::nginx().await;
    office.serves("edge", "forward-auth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_asks_as_the_guide_has_it() {
    let mut office = Office::start("caddy", "door").await;
    let config = office.config("Caddyfile").display().to_string();
    let (proof, home) = (format!("VOUCHSAFE_PROXY=door:{SECRET}"), format!("HOME={}", office.dir.display()));
    let data = format!("XDG_DATA_HOME={}", office.dir.display());
    let arguments = [&proof, &home, &data, "caddy", "run", "--adapter", "caddyfile", "--config", &config];
    office.server = Some(Server::start("env", &arguments, &office.dir.join("caddy.log"), office.proxy).await);
    office.serves("door", "forward-auth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_asks_as_the_guide_has_it() {
    let mut office = Office::start("envoy", "mesh").await;
    let config = office.config("envoy.yaml").display().to_string();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/.venv/lib");
    let found = std::fs::read_dir(python).expect("run ./test, which installs it").flatten();
    let program = found.map(|entry| entry.path().join("site-packages/envoy/_bin/envoy")).find(|path| path.exists());
    let program = program.expect("Envoy is installed by ./test").display().to_string();
    let arguments = ["-c", &config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"];
    office.server = Some(Server::start(&program, &arguments, &office.dir.join("envoy.log"), office.proxy).await);
    office.serves("mesh", "ext-authz").await;
}
