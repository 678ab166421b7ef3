//! Btrfs filesystems as installers and people make them: nobody has told bootenv about them.

use super::{Lab, root, sh};
use std::path::PathBuf;

impl Lab {
    /// A Btrfs that holds the small root in the subvolume `subvolume` (at the very top if it is empty), with an fstab that
    /// says so, mounted in this test's namespace. `script` runs in the root. Returns where the root is.
    pub fn foreign(&self, subvolume: &str, script: &str) -> PathBuf {
        let top = self.path("top");
        std::fs::create_dir_all(&top).unwrap();
        sh(&format!(
            "truncate -s 256M '{0}' && mkfs.btrfs -q '{0}' && mount -o loop,subvolid=5 '{0}' '{1}'",
            self.image.display(),
            top.display()
        ));
        let at = top.join(subvolume);
        if !subvolume.is_empty() {
            sh(&format!("btrfs -q subvolume create '{}'", at.display()));
        }
        root::small(&at);
        let options = if subvolume.is_empty() { "noatime".to_string() } else { format!("subvol={subvolume},noatime") };
        let uuid =
            sh(&format!("findmnt -no UUID '{}' || blkid -o value -s UUID '{}'", top.display(), self.image.display()));
        std::fs::write(at.join("etc/fstab"), format!("# made by hand\nUUID={} / btrfs {options} 0 1\n", uuid.trim()))
            .unwrap();
        sh(&format!("set -e; cd '{}'; {script}", at.display()));
        at
    }
}
