//! `doctor gateway`: whether the process of this state directory serves, and if not, why.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use http::{Request, header};
use tokio::net::UnixStream;
use vouchsafe_runtime::body;
use vouchsafe_runtime::http_client::{self, ExchangeError};
use vouchsafe_wire::health::{Check, Health, Note};

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Style, clean};
use crate::verbs::vitals::SOCKET;

/// Longest answer, bytes.
const MAX_BYTES: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the process how it is, and says it.
///
/// # Errors
/// [`VerbError`] when there is none, or it is not ready.
pub(crate) async fn run(call: &Call) -> Result<Exit, VerbError> {
    let socket = call.dir.join(SOCKET);
    let asked = tokio::time::timeout(PATIENCE, ask(&socket, call)).await;
    let health = match asked {
        Ok(Ok(health)) => health,
        Ok(Err(error)) => return Err(nobody(&call.dir, error)),
        Err(_) => {
            return Err(VerbError::new(Exit::Unreachable, format!("the process says nothing for {PATIENCE:?}"))
                .hint("it hangs: look at its log, and start it anew"));
        }
    };
    if call.out.is_json() {
        call.out.json(&health)?;
    } else {
        print(call, &health)?;
    }
    if health.ready { Ok(Exit::Ok) } else { Err(VerbError::failed(format!("{} is not ready", health.role))) }
}

fn print(call: &Call, health: &Health) -> std::io::Result<()> {
    let out = &call.out;
    for Check { name, holds, words, hint } in &health.checks {
        let (mark, style) = if *holds { ("✓", Style::Good) } else { ("✗", Style::Bad) };
        out.line(&format!("{} {}: {}", out.paint(style, mark), clean(name), clean(words)))?;
        if let Some(hint) = hint {
            out.line(&format!("  {} {}", out.paint(Style::Dim, "→"), clean(hint)))?;
        }
    }
    for Note { name, words } in &health.notes {
        out.line(&format!("· {}: {}", clean(name), clean(words)))?;
    }
    Ok(())
}

/// How the process of this state directory is.
///
/// # Errors
/// [`ExchangeError`] when nobody answers there.
pub(crate) async fn ask(socket: &Path, call: &Call) -> Result<Health, ExchangeError> {
    let stream = UnixStream::connect(socket).await?;
    let mut request = Request::new(body::empty());
    *request.uri_mut() = http::Uri::from_static("/readyz");
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
    let response = http_client::send(stream, request, &call.tasks).await?;
    let bytes = http_client::collect(response.into_body(), MAX_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error).into())
}

/// Nobody answers there: perhaps nothing was ever started, or nothing has joined.
fn nobody(dir: &Path, error: ExchangeError) -> VerbError {
    let kind = match &error {
        ExchangeError::Connect(error) => error.kind(),
        ExchangeError::Http(_) | ExchangeError::TooLong { .. } => ErrorKind::Other,
    };
    match kind {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            let made = VerbError::new(Exit::Unreachable, format!("no process runs on `{}`", dir.display()));
            match vouchsafe_gateway::joined(dir) {
                Ok(_) => made.hint("start it: `vouchsafe gateway`; its log says why it ended"),
                Err(error) => made
                    .cause(error.to_string())
                    .hint("a gateway joins by a code first: `vouchsafe gateway join`")
                    .hint("for another state directory: `--dir`"),
            }
        }
        ErrorKind::PermissionDenied => VerbError::of(Exit::Denied, &error).hint("ask as the owner of the process"),
        _ => VerbError::of(Exit::Unreachable, &error),
    }
}
