//! A zone as a container: its root in the place where its brand looks for it, its shared dataset, and the settings that bind that into
//! it. All of it is put in place when the container starts, whoever starts it, and taken away when it has stopped.

use super::{Brand, Record};
use crate::altroot::own_dir;
use crate::domain::shared::{MOUNTPOINT, link_target};
use crate::domain::{Asked, ZoneName};
use crate::error::{Doing, Error, Result};
use crate::loader::Loader;
use crate::shared::leads_astray;
use crate::store::{SHARED, Store};
use crate::sys::tree::Tree;
use crate::sys::{mount, mountinfo, namespace};
use rustix::fs::FileType;
use rustix::mount::MountAttrFlags;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use uuid::Uuid;

/// What settings begin with that were not written by anybody else.
const OURS: &str = "# Made by bootenv";

/// Where systemd-nspawn makes directories for the journal.
const JOURNALS: [&str; 3] = ["var/shared/log", "var/log/journal", "var/shared/log/journal"];

/// The container of a zone.
pub struct Container {
    store: Rc<dyn Store>,
    brand: Brand,
    zone: ZoneName,
    owner: Uuid,
}

/// What a zone runs when it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The zone BE.
    pub be: String,
    /// Where that lies, from the zone's place.
    pub path: String,
    /// Whether that is for once.
    pub once: bool,
}

impl Container {
    /// That of the zone whose store this is, while the BE of the host with this identity runs.
    pub fn new(store: Rc<dyn Store>, brand: Brand, zone: ZoneName, owner: Uuid) -> Container {
        Container { store, brand, zone, owner }
    }

    /// How it is driven.
    pub fn brand(&self) -> &Brand {
        &self.brand
    }

    fn record(&self) -> Record {
        Record::new(&self.store, self.brand.clone(), Some(self.owner))
    }

    /// What it runs when it is started.
    pub fn due(&self) -> Result<Due> {
        let (record, zone) = (self.record(), &self.zone);
        let entries = record.entries()?;
        let next = record.due(&entries, record.asked()?);
        let once = next.once.is_some();
        let be = next.once.or(next.default).ok_or_else(|| {
            Error::refused(format!("{zone} has no boot environment that it could run now"))
                .hint(format!("`bootenv --zone {zone} list` shows them; `bootenv --zone {zone} activate` one"))
        })?;
        let path = entries.into_iter().find(|entry| entry.id == be).map(|entry| entry.path).unwrap_or_default();
        Ok(Due { be, path, once })
    }

    /// The zone BE that it runs: what its first process has as its root.
    pub fn runs(&self) -> Result<Option<String>> {
        let Some(root) = self.brand.leaders_root(&self.zone)? else { return Ok(None) };
        let entries = self.record().entries()?;
        Ok(entries.into_iter().find(|entry| self.store.is_mount_of(&root, &entry.path)).map(|entry| entry.id))
    }

    /// Refuses what could not be put in place.
    pub fn check(&self, due: &Due) -> Result<()> {
        self.check_place()?;
        self.check_settings()?;
        self.check_root(due)?;
        match self.store.identity(SHARED)? {
            Some(_) => Ok(()),
            None => Err(Error::refused(format!("the shared dataset of {} is missing", self.zone))
                .hint(format!("`bootenv --zone {} check --repair` makes it", self.zone))),
        }
    }

    /// Makes the place for its root, with nothing in it, and its settings, where they are not there: whoever drives its kind of container
    /// finds it by them.
    pub fn prepare(&self) -> Result<()> {
        self.check_place()?;
        self.check_settings()?;
        make_dir(&self.brand.root_of(&self.zone))?;
        self.write_settings()
    }

    /// Puts in place what is due, and uses it up if it was for once.
    pub fn put_in_place(&self, due: &Due) -> Result<()> {
        self.check(due)?;
        self.take_away()?;
        self.prepare()?;
        let shared = self.brand.shared_of(&self.zone);
        own_dir()?;
        make_dir(&shared)?;
        if let Some(inside) = self.brand.inside_of(&self.zone) {
            make_dir_for_zone(&inside)?;
        }
        let done = self
            .show(SHARED, &shared)
            .and_then(|()| self.show(&due.path, &self.brand.root_of(&self.zone)))
            .and_then(|()| if due.once { self.use_up() } else { Ok(()) });
        if done.is_err() {
            let _ = self.take_away();
        }
        done
    }

