//! `libzfs_core.so.3` and `libnvpair.so.3` (OpenZFS 2.0 and later), opened at first use.
//!
//! Interface: libzfs_core.h, libnvpair's sys/nvpair.h. `boolean_t` is a C enum, `uint_t` an unsigned int.

use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// `nvlist_t *`
pub(super) type RawList = *mut c_void;
/// `nvpair_t *`
pub(super) type RawPair = *mut c_void;

macro_rules! libraries {
    ($($file:ident $soname:literal { $($name:ident($($argument:ty),*) $(-> $result:ty)?;)* })*) => {
        /// The functions used, by their own names.
        #[derive(Debug)]
        pub(super) struct Library {
            $($(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* $file: libloading::Library,)*
        }

        impl Library {
            #[allow(unsafe_code)]
            fn load() -> std::result::Result<Library, libloading::Error> {
                // SAFETY: what these libraries do when they are loaded is no more than other libraries do. The types are
                // those of the headers, and have been the same under these sonames. The functions live as long as the
                // libraries, which are kept beside them.
                unsafe {
                    $(let $file = libloading::Library::new($soname)?;)*
                    Ok(Library {
                        $($($name: *$file.get(concat!(stringify!($name), "\0").as_bytes())?,)*)*
                        $($file,)*
                    })
                }
            }
        }
    };
}

libraries! {
    _core "libzfs_core.so.3" {
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
        lzc_get_holds(*const c_char, *mut RawList) -> c_int;
        lzc_snaprange_space(*const c_char, *const c_char, *mut u64) -> c_int;
        lzc_sync(*const c_char, RawList, *mut RawList) -> c_int;
        lzc_channel_program(*const c_char, *const c_char, u64, u64, RawList, *mut RawList) -> c_int;
        lzc_channel_program_nosync(*const c_char, *const c_char, u64, u64, RawList, *mut RawList) -> c_int;
    }
    _nvpair "libnvpair.so.3" {
        nvlist_alloc(*mut RawList, c_uint, c_int) -> c_int;
        nvlist_free(RawList);
        nvlist_add_boolean(RawList, *const c_char) -> c_int;
        nvlist_add_boolean_value(RawList, *const c_char, c_int) -> c_int;
        nvlist_add_int64(RawList, *const c_char, i64) -> c_int;
        nvlist_add_uint64(RawList, *const c_char, u64) -> c_int;
        nvlist_add_string(RawList, *const c_char, *const c_char) -> c_int;
        nvlist_add_string_array(RawList, *const c_char, *const *const c_char, c_uint) -> c_int;
        nvlist_add_nvlist(RawList, *const c_char, RawList) -> c_int;
        nvlist_next_nvpair(RawList, RawPair) -> RawPair;
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

/// The libraries, opened if they are not yet.
pub(super) fn library() -> Result<&'static Library> {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    if let Some(library) = LIBRARY.get() {
        return Ok(library);
    }
    let library = Library::load().map_err(|e| match e {
        libloading::Error::DlSym { .. } => Error::failed(format!("the OpenZFS library is of another version: {e}"))
            .hint("bootenv needs OpenZFS 2.1 or later: update the distribution's OpenZFS packages"),
        e => Error::failed(format!("the OpenZFS library cannot be opened: {e}"))
            .hint("install the distribution's OpenZFS tools (Debian and Ubuntu: `apt install zfsutils-linux`)"),
    })?;
    Ok(LIBRARY.get_or_init(|| library))
}
