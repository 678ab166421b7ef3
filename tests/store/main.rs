//! The store lane: one conformance suite on real filesystems (root, loop devices).

#[path = "../lab/mod.rs"]
mod lab;

use lab::{Lab, fingerprint, sh};

#[test]
fn init_keeps_everything_that_a_copy_can_lose() {
    let lab = Lab::new();
    let top = lab.top();
    let log = top.join("SHARED/log");
    assert_eq!(std::fs::read_link(top.join("ROOT/default/var/log")).unwrap().to_str(), Some("shared/log"));
    let before =
        sh(&format!("cd '{}' && stat -c '%n %a %u %g %y %h %s' syslog apt sparse", lab.path("root/var/log").display()));
    let after = sh(&format!("cd '{}' && stat -c '%n %a %u %g %y %h %s' syslog apt sparse", log.display()));
    assert_eq!(before, after);
    let _ = fingerprint(&log);
}
