//! Two small web apps of the demo's company, on loopback ports of their own. They know nothing of
//! sign-in: they verify the assertion that comes with each request, show who is asking, and count
//! what reaches them, so that a refused request can be shown never to have.

pub mod assertion;
mod page;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::TcpListener;
use vouchsafe_runtime::task::TaskGroup;

use assertion::{AssertionError, Verifier};

/// Which of the two apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Department {
    /// Campaign figures.
    Marketing,
    /// The ledger.
    Finance,
}

/// One line of an app's table.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figure {
    /// What it is about.
    pub name: &'static str,
    /// In whole euros.
    pub euros: i64,
}

impl Department {
    /// Name of its app, and of its group of people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Department::Marketing => "marketing",
            Department::Finance => "finance",
        }
    }

    /// What its app shows.
    #[must_use]
    pub const fn figures(self) -> &'static [Figure] {
        match self {
            Department::Marketing => &[
                Figure { name: "Spring campaign", euros: 48_200 },
                Figure { name: "Trade fair in Oslo", euros: 21_750 },
                Figure { name: "Newsletter", euros: 3_400 },
            ],
            Department::Finance => &[
                Figure { name: "Salaries, October", euros: -412_900 },
                Figure { name: "Invoice 2207, paid", euros: 96_000 },
                Figure { name: "Tax, third quarter", euros: -58_310 },
            ],
        }
    }
}

/// A running app.
#[derive(Debug, Clone)]
pub struct App {
    department: Department,
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

struct Inside {
    department: Department,
    verifier: Arc<Verifier>,
    requests: Arc<AtomicU64>,
}

impl App {
    /// Starts an app on a free loopback port; it ends with `tasks`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(department: Department, verifier: Arc<Verifier>, tasks: &TaskGroup) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let inside = Arc::new(Inside { department, verifier, requests: Arc::clone(&requests) });
        let router = Router::new()
            .route("/", get(overview))
            .route("/api/figures", get(figures))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&inside), count))
            .with_state(inside);
        let connections = tasks.clone();
        tasks.spawn("demo app", async move {
            loop {
                let stream = tokio::select! {
                    () = connections.draining() => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            tracing::warn!(%error, "a demo app could not accept a connection");
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                            continue;
                        }
                    },
                };
                let service = TowerToHyperService::new(router.clone());
                connections.spawn("demo app connection", async move {
                    let mut server = hyper::server::conn::http1::Builder::new();
                    let server = server.timer(hyper_util::rt::TokioTimer::new());
                    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "connection to a demo app ended");
                    }
                });
            }
        });
        Ok(Self { department, address, requests })
    }

    /// Which app.
    #[must_use]
    pub fn department(&self) -> Department {
        self.department
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that ever reached it, believed or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Acquire)
    }
}

async fn count(
    State(inside): State<Arc<Inside>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    inside.requests.fetch_add(1, Ordering::AcqRel);
    next.run(request).await
}

async fn overview(State(inside): State<Arc<Inside>>, headers: HeaderMap) -> Response {
    match inside.verifier.verify(&headers).await {
        Ok(claims) => page::overview(inside.department, &claims).into_response(),
        Err(error) => unproven(&error),
    }
}

async fn figures(State(inside): State<Arc<Inside>>, headers: HeaderMap) -> Response {
    #[derive(Serialize)]
    struct Answer {
        user: String,
        device: Option<String>,
        figures: &'static [Figure],
    }
    match inside.verifier.verify(&headers).await {
        Ok(claims) => {
            let figures = inside.department.figures();
            axum::Json(Answer { user: claims.sub, device: claims.device, figures }).into_response()
        }
        Err(error) => unproven(&error),
    }
}

fn unproven(error: &AssertionError) -> Response {
    tracing::warn!(error = error as &dyn std::error::Error, "a demo app got a request that proves nobody");
    (StatusCode::UNAUTHORIZED, "This app believes only requests that come through vouchsafe.\n").into_response()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::browser::Browser;
    use crate::browser::dial::Direct;

    #[tokio::test]
    async fn who_comes_around_the_gateway_is_counted_and_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let tasks = TaskGroup::new();
        let browser = Browser::new(Arc::new(Direct::loopback(1)), &root, tasks.clone()).unwrap();
        let verifier = Verifier::new(Url::parse("https://auth.corp.example").unwrap(), "finance", browser);
        let app = App::start(Department::Finance, verifier, &tasks).await.unwrap();
        for (path, forged) in [("/", "x-vouchsafe-user"), ("/api/figures", "x-vouchsafe-assertion"), ("/none", "x")] {
            let stream = tokio::net::TcpStream::connect(app.address()).await.unwrap();
            let request = http::Request::get(path).header("host", "finance").header(forged, "bob");
            let request = request.body(vouchsafe_runtime::body::empty()).unwrap();
            let response = vouchsafe_runtime::http_client::send(stream, request, &tasks).await.unwrap();
            assert!(response.status().is_client_error(), "{path}: {}", response.status());
        }
        assert_eq!(app.requests(), 3);
    }
}
