//! Brokers on one engine, behind a balancer. Each keeps its port when it is started again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use super::balancer::{Balancer, Targets};
use super::redis_server::free_port;
use super::support::{Broker, TempDir, command};

/// Options of all brokers: histories that are never full, and heartbeats that tests can wait for.
const OPTIONS: [&str; 4] = ["--heartbeat", "1s", "--history", "1000000"];

/// The brokers and their balancer.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub balancer: Balancer,
}

/// A broker that can be killed and started again.
pub struct Node {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    port: u16,
    home: TempDir,
    broker: Option<Broker>,
}

impl Cluster {
    /// Starts this many brokers with these arguments.
    pub fn start(count: usize, arguments: &[&str]) -> Self {
        let nodes: Vec<Node> = (0..count).map(|_| Node::start(arguments, &[])).collect();
        Self::of(nodes)
    }

    /// Starts this many brokers on one server.
    pub fn on(engine: &str, count: usize) -> Self {
        Self::start(count, &["--engine", engine])
    }

    /// Starts a balancer of these brokers.
    pub fn of(nodes: Vec<Node>) -> Self {
        let addresses: Vec<SocketAddr> = nodes.iter().map(Node::address).collect();
        Self { nodes, balancer: Balancer::start(Targets::new(&addresses)) }
    }

    pub fn targets(&self) -> &Arc<Targets> {
        &self.balancer.targets
    }

    /// Adds a broker, which gets clients as soon as it listens.
    pub fn add(&mut self, node: Node) {
        self.nodes.push(node);
        let addresses: Vec<SocketAddr> = self.nodes.iter().map(Node::address).collect();
        self.targets().set(&addresses);
    }

    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    pub fn restart_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::restart);
    }
}

impl Node {
    /// Starts a broker. Returns when it listens.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut node = Self {
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            port: free_port(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            home: TempDir::new(),
            broker: None,
        };
        node.restart();
        node
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Returns the running broker.
    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("it runs")
    }

    /// Returns whether its working directory is empty.
    pub fn has_no_files(&self) -> bool {
        std::fs::read_dir(&self.home.path).expect("a directory can be read").next().is_none()
    }

    /// Starts the broker again at its port. Returns when it listens.
    pub fn restart(&mut self) {
        assert!(self.broker.is_none(), "it runs");
        let port = self.port.to_string();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let arguments = [&["--port", &port], &OPTIONS[..], &arguments].concat();
        self.broker = Some(Broker::start_listening(self.command(), &arguments));
    }

    /// Without `ESKER_DATA`, which has no effect with an engine.
    fn command(&self) -> Command {
        let mut command = command(&[]);
        command.env_remove("ESKER_DATA").envs(self.environment.iter().cloned()).current_dir(&self.home.path);
        command
    }

    /// Kills the process, as a crash would.
    pub fn kill(&mut self) {
        let broker = self.broker.take().expect("it runs");
        broker.signal("KILL");
        broker.wait();
    }

    /// Stops the broker as a service manager does, and waits for its exit; returns its log.
    pub fn terminate(&mut self) -> String {
        let broker = self.broker.take().expect("it runs");
        broker.signal("TERM");
        let (code, log) = broker.wait();
        assert_eq!(code, Some(0), "{log}");
        log
    }
}

impl Drop for Node {
    /// Shows the log of a test that failed.
    fn drop(&mut self) {
        if let (Some(broker), true) = (self.broker.take(), std::thread::panicking()) {
            let address = broker.address;
            broker.signal("KILL");
            eprintln!("the log of the broker at {address}:\n{}", broker.wait().1);
        }
    }
}
