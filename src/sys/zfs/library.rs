//! OpenZFS's libraries, opened at first use: `libzfs_core` and `libnvpair` (2.0 and later), and `libzfs`, which has another number
//! with every other release. Its functions that are used here have had these types since OpenZFS 0.8.
//!
//! Interface: libzfs_core.h, libzfs.h, libnvpair's sys/nvpair.h. `boolean_t` is a C enum, `uint_t` an unsigned int.

use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// `nvlist_t *`
pub(super) type RawList = *mut c_void;
/// `nvpair_t *`
pub(super) type RawPair = *mut c_void;
/// `libzfs_handle_t *`, `zfs_handle_t *` or `zpool_handle_t *`
pub(super) type Handle = *mut c_void;
/// `zfs_iter_f`
pub(super) type Each = unsafe extern "C" fn(Handle, *mut c_void) -> c_int;

macro_rules! libraries {
    ($(#[$doc:meta])* $library:ident
     $($file:ident $sonames:tt { $($name:ident($($argument:ty),*) $(-> $result:ty)?;)* })*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $library {
            $($(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* $file: libloading::Library,)*
        }

        impl $library {
            #[allow(unsafe_code)]
            fn load() -> std::result::Result<$library, libloading::Error> {
                // SAFETY: what these libraries do when they are loaded is no more than other libraries do. The types are
                // those of the headers. The functions live as long as the libraries, which are kept beside them.
                unsafe {
                    $(let $file = first(&$sonames)?;)*
                    Ok($library {
                        $($($name: *$file.get(concat!(stringify!($name), "\0").as_bytes())?,)*)*
                        $($file,)*
                    })
                }
            }

            /// The libraries, opened if they are not yet.
            pub(super) fn get() -> Result<&'static $library> {
                static OPENED: OnceLock<$library> = OnceLock::new();
                if let Some(opened) = OPENED.get() {
                    return Ok(opened);
                }
                let opened = $library::load().map_err(not_opened)?;
                Ok(OPENED.get_or_init(|| opened))
            }
        }
    };
}

/// Opens the first of these that is there.
///
/// # Safety
///
/// As for [`libloading::Library::new`].
#[allow(unsafe_code)]
unsafe fn first(sonames: &[&str]) -> std::result::Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller's.
    let open = |soname: &&str| unsafe { libloading::Library::new(*soname) };
    let found = sonames.iter().find_map(|soname| open(soname).ok());
    found.map_or_else(|| open(&sonames[0]), Ok)
}

fn not_opened(e: libloading::Error) -> Error {
    match e {
        libloading::Error::DlSym { .. } => Error::failed(format!("the OpenZFS library is of another version: {e}"))
            .hint("bootenv needs OpenZFS 2.1 or later: update the distribution's OpenZFS packages"),
        e => Error::failed(format!("the OpenZFS library cannot be opened: {e}"))
            .hint("install the distribution's OpenZFS tools (Debian and Ubuntu: `apt install zfsutils-linux`)"),
    }
}

