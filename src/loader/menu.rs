//! The generated half of GRUB's menu: one line per BE, read back as well as written.
//!
//! ```text
//! # bootenv menu 1
//! be 'ID' 'PATH' 'KERNEL' 'INITRD' 'ARGUMENTS' 'TITLE'
//! ```
//!
//! On the ESP four more say which copies of kernel and initrd are booted, and by what their files are recognised
//! (`kernels::Copy`): `'HASH' 'HASH' 'SIZE STAMP' 'SIZE STAMP'`.
//!
//! A word in single quotes has no special character in GRUB's language but the quote itself (GRUB manual, "Quoting").

use super::Entry;
use super::kernels::{Copies, Copy};
use crate::domain::kernel::Kernel;
use crate::error::{Error, Result};
use memchr::{memchr, memmem};
use std::ops::Range;

const HEADER: &str = "# bootenv menu ";
const FORMAT: u32 = 1;
/// Words of an entry, without and with copies.
const WORDS: usize = 6;
const WITH_COPIES: usize = WORDS + 4;

fn damaged(line: usize) -> Error {
    Error::failed(format!("the boot menu menu.cfg is damaged at line {line}"))
        .hint("`bootenv check --repair` makes it anew from the boot environments there are")
}

/// Reads those entries of the menu whose id, as it stands there, is wanted. A line that does not parse, wanted or not, or a
/// newer format, is an error: writing it back would lose entries.
pub fn parse(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
    let mut lines = text.lines().enumerate();
    let version = lines.next().and_then(|(_, l)| l.strip_prefix(HEADER)).and_then(|v| v.trim().parse::<u32>().ok());
    match version {
        None => return Err(damaged(1)),
        Some(version) if version > FORMAT => {
            return Err(Error::refused(format!("the boot menu was written by a newer bootenv (format {version})"))
                .hint("use the bootenv of the boot environment that runs, or a newer one"));
        }
        Some(_) => {}
    }
    let mut entries = Vec::new();
    for (index, line) in lines {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = line.strip_prefix("be ").and_then(words).ok_or_else(|| damaged(index + 1))?;
        if !wanted(words[0]) {
            continue;
        }
        let [id, path, image, initrd, arguments, title, copies @ ..] = words.map(unquoted);
        let some = |text: String| (!text.is_empty()).then_some(text);
        entries.push(Entry {
            id,
            path,
            kernel: some(image).map(|image| Kernel { image, initrd: some(initrd) }),
            copies: read_copies(&copies).ok_or_else(|| damaged(index + 1))?,
            arguments,
            title,
        });
    }
    Ok(entries)
}

/// The copies that an entry names, if it names any; nothing if what it says of them makes no sense.
fn read_copies([image, initrd, image_is, initrd_is]: &[String; WITH_COPIES - WORDS]) -> Option<Option<Copies>> {
    if image.is_empty() {
        return Some(None);
    }
    let initrd = match initrd.as_str() {
        "" => None,
        hash => Some(Copy::read(hash, initrd_is)?),
    };
    Some(Some(Copies { image: Copy::read(image, image_is)?, initrd }))
}

/// Writes the menu.
pub fn render(entries: &[Entry]) -> String {
    let mut text = format!("{HEADER}{FORMAT}\n");
    entries.iter().for_each(|entry| text += &line(entry));
    text
}

/// The menu with an entry in the place of those with the same id and path, or at the top. Other lines stay as they are.
pub fn put(text: &str, entry: &Entry) -> Result<String> {
    let (top, there) = (top(text)?, lines_of(text, &start(&entry.id, &entry.path)));
    let at = there.first().map_or(top, |line| line.start);
    Ok(spliced(text, at, &line(entry), &there))
}

/// The menu with an entry behind the first one with the same id and path, or at the top.
pub fn put_beside(text: &str, entry: &Entry) -> Result<String> {
    let (top, new) = (top(text)?, line(entry));
    if !lines_of(text, &new).is_empty() {
        return Ok(text.to_string());
    }
    let at = lines_of(text, &start(&entry.id, &entry.path)).first().map_or(top, |line| line.end);
    Ok(spliced(text, at, &new, &[]))
}

