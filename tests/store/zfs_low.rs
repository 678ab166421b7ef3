//! What the ZFS store stands on, on real pools in files: `bootenv::sys::zfs`.
//!
//! For a machine with the OpenZFS module, where the zfs lane runs this program.

use crate::lab::{self, mounts, only_on, sh, try_sh};
use bootenv::error::{Error, Kind};
use bootenv::sys::zfs::{self, Canmount, Dataset, Libzfs, Limits, List, Lzc, Pool, Property, Snapshots, Step, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

const NOTE: &str = "org.bootenv:note";

/// A pool with a dataset `ROOT`, destroyed with this value.
struct Tank {
    name: String,
    lzc: Lzc,
    dir: tempfile::TempDir,
}

/// A pool, if this machine can have one.
fn tank(name: &str) -> Option<Tank> {
    if !only_on(lab::Kind::Zfs, "what the store on ZFS stands on") {
        return None;
    }
    let dir = tempfile::Builder::new().prefix("bootenv-tank").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let tank = Tank { name: format!("low-{name}"), lzc: Lzc::open().unwrap(), dir };
    let disk = tank.dir.path().join("disk");
    File::create(&disk).unwrap().set_len(256 << 20).unwrap();
    sh(&format!(
        "zpool create -o cachefile=none -O mountpoint=none -O canmount=off {} '{}'",
        tank.name,
        disk.display()
    ));
    tank.lzc.create(&tank.at("ROOT"), &[]).unwrap();
    Some(tank)
}

impl Drop for Tank {
    fn drop(&mut self) {
        try_sh(&format!("zpool destroy -f {}", self.name));
    }
}

impl Tank {
    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.name)
    }

    /// A BE, as the store makes them.
    fn be(&self, name: &str) -> String {
        let name = self.at(&format!("ROOT/{name}"));
        self.lzc.create(&name, &[Property::Canmount(Canmount::Noauto), Property::Mountpoint("/")]).unwrap();
        name
    }

    /// A snapshot.
    fn snap(&self, name: String) -> String {
        self.lzc.snapshot(&[&name], &[]).unwrap();
        name
    }

    /// What of it is in the mount table.
    fn mounts(&self) -> Vec<String> {
        mounts().into_iter().filter(|line| line.contains(&self.name)).collect()
    }

    fn one(&self, name: &str) -> Dataset {
        Libzfs::open().unwrap().below(name, Snapshots::None, &[NOTE]).unwrap().remove(0)
    }

    fn note(&self, name: &str) -> Option<String> {
        self.one(name).user.remove(NOTE)
    }
}

fn open(mount: &OwnedFd, name: &str, flags: nix::fcntl::OFlag) -> nix::Result<File> {
    nix::fcntl::openat(mount.as_fd(), name, flags, nix::sys::stat::Mode::from_bits_truncate(0o644)).map(File::from)
}

fn write(mount: &OwnedFd, name: &str, text: &str) -> nix::Result<()> {
    use nix::fcntl::OFlag;
    open(mount, name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?.write_all(text.as_bytes()).unwrap();
    Ok(())
}

fn read(mount: &OwnedFd, name: &str) -> String {
    let mut text = String::new();
    open(mount, name, nix::fcntl::OFlag::O_RDONLY).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: Kind, errno: i32, hint: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind, error.errno), (kind, Some(errno)), "{error:?}");
    assert!(error.hint.as_deref().is_some_and(|h| h.contains(hint)), "{error:?}");
}

