//! A laboratory's store on ZFS: a pool on a sparse file, whose datasets and snapshots are mounted below one directory as they
//! lie on Btrfs.
//!
//! A dataset that is mounted is busy, so nothing is mounted while bootenv works on the pool.

use super::{Backend, Kind, Ran, mountpoint, root, run, table, try_sh};
use bootenv::sys::zfs::{self, Limits, List, Lzc, Value};
use nix::mount::{MsFlags, mount};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Everything in a pool, with some properties.
const LIST: &str = r#"
args = ...
local found, n = {}, 0
function tell(name)
    n = n + 1
    found[n] = name
    for _, property in ipairs({PROPERTIES}) do
        local value = zfs.get_prop(name, property)
        found[n] = found[n] .. "\t" .. tostring(value == nil and "-" or value)
    end
end
function visit(dataset)
    tell(dataset)
    for snapshot in zfs.list.snapshots(dataset) do
        tell(snapshot)
    end
    for child in zfs.list.children(dataset) do
        visit(child)
    end
end
visit(args["name"])
return found
"#;

pub struct Pool {
    lzc: Lzc,
    name: String,
    top: PathBuf,
    clones: Cell<u32>,
}

static POOLS: AtomicU32 = AtomicU32::new(0);

/// A pool as it was, in a file that no directory names any more.
struct Kept {
    what: String,
    name: String,
    file: File,
}

/// One for each loader, as `init` has left it, and what else is made once: in an emulated machine copying it takes a fifth of the time.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// The file that a pool lies in.
const FILE: &str = "pool";

impl Pool {
    /// Makes an empty one on a sparse file.
    pub fn new(dir: &Path, size: &str) -> Pool {
        let file = dir.join(FILE);
        let mib: u64 = size.strip_suffix('M').unwrap().parse().unwrap();
        File::create(&file).unwrap().set_len(mib << 20).unwrap();
        Pool::on(dir, &file)
    }

    /// Makes an empty one on a file or a disk. What a root needs that Linux does not have by default on ZFS (ACLs) is on, as
    /// guides to a root on ZFS say; compression is off, so that a file takes the room that its size says.
    pub fn on(dir: &Path, vdev: &Path) -> Pool {
        let name = format!("lab{}x{}", std::process::id(), POOLS.fetch_add(1, Ordering::Relaxed));
        let pool = Pool { lzc: Lzc::open().unwrap(), name, top: dir.join("top"), clones: Cell::new(0) };
        let create = "create -o cachefile=none -O mountpoint=none -O canmount=off -O acltype=posix -O xattr=sa \
                      -O compression=off";
        let create: Vec<&str> = create.split_whitespace().chain([pool.name.as_str(), vdev.to_str().unwrap()]).collect();
        run("zpool", &create);
        pool
    }

