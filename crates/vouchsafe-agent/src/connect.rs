//! A local TCP listener whose connections each become one tunnel to one resource.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use vouchsafe_runtime::relay::{Traffic, relay};
use vouchsafe_runtime::task::TaskGroup;

use crate::local::{LocalListener, LocalStream, reset};
use crate::tunnel::{OpenError, Port, Tunnels};

/// Connections that may be open at once.
pub const MAX_CONNECTIONS: usize = 256;
/// Different refusals that are told; then each new kind is only logged.
const MAX_TOLD: usize = 64;

/// What is asked for on every connection.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name under the base domain.
    pub host: String,
    /// Port.
    pub port: Port,
}

/// Gets each *kind* of failure once, to be told to the person.
pub type Report = Arc<dyn Fn(&OpenError) + Send + Sync>;

/// Tells each kind of failure once.
pub(crate) struct Once {
    report: Report,
    told: Mutex<BTreeSet<String>>,
}

impl Once {
    pub(crate) fn new(report: Report) -> Self {
        Self { report, told: Mutex::default() }
    }

    pub(crate) fn tell(&self, error: &OpenError) {
        let kind = match error {
            OpenError::Refused(refusal) => {
                let reason = refusal.problem.as_ref().and_then(|problem| problem.reason.clone());
                format!("{} {}", refusal.status, reason.unwrap_or_default())
            }
            other => format!("{:?}", std::mem::discriminant(other)),
        };
        let first = {
            let mut told = self.told.lock();
            told.len() < MAX_TOLD && told.insert(kind)
        };
        if first {
            (self.report)(error);
        } else {
            tracing::debug!(%error, "no tunnel, as before");
        }
    }
}

/// Serves the listener until the group drains.
pub async fn serve(listener: LocalListener, tunnels: Arc<Tunnels>, target: Target, report: Report, tasks: TaskGroup) {
    let once = Arc::new(Once::new(report));
    let target = Arc::new(target);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.draining() => return,
        };
        let (tunnels, target, once) = (tunnels.clone(), target.clone(), once.clone());
        tasks.spawn("local connection", async move {
            let LocalStream { mut stream, place } = accepted;
            match tunnels.open(&target.host, target.port).await {
                Ok(tunnel) => {
                    if let Err(error) = relay(&mut stream, tunnel, &Traffic::default()).await {
                        tracing::debug!(%error, "tunnel was cut");
                        // What came so far is not the whole; an end in order would say it is.
                        reset(&stream);
                    }
                }
                Err(error) => {
                    // An end in order would look like an empty answer to the client.
                    reset(&stream);
                    once.tell(&error);
                }
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::exchange::Refusal;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncReadExt;

    #[test]
    fn each_kind_is_told_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let once = Once::new(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        for status in [403, 403, 502] {
            once.tell(&OpenError::Refused(Refusal { status, problem: None }));
        }
        once.tell(&OpenError::TimedOut);
        once.tell(&OpenError::TimedOut);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn without_a_tunnel_the_client_sees_a_reset() {
        let temp = tempfile::tempdir().unwrap();
        crate::device::tests_enrolled(temp.path());
        let tasks = TaskGroup::new();
        let tunnels = Arc::new(Tunnels::new(Arc::new(Device::load(temp.path()).unwrap()), tasks.clone()));
        let listener = LocalListener::bind("127.0.0.1:0".parse().unwrap(), 8).await.unwrap();
        let address = listener.address();
        let target = Target { host: "db.corp.example".into(), port: Port::Number(5432) };
        tasks.spawn("listener", serve(listener, tunnels, target, Arc::new(|_| {}), tasks.clone()));
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        tasks.shut_down(std::time::Duration::from_secs(1)).await;
    }
}