#[test]
fn datasets_are_born_with_their_properties() {
    let Some(tank) = tank("born") else { return };
    let (a, b) = (tank.be("a"), tank.be("b"));
    let odd = "tab\tline\nend %41 \u{1}\u{7f} ü 漢 ".to_string() + &"x".repeat(1000);
    let (sa, sb) = (format!("{a}@s"), format!("{b}@s"));
    tank.lzc.snapshot(&[&sa, &sb], &[Property::User(NOTE, &odd)]).unwrap();
    let c = tank.at("ROOT/c");
    let properties = [
        Property::Canmount(Canmount::Noauto),
        Property::Mountpoint("/"),
        Property::Readonly(true),
        Property::User(NOTE, "-"),
    ];
    tank.lzc.clone(&sa, &c, &properties).unwrap();

    let libzfs = Libzfs::open().unwrap();
    let all = libzfs.below(&tank.at("ROOT"), Snapshots::All, &[NOTE]).unwrap();
    let names: Vec<&str> = all.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, [&tank.at("ROOT"), &a, &sa, &b, &sb, &c]);
    let of = |name: &str| all.iter().find(|d| d.name == name).unwrap();
    assert_eq!(of(&sa).user[NOTE], odd);
    assert_eq!(of(&sa).createtxg, of(&sb).createtxg, "one transaction");
    assert_ne!(of(&sa).guid, of(&sb).guid);
    assert_eq!(of(&sa).kind, zfs::Kind::Snapshot);
    assert_eq!((of(&sa).canmount, &of(&sa).mountpoint), (None, &None));
    let clone = of(&c);
    assert_eq!((clone.kind, clone.canmount, clone.readonly), (zfs::Kind::Filesystem, Some(Canmount::Noauto), true));
    assert_eq!(clone.origin.as_ref(), Some(&sa));
    assert_eq!(clone.mountpoint.as_deref(), Some("/"));
    assert_eq!(clone.user, BTreeMap::from([(NOTE.to_string(), "-".to_string())]));
    assert_eq!(of(&tank.at("ROOT")).mountpoint.as_deref(), Some("none"));
    assert!(clone.created > 1_600_000_000 && of(&a).used > 0);

    // Without snapshots, and single ones, they are the same.
    let filesystems = libzfs.below(&tank.at("ROOT"), Snapshots::None, &[NOTE]).unwrap();
    assert_eq!(filesystems, all.iter().filter(|d| !d.name.contains('@')).cloned().collect::<Vec<_>>());
    tank.lzc.snapshot(&[&format!("{a}@.hidden")], &[]).unwrap();
    let shown = libzfs.below(&tank.at("ROOT"), Snapshots::Without(".hid"), &[NOTE]).unwrap();
    let names = |of: &[Dataset]| of.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&shown), names(&all));
    assert_eq!(shown.iter().find(|d| d.name == sa), Some(of(&sa)));
    tank.lzc.destroy_snaps(&[&format!("{a}@.hidden")]).unwrap();
    assert_eq!(tank.one(&sa), *of(&sa));
    assert_eq!(tank.one(&c), *clone);

    // The kernel tells the same of one of them.
    for dataset in &all {
        let stats = tank.lzc.stats(&dataset.name).unwrap().unwrap();
        assert_eq!((stats.kind(), stats.guid), (dataset.kind, dataset.guid), "{}", dataset.name);
        assert_eq!(stats.number(c"createtxg"), Some(dataset.createtxg), "{}", dataset.name);
        assert_eq!(stats.text(c"origin"), dataset.origin, "{}", dataset.name);
        assert_eq!((stats.is_readonly(), stats.user(NOTE).as_ref()), (dataset.readonly, dataset.user.get(NOTE)));
    }
    assert!(tank.lzc.stats("low-born/none").unwrap().is_none());
    assert!(tank.lzc.stats("none/at/all").unwrap().is_none());
    assert!(tank.lzc.stats(&format!("{c}@none")).unwrap().is_none());
}

