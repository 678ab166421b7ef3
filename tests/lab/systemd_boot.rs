//! The ESP of an image, read as systemd-boot reads it (Boot Loader Specification), which is not how bootenv does.

use super::Lab;
use super::store::Entry;
use std::path::PathBuf;

/// One entry that systemd-boot would list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub file: String,
    pub sort_key: String,
    pub entry: Entry,
    /// What it loads, in full.
    pub loads: Vec<PathBuf>,
}

impl Lab {
    /// Where entries lie.
    pub fn entries_dir(&self) -> PathBuf {
        self.esp().join("loader/entries")
    }

    /// The file of a BE's entry.
    pub fn entry_file(&self, be: &str) -> PathBuf {
        let found = self.menu_of_systemd_boot().into_iter().find(|l| l.entry.id == be);
        self.entries_dir().join(found.unwrap_or_else(|| panic!("{be} has no entry")).file)
    }

    /// The entries that systemd-boot would list, in order. What has no kernel is not listed.
    pub fn menu_of_systemd_boot(&self) -> Vec<Listed> {
        listed(&self.esp())
    }

    /// What boots by default where no EFI variable says so, and what is next in order: both only if it was activated.
    pub fn asked_of_systemd_boot(&self, what: &str) -> Option<String> {
        let at = match what {
            "default" => 0,
            "previous" => 1,
            _ => return None,
        };
        let listed = self.menu_of_systemd_boot().into_iter().nth(at)?;
        (!listed.sort_key.contains("-ffffffff-")).then_some(listed.entry.id)
    }
}

/// The entries below the top of an ESP.
pub fn listed(esp: &std::path::Path) -> Vec<Listed> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(esp.join("loader/entries")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        if !file.ends_with(".conf") {
            continue;
        }
        let text = std::fs::read_to_string(esp.join("loader/entries").join(&file)).unwrap();
        let values = |key: &str| -> Vec<String> {
            let of_line = |l: &str| Some(l.strip_prefix(key)?.strip_prefix(' ')?.to_string());
            text.lines().filter_map(of_line).collect()
        };
        let one = |key: &str| values(key).pop().unwrap_or_default();
        let loads: Vec<PathBuf> = values("linux").iter().chain(&values("initrd")).map(|p| esp.join(&p[1..])).collect();
        if loads.is_empty() || !loads[0].exists() {
            continue;
        }
        let options = one("options");
        let entry = Entry {
            id: one("# bootenv-id"),
            path: one("# bootenv-path"),
            kernel: one("# bootenv-linux"),
            initrd: one("# bootenv-initrd"),
            arguments: options,
            title: one("title"),
        };
        all.push(Listed { file, sort_key: one("sort-key"), entry, loads });
    }
    all.sort_by(|a, b| a.sort_key.cmp(&b.sort_key));
    all
}
