//! The only runner of plans.

use super::{Plan, Step, inside, journal, reserve, together};
use crate::altroot;
use crate::domain::{Asked, BeName};
use crate::error::{Error, Kind, Result};
use crate::loader::{Described, Entry, Loader};
use crate::shared;
use crate::store::Store;
use crate::sys::copy::{self, Progress};
use crate::zone;
use std::ffi::OsString;

/// What plans act on.
pub struct World<'a> {
    /// Where BEs live.
    pub store: &'a dyn Store,
    /// What boots them.
    pub loader: &'a dyn Loader,
}

/// Watches a plan run. The library itself never prints.
pub trait Observer: Progress {
    /// A step is about to run.
    fn before(&mut self, _step: &Step) {}
    /// A step has run.
    fn after(&mut self, _step: &Step) {}
    /// Something the user should know came up.
    fn note(&mut self, note: &str);
    /// Whether the user wants it to stop (Ctrl-C). Asked between steps that can be undone.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Runs a plan. On an error before the commit, everything is undone and nothing has changed.
pub fn execute(world: &World<'_>, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
    if !world.store.initialised() {
        world.store.make_home()?;
    }
    let expected = preflight(world, plan)?;
    let home = world.store.home()?;
    match journal::write(&home, plan) {
        Err(e) if e.is_full() && frees_space(plan) => {
            reserve::give_up(world.store, || journal::write(&home, plan))?;
        }
        written => written?,
    }
    if !plan.begins_with_a_clone() {
        world.store.keep_home()?;
    }
    let mut begun = 0;
    let mut durable = false;
    let result = plan.add.iter().chain(std::iter::once(&plan.commit)).try_for_each(|step| {
        if observer.interrupted() {
            return Err(interrupted());
        }
        begun += 1;
        if !durable {
            settle(world, step)?;
        }
        observer.before(step);
        apply(world, plan, step, &expected, observer)?;
        observer.after(step);
        // A clone takes everything along to the disk, and nothing boots from facts.
        durable = step.clones().next().is_some() || (durable && matches!(step, Step::Facts { .. }));
        Ok(())
    });
    if let Err(mut error) = result {
        // What Ctrl-C does to a copy is not what the user wants to know.
        if observer.interrupted() {
            error = interrupted();
        }
        let done: Vec<&Step> = plan.steps().take(begun).collect();
        undo_all(world, done.into_iter()).map_err(|e| error_in_undo(&error, e))?;
        let _ = world.loader.tidy();
        journal::clear(&home)?;
        world.store.keep_home()?;
        return Err(error);
    }
    clear_up(world, plan, observer).map_err(|e| {
        e.context(format!("{} is done, but clearing up after it failed; the next command tries again", plan.request))
    })?;
    if !plan.remove.is_empty() {
        world.store.sync()?;
    }
    // What is left over costs space and nothing else.
    let _ = world.loader.tidy();
    journal::clear(&home)?;
    world.store.keep_home()?;
    reserve::keep(world.store);
    Ok(())
}

/// Whether a plan only takes away, so that it may use up what is kept for a full filesystem.
fn frees_space(plan: &Plan) -> bool {
    let takes = |step: &Step| {
        step.clones().next().is_some() || matches!(step, Step::Import { .. } | Step::Copy { .. } | Step::Share { .. })
    };
    let steps: Vec<&Step> = plan.steps().map(Step::inner).collect();
    steps.iter().any(|s| matches!(s, Step::Destroy { .. })) && !steps.into_iter().any(takes)
}

/// Refuses what is bound to fail half-way: files of a newer version would be left alone, and a name that something else
/// has taken. Nothing has been written yet. Gives the menu entries to come, as far as there was need to look at them.
pub fn preflight(world: &World<'_>, plan: &Plan) -> Result<Vec<Entry>> {
    let store = world.store;
    let mut expected = Vec::new();
    if world.loader.kernels().is_some() && plan.steps().any(Step::changes_entries) {
        expected = entries_to_come(world, plan)?;
        world.loader.room_for(&expected)?;
    }
    let gone: Vec<&str> = plan.steps().filter_map(Step::destroys).collect();
    store.may_destroy(&gone)?;
    plan.steps().flat_map(Step::clones).try_for_each(|(_, to)| nothing_at(store, to))?;
    inside::preflight(world, plan)?;
    for step in plan.steps() {
        match step {
            Step::Adopt { .. } | Step::Forget { .. } if store.has_home() => store.may_change_settings()?,
            Step::Facts { to, was, .. } => store.may_change_facts(&[to, was])?,
            // A damaged menu would stop the plan half-way; so would a loader whose state cannot be read.
            Step::Entry { .. } | Step::EntryBeside { .. } | Step::EntryByIdentity { .. } | Step::DropEntry { .. } => {
                drop(world.loader.named(&[])?)
            }
            // A damaged menu is made anew, one of a newer bootenv is not.
            Step::Menu { .. } => match world.loader.entries() {
                Err(e) if e.kind == Kind::Refused => return Err(e),
                _ => {}
            },
            Step::Ask { to, .. } => world.loader.may_ask(to)?,
            Step::Import { to, .. } | Step::Copy { to, .. } | Step::Rename { to, .. } => nothing_at(store, to)?,
            _ => {}
        }
    }
    Ok(expected)
}

/// Refuses a path that something has taken.
fn nothing_at(store: &dyn Store, path: &str) -> Result<()> {
    match store.taken(path)? {
        true => Err(Error::refused(format!("something that is no boot environment stands at {path}"))
            .hint("move it away, or choose another name")),
        false => Ok(()),
    }
}

/// The menu entries that a plan puts, as far as it can be seen now what they will hold: what is copied in from elsewhere
/// is looked at when it is there.
fn entries_to_come(world: &World<'_>, plan: &Plan) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut add = |path: &str, read: Option<&str>| -> Result<()> {
        let read = now_at(plan, read.unwrap_or(path));
        if world.store.taken(&read)? {
            let described = Entry::describe(world.store, world.loader, "", path, &read, String::new())?;
            entries.push(described.entry);
        }
        Ok(())
    };
    for step in plan.steps() {
        match step {
            Step::Entry { path, read, .. } => add(path, read.as_deref())?,
            Step::EntryBeside { path, read, .. } => add(path, Some(read))?,
            Step::EntryByIdentity { path, .. } => add(path, None)?,
            Step::Menu { entries: lines } => lines.iter().try_for_each(|l| add(&l.path, None))?,
            _ => {}
        }
    }
    Ok(entries)
}

