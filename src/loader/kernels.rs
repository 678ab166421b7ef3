//! Kernels on the ESP, for loaders that cannot read the store: a copy of each kernel and initrd, once per content.
//!
//! A copy is named after its content, below a directory that is named after the store and so says that the ESP knows it.
//! It is written beside and renamed when it is whole, so a name that is there stands for its content. What the copies of
//! a plan need is checked before the first byte; what no entry names any more is removed last.

use super::Entry;
use super::esp::{Esp, Finder};
use crate::domain::kernel::Kernel;
use crate::error::{Doing, Error, Result};
use crate::store::Store;
use crate::sys::tree::Tree;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Hexadecimal digits of a SHA-256 that make a name: 128 bits.
const DIGITS: usize = 32;
/// What entries may need besides their copies and a block each, in bytes: one more file while it is replaced, directories.
const BESIDES: u64 = 16 << 10;

/// One file of a BE's `/boot`, by its content.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The first 32 hexadecimal digits of its SHA-256.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// By which the file itself is recognised as unchanged: inode, size, and both times to the nanosecond. A clone keeps all of
    /// them, and nothing can set the second time.
    pub stamp: String,
}

impl PartialEq for Copy {
    fn eq(&self, other: &Copy) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Copy {}

impl Copy {
    /// What an entry keeps of it besides its name: `SIZE STAMP`.
    pub fn is(&self) -> String {
        format!("{} {}", self.size, self.stamp)
    }

    /// Reads both back.
    pub fn read(hash: &str, is: &str) -> Option<Copy> {
        let (size, stamp) = is.split_once(' ')?;
        Some(Copy { hash: hash.to_string(), size: size.parse().ok()?, stamp: stamp.to_string() })
    }
}

/// The kernel of a BE and its initrd, by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The kernel.
    pub image: Copy,
    /// The initrd, if the kernel has one.
    pub initrd: Option<Copy>,
}

impl Copies {
    /// Both files.
    pub fn all(&self) -> impl Iterator<Item = &Copy> {
        std::iter::once(&self.image).chain(&self.initrd)
    }
}

/// The copies of one store's kernels.
pub struct Kernels {
    finder: Rc<Finder>,
    dir: String,
    /// Hashes by stamp, so that what has been read once need not be read again.
    known: RefCell<HashMap<String, String>>,
}

/// The directory for a store's copies, from the top of the ESP.
pub fn dir(store: &dyn Store) -> String {
    format!("EFI/bootenv/{}", store.info().uuid)
}

impl Kernels {
    /// The copies for a store.
    pub fn new(finder: Rc<Finder>) -> Self {
        let dir = dir(&*finder.store);
        Kernels { finder, dir, known: RefCell::default() }
    }

    /// The directory, from the top of the ESP.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// The path of a copy, from the top of the ESP.
    pub fn path(&self, copy: &Copy) -> String {
        format!("{}/{}", self.dir, copy.hash)
    }

    /// The ESP that knows the store.
    pub fn esp(&self) -> Result<Rc<Esp>> {
        self.finder.find()
    }

    /// Its files, for `install`.
    pub fn esp_for_install(&self) -> Result<Tree> {
        self.finder.for_install()
    }

    /// Remembers what an entry knows of its copies.
    pub fn remember(&self, copies: &Copies) {
        let mut known = self.known.borrow_mut();
        for copy in copies.all() {
            // Most entries have the same.
            if !known.contains_key(&copy.stamp) {
                known.insert(copy.stamp.clone(), copy.hash.clone());
            }
        }
    }

    /// What a BE's kernel and initrd are, by content. `None` if one of them cannot be found: such a BE cannot be booted.
    pub fn identify(&self, be: &Tree, kernel: &Kernel) -> Result<Option<Copies>> {
        let Some(image) = self.identify_one(be, &kernel.image)? else { return Ok(None) };
        let initrd = match &kernel.initrd {
            None => None,
            Some(name) => match self.identify_one(be, name)? {
                None => return Ok(None),
                found => found,
            },
        };
        Ok(Some(Copies { image, initrd }))
    }