#[test]
fn what_is_set_on_a_dataset_is_told_whole() {
    let Some(tank) = tank("set") else { return };
    let a = tank.be("a");
    let inner = format!("{a}/inner");
    tank.lzc.create(&inner, &[]).unwrap();
    sh(&format!("zfs create -s -V 8M {}", tank.at("volume")));
    assert_eq!(tank.lzc.stats(&tank.at("volume")).unwrap().unwrap().kind(), zfs::Kind::Volume);

    sh(&format!(
        "zfs set atime=off quota=64M org.example:one=' two ' {a}; zfs set org.example:one=other {}",
        tank.at("ROOT")
    ));
    let set = |name: &str| tank.lzc.stats(name).unwrap().unwrap().set().properties;
    let names = |name: &str| set(name).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&a), ["atime", "canmount", "mountpoint", "org.example:one", "quota"]);
    assert_eq!(set(&a)["quota"], Value::Unsigned(64 << 20));
    assert_eq!(set(&a)["org.example:one"].text(), Some(" two "));
    assert!(names(&inner).is_empty(), "what is inherited is not set: {:?}", names(&inner));
    // What came with it when it was received.
    let received = tank.at("received");
    sh(&format!("zfs snapshot {a}@s; zfs send -p {a}@s | zfs receive -u {received}"));
    assert_eq!(names(&received), names(&a));

    // More than fits into what is usually enough.
    let long = "x".repeat(8000);
    for at in 0..40 {
        tank.lzc.set_user(&[(&a, &format!("org.example:{at:02}"), Some(&long))]).unwrap();
    }
    assert_eq!(names(&a).len(), 45);
    assert_eq!(set(&a)["org.example:39"].text(), Some(long.as_str()));

    // Names that cannot be.
    assert!(tank.lzc.stats(&tank.at(&"x".repeat(5000))).unwrap().is_none());
    for wrong in [tank.at(&"x".repeat(300)), tank.at("a b\n"), tank.at("%"), String::new(), "@".into(), "a@b@c".into()]
    {
        let told = tank.lzc.stats(&wrong);
        assert!(!matches!(told, Ok(Some(_))), "{wrong:?}: {told:?}");
    }
    assert!(tank.lzc.stats("a\0b").is_err());
}

#[test]
fn what_lies_right_below_a_dataset_is_told() {
    let Some(tank) = tank("below") else { return };
    let a = tank.be("a");
    let below = |name: &str| {
        let mut all = tank.lzc.children(name).unwrap();
        all.sort();
        all
    };
    assert!(below(&a).is_empty());
    let mut made: Vec<String> = (0..40).map(|n| format!("{a}/{n:02}")).collect();
    made.iter().for_each(|name| tank.lzc.create(name, &[]).unwrap());
    tank.lzc.create(&format!("{a}/00/deep"), &[]).unwrap();
    let snapshot = tank.snap(format!("{a}@s"));
    sh(&format!("zfs create -s -V 8M {a}/volume"));
    made.push(format!("{a}/volume"));
    assert_eq!(below(&a), made);
    assert_eq!(below(&tank.at("ROOT")), [a.as_str()]);
    // The pool's own objects have no names for people.
    assert_eq!(below(&tank.name), [tank.at("ROOT")]);
    for nothing in [format!("{a}/volume"), snapshot, format!("{a}/none"), "none".into(), tank.at(&"x".repeat(5000))] {
        assert!(below(&nothing).is_empty(), "{nothing}");
        assert_eq!(tank.lzc.exists(&nothing).unwrap(), nothing.starts_with(&a) && !nothing.ends_with("none"));
    }
    assert!(tank.lzc.children("a\0b").is_err());
}

