//! Name-value lists, the arguments and results of OpenZFS (libnvpair's sys/nvpair.h), as plain data.

#![allow(unsafe_code)]

use super::library::{Core, RawList, RawPair};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::marker::PhantomData;
use std::ptr::{null, null_mut};

/// A name-value list. OpenZFS keeps names unique.
pub type List = BTreeMap<String, Value>;

/// A value in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The name alone says it (`DATA_TYPE_BOOLEAN`).
    Flag,
    /// True or false (`DATA_TYPE_BOOLEAN_VALUE`).
    Bool(bool),
    /// A signed number (`DATA_TYPE_INT64`; read from `DATA_TYPE_INT32` too). Lua's numbers are these.
    Int(i64),
    /// An unsigned number (`DATA_TYPE_UINT64`).
    Unsigned(u64),
    /// A string. What is no UTF-8 is read with replacement characters.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// A list in the list. A Lua table comes back as this.
    List(List),
    /// A type that nothing here uses, by its number in `data_type_t`. It cannot be written.
    Other(i32),
}

impl Value {
    /// The string, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Unsigned(n) => i64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn list(&self) -> Option<&List> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}

/// `NV_UNIQUE_NAME`
const UNIQUE_NAME: c_uint = 1;

/// A list in the library's memory, freed with this value.
#[derive(Debug)]
pub(super) struct Nvlist {
    raw: RawList,
    library: &'static Core,
}

impl Drop for Nvlist {
    fn drop(&mut self) {
        // SAFETY: the list is ours alone; nvlist_free takes NULL too.
        unsafe { (self.library.nvlist_free)(self.raw) }
    }
}

/// A string for the library, which knows no NUL inside one.
pub(super) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::refused(format!("{text:?} has a NUL in it")))
}

impl Nvlist {
    /// No list yet: a place for a result.
    pub(super) fn none() -> Result<Nvlist> {
        Ok(Nvlist { raw: null_mut(), library: Core::get()? })
    }

    /// The list to hand to a function that does not keep it.
    pub(super) fn raw(&self) -> RawList {
        self.raw
    }

    /// Where a function puts a list that becomes ours. There must be none yet.
    pub(super) fn place(&mut self) -> *mut RawList {
        assert!(self.raw.is_null());
        &raw mut self.raw
    }

    /// A list with this content. Fails on a NUL in a string or a name.
    pub(super) fn new(list: &List) -> Result<Nvlist> {
        let mut new = Nvlist::none()?;
        let place = new.place();
        // SAFETY: the library writes a list of its own into `place`.
        checked(unsafe { (new.library.nvlist_alloc)(place, UNIQUE_NAME, 0) })?;
        for (name, value) in list {
            new.add(name, value)?;
        }
        Ok(new)
    }

    fn add(&mut self, name: &str, value: &Value) -> Result<()> {
        let name = c_string(name)?;
        let (library, raw, name) = (self.library, self.raw, name.as_ptr());
        // SAFETY (all below): the list is ours and alive, strings end in NUL, and the library copies what it is handed.
        checked(match value {
            Value::Flag => unsafe { (library.nvlist_add_boolean)(raw, name) },
            Value::Bool(value) => unsafe { (library.nvlist_add_boolean_value)(raw, name, c_int::from(*value)) },
            Value::Int(value) => unsafe { (library.nvlist_add_int64)(raw, name, *value) },
            Value::Unsigned(value) => unsafe { (library.nvlist_add_uint64)(raw, name, *value) },
            Value::Text(value) => {
                let value = c_string(value)?;
                unsafe { (library.nvlist_add_string)(raw, name, value.as_ptr()) }
            }
            Value::Texts(values) => {
                let values: Vec<CString> = values.iter().map(|v| c_string(v)).collect::<Result<_>>()?;
                let pointers: Vec<*const c_char> = values.iter().map(|v| v.as_ptr()).collect();
                let count = c_uint::try_from(pointers.len()).unwrap_or(c_uint::MAX);
                unsafe { (library.nvlist_add_string_array)(raw, name, pointers.as_ptr(), count) }
            }
            Value::List(value) => {
                let value = Nvlist::new(value)?;
                unsafe { (library.nvlist_add_nvlist)(raw, name, value.raw) }
            }
            Value::Other(_) => nix::libc::ENOTSUP,
        })
    }

    /// The list that the kernel has written there.
    pub(super) fn unpacked(packed: &[u64]) -> Result<Nvlist> {
        let mut new = Nvlist::none()?;
        let place = new.place();
        // SAFETY: a buffer of the size told, which the library looks at no further than it holds a list, and copies.
        checked(unsafe { (new.library.nvlist_unpack)(packed.as_ptr().cast(), size_of_val(packed), place, 0) })?;
        Ok(new)
    }

    /// What is in the list; nothing if there is none.
    pub(super) fn read(&self) -> List {
        read(self.library, self.raw)
    }

    /// The list, of which a few values are wanted.
    pub(super) fn inside(&self) -> Inside<'_> {
        Inside { raw: self.raw, library: self.library, of: PhantomData }
    }
}

/// A list that belongs to something else of the library's, of which a few values are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside<'a> {
    raw: RawList,
    library: &'static Core,
    of: PhantomData<&'a ()>,
}

