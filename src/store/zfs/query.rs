//! Small questions: about one dataset, answered by the kernel in one call, and about its snapshots, by channel programs that wait for
//! nothing (zfs-program(8)).

use super::Zfs;
use crate::error::{Error, Result};
use crate::sys::zfs::{Limits, List, Stats, Value};

/// A number that is known of a dataset; nothing if there is none.
const NUMBER: &str = r#"
args = ...
local value = zfs.get_prop(args["name"], args["property"])
if value == nil then
    return ""
end
return string.format("%d", value)
"#;

/// The snapshots of a dataset with their clones: the transaction group it was made in and `SNAPSHOT`, then `>CLONE` for each.
const SNAPSHOTS: &str = r#"
args = ...
local found = {}
local n = 0
for snapshot in zfs.list.snapshots(args["name"]) do
    n = n + 1
    found[n] = string.format("%d %s", zfs.get_prop(snapshot, "createtxg"), snapshot)
    for clone in zfs.list.clones(snapshot) do
        n = n + 1
        found[n] = ">" .. clone
    end
end
return found
"#;

/// A snapshot and what was cloned from it, named in full.
pub(super) struct WithClones {
    pub(super) snapshot: String,
    pub(super) clones: Vec<String>,
}

fn odd() -> Error {
    Error::failed("a channel program has returned something else than expected")
}

/// A number and a name. Lua has signed numbers only.
fn numbered(text: &str) -> Result<(u64, String)> {
    let (number, name) = text.split_once(' ').ok_or_else(odd)?;
    Ok((number.parse::<i64>().map_err(|_| odd())?.cast_unsigned(), name.to_string()))
}

impl Zfs {
    /// The identity of a dataset or snapshot in its pool.
    pub(super) fn guid(&self, full: &str) -> Result<Option<u64>> {
        Ok(self.lzc.stats(full)?.map(|stats| stats.guid))
    }

    /// What is known of a dataset or snapshot, which has to be there.
    pub(super) fn stats(&self, full: &str) -> Result<Stats> {
        self.lzc.stats(full)?.ok_or_else(|| Error::not_found(format!("{full} is gone")))
    }

    /// The snapshot that a dataset is a clone of.
    pub(super) fn origin(&self, full: &str) -> Result<Option<String>> {
        Ok(self.lzc.stats(full)?.and_then(|stats| stats.text(c"origin")))
    }

    /// The transaction group that a dataset was made in.
    pub(super) fn createtxg(&self, full: &str) -> Result<u64> {
        self.stats(full)?.number(c"createtxg").ok_or_else(odd)
    }

    /// Whether a dataset is mounted anywhere, be it where nobody sees it.
    pub(super) fn in_use(&self, full: &str) -> Result<bool> {
        Ok(self.stats(full)?.number(c"objsetid").is_some_and(|objset| self.pool.uses(objset)))
    }

    /// Bytes that a dataset refers to and that have been written since a snapshot of it, which is named in full.
    pub(super) fn written(&self, full: &str, snapshot: &str) -> Result<u64> {
        let since = snapshot.split_once('@').map_or("", |(_, name)| name);
        let pairs = [("name", full.to_string()), ("property", format!("written@{since}"))];
        let args = List::from(pairs.map(|(key, value)| (key.to_string(), Value::Text(value))));
        let result = self.lzc.program_nosync(&self.pool.name, NUMBER, &args, Limits::default())?;
        result.get("return").and_then(Value::text).and_then(|text| text.parse().ok()).ok_or_else(odd)
    }

    /// A dataset and all below it, named in full, parents before children; nothing if it is not there.
    pub(super) fn subtree(&self, full: &str) -> Result<Vec<String>> {
        if self.lzc.exists(full)? { self.whole(full) } else { Ok(Vec::new()) }
    }

    /// The same of a dataset that is there.
    pub(super) fn whole(&self, full: &str) -> Result<Vec<String>> {
        let (mut found, mut next) = (vec![full.to_string()], 0);
        while let Some(dataset) = found.get(next) {
            let children = self.lzc.children(dataset)?;
            next += 1;
            found.splice(next..next, children);
        }
        Ok(found)
    }

    /// The snapshots of a dataset, oldest first, with their clones. (The pool lists them in no order.)
    pub(super) fn snapshots(&self, full: &str) -> Result<Vec<WithClones>> {
        let mut found: Vec<(u64, WithClones)> = Vec::new();
        for text in self.texts(SNAPSHOTS, &List::from([("name".to_string(), Value::Text(full.into()))]))? {
            match (text.strip_prefix('>'), found.last_mut()) {
                (Some(clone), Some((_, last))) => last.clones.push(clone.to_string()),
                _ => {
                    let (txg, snapshot) = numbered(&text)?;
                    found.push((txg, WithClones { snapshot, clones: Vec::new() }));
                }
            }
        }
        found.sort_by_key(|(txg, _)| *txg);
        Ok(found.into_iter().map(|(_, with)| with).collect())
    }

    /// A Lua array of strings comes back as a list with the numbers for keys.
    fn texts(&self, program: &str, args: &List) -> Result<Vec<String>> {
        let result = self.lzc.program_nosync(&self.pool.name, program, args, Limits::default())?;
        let list = match result.get("return") {
            None => return Ok(Vec::new()),
            Some(value) => value.list().ok_or_else(odd)?,
        };
        let mut found = Vec::with_capacity(list.len());
        for (key, value) in list {
            found.push((key.parse::<u64>().map_err(|_| odd())?, value.text().ok_or_else(odd)?.to_string()));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, text)| text).collect())
    }
}