    fn identify_one(&self, be: &Tree, name: &str) -> Result<Option<Copy>> {
        let Some(mut file) = be.file(&format!("boot/{name}"))? else { return Ok(None) };
        let doing = || format!("cannot read /boot/{name}");
        let meta = file.metadata().doing(doing())?;
        let stamp = stamp(&meta);
        if let Some(hash) = self.known.borrow().get(&stamp) {
            return Ok(Some(Copy { hash: hash.clone(), size: meta.len(), stamp }));
        }
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block).doing(doing())? {
                0 => break,
                n => hasher.update(&block[..n]),
            }
        }
        let mut hash: String = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
        hash.truncate(DIGITS);
        self.known.borrow_mut().insert(stamp.clone(), hash.clone());
        Ok(Some(Copy { hash, size: meta.len(), stamp }))
    }

    /// Refuses if the ESP has no room for the copies that these entries need and it has not, and for so many bytes besides;
    /// or cannot be written to. Without an entry, nothing is needed: taking entries away makes room.
    pub fn room_for(&self, entries: &[Entry], besides: u64) -> Result<()> {
        let esp = self.esp()?;
        let (is_root, store) = (self.finder.is_root, &self.finder.store);
        let tree = match &*esp {
            Esp::Mounted(tree, _) | Esp::Staged(tree) | Esp::Unclaimed(tree, _) => tree,
            // The stand-in will be in the store.
            Esp::Missing if !is_root && !store.has_home() => return Ok(()),
            Esp::Missing if !is_root && !store.home()?.exists(super::esp::MOVED) => return Ok(()),
            Esp::Missing => return esp.tree().map(|_| ()),
        };
        esp.must_be_writable()?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut missing = BTreeMap::new();
        let mut need = BESIDES + besides;
        let what = || format!("cannot ask about {}", esp.name());
        let stat = rustix::fs::fstatvfs(tree.fd()).doing(what())?;
        let block = stat.f_frsize.max(512);
        for entry in entries {
            need += block;
            for copy in entry.copies.iter().flat_map(Copies::all).filter(|c| !self.has(tree, c)) {
                missing.insert(copy.hash.clone(), copy.size.div_ceil(block) * block);
            }
        }
        need += missing.values().sum::<u64>();
        let have = stat.f_bavail * block;
        if need <= have {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{} has {} free, and what is to be copied there needs {}",
            esp.name(),
            size(have, false),
            size(need, true)
        ))
        .hint("destroy a boot environment whose kernel no other has, or remove what else is not needed there"))
    }

    /// Whether a copy is on an ESP, and whole.
    pub fn has(&self, esp: &Tree, copy: &Copy) -> bool {
        let file = esp.file(&self.path(copy));
        matches!(file, Ok(Some(file)) if file.metadata().is_ok_and(|m| m.len() == copy.size))
    }

    /// Whether all that an entry boots is on an ESP, and whole.
    pub fn has_all(&self, esp: &Tree, entry: &Entry) -> bool {
        entry.copies.as_ref().is_some_and(|copies| copies.all().all(|copy| self.has(esp, copy)))
    }

    /// What is wrong if it is not.
    pub fn missing(&self, be: &str, esp: &Esp) -> String {
        format!("the kernel of {be} or its initrd is missing on {}: `bootenv check --repair` makes it", esp.name())
    }

    /// Copies what the entry's BE has and the ESP has not, if there is room for it and for so many bytes besides.
    pub fn copy(&self, entry: &Entry, besides: u64) -> Result<()> {
        self.room_for(std::slice::from_ref(entry), besides)?;
        let (Some(kernel), Some(copies)) = (&entry.kernel, &entry.copies) else { return Ok(()) };
        let esp = self.esp()?;
        let esp = esp.tree()?;
        let files = [Some((&kernel.image, &copies.image)), kernel.initrd.as_ref().zip(copies.initrd.as_ref())];
        for (name, copy) in files.into_iter().flatten().filter(|(_, copy)| !self.has(esp, copy)) {
            let from = format!("boot/{name}");
            let changed = || {
                Error::failed(format!("/boot/{name} of {} changed while it was copied", entry.id))
                    .hint("wait until its package manager is done, then run this again")
            };
            let source = self.finder.store.tree(&entry.path)?.file(&from)?.ok_or_else(changed)?;
            let same = |m: std::io::Result<std::fs::Metadata>| m.is_ok_and(|m| stamp(&m) == copy.stamp);
            if !same(source.metadata()) {
                return Err(changed());
            }
            let mut still = true;
            let path = self.path(copy);
            esp.write_with(&path, 0o600, |mut file| {
                std::io::copy(&mut &source, &mut file)?;
                still = same(source.metadata());
                Ok(())
            })?;
            if !still {
                esp.remove(&path)?;
                return Err(changed());
            }
        }
        Ok(())
    }

    /// Removes the copies that none of the menu's texts names, and what a stopped copy left. Other files of the ESP are
    /// nobody's business.
    pub fn collect(&self, esp: &Tree, menu: &[String]) -> Result<()> {
        for name in esp.list(&self.dir)?.into_iter().filter_map(|n| n.into_string().ok()) {
            let whole = name.len() == DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit());
            let half = name.strip_suffix(".new").is_some_and(|n| n.len() == DIGITS);
            if half || (whole && !menu.iter().any(|text| text.contains(&name))) {
                esp.remove(&format!("{}/{name}", self.dir))?;
            }
        }
        Ok(())
    }
}

fn stamp(meta: &std::fs::Metadata) -> String {
    format!(
        "{}.{}.{}.{}.{}.{}",
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    )
}

/// A number of bytes, for people; rounded so that a comparison of two stays true.
fn size(bytes: u64, up: bool) -> String {
    let unit = if bytes < 10 << 20 { (1 << 10, "KiB") } else { (1 << 20, "MiB") };
    format!("{} {}", if up { bytes.div_ceil(unit.0) } else { bytes / unit.0 }, unit.1)
}

/// The device of a partition, by the identity that is in the partition table.
pub fn partition(uuid: &str) -> Option<PathBuf> {
    Path::new("/dev/disk/by-partuuid").join(uuid.to_ascii_lowercase()).canonicalize().ok()
}
