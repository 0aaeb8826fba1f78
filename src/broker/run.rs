//! Runs the broker as a process: signals, and the service manager's sockets and notifications.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::log_lines::DrainLog;
use super::{Broker, StartError, systemd};
use crate::config::Config;

/// Starts a broker, blocks until SIGTERM or SIGINT, then drains it. A second signal exits immediately. SIGHUP reads the key
/// files again; SIGXFSZ, which means that a file has reached its size limit, is ignored.
///
/// If another program, such as a backup, holds the database of the records, the start waits until it is released, or until a
/// signal.
///
/// The threads that serve clients call the program's logger, so it must not block.
///
/// With the feature `cli`, the broker listens on sockets that systemd passes (sd_listen_fds(3)) instead of the default address;
/// one whose `FileDescriptorName` is `admin` is for administration. Systemd is notified when the broker serves and when it
/// drains (sd_notify(3)).
///
/// ```no_run
/// # fn main() -> Result<(), esker::StartError> {
/// esker::run(esker::Config::new().no_auth(true).origin("*"))
/// # }
/// ```
///
/// # Errors
///
/// If the broker can't start: see [`Broker::start`].
pub fn run(config: Config) -> Result<(), StartError> {
    let inherited = systemd::sockets().map_err(StartError::InheritedListener)?;
    let has_public = inherited.iter().any(|listener| !listener.is_admin);
    let config = if has_public { config.inherit_sockets() } else { config };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    ignore_file_size_signal()?;
    let mut is_stopped = || signals.pending().any(|signal| signal != SIGHUP);
    let broker = match Broker::start_with(&config, inherited, None, &mut is_stopped) {
        Err(StartError::Stopped) => return Ok(()),
        started => started?,
    };
    let status = format!("serves {}", broker.listening.describe());
    systemd::notify_ready(&status);
    signals.forever().take_while(|&signal| signal == SIGHUP).for_each(|_| {
        systemd::notify_reloading();
        reload(&broker);
        systemd::notify_ready(&status);
    });
    let is_second = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_second))?;
    }
    let drain = broker.service.0.settings.drain;
    systemd::notify_stopping(drain);
    let limit = drain + Duration::from_secs(10);
    let log = DrainLog::begin(&broker, limit);
    broker.shutdown();
    log.end();
    Ok(())
}

/// Ignores SIGXFSZ. A write beyond the largest allowed file size (`LimitFSIZE=`, `ulimit -f`) ends the process by default; with
/// any handler the write just fails, as on a full disk.
fn ignore_file_size_signal() -> std::io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}

fn reload(broker: &Broker) {
    match broker.reload_keys() {
        Ok(true) => log::info!("the key and secret files were reloaded"),
        Ok(false) => log::warn!(
            "there are no key or secret files to reload; to change a secret in a variable, restart the broker"
        ),
        Err(error) => log::error!("{error}; the previous keys stay in use"),
    }
}
