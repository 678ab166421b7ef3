//! Whether a BE that something was done in can still be booted and kept: what a package manager, or a script, may have
//! broken without saying so.

use super::{Prepared, prepare, run};
use crate::domain::shared::{MOUNTPOINT, SHARED_LIST, Standing, classify_link};
use crate::domain::{BeName, fstab, kernel};
use crate::error::{Kind, Result};
use crate::package;
use crate::shared::own_mount;
use crate::store::Store;
use crate::sys::tree::Tree;
use rustix::fs::FileType;
use std::ffi::OsString;
use std::os::unix::fs::FileExt;

/// What starts the system, wherever distributions keep it.
const INITS: [&str; 4] = ["usr/lib/systemd/systemd", "lib/systemd/systemd", "usr/sbin/init", "sbin/init"];

/// What is wrong with the BE at `path`, in words.
pub fn examine(store: &dyn Store, be: &BeName, path: &str) -> Result<Vec<String>> {
    let tree = store.tree(path)?;
    let mut wrong = look(store, path)?;
    for manager in package::of(&tree) {
        // One that we cannot read may be sound.
        if let Err(e) = manager.packages(&tree)
            && e.kind == Kind::Failed
        {
            wrong.push(e.message);
        } else if manager.audit().first().is_some_and(|program| has_program(&tree, program)) {
            let prepared = prepare(store, be, path)?;
            wrong.extend(audit(&prepared, manager)?);
        }
    }
    Ok(wrong)
}

/// What can be seen to be wrong with the BE at `path` without running anything, in words.
pub fn look(store: &dyn Store, path: &str) -> Result<Vec<String>> {
    let tree = store.tree(path)?;
    let mut wrong = Vec::new();
    let entries = match tree.read_text("etc/fstab").and_then(|text| text.as_deref().map(fstab::parse).transpose()) {
        Ok(entries) => entries.ok_or_else(|| "/etc/fstab is gone".to_string()),
        Err(e) => Err(e.message),
    };
    let entries = entries.unwrap_or_else(|problem| {
        wrong.push(problem);
        Vec::new()
    });
    if !INITS.iter().any(|init| tree.exists(init)) {
        wrong.push("there is no init: neither systemd nor /sbin/init".into());
    }
    // A container has the kernel of the host.
    if store.zone().is_none() {
        wrong.extend(kernel_problem(&tree)?);
    }
    wrong.extend(shared_problems(store, &tree, &entries)?);
    Ok(wrong)
}

/// What a command said that should have said nothing.
fn audit(prepared: &Prepared, manager: &dyn package::PackageManager) -> Result<Option<String>> {
    let command: Vec<OsString> = manager.audit().iter().map(OsString::from).collect();
    let (status, said) = run::captured(prepared, &command)?;
    let first = said.lines().map(str::trim).find(|line| !line.is_empty());
    Ok(match (status.success(), first) {
        (true, None) => None,
        (_, said) => Some(format!("{} finds its database unsound: {}", manager.name(), said.unwrap_or("it failed"))),
    })
}

fn has_program(tree: &Tree, name: &str) -> bool {
    ["usr/bin", "bin", "usr/sbin", "sbin"].iter().any(|dir| tree.exists(&format!("{dir}/{name}")))
}

/// The newest kernel needs its modules, and an initrd if any other has one.
fn kernel_problem(tree: &Tree) -> Result<Option<String>> {
    let files: Vec<String> = tree.list("boot")?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    let Some(kernel) = kernel::newest(&files) else { return Ok(Some("there is no kernel in /boot".into())) };
    let named = kernel.image.split_once('-').map(|(_, version)| version);
    // Arch and Alpine name it after its flavour.
    let version = match named.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())) {
        Some(version) => Some(version.to_string()),
        None => release(tree, &kernel.image)?,
    };
    let Some(version) = version else { return Ok(None) };
    let has_modules = ["usr/lib/modules", "lib/modules"].iter().any(|dir| tree.exists(&format!("{dir}/{version}")));
    let any_modules = ["usr/lib/modules", "lib/modules"].iter().any(|dir| tree.list(dir).is_ok_and(|l| !l.is_empty()));
    let others = files.iter().any(|file| file.starts_with("initrd") || file.starts_with("initramfs"));
    Ok(match (has_modules || !any_modules, kernel.initrd.is_some() || !others) {
        (false, _) => Some(format!("the kernel {} has no modules in /lib/modules/{version}", kernel.image)),
        (_, false) => Some(format!("the kernel {} has no initrd", kernel.image)),
        _ => None,
    })
}

/// The release that a kernel for x86 has in its head (the kernel's documentation, "The Linux/x86 Boot Protocol").
fn release(tree: &Tree, image: &str) -> Result<Option<String>> {
    let Some(file) = tree.file(&format!("boot/{image}"))? else { return Ok(None) };
    let (mut head, mut text) = ([0; 14], [0; 64]);
    if file.read_exact_at(&mut head, 0x202).is_err() || !head.starts_with(b"HdrS") {
        return Ok(None);
    }
    let at = 0x200 + u64::from(u16::from_le_bytes([head[12], head[13]]));
    let read = file.read_at(&mut text, at).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..read]);
    Ok(text.split([' ', '\0']).next().filter(|release| !release.is_empty()).map(str::to_string))
}

/// The links into the shared dataset, where the BE has a place for it. `entries` is what fstab mounts.
fn shared_problems(store: &dyn Store, tree: &Tree, entries: &[fstab::Entry]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    if !tree.exists(MOUNTPOINT) {
        return Ok(wrong);
    }
    // What starts a container mounts it.
    if store.zone().is_none() && !entries.iter().any(|entry| entry.target.trim_start_matches('/') == MOUNTPOINT) {
        wrong.push("/etc/fstab does not mount /var/shared any more".into());
    }
    for name in SHARED_LIST {
        let at = format!("var/{name}");
        let instead = match tree.kind(&at)? {
            Some(FileType::Symlink) => match classify_link(name, &tree.read_link(&at)?) {
                Standing::Missing => Some("nothing"),
                _ => None,
            },
            Some(FileType::Directory) => Some("a directory"),
            None => Some("nothing"),
            Some(_) => Some("something else"),
        };
        // Asked last: it may read all that a pool mounts.
        if let Some(what) = instead
            && own_mount(store, entries, name)?.is_none()
        {
            wrong.push(format!("/var/{name} is {what} instead of a link to shared/{name}"));
        }
    }
    Ok(wrong)
}
