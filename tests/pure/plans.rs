//! Inventory and request become a plan, or a refusal: every function of `ops`, every refusal.

use crate::rig::{
    Told, adopted, be, but, described, holding, id, image, name, once, running, sees, snap, snapshot_of, target,
    unknown,
};
use bootenv::domain::{Along, Asked, Heir, Inventory, Owner, Room, Sight, SnapName, Target, Zone, ZoneName, ZoneView};
use bootenv::error::Kind;
use bootenv::ops::{self, Activate, Clear, Create, CreateZone, Destroy, Elsewhere, Init, Origin, Problems, ZoneOrigin};
use std::collections::HashMap;

fn new(text: &str) -> Create {
    Create { name: Some(target(text)), ..Create::default() }
}

fn from(source: &str, text: &str) -> Create {
    Create { source: Some(target(source)), ..new(text) }
}

#[test]
fn create() {
    let told = &mut Told::default();
    let image = image();
    let on = |inventory: &Inventory, request: &Create| ops::create(inventory, request);
    told.case("from what is active on reboot", on(&image, &new("red")));
    told.case("from what runs, if something does", on(&running(image.clone(), "blue"), &new("red")));
    told.case("from another", on(&image, &from("blue", "red")));
    told.case("from a snapshot", on(&image, &from("default@one", "red")));
    let text = Some("it's new".to_string());
    told.case("described", on(&image, &Create { description: text.clone(), ..new("red") }));
    told.case("activated", on(&image, &Create { activate: Activate::Default, ..new("red") }));
    told.case(
        "activated once, described, from a snapshot",
        on(&image, &Create { activate: Activate::Once, description: text.clone(), ..from("default@one", "red") }),
    );
    let old = holding(vec![adopted("rootfs", "@rootfs", 7)], "rootfs");
    told.case("from an adopted root", on(&old, &new("red")));
    let mut only = holding(vec![be("lonely", 1)], "gone");
    only.next.default = None;
    told.case("from the only one there is", on(&only, &new("red")));

    told.case("unnamed", on(&image, &Create::default()));
    let numbered =
        holding(vec![be("default", 1), be("default-1", 2), be("default-7", 3), be("default-x", 4)], "default-7");
    told.case("unnamed: one more than the highest number", on(&numbered, &Create::default()));
    let dated = holding(vec![be("2026-01", 1)], "2026-01");
    told.case("unnamed, from a name that ends in a number", on(&dated, &Create::default()));

    told.case("a snapshot", on(&image, &new("blue@one")));
    told.case("a described snapshot", on(&image, &Create { description: text, ..new("blue@one") }));
    crate::snapshot!("create", told.all());
}

#[test]
fn create_refused() {
    let told = &mut Told::default();
    let image = image();
    let on = |inventory: &Inventory, request: &Create| ops::create(inventory, request);
    told.case("it exists", on(&image, &new("blue")));
    told.case("no such source", on(&image, &from("nosuch", "red")));
    told.case("no such snapshot", on(&image, &from("default@nosuch", "red")));
    told.case("the source has no snapshots", on(&image, &from("blue@one", "red")));
    let mut nothing = image.clone();
    nothing.next.default = None;
    told.case("nothing to copy by default", on(&nothing, &new("red")));
    let long = "n".repeat(250);
    told.case("no room for a number", on(&holding(vec![be(&long, 1)], &long), &Create::default()));
    let text = Some("x".repeat(1025));
    told.case("the description is too long", on(&image, &Create { description: text.clone(), ..new("red") }));
    told.case("so is the snapshot's", on(&image, &Create { description: text, ..new("blue@one") }));
    told.case("the snapshot exists", on(&image, &new("default@one")));
    told.case("a snapshot of nothing", on(&image, &new("nosuch@one")));
    told.case("a snapshot from elsewhere", on(&image, &from("green", "blue@one")));
    told.case("an activated snapshot", on(&image, &Create { activate: Activate::Default, ..new("blue@one") }));
    let old = holding(vec![adopted("rootfs", "@rootfs", 7)], "rootfs");
    told.case("a snapshot of an adopted root", on(&old, &new("rootfs@one")));
    let none = holding(Vec::new(), "gone");
    told.case("an empty store", on(&none, &from("default", "red")));
    crate::snapshot!("create_refused", told.all());
}

