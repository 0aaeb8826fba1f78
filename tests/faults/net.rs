//! Two machines and a switch between them, as network namespaces: one for the broker and one for its peers, whose cable can be
//! pulled. Nobody is told of that, neither by a reset nor by a lost carrier. Removed when dropped.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The broker's address.
pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 213, 77, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 213, 77, 2);

/// See the module's page.
pub struct Net {
    name: String,
}

/// Which of the machines.
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

impl Net {
    pub fn new() -> Self {
        let net = Self { name: format!("esker{}", std::process::id()) };
        let switch = net.switch();
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add bridge type bridge"));
        ip(&format!("-n {switch} link set bridge up"));
        for (machine, address) in [(Machine::Brokers, HERE), (Machine::Peers, THERE)] {
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

    /// Pulls the peers' cable out of the switch.
    pub fn cut(&self) {
        ip(&format!("-n {} link set {} down", self.switch(), port(Machine::Peers)));
    }

    /// Puts it in again.
    pub fn mend(&self) {
        ip(&format!("-n {} link set {} up", self.switch(), port(Machine::Peers)));
    }

    /// Does something on one of the machines. Threads, children and sockets made there stay there.
    pub fn on<T: Send>(&self, machine: Machine, act: impl FnOnce() -> T + Send) -> T {
        let place = format!("/run/netns/{}", self.namespace(machine));
        thread::scope(|scope| {
            let visitor = scope.spawn(move || {
                let namespace = File::open(place).expect("the namespace was made");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
                act()
            });
            visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Net {
    /// Namespaces that somebody is still in go when they end.
    fn drop(&mut self) {
        for name in [self.switch(), self.namespace(Machine::Brokers), self.namespace(Machine::Peers)] {
            let _ = Command::new("ip").args(["netns", "delete", &name]).status();
        }
    }
}

/// The switch's end of a machine's cable.
fn port(machine: Machine) -> String {
    format!("port{}", machine.suffix())
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    let status = status.expect("scripts/test installs iproute2");
    assert!(status.success(), "ip {arguments}: network namespaces need root, and a kernel that has them");
}
