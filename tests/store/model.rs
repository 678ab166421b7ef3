//! What a store should be after a sequence of verbs, decided by rules that fit on two pages.

use crate::lab::{Kind, kind};
use std::fmt;

/// What a BE or a snapshot holds: the number that was last written into its marker file.
pub type Content = u32;

#[derive(Clone, Debug, PartialEq)]
pub struct Snap {
    pub id: u32,
    pub name: String,
    pub description: Option<String>,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Be {
    pub name: String,
    pub description: Option<String>,
    pub content: Content,
    /// Oldest first.
    pub snapshots: Vec<Snap>,
    pub mounted: bool,
    /// The snapshot it came from, if it came from one.
    pub origin: Option<u32>,
}

/// BEs in the order in which `list` gives them, and what boots.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub bes: Vec<Be>,
    pub default: String,
    pub once: Option<String>,
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Boot {
    No,
    Default,
    Once,
    NotOnce,
}

/// One verb. Names may be anybody's or nobody's.
#[derive(Clone, Debug)]
pub enum Verb {
    Create {
        name: Option<String>,
        source: Option<(String, Option<String>)>,
        boot: Boot,
        description: Option<String>,
    },
    Snapshot {
        be: String,
        snap: String,
    },
    Activate {
        be: String,
        boot: Boot,
    },
    Rename {
        from: String,
        to: String,
    },
    Describe {
        be: String,
        snap: Option<String>,
        text: String,
    },
    Rollback {
        be: String,
        snap: String,
    },
    Destroy {
        be: String,
        snapshots: bool,
        origin: bool,
        force: bool,
    },
    DestroySnapshot {
        be: String,
        snap: String,
    },
    Mount {
        be: String,
    },
    Unmount {
        be: String,
    },
    /// No verb: something in the BE changes.
    Write {
        be: String,
    },
    /// No verb: what runs writes shared data.
    WriteShared,
    Repair,
}

/// How a verb may end: with success (and what then is), or with one of these exit statuses and nothing changed.
pub type Outcome = Result<Model, Vec<i32>>;

impl Model {
    pub fn new() -> Model {
        let be = Be {
            name: "default".into(),
            description: None,
            content: 0,
            snapshots: vec![],
            mounted: false,
            origin: None,
        };
        Model { bes: vec![be], default: "default".into(), once: None, next: 1 }
    }

    pub fn be(&self, name: &str) -> Option<&Be> {
        self.bes.iter().find(|b| b.name == name)
    }

    fn snap(&self, be: &str, snap: &str) -> Option<&Snap> {
        self.be(be)?.snapshots.iter().find(|s| s.name == snap)
    }

    fn change(&mut self, name: &str) -> &mut Be {
        self.bes.iter_mut().find(|b| b.name == name).unwrap()
    }

    /// Other BEs that came from a snapshot of `owner`.
    fn clones(&self, id: u32, owner: &str) -> usize {
        self.bes.iter().filter(|b| b.origin == Some(id) && b.name != owner).count()
    }

    /// Whether the verb destroys a BE whose snapshots others came from. Where BEs depend on those, they take them over.
    pub fn hands_over(&self, verb: &Verb) -> bool {
        let Verb::Destroy { be, .. } = verb else { return false };
        self.be(be).is_some_and(|found| found.snapshots.iter().any(|s| self.clones(s.id, be) > 0))
    }

