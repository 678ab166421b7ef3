//! `bootenv init`.

use super::{Context, args};
use crate::domain::BeName;
use crate::error::{Doing, Error, Result};
use crate::ops::{self, Origin};
use crate::session::Session;
use crate::sys::tree::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn run(cx: &mut Context, args: &args::Init) -> Result<()> {
    let name = BeName::parse(&args.name)?;
    let from = args.from.as_deref().map(root_tree).transpose()?;
    match &cx.cli.store {
        Some(path) if !path.exists() => new_image(cx, args, name, from),
        _ if args.size.is_some() => Err(Error::refused("--size is for a new image, and the store is there already")
            .hint("leave --size out; or move the old image away")),
        _ => {
            let session = cx.session()?;
            on_store(cx, &session, args, name, from).map(|_| ())
        }
    }
}

/// What `--from` names, checked before anything is made.
fn root_tree(path: &Path) -> Result<PathBuf> {
    let full = path.canonicalize().map_err(|e| {
        Error::usage(format!("--from {}: {}", path.display(), e.kind()))
            .hint("name a folder that holds a root, or a tar of one")
    })?;
    if full == Path::new("/") {
        return Err(Error::refused(
            "the running root cannot be copied as it is: /proc, /sys and /run would come along",
        )
        .hint("`bootenv init` without --from adopts the root that is on the store"));
    }
    if full.is_dir() && !(full.join("etc").is_dir() && full.join("usr").is_dir()) {
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
    let lock = session.lock_first(cx.cli.dry_run, &mut cx.out)?;
    let inventory = match session.store().initialised() {
        true => Some(session.inventory()?),
        false => None,
    };
    let origin = match (from, &inventory) {
        (Some(from), _) => Origin::Tree(from),
        (None, Some(inventory)) if !inventory.bes.is_empty() => {
            cx.out.already("init", &format!("{} has boot environments already", inventory.store.name));
            return Ok(false);
        }
        (None, _) => match session.store().candidates()?.into_iter().next() {
            Some(path) => Origin::Found(path),
            None => {
                return Err(Error::refused(format!(
                    "{} holds no Linux root that could be adopted",
                    session.store().info().name
                ))
                .hint("copy one in with --from ROOT"));
            }
        },
    };
    let plan = ops::init(inventory.as_ref(), &ops::Init { name, origin, description: args.description.clone() })?;
    match lock {
        Some(lock) => cx.carry_out(session, &lock, &plan)?,
        None => cx.out.plan(&plan, true)?,
    }
    Ok(true)
}

/// Makes a new image under another name and renames it when it is whole, so that a half-made one is never taken for a store.
fn new_image(cx: &mut Context, args: &args::Init, name: BeName, from: Option<PathBuf>) -> Result<()> {
    let path = cx.cli.store.clone().unwrap_or_default();
    let (Some(size), Some(from)) = (&args.size, from) else {
        return Err(Error::usage(format!("{} is not there; a new image needs --size and --from", path.display()))
            .hint(format!("bootenv init --store {} --size 4G --from ROOT", path.display())));
    };
    let bytes = parse_size(size)?;
    let (Some(leaf), dir) =
        (path.file_name(), path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    else {
        return Err(Error::usage(format!("{} is no name for an image", path.display())));
    };
    if cx.cli.dry_run {
        let plan =
            ops::init(None, &ops::Init { name, origin: Origin::Tree(from), description: args.description.clone() })?;
        cx.out.line(format!("would make {} of {size} with a Btrfs", path.display()));
        return cx.out.plan(&plan, true);
    }
    let partial = dir.join(format!(".{}.bootenv-partial", leaf.to_string_lossy()));
    let made = || -> Result<()> {
        let file = std::fs::File::create(&partial).doing_to("make", &partial)?;
        file.set_len(bytes).doing_to("make", &partial)?;
        drop(file);
        make_btrfs(&partial)?;
        let session = Session::open(Some(&partial))?;
        on_store(cx, &session, args, name, Some(from))?;
        Ok(())
    };
    let finished = made().and_then(|()| {
        let tree = Tree::at(dir)?;
        let (from, to) = (partial.file_name().unwrap_or_default().to_string_lossy(), leaf.to_string_lossy());
        tree.rename(&from, &to, rustix::fs::RenameFlags::NOREPLACE)
    });
    if finished.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    finished
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

/// `4G`, `800M`, `1048576`: bytes, with binary multiples.
fn parse_size(text: &str) -> Result<u64> {
    let bad = || Error::usage(format!("{text:?} is no size")).hint("write it as 4G, 800M or a number of bytes");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1u64 << 40,
        _ => return Err(bad()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(bad)?;
    if bytes > 1 << 56 { Err(bad()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4G").unwrap(), 4 << 30);
        assert_eq!(parse_size("800MiB").unwrap(), 800 << 20);
        assert_eq!(parse_size("4096").unwrap(), 4096);
        for bad in ["", "G", "-1", "4X", "1.5G", "99999999999T", "0"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }
}
