//! Binds the configured addresses, takes inherited sockets, and removes the files of Unix sockets at the end. Independent of
//! what is served.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::StartError;
use crate::api::LoopbackOnly;
use crate::config::{ConfigError, ListenAddress, MAX_ADMIN_CONNECTIONS, MAX_LISTENERS, Settings};
use crate::net::{BoundListener, Listener, ListenerRole, VANISHED_MILLIS};

/// The length of the queue of connections that wait to be accepted. The kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// A listening socket that the service manager passed to this process.
#[derive(Debug)]
pub(super) struct InheritedListener {
    pub socket: InheritedSocket,
    pub is_admin: bool,
}

/// The socket of an [`InheritedListener`].
#[derive(Debug)]
pub(super) enum InheritedSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Everything that the broker listens on.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// The sockets, to be taken by the first worker.
    pub listeners: Vec<BoundListener>,
    /// The addresses for clients, with the ports that the system chose.
    pub public: Vec<ListenAddress>,
    /// The addresses for administration.
    pub admin: Vec<ListenAddress>,
    files: Vec<SocketFile>,
}

/// The file of a Unix socket that was created here. Dropping it removes the file, unless another file has replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Identifies a file independent of its name.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Listening {
    /// Listens on all addresses and inherited sockets. If one can't be used, none is.
    pub fn open(settings: &Settings, inherited: Vec<InheritedListener>) -> Result<Self, StartError> {
        let inherited_admins = inherited.iter().filter(|listener| listener.is_admin).count();
        let admins = inherited_admins + usize::from(settings.admin.is_some());
        if inherited.len() - inherited_admins + settings.listen.len() > MAX_LISTENERS {
            return Err(ConfigError::Addresses.into());
        }
        let public = match admins {
            0 => ListenerRole::All,
            1 => ListenerRole::Public,
            _ => return Err(ConfigError::Administrations.into()),
        };
        let mut listening = Self::default();
        for listener in inherited {
            let role = if listener.is_admin { ListenerRole::Administration } else { public };
            listening.inherit(listener.socket, role)?;
        }
        for address in &settings.listen {
            listening.bind(address, public, settings)?;
        }
        if let Some(address) = &settings.admin {
            listening.bind(address, ListenerRole::Administration, settings)?;
        }
        Ok(listening)
    }

    /// Removes the files of Unix sockets. Must be called before the sockets are closed: after that another broker may create
    /// its own file there, which may have the same inode number.
    pub fn remove_files(&mut self) {
        self.files.clear();
    }

    /// Returns whether only this machine can connect by TCP.
    pub fn loopback_only(&self) -> LoopbackOnly {
        let is_loopback = |address: &ListenAddress| match address {
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        };
        LoopbackOnly {
            clients: self.public.iter().all(is_loopback),
            administration: self.admin.iter().all(is_loopback),
        }
    }

    /// Formats the addresses for the log.
    pub fn describe(&self) -> String {
        let join =
            |addresses: &[ListenAddress]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        match self.admin.as_slice() {
            [] => join(&self.public),
            admin => format!("{} and for administration on {}", join(&self.public), join(admin)),
        }
    }

    fn bind(&mut self, address: &ListenAddress, role: ListenerRole, settings: &Settings) -> Result<(), StartError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address, &settings.listen).map(InheritedSocket::Tcp),
            ListenAddress::Unix(path) => self.bind_unix(path, settings.unix_mode).map(InheritedSocket::Unix),
        };
        let socket = bound.map_err(|error| StartError::Bind(address.clone(), error))?;
        self.add(socket, role)?;
        Ok(())
    }

    /// Binds a Unix socket. The file's permissions are set before anybody can connect.
    fn bind_unix(&mut self, path: &Path, mode: u32) -> io::Result<UnixListener> {
        let address = SocketAddrUnix::new(path)?;
        remove_stale(path)?;
        let socket = socket(AddressFamily::UNIX)?;
        rustix::net::bind(&socket, &address)?;
        self.files.push(SocketFile::at(path)?);
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(UnixListener::from(socket))
    }

    fn inherit(&mut self, socket: InheritedSocket, role: ListenerRole) -> io::Result<()> {
        match &socket {
            InheritedSocket::Tcp(listener) => {
                set_options(listener)?;
                listener.set_nonblocking(true)?;
            }
            InheritedSocket::Unix(listener) => listener.set_nonblocking(true)?,
        }
        self.add(socket, role)
    }

    fn add(&mut self, socket: InheritedSocket, role: ListenerRole) -> io::Result<()> {
        let (address, listener) = match socket {
            InheritedSocket::Tcp(listener) => {
                (ListenAddress::Tcp(listener.local_addr()?), Listener::Tcp(mio::net::TcpListener::from_std(listener)))
            }
            InheritedSocket::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().unwrap_or(Path::new("")).to_owned();
                (ListenAddress::Unix(path), Listener::Unix(mio::net::UnixListener::from_std(listener)))
            }
        };
        self.listeners.push(BoundListener { listener, role });
        match role {
            ListenerRole::All | ListenerRole::Public => self.public.push(address),
            ListenerRole::Administration => self.admin.push(address),
        }
        Ok(())
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: Identity::of(path)? })
    }
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = Identity::of(&self.path).is_ok_and(|identity| identity == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("can't remove {}: {error}", self.path.display());
        }
    }
}