    /// What `keep` has been told to keep, once more: `None` if there is none, or if it is in use.
    pub fn again(dir: &Path, what: &str) -> Option<Pool> {
        let kept = KEPT.lock().unwrap();
        let Kept { name, file, .. } = kept.iter().find(|kept| kept.what == what)?;
        if zfs::Pool::is_imported(name) {
            return None;
        }
        let pool = Pool { lzc: Lzc::open().unwrap(), name: name.clone(), top: dir.join("top"), clones: Cell::new(0) };
        copy(Path::new(&format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())), &pool.file());
        pool.import();
        Some(pool)
    }

    fn import(&self) {
        run("zpool", &["import", "-N", "-o", "cachefile=none", "-d", self.file().to_str().unwrap(), &self.name]);
    }

    /// What it lies in, if that is no disk.
    fn file(&self) -> PathBuf {
        self.top.with_file_name(FILE)
    }

    /// The name of what is at a path below the top.
    fn dataset(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.top).unwrap_or_else(|_| panic!("{path:?} is not in the store"));
        self.named(below.to_str().unwrap())
    }

    fn named(&self, path: &str) -> String {
        // What is nested in a snapshot: the name of the snapshot is not the last component.
        let (be, nested) = path.split_once('@').map_or((path, None), |(be, rest)| (be, Some(rest)));
        let full = match nested.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            None => be.to_string(),
            Some((snapshot, "")) => format!("{be}@{snapshot}"),
            Some((snapshot, below)) => format!("{be}/{below}@{snapshot}"),
        };
        format!("{}/{full}", self.name).trim_end_matches('/').to_string()
    }

    /// Where a dataset or a snapshot belongs, from the top: `ROOT/be/inner@snap` lies in `ROOT/be@snap`.
    fn place(&self, name: &str) -> PathBuf {
        if let Some((zone, below)) = name.strip_prefix("zones/").and_then(|rest| rest.split_once('/')) {
            return Path::new("zones").join(zone).join(self.place(below));
        }
        let Some((dataset, snapshot)) = name.split_once('@') else { return PathBuf::from(name) };
        let parts: Vec<&str> = dataset.splitn(3, '/').collect();
        match parts[..] {
            [root, be, inner] => PathBuf::from(format!("{root}/{be}@{snapshot}/{inner}")),
            _ => PathBuf::from(name),
        }
    }

    /// The datasets and snapshots that hold files, those that others are mounted in first, with their places.
    fn all(&self) -> Vec<(String, PathBuf)> {
        let list = self.list(&["canmount"]);
        let lines: Vec<(&str, &str)> = list.iter().filter_map(|l| l.split_once('\t')).collect();
        let off: Vec<&str> = lines.iter().filter(|(_, canmount)| *canmount == "off").map(|(name, _)| *name).collect();
        let mut all = Vec::new();
        for (name, _) in lines {
            let (dataset, snapshot) = name.split_once('@').map_or((name, None), |(d, s)| (d, Some(s)));
            // Snapshots that a clone comes from, and nobody made.
            if off.contains(&dataset) || snapshot.is_some_and(|s| s.starts_with('.')) {
                continue;
            }
            let Some(path) = dataset.strip_prefix(&self.name).and_then(|p| p.strip_prefix('/')) else { continue };
            let path = snapshot.map_or(path.to_string(), |s| format!("{path}@{s}"));
            all.push((name.to_string(), self.top.join(self.place(&path))));
        }
        all.sort_by(|a, b| a.1.cmp(&b.1));
        all
    }

    /// A line for every dataset and snapshot: its name and these properties, with tabs between, as `zfs list` would give them if
    /// it did not take a process each time.
    fn list(&self, properties: &[&str]) -> Vec<String> {
        let program = LIST.replace("PROPERTIES", &format!("{properties:?}").replace(['[', ']'], ""));
        let args = List::from([("name".to_string(), Value::Text(self.name.clone()))]);
        let result = self.lzc.program_nosync(&self.name, &program, &args, Limits::default()).unwrap();
        result["return"].list().unwrap().values().map(|line| line.text().unwrap().to_string()).collect()
    }

    fn mount(&self, name: &str, place: &Path) {
        // In a snapshot of what has been nested later there is no such place.
        if std::fs::create_dir_all(place).is_err() {
            return;
        }
        mount(Some(name), place, Some("zfs"), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|e| panic!("mount {name} on {place:?}: {e}"));
    }
}

fn zfs(args: &[&str]) -> String {
    run("zfs", args)
}

fn copy(from: &Path, to: &Path) {
    run("cp", &["--sparse=always", from.to_str().unwrap(), to.to_str().unwrap()]);
}

impl Backend for Pool {
    fn kind(&self) -> Kind {
        Kind::Zfs
    }

    fn store(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }

    fn make(&self) {}

    fn keep(&self, what: &str) {
        let mut kept = KEPT.lock().unwrap();
        // Not again for a case that has two of them.
        if kept.iter().any(|kept| kept.what == what) {
            return;
        }
        run("zpool", &["export", &self.name]);
        let aside = self.top.with_file_name("kept");
        copy(&self.file(), &aside);
        kept.push(Kept { what: what.to_string(), name: self.name.clone(), file: File::open(&aside).unwrap() });
        std::fs::remove_file(aside).unwrap();
        self.import();
    }

