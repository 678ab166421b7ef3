//! Properties (zfsprops(7)): those a dataset is born with, and changing native ones.

use super::command::{failed, output, printed};
use super::nvlist::{List, Nvlist, Value};
use crate::error::Result;

/// Whether `zfs mount -a` and the boot mount a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canmount {
    /// It is never mounted at its mountpoint; its children inherit that.
    Off,
    /// It is mounted by `zfs mount -a`.
    On,
    /// It is mounted only when it is named: right for every BE.
    Noauto,
}

impl Canmount {
    /// As the kernel keeps it (`zfs_canmount_type_t`).
    pub(super) fn from_number(number: u64) -> Option<Canmount> {
        [Canmount::Off, Canmount::On, Canmount::Noauto].get(usize::try_from(number).ok()?).copied()
    }
}

/// A property for a new dataset. The kernel takes the native ones as numbers or as text, each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// `canmount`
    Canmount(Canmount),
    /// `mountpoint`: an absolute path, `none` or `legacy`.
    Mountpoint(&'a str),
    /// `readonly`
    Readonly(bool),
    /// `acltype=posix`
    PosixAcls,
    /// `xattr=sa`
    XattrsInInodes,
    /// `sync=disabled`: no fsync(2) waits, and neither does whoever unmounts it, which else takes two transaction groups even if
    /// nothing was written (zil_close() in the module).
    Unsynced,
    /// A user property (`org.bootenv:description`: lower case, digits, `:+._-`, at most 255 bytes) with a value of up to
    /// 8191 bytes, which is written encoded ([`encode`]).
    User(&'a str, &'a str),
    /// Any property, native or somebody else's, with a value as the kernel keeps it.
    AsItIs(&'a str, &'a Value),
}

impl Property<'_> {
    pub(super) fn list(properties: &[Property<'_>]) -> Result<Nvlist> {
        let pair = |property: &Property<'_>| match property {
            // The order of zfs_canmount_type_t in sys/fs/zfs.h: off, on, noauto.
            Property::Canmount(canmount) => ("canmount".to_string(), Value::Unsigned(*canmount as u64)),
            Property::Mountpoint(path) => ("mountpoint".to_string(), Value::Text(path.to_string())),
            Property::Readonly(readonly) => ("readonly".to_string(), Value::Unsigned((*readonly).into())),
            // Of zfs_acltype_t: off, posix; of zfs_xattr_type_t: off, dir, sa.
            Property::PosixAcls => ("acltype".to_string(), Value::Unsigned(1)),
            Property::XattrsInInodes => ("xattr".to_string(), Value::Unsigned(2)),
            // Of zfs_sync_type_t: standard, always, disabled.
            Property::Unsynced => ("sync".to_string(), Value::Unsigned(2)),
            Property::User(name, value) => (name.to_string(), Value::Text(encode(value))),
            Property::AsItIs(name, value) => (name.to_string(), (*value).clone()),
        };
        Nvlist::new(&properties.iter().map(pair).collect::<List>())
    }
}

/// A user property's value as it is written, so that `zfs get` prints it on one line and a reader can tell it from no
/// value (`-`): control characters and `%` as `%XX`, a lone `-` as `%2D`, nothing at all as a lone `%`.
pub fn encode(value: &str) -> String {
    match value {
        "" => return "%".into(),
        "-" => return "%2D".into(),
        _ => {}
    }
    let mut encoded = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '%' | '\0'..='\x1f' | '\x7f' => encoded += &format!("%{:02X}", u32::from(c)),
            c => encoded.push(c),
        }
    }
    encoded
}

/// What [`encode`] has written. What it cannot have written is taken as it is.
pub fn decode(encoded: &str) -> String {
    if encoded == "%" {
        return String::new();
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |i: usize| tail.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sets native properties of a dataset that is there, all in one transaction group. Nothing is mounted or unmounted because
/// of it; `readonly` takes effect at once on what is mounted.
///
/// This is a `zfs` command: libzfs_core has no call for it.
pub fn set_native(dataset: &str, properties: &[(&str, &str)]) -> Result<()> {
    let settings: Vec<String> = properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let result = output("zfs", &[&["set", "-u"], &settings[..], &[dataset]].concat())?;
    if result.status.success() {
        return Ok(());
    }
    if String::from_utf8_lossy(&result.stderr).contains("invalid option") {
        // OpenZFS before 2.2 has no -u; what it mounts in a namespace of its own goes away with it.
        let own = ["--mount", "--propagation", "private", "--", "zfs", "set"];
        return printed("unshare", &[&own, &settings[..], &[dataset]].concat()).map(drop);
    }
    Err(failed("zfs", &result))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoding() {
        for (plain, encoded) in
            [("", "%"), ("-", "%2D"), ("a-b ü", "a-b ü"), ("50%", "50%25"), ("a\tb\nc\x7f", "a%09b%0Ac%7F")]
        {
            assert_eq!(encode(plain), encoded);
            assert_eq!(decode(encoded), plain);
        }
        assert_eq!(decode("100%, foreign %zz %4"), "100%, foreign %zz %4");
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in any::<String>()) {
            let encoded = encode(&value);
            prop_assert!(!encoded.is_empty() && encoded != "-" && !encoded.contains(['\t', '\n']));
            prop_assert_eq!(decode(&encoded), value);
        }
    }
}