#[test]
fn the_source_of_a_creation() {
    let image = image();
    let source = |request: &Create| ops::source_of(&image, request).unwrap().to_string();
    assert_eq!(source(&new("red")), "default");
    assert_eq!(source(&from("blue", "red")), "blue");
    assert_eq!(source(&from("default@one", "red")), "default");
}

#[test]
fn activate() {
    let told = &mut Told::default();
    let image = image();
    // Whether it has a kernel, and whether its menu entry says what is in it.
    let (fine, stale, hollow) = ((true, true), (true, false), (false, true));
    let mut on = |what: &str, inventory: &Inventory, be: &str, once: bool, (bootable, current): (bool, bool)| {
        match ops::activate(inventory, &name(be), once, bootable, current) {
            Ok(Clear::Already) => told.text(what, "already so"),
            Ok(Clear::Plan(plan)) => told.case(what, Ok(*plan)),
            Err(e) => told.case(what, Err(e)),
        };
    };
    on("from now on", &image, "blue", false, fine);
    on("once", &image, "blue", true, fine);
    on("from now on, over a one-shot", &once(image.clone(), "green"), "blue", false, fine);
    on("the default again, over a one-shot", &once(image.clone(), "green"), "default", false, fine);
    let mut before = image.clone();
    before.next.asked.previous = Some("green".into());
    on("the default before stays what is fallen back to", &before, "blue", false, fine);
    on("already the default", &image, "default", false, fine);
    on("already the one-shot", &once(image.clone(), "blue"), "blue", true, fine);
    on("already the default, its entry out of date", &image, "default", false, stale);
    on("no kernel", &image, "blue", false, hollow);
    on("no such BE", &image, "nosuch", true, fine);
    crate::snapshot!("activate", told.all());
}

#[test]
fn activate_clear() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: &Inventory, be: &str| {
        match ops::clear_once(inventory, &name(be)) {
            Ok(Clear::Already) => told.text(what, "already so"),
            Ok(Clear::Plan(plan)) => told.case(what, Ok(*plan)),
            Err(e) => told.case(what, Err(e)),
        };
    };
    on("the one-shot", &once(image(), "blue"), "blue");
    on("another is the one-shot", &once(image(), "blue"), "green");
    on("none is", &image(), "blue");
    on("no such BE", &image(), "nosuch");
    crate::snapshot!("activate_clear", told.all());
}

fn gone(text: &str) -> Destroy {
    Destroy { targets: text.split(' ').map(target).collect(), ..Destroy::default() }
}

#[test]
fn destroy() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: &Inventory, request: Destroy| {
        told.case(what, ops::destroy(inventory, &request));
    };
    on("a BE", &image(), gone("green"));
    on("a described BE", &image(), gone("blue"));
    let mut other = image();
    other.next.default = Some("blue".into());
    let other = but(other, "green", |b| b.parent_uuid = None);
    on("with its snapshots", &other, Destroy { snapshots: true, ..gone("default") });
    on("with the snapshot it came from", &image(), Destroy { origin: true, ..gone("green") });
    on("it came from no snapshot", &image(), Destroy { origin: true, ..gone("blue") });
    on("a snapshot", &but(image(), "green", |b| b.parent_uuid = None), gone("default@one"));
    on("a described snapshot", &image(), gone("default@two"));
    let both = holding(vec![adopted("rootfs", "@rootfs", 7), be("default", 1)], "default");
    on("an adopted root", &both, gone("rootfs"));
    let back = but(image(), "default", |b| b.parent_uuid = Some(id(12)));
    on("a snapshot that its own BE was rolled back to", &back, gone("default@two"));
    let mut other = image();
    other.next.default = Some("green".into());
    let family = but(other.clone(), "green", |b| b.parent_uuid = None);
    on("several, what came from another first", &family, Destroy { snapshots: true, ..gone("default blue default") });
    on("a BE and snapshots", &image(), gone("default@two green default@one"));
    let heirs = [("one", "green"), ("", "blue")].map(|(snapshot, to)| Heir {
        to: format!("ROOT/{to}"),
        snapshot: Some(snapshot.to_string()).filter(|s| !s.is_empty()),
    });
    let heirs = HashMap::from([(name("default"), heirs.to_vec())]);
    on("others take over what they came from", &other, Destroy { snapshots: true, heirs, ..gone("default") });
    crate::snapshot!("destroy", told.all());
}

