//! What is measured: one file per scene. Each starts a server, puts a load on it, and returns the results.

pub mod arrivals;
pub mod compare;
pub mod engine;
pub mod fanout;
pub mod idle;
pub mod names;
pub mod pruning;
pub mod reconnect;
pub mod requests;
pub mod restart;
pub mod start;
pub mod workers;

use std::time::Duration;

/// The settings of a scene.
#[derive(Clone)]
pub struct Setting {
    /// The servers by name; empty means those that suit the scene.
    pub servers: Vec<String>,
    pub subscribers: usize,
    /// `None` means one, or where there are no subscribers one for each connection.
    pub topics: Option<usize>,
    /// The size of an event's data, in bytes.
    pub size: usize,
    /// Events published at once.
    pub burst: u32,
    /// Bursts in flight at once.
    pub window: u64,
    /// Events per second; `None` means as fast as the window allows.
    pub rate: Option<f64>,
    /// Keep-alive connections, one round for each number; empty means those that suit the scene.
    pub connections: Vec<usize>,
    /// Subscribers that never read.
    pub stalled: usize,
    /// Records in the store when a broker starts.
    pub records: usize,
    /// Events in the engine's log when a broker starts, and when its memory is measured.
    pub events: usize,
    /// Versions that the broker keeps of each name; `None` means all.
    pub versions: Option<u64>,
    /// The parts of the scene `engine`.
    pub parts: Vec<String>,
    pub duration: Duration,
    pub rounds: usize,
    /// The cores that a server runs on, in taskset's syntax. The load has another core.
    pub server_cores: String,
    pub client_cores: String,
    /// The cores of the engine. The brokers need theirs more than the load does.
    pub engine_cores: String,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            subscribers: 1000,
            topics: None,
            size: 64,
            burst: 1,
            window: 1,
            rate: None,
            connections: Vec::new(),
            stalled: 1000,
            records: 10_000_000,
            events: 200_000,
            versions: None,
            parts: engine::PARTS.map(str::to_owned).to_vec(),
            duration: Duration::from_secs(3),
            rounds: 3,
            server_cores: "0".to_owned(),
            client_cores: "1".to_owned(),
            engine_cores: "1".to_owned(),
        }
    }
}

impl Setting {
    /// Returns the settings of a scene, which the command line may change.
    pub fn of(scene: &str) -> Self {
        match scene {
            "reconnect" => Self { subscribers: 19_000, burst: 64, ..Self::default() },
            "workers" => {
                let cores = || "0,1".to_owned();
                Self { window: 16, server_cores: cores(), client_cores: cores(), ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    /// Returns the number of topics with subscribers.
    pub fn topics(&self) -> usize {
        self.topics.unwrap_or(1)
    }

    /// Returns the settings with these servers, unless others were given.
    pub fn with(&self, servers: &[&str]) -> Self {
        let mut setting = self.clone();
        if setting.servers.is_empty() {
            setting.servers = servers.iter().map(|&name| name.to_owned()).collect();
        }
        setting
    }

    /// Returns the settings with these numbers of connections, unless others were given.
    pub fn with_connections(&self, connections: &[usize]) -> Self {
        let mut setting = self.clone();
        if setting.connections.is_empty() {
            setting.connections = connections.to_vec();
        }
        setting
    }
}

/// Returns the median.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
