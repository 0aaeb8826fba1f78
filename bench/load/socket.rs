//! Sockets of the load: connected from addresses spread over 127.0.0.0/8, because one address has ports for only some
//! 28 000 connections to one server. Knows no HTTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Connections from one address: fewer than the ports that Linux gives out (32768 to 60999).
const PER_ADDRESS: usize = 20_000;

/// A connection, the `number`th of those that lead to this server.
pub fn connect_from(number: usize, server: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(server) = server else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(source(number), 0))?;
    connect(&socket, &server)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    let socket = TcpStream::from(socket);
    Ok(socket)
}

/// 127.0.0.1, 127.0.0.2, … 127.0.1.0, …
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + (number / PER_ADDRESS) as u32)
}
