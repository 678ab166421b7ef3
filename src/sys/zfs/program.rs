//! Channel programs (zfs-program(8)): several changes of one pool in one transaction group.

#![allow(unsafe_code)]

use super::errors::{Act, told};
use super::lzc::{Lzc, clash};
use super::nvlist::{List, Nvlist, Value, c_string};
use super::properties::encode;
use crate::error::{Error, Result};
use nix::libc;

/// What a program may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Lua instructions; the module allows 100 million.
    pub instructions: u64,
    /// Bytes of memory; the module allows 100 MiB.
    pub memory: u64,
}

impl Default for Limits {
    /// What `zfs program` takes: 10 million instructions, 10 MiB.
    fn default() -> Self {
        Limits { instructions: 10_000_000, memory: 10 << 20 }
    }
}

/// One change in a transaction group. Datasets and snapshots are named in full.
///
/// There is no step to create, clone, rename or mount a dataset, nor to set a native property: programs have no such call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Makes a snapshot.
    Snapshot(&'a str),
    /// Destroys a snapshot, or a filesystem without children and snapshots. Busy while it is mounted anywhere.
    Destroy(&'a str),
    /// Destroys a snapshot, or has it destroyed with the last that was cloned from it or holds it. It need not be there.
    DestroyLater(&'a str),
    /// Takes a filesystem back to its latest snapshot, which must be of an earlier transaction group. Busy while it is
    /// mounted anywhere.
    Rollback(&'a str),
    /// Makes a clone independent of its origin.
    Promote(&'a str),
    /// Renames a snapshot: filesystem, old and new name after the `@`.
    RenameSnapshot(&'a str, &'a str, &'a str),
    /// Sets a user property of a dataset or snapshot; the value is encoded ([`encode`]).
    Set(&'a str, &'a str, &'a str),
    /// Takes a user property back to what is inherited, if anything is.
    Unset(&'a str, &'a str),
}

/// Runs all the checks, then all the steps, up to the first that fails.
const STEPS: &str = r#"
args = ...
function each(api, list)
    for i, op in ipairs(list["op"]) do
        local name, a, b = list["name"][i], list["a"][i], list["b"][i]
        local errno, more
        if op == "rename_snapshot" or op == "set_prop" then
            errno, more = api[op](name, a, b)
        elseif op == "inherit" then
            errno, more = api[op](name, a)
        elseif op == "destroy_later" then
            errno = api.destroy{name, defer=true}
            if errno == 2 then
                errno = 0
            end
        else
            errno, more = api[op](name)
        end
        if errno ~= 0 then
            local conflict = ""
            if op == "promote" and errno == 17 and more ~= nil then
                conflict = more[1]
            end
            return {["errno"] = errno, ["name"] = name, ["op"] = op, ["conflict"] = conflict, ["done"] = i - 1}
        end
    end
    return {["errno"] = 0}
end
if args["checks"] ~= nil then
    local result = each(zfs.check, args["checks"])
    if result["errno"] ~= 0 then
        result["done"] = 0
        return result
    end
end
return each(zfs.sync, args["steps"])
"#;

impl Lzc {
    /// Does all these steps of one pool in one transaction group, on disk when this returns.
    ///
    /// There is no undo: a step that fails leaves those before it done. So `checks` are steps that are first tried
    /// without doing them, in the same program, so that nothing comes between; if one fails, nothing has changed. What
    /// only becomes possible by an earlier step (destroying what a promotion frees) cannot be checked beforehand.
    ///
    /// The error names the dataset and the kind of [`Lzc`]'s, and says so if steps before it were done.
    pub fn steps(&self, checks: &[Step<'_>], steps: &[Step<'_>]) -> Result<()> {
        let Some(first) = steps.first() else { return Ok(()) };
        let pool = first.words().1.split(['/', '@']).next().unwrap_or_default();
        let mut args = List::from([("steps".into(), columns(steps))]);
        if !checks.is_empty() {
            args.insert("checks".into(), columns(checks));
        }
        let result = self.program(pool, STEPS, &args, Limits::default())?;
        let failed = result.get("return").and_then(Value::list);
        let number = |key| failed.and_then(|f| f.get(key)).and_then(Value::int);
        let text = |key| failed.and_then(|f| f.get(key)).and_then(Value::text).unwrap_or_default();
        let errno = match number("errno") {
            Some(0) => return Ok(()),
            Some(errno) => i32::try_from(errno).unwrap_or(libc::EIO),
            None => return Err(Error::failed(format!("a channel program on {pool} has not told what it did"))),
        };
        let (name, conflict) = (text("name"), text("conflict"));
        let error = match text("op") {
            "promote" if errno == libc::EEXIST => clash(name, conflict),
            "promote" => told(Act::Promote, name, errno),
            "snapshot" => told(Act::Snapshot, name, errno),
            "destroy" | "destroy_later" => self.explained(told(Act::Destroy, name, errno), &[name]),
            "rollback" => told(Act::Rollback, name, errno),
            "rename_snapshot" => told(Act::Rename, name, errno),
            _ => told(Act::Set, name, errno),
        };
        Err(match number("done") {
            Some(done) if done > 0 => error.context(format_args!("{done} of {} steps were done", steps.len())),
            _ => error,
        })
    }

    /// Sets user properties (`None`: back to what is inherited), all or none: dataset or snapshot, property, value.
    pub fn set_user(&self, changes: &[(&str, &str, Option<&str>)]) -> Result<()> {
        let steps: Vec<Step<'_>> = changes
            .iter()
            .map(|(name, property, value)| match value {
                Some(value) => Step::Set(name, property, value),
                None => Step::Unset(name, property),
            })
            .collect();
        self.steps(&steps, &steps)
    }

    /// Runs a Lua program that may change the pool, in one transaction group that waits for it: it has to be short. `args`
    /// are its `...`; what it returns is under `return` in the result.
    pub fn program(&self, pool: &str, text: &str, args: &List, limits: Limits) -> Result<List> {
        self.run(pool, text, args, limits, true)
    }

    /// Runs a Lua program that only reads, without waiting for a transaction group.
    pub fn program_nosync(&self, pool: &str, text: &str, args: &List, limits: Limits) -> Result<List> {
        self.run(pool, text, args, limits, false)
    }

    fn run(&self, pool: &str, text: &str, args: &List, limits: Limits, sync: bool) -> Result<List> {
        let (raw, text, args) = (c_string(pool)?, c_string(text)?, Nvlist::new(args)?);
        let mut result = Nvlist::none()?;
        let library = self.library;
        let function = if sync { library.lzc_channel_program } else { library.lzc_channel_program_nosync };
        // SAFETY: strings and a list that live through the call, and a place for a list.
        let errno = unsafe {
            function(raw.as_ptr(), text.as_ptr(), limits.instructions, limits.memory, args.raw(), result.place())
        };
        let result = result.read();
        // What the program itself did wrong is told in words: with EINVAL, or with numbers that mean other things elsewhere.
        let said = result.get("error").and_then(Value::text);
        match (errno, said) {
            (0, _) => Ok(result),
            (libc::ETIME, _) => Err(limit(pool, "instructions", errno)),
            (libc::ENOSPC, _) => Err(limit(pool, "memory", errno)),
            (_, Some(said)) => {
                let mut error = Error::failed(format!("a channel program on {pool} has failed: {said}"));
                error.errno = Some(errno);
                Err(error)
            }
            _ => Err(told(Act::Run, pool, errno)),
        }
    }
}

fn limit(pool: &str, what: &str, errno: i32) -> Error {
    let mut error = Error::failed(format!("a channel program on {pool} has used up its {what}"))
        .hint("do less at once: fewer boot environments or snapshots in one command");
    error.errno = Some(errno);
    error
}

impl Step<'_> {
    /// The name of the call, and its arguments.
    fn words(&self) -> (&'static str, &str, &str, String) {
        match self {
            Step::Snapshot(name) => ("snapshot", name, "", String::new()),
            Step::Destroy(name) => ("destroy", name, "", String::new()),
            Step::DestroyLater(name) => ("destroy_later", name, "", String::new()),
            Step::Rollback(name) => ("rollback", name, "", String::new()),
            Step::Promote(name) => ("promote", name, "", String::new()),
            Step::RenameSnapshot(name, from, to) => ("rename_snapshot", name, from, to.to_string()),
            Step::Set(name, property, value) => ("set_prop", name, property, encode(value)),
            Step::Unset(name, property) => ("inherit", name, property, String::new()),
        }
    }
}

/// The steps as arrays of strings: a program takes no array of lists.
fn columns(steps: &[Step<'_>]) -> Value {
    let column = |of: &dyn Fn(&Step<'_>) -> String| Value::Texts(steps.iter().map(of).collect());
    Value::List(List::from([
        ("op".into(), column(&|s| s.words().0.to_string())),
        ("name".into(), column(&|s| s.words().1.to_string())),
        ("a".into(), column(&|s| s.words().2.to_string())),
        ("b".into(), column(&|s| s.words().3)),
    ]))
}
