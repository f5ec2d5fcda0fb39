//! Whether an app answers where somebody says that it is. One connection, for two seconds at most.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vouchsafe_model::resource::{Resource, ResourceSpec, UpstreamHost, UpstreamScheme};

/// Longest time for each of its parts.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries it; in words what is wrong.
pub(super) async fn answers(resource: &Resource) -> Result<(), String> {
    let (upstream, speaks_http) = match &resource.spec {
        ResourceSpec::Http(http) => (&http.upstream, http.scheme == UpstreamScheme::Http),
        ResourceSpec::Tcp(tcp) => (&tcp.upstream, false),
        ResourceSpec::Udp(_) | ResourceSpec::Console => return Ok(()),
    };
    let host = match &upstream.host {
        UpstreamHost::Ip(address) => address.to_string(),
        UpstreamHost::Name(name) => name.clone(),
    };
    let place = format!("{host}:{}", upstream.port);
    let dialled = tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), upstream.port))).await;
    let mut stream = match dialled {
        Err(_) => {
            return Err(format!(
                "{place} doesn’t answer within {} seconds. Is the app running there, and does a firewall let this machine in?",
                PATIENCE.as_secs()
            ));
        }
        Ok(Err(error)) => return Err(format!("{place} doesn’t answer: {error}. Start the app, or mend the address.")),
        Ok(Ok(stream)) => stream,
    };
    if !speaks_http {
        return Ok(());
    }
    let ask = format!("HEAD / HTTP/1.1\r\nHost: {place}\r\nUser-Agent: vouchsafe\r\nConnection: close\r\n\r\n");
    let mut begin = [0; 5];
    let asked = tokio::time::timeout(PATIENCE, async {
        stream.write_all(ask.as_bytes()).await?;
        stream.read_exact(&mut begin).await
    });
    match asked.await {
        Ok(Ok(_)) if begin == *b"HTTP/" => Ok(()),
        _ => Err(format!(
            "{place} takes connections, but doesn’t answer as a web server does. If it is no web app, choose “something else”."
        )),
    }
}
