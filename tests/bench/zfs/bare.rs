//! The bare programs: the least a tool can do, as a measure for those that do more. They have no lock and no menu.

#![allow(unsafe_code)]

use bootenv::error::{Error, Result};
use bootenv::sys::tree::Tree;
use bootenv::sys::zfs::{Canmount, Lzc, Property, detached};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Write;
use std::process::ExitCode;

/// `create SOURCE NEW`, `journalled HOME SOURCE NEW`, `list ROOT`.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["create", source, new] => create(source, new),
        ["journalled", home, source, new] => journalled(home, source, new),
        ["list", root] => list(root).map_err(|e| Error::failed(e.to_string())),
        _ => Err(Error::usage("create SOURCE NEW | journalled HOME SOURCE NEW | list ROOT")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bare {}: {e}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Two calls of libzfs_core.
fn create(source: &str, new: &str) -> Result<()> {
    clone(&Lzc::open()?, source, new)
}

fn clone(lzc: &Lzc, source: &str, new: &str) -> Result<()> {
    let snapshot = format!("{source}@{}", new.rsplit('/').next().unwrap_or(new));
    lzc.snapshot(&[&snapshot], &[])?;
    lzc.clone(&snapshot, new, &[Property::Canmount(Canmount::Noauto), Property::Mountpoint("/")])
}

/// The same, with a file of a journal's size that is written before and removed after, as bootenv does it, in the dataset `home`.
fn journalled(home: &str, source: &str, new: &str) -> Result<()> {
    let lzc = Lzc::open()?;
    let home = Tree::below(&detached(home, false)?, "home")?.on_zfs();
    home.write_for_next_commit("bench", &[b'x'; 400], 0o600)?;
    clone(&lzc, source, new)?;
    home.remove("bench")
}

/// Name, space and time of what lies right below `root`, by libzfs.
fn list(root: &str) -> std::result::Result<(), Box<dyn std::error::Error>> {
    // SAFETY: libzfs does no more than others when it is loaded; these functions have had these types since OpenZFS 0.8.
    // Handles are closed by the end of the process.
    unsafe {
        let sonames = ["libzfs.so.6", "libzfs.so.5", "libzfs.so.4"];
        let library =
            sonames.iter().find_map(|name| libloading::Library::new(*name).ok()).ok_or("there is no libzfs")?;
        let init: libloading::Symbol<'_, unsafe extern "C" fn() -> *mut c_void> = library.get(b"libzfs_init\0")?;
        let open: libloading::Symbol<'_, Open> = library.get(b"zfs_open\0")?;
        let iterate: libloading::Symbol<'_, Iterate> = library.get(b"zfs_iter_filesystems\0")?;
        let property: libloading::Symbol<'_, NameToProperty> = library.get(b"zfs_name_to_prop\0")?;
        let mut found = Found {
            name: *library.get(b"zfs_get_name\0")?,
            number: *library.get(b"zfs_prop_get_int\0")?,
            close: *library.get(b"zfs_close\0")?,
            used: property(c"used".as_ptr()),
            creation: property(c"creation".as_ptr()),
            text: String::new(),
        };
        let root = CString::new(root)?;
        let handle = init();
        let root = open(handle, root.as_ptr(), FILESYSTEM);
        if root.is_null() || iterate(root, one, (&raw mut found).cast()) != 0 {
            return Err("libzfs cannot list it".into());
        }
        print!("{}", found.text);
    }
    Ok(())
}

/// `ZFS_TYPE_FILESYSTEM`
const FILESYSTEM: c_int = 1;
type Handle = *mut c_void;
type Open = unsafe extern "C" fn(Handle, *const c_char, c_int) -> Handle;
type Each = unsafe extern "C" fn(Handle, *mut c_void) -> c_int;
type Iterate = unsafe extern "C" fn(Handle, Each, *mut c_void) -> c_int;
type NameToProperty = unsafe extern "C" fn(*const c_char) -> c_int;

struct Found {
    name: unsafe extern "C" fn(Handle) -> *const c_char,
    number: unsafe extern "C" fn(Handle, c_int) -> u64,
    close: unsafe extern "C" fn(Handle),
    used: c_int,
    creation: c_int,
    text: String,
}

unsafe extern "C" fn one(dataset: Handle, found: *mut c_void) -> c_int {
    // SAFETY: libzfs hands over an open dataset, and what `list` gave it, which nobody else uses meanwhile.
    unsafe {
        let found = &mut *found.cast::<Found>();
        let name = CStr::from_ptr((found.name)(dataset)).to_string_lossy();
        let (used, creation) = ((found.number)(dataset, found.used), (found.number)(dataset, found.creation));
        let _ = writeln!(found.text, "{name}\t{used}\t{creation}");
        (found.close)(dataset);
    }
    0
}
