//! Load generators of others: no request may fail. They show no client certificate, so they ask as
//! the person's browser does, with her cookie.

use std::error::Error;
use std::fs;

use tokio::process::Command;

use crate::contenders::Company;

const REQUESTS: &str = "10000";
const CONNECTIONS: &str = "64";
const TIMES: usize = 3;

pub(super) async fn run(company: &Company) -> Result<(), Box<dyn Error>> {
    let cookie = format!("Cookie: {}", company.cookie().await?);
    let url = company.url()?;
    let (address, url) = (format!("--connect-to=127.0.0.1:{}", company.port), url.as_str());
    for _ in 0..TIMES {
        for version in ["--h1", "--npn-list=h2"] {
            let arguments = [version, "-n", REQUESTS, "-c", CONNECTIONS, "-H", &cookie, &address, url];
            let said = output("h2load", &arguments).await?;
            let all = format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout");
            if !said.contains(&all) || !said.contains(&format!("status codes: {REQUESTS} 2xx")) {
                return Err(format!("h2load {version}: {said}").into());
            }
            let finished = said.lines().find(|line| line.starts_with("finished in")).unwrap_or_default();
            println!("h2load {version} -n {REQUESTS} -c {CONNECTIONS}: no error, {finished}");
        }
        println!("wrk -c {CONNECTIONS}: no error, {}", wrk(company, &cookie, url).await?);
    }
    println!();
    Ok(())
}

/// wrk finds its server by name only, so it gets a hosts file of its own.
async fn wrk(company: &Company, cookie: &str, url: &str) -> Result<String, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let hosts = dir.path().join("hosts");
    let host = company.url()?.host_str().unwrap_or_default().to_owned();
    fs::write(&hosts, format!("127.0.0.1 {host} localhost\n"))?;
    let script = "mount --bind \"$0\" /etc/hosts && exec wrk --threads 1 --duration 2s --timeout 10s \"$@\"";
    let hosts = hosts.display().to_string();
    let arguments = ["-m", "sh", "-c", script, &hosts, "--connections", CONNECTIONS, "--header", cookie, url];
    let arguments =
        if rustix::process::geteuid().is_root() { &arguments[..] } else { &[&["-r"], &arguments[..]].concat() };
    let said = output("unshare", arguments).await?;
    let made = said.lines().find(|line| line.contains("requests in")).unwrap_or_default().trim();
    let count: usize = made.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
    if said.contains("Non-2xx") || said.contains("Socket errors") || count < 1_000 {
        return Err(format!("wrk: {said}").into());
    }
    Ok(made.to_owned())
}

async fn output(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).output().await?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
