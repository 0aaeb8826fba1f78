//! Parses a corpus: many inputs in one text file, one per line, sorted and each once. `\n`, `\r`, `\t` and `\\` stand for line
//! feed, carriage return, tab and backslash, `\xNN` for any other byte outside printable ASCII. So a change of a corpus can be
//! read in a diff. `scripts/lib/corpus.sh` writes this format.

/// Returns the inputs, in the order of their lines. Errors name the line. A corpus without inputs is an error.
pub fn parse(text: &str) -> Result<Vec<Vec<u8>>, String> {
    if text.is_empty() {
        return Err("the corpus is empty".into());
    }
    let lines = text.strip_suffix('\n').ok_or("the last line is cut off")?;
    let mut previous = None;
    let inputs = lines.split('\n').zip(1..).map(|(line, number)| {
        if previous.replace(line).is_some_and(|previous| previous >= line) {
            return Err(format!("line {number} is out of order"));
        }
        unescape(line).ok_or_else(|| format!("line {number} is not escaped as a corpus is"))
    });
    inputs.collect()
}

/// Returns the bytes that a line stands for, or `None` unless escaping them gives this line again.
fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (byte, length) = match rest.as_bytes().get(at + 1)? {
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b't' => (b'\t', 2),
            b'\\' => (b'\\', 2),
            b'x' => (u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?, 4),
            _ => return None,
        };
        bytes.push(byte);
        rest = &rest[at + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    (escape(&bytes) == line).then_some(bytes)
}

fn escape(bytes: &[u8]) -> String {
    let escape = |&byte: &u8| match byte {
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(escape).collect()
}

#[test]
fn all_bytes_survive() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(parse(&format!("{}\n", escape(&bytes))), Ok(vec![bytes]));
    assert_eq!(parse("\n\\x00\n"), Ok(vec![vec![], vec![0]]));
}

#[test]
fn a_damaged_corpus_is_an_error() {
    assert_eq!(parse(""), Err("the corpus is empty".into()));
    assert_eq!(parse("a\nb"), Err("the last line is cut off".into()));
    for unsorted in ["b\na\n", "b\nb\n"] {
        assert_eq!(parse(unsorted), Err("line 2 is out of order".into()));
    }
    for malformed in ["\\", "\\y", "\\x4", "\\x+1", "\\xFF", "\\x41", "\u{e9}", "\0", "a\r"] {
        let error = parse(&format!("!\n{malformed}\nz\n")).expect_err(malformed);
        assert!(error.starts_with("line 2 is"), "{malformed:?}: {error}");
    }
}
