//! What stands on the ESP, read once.

use super::conf::{self, Conf, Read};
use super::rules::Item;
use super::{ENTRIES, name};
use crate::error::Result;
use crate::loader::esp::Esp;
use crate::loader::kernels::{Copies, Kernels};
use crate::sys::tree::Tree;
use std::rc::Rc;

/// The loader's files.
pub struct State {
    /// Where they are.
    pub esp: Rc<Esp>,
    /// The store's entries by file name.
    pub confs: Vec<(String, Conf)>,
    /// The names of all files that are named as the store's entries are.
    pub own: Vec<String>,
    /// Those of them that are no entries.
    pub damaged: Vec<String>,
    /// The newest format that one of them has, if that is newer than ours.
    pub newer: Option<u32>,
    /// All entries as the loader sees them.
    pub items: Vec<Item>,
    /// The default that stands in loader.conf.
    pub config: Option<String>,
}

impl State {
    /// Reads them.
    pub fn read(esp: Rc<Esp>, kernels: &Kernels, store: &str) -> Result<State> {
        let tree = esp.tree()?;
        let (mut confs, mut own, mut damaged, mut newer, mut items) = (vec![], vec![], vec![], None, vec![]);
        for (file, text) in texts(tree)? {
            let mut item = look(tree, &file, &text);
            if file.to_ascii_lowercase().starts_with(&name::prefix(store)) {
                own.push(file.clone());
                match conf::parse(&text, kernels.dir()) {
                    Read::Whole(conf) if name::encode(store, &conf.entry.id).eq_ignore_ascii_case(&file) => {
                        item.be = Some(conf.entry.id.clone());
                        let copies = conf.entry.copies.iter().flat_map(Copies::all);
                        item.loads &= copies.into_iter().all(|c| kernels.has(tree, c));
                        confs.push((file, *conf));
                    }
                    Read::Newer(version) => newer = newer.max(Some(version)),
                    _ => damaged.push(file),
                }
            }
            items.push(item);
        }
        let config = tree.read("loader/loader.conf").unwrap_or(None);
        let config = config.and_then(|bytes| value(&String::from_utf8_lossy(&bytes), "default").map(str::to_string));
        Ok(State { esp, confs, own, damaged, newer, items, config })
    }

    /// The entry of a BE.
    pub fn of(&self, id: &str) -> Option<&(String, Conf)> {
        self.confs.iter().find(|(_, conf)| conf.entry.id == id)
    }

    /// The entries that were ever activated, the last one first.
    pub fn activated(&self) -> impl Iterator<Item = &Conf> {
        let mut confs: Vec<&Conf> = self.confs.iter().map(|(_, c)| c).filter(|c| c.rank.activated > 0).collect();
        confs.sort_by_key(|c| std::cmp::Reverse(c.rank));
        confs.into_iter()
    }
}

/// Every entry's file with its text, whoever's it is.
pub fn texts(esp: &Tree) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for file in esp.list(ENTRIES)?.into_iter().filter_map(|n| n.into_string().ok()) {
        let lower = file.to_ascii_lowercase();
        if lower.ends_with(".conf")
            && !lower.starts_with(['.'])
            && !lower.starts_with("auto-")
            && let Some(bytes) = esp.read(&format!("{ENTRIES}/{file}"))?
        {
            texts.push((file, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(texts)
}

/// An entry as the loader sees it.
fn look(esp: &Tree, file: &str, text: &str) -> Item {
    let there = |path: &str| esp.exists(path.replace('\\', "/").trim_start_matches('/'));
    let text_of = |key: &str| value(text, key).map(str::to_string);
    let initrds = text.lines().filter_map(|l| value(l, "initrd"));
    Item {
        id: file.to_ascii_lowercase(),
        be: None,
        sort_key: text_of("sort-key"),
        machine: text_of("machine-id").unwrap_or_default(),
        version: text_of("version").unwrap_or_default(),
        listed: ["linux", "efi", "uki"].iter().find_map(|key| value(text, key)).is_some_and(there)
            || value(text, "uki-url").is_some(),
        loads: initrds.into_iter().all(there),
    }
}

/// The value of a key; the last one counts.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let of_line = |line: &'t str| line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']).map(str::trim);
    text.lines().rev().find_map(of_line).filter(|v| !v.is_empty())
}