impl Inside<'_> {
    /// # Safety
    ///
    /// `raw` is NULL or a list that lives, and is not changed, while this value does.
    pub(super) unsafe fn at(raw: RawList) -> Result<Self> {
        Ok(Inside { raw, library: Core::get()?, of: PhantomData })
    }

    /// A list in it.
    pub(super) fn list(&self, name: &CStr) -> Option<Self> {
        let raw = self.look_up(name, null_mut(), self.library.nvlist_lookup_nvlist)?;
        Some(Inside { raw, ..*self })
    }

    /// An unsigned number in it.
    pub(super) fn number(&self, name: &CStr) -> Option<u64> {
        self.look_up(name, 0, self.library.nvlist_lookup_uint64)
    }

    /// A string in it. What is no UTF-8 is read with replacement characters.
    pub(super) fn text(&self, name: &CStr) -> Option<String> {
        self.look_up(name, null(), self.library.nvlist_lookup_string).map(text)
    }

    /// All that is in it; nothing if there is none.
    pub(super) fn read(&self) -> List {
        read(self.library, self.raw)
    }

    fn look_up<T>(
        &self,
        name: &CStr,
        mut value: T,
        look_up: unsafe extern "C" fn(RawList, *const c_char, *mut T) -> c_int,
    ) -> Option<T> {
        // SAFETY: the list is alive, as `at` was promised, and `look_up` writes a value of the type it is for.
        let found = !self.raw.is_null() && unsafe { look_up(self.raw, name.as_ptr(), &raw mut value) } == 0;
        found.then_some(value)
    }
}

fn checked(errno: c_int) -> Result<()> {
    match errno {
        0 => Ok(()),
        e => Err(Error::failed(format!("cannot make a name-value list: {}", nix::errno::Errno::from_raw(e).desc()))),
    }
}

/// `raw` is NULL or a list of the library's that nobody changes meanwhile.
fn read(library: &'static Core, raw: RawList) -> List {
    let mut list = List::new();
    if raw.is_null() {
        return list;
    }
    // SAFETY: a list that is alive, and NULL or a pair of it.
    let next = |pair| unsafe { (library.nvlist_next_nvpair)(raw, pair) };
    let mut pair = next(null_mut());
    while !pair.is_null() {
        // SAFETY: a pair's name is a string that lives as long as the pair.
        let name = text(unsafe { (library.nvpair_name)(pair) });
        list.insert(name, value(library, pair));
        pair = next(pair);
    }
    list
}

/// Reads a pair with the function for its type, into a variable of that type.
macro_rules! value_of {
    ($function:expr, $pair:expr, $empty:expr) => {{
        let mut value = $empty;
        // SAFETY: the pair is alive and of the type that the function is for; it writes one value, which for strings and
        // lists is a pointer into the pair.
        let errno = unsafe { $function($pair, &raw mut value) };
        assert_eq!(errno, 0, "the type has been asked for");
        value
    }};
}

fn value(library: &'static Core, pair: RawPair) -> Value {
    // SAFETY: the pair is alive.
    match unsafe { (library.nvpair_type)(pair) } {
        1 => Value::Flag,
        5 => Value::Int(value_of!((library.nvpair_value_int32), pair, 0i32).into()),
        7 => Value::Int(value_of!((library.nvpair_value_int64), pair, 0i64)),
        8 => Value::Unsigned(value_of!((library.nvpair_value_uint64), pair, 0u64)),
        9 => Value::Text(text(value_of!((library.nvpair_value_string), pair, null()))),
        17 => {
            let (mut strings, mut count) = (null(), 0);
            // SAFETY: as in `value_of`; the array has `count` strings and lies in the pair.
            unsafe {
                (library.nvpair_value_string_array)(pair, &raw mut strings, &raw mut count);
                Value::Texts((0..count as usize).map(|i| text(*strings.add(i))).collect())
            }
        }
        19 => Value::List(read(library, value_of!((library.nvpair_value_nvlist), pair, null_mut()))),
        21 => Value::Bool(value_of!((library.nvpair_value_boolean_value), pair, 0) != 0),
        other => Value::Other(other),
    }
}

/// Copies a string of the library's, which is not NULL.
pub(super) fn text(raw: *const c_char) -> String {
    // SAFETY: strings of the library end in NUL and live as long as the list they are in.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        if let Err(e) = Core::get() {
            return eprintln!("skipped: {e}");
        }
        let inner = List::from([("text".into(), Value::Text("tab\tline\nü".into())), ("flag".into(), Value::Flag)]);
        let list = List::from([
            ("bool".into(), Value::Bool(true)),
            ("int".into(), Value::Int(-5)),
            ("unsigned".into(), Value::Unsigned(u64::MAX)),
            ("texts".into(), Value::Texts(vec!["a".into(), String::new(), "c".into()])),
            ("list".into(), Value::List(inner)),
            ("empty".into(), Value::List(List::new())),
        ]);
        assert_eq!(Nvlist::new(&list).unwrap().read(), list);
        assert_eq!(Nvlist::none().unwrap().read(), List::new());
        assert!(Nvlist::new(&List::from([("nul".into(), Value::Text("a\0b".into()))])).is_err());
    }
}
