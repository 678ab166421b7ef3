//! What comes from a machine: the host's half of the agent protocol, whose other half, with what the lines mean, is
//! `guest/bootenv-test-agent`.

use std::time::Duration;

#[derive(Debug, PartialEq)]
pub enum Event {
    Hello {
        boot_id: String,
        agent_id: String,
    },
    /// What a command that is followed has printed.
    Line {
        id: u64,
        text: String,
    },
    Done {
        id: u64,
        status: i32,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    },
    /// From QEMU, not the agent: the guest has reset, or powered off.
    Ended {
        reset: bool,
    },
}

/// One line from the guest. `None` for anything else, such as the half of a line a reset left.
pub fn parse(line: &[u8]) -> Option<Event> {
    if let Some(rest) = line.strip_prefix(b"LINE ") {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let id = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        return Some(Event::Line { id, text: String::from_utf8_lossy(&rest[space + 1..]).into_owned() });
    }
    let line = std::str::from_utf8(line).ok()?;
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["HELLO", boot_id, agent_id] => {
            Some(Event::Hello { boot_id: boot_id.to_owned(), agent_id: agent_id.to_owned() })
        }
        ["DONE", id, status, stdout, stderr] => Some(Event::Done {
            id: id.parse().ok()?,
            status: status.parse().ok()?,
            stdout: decode(stdout)?,
            stderr: decode(stderr)?,
        }),
        _ => None,
    }
}

/// The line that asks the guest for a command: `RUN` it, or `FOLLOW` what it prints.
pub fn request(verb: &str, id: u64, limit: Duration, command: &str) -> Vec<u8> {
    format!("{verb} {id} {} {}\n", limit.as_secs().max(1), encode(command.as_bytes())).into_bytes()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// "-" is how the guest writes no bytes: an empty word would be lost between two spaces.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if text == "-" {
        return Some(bytes);
    }
    if !text.len().is_multiple_of(4) {
        return None;
    }
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut n = 0u32;
        for byte in chunk {
            n = n << 6 | DIGITS.iter().position(|digit| digit == byte)? as u32;
        }
        n <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&n.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[test]
fn base64_both_ways() {
    for (plain, coded) in [("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("abcd", "YWJjZA==")] {
        assert_eq!(encode(plain.as_bytes()), coded);
        assert_eq!(decode(coded).unwrap(), plain.as_bytes());
    }
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(decode(&encode(&all)).unwrap(), all);
    assert_eq!(decode("-").unwrap(), b"");
}

#[test]
fn a_line_cut_short_is_no_event() {
    assert_eq!(parse(b"DONE 3 0 YWJ"), None);
    assert_eq!(parse(b"DONE 3 0 YWJ -"), None);
    assert_eq!(parse(b""), None);
    let done = Event::Done { id: 3, status: 1, stdout: b"abc".to_vec(), stderr: vec![] };
    assert_eq!(parse(b"DONE 3 1 YWJj -"), Some(done));
}

#[test]
fn a_line_is_taken_as_it_is() {
    let line = |text: &str| Some(Event::Line { id: 7, text: text.into() });
    assert_eq!(parse(b"LINE 7  a b "), line(" a b "));
    assert_eq!(parse(b"LINE 7 "), line(""));
    assert_eq!(parse(b"LINE 7 \xff"), line("\u{fffd}"));
    assert_eq!(parse(b"LINE 7"), None);
}
