//! The generated half of GRUB's menu: one line per BE, read back as well as written.
//!
//! ```text
//! # bootenv menu 1
//! be 'ID' 'PATH' 'KERNEL' 'INITRD' 'ARGUMENTS' 'TITLE'
//! ```
//!
//! A word in single quotes has no special character in GRUB's language but the quote itself (GRUB manual, "Quoting").

use super::Entry;
use crate::domain::kernel::Kernel;
use crate::error::{Error, Result};

const HEADER: &str = "# bootenv menu ";
const FORMAT: u32 = 1;
const WORDS: usize = 6;

/// Reads the menu. A line that does not parse, or a newer format, is an error: writing it back would lose entries.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let damaged = |line: usize| {
        Error::failed(format!("the boot menu BOOTENV/grub/menu.cfg is damaged at line {line}"))
            .hint("`bootenv check --repair` makes it anew from the boot environments there are")
    };
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
        let words = line.strip_prefix("be ").and_then(unquote).ok_or_else(|| damaged(index + 1))?;
        let [id, path, image, initrd, arguments, title]: [String; WORDS] =
            words.try_into().map_err(|_| damaged(index + 1))?;
        let some = |text: String| (!text.is_empty()).then_some(text);
        entries.push(Entry {
            id,
            path,
            kernel: some(image).map(|image| Kernel { image, initrd: some(initrd) }),
            copies: None,
            arguments,
            title,
        });
    }
    Ok(entries)
}

/// Writes the menu.
pub fn render(entries: &[Entry]) -> String {
    let mut text = format!("{HEADER}{FORMAT}\n");
    for entry in entries {
        let (image, initrd) = match &entry.kernel {
            Some(kernel) => (kernel.image.as_str(), kernel.initrd.as_deref().unwrap_or("")),
            None => ("", ""),
        };
        text.push_str("be");
        for word in [entry.id.as_str(), &entry.path, image, initrd, &entry.arguments, &entry.title] {
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
        text.push('\n');
    }
    text
}

/// Splits `'a' 'b'\''c'` into its words.
fn unquote(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let mut word = String::new();
        rest = rest.strip_prefix('\'')?;
        loop {
            let (part, tail) = rest.split_once('\'')?;
            word.push_str(part);
            match tail.strip_prefix("\\''") {
                Some(tail) => {
                    word.push('\'');
                    rest = tail;
                }
                None => {
                    rest = tail;
                    break;
                }
            }
        }
        words.push(word);
        if rest.is_empty() {
            return Some(words);
        }
        rest = rest.strip_prefix(' ')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(parse(&render(&entries)).unwrap(), entries);
    }

    #[test]
    fn control_characters_do_not_break_lines() {
        let text = render(&[entry("a", "x\nbe 'evil'\u{1b}[2J")]);
        assert_eq!(text.lines().count(), 2);
        assert_eq!(parse(&text).unwrap()[0].title, "x be 'evil' [2J");
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
            assert!(parse(text).unwrap_err().message.contains("damaged"), "{text:?}");
        }
        assert!(parse("# bootenv menu 2\nbx\n").unwrap_err().message.contains("newer"));
    }
}
