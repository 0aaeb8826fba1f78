//! Parses the bytes of a streamed response into its head and its events. Strict: anything that the broker's contract does not
//! allow is an error.

use std::ops::Range;

/// A parsed part of the response.
pub enum Part<'a> {
    /// The head, whatever its status.
    Head(&'a str),
    /// A block of lines that ended with a blank line.
    Block(Block<'a>),
    /// The last chunk.
    End,
}

/// The fields of an event that matter here.
#[derive(Default, Debug)]
pub struct Block<'a> {
    pub name: &'a str,
    /// The first line.
    pub data: &'a str,
    pub id: &'a str,
}

/// The bytes that are not yet parsed.
#[derive(Default)]
pub struct Parser {
    unread: Vec<u8>,
    text: Vec<u8>,
    has_head: bool,
}

impl Parser {
    /// Adds bytes, and calls `emit` with each part that is whole by now.
    pub fn read(&mut self, bytes: &[u8], mut emit: impl FnMut(Part<'_>) -> Result<(), String>) -> Result<(), String> {
        self.unread.extend_from_slice(bytes);
        let mut done = 0;
        if !self.has_head {
            let Some(end) = find(&self.unread, b"\r\n\r\n") else { return Ok(()) };
            let head = std::str::from_utf8(&self.unread[..end]).map_err(|error| error.to_string())?;
            emit(Part::Head(head))?;
            self.has_head = true;
            done = end + 4;
        }
        while let Some((data, end)) = chunk(&self.unread, done)? {
            done = end;
            if data.is_empty() {
                emit(Part::End)?;
                continue;
            }
            self.text.extend_from_slice(&self.unread[data]);
            emit_blocks(&mut self.text, &mut emit)?;
        }
        self.unread.drain(..done);
        Ok(())
    }
}

/// Returns the range of the data of the chunk that begins here, and where the next chunk begins.
fn chunk(bytes: &[u8], begin: usize) -> Result<Option<(Range<usize>, usize)>, String> {
    let rest = &bytes[begin..];
    let Some(line) = rest.iter().take(12).position(|byte| *byte == b'\n') else { return Ok(None) };
    let digits = std::str::from_utf8(&rest[..line]).unwrap_or("").strip_suffix('\r');
    let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let size = size.ok_or_else(|| format!("{:?} is no chunk", String::from_utf8_lossy(&rest[..line])))?;
    let data = begin + line + 1..begin + line + 1 + size;
    if bytes.len() < data.end + 2 {
        return Ok(None);
    }
    if &bytes[data.end..data.end + 2] != b"\r\n" {
        return Err("a chunk ends without CRLF".to_owned());
    }
    Ok(Some((data.clone(), data.end + 2)))
}

fn emit_blocks(text: &mut Vec<u8>, emit: &mut impl FnMut(Part<'_>) -> Result<(), String>) -> Result<(), String> {
    let mut done = 0;
    while let Some(end) = find(&text[done..], b"\n\n") {
        let block = std::str::from_utf8(&text[done..done + end]).map_err(|error| error.to_string())?;
        emit(Part::Block(Block::read(block)?))?;
        done += end + 2;
    }
    text.drain(..done);
    Ok(())
}

impl<'a> Block<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let mut block = Self::default();
        for line in text.split('\n') {
            match line.split_once(": ") {
                Some(("event", name)) => block.name = name,
                Some(("data", data)) if block.data.is_empty() => block.data = data,
                Some(("id", id)) => block.id = id,
                Some(("data" | "retry", _)) => {}
                _ if line == ":" => {}
                _ => return Err(format!("{line:?} is in a stream")),
            }
        }
        Ok(block)
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
