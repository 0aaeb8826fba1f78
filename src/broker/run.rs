//! The broker as a process: signals, and the service systemd's sockets and news.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::{Broker, StartError, systemd};
use crate::config::Config;

/// Starts a broker and blocks until SIGTERM or SIGINT, then drains it. A second signal exits at once.
/// SIGHUP reads the key files again; SIGXFSZ, of a file that reaches its limit, is ignored.
///
/// Log calls are made by the threads that serve: the program's logger must not block, or a log that nobody reads stops them.
///
/// Sockets that a service systemd hands over (sd_listen_fds(3)) are listened on instead of the default address; one whose
/// `FileDescriptorName` is `admin` is the administration's. The systemd is told when the broker serves and when it
/// drains (sd_notify(3)).
///
/// ```no_run
/// # fn main() -> Result<(), esker::StartError> {
/// esker::run(esker::Config::new().no_auth(true).origin("*"))
/// # }
/// ```
pub fn run(config: Config) -> Result<(), StartError> {
    let given = systemd::sockets().map_err(StartError::InheritedListener)?;
    let has_public = given.iter().any(|given| !given.is_admin);
    let config = if has_public { config.given_sockets() } else { config };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    ignore_file_size_signal()?;
    let broker = Broker::start_with(&config, given)?;
    let status = format!("serves {}", broker.listening.describe());
    systemd::tell_ready(&status);
    signals.forever().take_while(|&signal| signal == SIGHUP).for_each(|_| {
        systemd::tell_reloading();
        reload(&broker);
        systemd::tell_ready(&status);
    });
    let is_second = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_second))?;
    }
    systemd::tell_stopping();
    log::info!("draining: streams end, within 10 s; a second signal exits immediately");
    broker.shutdown();
    log::info!("stopped");
    Ok(())
}

/// A write beyond the largest allowed file (`LimitFSIZE=`, `ulimit -f`) ends the process by default. With any handler it only
/// fails, as one on a full disk does.
fn ignore_file_size_signal() -> std::io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}

fn reload(broker: &Broker) {
    match broker.reload_keys() {
        Ok(true) => log::info!("the key files were reloaded"),
        Ok(false) => log::warn!("there are no key files to reload; changing a secret requires a restart"),
        Err(error) => log::error!("{error}; the previous keys stay in use"),
    }
}
