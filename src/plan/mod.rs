//! Changes as data: a plan has an add phase, one committing step, and a remove phase.
//!
//! Recovery asks one question: was the commit reached? The commit is a step whose effect can be *seen* (a
//! boot-loader entry, a directory's name, the default on the ESP), so the answer is read from what is there and
//! never from a flag that could disagree with it.

pub mod execute;
pub mod journal;
pub mod recover;
mod reserve;
mod step;

pub use step::{MenuLine, Step, in_words};

use crate::domain::Facts;
use serde::{Deserialize, Serialize};
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

    /// Every step in the order it runs.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.add.iter().chain(std::iter::once(&self.commit)).chain(&self.remove)
    }
}
