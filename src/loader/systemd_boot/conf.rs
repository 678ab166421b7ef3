//! An entry's file, `loader/entries/NAME.conf` (Boot Loader Specification, type #1), written and read back.
//!
//! ```text
//! title blue: before the move
//! sort-key 0-bootenv-fffffffd-fffffffe
//! version 6.12.1-amd64
//! linux /EFI/bootenv/STORE/HASH
//! initrd /EFI/bootenv/STORE/HASH
//! options root=UUID=... rootflags=subvol=ROOT/blue rw quiet
//! # bootenv-entry 1
//! # bootenv-id blue
//! # bootenv-path ROOT/blue
//! # bootenv-linux vmlinuz-6.12.1-amd64
//! # bootenv-linux-is SIZE STAMP
//! # bootenv-initrd initrd.img-6.12.1-amd64
//! # bootenv-initrd-is SIZE STAMP
//! ```
//!
//! What the loader does not need stands in comments, which it passes over. Lines that are not ours are kept.

use crate::domain::kernel::Kernel;
use crate::loader::Entry;
use crate::loader::kernels::{Copies, Copy};

/// The newest format this bootenv understands.
pub const FORMAT: u32 = 1;

/// systemd-boot sorts by this key first, upwards and by character. What distributions use begins with a letter, so that
/// what the loader falls back to is a BE as long as there is one.
const SORT: &str = "0-bootenv-";

/// Where an entry stands in the menu. Both count upwards, and a larger one stands further up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rank {
    /// When it was activated, counted in activations; 0 for never.
    pub activated: u32,
    /// When it was made, counted in entries.
    pub made: u32,
}

/// An entry's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// What it boots.
    pub entry: Entry,
    /// Where it stands.
    pub rank: Rank,
    /// Lines that are not ours.
    pub others: Vec<String>,
}

/// What a file with the name of one of our entries holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// An entry.
    Whole(Box<Conf>),
    /// An entry of a newer bootenv.
    Newer(u32),
    /// Something else.
    Damaged,
}

/// The key by which systemd-boot sorts.
pub fn sort_key(rank: Rank) -> String {
    format!("{SORT}{:08x}-{:08x}", !rank.activated, !rank.made)
}

fn rank(key: &str) -> Option<Rank> {
    let (activated, made) = key.strip_prefix(SORT)?.split_once('-')?;
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(|n| !n);
    Some(Rank { activated: number(activated)?, made: number(made)? })
}

/// Writes the file. `dir` is where the copies lie, from the top of the ESP.
pub fn render(conf: &Conf, dir: &str) -> String {
    let Conf { entry, rank, others } = conf;
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        // A control character would end the line.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("{key} {value}\n"));
    };
    line("title", &entry.title);
    line("sort-key", &sort_key(*rank));
    // First, because firmware updates for the processor come before an initrd.
    others.iter().filter(|l| !l.starts_with('#')).for_each(|l| match l.split_once([' ', '\t']) {
        Some((key, value)) => line(key, value),
        None => line(l, ""),
    });
    if let (Some(kernel), Some(copies)) = (&entry.kernel, &entry.copies) {
        line("version", version(&kernel.image));
        line("linux", &format!("/{dir}/{}", copies.image.hash));
        if let Some(initrd) = &copies.initrd {
            line("initrd", &format!("/{dir}/{}", initrd.hash));
        }
    }
    line("options", &entry.arguments);
    line("# bootenv-entry", &FORMAT.to_string());
    line("# bootenv-id", &entry.id);
    line("# bootenv-path", &entry.path);
    if let Some(kernel) = &entry.kernel {
        line("# bootenv-linux", &kernel.image);
        if let Some(copies) = &entry.copies {
            line("# bootenv-linux-is", &copies.image.is());
        }
        if let Some(initrd) = &kernel.initrd {
            line("# bootenv-initrd", initrd);
            if let Some(copy) = entry.copies.as_ref().and_then(|c| c.initrd.as_ref()) {
                line("# bootenv-initrd-is", &copy.is());
            }
        }
    }
    for comment in others.iter().filter(|l| l.starts_with('#')) {
        text.push_str(&format!("{comment}\n"));
    }
    text
}

/// What follows the first hyphen of a kernel's file name.
fn version(image: &str) -> &str {
    image.split_once('-').map_or(image, |(_, version)| version)
}

