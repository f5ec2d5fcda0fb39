//! PostgreSQL through tunnels: real servers, real psql and pgbench.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use vouchsafe_demo::postgres::install::Installation;
use vouchsafe_demo::postgres::{Cluster, Plan, PsqlTls, ROLE, ServerTls};
use vouchsafe_wire::api::AuditQuery;

use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World, patiently};

const POLICY: &str = r#"
@id("marketing-db")
@reason("Marketing staff read the marketing database on an enrolled device.")
permit (principal in Group::"marketing", action == Action::"net:connect", resource == Tcp::"marketing-db");

@id("finance-db")
permit (principal in Group::"finance", action == Action::"net:connect", resource == Tcp::"finance-db");
"#;

/// Figures to read, and room for pgbench's own tables.
const TABLES: &str =
    "CREATE TABLE figures (n int); INSERT INTO figures VALUES (1); GRANT CREATE ON SCHEMA public TO demo;";

struct Databases {
    world: World,
    marketing: Cluster,
    finance: Cluster,
    laptop: TestDevice,
}

/// A server certificate for a database.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A server with one database.
pub async fn cluster(database: &'static str) -> Cluster {
    let installation = Installation::find().expect("searched").expect("PostgreSQL is installed by ./test");
    let (chain, key) = certificate();
    let tls = Some(ServerTls { chain_pem: &chain, key_pem: &key });
    Cluster::start(&installation, Plan { database, tables: TABLES, tls }).await.expect("a cluster")
}

impl Databases {
    async fn start() -> Self {
        let world = World::start().await;
        let (marketing, finance) = (cluster("marketing").await, cluster("finance").await);
        let tcp = |name: &str, to: &Cluster| json!({"name": name, "kind": "tcp", "upstream": to.address().to_string(), "port": 5432});
        world
            .apply(
                &["marketing", "finance"],
                json!([tcp("marketing-db", &marketing), tcp("finance-db", &finance)]),
                POLICY,
            )
            .await;
        let alice = world.person("alice", &["marketing"]).await;
        let laptop = world.device(&alice, "laptop").await;
        Self { world, marketing, finance, laptop }
    }
}

/// `vouchsafe connect`, running.
pub struct Connect {
    pub address: std::net::SocketAddr,
    child: tokio::process::Child,
}

impl Connect {
    pub async fn start(device: &TestDevice, resource: &str) -> Self {
        let mut child = Command::new(VOUCHSAFE)
            .args(["connect", resource, "--listen", "127.0.0.1:0", "--json", "--dir"])
            .arg(&device.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let stdout = child.stdout.take().expect("piped");
        let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        let line = line.expect("in time").expect("readable").expect("a ready line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        Self { address: ready["listening"].as_str().expect("address").parse().expect("an address"), child }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_reaches_marketing_and_finance_never_hears_of_it() {
    let databases = Databases::start().await;
    let connect = Connect::start(&databases.laptop, "marketing-db").await;
    for tls in [PsqlTls::Off, PsqlTls::Required] {
        let answer = databases
            .marketing
            .psql(connect.address, tls, "SELECT current_database(), count(*) FROM figures")
            .await
            .unwrap();
        assert!(answer.success, "{answer:?}");
        assert!(answer.stdout.contains("marketing"), "{answer:?}");
    }
    // Finance: refused before any byte reaches that server.
    let before = databases.finance.connections().unwrap();
    let mut refused = Connect::start(&databases.laptop, "finance-db").await;
    let answer = databases.finance.psql(refused.address, PsqlTls::Off, "SELECT 1").await.unwrap();
    assert!(!answer.success, "{answer:?}");
    assert_eq!(databases.finance.connections().unwrap(), before, "finance's own log shows no connection");
    let query =
        AuditQuery { resource: Some("finance-db".into()), kind: Some("decision".into()), ..AuditQuery::default() };
    let mut records = Vec::new();
    for () in patiently() {
        records = databases.world.audit(query.clone()).await;
        if !records.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(
        !records.is_empty() && records.iter().all(|record| record.reason.as_deref() == Some("no_permit")),
        "{records:?}"
    );
    // The person is told why, with the id that an administrator can look up.
    refused.child.start_kill().expect("killed");
    let mut stderr = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut refused.child.stderr.take().expect("piped"), &mut stderr)
        .await
        .expect("read");
    assert!(stderr.contains("dec_"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_works_through_the_tunnel_and_every_connection_is_recorded_once() {
    let databases = Databases::start().await;
    let connect = Connect::start(&databases.laptop, "marketing-db").await;
    let port = connect.address.port().to_string();
    let pgbench = async |arguments: &[&str]| {
        let mut command = Command::new("pgbench");
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", ROLE]).args(arguments).arg("marketing");
        command.env("PGPASSWORD", databases.marketing.password()).env("PGSSLMODE", "disable").kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE * 2, command.output()).await.expect("in time").expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    pgbench(&["-i", "-q", "-s", "1"]).await;
    for mode in ["simple", "prepared"] {
        let report = pgbench(&["-n", "-c", "4", "-j", "2", "-t", "100", "-M", mode]).await;
        assert!(report.contains("number of transactions actually processed: 400/400"), "{report}");
    }
    drop(connect);
    let query = AuditQuery { resource: Some("marketing-db".into()), ..AuditQuery::default() };
    for () in patiently() {
        let records = databases.world.audit(query.clone()).await;
        let count = |kind: &str| records.iter().filter(|record| record.kind.as_str() == kind).count();
        let (decisions, ends) = (count("decision"), count("flow_end"));
        if decisions == ends && decisions >= 10 {
            assert!(
                records.iter().filter(|record| record.kind.as_str() == "flow_end").all(|end| end.bytes_in > Some(0))
            );
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("every tunnel has one decision and one end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_tunnel_is_cut_when_its_right_ends() {
    let databases = Databases::start().await;
    let world = &databases.world;
    let connect = Connect::start(&databases.laptop, "marketing-db").await;
    let mut psql = Command::new("psql");
    psql.args(["-h", "127.0.0.1", "-p", &connect.address.port().to_string(), "-U", ROLE, "-d", "marketing"]);
    psql.args(["-c", "SELECT pg_sleep(60)"])
        .env("PGPASSWORD", databases.marketing.password())
        .env("PGSSLMODE", "disable");
    let psql = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("psql starts");
    for () in patiently() {
        if databases.marketing.connections().unwrap() > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let begun = std::time::Instant::now();
    world.admin.delete("/v1/groups/marketing/members/alice").await.expect("removed from the group");
    let output = tokio::time::timeout(std::time::Duration::from_secs(5), psql.wait_with_output()).await;
    let output = output.expect("the session ends").expect("ran");
    assert!(!output.status.success());
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
}
