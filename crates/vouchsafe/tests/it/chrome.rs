//! Chromium without a window, driven through chromedriver, with a profile of its own, passkeys of
//! its own, and the installation's root as the only authority that it knows beside the public ones.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OwnedRwLockReadGuard;
use url::Url;

use crate::peers::{pid_of, run};
use crate::world::{PATIENCE, World};

/// A browser on a wide screen, on a usual one, in a narrow window, and on a phone.
pub(crate) const WIDTHS: [u32; 4] = [1600, 1280, 820, 390];

/// What looks at pages for barriers: Deque's axe-core.
const AXE: &str = "../../tests/node/node_modules/axe-core/axe.min.js";
/// Runs it, and tells each barrier that is serious or critical.
const BARRIERS: &str = "const done = arguments[arguments.length - 1];
    axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations
        .filter(one => ['serious', 'critical'].includes(one.impact))
        .map(one => [one.id, one.help, ...one.nodes.slice(0, 3).map(node => node.html.slice(0, 300))])),
    error => done([String(error)]));";

/// A running browser.
pub(crate) struct Chrome {
    client: Client,
    /// Id of the virtual authenticator.
    authenticator: String,
    driver: Child,
    _home: TempDir,
    _unchanging: OwnedRwLockReadGuard<()>,
}

impl Chrome {
    /// Starts one on a machine without a device.
    pub(crate) async fn start(world: &World) -> Self {
        Self::start_with(world, &[]).await
    }

    /// Starts one with more arguments.
    pub(crate) async fn start_with(world: &World, arguments: &[String]) -> Self {
        // What drives the browser speaks plain HTTP, but its client wants a provider of cryptography.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let unchanging = crate::network::unchanging().await;
        let home = tempfile::tempdir().expect("temporary directory");
        trust(home.path(), &world.root_file).await;
        let (driver, port) = driver(home.path()).await;
        let mut all = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--no-first-run".into(),
            "--window-size=1280,900".into(),
            format!("--user-data-dir={}", home.path().join("profile").display()),
        ];
        all.extend_from_slice(arguments);
        let capabilities = json!({
            "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": all},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let mut builder = ClientBuilder::rustls().expect("client");
        builder.capabilities(capabilities.as_object().expect("an object").clone());
        let address = format!("http://localhost:{port}");
        let client = tokio::time::timeout(PATIENCE * 2, builder.connect(&address)).await.expect("a browser in time");
        let client = client.expect("a browser");
        let mut chrome = Self { client, authenticator: String::new(), driver, _home: home, _unchanging: unchanging };
        chrome.authenticator = chrome.new_authenticator().await;
        chrome
    }

    /// Adds an authenticator as phones and laptops have it: it keeps passkeys and verifies its user.
    async fn new_authenticator(&self) -> String {
        let made = self
            .command(
                http::Method::POST,
                "webauthn/authenticator",
                Some(json!({
                    "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
                    "hasUserVerification": true, "isUserVerified": true,
                })),
            )
            .await;
        made.as_str().expect("id of the authenticator").to_owned()
    }

    /// The person takes another authenticator in hand; the former one is out of reach.
    pub(crate) async fn change_authenticator(&mut self) {
        let path = format!("webauthn/authenticator/{}", self.authenticator);
        self.command(http::Method::DELETE, &path, None).await;
        self.authenticator = self.new_authenticator().await;
    }

    /// The passkeys that the authenticator holds.
    pub(crate) async fn passkeys(&self) -> Vec<Value> {
        let path = format!("webauthn/authenticator/{}/credentials", self.authenticator);
        self.command(http::Method::GET, &path, None).await.as_array().cloned().expect("a list")
    }

    /// Gives this browser's person the passkeys of another, as a synchronised authenticator does.
    pub(crate) async fn take_passkeys(&self, from: &Chrome) {
        for passkey in from.passkeys().await {
            let path = format!("webauthn/authenticator/{}/credential", self.authenticator);
            self.command(http::Method::POST, &path, Some(passkey)).await;
        }
    }

