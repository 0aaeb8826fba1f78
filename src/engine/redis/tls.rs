//! Encrypted connections, with the feature `tls`. Certificates are always verified.

use std::path::Path;

use redis::{Client, RedisError};

use crate::engine::log::LogError;
use crate::engine::settings::HostPort;

#[cfg(feature = "tls")]
pub use enabled::{client, refusal};

#[cfg(not(feature = "tls"))]
pub fn client(_at: &HostPort, _ca_file: Option<&Path>) -> Result<Client, LogError> {
    Err(super::error::setup(
        "this build of Esker has no TLS; use one with the feature tls, such as the packages, or redis://",
    ))
}

/// Without TLS, no connection fails because of it.
#[cfg(not(feature = "tls"))]
pub fn refusal(_why: &RedisError) -> Option<LogError> {
    None
}

#[cfg(feature = "tls")]
mod enabled {
    use std::error::Error;
    use std::io;
    use std::sync::Arc;

    use redis::{ConnectionAddr, TlsCertificates};

    use super::super::{connect, error};
    use super::*;

    /// Describes an encrypted connection. Trusts the authorities in the file alone, or those of the system.
    pub fn client(at: &HostPort, ca_file: Option<&Path>) -> Result<Client, LogError> {
        // The crate would choose by itself, and panic if an embedding program has more than one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root_cert = ca_file.map(read).transpose()?;
        let address =
            ConnectionAddr::TcpTls { host: at.host.clone(), port: at.port, insecure: false, tls_params: None };
        let certificates = TlsCertificates { client_tls: None, root_cert };
        let client = connect::info(address).and_then(|info| Client::build_with_tls(info, certificates));
        client.map_err(|why| error::setup(format!("the certificates of the authorities can't be used: {why}")))
    }

    fn read(path: &Path) -> Result<Vec<u8>, LogError> {
        let path_shown = path.display();
        let pem = std::fs::read(path).map_err(|why| error::setup(format!("{path_shown} can't be read: {why}")))?;
        if memchr::memmem::find(&pem, b"-----BEGIN CERTIFICATE-----").is_none() {
            return Err(error::setup(format!("{path_shown} contains no certificate in PEM")));
        }
        Ok(pem)
    }

    /// Returns the refusal if the connection failed because of TLS rather than of the network.
    pub fn refusal(why: &RedisError) -> Option<LogError> {
        let source = why.source()?;
        // The crate hides the cause in an `Arc`.
        let cause = source.downcast_ref::<Arc<dyn Error + Send + Sync>>().map_or(source, |cause| cause.as_ref());
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let is_network = kind.is_some_and(|kind| kind != io::ErrorKind::InvalidData);
        let advice = "check the certificate, its name, and the authorities that are trusted (--engine-ca)";
        (why.is_io_error() && !is_network).then(|| error::setup(format!("TLS failed: {why}; {advice}")))
    }
}
