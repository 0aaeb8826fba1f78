//! Sockets of the load: connected from addresses spread over 127.0.0.0/8, because one address has only some 28 000 ports,
//! and one that was closed rests for a minute, which is longer than a round. Knows no HTTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Connections from one address: of the ports that Linux gives out (32768 to 60999), bind(2) takes one half first, and
/// searches for milliseconds once that is used up.
const PER_ADDRESS: u32 = 10_000;
/// Addresses for one process of the bench; the next one may begin before the ports of the last one have rested.
const PER_PROCESS: u32 = 64;

/// Connections that this process has made.
static CONNECTED: AtomicU32 = AtomicU32::new(0);

/// As over Ethernet. On loopback a segment has 64 KiB, and the server's kernel takes megabytes for a socket that nobody
/// reads, where it takes some 150 KiB for one that is far away.
const SEGMENT: u32 = 1448;

/// A connection to this server.
pub fn connect_to(server: SocketAddr) -> io::Result<TcpStream> {
    connect_with(server, |_| Ok(()))
}

/// The same with segments as they are between machines.
pub fn connect_from_afar(server: SocketAddr) -> io::Result<TcpStream> {
    connect_with(server, |socket| socket2::SockRef::from(socket).set_tcp_mss(SEGMENT))
}

fn connect_with(server: SocketAddr, set: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<TcpStream> {
    let SocketAddr::V4(server) = server else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(source(), 0))?;
    set(&socket)?;
    connect(&socket, &server)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(TcpStream::from(socket))
}

/// 127.0.0.1, 127.0.0.2, … 127.0.1.0, … from one on that depends on the process.
fn source() -> Ipv4Addr {
    let first = std::process::id() % (1 << 16) * PER_PROCESS;
    let number = CONNECTED.fetch_add(1, Ordering::Relaxed) / PER_ADDRESS % PER_PROCESS;
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + first + number)
}