/// Where that lies now which will lie at `path` when the plan has run.
fn now_at(plan: &Plan, path: &str) -> String {
    plan.steps().collect::<Vec<_>>().into_iter().rev().fold(path.to_string(), |at, step| match step {
        Step::Rename { from, to } if *to == at => from.clone(),
        Step::Clone { .. } | Step::CloneTogether { .. } => {
            let from = step.clones().find(|(_, to)| *to == at).map(|(from, _)| from.to_string());
            from.unwrap_or(at)
        }
        Step::Exchange { place, with, .. } if *place == at => with.clone(),
        _ => at,
    })
}

fn interrupted() -> Error {
    Error::failed("interrupted; nothing changed").hint("run it again when you like")
}

fn error_in_undo(first: &Error, then: Error) -> Error {
    let hint = "mend what it names; the next command, or `bootenv check --repair`, undoes the rest";
    Error::new(first.kind, format!("{}; and undoing what was begun failed: {}", first.message, then.message)).hint(hint)
}

/// Runs the steps that are only ever done.
pub(super) fn clear_up(world: &World<'_>, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
    for step in &plan.remove {
        settle(world, step)?;
        observer.before(step);
        apply(world, plan, step, &[], observer)?;
        observer.after(step);
    }
    Ok(())
}

/// Makes the store durable before a step that says on the ESP what is in the store: what the loader is told to boot must be
/// there, also for a loader that reads the disk itself and after a power cut.
fn settle(world: &World<'_>, step: &Step) -> Result<()> {
    match step {
        // A kernel that has just been installed may not be on the disk yet.
        Step::Ask { .. } | Step::Entry { fresh: false, .. } | Step::Zone { .. } => world.store.sync(),
        Step::In { zone, what } => inside::within_if_there(world, zone, |inner, _| settle(inner, what)).map(drop),
        step if step.changes_entries() && world.loader.kernels().is_some() => world.store.sync(),
        _ => Ok(()),
    }
}