/// The menu without the entries with this id and path.
pub fn remove(text: &str, id: &str, path: &str) -> Result<String> {
    let top = top(text)?;
    Ok(spliced(text, top, "", &lines_of(text, &start(id, path))))
}

/// Where the entries of a menu begin that may be written.
fn top(text: &str) -> Result<usize> {
    let header = format!("{HEADER}{FORMAT}\n");
    match text.starts_with(&header) {
        true => Ok(header.len()),
        // Parsing tells whether it is damaged or newer.
        false => parse(text, |_| false).and_then(|_| Err(damaged(1))),
    }
}

/// The lines, with their ends, that begin with `start`.
fn lines_of(text: &str, start: &str) -> Vec<Range<usize>> {
    let begin = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'\n';
    let end = |at: usize| text[at..].find('\n').map_or(text.len(), |n| at + n + 1);
    memmem::find_iter(text.as_bytes(), start).filter(|at| begin(*at)).map(|at| at..end(at)).collect()
}

/// The text with `new` at a place between two lines, and without some lines at or behind it.
fn spliced(text: &str, at: usize, new: &str, without: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len() + new.len());
    out += &text[..at];
    out += new;
    let mut next = at;
    for line in without {
        out += &text[next..line.start];
        next = line.end;
    }
    out + &text[next..]
}

/// What the lines of entries with this id and path begin with.
fn start(id: &str, path: &str) -> String {
    let mut text = "be".to_string();
    [id, path].iter().for_each(|word| quote(word, &mut text));
    text + " "
}

fn line(entry: &Entry) -> String {
    let (image, initrd) = match &entry.kernel {
        Some(kernel) => (kernel.image.as_str(), kernel.initrd.as_deref().unwrap_or("")),
        None => ("", ""),
    };
    let mut text = "be".to_string();
    for word in [entry.id.as_str(), &entry.path, image, initrd, &entry.arguments, &entry.title] {
        quote(word, &mut text);
    }
    if let Some(Copies { image, initrd }) = &entry.copies {
        let hash = initrd.as_ref().map_or("", |copy| &copy.hash);
        for word in [&image.hash, hash, &image.is(), &initrd.as_ref().map(Copy::is).unwrap_or_default()] {
            quote(word, &mut text);
        }
    }
    text + "\n"
}

fn quote(word: &str, text: &mut String) {
    text.push_str(" '");
    // A control character would end the line, or do something to the terminal.
    for c in word.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        match c {
            '\'' => text.push_str("'\\''"),
            c => text.push(c),
        }
    }
    text.push('\'');
}

/// What a word says. Few have a quote in them, and looking for one takes less than looking for how it is written.
fn unquoted(word: &str) -> String {
    match memchr(b'\'', word.as_bytes()) {
        None => word.to_string(),
        Some(_) => word.replace("'\\''", "'"),
    }
}

