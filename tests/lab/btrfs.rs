//! A laboratory's store on Btrfs: a filesystem in an image file, whose top holds everything.

use super::{Backend, Kind, mountpoint, root, sh, table};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub struct Image {
    image: PathBuf,
    top: PathBuf,
}

impl Image {
    pub fn new(image: &Path, top: PathBuf) -> Image {
        Image { image: image.to_path_buf(), top }
    }

    /// The block device that the top is mounted from.
    fn device(&self) -> String {
        if !table().iter().any(|line| mountpoint(line) == self.top) {
            self.raise();
        }
        let source = sh(&format!("findmnt -no SOURCE '{}'", self.top.display()));
        source.split('[').next().unwrap().trim().to_string()
    }
}

impl Backend for Image {
    fn kind(&self) -> Kind {
        Kind::Btrfs
    }

    fn store(&self) -> PathBuf {
        self.image.clone()
    }

    fn make(&self) {
        sh(&format!("truncate -s 256M '{0}' && mkfs.btrfs -q '{0}'", self.image.display()));
    }

    fn raise(&self) {
        std::fs::create_dir_all(&self.top).unwrap();
        sh(&format!("mount -o loop,subvolid=5 '{}' '{}'", self.image.display(), self.top.display()));
    }

    fn busy(&self) -> bool {
        false
    }

    fn nest(&self, at: &Path) {
        let _ = std::fs::remove_dir(at);
        sh(&format!("btrfs -q subvolume create '{}'", at.display()));
    }

    fn is_dataset(&self, dir: &Path) -> bool {
        std::fs::metadata(dir).is_ok_and(|m| m.is_dir() && m.ino() == 256)
    }

    fn destroy_behind(&self, path: &Path) {
        sh(&format!("btrfs -q subvolume delete '{}'", path.display()));
    }

    fn rename_behind(&self, from: &Path, to: &Path) {
        std::fs::rename(from, to).unwrap();
    }

    fn clone_behind(&self, from: &Path, to: &Path) {
        sh(&format!("btrfs -q subvolume snapshot '{}' '{}'", from.display(), to.display()));
    }

    fn make_readonly(&self, path: &Path) {
        sh(&format!("btrfs property set -ts '{}' ro true", path.display()));
    }

    fn mounting(&self, path: &str, at: &Path) -> String {
        format!("mount -o subvol={path} {} '{}'", self.device(), at.display())
    }

    fn root_arguments(&self, path: &str) -> String {
        format!("rootflags=subvol={}", if path.is_empty() { "/" } else { path })
    }

    fn shared_line(&self) -> String {
        let uuid = sh(&format!("blkid -o value -s UUID '{}'", self.image.display()));
        format!("UUID={} /var/shared btrfs subvol=SHARED 0 0", uuid.trim())
    }

    fn foreign(&self, name: &str) -> PathBuf {
        self.make();
        self.raise();
        let at = self.top.join(name);
        if !name.is_empty() {
            self.nest(&at);
        }
        root::small(&at);
        let options = if name.is_empty() { "noatime".to_string() } else { format!("subvol={name},noatime") };
        let uuid = sh(&format!(
            "findmnt -no UUID '{}' || blkid -o value -s UUID '{}'",
            self.top.display(),
            self.image.display()
        ));
        std::fs::write(at.join("etc/fstab"), format!("# made by hand\nUUID={} / btrfs {options} 0 1\n", uuid.trim()))
            .unwrap();
        at
    }

    fn datasets(&self) -> Vec<(PathBuf, String)> {
        // The files of the store tell of its datasets too.
        Vec::new()
    }
}
