use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vouchsafe_runtime::tls::{ClientCertificates, Credentials};

use super::dial::Direct;
use super::*;

struct Site {
    address: SocketAddr,
    root_pem: String,
    tasks: TaskGroup,
}

/// A TLS site for `*.corp.example` that answers `/start` with a cookie and a redirect to another
/// host, `/circle` with itself, and everything else with the request's headers.
async fn site() -> Site {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["*.corp.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let credentials = Credentials { chain_pem: &leaf.pem(), key_pem: &key.serialize_pem() };
    let shown = tls::Shown::load(&credentials).unwrap();
    let config = tls::server(shown, &ClientCertificates::NotAsked, &[b"http/1.1"]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskGroup::new();
    let connections = tasks.clone();
    let count = Arc::new(AtomicUsize::new(0));
    tasks.spawn("site", async move {
        while let Ok((stream, from)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            connections.spawn("site connection", async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(move |request| {
                    let answer = answer(&request, from, count.fetch_add(1, Ordering::Relaxed));
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Site { address, root_pem, tasks }
}

fn answer(request: &Request<hyper::body::Incoming>, from: SocketAddr, count: usize) -> http::Response<body::Body> {
    let redirect = |to: String| {
        http::Response::builder()
            .status(303)
            .header(LOCATION, to)
            .header(SET_COOKIE, format!("__Host-n={count}; Path=/; Secure; HttpOnly"))
            .body(body::empty())
            .unwrap()
    };
    match request.uri().path() {
        "/start" => redirect(format!("https://b.corp.example:{}/seen", from.port())),
        "/circle" => redirect("/circle".to_owned()),
        _ => {
            let headers: std::collections::BTreeMap<_, _> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
                .chain([("peer".to_owned(), from.ip().to_string())])
                .collect();
            http::Response::new(body::full(serde_json::to_vec(&headers).unwrap()))
        }
    }
}

fn browser(site: &Site, from: Option<std::net::IpAddr>) -> Browser {
    let dial = Direct { gateway: site.address, from };
    Browser::new(Arc::new(dial), &site.root_pem, site.tasks.clone()).unwrap()
}

type Headers = std::collections::BTreeMap<String, String>;

#[tokio::test]
async fn cookies_stay_with_their_host_across_redirects() {
    let site = site().await;
    let browser = browser(&site, None);
    let page = browser.get(&Url::parse("https://a.corp.example:8443/start").unwrap()).await.unwrap();
    assert_eq!(page.url.host_str(), Some("b.corp.example"));
    let headers: Headers = page.json().unwrap();
    assert_eq!(headers.get("cookie"), None, "the cookie of a went to b");
    assert_eq!(headers["sec-fetch-mode"], "navigate");
    assert_eq!(browser.cookies_of("a.corp.example"), [("__Host-n".to_owned(), "0".to_owned())]);
    let page = browser.get(&Url::parse("https://a.corp.example:8443/x").unwrap()).await.unwrap();
    let headers: Headers = page.json().unwrap();
    assert_eq!(headers["cookie"], "__Host-n=0");
    assert_eq!(headers["host"], "a.corp.example:8443");
}

#[tokio::test]
async fn circles_wrong_names_and_wrong_roots_fail() {
    let site = site().await;
    let browser = browser(&site, None);
    let circle = browser.get(&Url::parse("https://a.corp.example/circle").unwrap()).await;
    assert!(matches!(circle, Err(BrowserError::TooManyRedirects { .. })), "{circle:?}");
    let other = browser.get(&Url::parse("https://a.other.example/").unwrap()).await;
    assert!(matches!(other, Err(BrowserError::Tls { .. })), "{other:?}");
    let plain = browser.get(&Url::parse("http://a.corp.example/").unwrap()).await;
    assert!(matches!(plain, Err(BrowserError::Address { .. })), "{plain:?}");
    let stranger = Site { root_pem: self::site().await.root_pem, ..site };
    let stranger = self::browser(&stranger, None).get(&Url::parse("https://a.corp.example/").unwrap()).await;
    assert!(matches!(stranger, Err(BrowserError::Tls { .. })), "{stranger:?}");
}

#[tokio::test]
async fn scripts_and_forms_tell_their_origin_and_the_source_address_is_ours_to_choose() {
    let site = site().await;
    let browser = browser(&site, Some(std::net::Ipv4Addr::new(127, 0, 0, 2).into()));
    let url = Url::parse("https://a.corp.example/x").unwrap();
    let headers: Headers = browser.post_json(&url, &serde_json::json!({})).await.unwrap().json().unwrap();
    assert_eq!(headers["origin"], "https://a.corp.example");
    assert_eq!(headers["sec-fetch-site"], "same-origin");
    assert_eq!(headers["peer"], "127.0.0.2");
    let headers: Headers = browser.post_form(&url, &[("a", "b c")]).await.unwrap().json().unwrap();
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    let headers: Headers = browser.get_once(&url, Cause::Tool).await.unwrap().json().unwrap();
    assert_eq!(headers["accept"], "*/*");
    assert_eq!(headers.get("sec-fetch-mode"), None);
}
