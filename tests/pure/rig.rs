//! Inventories made by hand, and plans as text.

use bootenv::domain::{
    Asked, BeName, BootEnv, Facts, Inventory, MenuState, NextBoot, Room, Sight, SnapName, Snapshot, StoreInfo, Target,
};
use bootenv::error::Error;
use bootenv::plan::{Plan, Step};
use std::fmt::Write;
use uuid::Uuid;

pub fn name(text: &str) -> BeName {
    BeName::parse(text).unwrap()
}

pub fn snap(text: &str) -> SnapName {
    SnapName::parse(text).unwrap()
}

pub fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn described(text: &str) -> Facts {
    Facts { description: Some(text.into()), ..Facts::default() }
}

/// A BE below `ROOT`, with nothing special about it.
pub fn be(called: &str, number: u128) -> BootEnv {
    BootEnv {
        name: name(called),
        uuid: id(number),
        parent_uuid: None,
        path: format!("ROOT/{called}"),
        adopted: false,
        created: 1_700_000_000,
        readonly: false,
        nested: Vec::new(),
        mountpoints: Vec::new(),
        running: false,
        used: None,
        facts: Facts::default(),
        snapshots: Vec::new(),
    }
}

/// A root that was adopted where it lies.
pub fn adopted(called: &str, path: &str, number: u128) -> BootEnv {
    BootEnv { path: path.into(), adopted: true, ..be(called, number) }
}

pub fn snapshot_of(be: &mut BootEnv, called: &str, number: u128) {
    be.snapshots.push(Snapshot { name: snap(called), uuid: id(number), created: 0, facts: Facts::default() });
}

/// Three BEs and two snapshots, nothing of it running, as on an image:
///
/// - `default` (1), active on reboot, with the snapshots `default@one` (11) and `default@two` (12, described);
/// - `blue` (2), described, a clone of `default`;
/// - `green` (3), a clone of `default@one`.
pub fn image() -> Inventory {
    let mut default = be("default", 1);
    snapshot_of(&mut default, "one", 11);
    snapshot_of(&mut default, "two", 12);
    default.snapshots[1].facts = described("before the move");
    let blue = BootEnv { parent_uuid: Some(id(1)), facts: described("a test"), ..be("blue", 2) };
    let green = BootEnv { parent_uuid: Some(id(11)), ..be("green", 3) };
    holding(vec![default, blue, green], "default")
}

/// An inventory of these BEs, each with its menu entry, of which one is active on reboot.
pub fn holding(bes: Vec<BootEnv>, default: &str) -> Inventory {
    let asked = Asked { default: Some(default.into()), ..Asked::default() };
    let kernel = |b: &BootEnv| (b.name.to_string(), format!("{}/boot/vmlinuz-6.12", b.path));
    Inventory {
        store: StoreInfo {
            kind: "btrfs",
            name: "lab.img".into(),
            uuid: id(0xff).to_string(),
            rollback_takes_later: false,
            properties: false,
            clones_stand_alone: true,
            grub_reads: true,
            room: Room { whole: 255, own: 0, aside: 0, nested: false },
        },
        menu: MenuState {
            entries: bes.iter().rev().map(kernel).collect(),
            problems: Vec::new(),
            ..MenuState::default()
        },
        bes,
        shared: true,
        next: NextBoot { default: Some(default.into()), once: None, asked, unknown: false },
        attention: Vec::new(),
        zone: None,
        zones: Vec::new(),
    }
}

/// The same, with one BE changed.
pub fn but(mut inventory: Inventory, called: &str, change: impl FnOnce(&mut BootEnv)) -> Inventory {
    change(inventory.bes.iter_mut().find(|b| b.name.as_str() == called).unwrap());
    inventory
}

/// The same, with one BE active for the next boot.
pub fn once(mut inventory: Inventory, called: &str) -> Inventory {
    inventory.next.once = Some(called.into());
    inventory.next.asked.once = Some(called.into());
    inventory
}

/// The same, where the loader's state cannot be seen.
pub fn unknown(mut inventory: Inventory) -> Inventory {
    inventory.next = NextBoot { unknown: true, ..NextBoot::default() };
    inventory
}

/// The same, with a loader that sees so much of the BEs.
pub fn sees(mut inventory: Inventory, sight: Sight) -> Inventory {
    inventory.menu.sight = sight;
    inventory
}

/// The same, with one BE running.
pub fn running(inventory: Inventory, called: &str) -> Inventory {
    but(inventory, called, |b| {
        b.running = true;
        b.mountpoints = vec!["/".into()];
    })
}

/// What requests became, in order, for one snapshot.
#[derive(Default)]
pub struct Told(String);

impl Told {
    /// A plan or a refusal.
    pub fn case(&mut self, what: &str, result: Result<Plan, Error>) -> &mut Self {
        let text = match result {
            Ok(plan) => in_words(&plan),
            Err(e) => refusal(&e),
        };
        self.text(what, &text)
    }

    /// Any other text.
    pub fn text(&mut self, what: &str, text: &str) -> &mut Self {
        let _ = writeln!(self.0, "## {what}\n{}\n", text.trim_end());
        self
    }

    pub fn all(&self) -> &str {
        self.0.trim_end()
    }
}

/// A refusal as it is told. Every one must say what to do instead.
fn refusal(e: &Error) -> String {
    let hint = e.hint.as_deref().unwrap_or_else(|| panic!("no hint: {}", e.message));
    format!("{} ({}): {}\n    {hint}", e.kind.as_str(), e.kind.exit_status(), e.message)
}

/// A plan with everything that is in it. What is drawn by lot is named instead.
fn in_words(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.request);
    let mut phase = |phase: &str, steps: &[Step]| {
        for step in steps {
            let _ = writeln!(text, "{phase:<7} {step}\n        {step:?}");
        }
    };
    phase("add", &plan.add);
    phase("commit", std::slice::from_ref(&plan.commit));
    phase("remove", &plan.remove);
    for note in &plan.notes {
        let _ = writeln!(text, "note    {note}");
    }
    without_lots(&text)
}

/// Replaces the random part of `.rollback-UUID`.
fn without_lots(text: &str) -> String {
    const MARK: &str = ".rollback-";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        out.push_str("UUID");
        rest = &after[36..];
    }
    out + rest
}
