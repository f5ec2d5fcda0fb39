//! An upstream that reads requests strictly, keeps every one that is complete, and answers each
//! with its own request line. What a smuggled request would add shows up as one more.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe_runtime::task::TaskGroup;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Lines behind the last chunk.
    pub trailers: Vec<String>,
    /// Whether its body came to its end.
    pub complete: bool,
}

impl Seen {
    /// All values of a field, by its name in lower case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }
}

pub struct Strict {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    bytes: Arc<AtomicUsize>,
}

impl Strict {
    pub async fn start(tasks: &TaskGroup) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = listener.local_addr().expect("address");
        let upstream = Self { address, seen: Arc::default(), bytes: Arc::default() };
        let (seen, bytes, group) = (Arc::clone(&upstream.seen), Arc::clone(&upstream.bytes), tasks.clone());
        tasks.spawn("strict upstream", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, bytes) = (Arc::clone(&seen), Arc::clone(&bytes));
                group.spawn("strict connection", async move {
                    serve(stream, &seen, &bytes).await;
                });
            }
        });
        upstream
    }

    /// Takes what was seen so far: complete requests, and those that broke off.
    pub fn take(&self) -> Vec<Seen> {
        self.bytes.store(0, Ordering::SeqCst);
        std::mem::take(&mut *self.seen.lock())
    }

    /// Bytes of heads that arrived since the last [`Strict::take`].
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>, bytes: &AtomicUsize) {
    let mut stream = BufReader::new(stream);
    while let Some((line, fields)) = head(&mut stream, bytes).await {
        let mut request = Seen { line, fields, body: Vec::new(), trailers: Vec::new(), complete: false };
        let whole = body(&mut stream, &mut request).await;
        request.complete = whole.is_some();
        let answer = request.line.clone();
        seen.lock().push(request);
        if whole.is_none() {
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn head(stream: &mut BufReader<TcpStream>, bytes: &AtomicUsize) -> Option<(String, Vec<(String, String)>)> {
    let line = text_line(stream, bytes).await?;
    let mut fields = Vec::new();
    loop {
        let field = text_line(stream, bytes).await?;
        if field.is_empty() {
            return Some((line, fields));
        }
        let (name, value) = field.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn text_line(stream: &mut BufReader<TcpStream>, bytes: &AtomicUsize) -> Option<String> {
    let mut line = Vec::new();
    let length = stream.read_until(b'\n', &mut line).await.ok()?;
    bytes.fetch_add(length, Ordering::SeqCst);
    let line = line.strip_suffix(b"\r\n")?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// Reads the body by the letter of RFC 9112 §6; `None` when it breaks off or is framed twice.
async fn body(stream: &mut BufReader<TcpStream>, request: &mut Seen) -> Option<()> {
    let none = AtomicUsize::new(0);
    let (lengths, codings) =
        (request.values("content-length").join("|"), request.values("transfer-encoding").join("|"));
    match (lengths.as_str(), codings.as_str()) {
        ("", "") => Some(()),
        ("", "chunked") => loop {
            let size = usize::from_str_radix(&text_line(stream, &none).await?, 16).ok()?;
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).await.ok()?;
            request.body.extend(chunk);
            if size == 0 {
                loop {
                    let line = text_line(stream, &none).await?;
                    if line.is_empty() {
                        return Some(());
                    }
                    request.trailers.push(line);
                }
            }
            text_line(stream, &none).await?.is_empty().then_some(())?;
        },
        (length, "") => {
            request.body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut request.body).await.ok().map(|_| ())
        }
        _ => None,
    }
}
