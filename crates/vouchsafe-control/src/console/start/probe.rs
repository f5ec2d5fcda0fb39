//! Whether an app answers where somebody says that it is. One connection, for two seconds at most.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vouchsafe_model::resource::{Resource, ResourceSpec, UpstreamHost, UpstreamScheme};

use crate::outward;

/// Longest time for each of its parts.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries it; in words what is wrong.
pub(super) async fn answers(resource: &Resource) -> Result<(), String> {
    let (upstream, speaks_http) = match &resource.spec {
        ResourceSpec::Http(http) => (&http.upstream, http.scheme == UpstreamScheme::Http),
        ResourceSpec::Tcp(tcp) => (&tcp.upstream, false),
        ResourceSpec::Udp(_) | ResourceSpec::Console => return Ok(()),
    };
    let (host, is_literal) = match &upstream.host {
        UpstreamHost::Ip(address) => (address.to_string(), true),
        UpstreamHost::Name(name) => (name.clone(), false),
    };
    let place = format!("{host}:{}", upstream.port);
    // No gateway dials what is refused here, so nothing is tried there either.
    let found = tokio::time::timeout(PATIENCE, outward::resolved(&host, is_literal, upstream.port)).await;
    let addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(why)) => return Err(format!("{place} can’t be protected: {why}. Write another address.")),
        Err(_) => return Err(format!("the name of {place} isn’t resolved within {} seconds.", PATIENCE.as_secs())),
    };
    let dialled = tokio::time::timeout(PATIENCE, TcpStream::connect(&*addresses)).await;
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::TcpListener;
    use vouchsafe_wire::api::ResourceDoc;

    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let resource = |upstream: String| {
            let doc: ResourceDoc =
                serde_json::from_value(json!({"name": "app", "kind": "tcp", "upstream": upstream})).unwrap();
            doc.to_resource().unwrap()
        };
        let refused = answers(&resource(format!("localhost:{port}"))).await.unwrap_err();
        assert!(refused.contains("can’t be protected"), "{refused}");
        let silence = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(silence.is_err(), "nobody came");
        answers(&resource(format!("127.0.0.1:{port}"))).await.unwrap();
    }
}
