//! Connections: how many there may be, what they may take, and how they end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::middleware::AddExtension;
use axum::{Extension, Router};
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Layer;

use crate::auth::{CertificateNames, Peer};
use crate::tls::Tls;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The most requests at the same time on one connection.
const MAX_STREAMS: u32 = 128;
/// The most bytes of the head of a request.
const MAX_HEAD_BYTES: u32 = 64 << 10;
/// How often an HTTP/2 connection is asked whether somebody is there, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A connection, for the requests on it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) head: Duration,
}

/// Answers on `listener` with `router` until `handle` ends it.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<&Tls>,
    bounds: Bounds,
    handle: Handle<SocketAddr>,
    router: Router,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(bounds.connections));
    let head = bounds.head;
    let mut server = Server::from_listener(listener).handle(handle);
    let builder = server.http_builder();
    let mut http1 = builder.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES);
    let service = router.into_make_service();
    match tls {
        None => {
            let gate = Gate {
                inner: DefaultAcceptor::new(),
                permits,
                head,
                certificate: |_: &TcpStream| None,
            };
            server.acceptor(gate).serve(service).await
        }
        Some(tls) => {
            let inner = RustlsAcceptor::new(tls.current());
            let gate = Gate {
                inner: inner.handshake_timeout(tls.handshake_timeout()),
                permits,
                head,
                certificate,
            };
            server.acceptor(gate).serve(service).await
        }
    }
}

/// Lets so many connections in, and tells requests whose they are.
struct Gate<A, T> {
    inner: A,
    permits: Arc<Semaphore>,
    head: Duration,
    certificate: fn(&T) -> Option<Arc<CertificateNames>>,
}

impl<A: Clone, T> Clone for Gate<A, T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            permits: Arc::clone(&self.permits),
            ..*self
        }
    }
}

type TlsStream = <RustlsAcceptor as Accept<TcpStream, ()>>::Stream;

/// The names of the certificate that the client showed.
fn certificate(stream: &TlsStream) -> Option<Arc<CertificateNames>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(Arc::new(CertificateNames::of(chain.first()?)))
}

type Accepting<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl<A, T, S> Accept<TcpStream, S> for Gate<A, T>
where
    A: Accept<TcpStream, S, Stream = T>,
    A::Future: Send + 'static,
    A::Service: Send,
    T: Send + 'static,
{
    type Stream = Opening<T>;
    type Service = AddExtension<A::Service, Connection>;
    type Future = Accepting<(Self::Stream, Self::Service)>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            tracing::debug!("too many connections: closing one");
            return Box::pin(async { Err(io::ErrorKind::QuotaExceeded.into()) });
        };
        let peer = stream.peer_addr().and_then(|peer| {
            // A decision is one small write.
            stream.set_nodelay(true)?;
            Ok(peer)
        });
        let accepting = self.inner.accept(stream, service);
        let (head, certificate) = (self.head, self.certificate);
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            let connection = Connection {
                peer: Peer {
                    address: peer?.ip(),
                    certificate: certificate(&stream),
                },
                _permit: Arc::new(permit),
            };
            let service = Extension(connection).layer(service);
            Ok((Opening::new(stream, head), service))
        })
    }
}

/// A stream that must tell within a time which protocol it speaks. From there on the protocols'
/// own limits hold, which begin only then.
struct Opening<S> {
    stream: S,
    /// The bytes of the preface that were read, and the time for the rest of it; none once the
    /// protocol is known.
    waiting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Opening<S> {
    fn new(stream: S, limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        Self {
            stream,
            waiting: Some((0, Box::pin(sleep_until(deadline)))),
        }
    }

    /// Takes note of `bytes`, which were just read.
    fn saw(&mut self, bytes: &[u8]) {
        if let Some((seen, _)) = &mut self.waiting {
            let rest = PREFACE.get(*seen..).unwrap_or_default();
            let is_preface = bytes.len() < rest.len() && rest.starts_with(bytes);
            *seen += bytes.len();
            if !is_preface {
                self.waiting = None;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                this.saw(buffer.filled().get(before..).unwrap_or_default());
                Poll::Ready(result)
            }
            Poll::Pending => {
                let Some((_, deadline)) = &mut this.waiting else {
                    return Poll::Pending;
                };
                deadline
                    .as_mut()
                    .poll(cx)
                    .map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    async fn opened(first: &[u8]) -> io::Result<usize> {
        let (mut client, server) = duplex(64);
        let mut server = Opening::new(server, LIMIT);
        client.write_all(first).await?;
        let mut buffer = [0; 64];
        let mut count = 0;
        while count < first.len() {
            count += server.read(&mut buffer[count..]).await?;
        }
        // Nothing more comes.
        let reading = server.read(&mut buffer[count..]);
        tokio::time::timeout(2 * LIMIT, reading)
            .await
            .unwrap_or(Ok(usize::MAX))
    }

    #[tokio::test]
    async fn a_stream_must_tell_its_protocol_in_time() {
        for late in [&b""[..], b"PRI * HT", &PREFACE[..23]] {
            let error = opened(late).await.expect_err("too late");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{late:?}");
        }
        for known in [&b"G"[..], b"POST /", PREFACE, b"PRI *\r\n"] {
            let waited = opened(known).await.expect("nobody waits for the preface");
            assert_eq!(waited, usize::MAX, "{known:?}");
        }
    }
}