    fn raise(&self) {
        std::fs::create_dir_all(&self.top).unwrap();
        mount(Some("top"), &self.top, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        for (name, place) in self.all() {
            self.mount(&name, &place);
        }
    }

    fn busy(&self) -> bool {
        true
    }

    fn nest(&self, at: &Path) {
        let name = self.dataset(at);
        // What lies between the BE and it has files in the BE, and none of its own.
        let depth = name.split('/').position(|part| part == "ROOT").map_or(2, |at| at + 2);
        let parts: Vec<&str> = name.split('/').collect();
        for length in depth + 1..parts.len() {
            let between = parts[..length].join("/");
            if try_sh(&format!("zfs list '{between}'")).status != 0 {
                zfs(&["create", "-u", "-o", "canmount=off", &between]);
            }
        }
        zfs(&["create", "-u", "-o", "canmount=noauto", &name]);
        self.mount(&name, at);
    }

    fn is_dataset(&self, dir: &Path) -> bool {
        table().iter().any(|line| mountpoint(line) == dir)
    }

    fn destroy_behind(&self, path: &Path) {
        let name = self.dataset(path);
        super::unmount_below(&self.top);
        // A clone of it stays, and takes over what it needs.
        let clones = zfs(&["list", "-Hr", "-t", "snapshot", "-o", "clones", &name]);
        if let Some(clone) = clones.lines().flat_map(|l| l.split(',')).find(|c| !c.is_empty() && *c != "-") {
            zfs(&["promote", clone]);
        }
        zfs(&["destroy", "-r", &name]);
        self.raise();
    }

    fn rename_behind(&self, from: &Path, to: &Path) {
        super::unmount_below(&self.top);
        zfs(&["rename", "-u", &self.dataset(from), &self.dataset(to)]);
        self.raise();
    }

    fn clone_behind(&self, from: &Path, to: &Path) {
        let (from, to) = (self.dataset(from), self.dataset(to));
        if let Some((_, snapshot)) = to.split_once('@') {
            zfs(&["snapshot", "-r", &format!("{from}@{snapshot}")]);
        } else {
            self.clones.set(self.clones.get() + 1);
            let origin = if from.contains('@') { from } else { format!("{from}@.behind-{}", self.clones.get()) };
            if origin.contains("@.") {
                zfs(&["snapshot", &origin]);
            }
            zfs(&["clone", "-o", "canmount=noauto", "-o", "mountpoint=/", &origin, &to]);
        }
        super::unmount_below(&self.top);
        self.raise();
    }

    fn make_readonly(&self, path: &Path) {
        zfs(&["set", "-u", "readonly=on", &self.dataset(path)]);
    }

    fn mounting(&self, path: &str, at: &Path) -> String {
        // mount(8) without its helper, which refuses what has a mountpoint.
        format!("mount -i -t zfs '{}' '{}'", self.named(path), at.display())
    }

    fn root_arguments(&self, path: &str) -> String {
        // The small root has no hostid, so all of the store boot with this system's.
        format!("root=ZFS={} spl.spl_hostid=0x{}", self.named(path), super::sh("hostid").trim())
    }

    fn shared_line(&self) -> String {
        format!("{}/SHARED /var/shared zfs defaults 0 0", self.name)
    }

    fn foreign(&self, name: &str) -> PathBuf {
        assert!(!name.is_empty(), "no system lies in the first dataset of a pool");
        let dataset = self.named(name);
        zfs(&["create", "-u", "-o", "canmount=noauto", "-o", "mountpoint=/", &dataset]);
        run("zpool", &["set", &format!("bootfs={dataset}"), &self.name]);
        self.raise();
        let at = self.top.join(name);
        root::small(&at);
        std::fs::write(at.join("etc/fstab"), "# made by hand\n").unwrap();
        at
    }

    fn datasets(&self) -> Vec<(PathBuf, String)> {
        // Files are counted in the pool only when they are written to it.
        self.lzc.sync(&self.name).unwrap();
        let what = ["guid", "readonly", "canmount", "mountpoint", "org.bootenv:description", "org.bootenv:rest"];
        let mut lines = Vec::new();
        for line in self.list(&what) {
            let fields: Vec<&str> = line.splitn(6, '\t').collect();
            let [name, guid, readonly, canmount, mountpoint, facts] = fields[..] else { continue };
            // Snapshots that a clone comes from are made and gone with it.
            if name.contains("@.") {
                continue;
            }
            let path = name.strip_prefix(&self.name).unwrap().trim_start_matches('/');
            // What zones lie in is made with the first of them, and holds nothing else.
            if path == "zones" {
                continue;
            }
            let place = self.place(path);
            lines.push((place.join("(dataset)"), format!("{guid} {readonly} {canmount} {mountpoint}")));
            // As on Btrfs: beside the datasets.
            let zone = path.strip_prefix("zones/").and_then(|rest| rest.split('/').next());
            let home = zone.map_or("BOOTENV".into(), |zone| format!("BOOTENV/zones/{zone}"));
            lines.push((Path::new(&home).join("facts").join(guid), facts.to_string()));
        }
        lines
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let destroy = || Ran::from(Command::new("zpool").args(["destroy", "-f", &self.name]).output().unwrap());
        // What another thread has forked may still hold a mount.
        for _ in 0..20 {
            if !zfs::Pool::is_imported(&self.name) || destroy().status == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
        eprintln!("the pool {} is left: {}", self.name, destroy().stderr);
    }
}
