//! What comes over a zone's socket may be anything: whoever sends it has an answer or none, and nothing else changes.

use crate::lab::inside::{Connection, Service, become_a_process_of};
use crate::lab::{Lab, Print};
use crate::zone_verbs::two_zones;
use serde_json::{Value, json};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// A laboratory with the service of `web`, in whose control group this process is.
fn served() -> (Lab, Service) {
    let lab = two_zones();
    let web = lab.serve("web");
    become_a_process_of("web");
    (lab, web)
}

fn error(reply: &Value) -> &str {
    reply["error"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

/// The next reply, told some bytes on a connection of its own; nothing if it has only ended.
fn told(web: &Service, bytes: &[u8]) -> Option<Value> {
    let mut connection = web.connect();
    let _ = connection.send_bytes(bytes);
    let _ = connection.stream.shutdown(Shutdown::Write);
    connection.reply()
}

#[test]
fn what_can_be_called_is_told() {
    let (_lab, web) = served();
    let info = web.call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["interfaces"], json!(["io.bootenv", "org.varlink.service"]));
    assert_eq!(info["parameters"]["version"], env!("CARGO_PKG_VERSION"));
    for interface in ["io.bootenv", "org.varlink.service"] {
        let told = web.call("org.varlink.service.GetInterfaceDescription", json!({"interface": interface}));
        let text = told["parameters"]["description"].as_str().unwrap();
        assert!(text.contains(&format!("\ninterface {interface}\n")), "{text}");
    }
    let shipped = include_str!("../../src/varlink/io.bootenv.varlink");
    let told = web.call("org.varlink.service.GetInterfaceDescription", json!({"interface": "io.bootenv"}));
    assert_eq!(told["parameters"]["description"], shipped);
    for (method, parameters, expected) in [
        ("org.varlink.service.GetInterfaceDescription", json!({"interface": "io.other"}), "InterfaceNotFound"),
        ("org.varlink.service.GetInterfaceDescription", json!({}), "InvalidParameter"),
        ("org.varlink.service.GetInterfaceDescription", json!({"interface": 1}), "InvalidParameter"),
        ("org.varlink.service.Nothing", json!({}), "MethodNotFound"),
        ("io.bootenv.Mount", json!({}), "MethodNotFound"),
        ("io.bootenv.list", json!({}), "MethodNotFound"),
        ("io.bootenv.", json!({}), "MethodNotFound"),
        ("io.bootenv.List.x", json!({}), "InterfaceNotFound"),
        ("io.systemd.Machine.List", json!({}), "InterfaceNotFound"),
        ("List", json!({}), "MethodNotFound"),
        ("", json!({}), "MethodNotFound"),
    ] {
        let reply = web.call(method, parameters);
        assert_eq!(error(&reply), format!("org.varlink.service.{expected}"), "{method}");
    }
}

/// Every key of a reply is in the description of the type that it is of.
#[test]
fn what_is_told_is_what_is_described() {
    let (lab, web) = served();
    lab.in_zone("web", &["create", "-d", "text", "blue"]).ok();
    std::fs::write(lab.zone_files("web", "ROOT/blue/etc/colour"), "blue\n").unwrap();
    let described = include_str!("../../src/varlink/io.bootenv.varlink");
    let body = |of: &str| {
        let (_, rest) = described.split_once(&format!("\n{of}")).unwrap_or_else(|| panic!("{of}"));
        rest.split("\n)").next().unwrap().to_string()
    };
    let fits = |value: &Value, body: &str| {
        for (key, value) in value.as_object().unwrap() {
            let (_, rest) = body.split_once(&format!(" {key}: ")).unwrap_or_else(|| panic!("{key} is not in {body}"));
            assert!(!value.is_null() || rest.starts_with('?'), "{key} may not be null");
        }
    };
    let call =
        |method: &str, parameters: Value| web.call(&format!("io.bootenv.{method}"), parameters)["parameters"].take();
    let list = call("List", json!({}));
    fits(&list, &body("method List"));
    let be = &list["boot_environments"][1];
    fits(be, &body("type BootEnvironment"));
    fits(&be["boot"], &body("type Boot "));
    fits(&list["store"], &body("type Store"));
    fits(&call("Status", json!({})), &body("method Status"));
    for (method, parameters) in [
        ("Create", json!({"name": "red"})),
        ("Create", json!({"name": "blue@one", "description": "text"})),
        ("Activate", json!({"name": "blue"})),
        ("Activate", json!({"name": "blue", "dry_run": true})),
        ("Destroy", json!({"names": ["red"], "dry_run": true})),
        ("Destroy", json!({"names": ["red"]})),
        ("Rename", json!({"old": "blue", "new": "green"})),
        ("Describe", json!({"name": "green", "text": ""})),
        ("Pin", json!({"names": ["green"], "pinned": true})),
        ("Rollback", json!({"snapshot": "green@one"})),
        ("DiffPackages", json!({"old": "default", "new": "green"})),
    ] {
        fits(&call(method, parameters), &body(&format!("method {method}")));
    }
    fits(&call("List", json!({}))["boot_environments"][1]["snapshots"][0], &body("type Snapshot"));
    let mut connection = web.connect();
    connection.send(
        &json!({"method": "io.bootenv.Diff", "parameters": {"old": "default", "new": "green@one"}, "more": true}),
    );
    let reply = connection.reply().unwrap();
    fits(&reply["parameters"], &body("method Diff"));
    fits(&reply["parameters"]["files"][0], &body("type Difference"));
}

#[test]
fn files_come_in_as_many_replies_as_they_need() {
    let (lab, web) = served();
    lab.in_zone("web", &["create", "blue"]).ok();
    let etc = lab.zone_files("web", "ROOT/blue/etc");
    (0..1203).for_each(|n| std::fs::write(etc.join(format!("{n:04}")), "").unwrap());
    let call = json!({"method": "io.bootenv.Diff", "parameters": {"old": "default", "new": "blue"}});
    let mut connection = web.connect();
    connection.send(&call);
    assert_eq!(error(&connection.reply().unwrap()), "org.varlink.service.ExpectedMore");
    let mut call = call;
    call["more"] = true.into();
    connection.send(&call);
    let mut files = Vec::new();
    let mut replies = 0;
    loop {
        let reply = connection.reply().unwrap();
        replies += 1;
        files.extend(reply["parameters"]["files"].as_array().unwrap().clone());
        if reply["continues"] != true {
            break;
        }
    }
    assert_eq!((replies, files.len()), (3, 1203));
    assert_eq!(files[7], json!({"path": "/etc/0007", "change": "added"}));
    // One that goes away in the middle is missed by nobody.
    connection.send(&call);
    drop(connection);
    assert!(web.call("io.bootenv.List", json!({}))["error"].is_null());
    let told = web.admin(&["diff", "default", "blue"]).ok().stdout;
    assert_eq!(told.lines().count(), 1203);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (lab, web) = served();
    lab.in_zone("web", &["create", "blue"]).ok();
    let before = lab.print();
    let usage = |bytes: &[u8]| {
        let reply = told(&web, bytes).unwrap_or_else(|| panic!("no reply: {:.80}", String::from_utf8_lossy(bytes)));
        assert_eq!(error(&reply), "io.bootenv.Usage", "{:.80}: {reply}", String::from_utf8_lossy(bytes));
        assert_eq!(reply["parameters"]["kind"], "usage");
        assert!(reply["parameters"]["hint"].is_string(), "{reply}");
    };
    let deep = format!("{{\"method\":\"io.bootenv.List\",\"parameters\":{}", "[".repeat(60_000));
    for text in [
        "\0",
        "x\0",
        "{}\0",
        "[]\0",
        "null\0",
        "{\"method\":\"io.bootenv.List\"}{}\0",
        "{\"method\":7}\0",
        "{\"method\":\"io.bootenv.List\",\"method\":\"io.bootenv.Create\"}\0",
        "{\"method\":\"io.bootenv.List\",\"zone\":\"db\"}\0",
        "{\"method\":\"io.bootenv.List\",\"parameters\":{\"zone\":\"db\"}}\0",
        "{\"method\":\"io.bootenv.List\",\"parameters\":{\"store\":\"/\"}}\0",
        "{\"method\":\"io.bootenv.List\",\"upgrade\":true}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"a\",\"name\":\"b\"}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":[\"a\"]}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"activate\":\"always\"}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"properties\":[\"mountpoint=/etc\"]}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"a\\u0000b\"}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"../db/ROOT/x\"}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"/etc\"}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"--store=/\"}}\0",
        "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"x\",\"source\":\"blue@x/..\"}}\0",
        "{\"method\":\"io.bootenv.Activate\",\"parameters\":{\"name\":\"blue\",\"once\":true,\"clear\":true}}\0",
        "{\"method\":\"io.bootenv.Activate\"}\0",
        "{\"method\":\"io.bootenv.Destroy\",\"parameters\":{\"names\":[]}}\0",
        "{\"method\":\"io.bootenv.Destroy\",\"parameters\":{\"names\":[\"blue\"],\"force\":true}}\0",
        "{\"method\":\"io.bootenv.Destroy\",\"parameters\":{\"names\":[\"blue\",\"../../../BOOTENV\"]}}\0",
        "{\"method\":\"io.bootenv.Rename\",\"parameters\":{\"old\":\"blue\",\"new\":\"../../db/ROOT/blue\"}}\0",
        &format!("{{\"method\":\"{}\"", "x".repeat(70_000)),
        &"x".repeat(100_000),
        &(deep.clone() + "\0"),
        &deep.repeat(2),
    ] {
        usage(text.as_bytes());
    }
    usage(b"{\"method\":\"io.bootenv.\xff\xfe\"}\0");
    // What ends in the middle is no call.
    for half in ["", "{\"method\":\"io.bootenv.Create\",\"parameters\":{\"name\":\"half\"}}"] {
        assert_eq!(told(&web, half.as_bytes()), None);
    }
    before.assert_same(&lab.print(), "nothing was understood");
    assert!(web.call("io.bootenv.List", json!({}))["error"].is_null(), "the service goes on");
}

#[test]
fn who_is_slow_is_left() {
    let (_lab, web) = served();
    let mut slow: Vec<Connection> = (0..8).map(|_| web.connect()).collect();
    let begun = Instant::now();
    let call = b"{\"method\":\"io.bootenv.List\",\"parameters\":{\"zone\"";
    let mut sent = 0;
    // A byte now and then is no whole call, however often one comes.
    while begun.elapsed() < Duration::from_secs(9) {
        slow.iter_mut().for_each(|connection| drop(connection.send_bytes(&call[sent..=sent])));
        sent += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    // They have all the connections there are; who comes then is served when they are left.
    assert!(web.call("io.bootenv.List", json!({}))["error"].is_null());
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(9) && waited < Duration::from_secs(30), "{waited:?}");
    for connection in &mut slow {
        let reply = connection.reply().expect("why it was left");
        assert_eq!(error(&reply), "io.bootenv.Usage");
        assert!(reply["parameters"]["message"].as_str().unwrap().contains("10 s"), "{reply}");
    }
}

#[test]
fn zones_and_the_host_do_not_wait_for_one_that_floods_its_socket() {
    let (lab, web) = served();
    let begun = Instant::now();
    let mut flood: Vec<Connection> = (0..8).map(|_| web.connect()).collect();
    for connection in &mut flood {
        let call = json!({"method": "io.bootenv.Create", "parameters": {"dry_run": true}});
        // More than can be taken is not read, so a part of it may not even be sent.
        connection.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = connection.send_bytes(format!("{call}\0").repeat(3000).as_bytes());
    }
    for n in 0..5 {
        let one = Instant::now();
        lab.in_zone("db", &["create", &format!("b{n}")]).ok();
        lab.bootenv(&["create", &format!("b{n}")]).ok();
        assert!(one.elapsed() < Duration::from_secs(10), "{:?}", one.elapsed());
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn calls_at_the_same_time_are_done_one_after_the_other() {
    let (lab, web) = served();
    let before = lab.print_without_zone("web");
    let replies: Vec<Value> = std::thread::scope(|scope| {
        let web = &web;
        let threads: Vec<_> = (0..8)
            .map(|n| scope.spawn(move || web.call("io.bootenv.Create", json!({"name": format!("b{n}")}))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(replies.iter().all(|reply| reply["error"].is_null()), "{replies:?}");
    assert_eq!(lab.zone_told("web")["boot_environments"], 9);
    // Several on one connection, sent before the first is answered.
    let mut connection = web.connect();
    let call =
        |n| json!({"method": "io.bootenv.Destroy", "parameters": {"names": [format!("b{n}")]}}).to_string() + "\0";
    connection.send_bytes((0..8).map(call).collect::<String>().as_bytes()).unwrap();
    for n in 0..8 {
        assert_eq!(connection.reply().unwrap()["parameters"]["request"], format!("destroy b{n}"));
    }
    // One that wants no reply is done all the same, before the next.
    connection.send(&json!({"method": "io.bootenv.Create", "parameters": {"name": "quiet"}, "oneway": true}));
    connection.send(&json!({"method": "io.bootenv.Create", "parameters": {"name": "quiet"}}));
    let reply = connection.reply().unwrap();
    assert!(reply["parameters"]["message"].as_str().unwrap().contains("exists"), "{reply}");
    before.assert_same(&lab.print_without_zone("web"), "more than the zone has changed");
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn who_goes_away_in_the_middle_leaves_all_or_nothing() {
    let (lab, web) = served();
    // Not so many at a time that the last would have to wait for longer than it may, where each takes seconds.
    for round in 0..2 {
        for n in 5 * round..5 * round + 5 {
            let mut connection = web.connect();
            connection.send(&json!({"method": "io.bootenv.Create", "parameters": {"name": format!("b{n}")}}));
            std::thread::sleep(Duration::from_millis(3 * n));
        }
        // The last of them is done before this one begins.
        let last = json!({"name": format!("last{round}")});
        assert!(web.call("io.bootenv.Create", last)["error"].is_null());
    }
    let until = Instant::now() + Duration::from_secs(30);
    while lab.zone_told("web")["boot_environments"] != 13 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(lab.zone_told("web")["boot_environments"], 13, "what was asked for is done, heard or not");
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

/// A zone's tree may lead anywhere; whoever looks into it stays there.
#[test]
fn what_leads_out_of_a_zone_leads_nowhere() {
    let (lab, web) = served();
    lab.in_zone("web", &["create", "blue"]).ok();
    let blue = lab.zone_files("web", "ROOT/blue");
    let secret = lab.path("secret");
    std::fs::write(&secret, "Package: secret\nStatus: install ok installed\nVersion: 1\n\n").unwrap();
    let replace = |path: &str, by: &std::path::Path| {
        let path = blue.join(path);
        let _ = std::fs::remove_dir_all(&path);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(by, path).unwrap();
    };
    replace("var/lib/dpkg", &lab.path(""));
    std::fs::write(lab.path("status"), std::fs::read(&secret).unwrap()).unwrap();
    replace("etc/passwd", std::path::Path::new("/etc/passwd"));
    replace("etc/fstab", &lab.zone_files("db", "ROOT/default/etc/fstab"));
    replace("usr/sbin", std::path::Path::new("/usr/sbin"));
    let before = lab.print_without_zone("web");
    let told = web.call("io.bootenv.DiffPackages", json!({"old": "default", "new": "blue"}));
    assert!(!told.to_string().contains("secret"), "{told}");
    let mut connection = web.connect();
    connection
        .send(&json!({"method": "io.bootenv.Diff", "parameters": {"old": "default", "new": "blue"}, "more": true}));
    assert!(connection.reply().unwrap()["error"].is_null());
    let reply = web.call("io.bootenv.Activate", json!({"name": "blue"}));
    assert!(error(&reply).starts_with("io.bootenv."), "a link to the host's init is nothing to start: {reply}");
    assert!(web.call("io.bootenv.Create", json!({"name": "red", "source": "blue"}))["error"].is_null());
    assert!(web.call("io.bootenv.Destroy", json!({"names": ["blue", "red"]}))["error"].is_null());
    before.assert_same(&lab.print_without_zone("web"), "what a link leads to is as it was");
    assert!(Print::of(&lab.path("")).has("secret"));
}

#[test]
fn the_service_ends_when_nobody_wants_anything() {
    let (_lab, web) = served();
    assert!(web.call("io.bootenv.List", json!({}))["error"].is_null());
    std::thread::sleep(Duration::from_secs(20));
    assert!(web.is_running());
    std::thread::sleep(Duration::from_secs(15));
    assert!(!web.is_running());
    assert!(web.call("io.bootenv.List", json!({}))["error"].is_null(), "another takes its place");
}