/// Returns the number of descriptors that inherited sockets need: one each, and those for administration also need one for
/// each of their connections.
pub(super) fn descriptors(inherited: &[InheritedListener]) -> usize {
    inherited.iter().map(|listener| if listener.is_admin { 1 + MAX_ADMIN_CONNECTIONS } else { 1 }).sum()
}

/// Removes the file of a socket on which no process listens, as a killed broker leaves it. Anything else is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match rustix::net::connect(socket(AddressFamily::UNIX)?, &SocketAddrUnix::new(path)?) {
        // `AGAIN` means that its backlog is full.
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(error) => Err(error.into()),
    }
}

fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn bind_tcp(address: SocketAddr, all: &[ListenAddress]) -> io::Result<TcpListener> {
    let socket = socket(if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        let same = ListenAddress::Tcp(SocketAddr::from(([0, 0, 0, 0], address.port())));
        sockopt::set_ipv6_v6only(&socket, all.contains(&same))?;
    }
    set_options(&socket)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Sets the options that accepted sockets inherit, so that they cost no system call per connection.
fn set_options(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    // An event must not wait for the acknowledgement of the previous one.
    sockopt::set_tcp_nodelay(&socket, true)?;
    // A peer that vanished is noticed because it acknowledges nothing.
    sockopt::set_tcp_user_timeout(&socket, VANISHED_MILLIS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_unix_sockets_are_local() {
        let is_local = |addresses: &[&str]| {
            let public = addresses.iter().map(|text| text.parse().unwrap()).collect();
            Listening { public, ..Listening::default() }.loopback_only().clients
        };
        assert!(is_local(&["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/run/x"]));
        for other in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            assert!(!is_local(&["127.0.0.1:1", other]), "{other}");
        }
    }

    #[test]
    fn a_socket_in_use_and_a_file_that_is_not_a_socket_are_kept() {
        let folder = std::env::temp_dir().join(format!("esker-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (plain, used) = (folder.join("plain"), folder.join("used"));
        fs::write(&plain, "x").unwrap();
        let listener = UnixListener::bind(&used).unwrap();
        assert_eq!(remove_stale(&plain).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(remove_stale(&used).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        remove_stale(&used).unwrap();
        remove_stale(&used).unwrap();
        assert!(plain.exists() && !used.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Its owner may hang; the start must not hang with it.
    #[test]
    fn a_socket_with_a_full_backlog_counts_as_in_use() {
        let path = std::env::temp_dir().join(format!("esker-backlog-{}", std::process::id()));
        let address = SocketAddrUnix::new(&path).unwrap();
        let listener = socket(AddressFamily::UNIX).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let connect = || {
            let client = socket(AddressFamily::UNIX).unwrap();
            rustix::net::connect(&client, &address).map(|()| client)
        };
        let waiting: Vec<_> = std::iter::repeat_with(connect).map_while(Result::ok).collect();
        assert!(!waiting.is_empty());
        let (sender, result) = std::sync::mpsc::channel();
        let asked = path.clone();
        std::thread::spawn(move || sender.send(remove_stale(&asked).map_err(|error| error.kind())));
        let result = result.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(result, Ok(Err(io::ErrorKind::AddrInUse)));
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_has_replaced_ours_is_kept() {
        let path = std::env::temp_dir().join(format!("esker-file-{}", std::process::id()));
        fs::write(&path, "ours").unwrap();
        let ours = SocketFile::at(&path).unwrap();
        let other = path.with_extension("other");
        fs::write(&other, "another's").unwrap();
        fs::rename(&other, &path).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(SocketFile::at(&path).unwrap());
        assert!(!path.exists());
    }
}
