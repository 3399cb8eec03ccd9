//! Keeps web pages from driving a local platform whose key everybody knows.
//!
//! A page reaches `127.0.0.1` in two ways. Directly: then the browser adds an `Origin` that is not ours. Or through a
//! name of its own that it makes resolve to this machine (DNS rebinding): then the `Host` is not ours. Other clients send no
//! `Origin`, and the host they were told.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, HeaderMap, ORIGIN};
use http::{Request, Uri};

use crate::error::Refused;

/// Who may send requests, as far as `Host` and `Origin` tell.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Where the server listens.
    listen: SocketAddr,
    /// The host of `--api-host`.
    api_host: String,
    /// `--allow-origin`, lower-cased.
    origins: Vec<String>,
}

impl Guard {
    /// A guard for a server on `listen` that clients know as `api_host`.
    #[must_use]
    pub fn new(listen: SocketAddr, api_host: &str, origins: &[String]) -> Self {
        let origins = origins.iter().map(|o| o.trim_end_matches('/').to_ascii_lowercase()).collect();
        let name = api_host.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
        Self { listen, api_host: name.unwrap_or_default(), origins }
    }

    /// # Errors
    /// 403 with a text that names the flag to set.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let host = host_of(request.uri(), request.headers());
        if let Some(host) = host
            && !self.is_ours(name_of(host))
        {
            return Err(Refused::foreign_page(format!(
                "Requests for host '{}' are refused: start kwsk-server with --api-host to serve it.",
                printable(host)
            )));
        }
        match request.headers().get(ORIGIN) {
            None => Ok(()),
            Some(origin) => self.admit(origin.to_str().unwrap_or("null"), host),
        }
    }

    fn admit(&self, origin: &str, host: Option<&str>) -> Result<(), Refused> {
        let origin = origin.to_ascii_lowercase();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let same = authority.is_some() && authority == host.map(str::to_ascii_lowercase).as_deref();
        if same || self.origins.iter().any(|allowed| *allowed == origin || allowed == "*") {
            return Ok(());
        }
        let origin = printable(&origin);
        Err(Refused::foreign_page(format!(
            "Requests by web pages of '{origin}' are refused: start kwsk-server with --allow-origin {origin} to admit them."
        )))
    }

    fn is_ours(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(&self.api_host) {
            return true;
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // An address cannot be rebound, so a server that listens on all of them answers to each.
        bare.parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip == self.listen.ip() || self.listen.ip().is_unspecified())
    }
}

/// The authority the client meant.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST).map(|host| host.to_str().unwrap_or("?")),
    }
}

/// The host without its port.
fn name_of(authority: &str) -> &str {
    let port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    match authority.rsplit_once(':') {
        Some((name, digits)) if port(digits) => name,
        _ => authority,
    }
}

/// Header text for a message: short, and nothing but visible ASCII.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(guard: &Guard, host: Option<&str>, origin: Option<&str>) -> bool {
        let mut request = Request::builder().uri("/");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        guard.check(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn hosts_and_origins() {
        let listen = "127.0.0.1:3233".parse().unwrap();
        let guard = Guard::new(listen, "http://kwsk.test:80", &["https://ok.example/".to_owned()]);
        for (host, origin, admit) in [
            (Some("127.0.0.1:3233"), None, true),
            (Some("localhost"), None, true),
            (Some("LOCALHOST:1"), None, true),
            (Some("[::1]:3233"), None, true),
            (Some("kwsk.test"), None, true),
            (None, None, true),
            (Some("evil.example"), None, false),
            (Some("127.0.0.1.evil.example:3233"), None, false),
            (Some("localhost.evil.example"), None, false),
            (Some("10.0.0.1:3233"), None, false),
            (Some(""), None, false),
            (Some("localhost:3233"), Some("http://localhost:3233"), true),
            (Some("localhost:3233"), Some("http://localhost:8080"), false),
            (Some("localhost:3233"), Some("https://ok.example"), true),
            (Some("localhost:3233"), Some("https://OK.example"), true),
            (Some("localhost:3233"), Some("https://ok.example.evil"), false),
            (Some("localhost:3233"), Some("null"), false),
            (Some("localhost:3233"), Some(""), false),
            (Some("evil.example"), Some("http://evil.example"), false),
        ] {
            assert_eq!(admitted(&guard, host, origin), admit, "{host:?} {origin:?}");
        }
        let open = Guard::new("0.0.0.0:3233".parse().unwrap(), "http://127.0.0.1:3233", &[]);
        assert!(admitted(&open, Some("10.0.0.1:3233"), None));
        assert!(!admitted(&open, Some("evil.example:3233"), None));
    }
}