    fn use_up(&self) -> Result<()> {
        let record = self.record();
        record.ask(&Asked { once: None, ..record.asked()? })
    }

    /// Takes away what was put in place. It is no error if nothing is there.
    pub fn take_away(&self) -> Result<()> {
        for at in [self.brand.root_of(&self.zone), self.brand.shared_of(&self.zone)] {
            let at = resolved(&at)?;
            while let Some(shown) = mountinfo::on(&at)?.filter(|shown| self.is_own(shown)) {
                // Somebody who looks into it does not keep the zone from starting again.
                mount::detach(&shown.target, false)
                    .or_else(|_| mount::detach(&shown.target, true))
                    .doing_to("unmount", &at)?;
            }
        }
        let shared = self.brand.shared_of(&self.zone);
        for dir in shared.ancestors().take(2) {
            let _ = std::fs::remove_dir(dir);
        }
        Ok(())
    }

    /// Whether something is in its place.
    pub fn is_in_place(&self) -> Result<bool> {
        Ok(mountinfo::on(&resolved(&self.brand.root_of(&self.zone))?)?.is_some_and(|shown| self.is_own(&shown)))
    }

    /// Takes away what `prepare` has made, of a zone that is gone.
    pub fn forget(&self) {
        let _ = std::fs::remove_dir(self.brand.root_of(&self.zone));
        if let Some(settings) = &self.brand.settings {
            let file = self.brand.filled(&settings.file, &self.zone);
            if read(&file).ok().flatten().is_some_and(|text| text.starts_with(OURS)) {
                let _ = std::fs::remove_file(file);
            }
        }
    }

    /// Whether a mount shows something that this zone has.
    fn is_own(&self, shown: &mountinfo::Mount) -> bool {
        let entries = self.record().entries().unwrap_or_default();
        let known = entries.iter().map(|entry| &*entry.path).chain([SHARED]);
        known.into_iter().any(|path| self.store.is_mount_of(shown, path))
    }

    fn show(&self, path: &str, at: &Path) -> Result<()> {
        self.store.make_places(path)?;
        let mounts = self.store.mounts(path)?;
        for (mount, _) in &mounts {
            mount::set_attributes(mount.as_fd(), MountAttrFlags::empty()).doing(format_args!("cannot mount {path}"))?;
        }
        let whole = namespace::assemble(&mounts, at)?;
        mount::attach_on(whole.as_fd(), at)
    }