/// Undoes steps in reverse.
pub(super) fn undo_all<'s>(world: &World<'_>, steps: impl DoubleEndedIterator<Item = &'s Step>) -> Result<()> {
    steps.rev().try_for_each(|step| undo(world, step))
}

/// `expected` are the menu entries that `preflight` has seen to come.
fn apply(world: &World<'_>, plan: &Plan, step: &Step, expected: &[Entry], observer: &mut dyn Observer) -> Result<()> {
    let World { store, loader } = world;
    match step {
        Step::Layout => store.make_layout(),
        Step::Loader => {
            let mut notes = Vec::new();
            loader.install(&mut notes)?;
            notes.iter().for_each(|n| observer.note(n));
            Ok(())
        }
        Step::Adopt { be, path } => {
            store.note_root(&store.tree(path)?)?;
            let mut adopted = store.adopted()?;
            adopted.insert(be.clone(), path.clone());
            store.set_adopted(&adopted)
        }
        Step::Forget { be } => forget(*store, be),
        Step::Import { from, to } => {
            store.create(to)?;
            let into = store.tree(to)?;
            match from.is_dir() {
                true => copy::contents(from, &into.proc_path(), "copy the root tree", observer),
                false => copy::untar(from, &into.proc_path(), "unpack the root tree", observer),
            }?;
            match into.holds_root() {
                true => Ok(()),
                false => {
                    Err(Error::refused(format!("{} holds no Linux root: it has no /etc and /usr", from.display()))
                        .hint("name a tar of a root"))
                }
            }
        }
        Step::Copy { from, to } => {
            store.create(to)?;
            let (from, into) = (store.tree(from)?, store.tree(to)?);
            copy::contents(&from.proc_path(), &into.proc_path(), "copy the root tree", observer)
        }
        Step::Clone { from, to, readonly } => store.clone_to(from, to, *readonly, &plan.facts_for(to)),
        Step::CloneTogether { clones, readonly } => together::clone(world, plan, clones, *readonly),
        Step::Properties { path, set } => {
            set.iter().try_for_each(|(name, value)| store.set_property(path, name, value))
        }
        Step::Share { path, be } => {
            store.note_root(&store.tree(path)?)?;
            shared::convert(*store, path, be, observer)
        }
        Step::Run { be, path, command } => run(*store, be, path, command),
        Step::Examine { be, path } => {
            let wrong = altroot::examine(*store, &BeName::parse(be)?, path)?;
            match &wrong[..] {
                [] => Ok(()),
                found => Err(Error::failed(format!("{be} could not be kept: {}", found.join("; ")))
                    .hint("--keep-failed keeps the boot environment to look at")),
            }
        }
        Step::Fill { path } => shared::fill(*store, path),
        Step::PutAside { file } => {
            let home = store.home()?;
            match home.exists(file) {
                true => home.rename(file, &format!("{file}.damaged"), rustix::fs::RenameFlags::empty()),
                false => Ok(()),
            }
        }
        Step::Menu { entries } => {
            let lines = entries.iter().map(|l| current(world, &l.be, &l.path, &l.path, &l.title, observer));
            loader.replace(&lines.collect::<Result<Vec<_>>>()?)
        }
        Step::Entry { be, path, read, title, .. } => {
            let entry = match of_untouched_clone(world, plan, path, expected)? {
                Some(entry) => Entry { id: be.clone(), title: title.clone(), ..entry },
                None => current(world, be, path, read.as_deref().unwrap_or(path), title, observer)?,
            };
            loader.put(&entry)
        }
        Step::EntryBeside { be, path, read, title } => {
            loader.put_beside(&current(world, be, path, read, title, observer)?)
        }
        Step::EntryByIdentity { be, path, title } => {
            let entry = current(world, be, path, path, title, observer)?;
            let (by_path, by_identity) = (store.root_arguments(path), store.root_arguments_by_identity(path)?);
            loader.put(&Entry { arguments: entry.arguments.replacen(&by_path, &by_identity, 1), ..entry })
        }
        Step::DropEntry { be, path } => loader.remove(be, path),
        Step::Ask { to, .. } => {
            loader.ask(to)?;
            note_due(world, to, observer);
            Ok(())
        }
        Step::Facts { path, .. } if store.bears_facts() && plan.may_bear(path) => Ok(()),
        Step::Facts { path, to, .. } => match store.identity(path)? {
            Some(_) => store.set_facts(path, to),
            None => Err(Error::not_found(format!("{path} is gone"))),
        },
        Step::Rename { from, to } => match store.identity(from)? {
            None if store.identity(to)?.is_some() => Ok(()),
            _ => store.rename(from, to),
        },
        Step::Exchange { place, with, was } => {
            // Where it does not commit, it may have been done already, or half of it.
            store.settle_exchange(place, with, *was)?;
            if store.identity(place)? == Some(*was) { store.exchange(place, with) } else { Ok(()) }
        }
        Step::Destroy { path, identity, .. } => match store.identity(path)? == Some(*identity) {
            true => store.destroy(path),
            false => Ok(()),
        },
        Step::DropFacts { identity } => store.drop_facts(*identity),
        Step::MakeZone { zone } => store.make_zone(zone),
        Step::DropZone { zone } => store.drop_zone(zone),
        Step::Zone { zone, to, .. } => zone::set(*store, zone, to.as_ref()),
        Step::Assign { zone, be, owner, .. } => inside::assign(world, zone, be, owner),
        Step::Inherit { zone, was, owner } => inside::inherit(world, zone, *was, owner),
        Step::Belong { zone, path, owner } => inside::belong_with(world, zone, path, owner),
        Step::Release { zone, was } => inside::release(world, zone, *was),
        Step::In { zone, what } => {
            let act = |inner: &World<'_>, _: &_| apply(inner, &plan.within(zone), what, &[], observer);
            match **what {
                // Everything may have been taken away already.
                Step::Destroy { .. } | Step::DropFacts { .. } => inside::within_if_there(world, zone, act).map(drop),
                _ => inside::within(world, zone, act),
            }
        }
    }
}

