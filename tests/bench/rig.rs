//! One Btrfs in an image file, in a mount namespace of our own.
//!
//! Nothing stays behind, however the run ends: the mount goes with the namespace, the loop device (attached with
//! autoclear) with the mount, and the image has no name any more once it is mounted.

use super::bare;
use super::measure::{Words, output, words};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Holds 1000 BEs of a Debian root with room to spare; the file is sparse.
const SIZE: u64 = 8 << 30;

pub struct Rig {
    /// Where the top of the Btrfs is mounted.
    pub top: PathBuf,
    /// A directory for anything else.
    pub scratch: PathBuf,
    /// What the image lies on, in words.
    pub image_on: String,
    stop: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// Makes it. `dir` is where the image goes.
    pub fn new(dir: &Path) -> Result<Rig, String> {
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("cannot {what}: {e}");
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| failed("make a mount namespace", &e))?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(|e| failed("make the mounts private", &e))?;
        // Ctrl-C ends the run between two commands, so that everything is cleared away.
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| failed("watch for Ctrl-C", &e))?;
        }
        let dir = tempfile::Builder::new().prefix("bootenv-bench").tempdir_in(dir);
        let dir = dir.map_err(|e| failed("make a directory", &e))?;
        let [image, top, scratch] = ["image", "top", "scratch"].map(|n| dir.path().join(n));
        File::create(&image).and_then(|f| f.set_len(SIZE)).map_err(|e| failed("make the image", &e))?;
        for dir in [&top, &scratch] {
            std::fs::create_dir(dir).map_err(|e| failed("make a directory", &e))?;
        }
        let image_on = output(&words([&"stat", &"-f", &"-c", &"%T", &image]))?.trim().to_string();
        output(&words([&"mkfs.btrfs", &"--quiet", &image]))?;
        output(&words([&"mount", &"-t", &"btrfs", &"-o", &"loop,subvolid=5", &image, &top]))?;
        std::fs::remove_file(&image).map_err(|e| failed("remove the image's name", &e))?;
        Ok(Rig { top, scratch, image_on, stop, _dir: dir })
    }

    /// Gives every run the same start: all that was written before is on the disk.
    pub fn quiet(&self) -> Result<(), String> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        rustix::fs::syncfs(self.open()?).map_err(|e| format!("cannot sync the Btrfs: {e}"))
    }

    /// Waits until the kernel's cleaner has taken away what was deleted.
    pub fn cleaned(&self) -> Result<(), String> {
        let top = self.open()?;
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            self.quiet()?;
            btrfs_uapi::filesystem::sync(top.as_fd()).map_err(|e| format!("cannot wake the cleaner: {e}"))?;
            if bare::nameless(top.as_fd()).map_err(|e| format!("cannot search the root tree: {e}"))? == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("the kernel's cleaner did not come to an end within a minute".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Hides a path of the system behind an empty file or directory of our own, in our namespace only.
    pub fn cover(&self, path: &Path) -> Result<PathBuf, String> {
        let own = self.scratch.join(path.to_string_lossy().replace('/', "_"));
        let made = if path.is_dir() { std::fs::create_dir(&own) } else { File::create(&own).map(|_| ()) };
        made.map_err(|e| format!("cannot make {}: {e}", own.display()))?;
        mount(Some(&own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| format!("cannot cover {}: {e}", path.display()))?;
        Ok(own)
    }

    /// Runs something that is not measured.
    pub fn prepare(&self, words: &Words) -> Result<String, String> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        output(words)
    }

    fn open(&self) -> Result<File, String> {
        File::open(&self.top).map_err(|e| format!("cannot open {}: {e}", self.top.display()))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = umount(&self.top);
    }
}
