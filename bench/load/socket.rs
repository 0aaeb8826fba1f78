//! Sockets of the load: connected from addresses spread over 127.0.0.0/8, because one address has ports for only some
//! 28 000 connections to one server, those that ended within the last minute counted. Knows no HTTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Connections from one address: fewer than the ports that Linux gives out (32768 to 60999).
const PER_ADDRESS: u32 = 16_000;
/// Addresses that one process begins with; the next process begins with others.
const ADDRESSES: u32 = 256;

static CONNECTED: AtomicU32 = AtomicU32::new(0);

/// A connection that blocks.
pub fn connect_to(server: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(server) = server else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(source(CONNECTED.fetch_add(1, Ordering::Relaxed)), 0))?;
    connect(&socket, &server)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(TcpStream::from(socket))
}

/// 127.1.0.0 and up, neither the net's first address nor its last.
fn source(number: u32) -> Ipv4Addr {
    let address = process::id() * ADDRESSES + number / PER_ADDRESS;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + address % (0xfe << 16))
}
