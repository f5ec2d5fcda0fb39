//! The API for the owner of the machine, on the Unix socket `<state>/admin.sock`.
//!
//! Who may is told by the kernel: the peer's user id has to be that of the owner of the state
//! directory, or root's. The socket's mode already keeps others out; a peer that comes all the same
//! is closed, with an audit record.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use vouchsafe_runtime::{clock, limits};
use vouchsafe_wire::audit::Kind;

use crate::api::{self, LocalOwner};
use crate::context::Context;
use crate::directory::Actor;

/// Name of the socket in the state directory.
pub(crate) const NAME: &str = "admin.sock";
/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Longest path that a Unix socket can have, bytes (`sockaddr_un` without the final zero).
const MAX_PATH_BYTES: usize = 107;
/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Failure to offer the socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// The path is longer than the operating system allows for sockets.
    #[error(
        "the path `{}` of the admin socket is longer than 107 bytes; hint: choose a shorter --dir", path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("the admin socket `{}` could not be opened", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens the socket and serves it until the role drains. The lock on the directory is held by the
/// caller, so a socket that is there already is a dead process's.
pub(crate) async fn serve(context: &Context, owner: u32) -> Result<(), AdminSocketError> {
    let path = context.settings.dir.join(NAME);
    let listener = bind(&path)?;
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.clone().spawn_vital("admin socket", async move {
        let router = api::routes(context.clone());
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tasks.draining() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (context, router) = (context.clone(), router.clone());
                    tasks.spawn("admin connection", async move {
                        connection(&context, router, stream, owner).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin socket could not accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(listener);
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

fn bind(path: &Path) -> Result<UnixListener, AdminSocketError> {
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(AdminSocketError::PathTooLong { path: path.to_owned() });
    }
    let failed = |source| AdminSocketError::Open { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Ok(()) => tracing::debug!(path = %path.display(), "removed the admin socket of an earlier run"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Between the two calls the mode of the directory, 0700, keeps others out.
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

async fn connection(context: &Context, router: Router, stream: UnixStream, owner: u32) {
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => {
            tracing::warn!(%error, "closed a connection of the admin socket: its peer can't be told");
            return;
        }
    };
    if uid != owner && uid != 0 {
        refuse(context, uid, owner).await;
        return;
    }
    let router = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(LocalOwner { uid });
        request.map(axum::body::Body::new)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIMEOUT)
        .max_buf_size(limits::MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = context.tasks.draining() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin socket ended");
    }
}

async fn refuse(context: &Context, uid: u32, owner: u32) {
    tracing::warn!(uid, "refused a connection to the admin socket");
    let mut record = Actor::Local { uid }.record(Kind::Admin, clock::now());
    record.action = Some("admin-socket.connect".to_owned());
    record.target = Some("admin-socket".to_owned());
    record.outcome = Some("failed".to_owned());
    record.detail = Some(format!("closed: only the owner of the state directory (user id {owner}) and root may"));
    let recorded = async {
        let mut write = context.store.write().await?;
        write.audit(record);
        write.commit().await
    };
    if let Err(error) = recorded.await {
        tracing::error!(error = &error as &dyn std::error::Error, "a refusal could not be recorded");
    }
}

#[cfg(test)]
mod tests;
