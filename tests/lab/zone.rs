//! Zones of a laboratory's store.

use super::{Lab, Print, Ran, try_sh};
use std::path::{Path, PathBuf};

/// What makes a container of the small root: something to start.
pub const STARTS: &str = "mkdir -p usr/sbin; echo init > usr/sbin/init; rm -r boot/*";

/// A lock of a store that somebody else holds until this is dropped.
pub struct Held {
    holder: std::process::Child,
    home: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
        // On a pool it was mounted beside.
        try_sh(&format!("umount '{}'", self.home.display()));
    }
}

impl Lab {
    /// Holds a lock, by its path in the tool's own directory.
    pub fn hold(&self, lock: &str) -> Held {
        let home = self.home_beside();
        let script = format!("exec 9>>'{}'; flock -n 9 && echo held && exec sleep 60", home.join(lock).display());
        let mut holder = std::process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "bash", "-c", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
        Held { holder, home }
    }

    /// A laboratory with a zone `web`, made of the small root.
    pub fn with_zone() -> Lab {
        let lab = Lab::new();
        let root = lab.root(STARTS);
        lab.zone("web", &root).ok();
        lab
    }

    /// Makes a zone of a root.
    pub fn zone(&self, name: &str, root: &Path) -> Ran {
        self.bootenv(&["zone", "create", "--from", root.to_str().unwrap(), name])
    }

    /// Runs the binary on what is in a zone.
    pub fn in_zone(&self, zone: &str, args: &[&str]) -> Ran {
        self.bootenv(&[&["--zone", zone], args].concat())
    }

    /// What a zone has of the store.
    pub fn zone_files(&self, zone: &str, path: &str) -> PathBuf {
        self.top().join("zones").join(zone).join(path)
    }

    /// What is kept of a zone.
    pub fn zone_home(&self, zone: &str) -> PathBuf {
        self.home().join("zones").join(zone)
    }

    /// One zone BE of `list --json`.
    pub fn zone_be(&self, zone: &str, name: &str) -> serde_json::Value {
        let list = self.in_zone(zone, &["list", "--json"]).ok().json();
        list["boot_environments"].as_array().unwrap().iter().find(|b| b["name"] == name).cloned().unwrap_or_default()
    }

    /// One zone of `zone list --json`.
    pub fn zone_told(&self, zone: &str) -> serde_json::Value {
        let list = self.bootenv(&["zone", "list", "--json"]).ok().json();
        list["zones"].as_array().unwrap().iter().find(|z| z["name"] == zone).cloned().unwrap_or_default()
    }

    /// The whole store without a zone, and without the directories that zones are made in.
    pub fn print_without_zone(&self, zone: &str) -> Print {
        let own = ["zones", "BOOTENV/zones"].map(Path::new);
        let is_of = |path: &Path| {
            path == Path::new("") || own.iter().any(|own| path == *own || path.starts_with(own.join(zone)))
        };
        self.print().without(is_of)
    }
}
