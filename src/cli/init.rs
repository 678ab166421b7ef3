//! `bootenv init`.

use super::{Context, args};
use crate::domain::{BeName, Inventory, kernel, policy};
use crate::error::{Doing, Error, Result};
use crate::loader::Which;
use crate::ops::{self, Origin};
use crate::session::Session;
use crate::store;
use crate::sys::tree::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn run(cx: &mut Context, args: &args::Init) -> Result<()> {
    let name = BeName::parse(&args.name)?;
    if cx.cli.zone.is_some() {
        return Err(Error::usage("init is for the host's boot environments").hint("`bootenv zone create` makes a zone"));
    }
    let from = args.from.as_deref().map(root_tree).transpose()?;
    match &cx.cli.store {
        Some(path) if !store::exists(path) => new_image(cx, args, name, from),
        _ if args.size.is_some() => Err(Error::refused("--size is for a new image, and the store is there already")
            .hint("leave --size out; or move the old image away")),
        _ => {
            let session = cx.session()?;
            on_store(cx, &session, args, name, from).map(|_| ())
        }
    }
}

/// What `--from` names, checked before anything is made.
pub(super) fn root_tree(path: &Path) -> Result<PathBuf> {
    let full = path.canonicalize().map_err(|e| {
        Error::usage(format!("--from {}: {}", path.display(), crate::error::plain(&e)))
            .hint("name a folder that holds a root, or a tar of one")
    })?;
    if full == Path::new("/") {
        return Err(Error::refused(
            "the running root cannot be copied as it is: /proc, /sys and /run would come along",
        )
        .hint("`bootenv init` without --from adopts the root that is on the store"));
    }
    if full.is_dir() && !Tree::at(&full)?.holds_root() {
        return Err(Error::refused(format!("{} is no Linux root: it has no /etc and /usr", path.display()))
            .hint("name the folder that holds them"));
    }
    Ok(full)
}

/// Makes the first BE on a store that is there. Returns whether anything was to do.
fn on_store(
    cx: &mut Context,
    session: &Session,
    args: &args::Init,
    name: BeName,
    from: Option<PathBuf>,
) -> Result<bool> {
    // A store that has a home may have something begun in it; one that has none gets it only when all is decided.
    let lock = match session.has_home() {
        true => session.lock_first(cx.cli.dry_run, &mut cx.out)?,
        false => None,
    };
    let inventory = match session.store().initialised() {
        true => Some(session.inventory()?),
        false => None,
    };
    session.store().info().must_hold(&name, None, &[])?;
    choose_loader(session, args, inventory.as_ref())?;
    let origin = match (from, &inventory) {
        (Some(from), _) => Origin::Tree(from),
        (None, Some(inventory)) if !inventory.bes.is_empty() => {
            cx.out.already("init", &format!("{} has boot environments already", inventory.store.name));
            return Ok(false);
        }
        (None, _) => match session.store().candidates()?.into_iter().next() {
            Some(path) => {
                let files = session.store().tree(&path)?.list("boot")?;
                let files: Vec<String> = files.into_iter().filter_map(|f| f.into_string().ok()).collect();
                if session.is_root() && kernel::newest(&files).is_none() {
                    return Err(Error::refused("the running root has no kernel in its own /boot, so no copy of it could boot")
                        .hint("a separate /boot partition must become part of the root: copy it in, take its line out of fstab"));
                }
                Origin::Found(path)
            }
            None => {
                return Err(Error::refused(format!(
                    "{} holds no Linux root that could be adopted",
                    session.store().info().name
                ))
                .hint("copy one in with --from ROOT"));
            }
        },
    };
    let plan = ops::init(
        inventory.as_ref(),
        &ops::Init { name, origin, description: args.description.clone().filter(|text| !text.is_empty()) },
    )?;
    let lock = match lock {
        Some(lock) => Some(lock),
        None => session.lock_first(cx.cli.dry_run, &mut cx.out)?,
    };
    match lock {
        Some(lock) => cx.carry_out(session, &lock, &plan)?,
        None => cx.out.plan(&plan, true)?,
    }
    Ok(true)
}

/// Settles which boot loader the store gets. One that has booted BEs stays: another would know nothing of them.
fn choose_loader(session: &Session, args: &args::Init, inventory: Option<&Inventory>) -> Result<()> {
    let asked = args.loader.map(|name| match name {
        args::LoaderName::Grub => Which::Grub,
        args::LoaderName::SystemdBoot => Which::SystemdBoot,
    });
    if inventory.is_some_and(|i| !i.bes.is_empty()) {
        let has = session.loader()?.name();
        return match asked {
            Some(other) if other.name() != has => {
                Err(Error::refused(format!("the boot environments there are booted by {has}, not by {}", other.name()))
                    .hint("leave --loader out; a loader is chosen once, for a store that has no boot environments"))
            }
            _ => Ok(()),
        };
    }
    let usual = if session.is_root() { Which::of_this_machine() } else { Which::Grub };
    session.choose_loader(asked.unwrap_or(usual));
    Ok(())
}

/// Makes a new image in a file that has no name until it is whole: a half-made one is never taken for a store, and nothing is
/// left behind however this ends (open(2), `O_TMPFILE`).
fn new_image(cx: &mut Context, args: &args::Init, name: BeName, from: Option<PathBuf>) -> Result<()> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags};
    let path = cx.cli.store.clone().unwrap_or_default();
    let (Some(size), Some(from)) = (&args.size, from) else {
        return Err(Error::usage(format!("{} is not there; a new image needs --size and --from", path.display()))
            .hint(format!("bootenv init --store {} --size 4G --from ROOT", path.display())));
    };
    let bytes = policy::bytes(size)?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cx.cli.dry_run {
        let origin = Origin::Tree(from);
        let plan = ops::init(
            None,
            &ops::Init { name, origin, description: args.description.clone().filter(|text| !text.is_empty()) },
        )?;
        cx.out.line(format!("would make {} of {size} with a Btrfs", path.display()));
        return cx.out.plan(&plan, true);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, Mode::from_raw_mode(0o600)).map_err(|e| {
        let why = crate::error::plain(&e.into());
        Error::failed(format!("cannot make an image in {}: {why}", dir.display()))
            .hint("name a directory that is there, on a filesystem with O_TMPFILE (ext4, XFS, Btrfs, tmpfs)")
    })?;
    rustix::fs::ftruncate(&file, bytes).doing_to("make an image in", dir)?;
    let unnamed = Tree::new(file, path.display().to_string());
    let here = unnamed.proc_file();
    make_btrfs(&here)?;
    let session = Session::open(Some(&here))?;
    on_store(cx, &session, args, name, Some(from))?;
    drop(session);
    rustix::fs::fsync(unnamed.fd()).doing_to("write", &path)?;
    rustix::fs::linkat(CWD, &*here, CWD, &path, AtFlags::SYMLINK_FOLLOW).doing_to("make", &path)
}

fn make_btrfs(image: &Path) -> Result<()> {
    let output = Command::new("mkfs.btrfs").args(["--quiet", "--label", "bootenv", "--"]).arg(image).output();
    let output =
        output.map_err(|e| Error::failed(format!("cannot run mkfs.btrfs: {e}")).hint("install btrfs-progs"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let why = words.lines().find(|l| l.contains("ERROR")).unwrap_or(words.trim());
    Err(Error::failed(format!("mkfs.btrfs: {why}")).hint("a Btrfs needs at least about 128M"))
}