    /// What the verb makes of it.
    pub fn after(&self, verb: &Verb) -> Outcome {
        let mut new = self.clone();
        let mut refused = Vec::new();
        let mut refuse = |when: bool, status: i32| {
            if when {
                refused.push(status);
            }
        };
        match verb {
            Verb::Create { name, source, boot, description } => {
                let (from, snap) = source.clone().unwrap_or((self.default.clone(), None));
                let found = match &snap {
                    Some(snap) => self.snap(&from, snap).map(|s| (s.content, Some(s.id))),
                    None => self.be(&from).map(|b| (b.content, None)),
                };
                refuse(found.is_none(), 4);
                refuse(name.as_ref().is_some_and(|n| self.be(n).is_some()), 3);
                if let (true, Some((content, origin))) = (refused.is_empty(), found) {
                    let name = name.clone().unwrap_or_else(|| self.free_name(&from));
                    let description = description.clone();
                    new.bes.push(Be {
                        name: name.clone(),
                        description,
                        content,
                        snapshots: vec![],
                        mounted: false,
                        origin,
                    });
                    new.boot(&name, *boot);
                }
            }
            Verb::Snapshot { be, snap } => {
                refuse(self.be(be).is_none(), 4);
                refuse(self.snap(be, snap).is_some(), 3);
                if refused.is_empty() {
                    let (id, be) = (new.number(), new.change(be));
                    be.snapshots.push(Snap { id, name: snap.clone(), description: None, content: be.content });
                }
            }
            Verb::Activate { be, boot } => {
                refuse(self.be(be).is_none(), 4);
                if refused.is_empty() {
                    new.boot(be, *boot);
                }
            }
            Verb::Rename { from, to } => {
                refuse(self.be(from).is_none(), 4);
                refuse(from != to && self.be(to).is_some(), 3);
                refuse(from != to && self.is_due_by_place(from), 3);
                if refused.is_empty() {
                    new.change(from).name = to.clone();
                    if new.default == *from {
                        new.default = to.clone();
                    }
                    if new.once.as_ref() == Some(from) {
                        new.once = Some(to.clone());
                    }
                }
            }
            Verb::Describe { be, snap, text } => {
                let description = (!text.is_empty()).then(|| text.clone());
                match snap {
                    None => {
                        refuse(self.be(be).is_none(), 4);
                        if refused.is_empty() {
                            new.change(be).description = description;
                        }
                    }
                    Some(snap) => {
                        refuse(self.snap(be, snap).is_none(), 4);
                        if refused.is_empty() {
                            new.change(be).snapshots.iter_mut().find(|s| s.name == *snap).unwrap().description =
                                description;
                        }
                    }
                }
            }
            Verb::Rollback { be, snap } => {
                refuse(self.snap(be, snap).is_none(), 4);
                refuse(self.be(be).is_some_and(|b| b.mounted), 5);
                let latest = self.be(be).and_then(|b| b.snapshots.last());
                refuse(kind() == Kind::Zfs && latest.is_some_and(|s| s.name != *snap), 3);
                refuse(self.is_due_by_place(be), 3);
                if refused.is_empty() {
                    let at = new.bes.iter().position(|b| b.name == *be).unwrap();
                    // It is a new one as far as age goes.
                    let mut be = new.bes.remove(at);
                    let snap = be.snapshots.iter().find(|s| s.name == *snap).unwrap();
                    (be.content, be.origin) = (snap.content, Some(snap.id));
                    new.bes.push(be);
                }
            }
            Verb::Destroy { be, snapshots, origin, force } => match self.be(be) {
                None => refuse(true, 4),
                Some(found) => {
                    refuse(self.bes.len() == 1 || self.default == *be || self.once.as_ref() == Some(be), 3);
                    refuse(found.mounted && !force, 5);
                    refuse(!found.snapshots.is_empty() && !snapshots, 3);
                    refuse(found.snapshots.iter().any(|s| self.clones(s.id, be) > 0), 3);
                    let owner = self.bes.iter().find(|b| b.snapshots.iter().any(|s| Some(s.id) == found.origin));
                    let takes = owner.filter(|o| *origin && o.name != *be).map(|o| o.name.clone());
                    if let (Some(owner), Some(id)) = (&takes, found.origin) {
                        let others = self
                            .bes
                            .iter()
                            .filter(|b| b.origin == Some(id) && b.name != *be && b.name != *owner)
                            .count();
                        refuse(others > 0, 3);
                    }
                    if refused.is_empty() {
                        new.bes.retain(|b| b.name != *be);
                        if let Some(owner) = takes {
                            new.change(&owner).snapshots.retain(|s| Some(s.id) != found.origin);
                        }
                    }
                }
            },
            Verb::DestroySnapshot { be, snap } => match self.snap(be, snap) {
                None => refuse(true, 4),
                Some(found) => {
                    refuse(self.clones(found.id, be) > 0, 3);
                    if refused.is_empty() {
                        new.change(be).snapshots.retain(|s| s.name != *snap);
                    }
                }
            },
            Verb::Mount { be } => {
                refuse(self.be(be).is_none(), 4);
                refuse(self.be(be).is_some_and(|b| b.mounted), 5);
                if refused.is_empty() {
                    new.change(be).mounted = true;
                }
            }
            Verb::Unmount { be } => {
                refuse(self.be(be).is_none(), 4);
                if refused.is_empty() {
                    new.change(be).mounted = false;
                }
            }
            Verb::Write { be } => {
                if self.be(be).is_some() {
                    let content = new.number();
                    new.change(be).content = content;
                }
            }
            Verb::WriteShared | Verb::Repair => {}
        }
        if refused.is_empty() { Ok(new) } else { Err(refused) }
    }

