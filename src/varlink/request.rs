//! What can be asked for: each method with what it is told. The description of the interface says the same.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a method is told.
pub trait Request: Serialize + DeserializeOwned {
    /// Its name in the interface.
    const METHOD: &'static str;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Request for $name {
                const METHOD: &'static str = stringify!($name);
            }
        )*

        /// The methods there are.
        #[cfg(test)]
        pub(super) const METHODS: &[&str] = &[$(stringify!($name)),*];
    };
}

requests! {
    /// What runs, what boots next, what needs attention.
    Status {}
    /// Which there are.
    List {}
    /// Make one, or a snapshot.
    Create {
        /// What it is called.
        name: Option<String>,
        /// What it is made from.
        source: Option<String>,
        /// What is said of it.
        description: Option<String>,
        /// Whether it is activated.
        activate: Option<Activation>,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// Choose what boots next.
    Activate {
        /// Which.
        name: String,
        /// For the next boot only.
        once: Option<bool>,
        /// No longer for the next boot.
        clear: Option<bool>,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// Destroy some, or snapshots.
    Destroy {
        /// Which.
        names: Vec<String>,
        /// With their snapshots.
        snapshots: Option<bool>,
        /// With the snapshots they came from.
        origin: Option<bool>,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// Give one another name.
    Rename {
        /// What it is called.
        old: String,
        /// What it is to be called.
        new: String,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// Describe one, or a snapshot.
    Describe {
        /// Which.
        name: String,
        /// What is said of it.
        text: String,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// Let some stay until they are unpinned, or go again.
    Pin {
        /// Which.
        names: Vec<String>,
        /// Whether they stay.
        pinned: bool,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// Make one again what a snapshot of it was.
    Rollback {
        /// The snapshot.
        snapshot: String,
        /// Whether it is only shown what would be done.
        dry_run: Option<bool>,
    }
    /// The files in which two differ.
    Diff {
        /// The one that is taken for the older.
        old: String,
        /// The one that is compared with it.
        new: Option<String>,
    }
    /// The packages in which two differ.
    DiffPackages {
        /// The one that is taken for the older.
        old: String,
        /// The one that is compared with it.
        new: Option<String>,
    }
}

/// How something is activated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// From now on.
    Default,
    /// For the next boot only.
    Once,
}

/// Whether a method may change something; nothing if there is no such method.
pub(super) fn changes(method: &str) -> Option<bool> {
    match method {
        "Status" | "List" | "Diff" | "DiffPackages" => Some(false),
        "Create" | "Activate" | "Destroy" | "Rename" | "Describe" | "Pin" | "Rollback" => Some(true),
        _ => None,
    }
}
