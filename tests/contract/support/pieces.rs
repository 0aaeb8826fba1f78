//! Sends bytes in pieces that the broker reads one by one.

use super::{Broker, Connection};

/// A broker with one worker, and a second connection to it. A response there proves that the worker has read everything sent
/// before.
pub struct Pieces {
    pub broker: Broker,
    probe: Connection,
}

impl Pieces {
    pub fn start() -> Self {
        let broker = Broker::start(&["--threads", "1"]);
        let probe = broker.connect();
        Self { broker, probe }
    }

    pub fn send<T: AsRef<[u8]>>(&mut self, connection: &mut Connection, pieces: &[T]) {
        for piece in pieces {
            connection.send(piece);
            self.probe.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(self.probe.response().status, 200);
        }
    }
}