/// Splits `'a' 'b'\''c'` into its words, as they stand there: as many as an entry has, those that say which copies it boots
/// being empty if there are none.
fn words(text: &str) -> Option<[&str; WITH_COPIES]> {
    let mut words = [""; WITH_COPIES];
    let mut rest = text;
    for (index, word) in words.iter_mut().enumerate() {
        if index == WORDS && rest.is_empty() {
            break;
        }
        if index > 0 {
            rest = rest.strip_prefix(' ')?;
        }
        let inside = rest.strip_prefix('\'')?;
        let quote = |from: usize| memchr(b'\'', &inside.as_bytes()[from..]).map(|n| from + n);
        let mut end = quote(0)?;
        while inside[end..].starts_with("'\\''") {
            end = quote(end + 4)?;
        }
        *word = &inside[..end];
        rest = &inside[end + 1..];
    }
    rest.is_empty().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Entry>> {
        parse(text, |_| true)
    }

    fn entry(id: &str, title: &str) -> Entry {
        Entry {
            id: id.into(),
            path: format!("ROOT/{id}"),
            kernel: Some(Kernel { image: "vmlinuz-1".into(), initrd: None }),
            copies: None,
            arguments: "root=UUID=x rw".into(),
            title: title.into(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let entries =
            vec![entry("a", "it's '$HOME' `x` \\ \"q\""), entry("b", ""), Entry { kernel: None, ..entry("c", "''") }];
        assert_eq!(all(&render(&entries)).unwrap(), entries);
    }

    #[test]
    fn copies_are_read_back() {
        let copy = |n: u64| Copy { hash: format!("{n:032x}"), size: n, stamp: format!("{n}.1.2") };
        let of = |id: &str, initrd: Option<Copy>| Entry {
            copies: Some(Copies { image: copy(1), initrd }),
            ..entry(id, "on the ESP")
        };
        let entries = [of("a", Some(copy(2))), of("b", None), entry("c", "cannot be booted")];
        let text = render(&entries);
        let read = all(&text).unwrap();
        assert_eq!(read, entries);
        // Which `==` does not look at.
        let stamps = |e: &Entry| e.copies.iter().flat_map(Copies::all).map(Copy::is).collect::<Vec<_>>();
        assert_eq!(stamps(&read[0]), ["1 1.1.2", "2 2.1.2"]);
        assert!(text.contains(&format!("'{:032x}' '' '1 1.1.2' ''\n", 1)), "{text}");
        for damage in ["'1 1.1.2'", " '2 2.1.2'"] {
            assert!(all(&text.replacen(damage, "'x'", 1)).unwrap_err().message.contains("damaged"), "{damage}");
        }
        let changed = remove(&put(&text, &of("a", None)).unwrap(), "b", "ROOT/b").unwrap();
        assert_eq!(all(&changed).unwrap(), [of("a", None), entries[2].clone()]);
    }

    #[test]
    fn a_line_is_put_and_removed_among_others() {
        let text = render(&[entry("a", "it's"), entry("b", ""), entry("ab", "")]);
        let changed = put(&text, &entry("b", "new")).unwrap();
        assert_eq!(all(&changed).unwrap(), [entry("a", "it's"), entry("b", "new"), entry("ab", "")]);
        let changed = put(&changed, &entry("c", "")).unwrap();
        assert_eq!(all(&changed).unwrap()[0], entry("c", ""));
        assert_eq!(remove(&remove(&changed, "c", "ROOT/c").unwrap(), "b", "ROOT/x").unwrap().lines().count(), 4);
        let beside = put_beside(&text, &entry("b", "beside")).unwrap();
        assert_eq!(all(&beside).unwrap()[2], entry("b", "beside"));
        assert_eq!(put_beside(&beside, &entry("b", "beside")).unwrap(), beside);
        assert_eq!(put(&beside, &entry("b", "one")).unwrap().lines().count(), 4);
        for text in ["", "be 'a'\n", "# bootenv menu 1"] {
            assert!(put(text, &entry("a", "")).is_err(), "{text:?}");
        }
        assert!(remove("# bootenv menu 2\n", "a", "").unwrap_err().message.contains("newer"));
    }

    #[test]
    fn control_characters_do_not_break_lines() {
        let text = render(&[entry("a", "x\nbe 'evil'\u{1b}[2J")]);
        assert_eq!(text.lines().count(), 2);
        assert_eq!(all(&text).unwrap()[0].title, "x be 'evil' [2J");
    }

    #[test]
    fn damage_and_newer_formats_are_told() {
        for text in [
            "",
            "be 'a'\n",
            "# bootenv menu 1\nbe 'a' 'b'\n",
            "# bootenv menu 1\nbe 'a\n",
            "# bootenv menu 1\nrm -rf\n",
        ] {
            assert!(all(text).unwrap_err().message.contains("damaged"), "{text:?}");
        }
        assert!(all("# bootenv menu 2\nbx\n").unwrap_err().message.contains("newer"));
    }
}
