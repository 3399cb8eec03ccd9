//! Ports for runtimes that are told where to listen.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpSocket;

/// Below the ports that systems hand out by themselves: one of those may be another's before the runtime has it.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A port on which nobody listens, and which this process will not name again for a long time.
///
/// # Errors
/// When all of them are taken.
pub(crate) fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that start at the same time begin at different places.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % u32::from(COUNT);
        let port = FIRST + u16::try_from(number).unwrap_or_default();
        if bind(port).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// True when someone has the port.
pub(crate) fn is_taken(port: u16) -> bool {
    bind(port).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Binds the port without listening: a child that is just being started inherits the socket for a moment, and who waits
/// for the runtime would be accepted by it.
fn bind(port: u16) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    #[test]
    fn nobody_gets_a_port_twice() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(is_taken(taken.local_addr().unwrap().port()));
        let ports: BTreeSet<u16> = (0..500).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 500);
    }
}
