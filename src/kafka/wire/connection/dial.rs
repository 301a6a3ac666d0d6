//! Owns the finding of a broker's addresses and the connecting to one of them (RFC 8305: the next is tried beside one that is slow).
//! Must never be without a bound: the caller's is over all of it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::{
    config::Broker,
    kafka::wire::{error::WireError, staggered},
};

/// How long one address is tried alone.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connects to whichever address of the broker answers first; the name is resolved each time.
pub(super) async fn dial(broker: &Broker) -> Result<TcpStream, WireError> {
    let addresses = lookup_host((broker.host.as_str(), broker.port)).await;
    let addresses = addresses.map_err(WireError::Unreachable)?;
    let connected = staggered::first(addresses.map(connect), NEXT_ADDRESS_AFTER).await;
    connected.map_err(|mut refused| {
        let none = || io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        WireError::Unreachable(refused.pop().unwrap_or_else(none))
    })
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn broker(host: &str, port: u16) -> Broker {
        Broker { host: host.to_owned(), port }
    }

    #[tokio::test]
    async fn the_address_that_takes_connections_is_found() {
        // The name has an IPv6 address too, on most machines, at which nothing listens.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = dial(&broker("localhost", port)).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn where_nothing_listens_is_unreachable() {
        let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
        let refused = dial(&broker("127.0.0.1", port)).await.unwrap_err();
        let WireError::Unreachable(cause) = &refused else { panic!("{refused}") };
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_without_address_is_unreachable() {
        let refused = dial(&broker("no-such-host.invalid", 9092)).await.unwrap_err();
        assert!(matches!(refused, WireError::Unreachable(_)), "{refused}");
    }
}