#[test]
fn user_properties_are_set_together_or_not_at_all() {
    let Some(tank) = tank("user") else { return };
    let a = tank.be("a");
    let s = tank.snap(format!("{a}@s"));
    let long = "é\t".repeat(1600);
    tank.lzc
        .set_user(&[(&a, NOTE, Some("one\ntwo")), (&s, NOTE, Some(&long)), (&a, "org.bootenv:empty", Some(""))])
        .unwrap();
    assert_eq!(tank.note(&a).unwrap(), "one\ntwo");
    assert_eq!(tank.note(&s).unwrap(), long);
    let stats = tank.lzc.stats(&a).unwrap().unwrap();
    assert_eq!((stats.user("org.bootenv:empty").as_deref(), stats.user(NOTE).as_deref()), (Some(""), Some("one\ntwo")));

    // The second cannot be, so the first is not.
    let none = tank.at("ROOT/none");
    fails(tank.lzc.set_user(&[(&a, NOTE, Some("three")), (&none, NOTE, Some("x"))]), Kind::NotFound, 2, "zfs list");
    fails(tank.lzc.set_user(&[(&a, NOTE, Some("three")), (&a, "canmount", Some("on"))]), Kind::Refused, 22, "");
    fails(
        tank.lzc.set_user(&[(&a, NOTE, Some("three")), (&a, NOTE, Some(&"x".repeat(9000)))]),
        Kind::Refused,
        7,
        "8191",
    );
    assert_eq!(tank.note(&a).unwrap(), "one\ntwo");

    // What is inherited is not the snapshot's own.
    tank.lzc.set_user(&[(&s, NOTE, None)]).unwrap();
    assert_eq!(tank.note(&s), None);
    tank.lzc.set_user(&[(&a, NOTE, None)]).unwrap();
    assert_eq!(tank.note(&a), None);

    // Somebody else's values, unencoded, that try to look like another dataset.
    sh(&format!("zfs set {NOTE}=\"$(printf 'x\\t\\n{none}\\ttype\\tfilesystem\\t-\\n\\xff%%')\" {a}"));
    assert_eq!(
        Libzfs::open().unwrap().below(&tank.at("ROOT"), Snapshots::All, &[NOTE, "org.bootenv:z"]).unwrap().len(),
        3
    );
    assert_eq!(tank.note(&a).unwrap(), format!("x\t\n{none}\ttype\tfilesystem\t-\n\u{fffd}%"));
}

#[test]
fn datasets_move_while_they_are_mounted() {
    let Some(tank) = tank("move") else { return };
    let a = tank.be("a");
    let mount = zfs::detached(&a, false).unwrap();
    write(&mount, "file", "before").unwrap();
    let s = tank.snap(format!("{a}@s"));
    let b = tank.at("ROOT/b");
    tank.lzc.clone(&s, &b, &[]).unwrap();
    let clone = zfs::detached(&b, false).unwrap();
    let guid = tank.one(&a).guid;
    let table = tank.mounts();

    let new = tank.at("ROOT/new");
    tank.lzc.rename(&a, &new).unwrap();
    write(&mount, "file", "after").unwrap();
    assert_eq!(read(&clone, "file"), "before");
    assert_eq!(tank.one(&new).guid, guid);
    tank.lzc.promote(&b).unwrap();
    assert_eq!(tank.one(&new).origin.unwrap(), format!("{b}@s"));
    assert_eq!(read(&mount, "file"), "after");
    // A rollback of what is mounted shows at once.
    let t = tank.snap(format!("{new}@t"));
    write(&mount, "file", "later").unwrap();
    tank.lzc.rollback_to(&new, &t).unwrap();
    assert_eq!(read(&mount, "file"), "after");
    tank.lzc.sync(&tank.name).unwrap();
    assert_eq!(tank.mounts(), table);

    // Promoting back meets a snapshot of the same name.
    tank.lzc.snapshot(&[&format!("{new}@s")], &[]).unwrap();
    let error = tank.lzc.promote(&new).unwrap_err();
    assert_eq!((error.kind, error.errno), (Kind::Refused, Some(17)));
    assert!(error.message.ends_with("both have a snapshot s"), "{error:?}");
    let error = tank.lzc.steps(&[], &[Step::Promote(&new)]).unwrap_err();
    assert!(error.message.ends_with("both have a snapshot s"), "{error:?}");
}