#[test]
fn destroy_refused() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: &Inventory, request: Destroy| {
        told.case(what, ops::destroy(inventory, &request));
    };
    on("no such BE", &image(), gone("nosuch"));
    on("no such snapshot", &image(), gone("default@nosuch"));
    on("it runs", &running(image(), "blue"), gone("blue"));
    on("it is the only one", &holding(vec![be("default", 1)], "default"), gone("default"));
    on("it is active on reboot", &image(), gone("default"));
    on("it is active for the next boot", &once(image(), "blue"), gone("blue"));
    on("what boots next cannot be seen", &unknown(image()), gone("blue"));
    on("it is mounted", &but(image(), "blue", |b| b.mountpoints = vec!["/mnt".into()]), gone("blue"));
    on(
        "it is mounted elsewhere",
        &image(),
        Destroy { mounted_elsewhere: [(name("blue"), "/srv/x".into())].into(), ..gone("blue") },
    );
    let both = holding(vec![adopted("toplevel", "", 7), be("default", 1)], "default");
    on("it is the top of the store", &both, gone("toplevel"));
    let mut other = image();
    other.next.default = Some("blue".into());
    on("it has snapshots", &other, gone("default"));
    on("others came from one of them", &other, Destroy { snapshots: true, ..gone("default") });
    on("a snapshot that another came from", &image(), gone("default@one"));
    let twins = but(image(), "blue", |b| b.parent_uuid = Some(id(11)));
    on("another came from its origin too", &twins, Destroy { origin: true, ..gone("green") });
    on("no BE would be left", &holding(vec![be("a", 1), be("b", 2)], "c"), gone("a b"));
    on("one of several cannot go", &image(), gone("green default"));
    on("options that are for BEs", &image(), Destroy { snapshots: true, ..gone("default@one") });
    crate::snapshot!("destroy_refused", told.all());
}

#[test]
fn rename() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: &Inventory, from: &str, to: &str| {
        told.case(what, ops::rename(inventory, &name(from), &name(to)));
    };
    on("a described BE", &image(), "blue", "red");
    on("the default, with snapshots", &image(), "default", "red");
    let mut every = once(image(), "blue");
    every.next.asked.previous = Some("blue".into());
    on("the one-shot, that was the default before", &every, "blue", "red");
    on("what runs", &running(image(), "blue"), "blue", "red");

    on("no such BE", &image(), "nosuch", "red");
    on("onto one that exists", &image(), "blue", "green");
    on("onto itself", &image(), "blue", "blue");
    on("what boots next cannot be seen", &unknown(image()), "blue", "red");
    on("an adopted root", &holding(vec![adopted("rootfs", "@rootfs", 7)], "rootfs"), "rootfs", "red");
    let monday = but(image(), "default", |b| snapshot_of(b, "monday", 13));
    on("a snapshot's name would be too long", &monday, "default", &"n".repeat(250));
    crate::snapshot!("rename", told.all());

    let told = &mut Told::default();
    let mut on = |what: &str, inventory: Inventory, from: &str| {
        told.case(what, ops::rename(&inventory, &name(from), &name("red")));
    };
    on("the default, by identity", sees(image(), Sight::Identity), "default");
    on("another, by identity", sees(image(), Sight::Identity), "blue");
    on("another", sees(image(), Sight::Nothing), "blue");
    on("the default", sees(image(), Sight::Nothing), "default");
    on("the one-shot", sees(once(image(), "blue"), Sight::Nothing), "blue");
    crate::snapshot!("rename_unseen", told.all());
}

#[test]
fn describe() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: &Inventory, be: &str, text: &str| {
        told.case(what, ops::describe(inventory, &target(be), text));
    };
    on("a BE", &image(), "green", "it's new");
    on("a BE that is described", &image(), "blue", "other");
    on("no longer", &image(), "blue", "");
    on("a snapshot", &image(), "default@one", "x");
    on("a snapshot no longer", &image(), "default@two", "");
    let known = but(image(), "green", |b| {
        b.facts.rest.insert("later".into(), toml::Value::Boolean(true));
    });
    on("what else is known stays", &known, "green", "x");

    on("too long", &image(), "blue", &"x".repeat(1025));
    on("no such BE", &image(), "nosuch", "x");
    on("no such snapshot", &image(), "blue@nosuch", "x");
    crate::snapshot!("describe", told.all());
}