libraries! {
    /// The functions used of libzfs_core and libnvpair, by their own names.
    Core
    _core ["libzfs_core.so.3"] {
        libzfs_core_init() -> c_int;
        libzfs_core_fini();
        lzc_exists(*const c_char) -> c_int;
        lzc_create(*const c_char, c_int, RawList, *mut u8, c_uint) -> c_int;
        lzc_clone(*const c_char, *const c_char, RawList) -> c_int;
        lzc_snapshot(RawList, RawList, *mut RawList) -> c_int;
        lzc_destroy(*const c_char) -> c_int;
        lzc_destroy_snaps(RawList, c_int, *mut RawList) -> c_int;
        lzc_rename(*const c_char, *const c_char) -> c_int;
        lzc_promote(*const c_char, *mut c_char, c_int) -> c_int;
        lzc_rollback_to(*const c_char, *const c_char) -> c_int;
        lzc_get_bookmarks(*const c_char, RawList, *mut RawList) -> c_int;
        lzc_get_holds(*const c_char, *mut RawList) -> c_int;
        lzc_snaprange_space(*const c_char, *const c_char, *mut u64) -> c_int;
        lzc_sync(*const c_char, RawList, *mut RawList) -> c_int;
        lzc_channel_program(*const c_char, *const c_char, u64, u64, RawList, *mut RawList) -> c_int;
        lzc_channel_program_nosync(*const c_char, *const c_char, u64, u64, RawList, *mut RawList) -> c_int;
    }
    _nvpair ["libnvpair.so.3"] {
        nvlist_alloc(*mut RawList, c_uint, c_int) -> c_int;
        nvlist_free(RawList);
        nvlist_unpack(*const c_char, usize, *mut RawList, c_int) -> c_int;
        nvlist_add_boolean(RawList, *const c_char) -> c_int;
        nvlist_add_boolean_value(RawList, *const c_char, c_int) -> c_int;
        nvlist_add_int64(RawList, *const c_char, i64) -> c_int;
        nvlist_add_uint64(RawList, *const c_char, u64) -> c_int;
        nvlist_add_string(RawList, *const c_char, *const c_char) -> c_int;
        nvlist_add_string_array(RawList, *const c_char, *const *const c_char, c_uint) -> c_int;
        nvlist_add_nvlist(RawList, *const c_char, RawList) -> c_int;
        nvlist_next_nvpair(RawList, RawPair) -> RawPair;
        nvlist_lookup_nvlist(RawList, *const c_char, *mut RawList) -> c_int;
        nvlist_lookup_uint64(RawList, *const c_char, *mut u64) -> c_int;
        nvlist_lookup_string(RawList, *const c_char, *mut *const c_char) -> c_int;
        nvpair_name(RawPair) -> *const c_char;
        nvpair_type(RawPair) -> c_int;
        nvpair_value_boolean_value(RawPair, *mut c_int) -> c_int;
        nvpair_value_int32(RawPair, *mut i32) -> c_int;
        nvpair_value_int64(RawPair, *mut i64) -> c_int;
        nvpair_value_uint64(RawPair, *mut u64) -> c_int;
        nvpair_value_string(RawPair, *mut *const c_char) -> c_int;
        nvpair_value_string_array(RawPair, *mut *const *const c_char, *mut c_uint) -> c_int;
        nvpair_value_nvlist(RawPair, *mut RawList) -> c_int;
    }
}

// The first libzfs is what Debian 13 and Ubuntu have with OpenZFS 2.2 and 2.3: a name that is not there costs a search. Then newest
// first, so that of two that are installed the one that fits the newer module is tried.
libraries! {
    /// The functions used of libzfs, by their own names.
    Full
    _zfs ["libzfs.so.6", "libzfs.so.9", "libzfs.so.8", "libzfs.so.7", "libzfs.so.5", "libzfs.so.4"] {
        libzfs_init() -> Handle;
        libzfs_fini(Handle);
        libzfs_error_action(Handle) -> *const c_char;
        libzfs_error_description(Handle) -> *const c_char;
        zfs_name_to_prop(*const c_char) -> c_int;
        zfs_open(Handle, *const c_char, c_int) -> Handle;
        zfs_close(Handle);
        zfs_get_name(Handle) -> *const c_char;
        zfs_get_type(Handle) -> c_int;
        zfs_get_all_props(Handle) -> RawList;
        zfs_get_user_props(Handle) -> RawList;
        zfs_prop_get_int(Handle, c_int) -> u64;
        zfs_prop_get(Handle, c_int, *mut c_char, usize, *mut c_int, *mut c_char, usize, c_int) -> c_int;
        zfs_iter_filesystems(Handle, Each, *mut c_void) -> c_int;
        zfs_iter_snapshots(Handle, c_int, Each, *mut c_void, u64, u64) -> c_int;
        zpool_name_to_prop(*const c_char) -> c_int;
        zpool_open(Handle, *const c_char) -> Handle;
        zpool_close(Handle);
        zpool_get_prop(Handle, c_int, *mut c_char, usize, *mut c_int, c_int) -> c_int;
        zpool_set_prop(Handle, *const c_char, *const c_char) -> c_int;
    }
}