    /// Refuses a place that is something else's.
    fn check_place(&self) -> Result<()> {
        let at = self.brand.root_of(&self.zone);
        let zone = &self.zone;
        let refused = |why: &str| {
            Err(Error::refused(format!("{} {why}", at.display()))
                .hint(format!("the root of {zone} belongs there, in an empty directory: move away what is there")))
        };
        let meta = match std::fs::symlink_metadata(&at) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            meta => meta.doing_to("look at", &at)?,
        };
        if meta.is_symlink() {
            return refused("is a symlink");
        }
        if !meta.is_dir() {
            return refused("is no directory");
        }
        match mountinfo::on(&resolved(&at)?)? {
            Some(shown) if self.is_own(&shown) => Ok(()),
            Some(shown) => refused(&format!("has something else mounted on it: {}", shown.source.display())),
            None if std::fs::read_dir(&at).doing_to("read", &at)?.next().is_some() => refused("is not empty"),
            None => Ok(()),
        }
    }

    /// Refuses a root in which there is no place for the shared dataset, or that leads whoever starts it out of it: systemd-nspawn makes
    /// the directory of the journal before it is in there, and follows links to it as the host does.
    fn check_root(&self, due: &Due) -> Result<()> {
        let (be, zone) = (&due.be, &self.zone);
        let tree = self.store.tree(&due.path)?;
        let astray = match tree.kind("var/log")? {
            Some(FileType::Symlink) if tree.read_link("var/log")? != link_target("log") => Some("var/log"),
            _ => None,
        };
        if let Some(path) = leads_astray(&tree, &JOURNALS)?.or(astray) {
            return Err(Error::refused(format!("/{path} of {be} may lead out of {zone}")).hint(format!(
                "`bootenv --zone {zone} rollback` it or activate another one, or put there what was there"
            )));
        }
        match tree.exists(MOUNTPOINT) {
            true => Ok(()),
            false => Err(Error::refused(format!("{be} has no /{MOUNTPOINT} to mount the shared dataset on")).hint(format!(
                "`bootenv --zone {zone} check --repair` makes it where only that is gone; else `bootenv --zone {zone} rollback` it or activate another one"
            ))),
        }
    }

    /// Refuses settings of others that would be read instead, and do not bind the shared dataset as ours do.
    fn check_settings(&self) -> Result<()> {
        let Some(settings) = &self.brand.settings else { return Ok(()) };
        let zone = &self.zone;
        let shared = self.brand.shared_of(zone);
        let text = self.brand.filled(&settings.text, zone);
        let needed: Vec<&str> = text.lines().filter(|line| line.contains(&*shared.to_string_lossy())).collect();
        let or: Vec<String> = settings.or.iter().map(|line| self.brand.filled(line, zone)).collect();
        let does = |line: &str| needed.contains(&line) || or.iter().any(|or| or == line);
        for file in settings.instead.iter().chain([&settings.file]).map(|file| self.brand.filled(file, zone)) {
            let Some(text) = read(&file)?.filter(|text| !text.starts_with(OURS)) else { continue };
            let lines = text.lines().map(str::trim).enumerate();
            let mut lines = lines.filter(|(_, line)| !line.starts_with(['#', ';']) && line.contains("var/shared"));
            if let Some((at, line)) = lines.find(|(_, line)| !does(line)) {
                return Err(Error::refused(format!(
                    "{file}:{} has something else at /var/shared, where the shared dataset of {zone} belongs: {line}",
                    at + 1
                ))
                .hint(format!("let it say `{}`", needed.join("`, `"))));
            }
            let says = |needed: &str| text.lines().map(str::trim).any(|line| line == needed);
            if let Some(line) = needed.iter().find(|needed| !says(needed) && !or.iter().any(|or| says(or))) {
                return Err(Error::refused(format!("{file} is read instead of bootenv's settings for {zone}"))
                    .hint(format!("add this line to it: {line}")));
            }
        }
        Ok(())
    }

    /// Writes its settings, where they are nobody else's.
    pub fn write_settings(&self) -> Result<()> {
        let Some(settings) = &self.brand.settings else { return Ok(()) };
        let file = self.brand.filled(&settings.file, &self.zone);
        let text = format!("{OURS} for the zone {}.\n{}", self.zone, self.brand.filled(&settings.text, &self.zone));
        if read(&file)?.is_some_and(|is| is == text || !is.starts_with(OURS)) {
            return Ok(());
        }
        let (Some(dir), Some(name)) = (Path::new(&file).parent(), Path::new(&file).file_name()) else { return Ok(()) };
        std::fs::create_dir_all(dir).doing_to("make", dir)?;
        Tree::at(dir)?.write(&name.to_string_lossy(), text.as_bytes(), 0o644)
    }
}

/// The text of a file, if it is there.
fn read(file: &str) -> Result<Option<String>> {
    match std::fs::read(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        bytes => Ok(Some(String::from_utf8_lossy(&bytes.doing_to("read", Path::new(file))?).into_owned())),
    }
}

/// Makes a directory that only root can look into, as machinectl(1) makes them.
fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).doing_to("make", dir)
}

/// Makes a directory that a zone may look into, in one that only root can. Whoever listens there may have made both.
fn make_dir_for_zone(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    make_dir(dir.parent().unwrap_or(dir))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).doing_to("make", dir)
}

/// A path as the mount table has it. The last part is taken as it is: a symlink there is nothing that could be mounted on.
fn resolved(path: &Path) -> Result<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_path_buf()) };
    match dir.canonicalize() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(path.to_path_buf()),
        dir => Ok(dir.doing_to("look at", path)?.join(name)),
    }
}
