//! What waits in a BE for the shared dataset, and how it is merged when the BE boots: what is missing is made, what is there
//! stays, and nothing is lost.

use crate::lab::{Lab, Print, sh};
use std::path::Path;

const UPPER: &str = "var/lib/bootenv/pending/upper";

/// A BE `blue` in which a script has made an upper layer, as a command run in it does; the script runs in the layer.
fn waiting(script: &str) -> Lab {
    let lab = Lab::with(
        "printf 'root:x:0:0:root:/root:/bin/sh\nnews:x:71:71::/:/bin/sh\n' > etc/passwd; printf 'news:x:71:\n' > etc/group",
    );
    lab.bootenv(&["create", "blue"]).ok();
    let upper = lab.files("blue").join(UPPER);
    sh(&format!("set -e; mkdir -p '{0}' '{0}/../work/work'; cd '{0}'; {script}", upper.display()));
    lab
}

/// Boots `blue` as far as that, and merges.
fn merge(lab: &Lab) -> serde_json::Value {
    let inside = lab.running("blue");
    inside.bootenv(&["--json", "pending", "--merge"]).ok().json()["merged"].clone()
}

fn shared(lab: &Lab, path: &str) -> String {
    std::fs::read_to_string(lab.shared().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn what_is_missing_is_made_with_all_it_has() {
    let lab = waiting(
        "mkdir -p log/new/deep spool/q; echo text > log/new/deep/file; chown 71:71 log/new spool/q; chmod 2750 log/new;
         setfattr -n user.note -v kept log/new/deep/file; setfattr -n security.selinux -v system_u:object_r:var_log_t:s0 log/new log/new/deep/file; setfacl -m u:42:rwx spool/q; mkfifo spool/q/pipe
         touch -d '2021-01-01 UTC' log/new/deep/file; ln log/new/deep/file log/new/hard
         ln -s ../../usr/share/doc log/new-link; ln -s /etc/passwd log/absolute",
    );
    let waits = lab.json(&["pending", "blue"]).ok().json();
    let waits: Vec<&str> = waits["waiting"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(waits, ["log/absolute", "log/new-link", "log/new/deep/file", "log/new/hard", "spool/q/pipe"]);
    let merged = merge(&lab);
    assert_eq!(merged["made"], serde_json::json!(["log/absolute", "log/new", "log/new-link", "spool/q"]));
    assert_eq!((&merged["beside"], &merged["left_out"]), (&serde_json::json!([]), &serde_json::json!([])));
    let at = lab.shared();
    let stat =
        |path: &str, what: &str| sh(&format!("stat -c '{what}' '{}'", at.join(path).display())).trim().to_string();
    assert_eq!(stat("log/new", "%a %u %g"), "2750 71 71");
    assert_eq!(stat("log/new/deep/file", "%Y %h"), "1609459200 2");
    assert!(sh(&format!("getfattr -d '{}'", at.join("log/new/deep/file").display())).contains("user.note=\"kept\""));
    for labelled in ["log/new", "log/new/deep/file"] {
        let label = sh(&format!("getfattr -n security.selinux --only-values '{}'", at.join(labelled).display()));
        assert_eq!(label, "system_u:object_r:var_log_t:s0", "{labelled}");
    }
    assert!(sh(&format!("getfacl -n '{}'", at.join("spool/q").display())).contains("user:42:rwx"));
    assert_eq!(std::fs::read_link(at.join("log/new-link")).unwrap(), Path::new("../../../usr/share/doc"));
    assert_eq!(std::fs::read_link(at.join("log/absolute")).unwrap(), Path::new("/etc/passwd"));
    assert!(!lab.files("blue").join("var/lib/bootenv/pending").exists(), "nothing waits any more");
    assert_eq!(sh(&format!("ls -A '{}'", at.display())), "adm\nlog\nmail\nspool\n", "no work is left");
}

#[test]
fn what_is_there_stays_and_the_other_is_kept_beside() {
    let lab = waiting(
        "mkdir -p log mail; echo other > log/syslog; echo same > log/same; echo dir-now-file > log/apt; ln -s x log/link
         mkdir log/file-now-dir; echo in > log/file-now-dir/x; echo twice > log/twice",
    );
    let live = lab.shared();
    sh(&format!(
        "cd '{}/log'; echo same > same; echo file > file-now-dir; ln -s y link; echo one > twice; echo two > twice.bootenv-new",
        live.display()
    ));
    let before = Print::of(&live);
    let merged = merge(&lab);
    let beside: Vec<String> = merged["beside"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{}={}", p[0].as_str().unwrap(), p[1].as_str().unwrap()))
        .collect();
    assert_eq!(
        beside,
        [
            "log/apt=apt.bootenv-new",
            "log/file-now-dir=file-now-dir.bootenv-new",
            "log/link=link.bootenv-new",
            "log/syslog=syslog.bootenv-new",
            "log/twice=twice.bootenv-new.2"
        ]
    );
    assert_eq!(merged["made"], serde_json::json!([]));
    assert_eq!(shared(&lab, "log/syslog.bootenv-new"), "other\n");
    assert_eq!(shared(&lab, "log/file-now-dir.bootenv-new/x"), "in\n");
    assert_eq!(shared(&lab, "log/twice.bootenv-new"), "two\n");
    assert_eq!(shared(&lab, "log/twice.bootenv-new.2"), "twice\n");
    // The names beside are new in it, and so are the times of the directories that they are in.
    let old = |print: Print| {
        print.without(|path| {
            let text = path.to_string_lossy();
            text.contains(".bootenv-new") || text == "log" || text.is_empty()
        })
    };
    old(before).assert_same(&old(Print::of(&live)), "what was there");
}

#[test]
fn deletions_devices_and_setuid_bits_do_not_come_along() {
    let lab = waiting(
        "mkdir -p log/opaque; mknod log/syslog c 0 0; mknod log/disk b 8 0; echo x > log/tool; chmod 4755 log/tool
         setfattr -n trusted.overlay.opaque -v y log/opaque; echo in > log/opaque/in; setfattr -n trusted.overlay.origin -v z log/opaque/in",
    );
    let merged = merge(&lab);
    assert_eq!(merged["made"], serde_json::json!(["log/opaque", "log/tool"]));
    let left: Vec<&str> = merged["left_out"].as_array().unwrap().iter().map(|p| p[0].as_str().unwrap()).collect();
    assert_eq!(left, ["log/disk", "log/tool"]);
    assert_eq!(shared(&lab, "log/syslog"), "line\n", "a deletion is not repeated");
    let at = lab.shared();
    assert_eq!(sh(&format!("stat -c %a '{}'", at.join("log/tool").display())), "755\n");
    assert_eq!(sh(&format!("getfattr -Rhd -m trusted.overlay '{}'", at.join("log").display())), "");
    assert!(!at.join("log/disk").exists());
}

#[test]
fn owners_are_who_they_were_by_name() {
    let lab = waiting(
        "mkdir -p spool/news; echo x > spool/news/x; chown -R 71:71 spool/news; echo y > spool/y; chown 4711:4711 spool/y",
    );
    let blue = lab.files("blue");
    // As it is noted when the command has ended; the user has another number when the BE boots.
    std::fs::write(blue.join(UPPER).join("../owners.toml"), "[users]\n71 = 'news'\n[groups]\n71 = 'news'\n").unwrap();
    sh(&format!("sed -i 's/71:71/93:94/' '{0}/passwd'; sed -i s/71/94/ '{0}/group'", blue.join("etc").display()));
    merge(&lab);
    let at = lab.shared();
    assert_eq!(sh(&format!("cd '{}/spool'; stat -c '%u %g' news news/x y", at.display())), "93 94\n93 94\n4711 4711\n");
}

#[test]
fn what_belonged_to_a_user_of_another_be_is_nobody_elses() {
    let lab = waiting(
        "mkdir -p log spool; echo x > log/gone; chown 71:71 log/gone; chmod 600 log/gone; echo y > spool/free; chown 72:72 spool/free",
    );
    let blue = lab.files("blue");
    std::fs::write(
        blue.join(UPPER).join("../owners.toml"),
        "[users]\n71 = 'alice'\n72 = 'bob'\n[groups]\n71 = 'alice'\n72 = 'bob'\n",
    )
    .unwrap();
    // Neither is a user here. The number of the first is now somebody else's, who must not be able to read the file.
    let merged = merge(&lab);
    let at = lab.shared();
    assert_eq!(sh(&format!("cd '{}'; stat -c '%u %g %a' log/gone spool/free", at.display())), "0 0 600\n72 72 644\n");
    assert_eq!(merged["disowned"], serde_json::json!(["log/gone"]));
}

#[test]
fn a_link_in_the_shared_data_is_not_followed() {
    let lab = waiting("mkdir -p log/out; echo arrived > log/out/passwd; echo x > log/file");
    let live = lab.shared();
    // Where it is in the BE that runs.
    let outside = lab.path("outside");
    sh(&format!(
        "mkdir '{0}'; echo kept > '{0}/passwd'; ln -s /run/lab/outside '{1}/log/out'; ln -s /run/lab/outside/passwd '{1}/log/file'",
        outside.display(),
        live.display()
    ));
    let before = Print::of(&outside);
    let merged = merge(&lab);
    before.assert_same(&Print::of(&outside), "what a link led to");
    assert_eq!(merged["beside"], serde_json::json!([["log/file", "file.bootenv-new"], ["log/out", "out.bootenv-new"]]));
    assert_eq!(std::fs::read_link(lab.shared().join("log/out")).unwrap(), Path::new("/run/lab/outside"));
    assert_eq!(shared(&lab, "log/out.bootenv-new/passwd"), "arrived\n");
}

#[test]
fn merging_twice_or_half_and_then_again_comes_to_the_same() {
    let script = "mkdir -p log/a/b spool; echo 1 > log/a/b/1; echo 2 > log/syslog; echo 3 > spool/3; mkdir log/d; echo 4 > log/d/4";
    let once = waiting(script);
    merge(&once);
    let expected = Print::of(&once.shared()).without(|path| path.ends_with("journal"));
    let again = waiting(script);
    // Cut off after some of it was put in its place, with the copy still there.
    let upper = again.files("blue").join(UPPER);
    sh(&format!(
        "set -e; cd '{1}'; cp -a '{0}/log/a' log/; cp -a '{0}/log/syslog' log/syslog.bootenv-new; mkdir -p .bootenv-arrivals/pending; echo half > .bootenv-arrivals/pending/x",
        upper.display(),
        again.shared().display()
    ));
    merge(&again);
    assert_eq!(merge(&again)["made"], serde_json::json!([]), "nothing is left to do");
    let names = |print: &Print| print.len();
    assert_eq!(names(&expected), names(&Print::of(&again.shared()).without(|path| path.ends_with("journal"))));
    for (path, text) in [
        ("log/a/b/1", "1\n"),
        ("log/syslog", "line\n"),
        ("log/syslog.bootenv-new", "2\n"),
        ("spool/3", "3\n"),
        ("log/d/4", "4\n"),
    ] {
        assert_eq!(shared(&again, path), text);
    }
    assert!(!again.shared().join("log/syslog.bootenv-new.2").exists());
}

#[test]
fn odd_names_arrive_as_they_are() {
    let lab = waiting(
        "mkdir -p log; touch $'log/new\\nline' $'log/\\xff\\xfe' 'log/ space' 'log/-dash' \"log/it's\"; echo there > $'log/\\xfd'",
    );
    sh(&format!("echo other > '{}'/log/$'\\xfd'", lab.shared().display()));
    merge(&lab);
    let names = sh(&format!(
        "cd '{}/log'; for n in $'new\\nline' $'\\xff\\xfe' ' space' '-dash' \"it's\" $'\\xfd' $'\\xfd.bootenv-new'; do test -e \"./$n\" && echo yes; done",
        lab.shared().display()
    ));
    assert_eq!(names, "yes\n".repeat(7));
}

#[test]
fn it_is_only_for_what_runs() {
    let lab = waiting("mkdir -p log; echo x > log/x");
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout;
    let inside = lab.enter(Path::new(at.trim()));
    sh(&format!("umount '{}/var/shared'", at.trim()));
    inside.bootenv(&["--json", "pending", "--merge"]).refused(3, &["/var/shared"]);
    drop(inside);
    sh(&format!("umount -R -l '{}'", at.trim()));
    let running = lab.running("blue");
    sh(&format!("mkdir -p '{}/ro'", lab.path("").display()));
    let said = running.bootenv(&["--dry-run", "pending", "--merge"]).ok().stdout;
    assert!(said.contains("merge /var/shared/log/x"), "{said}");
    assert!(!lab.shared().join("log/x").exists());
}