#[test]
fn steps_are_one_transaction() {
    let Some(tank) = tank("steps") else { return };
    let a = tank.be("a");
    let mount = zfs::detached(&a, false).unwrap();
    write(&mount, "file", "before").unwrap();
    let s = tank.snap(format!("{a}@s"));
    write(&mount, "file", "after").unwrap();

    // Mounted: the check says so, and nothing is done.
    let kept = format!("{a}@kept");
    let steps = [
        Step::Rollback(&a),
        Step::Snapshot(&kept),
        Step::RenameSnapshot(&a, "s", "first"),
        Step::Set(&a, NOTE, "back"),
    ];
    let error = tank.lzc.steps(&steps, &steps).unwrap_err();
    assert_eq!((error.kind, error.errno), (Kind::Busy, Some(16)));
    assert!(error.message.contains(&a) && error.message.starts_with("cannot roll back"), "{error:?}");
    // Unchecked, the snapshot is made before the rollback fails, and the error says so.
    let root = tank.at("ROOT");
    let error = tank.lzc.steps(&[], &[Step::Snapshot(&format!("{root}@made")), Step::Rollback(&a)]).unwrap_err();
    assert_eq!(error.kind, Kind::Busy, "{error:?}");
    assert!(error.message.starts_with("1 of 2 steps were done"), "{error:?}");
    assert!(tank.lzc.exists(&format!("{root}@made")).unwrap());

    drop(mount);
    tank.lzc.steps(&steps, &steps).unwrap();
    let mount = zfs::detached(&a, false).unwrap();
    assert_eq!(read(&mount, "file"), "before");
    assert_eq!(tank.note(&a).unwrap(), "back");
    assert!(!tank.lzc.exists(&s).unwrap() && tank.lzc.exists(&format!("{a}@first")).unwrap());
    drop(mount);

    // A clone takes the place of its origin.
    let b = tank.at("ROOT/b");
    tank.lzc.clone(&kept, &b, &[]).unwrap();
    tank.lzc.steps(&[Step::Promote(&b)], &[Step::Promote(&b), Step::Destroy(&a)]).unwrap();
    assert!(!tank.lzc.exists(&a).unwrap() && tank.lzc.exists(&format!("{b}@first")).unwrap());

    // Programs of one's own.
    let echo = "args = ...; return {args['n'] + 1, args['list']['texts'][2]}";
    let list = List::from([("texts".into(), Value::Texts(vec!["x".into(), "y".into()]))]);
    let args = List::from([("n".into(), Value::Int(41)), ("list".into(), Value::List(list))]);
    for result in [
        tank.lzc.program(&tank.name, echo, &args, Limits::default()),
        tank.lzc.program_nosync(&tank.name, echo, &args, Limits::default()),
    ] {
        let result = result.unwrap();
        let returned =
            result["return"].list().unwrap_or_else(|| panic!("{result:?}")).values().cloned().collect::<Vec<_>>();
        assert_eq!(returned, [Value::Int(42), Value::Text("y".into())]);
    }
    for (text, words) in
        [("error('no more')", "no more"), ("return +", "unexpected symbol"), ("while true do end", "instructions")]
    {
        let error = tank.lzc.program_nosync(&tank.name, text, &List::new(), Limits::default()).unwrap_err();
        assert!(error.kind == Kind::Failed && error.message.contains(words), "{error:?}");
    }
}