/// Runs a command in a BE; it has to succeed.
fn run(store: &dyn Store, be: &str, path: &str, command: &[OsString]) -> Result<()> {
    let prepared = altroot::prepare(store, &BeName::parse(be)?, path)?;
    let status = altroot::run(&prepared, command, &mut || {})?;
    if status.success() {
        // What was written is kept from here on, or the journal would be gone before it is there.
        return store.sync();
    }
    let name = command.first().map(|word| word.to_string_lossy()).unwrap_or("the shell".into());
    let how = match status.code() {
        Some(code) => format!("ended with exit status {code}"),
        None => format!("was ended by {status}"),
    };
    Err(Error::failed(format!("{name} {how}")).hint("--keep-failed keeps the boot environment to look at"))
}

/// Lets the store know which BE is the default, for boot loaders that ask it. Ours does not, so it is no error if it cannot.
pub(super) fn note_due(world: &World<'_>, asked: &Asked, observer: &mut dyn Observer) {
    let Some(default) = asked.default.as_deref() else { return };
    let entries = world.loader.named(&[default]).unwrap_or_default();
    if let Some(Err(e)) = entries.first().map(|entry| world.store.note_default(&entry.path)) {
        observer.note(&e.message);
    }
}

/// The menu entry of a new BE that its plan does nothing to but clone it: what its source has, if that had the same before. Looking
/// there saves a mount where the source is mounted already.
fn of_untouched_clone(world: &World<'_>, plan: &Plan, path: &str, expected: &[Entry]) -> Result<Option<Entry>> {
    let [first, rest @ ..] = &plan.add[..] else { return Ok(None) };
    let Some((from, to)) = first.clones().next() else { return Ok(None) };
    let touches = |step: &Step| {
        step.zone().is_none() && !matches!(step, Step::Properties { .. } | Step::Facts { .. } | Step::Entry { .. })
    };
    let Some(before) = expected.iter().find(|entry| entry.path == path && path == to) else { return Ok(None) };
    if rest.iter().any(touches) {
        return Ok(None);
    }
    let Described { entry, problem } =
        Entry::describe(world.store, world.loader, &before.id, path, from, before.title.clone())?;
    Ok((problem.is_none() && entry.is_the_same_files(before)).then_some(entry))
}

