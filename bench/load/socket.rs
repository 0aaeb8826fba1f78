//! Sockets of the load: connected from addresses spread over 127.0.0.0/8, because one address has ports for only some
//! 28 000 connections to one server. Knows no HTTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Connections from one address: fewer than the ports that Linux gives out (32768 to 60999).
const PER_ADDRESS: usize = 20_000;

/// As over Ethernet. On loopback a segment has 64 KiB, and the server's kernel takes megabytes for a socket that nobody
/// reads, where it takes some 150 KiB for one that is far away.
const SEGMENT: u32 = 1448;

/// A connection, the `number`th of those that lead to this server.
pub fn connect_from(number: usize, server: SocketAddr) -> io::Result<TcpStream> {
    connect_with(number, server, |_| Ok(()))
}

/// The same with segments as they are between machines.
pub fn connect_from_afar(number: usize, server: SocketAddr) -> io::Result<TcpStream> {
    connect_with(number, server, |socket| socket2::SockRef::from(socket).set_tcp_mss(SEGMENT))
}

fn connect_with(
    number: usize,
    server: SocketAddr,
    set: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let SocketAddr::V4(server) = server else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(source(number), 0))?;
    set(&socket)?;
    connect(&socket, &server)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(TcpStream::from(socket))
}

/// 127.0.0.1, 127.0.0.2, … 127.0.1.0, …
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + (number / PER_ADDRESS) as u32)
}
