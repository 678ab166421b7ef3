//! Small questions, answered by channel programs that wait for nothing (zfs-program(8)). A pool that is imported read-only runs
//! none; there libzfs answers.

use super::Zfs;
use crate::error::{Error, Kind, Result};
use crate::sys::zfs::{Libzfs, Limits, List, Snapshots, Value, decode};
use std::collections::HashMap;

/// A property of a dataset or snapshot; nothing if there is none.
const PROPERTY: &str = r#"
args = ...
if not zfs.exists(args["name"]) then
    return ""
end
local value = zfs.get_prop(args["name"], args["property"])
if value == nil then
    return ""
end
return string.format(args["format"], value)
"#;

/// Which of some filesystems and snapshots are there: the identity of each and its name.
const THERE: &str = r#"
args = ...
local found = {}
local n = 0
for i, name in ipairs(args["names"]) do
    if zfs.exists(name) and zfs.get_prop(name, "type") ~= "volume" then
        n = n + 1
        found[n] = string.format("%d %s", zfs.get_prop(name, "guid"), name)
    end
end
return found
"#;

/// The user properties that are set on a dataset or snapshot itself, not inherited: `NAME=VALUE`.
const USER: &str = r#"
args = ...
local found = {}
local n = 0
for i, property in ipairs(args["properties"]) do
    local value, source = zfs.get_prop(args["name"], property)
    if value ~= nil and source == args["name"] then
        n = n + 1
        found[n] = property .. "=" .. value
    end
end
return found
"#;

/// The names of the properties that are set on a dataset itself, or came with it when it was received.
const SET: &str = r#"
args = ...
local found = {}
local n = 0
function add(property, source)
    if source == args["name"] or source == "$recvd" then
        n = n + 1
        found[n] = property
    end
end
for i, property in ipairs(zfs.list.system_properties(args["name"])) do
    local value, source = zfs.get_prop(args["name"], property)
    add(property, source)
end
for property, value, source in zfs.list.user_properties(args["name"]) do
    add(property, source)
end
return found
"#;

/// A dataset and all below it, parents before children.
const SUBTREE: &str = r#"
args = ...
local found = {}
local n = 0
function visit(dataset, depth)
    n = n + 1
    found[n] = dataset
    if depth > 0 then
        for child in zfs.list.children(dataset) do
            visit(child, depth - 1)
        end
    end
end
if zfs.exists(args["name"]) then
    visit(args["name"], args["depth"])
end
return found
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
        let answer = self.property(full, "guid", "%d ").map(|text| numbered(&text).ok().map(|(guid, _)| guid));
        self.or_libzfs(answer, |libzfs| Ok(libzfs.one(full, &[])?.map(|d| d.guid)))
    }

    /// The answer of a program, or libzfs's where none runs.
    fn or_libzfs<T>(&self, answer: Result<T>, ask: impl FnOnce(&Libzfs) -> Result<T>) -> Result<T> {
        match answer {
            Err(e) if e.errno == Some(nix::libc::EROFS) => ask(self.libzfs()?),
            answer => answer,
        }
    }

    /// The snapshot that a dataset is a clone of.
    pub(super) fn origin(&self, full: &str) -> Result<Option<String>> {
        let answer = self.property(full, "origin", "%s").map(|text| Some(text).filter(|origin| !origin.is_empty()));
        self.or_libzfs(answer, |libzfs| Ok(libzfs.one(full, &[])?.and_then(|d| d.origin)))
    }

    /// The transaction group that a dataset was made in.
    pub(super) fn createtxg(&self, full: &str) -> Result<u64> {
        self.property(full, "createtxg", "%d")?.parse().map_err(|_| odd())
    }

    /// Whether a dataset is mounted anywhere, be it where nobody sees it.
    pub(super) fn in_use(&self, full: &str) -> Result<bool> {
        let objset = self.property(full, "objsetid", "%d")?;
        Ok(objset.parse().is_ok_and(|objset| self.pool.uses(objset)))
    }

    /// Bytes that a dataset refers to and that have been written since a snapshot of it, which is named in full.
    pub(super) fn written(&self, full: &str, snapshot: &str) -> Result<u64> {
        let since = snapshot.split_once('@').map_or("", |(_, name)| name);
        self.property(full, &format!("written@{since}"), "%d")?.parse().map_err(|_| odd())
    }

    pub(super) fn property(&self, full: &str, property: &str, format: &str) -> Result<String> {
        let pairs = [("name", full), ("property", property), ("format", format)];
        let args = pairs.map(|(key, value)| (key.to_string(), Value::Text(value.into())));
        let result = self.lzc.program_nosync(&self.pool.name, PROPERTY, &List::from(args), Limits::default())?;
        Ok(result.get("return").and_then(Value::text).unwrap_or_default().to_string())
    }

    /// Which of these filesystems and snapshots are there, with their identities.
    pub(super) fn there(&self, names: Vec<String>) -> Result<HashMap<String, u64>> {
        let found = self.texts(THERE, &List::from([("names".to_string(), Value::Texts(names))]))?;
        found.iter().map(|text| numbered(text).map(|(guid, name)| (name, guid))).collect()
    }

    /// User properties that are set on a dataset or snapshot itself.
    pub(super) fn user<const N: usize>(&self, full: &str, properties: &[&str; N]) -> Result<[Option<String>; N]> {
        let args = List::from([
            ("name".to_string(), Value::Text(full.into())),
            ("properties".to_string(), Value::Texts(properties.iter().map(ToString::to_string).collect())),
        ]);
        let value = |found: &[String], p: &str| {
            found.iter().find_map(|text| Some(decode(text.strip_prefix(p)?.strip_prefix('=')?)))
        };
        let answer = self.texts(USER, &args).map(|found| properties.map(|p| value(&found, p)));
        self.or_libzfs(answer, |libzfs| {
            let mut user = libzfs.one(full, properties)?.map(|d| d.user).unwrap_or_default();
            Ok(properties.map(|p| user.remove(p)))
        })
    }

    /// The names of the properties that are set on a dataset itself, not inherited.
    pub(super) fn set(&self, full: &str) -> Result<Vec<String>> {
        self.texts(SET, &List::from([("name".to_string(), Value::Text(full.into()))]))
    }

    /// A dataset and all below it, named in full, parents before children; nothing if it is not there.
    pub(super) fn subtree(&self, full: &str) -> Result<Vec<String>> {
        self.datasets(full, 64)
    }

    /// The datasets right below one.
    pub(super) fn children(&self, full: &str) -> Result<Vec<String>> {
        Ok(self.datasets(full, 1)?.into_iter().skip(1).collect())
    }

    fn datasets(&self, full: &str, depth: u16) -> Result<Vec<String>> {
        let args = [("name".to_string(), Value::Text(full.into())), ("depth".to_string(), Value::Int(depth.into()))];
        let answer = self.texts(SUBTREE, &List::from(args));
        self.or_libzfs(answer, |libzfs| {
            let near = |name: &str| name.matches('/').count() <= full.matches('/').count() + usize::from(depth);
            match libzfs.below(full, Snapshots::None, &[]) {
                Err(e) if e.kind == Kind::NotFound => Ok(Vec::new()),
                all => Ok(all?.into_iter().map(|d| d.name).filter(|name| near(name)).collect()),
            }
        })
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
