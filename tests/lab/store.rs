//! What the tests have to know about where a store keeps things (DESIGN, section 3), so that the cases themselves need not.

use super::{Kind, Lab, Loader, Print, kind, run, sh};
use std::path::{Path, PathBuf};

/// An entry of the boot menu, as the boot loader reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub path: String,
    pub kernel: String,
    pub initrd: String,
    pub arguments: String,
    pub title: String,
}

impl Lab {
    /// The files of a BE, or of a snapshot (`BE@SNAP`).
    pub fn files(&self, name: &str) -> PathBuf {
        self.top().join("ROOT").join(name)
    }

    /// Whether there is such a BE or snapshot, by the store itself.
    pub fn holds(&self, name: &str) -> bool {
        self.files(name).exists()
    }

    /// What lies where BEs do, by the store itself; nothing if there is no store.
    pub fn in_root(&self) -> Vec<String> {
        if kind() == Kind::Btrfs && !self.image.exists() {
            return Vec::new();
        }
        let names = std::fs::read_dir(self.top().join("ROOT")).into_iter().flatten();
        let mut names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The files of the shared dataset.
    pub fn shared(&self) -> PathBuf {
        self.top().join("SHARED")
    }

    /// How long the name of a BE can be. In a pool the snapshot that another BE is made from needs room too.
    pub fn longest_name(&self) -> usize {
        match kind() {
            Kind::Btrfs => 250,
            Kind::Zfs => self.longest_whole() - "@.bootenv-0123456789abcdef-99".len(),
        }
    }

    /// How long `BE@SNAP` can be, of a BE whose name is no longer than a UUID. While a BE is put aside in a pool its snapshots
    /// go by that name.
    pub fn longest_snapshot(&self, be: &str) -> usize {
        match kind() {
            Kind::Btrfs => 255,
            Kind::Zfs => self.longest_whole() - (".exchange-".len() + 36 - be.len()),
        }
    }

    /// What a pool leaves of the longest name in it.
    fn longest_whole(&self) -> usize {
        255 - self.store().as_os_str().len() - "/ROOT/".len()
    }

    /// The tool's own directory.
    pub fn home(&self) -> PathBuf {
        self.top().join("BOOTENV")
    }

    /// The same, where it can be while bootenv works.
    pub fn home_beside(&self) -> PathBuf {
        if !self.backend.busy() {
            return self.home();
        }
        let at = self.path("home");
        std::fs::create_dir_all(&at).unwrap();
        sh(&self.mounting("BOOTENV", &at));
        at
    }

    /// Makes a dataset of its own out of a directory of a BE that is missing or empty.
    pub fn nest(&self, be: &str, path: &str) -> PathBuf {
        let full = self.files(be).join(path);
        self.nest_at(&full, "");
        full
    }

    /// Makes a dataset where a directory is missing or empty, and runs a shell script in it.
    pub fn nest_at(&self, at: &Path, script: &str) {
        self.backend.nest(at);
        sh(&format!("set -e; cd '{}'; {script}", at.display()));
    }

    /// Whether a directory is a dataset of its own.
    pub fn is_dataset(&self, dir: &Path) -> bool {
        self.backend.is_dataset(dir)
    }

    /// Destroys a BE, or another dataset, without bootenv's knowledge.
    pub fn destroy_behind(&self, path: &Path) {
        self.top();
        self.backend.destroy_behind(path);
    }

    /// Renames a BE without bootenv's knowledge.
    pub fn rename_behind(&self, from: &str, to: &str) {
        self.backend.rename_behind(&self.files(from), &self.files(to));
    }

    /// Clones a BE without bootenv's knowledge.
    pub fn clone_behind(&self, from: &Path, to: &Path) {
        self.top();
        self.backend.clone_behind(from, to);
    }

    /// Makes a dataset read-only, as people do.
    pub fn make_readonly(&self, path: &Path) {
        self.backend.make_readonly(path);
    }

    /// The shell command that mounts what is at a path of the store. It may be run in a namespace of its own, which
    /// must not hold on to a top that has to be left.
    pub fn mounting(&self, path: &str, at: &Path) -> String {
        self.leave_top_if_busy();
        self.backend.mounting(path, at)
    }

    /// What the kernel has to be told to have what is at a path of the store as its root.
    pub fn root_arguments(&self, path: &str) -> String {
        self.backend.root_arguments(path)
    }

    /// The line of fstab that mounts the shared dataset.
    pub fn shared_line(&self) -> String {
        self.backend.shared_line()
    }

    /// The whole store: every file of every dataset, identity and flags of every dataset. Without the lock, which names the
    /// last one who held it, and the times of the two directories in which things are made that may then be unmade.
    pub fn print(&self) -> Print {
        let mut out = vec![Path::new("BOOTENV/lock"), Path::new("BOOTENV"), Path::new("ROOT")];
        if self.backend.busy() {
            // The directory that shows them.
            out.push(Path::new(""));
        }
        let datasets = self.backend.datasets();
        let moves = |path: &Path| {
            // What zones have is laid out as the store is.
            let parts: Vec<_> = path.components().map(|part| part.as_os_str()).collect();
            let zones = |at: usize| parts.get(at).is_some_and(|part| *part == "zones");
            let in_home = zones(1) && (parts.len() == 3 || (parts.len() == 4 && parts[3] == "lock"));
            let in_place = zones(0) && (parts.len() < 3 || (parts.len() == 3 && parts[2] == "ROOT"));
            out.contains(&path) || in_home || in_place
        };
        Print::of(&self.top()).with(datasets).without(moves)
    }

    /// The whole store without the shared dataset and without the BE called `name`.
    pub fn print_without(&self, name: &str) -> Print {
        let be = Path::new("ROOT").join(name);
        self.print().without(|path| path.starts_with(&be) || path.starts_with("BOOTENV"))
    }

    /// What is copied to an ESP, for an image that has none yet.
    pub fn esp(&self) -> PathBuf {
        self.home().join("esp")
    }

    /// Where GRUB's state is kept, for an image that has no ESP yet.
    pub fn grubenv(&self) -> PathBuf {
        self.home().join("esp/EFI/bootenv/grubenv")
    }

    /// Whether the boot loader looks into the store, and sees what of it is gone.
    pub fn loader_sees(&self) -> bool {
        self.loader == Loader::Grub && kind() == Kind::Btrfs
    }

    /// What the boot loader is told, read as it reads it: `default`, `once`, `previous`.
    pub fn asked(&self, variable: &str) -> Option<String> {
        if self.loader == Loader::SystemdBoot {
            return self.asked_of_systemd_boot(variable);
        }
        let list = run("grub-editenv", &[self.grubenv().to_str().unwrap(), "list"]);
        let value = list.lines().find_map(|l| l.strip_prefix(&format!("bootenv_{variable}=")))?.to_string();
        (!value.is_empty()).then_some(value)
    }

    /// Where the boot menu is kept that GRUB reads.
    pub fn menu_file(&self) -> PathBuf {
        match kind() {
            Kind::Btrfs => self.home().join("grub/menu.cfg"),
            Kind::Zfs => self.copies_dir().join("menu.cfg"),
        }
    }

    /// Where the copies of kernels lie, for a loader that cannot read the store.
    pub fn copies_dir(&self) -> PathBuf {
        let ours = std::fs::read_dir(self.esp().join("EFI/bootenv")).unwrap();
        let dirs: Vec<PathBuf> = ours.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
        assert_eq!(dirs.len(), 1, "{dirs:?}");
        dirs[0].clone()
    }

    /// The names of the copies of kernels, sorted, and what else is there that is not the loader's own.
    pub fn copies(&self) -> Vec<String> {
        let names =
            std::fs::read_dir(self.copies_dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| !["menu.cfg", "grub.cfg", "reserve"].contains(&&**n)).collect();
        names.sort();
        names
    }

    /// What such a loader loads for a BE: the copies of its kernel and its initrd.
    pub fn loads(&self, be: &str) -> Vec<PathBuf> {
        match self.loader {
            Loader::Grub => {
                let line = self.menu_lines().into_iter().find(|words| words[0] == be);
                line.unwrap()[6..8].iter().map(|name| self.copies_dir().join(name)).collect()
            }
            Loader::SystemdBoot => self.menu_of_systemd_boot().into_iter().find(|l| l.entry.id == be).unwrap().loads,
        }
    }

    /// The boot menu as the loader reads it.
    pub fn menu(&self) -> Vec<Entry> {
        if self.loader == Loader::SystemdBoot {
            return self.menu_of_systemd_boot().into_iter().map(|e| e.entry).collect();
        }
        let entry = |words: Vec<String>| {
            let mut words = words.into_iter();
            let mut next = || words.next().expect("an entry has six words at least");
            Entry { id: next(), path: next(), kernel: next(), initrd: next(), arguments: next(), title: next() }
        };
        self.menu_lines().into_iter().map(entry).collect()
    }

    /// GRUB's menu by a shell, which quotes as GRUB does: the words of each entry.
    fn menu_lines(&self) -> Vec<Vec<String>> {
        let words = "be() { for w in \"$@\"; do printf '%s\\037' \"$w\"; done; echo; }";
        let text = sh(&format!("{words}; . '{}'", self.menu_file().display()));
        text.lines().map(|line| line.split('\u{1f}').map(str::to_string).collect()).collect()
    }

    /// The file that a BE's entry is kept in.
    pub fn entry_of(&self, be: &str) -> PathBuf {
        match self.loader {
            Loader::Grub => self.menu_file(),
            Loader::SystemdBoot => self.entry_file(be),
        }
    }

    /// The entry of one BE.
    pub fn entry(&self, be: &str) -> Option<Entry> {
        self.menu().into_iter().find(|e| e.id == be)
    }
}
