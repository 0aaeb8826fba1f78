//! The least that a server can do with the same bytes: one send(2) per subscriber in a loop, and one read and write per
//! request. It parses, keeps and resumes nothing; what a server needs beyond it is its own cost. This file both starts the
//! process and runs in it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::{Failure, Running};

const OPENING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
    Transfer-Encoding: chunked\r\n\r\nd\r\n:\nretry: 3000\n\r\n";
/// As long as the broker's response.
pub const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 01:02:52 GMT\r\nAccess-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: Link\r\nContent-Type: application/json\r\nContent-Length: 52\r\n\
    Cache-Control: no-store\r\n\r\n{\"id\":\"1795309372850067\",\"events\":1,\"subscribers\":0}";
/// The load's requests are smaller, so that one read returns a whole one.
pub const TOO_LARGE: usize = 64 << 10;

/// Starts it in a process of its own.
pub fn start(cores: &str) -> Result<Running, Failure> {
    super::start_self(cores, "floor", "send(2) in a loop")
}

/// Runs in that process: a connection that sends GET is a subscriber; one that sends POST is served alone until it closes.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("the floor listens on http://{}", listener.local_addr()?);
    let mut subscribers = Vec::new();
    let mut request = vec![0; TOO_LARGE];
    loop {
        let mut socket = listener.accept()?.0;
        socket.set_nodelay(true)?;
        let length = socket.read(&mut request)?;
        if request.starts_with(b"GET ") {
            socket.write_all(OPENING)?;
            socket.set_nonblocking(true)?;
            subscribers.push(socket);
        } else {
            // A publisher that disconnects is not an error.
            let _ = serve(socket, &mut request, length, &mut subscribers);
        }
    }
}

/// Counts each read as one complete request, which is true when the client waits for each response. Disconnects a client whose
/// request is too large for that.
fn serve(mut publisher: TcpStream, request: &mut [u8], first: usize, subscribers: &mut [TcpStream]) -> io::Result<()> {
    let mut frame = Vec::new();
    let mut length = first;
    while length > 0 && length < TOO_LARGE {
        publisher.write_all(RESPONSE)?;
        if !subscribers.is_empty() {
            encode(&request[..length], &mut frame)?;
            for subscriber in &mut *subscribers {
                // A full socket loses the event: the floor promises nothing.
                let _ = subscriber.write(&frame);
            }
        }
        length = publisher.read(request)?;
    }
    Ok(())
}

/// Encodes the bytes that the broker would send: the body as one chunk, with an id.
fn encode(request: &[u8], frame: &mut Vec<u8>) -> io::Result<()> {
    let body = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(&[][..], |at| &request[at + 4..]);
    let id = b"\nid: 1795309372850067\n\n";
    frame.clear();
    write!(frame, "{:x}\r\n", body.len() + id.len())?;
    frame.extend_from_slice(body);
    frame.extend_from_slice(id);
    frame.extend_from_slice(b"\r\n");
    Ok(())
}
