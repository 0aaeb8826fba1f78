//! What the simulations share: their seeds, a socket in memory that takes only as much as it has room for, and what a
//! client makes of its bytes.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::panic::RefUnwindSafe;
use std::rc::Rc;

use esker::sse::Framing;

/// Runs a simulation with 300 seeds, or with that of the environment, and adds up its two counts.
pub fn over_seeds(run: impl Fn(u64) -> (usize, usize) + RefUnwindSafe) -> (usize, usize) {
    let seeds = match std::env::var("ESKER_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => (0..300).collect::<Vec<u64>>(),
    };
    seeds.into_iter().fold((0, 0), |sums, seed| {
        let ran = std::panic::catch_unwind(|| run(seed));
        let counts = ran.unwrap_or_else(|_| panic!("the simulation failed with ESKER_SIM_SEED={seed}"));
        (sums.0 + counts.0, sums.1 + counts.1)
    })
}

/// What a socket shares with the test.
#[derive(Default)]
pub struct Wire {
    pub received: Vec<u8>,
    pub room: usize,
    pub is_dead: bool,
    pub awaits_edge: bool,
}

#[derive(Clone, Default)]
pub struct Socket(pub Rc<RefCell<Wire>>);

impl Socket {
    /// Makes room; whether somebody waited for it.
    pub fn give_room(&self, bytes: usize) -> bool {
        let mut wire = self.0.borrow_mut();
        wire.room = wire.room.saturating_add(bytes);
        std::mem::take(&mut wire.awaits_edge)
    }
}

impl esker::stream::subscriber::Socket for Socket {
    fn set_patient(&self, _: bool) {}
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.is_dead {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut written = 0;
        for slice in slices {
            let count = slice.len().min(wire.room);
            wire.received.extend_from_slice(&slice[..count]);
            wire.room -= count;
            written += count;
            if count < slice.len() {
                wire.awaits_edge = true;
                break;
            }
        }
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text of all whole blocks after the first `unparsed` bytes, which is moved on; comment lines are left out.
pub fn whole_blocks(socket: &Socket, framing: Framing, unparsed: &mut usize) -> String {
    let wire = socket.0.borrow();
    let mut bytes = &wire.received[*unparsed..];
    let mut text = String::new();
    while let (Framing::Chunked, Some((size, rest))) = (framing, split_at_crlf(bytes)) {
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        if size == 0 {
            assert!(b"\r\n".starts_with(rest), "nothing follows the last chunk");
            break;
        }
        if rest.len() < size + 2 {
            break;
        }
        text.push_str(std::str::from_utf8(&rest[..size]).expect("UTF-8"));
        assert_eq!(&rest[size..size + 2], b"\r\n");
        bytes = &rest[size + 2..];
    }
    if framing == Framing::Plain {
        let whole = bytes.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
        text.push_str(std::str::from_utf8(&bytes[..whole]).expect("UTF-8"));
        bytes = &bytes[whole..];
    }
    *unparsed = wire.received.len() - bytes.len();
    text
}

fn split_at_crlf(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).expect("ASCII"), &bytes[end + 2..]))
}
