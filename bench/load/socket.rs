//! Connections from addresses spread over 127.0.0.0/8, because one address has only about 28 000 ports, and a closed one can't
//! be used again for a minute, which is longer than a round. Independent of HTTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Connections from one address. Of Linux's ephemeral ports (32768 to 60999), bind(2) first uses one half, and then searches
/// for milliseconds.
const PER_ADDRESS: u32 = 10_000;
/// Addresses for one process of the bench. The next process may begin before the last one's ports can be used again.
const PER_PROCESS: u32 = 64;

/// Connections that this process has opened.
static CONNECTED: AtomicU32 = AtomicU32::new(0);

/// The segment size of Ethernet. Loopback segments have 64 KiB, and with them the server's kernel buffers megabytes for a
/// socket that is never read, instead of about 150 KiB for a remote one.
const SEGMENT: u32 = 1448;

/// Opens a connection to this server.
pub fn connect_to(server: SocketAddr) -> io::Result<TcpStream> {
    connect_with(server, |_| Ok(()))
}

/// Opens a connection with segments as small as between machines.
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

/// Returns 127.0.0.1, 127.0.0.2, … 127.0.1.0, …, starting from an address that depends on the process.
fn source() -> Ipv4Addr {
    let first = std::process::id() % (1 << 16) * PER_PROCESS;
    let number = CONNECTED.fetch_add(1, Ordering::Relaxed) / PER_ADDRESS % PER_PROCESS;
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + first + number)
}
