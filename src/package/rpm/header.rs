//! A package's header, as rpm keeps it: how many tags and how many bytes of values there are, an index, the values; numbers with the
//! highest byte first.

use super::{broken, bytes_at};
use crate::error::Result;

/// An entry of the index: tag, type, where its values begin, how many there are.
const ENTRY: usize = 16;

/// Tags (rpmtag.h).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;

/// Types: a number of four bytes; text that ends with a zero; several of those; one in several languages.
const INT32: u32 = 4;
const TEXTS: [u32; 3] = [6, 8, 9];

/// A header.
pub(super) struct Header<'h> {
    index: &'h [u8],
    values: &'h [u8],
}

impl<'h> Header<'h> {
    pub(super) fn of(blob: &'h [u8]) -> Result<Header<'h>> {
        let number = |at| bytes_at(blob, at).map(|bytes| u32::from_be_bytes(bytes) as usize);
        let parts = || {
            let (tags, length) = (number(0)?, number(4)?);
            let (index, values) = blob.get(8..)?.split_at_checked(tags.checked_mul(ENTRY)?)?;
            Some(Header { index, values: values.get(..length)? })
        };
        parts().ok_or_else(|| broken("a header is shorter than it says"))
    }

    /// The values of a tag, from where they begin, and how many there are.
    fn values(&self, tag: u32, types: &[u32]) -> Option<(&'h [u8], usize)> {
        let number = |entry, at| bytes_at(entry, at).map(u32::from_be_bytes);
        let entry = self.index.chunks_exact(ENTRY).find(|entry| number(entry, 0) == Some(tag))?;
        types.contains(&number(entry, 4)?).then_some(())?;
        Some((self.values.get(number(entry, 8)? as usize..)?, number(entry, 12)? as usize))
    }

    fn texts(&self, tag: u32) -> Vec<String> {
        let Some((values, count)) = self.values(tag, &TEXTS) else { return Vec::new() };
        let texts = values.split(|byte| *byte == 0).take(count);
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    fn text(&self, tag: u32) -> Option<String> {
        self.texts(tag).into_iter().next().filter(|text| !text.is_empty())
    }

    fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> {
        let (values, count) = self.values(tag, &[INT32]).unwrap_or_default();
        values.as_chunks().0.iter().take(count).map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The name with the architecture, of which there may be several; keys have none.
    pub(super) fn name(&self) -> Result<String> {
        let name = self.text(NAME).ok_or_else(|| broken("a package has no name"))?;
        Ok(match self.text(ARCH) {
            Some(architecture) => format!("{name}.{architecture}"),
            None => name,
        })
    }

    /// As rpm orders it: epoch, version, release.
    pub(super) fn version(&self) -> Result<String> {
        let (Some(version), Some(release)) = (self.text(VERSION), self.text(RELEASE)) else {
            return Err(broken(format!("{} has no version", self.name()?)));
        };
        Ok(match self.numbers(EPOCH).next() {
            Some(epoch) => format!("{epoch}:{version}-{release}"),
            None => format!("{version}-{release}"),
        })
    }

    pub(super) fn files(&self) -> Result<Vec<String>> {
        let dirs = self.texts(DIR_NAMES);
        let names = self.texts(BASE_NAMES).into_iter().zip(self.numbers(DIR_INDEXES));
        names
            .map(|(name, dir)| dirs.get(dir as usize).map(|dir| format!("{dir}{name}")))
            .collect::<Option<_>>()
            .ok_or_else(|| broken("a file is in no directory"))
    }
}
