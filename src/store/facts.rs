//! Facts as TOML files in the tool's own directory, one per dataset, named by its identity.

use super::FactsFile;
use crate::domain::{FORMAT, Facts};
use crate::error::{Error, Result};
use crate::sys::tree::Tree;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Where they lie in the tool's own directory.
pub const DIR: &str = "facts";
const STORE: &str = "store.toml";

fn file(identity: Uuid) -> String {
    format!("{DIR}/{identity}.toml")
}

/// Reads the facts of one dataset. No file means no facts; a damaged file is an error that names it.
pub fn read(home: &Tree, identity: Uuid) -> Result<Facts> {
    match home.read_text(&file(identity))? {
        None => Ok(Facts::default()),
        Some(text) => parse(&text).map_err(|why| damaged(identity, &why)),
    }
}

fn parse(text: &str) -> std::result::Result<Facts, String> {
    if let Some(facts) = plain(text) {
        return Ok(facts);
    }
    toml::from_str(text).or_else(|e: toml::de::Error| newer(text).ok_or_else(|| e.message().to_string()))
}

/// What `write` gives for a description in which nothing had to be escaped: of a thousand such files the parser takes a
/// tenth of the time that `list` takes.
fn plain(text: &str) -> Option<Facts> {
    let description = text.strip_prefix("version = 1\ndescription = \"")?.strip_suffix("\"\n")?;
    let unescaped = !description.contains(|c: char| c == '"' || c == '\\' || c.is_control());
    unescaped.then(|| Facts { description: Some(description.to_string()), ..Facts::default() })
}

/// Facts of a newer format, whose fields may be anything: shown as far as they are text, never written.
fn newer(text: &str) -> Option<Facts> {
    let rest: toml::Table = toml::from_str(text).ok()?;
    let version = u32::try_from(rest.get("version")?.as_integer()?).ok().filter(|v| *v > FORMAT)?;
    let field = |name: &str| rest.get(name).and_then(toml::Value::as_str).map(str::to_string);
    Some(Facts { version, description: field("description"), rest, ..Facts::default() })
}

/// Refuses to change facts of a newer format.
pub fn may_change(facts: &Facts) -> Result<()> {
    if facts.version <= FORMAT {
        return Ok(());
    }
    Err(Error::refused(format!("its facts were written by a newer bootenv (format {})", facts.version))
        .hint("use the bootenv of the boot environment that runs, or a newer one"))
}

fn damaged(identity: Uuid, why: &str) -> Error {
    Error::failed(format!("BOOTENV/facts/{identity}.toml is damaged: {why}"))
        .hint("`bootenv check --repair` puts it aside; only the description is lost")
}

/// Parses the facts of a dataset into `all`, from a file of which the content may have been read already. What is damaged is
/// told in `attention`: it must not hide a BE.
pub fn collect(
    home: &Tree,
    name: &str,
    content: Option<&[u8]>,
    all: &mut Vec<(Uuid, Facts)>,
    attention: &mut Vec<String>,
) {
    let Some(identity) = name.strip_suffix(".toml").and_then(|n| Uuid::try_parse(n).ok()) else { return };
    let facts = match content {
        Some(bytes) => {
            std::str::from_utf8(bytes).map_err(|e| e.to_string()).and_then(parse).map_err(|why| damaged(identity, &why))
        }
        None => read(home, identity),
    };
    match facts {
        Ok(facts) => {
            if facts.version > FORMAT && facts.rest.contains_key("description") {
                attention.push(format!(
                    "BOOTENV/{DIR}/{identity}.toml was written by a newer bootenv (format {}), cannot be read, and is left alone",
                    facts.version
                ));
            }
            all.push((identity, facts));
        }
        Err(e) => attention.push(format!("{}; `bootenv check --repair` puts it aside", e.message)),
    }
}

/// The files that are there, damaged or not.
pub fn files(home: &Tree) -> Result<Vec<FactsFile>> {
    let names = home.list(DIR)?;
    let identities = names.iter().filter_map(|n| Uuid::try_parse(n.to_str()?.strip_suffix(".toml")?).ok());
    Ok(identities.map(|i| FactsFile { identity: i, file: file(i), damaged: read(home, i).is_err() }).collect())
}