/// The menu entry of a BE as it should be now. Where its own settings cannot be used, the arguments it had stay.
fn current(
    world: &World<'_>,
    be: &str,
    path: &str,
    read: &str,
    title: &str,
    observer: &mut dyn Observer,
) -> Result<Entry> {
    let Described { mut entry, problem } =
        Entry::describe(world.store, world.loader, be, path, read, title.to_string())?;
    if let Some(problem) = problem {
        let entries = world.loader.entries().unwrap_or_default();
        if let Some(old) = entries.iter().find(|e| e.id == be && e.path == path) {
            entry.arguments.clone_from(&old.arguments);
        }
        observer.note(&format!("{be}: {}", problem.message));
    }
    Ok(entry)
}

fn forget(store: &dyn Store, be: &str) -> Result<()> {
    let mut adopted = store.adopted()?;
    match adopted.remove(be) {
        Some(_) => store.set_adopted(&adopted),
        None => Ok(()),
    }
}

/// Takes away what a step of the same plan made.
fn unmake(store: &dyn Store, path: &str) -> Result<()> {
    let Some(identity) = store.identity(path)? else { return Ok(()) };
    store.destroy(path)?;
    store.drop_facts(identity)
}

fn undo(world: &World<'_>, step: &Step) -> Result<()> {
    let World { store, loader } = world;
    match step {
        Step::Adopt { be, .. } => forget(*store, be),
        Step::Import { to, .. } | Step::Copy { to, .. } => unmake(*store, to),
        Step::MakeZone { zone } => store.drop_zone(zone),
        Step::Zone { zone, was, .. } => zone::set(*store, zone, was.as_ref()),
        Step::Assign { zone, be, owner, was } => inside::take_back(world, zone, be, owner, *was),
        Step::In { zone, what } => inside::within_if_there(world, zone, |inner, _| undo(inner, what)).map(drop),
        Step::Clone { .. } | Step::CloneTogether { .. } => step.clones().try_for_each(|(from, to)| {
            // The plan had made sure that nothing was there: what was not cloned came from someone else meanwhile.
            if store.identity(to)?.is_some() && store.parent(to)? == store.identity(from)? {
                unmake(*store, to)?;
            }
            store.clear_clone(from, to)
        }),
        Step::Entry { be, path, fresh: true, .. } => loader.remove(be, path),
        Step::Share { .. } => shared::clear_arrivals(*store),
        Step::EntryBeside { be, path, title, .. } => {
            let entry = Entry::describe(*store, *loader, be, path, path, title.clone())?.entry;
            match loader.entries()?.iter().filter(|e| e.id == *be && e.path == *path).count() {
                0 | 1 => Ok(()),
                _ => loader.put(&entry),
            }
        }
        Step::EntryByIdentity { be, path, title } => {
            loader.put(&Entry::describe(*store, *loader, be, path, path, title.clone())?.entry)
        }
        // Default and one-shot may be two writes, of which only one was done.
        Step::Ask { to, was } => match loader.asked()? {
            now if now != *was && between(&now, was, to) => loader.ask(was),
            _ => Ok(()),
        },
        Step::Facts { path, was, .. } => match store.identity(path)? {
            Some(_) => store.set_facts(path, was),
            None => Ok(()),
        },
        Step::Exchange { place, with, was } => store.settle_exchange(place, with, *was),
        Step::Rename { from, to } if store.identity(from)?.is_none() && store.identity(to)?.is_some() => {
            store.rename(to, from)
        }
        // The layout and the loader's files are the same for every plan, and harmless without BEs. What `Share` changed goes away
        // with the BE it changed it in. What is taken away is only ever taken away after the commit.
        _ => Ok(()),
    }
}