/// Reads the file back.
pub fn parse(text: &str, dir: &str) -> Read {
    let mut ours: std::collections::BTreeMap<&str, &str> = Default::default();
    let mut others = Vec::new();
    let below = format!("/{dir}/");
    for line in text.lines().map(str::trim_start).filter(|l| !l.is_empty()) {
        // Only the blanks after the key: a title may end in some.
        let (key, value) = match line.strip_prefix("# bootenv-") {
            Some(_) => line[2..].split_once(' ').unwrap_or((&line[2..], "")),
            None => line.split_once([' ', '\t']).unwrap_or((line, "")),
        };
        let value = value.trim_start_matches([' ', '\t']);
        match key {
            "title" | "sort-key" | "version" | "options" => drop(ours.insert(key, value)),
            "linux" | "initrd" if value.starts_with(&below) => drop(ours.insert(key, value)),
            "bootenv-entry" | "bootenv-id" | "bootenv-path" | "bootenv-linux" | "bootenv-linux-is"
            | "bootenv-initrd" | "bootenv-initrd-is" => drop(ours.insert(key, value)),
            _ => others.push(line.to_string()),
        }
    }
    match ours.get("bootenv-entry").and_then(|v| v.parse::<u32>().ok()) {
        Some(version) if version > FORMAT => return Read::Newer(version),
        Some(_) => {}
        None => return Read::Damaged,
    }
    let get = |key: &str| ours.get(key).copied();
    let copy =
        |file: &str, is: &str| -> Option<Copy> { Copy::read(get(file)?.strip_prefix(&below)?.trim_end(), get(is)?) };
    let read = || -> Option<Conf> {
        let kernel = get("bootenv-linux")
            .map(|image| Kernel { image: image.to_string(), initrd: get("bootenv-initrd").map(str::to_string) });
        let copies = match (&kernel, copy("linux", "bootenv-linux-is")) {
            (Some(kernel), Some(image)) => match &kernel.initrd {
                None => Some(Copies { image, initrd: None }),
                Some(_) => copy("initrd", "bootenv-initrd-is").map(|c| Copies { image, initrd: Some(c) }),
            },
            _ => None,
        };
        Some(Conf {
            entry: Entry {
                id: get("bootenv-id")?.to_string(),
                path: get("bootenv-path")?.to_string(),
                kernel,
                copies,
                arguments: get("options")?.trim_end().to_string(),
                title: get("title")?.to_string(),
            },
            rank: rank(get("sort-key")?.trim_end())?,
            others: others.clone(),
        })
    };
    read().map_or(Read::Damaged, |conf| Read::Whole(Box::new(conf)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIR: &str = "EFI/bootenv/store";

    fn copy(n: u64) -> Copy {
        Copy { hash: format!("{n:032x}"), size: n, stamp: format!("{n}.1.2") }
    }

    fn conf(id: &str, title: &str) -> Conf {
        Conf {
            entry: Entry {
                id: id.into(),
                path: format!("ROOT/{id}"),
                kernel: Some(Kernel { image: "vmlinuz-6.12".into(), initrd: Some("initrd.img-6.12".into()) }),
                copies: Some(Copies { image: copy(1), initrd: Some(copy(2)) }),
                arguments: "root=UUID=x rw".into(),
                title: title.into(),
            },
            rank: Rank { activated: 2, made: 7 },
            others: vec![],
        }
    }

    #[test]
    fn the_file_as_the_loader_reads_it() {
        let text = render(&conf("blue", "blue: x"), DIR);
        for line in [
            "title blue: x",
            "sort-key 0-bootenv-fffffffd-fffffff8",
            "version 6.12",
            "linux /EFI/bootenv/store/00000000000000000000000000000001",
            "initrd /EFI/bootenv/store/00000000000000000000000000000002",
            "options root=UUID=x rw",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn lines_of_others_are_kept() {
        let text = format!("# mine\ninitrd /microcode.img\ndevicetree /x.dtb\nodd\n{}", render(&conf("a", "a"), DIR));
        let Read::Whole(read) = parse(&text, DIR) else { panic!("{text}") };
        assert_eq!(read.others, ["# mine", "initrd /microcode.img", "devicetree /x.dtb", "odd"]);
        let again = render(&read, DIR);
        let Read::Whole(same) = parse(&again, DIR) else { panic!("{again}") };
        assert_eq!(same.entry, read.entry);
        let at = |what: &str| again.find(what).unwrap();
        assert!(at("initrd /microcode.img") < at("initrd /EFI"), "{again}");
        assert!(again.contains("# mine\n"));
    }

    #[test]
    fn what_cannot_be_booted_has_no_kernel() {
        let mut bare = conf("a", "a");
        bare.entry.kernel = None;
        bare.entry.copies = None;
        let text = render(&bare, DIR);
        assert!(!text.contains("\nlinux"), "{text}");
        assert_eq!(parse(&text, DIR), Read::Whole(Box::new(bare)));
    }

    #[test]
    fn damage_and_newer_formats_are_told() {
        let whole = render(&conf("a", "a"), DIR);
        assert_eq!(parse(&whole.replace("bootenv-entry 1", "bootenv-entry 2"), DIR), Read::Newer(2));
        for text in ["", "title a\n", &whole.replace("bootenv-id", "id"), &whole.replace("sort-key 0", "sort-key 1")] {
            assert_eq!(parse(text, DIR), Read::Damaged, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in "[A-Za-z0-9][A-Za-z0-9_.:-]{0,40}",
            text in "[^\\p{Cc}]{0,60}",
            kernel in any::<bool>(),
            initrd in any::<bool>(),
            activated in any::<u32>(),
            made in any::<u32>(),
        ) {
            let mut written = conf(&id, &format!("{id}: {text}"));
            written.rank = Rank { activated, made };
            if !initrd {
                written.entry.kernel.as_mut().unwrap().initrd = None;
                written.entry.copies.as_mut().unwrap().initrd = None;
            }
            if !kernel {
                (written.entry.kernel, written.entry.copies) = (None, None);
            }
            prop_assert_eq!(parse(&render(&written, DIR), DIR), Read::Whole(Box::new(written)));
        }

        #[test]
        fn the_key_sorts_as_the_rank(a in any::<(u32, u32)>(), b in any::<(u32, u32)>()) {
            let rank = |(activated, made): (u32, u32)| Rank { activated, made };
            prop_assert_eq!(rank(a).cmp(&rank(b)), sort_key(rank(b)).cmp(&sort_key(rank(a))));
        }

        #[test]
        fn any_text_at_all_is_read(text in "(?s).{0,400}") {
            parse(&text, DIR);
        }
    }
}