/// Writes the facts of a dataset; nothing to know is no file. Facts from a newer bootenv are left alone.
pub fn write(home: &Tree, identity: Uuid, facts: &Facts) -> Result<()> {
    may_change(facts)?;
    if *facts == Facts::default() {
        return remove(home, identity);
    }
    home.make_dir(DIR, 0o755)?;
    let mut facts = facts.clone();
    facts.version = FORMAT;
    let text = toml::to_string(&facts).map_err(|e| Error::failed(format!("cannot write facts: {e}")))?;
    home.write(&file(identity), text.as_bytes(), 0o644)
}

/// Forgets the facts of a dataset.
pub fn remove(home: &Tree, identity: Uuid) -> Result<()> {
    home.remove(&file(identity))
}

/// The store's own settings, with everything a newer bootenv may have added.
fn store_table(home: &Tree) -> Result<toml::Table> {
    let Some(text) = home.read_text(STORE)? else { return Ok(toml::Table::new()) };
    let table: toml::Table = toml::from_str(&text).map_err(|e| {
        Error::failed(format!("BOOTENV/{STORE} is damaged: {}", e.message()))
            .hint("`bootenv check --repair` puts it aside")
    })?;
    Ok(table)
}

/// Adopted roots: name to path from the top of the store.
pub fn adopted(home: &Tree) -> Result<BTreeMap<String, String>> {
    let table = store_table(home)?;
    let Some(toml::Value::Table(adopted)) = table.get("adopted") else { return Ok(BTreeMap::new()) };
    Ok(adopted.iter().filter_map(|(name, path)| Some((name.clone(), path.as_str()?.to_string()))).collect())
}

/// Refuses to change the settings of a newer format.
pub fn may_change_settings(home: &Tree) -> Result<()> {
    let version = store_table(home)?.get("version").and_then(toml::Value::as_integer).unwrap_or(0);
    if version <= i64::from(FORMAT) {
        return Ok(());
    }
    Err(Error::refused(format!("BOOTENV/{STORE} was written by a newer bootenv (format {version})"))
        .hint("use the bootenv of the boot environment that runs, or a newer one"))
}

/// Changes the adopted roots and keeps everything else that stands in the file.
pub fn set_adopted(home: &Tree, adopted: &BTreeMap<String, String>) -> Result<()> {
    let entries = adopted.iter().map(|(name, path)| (name.clone(), toml::Value::String(path.clone()))).collect();
    set(home, "adopted", toml::Value::Table(entries))
}

/// The boot loader that was chosen for the store; `None` stands for GRUB.
pub fn loader(home: &Tree) -> Result<Option<String>> {
    Ok(store_table(home)?.get("loader").and_then(toml::Value::as_str).map(str::to_string))
}

/// Chooses the boot loader and keeps everything else that stands in the file.
pub fn set_loader(home: &Tree, name: &str) -> Result<()> {
    set(home, "loader", toml::Value::String(name.to_string()))
}

fn set(home: &Tree, key: &str, value: toml::Value) -> Result<()> {
    may_change_settings(home)?;
    let mut table = store_table(home)?;
    table.insert("version".into(), toml::Value::Integer(i64::from(FORMAT)));
    table.insert(key.into(), value);
    home.write(STORE, toml::to_string(&table).unwrap_or_default().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_form_is_read_as_the_parser_reads_it() {
        for (description, short) in
            [("before the change", true), ("it's ä", true), ("", true), ("a \"b\"", false), ("a\\b\n", false)]
        {
            let facts = Facts { description: Some(description.into()), ..Facts::default() };
            let text = toml::to_string(&facts).unwrap();
            assert_eq!(toml::from_str::<Facts>(&text).unwrap(), facts);
            assert_eq!(parse(&text).unwrap(), facts);
            assert_eq!(plain(&text).is_some(), short, "{text}");
        }
        for odd in [
            "version = 1\ndescription = \"a\"\nx = \"b\"\n",
            "version = 2\ndescription = \"a\"\n",
            "version = 1\ndescription = \"\n",
        ] {
            assert_eq!(plain(odd), None, "{odd:?}");
        }
    }
}