/// Whether the loader is told partly what it was told before and partly what it is to be told.
fn between(now: &Asked, was: &Asked, to: &Asked) -> bool {
    let either = |pick: fn(&Asked) -> &Option<String>| pick(now) == pick(was) || pick(now) == pick(to);
    either(|a| &a.default) && either(|a| &a.once)
}

/// Whether a committing step has been done.
pub(super) fn reached(world: &World<'_>, step: &Step) -> Result<bool> {
    let World { store, loader } = world;
    Ok(match step {
        Step::Entry { be, path, .. } => loader.entries()?.iter().any(|e| e.id == *be && e.path == *path),
        Step::DropEntry { be, path } => !loader.entries()?.iter().any(|e| e.id == *be && e.path == *path),
        Step::Ask { to, was } => {
            let now = loader.asked()?;
            // What is fallen back to only follows.
            let changed = |pick: fn(&Asked) -> &Option<String>| pick(to) == pick(was) || pick(&now) == pick(to);
            changed(|a| &a.default) && changed(|a| &a.once)
        }
        Step::Facts { path, to, .. } => match store.identity(path)? {
            Some(_) => store.facts(path)?.description == to.description,
            None => false,
        },
        Step::Clone { readonly, .. } | Step::CloneTogether { readonly, .. } => {
            let mut whole = step.clones();
            whole.try_fold(true, |whole, (_, to)| {
                Ok::<_, Error>(whole && store.identity(to)?.is_some() && (!readonly || store.is_readonly(to)?))
            })?
        }
        Step::Rename { from, to } => store.identity(from)?.is_none() && store.identity(to)?.is_some(),
        Step::Exchange { place, was, .. } => store.identity(place)?.is_some_and(|now| now != *was),
        Step::Forget { be } => !store.adopted()?.contains_key(be),
        Step::Destroy { path, identity, .. } => store.identity(path)? != Some(*identity),
        Step::DropFacts { identity } => !store.facts_files()?.iter().any(|f| f.identity == *identity),
        Step::Adopt { be, .. } => store.adopted()?.contains_key(be),
        Step::Layout => store.initialised(),
        Step::Menu { entries } => {
            let there = loader.entries()?;
            there.len() == entries.len() && entries.iter().zip(&there).all(|(a, b)| a.be == b.id && a.path == b.path)
        }
        Step::PutAside { file } => !store.home()?.exists(file),
        Step::Zone { zone, to, .. } => zone::settings(*store, zone)? == *to,
        Step::DropZone { zone } => !crate::store::zones(*store)?.contains(zone),
        Step::Assign { zone, be, owner, .. } => inside::is_assigned(world, zone, be, owner)?,
        Step::In { zone, what } => {
            inside::within_if_there(world, zone, |inner, _| reached(inner, what))?.unwrap_or(false)
        }
        Step::Loader
        | Step::MakeZone { .. }
        | Step::Inherit { .. }
        | Step::Belong { .. }
        | Step::Release { .. }
        | Step::Import { .. }
        | Step::Copy { .. }
        | Step::Properties { .. }
        | Step::Share { .. }
        | Step::Run { .. }
        | Step::Examine { .. }
        | Step::Fill { .. }
        | Step::EntryBeside { .. }
        | Step::EntryByIdentity { .. } => false,
    })
}
