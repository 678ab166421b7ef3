//! What rpm keeps in an SQLite file (sqlite.org, "Database File Format"): the second column of a table, row by row. Pages that its
//! write-ahead log has, because nobody has closed the database properly, are read from there.

use super::{broken, bytes_at};
use crate::error::{Doing, Error, Result};
use crate::sys::tree::Tree;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// The file's own head, at the beginning of the first page.
const HEAD: usize = 100;
/// A page of a table: one that leads to others, and one with rows.
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
/// Deeper than a tree over all pages there can be.
const DEEPEST: usize = 20;
/// The longest row that is read; rpm takes no longer header.
const LONGEST: usize = 256 << 20;
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// An open database.
struct Database {
    path: String,
    file: File,
    page: usize,
    /// What of a page is used.
    usable: usize,
    /// Pages there are.
    pages: usize,
    log: Option<File>,
    /// Where in the log a page is that the log has.
    logged: HashMap<usize, u64>,
}

/// Gives the second column of a table; whether there is such a database.
pub(super) fn blobs(root: &Tree, path: &str, table: &str, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
    let Some(file) = root.file(path)? else { return Ok(false) };
    let length = file.metadata().doing(format_args!("cannot read /{path}"))?.len();
    let log = root.file(&format!("{path}-wal"))?;
    let mut database =
        Database { path: path.to_string(), file, page: 0, usable: 0, pages: 0, log, logged: HashMap::new() };
    database.read_head(length)?;
    // The table of tables: type, name, table, first page.
    let mut first = None;
    database.rows(1, &mut |row| {
        let column = |number| column(row, number);
        if column(0) == Some(b"table".as_slice()) && column(1) == Some(table.as_bytes()) {
            first = column(3).map(|bytes| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)));
        }
        Ok(())
    })?;
    // A database in which nothing has been written yet has no tables.
    let Some(first) = first else { return Ok(true) };
    database.rows(first, &mut |row| match column(row, 1) {
        Some(blob) => each(blob),
        None => Err(broken(format!("a row in /{path} is shorter than it says"))),
    })?;
    Ok(true)
}

impl Database {
    fn wrong(&self, what: &str) -> Error {
        broken(format!("/{}: {what}", self.path))
    }

    fn read_head(&mut self, length: u64) -> Result<()> {
        self.read_log();
        let mut head = vec![0; HEAD];
        // The first page may be in the log alone.
        let place = self.logged.get(&1).copied();
        let read = match (&self.log, place) {
            (Some(log), Some(at)) => log.read_exact_at(&mut head, at),
            _ => self.file.read_exact_at(&mut head, 0),
        };
        if length == 0 && place.is_none() {
            // Made, and not written to yet.
            (self.page, self.usable) = (512, 512);
            return Ok(());
        }
        if read.is_err() || !head.starts_with(MAGIC) {
            return Err(self.wrong("it is no SQLite database"));
        }
        let size = usize::from(u16::from_be_bytes([head[16], head[17]]));
        let size = if size == 1 { 65536 } else { size };
        let usable = size.checked_sub(usize::from(head[20])).filter(|usable| *usable >= 480);
        let in_log = self.logged.keys().max().copied().unwrap_or_default();
        match usable {
            Some(usable) if size.is_power_of_two() && (self.page == 0 || self.page == size) => {
                (self.page, self.usable) = (size, usable);
                self.pages = in_log.max(usize::try_from(length).unwrap_or_default() / size);
                Ok(())
            }
            _ => Err(self.wrong("its pages have no size")),
        }
    }

    /// Notes which pages the log has. It ends where a frame does not belong to it any more, or is not whole; what comes after
    /// the last commit does not count.
    fn read_log(&mut self) {
        let Some(log) = &self.log else { return };
        let mut head = [0; LOG_HEAD];
        if log.read_exact_at(&mut head, 0).is_err() {
            return;
        }
        let number = |data: &[u8], at| bytes_at(data, at).map_or(0, u32::from_be_bytes);
        let high_first = match number(&head, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return,
        };
        let mut sums = checksum([0, 0], &head[..24], high_first);
        let size = number(&head, 8) as usize;
        if sums != [number(&head, 24), number(&head, 28)] || !size.is_power_of_two() || size > 65536 {
            return;
        }
        let (mut at, mut begun) = (LOG_HEAD as u64, Vec::new());
        let mut frame = vec![0; FRAME_HEAD + size];
        while log.read_exact_at(&mut frame, at).is_ok() {
            sums = checksum(checksum(sums, &frame[..8], high_first), &frame[FRAME_HEAD..], high_first);
            if frame[8..16] != head[16..24] || sums != [number(&frame, 16), number(&frame, 20)] {
                break;
            }
            begun.push((number(&frame, 0) as usize, at + FRAME_HEAD as u64));
            if number(&frame, 4) != 0 {
                self.logged.extend(begun.drain(..));
                self.page = size;
            }
            at += frame.len() as u64;
        }
    }

