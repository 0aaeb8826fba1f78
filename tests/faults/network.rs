//! Two virtual machines and a switch between them, as network namespaces: one for the broker and one for its peers, whose cable
//! can be pulled. Neither side sees a reset or a lost carrier. Removed when dropped.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The broker's address.
pub const BROKER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 213, 77, 1);
const PEER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 213, 77, 2);

/// The two machines and the switch.
pub struct Network {
    name: String,
}

/// One of the machines.
#[derive(Clone, Copy)]
pub enum Machine {
    Brokers,
    Peers,
}

impl Machine {
    fn suffix(self) -> &'static str {
        match self {
            Self::Brokers => "b",
            Self::Peers => "p",
        }
    }
}

impl Network {
    pub fn new() -> Self {
        let net = Self { name: format!("esker{}", std::process::id()) };
        let switch = net.switch();
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add bridge type bridge"));
        ip(&format!("-n {switch} link set bridge up"));
        for (machine, address) in [(Machine::Brokers, BROKER_ADDRESS), (Machine::Peers, PEER_ADDRESS)] {
            let (there, port) = (net.namespace(machine), port(machine));
            ip(&format!("netns add {there}"));
            ip(&format!("-n {there} link add eth type veth peer name {port} netns {switch}"));
            ip(&format!("-n {there} address add {address}/24 dev eth"));
            ip(&format!("-n {there} link set eth up"));
            ip(&format!("-n {there} link set lo up"));
            ip(&format!("-n {switch} link set {port} master bridge up"));
        }
        net
    }

    fn switch(&self) -> String {
        format!("{}s", self.name)
    }

    fn namespace(&self, machine: Machine) -> String {
        format!("{}{}", self.name, machine.suffix())
    }

    /// Unplugs the peers' cable from the switch.
    pub fn unplug(&self) {
        ip(&format!("-n {} link set {} down", self.switch(), port(Machine::Peers)));
    }

    /// Plugs the cable in again.
    pub fn plug_in(&self) {
        ip(&format!("-n {} link set {} up", self.switch(), port(Machine::Peers)));
    }

    /// Runs a closure on one of the machines. Threads, children and sockets created there stay there.
    pub fn run_on<T: Send>(&self, machine: Machine, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(machine));
        thread::scope(|scope| {
            let visitor = scope.spawn(move || {
                let namespace = File::open(path).expect("the namespace was made");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
                act()
            });
            visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Network {
    /// Namespaces still in use are removed when their last process ends.
    fn drop(&mut self) {
        for name in [self.switch(), self.namespace(Machine::Brokers), self.namespace(Machine::Peers)] {
            let _ = Command::new("ip").args(["netns", "delete", &name]).status();
        }
    }
}

/// Returns the name of the switch's end of a machine's cable.
fn port(machine: Machine) -> String {
    format!("port{}", machine.suffix())
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    let status = status.expect("scripts/test installs iproute2");
    assert!(status.success(), "ip {arguments}: network namespaces need root, and a kernel that has them");
}