    /// Whether it boots next, and nothing could tell the boot loader in time where it has gone.
    fn is_due_by_place(&self, name: &str) -> bool {
        kind() == Kind::Zfs && (self.default == name || self.once.as_deref() == Some(name))
    }

    fn boot(&mut self, name: &str, boot: Boot) {
        match boot {
            Boot::No => {}
            Boot::Default => (self.default, self.once) = (name.into(), None),
            Boot::Once => self.once = Some(name.into()),
            Boot::NotOnce if self.once.as_deref() == Some(name) => self.once = None,
            Boot::NotOnce => {}
        }
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// `base-N` with N one higher than any there is.
    fn free_name(&self, source: &str) -> String {
        let base = source.split('-').next().unwrap();
        let numbers = self.bes.iter().filter_map(|b| b.name.strip_prefix(&format!("{base}-"))?.parse::<u32>().ok());
        format!("{base}-{}", numbers.max().unwrap_or(0) + 1)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verb::Write { be } => write!(f, "(something in {be} changes)"),
            Verb::WriteShared => f.write_str("(shared data changes)"),
            _ => f.write_str(&self.arguments().join(" ")),
        }
    }
}

impl Verb {
    /// As it is typed; empty for what is no verb.
    pub fn arguments(&self) -> Vec<String> {
        let target = |be: &String, snap: &Option<String>| snap.as_ref().map_or(be.clone(), |s| format!("{be}@{s}"));
        let mut words: Vec<String> = Vec::new();
        let mut say = |said: &[&str]| words.extend(said.iter().map(|w| w.to_string()));
        match self {
            Verb::Create { name, source, boot, description } => {
                say(&["create"]);
                match boot {
                    Boot::Default => say(&["-a"]),
                    Boot::Once => say(&["-t"]),
                    _ => {}
                }
                if let Some((be, snap)) = source {
                    say(&["-e", &target(be, snap)]);
                }
                if let Some(text) = description {
                    say(&["-d", text]);
                }
                name.iter().for_each(|n| say(&[n]));
            }
            Verb::Snapshot { be, snap } => say(&["create", &format!("{be}@{snap}")]),
            Verb::Activate { be, boot: Boot::Once } => say(&["activate", "-t", be]),
            Verb::Activate { be, boot: Boot::NotOnce } => say(&["activate", "-T", be]),
            Verb::Activate { be, .. } => say(&["activate", be]),
            Verb::Rename { from, to } => say(&["rename", from, to]),
            Verb::Describe { be, snap, text } => say(&["describe", &target(be, snap), text]),
            Verb::Rollback { be, snap } => say(&["rollback", &format!("{be}@{snap}")]),
            Verb::Destroy { be, snapshots, origin, force } => {
                say(&["destroy"]);
                [(snapshots, "-s"), (origin, "-o"), (force, "-f")]
                    .iter()
                    .filter(|(on, _)| **on)
                    .for_each(|(_, o)| say(&[o]));
                say(&[be]);
            }
            Verb::DestroySnapshot { be, snap } => say(&["destroy", &format!("{be}@{snap}")]),
            Verb::Mount { be } => say(&["mount", be]),
            Verb::Unmount { be } => say(&["unmount", be]),
            Verb::Repair => say(&["check", "--repair"]),
            Verb::Write { .. } | Verb::WriteShared => {}
        }
        words
    }
}
