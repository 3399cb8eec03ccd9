//! Host names without the C library: its resolver loads plug-ins of the image it finds itself in, which a static binary
//! that runs in any image must not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer over UDP without extensions.
const DATAGRAM: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// The type of its records.
    fn kind(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Config {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// The first address of `host`, or why there is none.
pub(crate) async fn address(host: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let read = async |path| tokio::fs::read_to_string(path).await.unwrap_or_default();
    if let Some(ip) = in_hosts(&read(HOSTS).await, host) {
        return Ok(SocketAddr::new(ip, port));
    }
    let config = Config::parse(&read(RESOLV_CONF).await, DNS_PORT);
    lookup(&config, host).await.map(|ip| SocketAddr::new(ip, port))
}

fn in_hosts(text: &str, host: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(ip)
    })
}

impl Config {
    fn parse(text: &str, port: u16) -> Self {
        let mut config = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|word| word.parse().ok());
                    config.servers.extend(ip.map(|ip| SocketAddr::new(ip, port)));
                }
                Some("search" | "domain") => config.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    config.ndots = ndots.unwrap_or(config.ndots);
                }
                Some(_) | None => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        config
    }

    /// The full names to ask for, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(full) = host.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let mut all: Vec<_> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let many_dots = host.matches('.').count() >= self.ndots;
        all.insert(if many_dots { 0 } else { all.len() }, host.to_owned());
        all
    }
}

async fn lookup(config: &Config, host: &str) -> Result<IpAddr, String> {
    let mut trouble = None;
    for name in config.candidates(host) {
        for family in [Family::V4, Family::V6] {
            let mut asked = Err(String::new());
            for server in &config.servers {
                asked = ask(*server, &name, family).await;
                if asked.is_ok() {
                    break;
                }
            }
            match asked {
                Ok(Some(ip)) => return Ok(ip),
                Ok(None) => {}
                Err(error) => trouble = Some(error),
            }
        }
    }
    let why = trouble.unwrap_or_else(|| "no name server knows it".to_owned());
    Err(format!("the host {host} has no address: {why}"))
}

/// One question to one server. `None`: there is no such record.
async fn ask(server: SocketAddr, name: &str, family: Family) -> Result<Option<IpAddr>, String> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| error.to_string())?;
    let query = query(id, name, family).ok_or_else(|| format!("'{name}' is no host name"))?;
    let any =
        if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let exchange = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&query).await?;
        let mut answer = [0; DATAGRAM];
        loop {
            let length = socket.recv(&mut answer).await?;
            if answer[..length].starts_with(&id) {
                return Ok(answer[..length].to_vec());
            }
        }
    };
    let answer: std::io::Result<Vec<u8>> =
        timeout(PATIENCE, exchange).await.map_err(|_| format!("{server} does not answer"))?;
    let answer = answer.map_err(|error| format!("{server}: {error}"))?;
    records(&answer, family).ok_or_else(|| format!("{server} cannot answer"))
}

fn query(id: [u8; 2], name: &str, family: Family) -> Option<Vec<u8>> {
    // One question, recursion desired.
    let mut query = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        query.push(length);
        query.extend_from_slice(label.as_bytes());
    }
    let [high, low] = family.kind().to_be_bytes();
    query.extend_from_slice(&[0, high, low, 0, 1]);
    Some(query)
}

/// The first address of an answer; the outer `None` for one that says nothing about the name.
fn records(answer: &[u8], family: Family) -> Option<Option<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    match answer.get(3)? & 0x0f {
        0 => {}
        // There is no such name.
        3 => return Some(None),
        _ => return None,
    }
    let mut at = 12;
    for _ in 0..number(4)? {
        at = skip_name(answer, at)? + 4;
    }
    for _ in 0..number(6)? {
        at = skip_name(answer, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = answer.get(at + 10..at + 10 + length)?;
        if kind == family.kind() {
            let v4 = <[u8; 4]>::try_from(data).map(IpAddr::from);
            if let Ok(ip) = v4.or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)) {
                return Some(Some(ip));
            }
        }
        at += 10 + length;
    }
    Some(None)
}

fn skip_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + usize::from(length),
            // A pointer to the rest.
            _ => return Some(at + 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let text = "127.0.0.1 localhost\n# 1.1.1.1 kwsk\n10.0.0.7\tKwsk kwsk.ns # store\nfe00::1 six";
        assert_eq!(in_hosts(text, "kwsk"), Some("10.0.0.7".parse().unwrap()));
        assert_eq!(in_hosts(text, "six"), Some("fe00::1".parse().unwrap()));
        assert_eq!(in_hosts(text, "store"), None);
    }

    #[test]
    fn configs() {
        let text = "nameserver 10.96.0.10\nnameserver nonsense\nsearch ns.svc.cluster.local svc.cluster.local\noptions ndots:5 edns0\n";
        let config = Config::parse(text, 53);
        assert_eq!(config.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(
            config.candidates("kwsk"),
            ["kwsk.ns.svc.cluster.local", "kwsk.svc.cluster.local", "kwsk"]
        );
        assert_eq!(config.candidates("kwsk."), ["kwsk"]);
        let plain = Config::parse("", 53);
        assert_eq!((plain.candidates("a.b"), plain.servers.len()), (vec!["a.b".to_owned()], 1));
    }

    /// Answers each question that `known` knows the name of; the others do not exist.
    async fn server(known: &'static str) -> (SocketAddr, tokio::task::JoinSet<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let mut question = [0; DATAGRAM];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let asked = &question[..length];
                let (id, rest) = (&asked[..2], &asked[12..]);
                let is_known = rest == &query([0; 2], known, Family::V4).unwrap()[12..];
                // An alias before the address, both by a pointer to the question.
                let mut answer = [
                    id,
                    &[
                        0x81,
                        if is_known { 0x80 } else { 0x83 },
                        0,
                        1,
                        0,
                        if is_known { 2 } else { 0 },
                        0,
                        0,
                        0,
                        0,
                    ],
                    rest,
                ]
                .concat();
                if is_known {
                    answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 1, 2, 3]);
                }
                // One that answers something else comes first.
                socket.send_to(&[!id[0], id[1], 0, 0], from).await.unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        (address, tasks)
    }

    #[tokio::test]
    async fn names() {
        let (address, _server) = server("kwsk.ns.svc").await;
        let config =
            Config { servers: vec![address], search: vec!["other".into(), "ns.svc".into()], ndots: 5 };
        assert_eq!(lookup(&config, "kwsk").await, Ok("10.1.2.3".parse().unwrap()));
        let error = lookup(&config, "nobody").await.unwrap_err();
        assert!(error.contains("no name server knows it"), "{error}");
        let error = lookup(&config, "a..b").await.unwrap_err();
        assert!(error.contains("is no host name"), "{error}");
    }

    #[test]
    fn broken_answers() {
        let good = [0, 0, 0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1];
        assert_eq!(records(&good, Family::V4), Some(Some("10.0.0.1".parse().unwrap())));
        assert_eq!(records(&good, Family::V6), Some(None));
        for end in 0..good.len() {
            assert_eq!(records(&good[..end], Family::V4), None, "{end}");
        }
        assert_eq!(records(&[0, 0, 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0], Family::V4), None);
    }
}