#[test]
fn rollback() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: &Inventory, be: &str, to: &str| {
        told.case(what, ops::rollback(inventory, &name(be), &snap(to), &Elsewhere::default(), true));
    };
    on("a BE", &image(), "default", "one");
    let known = but(image(), "default", |b| b.facts = described("the one"));
    on("its description stays", &known, "default", "one");

    on("it runs", &running(image(), "default"), "default", "one");
    on("it is mounted", &but(image(), "default", |b| b.mountpoints = vec!["/mnt".into()]), "default", "one");
    on("no such BE", &image(), "nosuch", "one");
    on("no such snapshot", &image(), "default", "nosuch");
    on("no snapshots", &image(), "blue", "one");
    let elsewhere = Elsewhere { be: Some("/srv/x".into()), ..Elsewhere::default() };
    told.case("mounted elsewhere", ops::rollback(&image(), &name("default"), &snap("one"), &elsewhere, true));
    crate::snapshot!("rollback", told.all());

    let told = &mut Told::default();
    let mut on = |what: &str, inventory: Inventory, to: &str, same_kernel| {
        told.case(what, ops::rollback(&inventory, &name("default"), &snap(to), &Elsewhere::default(), same_kernel));
    };
    on("what boots next, with the same kernel", sees(image(), Sight::Identity), "one", true);
    on("what boots next, with another kernel", sees(image(), Sight::Identity), "one", false);
    on("what boots next, by its place, with the same kernel", sees(image(), Sight::Nothing), "one", true);
    let mut other = sees(image(), Sight::Nothing);
    other.next.default = Some("blue".into());
    on("what does not boot next, with another kernel", other, "one", false);
    on("what boots next cannot be seen", sees(unknown(image()), Sight::Identity), "one", true);
    crate::snapshot!("rollback_unseen", told.all());
}

#[test]
fn init() {
    let told = &mut Told::default();
    let mut on = |what: &str, inventory: Option<&Inventory>, called: &str, origin: Origin| {
        told.case(what, ops::init(inventory, &Init { name: name(called), origin, description: None }));
    };
    let tree = || Origin::Tree("/srv/root.tar".into());
    on("from a tar, on a new store", None, "default", tree());
    on("adopting a subvolume", None, "default", Origin::Found("@rootfs".into()));
    on("adopting one that has the wanted name", None, "root", Origin::Found("root".into()));
    on("adopting the top of the store", None, "default", Origin::Found(String::new()));
    on("adopting one deep down, with an odd name", None, "default", Origin::Found("@/.snapshots/1 x/snapshot".into()));
    on("adopting one whose name holds nothing usable", None, "default", Origin::Found("@".into()));
    on("from a tar, beside others", Some(&image()), "second", tree());
    on(
        "adopting again what was adopted",
        Some(&holding(vec![adopted("rootfs", "@rootfs", 7)], "rootfs")),
        "default",
        Origin::Found("@rootfs".into()),
    );
    on("it exists", Some(&image()), "default", tree());
    let described = Init { name: name("default"), origin: tree(), description: Some("a test".into()) };
    told.case("described", ops::init(None, &described));
    crate::snapshot!("init", told.all());
}

#[test]
fn repair_and_renew() {
    let told = &mut Told::default();
    let image = image();
    told.case("nothing is wrong", Ok(ops::repair(&image, &Problems::default())));
    let problems = Problems {
        unclaimed: vec![("ROOT/default@.bootenv-0".into(), uuid::Uuid::from_u128(9))],
        damaged: vec!["store.toml".into()],
        gone: vec!["rootfs".into()],
        stale: vec!["blue".into()],
        orphans: vec!["facts/x.toml".into()],
        placeless: vec!["default".into()],
        unreadable: vec!["blue: /etc/bootenv.toml does not parse".into()],
    };
    let mut hollow = holding(vec![adopted("rootfs", "@rootfs", 7), be("default", 1)], "default");
    hollow.shared = false;
    told.case("everything is", Ok(ops::repair(&hollow, &problems)));
    let blue = image.find(&name("blue")).unwrap();
    told.case("a renewed entry", Ok(ops::renew(&image, blue)));
    let mut missing = image.clone();
    missing.menu.entries.clear();
    told.case("an entry that was missing", Ok(ops::renew(&missing, blue)));
    crate::snapshot!("repair_and_renew", told.all());
}