#[test]
fn errors_say_what_to_do() {
    let Some(tank) = tank("errors") else { return };
    let lzc = &tank.lzc;
    let a = tank.be("a");
    let s = tank.snap(format!("{a}@s"));
    let b = tank.at("ROOT/b");
    lzc.clone(&s, &b, &[]).unwrap();

    let mount = zfs::detached(&b, false).unwrap();
    fails(lzc.destroy(&b), Kind::Busy, 16, "findmnt");
    fails(lzc.steps(&[], &[Step::Destroy(&b)]), Kind::Busy, 16, "findmnt");
    drop(mount);
    fails(lzc.destroy(&a), Kind::Refused, 16, "snapshots first");
    fails(lzc.steps(&[], &[Step::Destroy(&a)]), Kind::Refused, 16, "snapshots first");
    fails(lzc.destroy(&tank.at("ROOT")), Kind::Refused, 17, "zfs list -r");
    fails(lzc.destroy_snaps(&[&s]), Kind::Refused, 17, "promote");
    fails(lzc.create(&a, &[]), Kind::Refused, 17, "another name");
    fails(lzc.clone(&s, &a, &[]), Kind::Refused, 17, "another name");
    fails(lzc.rename(&b, &a), Kind::Refused, 17, "another name");
    fails(lzc.snapshot(&[&s], &[]), Kind::Refused, 17, "another name");
    fails(lzc.create(&tank.at("ROOT/what?"), &[]), Kind::Refused, 22, "letters");
    fails(lzc.create(&tank.at("none/a"), &[]), Kind::NotFound, 2, "zfs list");
    fails(lzc.promote(&a), Kind::Refused, 22, "origin");
    fails(lzc.clone(&format!("{a}@none"), &tank.at("ROOT/c"), &[]), Kind::NotFound, 2, "zfs list");
    fails(lzc.snapshot(&[&format!("{b}@x"), &tank.at("ROOT/none@x")], &[]), Kind::NotFound, 2, "zfs list");
    assert!(!lzc.exists(&format!("{b}@x")).unwrap(), "all or none");
    let error = lzc.snapshot(&[&format!("{b}@x"), &s], &[]).unwrap_err();
    assert!(error.message.contains(&s), "the one that failed is named: {error:?}");
    fails(lzc.destroy(&tank.at("ROOT/none")), Kind::NotFound, 2, "zfs list");
    fails(lzc.rollback_to(&a, &format!("{a}@none")), Kind::NotFound, 3, "zfs list");
    let later = tank.snap(format!("{a}@later"));
    fails(lzc.rollback_to(&a, &s), Kind::Refused, 17, "later snapshots");

    sh(&format!("zfs hold keep {later}"));
    assert_eq!(lzc.holds(&later).unwrap(), ["keep"]);
    fails(lzc.destroy_snaps(&[&later]), Kind::Busy, 16, &format!("zfs release keep {later}"));
    fails(lzc.steps(&[], &[Step::Destroy(&later)]), Kind::Busy, 16, "zfs release keep");
    let mount = zfs::detached(&s, true).unwrap();
    fails(lzc.destroy_snaps(&[&s]), Kind::Busy, 16, "findmnt");
    drop(mount);

    // A pool that is not there, and one that is read-only.
    fails(lzc.create("low-absent/a", &[]), Kind::NotFound, 2, "zpool import");
    fails(lzc.sync("low-absent"), Kind::NotFound, 2, "zpool import");
    fails(lzc.set_user(&[("low-absent/a", NOTE, Some("x"))]), Kind::NotFound, 2, "zpool import");
    assert!(!lzc.exists("low-absent").unwrap());
    assert_eq!(zfs::detached("low-absent/a", false).unwrap_err().kind, Kind::NotFound);
    let error = Pool::read("low-absent").unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert_eq!(Libzfs::open().unwrap().below("low-absent/ROOT", Snapshots::All, &[]).unwrap_err().kind, Kind::NotFound);
    let pool = Pool::read(&tank.name).unwrap();
    let settings = Libzfs::open().unwrap().pool(&tank.name).unwrap();
    let guid = tank.one(&a).guid;
    assert_eq!(
        (pool.health.as_str(), settings.readonly, &settings.bootfs, &settings.altroot),
        ("ONLINE", false, &None, &None)
    );
    sh(&format!(
        "zpool set bootfs={a} {0}; zpool export {0}; zpool import -o readonly=on -R /alt -N -d '{1}' {0}",
        tank.name,
        tank.dir.path().display()
    ));
    let again = Pool::read(&tank.name).unwrap();
    let settings = Libzfs::open().unwrap().pool(&tank.name).unwrap();
    assert_eq!(
        (again.guid, settings.readonly, settings.bootfs.as_ref(), settings.altroot.as_deref()),
        (pool.guid, true, Some(&a), Some("/alt"))
    );
    assert_eq!(sh(&format!("zpool get -Hp -o value guid {}", tank.name)).trim(), pool.guid.to_string());
    assert_eq!(lzc.stats(&a).unwrap().unwrap().guid, guid);
    fails(lzc.create(&tank.at("ROOT/d"), &[]), Kind::Failed, 30, "read-write");
    fails(lzc.set_user(&[(&a, NOTE, Some("x"))]), Kind::Failed, 30, "read-write");
}

