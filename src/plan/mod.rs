//! Changes as data: a plan has an add phase, one committing step, and a remove phase.
//!
//! Recovery asks one question: was the commit reached? The commit is a step whose effect can be *seen* (a
//! boot-loader entry, a directory's name, the default on the ESP), so the answer is read from what is there and
//! never from a flag that could disagree with it.

pub mod execute;
mod inside;
pub mod journal;
pub mod recover;
mod reserve;
mod step;
mod together;

pub use step::{MenuLine, Pair, Step, in_words};

use crate::domain::{Facts, ZoneName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The version of the journal's format.
pub const FORMAT: u32 = 1;

/// Everything one request changes, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of the format.
    pub version: u32,
    /// Identity of this plan.
    pub id: Uuid,
    /// The request, as words: `create blue`.
    pub request: String,
    /// Of a zone's plan: the BE of the host that it was made under, whoever finishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
    /// Steps that add something nobody looks at yet; undone in reverse.
    #[serde(default)]
    pub add: Vec<Step>,
    /// The step that makes it so.
    pub commit: Step,
    /// Steps that take away what is no longer needed; only ever done, never undone.
    #[serde(default)]
    pub remove: Vec<Step>,
    /// What the user should know, that is no step.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Bytes that it would free, if that was asked for.
    #[serde(skip)]
    pub frees: Option<u64>,
}

impl Plan {
    /// A plan with nothing but its commit.
    pub fn new(request: impl Into<String>, commit: Step) -> Self {
        Plan {
            version: FORMAT,
            id: Uuid::new_v4(),
            request: request.into(),
            owner: None,
            add: Vec::new(),
            commit,
            remove: Vec::new(),
            notes: Vec::new(),
            frees: None,
        }
    }

    /// With a step in the add phase.
    pub fn adding(mut self, step: Step) -> Self {
        self.add.push(step);
        self
    }

    /// With a step in the remove phase.
    pub fn removing(mut self, step: Step) -> Self {
        self.remove.push(step);
        self
    }

    /// With all that another plan does, after it.
    pub fn then(mut self, other: Plan) -> Self {
        self.request = format!("{}, {}", self.request, other.request);
        self.remove.extend(other.add.into_iter().chain([other.commit]).chain(other.remove));
        self.notes.extend(other.notes);
        self
    }

    /// With something the user should know.
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The facts that it will keep for what it makes at a path.
    pub(crate) fn facts_for(&self, made: &str) -> Facts {
        let told = self.steps().find_map(|step| match step {
            Step::Facts { path, to, .. } if path == made => Some(to.clone()),
            _ => None,
        });
        told.unwrap_or_default()
    }

    /// Whether what it makes at a path is a BE that is cloned alone or first, so that it may be born with its facts.
    pub(crate) fn may_bear(&self, made: &str) -> bool {
        self.steps().any(|step| match step {
            Step::Clone { readonly, .. } | Step::CloneTogether { readonly, .. } => {
                !readonly && step.clones().next().is_some_and(|(_, to)| to == made)
            }
            _ => false,
        })
    }

    /// The zones that it changes, each once.
    pub fn zones(&self) -> BTreeSet<&ZoneName> {
        self.steps().filter_map(Step::zone).collect()
    }

    /// What it does in a zone's own store; where its commit is elsewhere, the layout stands for it, which changes nothing there.
    fn within(&self, zone: &ZoneName) -> Plan {
        let inner = |step: &Step| match step {
            Step::In { zone: of, what } if of == zone => Some((**what).clone()),
            _ => None,
        };
        Plan {
            add: self.add.iter().filter_map(inner).collect(),
            commit: inner(&self.commit).unwrap_or(Step::Layout),
            remove: self.remove.iter().filter_map(inner).collect(),
            ..self.clone()
        }
    }

    /// Whether its first step is a clone, with which everything that was written before is durable.
    pub fn begins_with_a_clone(&self) -> bool {
        self.steps().next().is_some_and(|step| step.clones().next().is_some())
    }

    /// Every step in the order it runs.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.add.iter().chain(std::iter::once(&self.commit)).chain(&self.remove)
    }
}