/// Requests are pure: what they are given does not change, and the same request gives the same plan, but for its identity.
#[test]
fn the_same_request_gives_the_same_plan() {
    let image = image();
    let (a, b) = (ops::create(&image, &new("red")).unwrap(), ops::create(&image, &new("red")).unwrap());
    assert_ne!(a.id, b.id);
    assert!(a.steps().eq(b.steps()));
}

/// Which names an inventory finds, and what a BE came from.
#[test]
fn origins() {
    let mut inventory = image();
    let origin = |inventory: &Inventory, be: &str| inventory.origins().get(&name(be)).map(Target::to_string);
    assert_eq!(origin(&inventory, "default"), None);
    assert_eq!(origin(&inventory, "green").as_deref(), Some("default@one"));
    assert_eq!(origin(&inventory, "blue").as_deref(), Some("default"));
    inventory.bes.remove(0);
    assert_eq!(origin(&inventory, "blue"), None, "its parent is gone");
    let mut child = be("child", 9);
    child.parent_uuid = Some(id(2));
    snapshot_of(&mut child, "s", 91);
    inventory.bes.push(child);
    assert_eq!(inventory.clones_of(id(2)).len(), 1);
    assert_eq!(inventory.next.asked, Asked { default: Some("default".into()), ..Asked::default() });
}

/// As in a pool: what is nested needs room, and so do the store's own snapshots and the name that a BE has while it is aside.
#[test]
fn names_leave_room_for_what_comes_after() {
    let mut store = image().store;
    store.room = Room { whole: 100, own: 29, aside: 46, nested: true };
    let nested = ["srv".to_string(), "var/lib".to_string()];
    for (length, snap, nested) in [
        // A BE: 100 - 29, and less by `/var/lib`.
        (71, None, &[][..]),
        (63, None, &nested),
        // `a@...`, while `a` is called something of 46 bytes.
        (1, Some(55 - 2), &[]),
        (1, Some(47 - 2), &nested),
        // A longer name stays as long.
        (60, Some(100 - 61), &[]),
    ] {
        let held = |be: usize, more: usize| {
            let snap = snap.map(|s| SnapName::parse(&"s".repeat(s + more)).unwrap());
            store.must_hold(&name(&"n".repeat(be)), snap.as_ref(), nested)
        };
        held(length, 0).unwrap();
        let error = held(length + usize::from(snap.is_none()), 1).unwrap_err();
        let most = length + snap.map_or(0, |s| 1 + s);
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.message.contains("too long") && error.hint.unwrap().contains(&format!("at most {most} bytes")));
    }
    // On Btrfs each is a directory entry of its own.
    image().store.must_hold(&name(&"n".repeat(250)), Some(&SnapName::parse("four").unwrap()), &nested).unwrap();
}

fn zone(text: &str) -> ZoneName {
    ZoneName::parse(text).unwrap()
}

fn destroyed(names: &[&str]) -> Destroy {
    Destroy { targets: names.iter().map(|name| target(name)).collect(), ..Destroy::default() }
}

fn zone_request(origin: ZoneOrigin) -> CreateZone {
    CreateZone {
        zone: zone("web"),
        brand: "nspawn".into(),
        attached: true,
        origin,
        be: name("default"),
        description: None,
    }
}

/// The image as it looks from the zone `web`, whose zone BEs those are.
fn from_web() -> Inventory {
    let mut inside = image();
    inside.bes.iter_mut().for_each(|be| be.facts.parent = Some(id(100)));
    let owner = Owner { name: name("host"), uuid: id(100), path: "ROOT/host".into() };
    inside.zone = Some(ZoneView {
        hosts: vec![(name("host"), id(100)), (name("other"), id(101))],
        ..ZoneView::new(zone("web"), Some(owner))
    });
    inside
}

