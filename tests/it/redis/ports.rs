//! Ports that stay a test's own while its server is down: a server that comes back elsewhere is another server.

use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that nobody else is given for as long as this lives, whether a server listens on it or not.
///
/// It is held by a socket that is bound and never listens. The kernel gives such a port to nobody who asks for any
/// port, nor to an outgoing connection, in this process or another, and refuses connections to it as it does to a
/// closed one. A server that sets `SO_REUSEADDR`, as Redis does, may listen on it all the same.
pub struct Port {
    number: u16,
    _holder: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        holder.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Only now: a port asked for with it could be one that another holder has.
        holder.set_reuse_address(true).unwrap();
        let number = holder.local_addr().unwrap().as_socket_ipv4().unwrap().port();
        Self { number, _holder: holder }
    }

    pub const fn number(&self) -> u16 {
        self.number
    }
}

mod tests {
    use super::*;

    /// A server comes and goes on it; nobody else is given it in between, and connections to it are refused.
    #[tokio::test]
    async fn a_port_is_kept_while_nobody_listens_on_it() {
        let ports: Vec<Port> = (0..200).map(|_| Port::reserve()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 200);
        let address = (Ipv4Addr::LOCALHOST, ports[0].number());
        for _ in 0..2 {
            let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            // tokio sets SO_REUSEADDR on a listener, like Redis.
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let client = tokio::net::TcpStream::connect(address).await.unwrap();
            assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
        }
    }
}
