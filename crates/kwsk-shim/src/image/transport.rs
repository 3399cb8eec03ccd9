//! HTTP and HTTPS, through a proxy where the environment names one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower::Service;

/// How long a connection may take to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Connections, kept for the next request.
#[derive(Debug, Clone)]
pub(crate) struct Transport(Client<HttpsConnector<Connector>, Body>);

impl Transport {
    pub(crate) fn new() -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_WAIT));
        http.set_nodelay(true);
        let connector = Connector { http, proxies: Arc::new(Matcher::from_env()) };
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(trusting_the_system())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self(Client::builder(TokioExecutor::new()).build(https))
    }

    /// # Errors
    /// In one line, why there was no answer, causes included.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
        wait: Duration,
    ) -> Result<Response<Incoming>, String> {
        match tokio::time::timeout(wait, self.0.request(request)).await {
            Ok(answer) => answer.map_err(|error| chain(&error)),
            Err(_) => Err(format!("no answer within {} s", wait.as_secs())),
        }
    }
}

/// An error and what caused it; hyper's own names for the layers in between say nothing.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut said: Vec<String> = Vec::new();
    for cause in causes {
        if !said.iter().any(|former| former.contains(&cause)) {
            said.push(cause);
        }
    }
    said.retain(|text| !text.starts_with("client error") || text.len() > 24);
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}

/// The authorities in the system's store; `SSL_CERT_FILE` and `SSL_CERT_DIR` name another.
fn trusting_the_system() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    // Whatever cannot be read is not trusted, and HTTPS then fails with words about an unknown issuer.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
        Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
        Err(error) => unreachable!("ring offers what TLS 1.2 and 1.3 need: {error}"),
    }
}

/// Direct for HTTP; a tunnel through the proxy, if there is one, for HTTPS.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    http: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxy = self.proxies.intercept(&to).filter(|_| to.scheme_str() == Some("https"));
        let Some(proxy) = proxy else {
            let connecting = self.http.call(to);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        let connecting = tunnel.call(to);
        Box::pin(
            async move { connecting.await.map_err(|error| format!("proxy {}: {error}", proxy.uri()).into()) },
        )
    }
}
