//! `/etc/fstab`, read and edited as text: comments, spacing and unknown lines stay as they are.
//!
//! Format: fstab(5). Fields are separated by blanks; a blank in a field is written `\040`.

use crate::error::{Error, Result};

/// One entry of fstab: where it stands and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line number, from 1.
    pub line: usize,
    /// First field, decoded.
    pub source: String,
    /// Second field, decoded.
    pub target: String,
    /// Third field.
    pub fstype: String,
    /// Fourth field; `defaults` if it is missing.
    pub options: String,
}

/// Parses fstab. A line that is no comment and has fewer than three fields, or a damaged escape, is
/// an error that names the line: guessing here could leave a machine without its root.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let trimmed = line.trim_matches(|c: char| c.is_ascii_whitespace());
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = trimmed.split_ascii_whitespace().collect();
        let bad = |why: &str| {
            Error::refused(format!("/etc/fstab line {line_number} does not parse: {why}"))
                .hint(format!("mend line {line_number} (fstab(5)): {trimmed:?}"))
        };
        if fields.len() < 3 {
            return Err(bad("it has fewer than three fields"));
        }
        if fields.len() > 6 && !fields[6].starts_with('#') {
            return Err(bad("it has more than six fields"));
        }
        if fields.get(4..).unwrap_or_default().iter().take(2).any(|f| !f.starts_with('#') && f.parse::<u32>().is_err())
        {
            return Err(bad("its fifth and sixth fields are not numbers"));
        }
        let decode = |field: &str| unescape(field).ok_or_else(|| bad("it has a damaged escape"));
        entries.push(Entry {
            line: line_number,
            source: decode(fields[0])?,
            target: decode(fields[1])?,
            fstype: fields[2].to_string(),
            options: fields.get(3).unwrap_or(&"defaults").to_string(),
        });
    }
    Ok(entries)
}

/// Whether fstab mounts something at `path` (absolute) or below it.
pub fn mounts_at_or_below<'a>(entries: &'a [Entry], path: &str) -> Option<&'a Entry> {
    entries.iter().find(|e| {
        let target = e.target.trim_end_matches('/');
        target == path || target.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// What `init` makes of an fstab: the shared line added if none stands there, and `subvol=`/`subvolid=` taken
/// out of the root's line, because they would name the BE this one was copied from.
/// Returns the new text and what was changed, in words.
pub fn adapt(text: &str, shared_line: Option<&str>) -> Result<(String, Vec<String>)> {
    let entries = parse(text)?;
    let mut notes = Vec::new();
    let root = entries.iter().find(|e| e.target == "/" && e.fstype == "btrfs");
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_string).collect();
    if let Some(root) = root {
        let kept: Vec<&str> =
            root.options.split(',').filter(|o| !o.starts_with("subvol=") && !o.starts_with("subvolid=")).collect();
        if kept.len() != root.options.split(',').count() {
            let options = if kept.is_empty() { "defaults".to_string() } else { kept.join(",") };
            let line = &mut lines[root.line - 1];
            *line = replace_field(line, 3, &options);
            notes.push(format!("/etc/fstab line {}: subvol= taken out of the root's options", root.line));
        }
    }
    if let Some(shared) = shared_line
        && !entries.iter().any(|e| e.target.trim_end_matches('/') == "/var/shared")
    {
        if let Some(last) = lines.last_mut().filter(|l| !l.ends_with('\n')) {
            last.push('\n');
        }
        lines.push(format!("{shared}\n"));
        notes.push("/etc/fstab: a line for /var/shared added".to_string());
    }
    Ok((lines.concat(), notes))
}

/// Replaces the `nth` blank-separated field of `line`, keeping the spacing around it.
fn replace_field(line: &str, nth: usize, value: &str) -> String {
    let mut seen = 0;
    let mut in_field = false;
    let mut start = None;
    let mut end = line.len();
    for (at, c) in line.char_indices() {
        match (in_field, c.is_ascii_whitespace()) {
            (false, false) => {
                in_field = true;
                if seen == nth {
                    start = Some(at);
                }
            }
            (true, true) => {
                in_field = false;
                if seen == nth {
                    end = at;
                    break;
                }
                seen += 1;
            }
            _ => {}
        }
    }
    match start {
        Some(start) => format!("{}{value}{}", &line[..start], &line[end..]),
        None => line.to_string(),
    }
}

/// Decodes `\ooo` escapes. `None` if one is damaged.
fn unescape(field: &str) -> Option<String> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.bytes();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let digits: Vec<u8> = bytes.by_ref().take(3).collect();
        let text = std::str::from_utf8(&digits).ok().filter(|d| d.len() == 3)?;
        out.push(u8::from_str_radix(text, 8).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "UUID=aa /var/shared btrfs subvol=SHARED 0 0";
    const FSTAB: &str =
        "# root\nUUID=aa  /  btrfs\tdefaults,subvol=@rootfs,noatime 0 1\nUUID=bb /boot/efi vfat umask=0077 0 1\n";

    #[test]
    fn adds_one_line_and_frees_the_root_from_its_subvolume() {
        let (text, notes) = adapt(FSTAB, Some(LINE)).unwrap();
        assert_eq!(
            text,
            "# root\nUUID=aa  /  btrfs\tdefaults,noatime 0 1\nUUID=bb /boot/efi vfat umask=0077 0 1\nUUID=aa /var/shared btrfs subvol=SHARED 0 0\n"
        );
        assert_eq!(notes.len(), 2);
        let (again, notes) = adapt(&text, Some(LINE)).unwrap();
        assert_eq!(again, text);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_line_that_stands_there_is_left_alone() {
        let text = "LABEL=x /var/shared/ ext4 defaults 0 2\n";
        assert_eq!(adapt(text, Some(LINE)).unwrap().0, text);
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_line() {
        for bad in [
            "ok / btrfs\nbroken\n",
            "a / b c d e f g\n",
            "a / btrfs defaults x y\n",
            "a\\9 / btrfs\n",
            "a\\04 / btrfs\n",
        ] {
            assert!(parse(bad).unwrap_err().message.contains("line"), "{bad:?}");
        }
    }

    #[test]
    fn mounts_below_a_directory_count() {
        let entries =
            parse("a /var/log/audit ext4 defaults\nb /var/spoolx ext4 defaults\nc /mnt/a\\040b ext4 x\n").unwrap();
        assert!(mounts_at_or_below(&entries, "/var/log").is_some());
        assert!(mounts_at_or_below(&entries, "/var/spool").is_none());
        assert_eq!(entries[2].target, "/mnt/a b");
    }
}