#[test]
fn mounts_are_read_only_without_changing_others() {
    let Some(tank) = tank("mounts") else { return };
    let a = tank.be("a");
    let written = zfs::detached(&a, false).unwrap();
    write(&written, "file", "x").unwrap();
    let readonly = zfs::detached(&a, true).unwrap();
    assert_eq!(write(&readonly, "file", "y"), Err(nix::errno::Errno::EROFS));
    write(&written, "file", "z").unwrap();
    assert_eq!(read(&readonly, "file"), "z");
    let s = tank.snap(format!("{a}@s"));
    let (one, two) = (zfs::detached(&s, false).unwrap(), zfs::detached(&s, true).unwrap());
    assert_eq!((read(&one, "file"), read(&two, "file")), ("z".into(), "z".into()));
    drop((written, readonly));

    // readonly=on: the filesystem is read-only unasked.
    zfs::set_native(&a, &[("readonly", "on")]).unwrap();
    assert!(tank.one(&a).readonly);
    let mounts: Vec<OwnedFd> = [false, false, true].map(|ro| zfs::detached(&a, ro).unwrap()).into();
    assert!(mounts.iter().all(|m| write(m, "file", "y") == Err(nix::errno::Errno::EROFS)));
    // Off takes effect at once.
    zfs::set_native(&a, &[("readonly", "off")]).unwrap();
    write(&mounts[0], "file", "y").unwrap();
    drop(mounts);

    // Somebody mounted it with `ro`: not to be written then, but to be read.
    let at = tank.dir.path().join("at");
    std::fs::create_dir(&at).unwrap();
    sh(&format!("mount -t zfs -o ro,zfsutil {a} '{}'", at.display()));
    fails(zfs::detached(&a, false), Kind::Busy, 16, "findmnt");
    zfs::detached(&a, true).unwrap();
    assert!(!tank.one(&a).readonly, "the property, not the mount");
    sh(&format!("umount '{}'", at.display()));
}

#[test]
fn properties_of_what_is_mounted_mount_nothing() {
    let Some(tank) = tank("native") else { return };
    let a = tank.be("a");
    let at = tank.dir.path().join("at");
    std::fs::create_dir(&at).unwrap();
    sh(&format!("mount -t zfs -o zfsutil {a} '{}'", at.display()));
    let table = tank.mounts();
    for (property, value) in
        [("canmount", "on"), ("mountpoint", "/mnt/elsewhere"), ("canmount", "noauto"), ("mountpoint", "/")]
    {
        zfs::set_native(&a, &[(property, value)]).unwrap();
        assert_eq!(tank.mounts(), table, "{property}={value}");
    }
    // How it is done before OpenZFS 2.2.
    sh(&format!("unshare --mount --propagation private -- zfs set canmount=on {a}"));
    sh(&format!("unshare --mount --propagation private -- zfs set canmount=noauto {a}"));
    assert_eq!(tank.mounts(), table);
    let set = tank.one(&a);
    assert_eq!((set.canmount, set.mountpoint.as_deref()), (Some(Canmount::Noauto), Some("/")));
    sh(&format!("umount '{}'", at.display()));
    assert_eq!(zfs::set_native(&tank.at("none"), &[("readonly", "on")]).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn keys_that_are_not_loaded() {
    let Some(tank) = tank("keys") else { return };
    let (secret, key) = (tank.at("secret"), tank.dir.path().join("key"));
    std::fs::write(&key, [7; 32]).unwrap();
    sh(&format!("zfs create -o encryption=on -o keyformat=raw -o keylocation='file://{}' {secret}", key.display()));
    let child = format!("{secret}/a");
    tank.lzc.create(&child, &[]).unwrap();
    sh(&format!("zfs unmount {secret} 2>/dev/null; zfs unload-key {secret}"));
    let error = zfs::detached(&child, false).unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|h| h.contains("zfs load-key")), "{error:?}");
    let error = tank.lzc.create(&format!("{secret}/b"), &[]).unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|h| h.contains("zfs load-key")), "{error:?}");
}
