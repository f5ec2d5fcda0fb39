//! The gateway on threads of its own, in the process of the controller: what one of them is busy with,
//! such as reading thousands of policies, must not hold up the other.

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use vouchsafe_runtime::body::{Body, full};
use vouchsafe_runtime::internal::{BoxFuture, InternalService};
use vouchsafe_runtime::task::TaskGroup;

/// How long threads may take to end once nothing runs on them.
const WIND_UP: Duration = Duration::from_millis(200);

/// Threads of their own. They end with it.
pub(crate) struct Apart {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Apart {
    /// Starts them: one for each processor that this process may use.
    ///
    /// # Errors
    /// What the system says when it has no more threads.
    pub(crate) fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let mut builder = match processors {
            // Nobody to share with: then waking a task is no more than to put it in a row.
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        let runtime = builder.thread_name("gateway").enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("gateway".to_owned()).spawn(move || {
            // That the other end goes away is what is waited for.
            let _ = runtime.block_on(ended);
            runtime.shutdown_timeout(WIND_UP);
        })?;
        Ok(Self { handle, _end: end })
    }

    /// Runs a future there; what it spawns stays there as well. `None` when it panicked.
    pub(crate) async fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.handle.spawn(future).await.ok()
    }
}

/// A service that answers on the threads that it was made on, whoever calls.
pub(crate) struct AtHome {
    pub(crate) service: Arc<dyn InternalService>,
    pub(crate) home: Handle,
    pub(crate) tasks: TaskGroup,
}

impl InternalService for AtHome {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let _home = self.home.enter();
        let answering = self.service.call(request);
        let (mut tell, told) = oneshot::channel();
        self.tasks.spawn("answer of our own", async move {
            tokio::select! {
                response = answering => drop(tell.send(response)),
                // The client went away.
                () = tell.closed() => {}
            }
        });
        Box::pin(async move {
            told.await.unwrap_or_else(|_| {
                let mut response = Response::new(full("Something went wrong; it has been noted."));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    impl InternalService for Names {
        fn call(&self, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
            Box::pin(async { Response::new(full(thread::current().name().unwrap_or_default().to_owned())) })
        }
    }

    #[tokio::test]
    async fn each_works_on_its_own_threads() {
        use http_body_util::BodyExt;
        let (apart, tasks) = (Apart::start().unwrap(), TaskGroup::new());
        let here = thread::current().name().unwrap_or_default().to_owned();
        let home = AtHome { service: Arc::new(Names), home: Handle::current(), tasks: tasks.clone() };
        let there = apart.run(async move {
            let answer = home.call(Request::new(full("hello"))).await.into_body().collect().await.unwrap();
            (thread::current().name().unwrap_or_default().to_owned(), answer.to_bytes())
        });
        let (there, answered_by) = there.await.unwrap();
        assert_eq!(there, "gateway");
        assert_eq!(answered_by, here.as_bytes());
        assert!(apart.run(async { panic!("as a mistake would") }).await.is_none());
        tasks.shut_down(Duration::from_secs(5)).await;
    }
}