    pub(crate) async fn open(&self, url: &str) {
        let opened = tokio::time::timeout(PATIENCE, self.client.goto(url)).await;
        match opened {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{url}: {error}"),
            Err(_) => panic!("{url} does not load in time"),
        }
    }

    pub(crate) async fn url(&self) -> Url {
        self.client.current_url().await.expect("an address")
    }

    /// Text that a person sees.
    pub(crate) async fn text(&self) -> String {
        self.script("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Value of a JavaScript expression.
    pub(crate) async fn script(&self, expression: &str) -> Value {
        let value = self.client.execute(&format!("return ({expression});"), Vec::new()).await;
        value.unwrap_or_else(|error| panic!("`{expression}`: {error}"))
    }

    /// Waits until a JavaScript expression is true. Pages may come and go meanwhile.
    pub(crate) async fn until(&self, expression: &str) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let value = self.client.execute(&format!("return Boolean({expression});"), Vec::new()).await;
            if matches!(value, Ok(Value::Bool(true))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        panic!("never true: `{expression}`, at {}: {}", self.url().await, self.text().await);
    }

    /// Waits until the page at this host and path has loaded.
    pub(crate) async fn arrive(&self, host: &str, path: &str) {
        let (host, path) = (Value::from(host), Value::from(path));
        self.until(&format!(
            "location.hostname === {host} && location.pathname === {path} && document.readyState === 'complete'"
        ))
        .await;
    }

    /// Presses the button or link with these words, as soon as a person could.
    pub(crate) async fn press(&self, words: &str) {
        let path = format!("//*[self::button or self::a][normalize-space(.)='{words}']");
        let begun = Instant::now();
        loop {
            let found = self.client.find(Locator::XPath(&path)).await;
            let error = match found {
                Ok(element) => match element.click().await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            assert!(
                begun.elapsed() < PATIENCE,
                "can't press “{words}” at {}: {error}\n{}",
                self.url().await,
                self.text().await
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Answers a question that the page asks before it goes on.
    pub(crate) async fn confirm(&self) {
        let begun = Instant::now();
        while let Err(error) = self.client.accept_alert().await {
            assert!(begun.elapsed() < PATIENCE, "nothing is asked: {error}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Types into a field.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let field = self.client.find(Locator::Css(selector)).await.expect("a field");
        field.send_keys(text).await.expect("typed");
    }

    /// Forgets all cookies.
    pub(crate) async fn forget_cookies(&self) {
        self.devtools("Network.clearBrowserCookies", json!({})).await;
    }

    /// Shows the page as a person with that screen and taste sees it, in full length, and checks
    /// that nothing sticks out at the side. Keeps a picture where `VOUCHSAFE_SCREENSHOTS` says.
    pub(crate) async fn look(&self, name: &str) {
        for scheme in ["light", "dark"] {
            let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.devtools("Emulation.setEmulatedMedia", features).await;
            for width in WIDTHS {
                let metrics = |height: u64| json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
                self.devtools("Emulation.setDeviceMetricsOverride", metrics(900)).await;
                let size = self.script("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]");
                let size = size.await;
                assert!(size[0].as_u64() <= Some(width.into()), "{name} is wider than {width} px: {size}");
                if let Some(dir) = std::env::var_os("VOUCHSAFE_SCREENSHOTS") {
                    let height = size[1].as_u64().unwrap_or(900).clamp(900, 3_000);
                    self.devtools("Emulation.setDeviceMetricsOverride", metrics(height)).await;
                    let picture = self.client.screenshot().await.expect("a picture");
                    let file = Path::new(&dir).join(format!("{name}-{width}-{scheme}.png"));
                    std::fs::write(&file, picture).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                }
            }
        }
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
        self.devtools("Emulation.setEmulatedMedia", json!({"features": []})).await;
    }

    /// Fails where there is a barrier for people who hear a page, use the keyboard or see little contrast: on a phone in
    /// the light, and on a wide screen in the dark.
    pub(crate) async fn inspect(&self, name: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(AXE);
        let axe = std::fs::read_to_string(&file);
        let axe = axe.unwrap_or_else(|error| panic!("{}: {error}; run ./test, which installs it", file.display()));
        self.client.execute(&axe, Vec::new()).await.expect("axe-core runs");
        for (scheme, width) in [("light", 390), ("dark", 1600)] {
            // Colours that are on their way from one scheme to the other are in neither.
            let features = json!({"features": [
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]});
            self.devtools("Emulation.setEmulatedMedia", features).await;
            let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
            self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
            let found = self.client.execute_async(BARRIERS, Vec::new()).await.expect("looked");
            assert_eq!(found, json!([]), "barriers on {name}, {scheme}, {width} px: {found:#}");
        }
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
        self.devtools("Emulation.setEmulatedMedia", json!({"features": []})).await;
    }

    /// Ends the browser. Fails when a page left an error or a violation of its content security
    /// policy in the browser's log; `expected` are words of entries that belong to the test, and
    /// have to be there.
    pub(crate) async fn finish(mut self, expected: &[&str]) {
        let log = self.command(http::Method::POST, "se/log", Some(json!({"type": "browser"}))).await;
        let entries: Vec<String> = log
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| format!("{} {}", entry["level"], entry["message"]))
            .collect();
        let bad: Vec<&String> =
            entries.iter().filter(|entry| !expected.iter().any(|words| entry.contains(words))).collect();
        assert!(bad.is_empty(), "the browser's log is not empty: {bad:#?}");
        for words in expected {
            assert!(entries.iter().any(|entry| entry.contains(words)), "“{words}” is not in the log: {entries:#?}");
        }
        let _ = tokio::time::timeout(PATIENCE, self.client.clone().close()).await;
        let _ = self.driver.start_kill();
        let _ = self.driver.wait().await;
    }

    async fn devtools(&self, method: &str, parameters: Value) -> Value {
        let body = json!({"cmd": method, "params": parameters});
        self.command(http::Method::POST, "goog/cdp/execute", Some(body)).await
    }

    async fn command(&self, method: http::Method, path: &str, body: Option<Value>) -> Value {
        let command = Raw { method, path: path.to_owned(), body };
        self.client.issue_cmd(command).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // A test that failed leaves the browser behind; it is in the driver's process group.
        if let Some(pid) = self.driver.id() {
            let _ = rustix::process::kill_process_group(pid_of(pid), rustix::process::Signal::KILL);
        }
    }
}

/// A command that fantoccini has no name for.
#[derive(Debug)]
struct Raw {
    method: http::Method,
    path: String,
    body: Option<Value>,
}

impl WebDriverCompatibleCommand for Raw {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

/// Makes the user's certificate store, as a person does who imports `root.pem`. Chromium refuses
/// passkeys on pages with certificate errors, so ignoring those would not do.
async fn trust(home: &Path, root: &Path) {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).expect("directory");
    let store = format!("sql:{}", store.display());
    let root = root.display().to_string();
    let made = run("certutil", &["-d", &store, "-N", "--empty-password"]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    let added = run("certutil", &["-d", &store, "-A", "-t", "C,,", "-n", "vouchsafe", "-i", &root]).await;
    assert_eq!(added.code, 0, "{}", added.err);
}

/// chromedriver, and the port that it chose.
async fn driver(home: &Path) -> (Child, u16) {
    // It takes a free port of IPv4 and ends when the same one is in use on IPv6.
    for _ in 0..5 {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .env("HOME", home)
            .env("TMPDIR", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}; run ./test, which installs it"));
        if let Some(port) = port_of(&mut driver).await {
            return (driver, port);
        }
    }
    panic!("chromedriver ends at every start");
}

/// The port that it says; none when it ended.
async fn port_of(driver: &mut Child) -> Option<u16> {
    let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Ok(Some(line)) = lines.next_line().await {
            let port =
                line.split_once("successfully on port ").and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            if let Some(port) = port {
                return Some(port);
            }
        }
        None
    });
    let port = found.await.expect("chromedriver is ready in time")?;
    // Reads on, so that chromedriver never waits for its output.
    #[expect(clippy::disallowed_methods, reason = "a test's reader, which ends with the process it reads")]
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some(port)
}
