use super::*;

const TABLES: &str = "CREATE TABLE campaign (name text); INSERT INTO campaign VALUES ('spring'), ('autumn');";

fn installation() -> Installation {
    Installation::find().unwrap().expect("a PostgreSQL server; `./test` installs it")
}

#[tokio::test]
async fn a_cluster_answers_over_tls_counts_its_visitors_and_leaves_nothing() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["db".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (chain_pem, key_pem) = (certificate.pem(), key.serialize_pem());
    let tls = Some(ServerTls { chain_pem: &chain_pem, key_pem: &key_pem });
    let plan = Plan { database: "marketing", tables: TABLES, tls };
    let cluster = Cluster::start(&installation(), plan).await.unwrap();
    assert_eq!(cluster.connections().unwrap(), 0);
    for (tls, expected) in [(PsqlTls::Off, "f"), (PsqlTls::Required, "t")] {
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid(); SELECT name FROM campaign ORDER BY 1";
        let answer = cluster.psql(cluster.address(), tls, sql).await.unwrap();
        assert!(answer.success, "{answer:?}");
        assert_eq!(answer.stdout, format!("{expected}\nautumn\nspring"));
    }
    assert_eq!(cluster.connections().unwrap(), 2);
    let (dir, address) = (cluster.dir.path().to_owned(), cluster.address());
    assert!(!format!("{cluster:?}").contains(cluster.password()));
    drop(cluster);
    assert!(!dir.exists());
    assert!(std::net::TcpStream::connect(address).is_err(), "the server still listens");
}

#[tokio::test]
async fn the_port_alone_is_no_open_door() {
    let plan = Plan { database: "finance", tables: "", tls: None };
    let cluster = Cluster::start(&installation(), plan).await.unwrap();
    let call = Call { to: cluster.address(), tls: PsqlTls::Off, role: ROLE, database: "finance", input: "SELECT 1" };
    let answer = run_psql(&installation(), "guessed", &call).await.unwrap();
    assert!(!answer.success);
    assert!(answer.stderr.contains("password authentication failed"), "{answer:?}");
    let answer = cluster.psql(cluster.address(), PsqlTls::Off, "CREATE DATABASE other").await.unwrap();
    assert!(!answer.success, "{answer:?}");
}