    fn page(&self, number: usize) -> Result<Vec<u8>> {
        let mut page = vec![0; self.page];
        let read = match (&self.log, self.logged.get(&number)) {
            (Some(log), Some(at)) => log.read_exact_at(&mut page, *at),
            _ if number == 0 || number > self.pages => return Err(self.wrong("a page is not there")),
            _ => self.file.read_exact_at(&mut page, (number as u64 - 1) * self.page as u64),
        };
        read.map_err(|_| self.wrong("a page cannot be read")).map(|()| page)
    }

    /// Gives the rows of the table that begins at a page.
    fn rows(&self, first: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.pages == 0 {
            return Ok(());
        }
        let mut seen = 0;
        self.descend(first, DEEPEST, &mut seen, each)
    }

    fn descend(
        &self,
        number: usize,
        depth: usize,
        seen: &mut usize,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        *seen += 1;
        if depth == 0 || *seen > self.pages {
            return Err(self.wrong("its pages lead in a circle"));
        }
        let page = self.page(number)?;
        let at = if number == 1 { HEAD } else { 0 };
        let two = |at: usize| page.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let four = |at: usize| bytes_at(&page, at).map(|bytes| u32::from_be_bytes(bytes) as usize);
        let short = || self.wrong("a page says more than it holds");
        let kind = page.get(at).copied();
        let cells = two(at + 3).ok_or_else(short)?;
        let pointers = at + if kind == Some(INTERIOR) { 12 } else { 8 };
        for cell in 0..cells {
            let cell = two(pointers + 2 * cell).ok_or_else(short)?;
            match kind {
                Some(INTERIOR) => self.descend(four(cell).ok_or_else(short)?, depth - 1, seen, each)?,
                Some(LEAF) => each(&self.row(page.get(cell..).ok_or_else(short)?)?)?,
                _ => return Err(self.wrong("a page is none of a table")),
            }
        }
        match kind {
            Some(INTERIOR) => self.descend(four(at + 8).ok_or_else(short)?, depth - 1, seen, each),
            Some(LEAF) => Ok(()),
            _ => Err(self.wrong("a page is none of a table")),
        }
    }

    /// A row: its length, its number, and as much of it as has room on its page; the rest is in a chain of other pages.
    fn row(&self, cell: &[u8]) -> Result<Vec<u8>> {
        let short = || self.wrong("a row is shorter than it says");
        let (length, rest) = varint(cell).ok_or_else(short)?;
        let (_, rest) = varint(rest).ok_or_else(short)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or_else(short)?;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = match least + length.saturating_sub(least) % (self.usable - 4) {
            _ if length <= self.usable - 35 => length,
            here if here <= self.usable - 35 => here,
            _ => least,
        };
        let mut row = rest.get(..here).ok_or_else(short)?.to_vec();
        let mut next = bytes_at(rest, here).map_or(0, u32::from_be_bytes);
        while row.len() < length {
            let page = self.page(next as usize)?;
            let more = (self.usable - 4).min(length - row.len());
            row.extend(page.get(4..4 + more).ok_or_else(short)?);
            next = bytes_at(&page, 0).map_or(0, u32::from_be_bytes);
        }
        Ok(row)
    }
}

/// A number of up to nine bytes, and what follows it.
fn varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in data.iter().enumerate().take(9) {
        if at == 8 {
            return Some((number << 8 | u64::from(*byte), &data[9..]));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, &data[at + 1..]));
        }
    }
    None
}

/// A column of a row, which begins with how long its list of types is.
fn column(row: &[u8], wanted: usize) -> Option<&[u8]> {
    let (head, rest) = varint(row)?;
    let head = usize::try_from(head).ok()?;
    let mut types = row.get(row.len() - rest.len()..head)?;
    let mut at = head;
    for number in 0.. {
        let (kind, rest) = varint(types)?;
        types = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((kind - 12) / 2).ok()?,
        };
        let end = at.checked_add(length)?;
        if number == wanted {
            return row.get(at..end);
        }
        at = end;
    }
    None
}

/// The log's checksum goes on over pairs of words.
fn checksum(mut sums: [u32; 2], data: &[u8], high_first: bool) -> [u32; 2] {
    let word = |bytes: [u8; 4]| if high_first { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    for pair in data.as_chunks::<4>().0.chunks_exact(2) {
        sums[0] = sums[0].wrapping_add(word(pair[0])).wrapping_add(sums[1]);
        sums[1] = sums[1].wrapping_add(word(pair[1])).wrapping_add(sums[0]);
    }
    sums
}