#[test]
fn zones() {
    let told = &mut Told::default();
    let image = image();
    let owner = Owner { name: name("blue"), uuid: id(2), path: "ROOT/blue".into() };
    let tree = zone_request(ZoneOrigin::Tree("/srv/web.tar".into()));
    let text = Some("it's new".to_string());
    told.case("from a tar", ops::create_zone(&image, Some(&owner), &tree));
    let described = CreateZone { description: text, attached: false, ..tree.clone() };
    told.case("described, detached", ops::create_zone(&image, Some(&owner), &described));
    let dataset = zone_request(ZoneOrigin::Dataset("zones/db/ROOT/data".into()));
    told.case("from another zone", ops::create_zone(&image, Some(&owner), &dataset));
    let mut bound = image.clone();
    bound.store.clones_stand_alone = false;
    told.case("where clones depend on each other", ops::create_zone(&bound, Some(&owner), &dataset));
    told.case("with no BE of the host", ops::create_zone(&image, None, &tree));
    let long = CreateZone { description: Some("x".repeat(5000)), ..tree.clone() };
    told.case("described at length", ops::create_zone(&image, Some(&owner), &long));

    let settings = Zone::new("nspawn", true);
    assert_eq!(ops::attach(&zone("web"), &settings, true), None);
    told.case("detached", Ok(ops::attach(&zone("web"), &settings, false).unwrap()));
    assert_eq!(ops::autostart(&zone("web"), &settings, false), None);
    told.case("started with the host", Ok(ops::autostart(&zone("web"), &settings, true).unwrap()));
    let detached = Zone { attached: false, ..settings.clone() };
    told.case("started with the host, detached", Ok(ops::autostart(&zone("web"), &detached, true).unwrap()));
    told.case("destroyed", ops::destroy_zone(&zone("web"), &settings, Some(&from_web())));
    told.case("destroyed, with its place gone", ops::destroy_zone(&zone("web"), &settings, None));
    let pinned = but(from_web(), "blue", |be| be.facts.pinned = true);
    told.case("destroyed with something pinned", ops::destroy_zone(&zone("web"), &settings, Some(&pinned)));
    let mounted = but(from_web(), "green", |be| be.mountpoints = vec!["/mnt".into()]);
    told.case("destroyed with something mounted", ops::destroy_zone(&zone("web"), &settings, Some(&mounted)));

    told.case("in a zone: create", ops::create(&from_web(), &new("red")));
    let not_bootable = ops::activate(&from_web(), &name("blue"), false, false, true).map(|_| unreachable!());
    told.case("in a zone: activate what has no init", not_bootable);

    let foreign = |due: &str| {
        let mut inside = but(from_web(), "blue", |be| be.facts.parent = Some(id(101)));
        let runs = Asked { default: Some(due.into()), ..Asked::default() };
        inside.zone.as_mut().unwrap().runs.insert(id(101), runs);
        inside
    };
    let activated = |inside: &Inventory| match ops::activate(inside, &name("blue"), false, true, true)? {
        Clear::Plan(plan) => Ok(*plan),
        Clear::Already => unreachable!(),
    };
    told.case("of another BE of the host: activate", activated(&foreign("none")));
    told.case("of another BE of the host: destroy", ops::destroy(&foreign("none"), &destroyed(&["blue"])));
    told.case("run by another BE of the host: destroy", ops::destroy(&foreign("blue"), &destroyed(&["blue"])));
    told.case("run by another BE of the host: rename", ops::rename(&foreign("blue"), &name("blue"), &name("red")));
    let orphan = but(from_web(), "blue", |be| be.facts.parent = Some(id(102)));
    told.case("of no BE of the host: activate", activated(&orphan));
    told.case("of no BE of the host: destroy", ops::destroy(&orphan, &destroyed(&["blue"])));
    crate::snapshot!("zones", told.all());
}

/// The image with the zones `db` and `web`, attached, and `apart`, which is not. Each has the zone BEs `default` and `blue`, which belong
/// to the BEs of the host of these names and run with them, and `default@one`, which goes with that of the host.
fn with_zones() -> Inventory {
    let along = |called: &str| {
        let mut default = be("default", 201);
        default.facts.parent = Some(id(1));
        snapshot_of(&mut default, "one", 211);
        default.snapshots[0].facts.parent = Some(id(11));
        let mut blue = be("blue", 202);
        blue.facts.parent = Some(id(2));
        let mut inside = holding(vec![default, blue], "default");
        inside.zone = Some(ZoneView::new(zone(called), None));
        let run = |name: &str| Asked { default: Some(name.into()), ..Asked::default() };
        let runs = [(id(1), run("default")), (id(2), run("blue"))].into();
        Along { name: zone(called), attached: called != "apart", runs, inside }
    };
    Inventory { zones: ["apart", "db", "web"].map(along).into(), ..image() }
}

