//! Servers that always answer the same: the upstream of what is measured, and a bare one over mTLS.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vouchsafe_runtime::task::TaskGroup;

use crate::{pki, say};

/// Length of each answer's body.
pub(crate) const BODY_BYTES: usize = 1_024;

/// Runs the server of that name.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let acceptor = match (name, arguments.first()) {
        ("fixed-plain", None) => None,
        ("fixed-mtls", Some(dir)) => {
            let mut config = pki::server(Path::new(dir))?;
            // As the product: tickets that the server keeps nothing for, one each.
            config.ticketer = Ticketer::new()?;
            config.send_tls13_tickets = 1;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
        _ => return Err(format!("no server is called `{name}`").into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(serve(acceptor))
}

async fn serve(acceptor: Option<TlsAcceptor>) -> Result<(), Box<dyn Error>> {
    let (tasks, listener) = (TaskGroup::new(), TcpListener::bind("127.0.0.1:0").await?);
    say(&json!({"listening": listener.local_addr()?.to_string()}))?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    let answer: Arc<[u8]> = [head.as_bytes(), &[b'x'; BODY_BYTES]].concat().into();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true)?;
        let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
        tasks.spawn("connection", async move {
            match acceptor {
                None => answer_all(stream, &answer).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer_all(stream, &answer).await;
                    }
                }
            }
        });
    }
}

/// Answers each head; there are no bodies.
async fn answer_all<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &[u8]) {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        seen.extend_from_slice(piece.get(..length).unwrap_or_default());
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}