/// The same, with one thing changed in the zone `web`.
fn but_in_web(change: impl FnOnce(&mut Along)) -> Inventory {
    let mut inventory = with_zones();
    change(&mut inventory.zones[2]);
    inventory
}

#[test]
fn zones_along() {
    let told = &mut Told::default();
    let on = |inventory: &Inventory, request: &Create| ops::create(inventory, request);
    told.case("create", on(&with_zones(), &Create { description: Some("text".into()), ..new("red") }));
    told.case("create, activated", on(&with_zones(), &Create { activate: Activate::Default, ..new("red") }));
    told.case("create from another", on(&with_zones(), &from("blue", "red")));
    told.case("create, with nothing to copy", on(&with_zones(), &from("green", "red")));
    told.case("create from a snapshot", on(&with_zones(), &from("default@one", "red")));
    told.case("create from a snapshot, with nothing to copy", on(&with_zones(), &from("default@two", "red")));
    let taken = but_in_web(|web| web.inside.bes.push(be("red", 203)));
    told.case("create a name that is taken", on(&taken, &new("red")));
    let nested = but_in_web(|web| {
        web.inside.store.room = Room { whole: 20, own: 10, aside: 0, nested: true };
        web.inside.bes[0].nested = vec!["srv".into()];
    });
    told.case("create a name that is too long there", on(&nested, &new("rather-red")));
    told.case("snapshot", on(&with_zones(), &new("blue@one")));
    told.case(
        "snapshot, described",
        on(&with_zones(), &Create { description: Some("text".into()), ..new("blue@one") }),
    );
    let destroy = |inventory: &Inventory, names: &[&str], snapshots: bool| {
        ops::destroy(inventory, &Destroy { snapshots, ..destroyed(names) })
    };
    told.case("destroy", destroy(&with_zones(), &["blue"], false));
    let pinned = but_in_web(|web| web.inside.bes[1].facts.pinned = true);
    told.case("destroy with something pinned", destroy(&pinned, &["blue"], false));
    let mounted = but_in_web(|web| web.inside.bes[1].mountpoints = vec!["/mnt".into()]);
    told.case("destroy with something mounted", destroy(&mounted, &["blue"], false));
    let elsewhere = Destroy { mounted_elsewhere: [(name("blue"), "/srv".into())].into(), ..Destroy::default() };
    let request = Destroy { zones: [(zone("web"), elsewhere)].into(), ..destroyed(&["blue"]) };
    told.case("destroy with something in use", ops::destroy(&with_zones(), &request));
    let shared = but_in_web(|web| {
        web.runs.insert(id(3), Asked { default: Some("blue".into()), ..Asked::default() });
    });
    told.case("destroy with something that another runs", destroy(&shared, &["blue"], false));
    let with_snapshot = but_in_web(|web| snapshot_of(&mut web.inside.bes[1], "mine", 220));
    told.case("destroy with a snapshot", destroy(&with_snapshot, &["blue"], false));
    told.case("destroy with snapshots", destroy(&with_snapshot, &["blue"], true));
    let without_green = Inventory { bes: with_zones().bes.into_iter().take(2).collect(), ..with_zones() };
    told.case("destroy a snapshot", destroy(&without_green, &["default@one"], false));
    let came =
        Inventory { bes: without_green.bes.clone(), ..but_in_web(|web| web.inside.bes[1].parent_uuid = Some(id(211))) };
    told.case("destroy a snapshot that a zone BE came from", destroy(&came, &["default@one"], false));
    let rollback = |inventory: &Inventory, to: &str, elsewhere: &Elsewhere| {
        ops::rollback(inventory, &name("default"), &snap(to), elsewhere, true)
    };
    let nowhere = Elsewhere::default();
    told.case("rollback", rollback(&with_zones(), "one", &nowhere));
    told.case("rollback, with no snapshot", rollback(&with_zones(), "two", &nowhere));
    let another =
        but_in_web(|web| drop(web.runs.insert(id(1), Asked { default: Some("blue".into()), ..Asked::default() })));
    told.case("rollback of what does not run any more", rollback(&another, "one", &nowhere));
    let in_use = Elsewhere { zones: [(zone("web"), "/srv".into())].into(), ..Elsewhere::default() };
    told.case("rollback of what is in use", rollback(&with_zones(), "one", &in_use));
    crate::snapshot!("zones_along", told.all());
}
