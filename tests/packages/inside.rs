//! What a command in a BE finds, how it ends, and what is left of it.

use crate::lab::{Ran, mounts, pace, sh};
use crate::{debian, run, sleepers, write};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_system_of_its_own() {
    let Some(lab) = debian() else { return };
    write(&lab.files("blue").join("etc/machine-id"), "b007e00000000000000000000000c0de\n");
    let listed = || sh(&format!("cd '{}'; ls -lA dev run tmp proc sys usr/sbin", lab.files("blue").display()));
    let before = listed();
    let said = |script: &str| run(&lab, "blue", script).ok().stdout;
    assert_eq!(said("echo $$; cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l").lines().count(), 3);
    assert!(said("ls -d /proc/[0-9]* | wc -l").trim().parse::<u32>().unwrap() < 8, "only its own processes");
    assert_eq!(said("ls /dev"), "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n");
    assert_eq!(
        said("echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /proc/self/fd/ >/dev/null; cat /dev/fd/0 </dev/null"),
        "3\n"
    );
    assert_eq!(
        said("findmnt -no FSTYPE /run; findmnt -no FSTYPE /tmp; stat -c %a /tmp /run /run/lock /dev/shm"),
        "tmpfs\ntmpfs\n1777\n755\n1777\n1777\n"
    );
    assert_eq!(
        said("hostname; hostname inside 2>/dev/null; hostname"),
        sh("hostname").repeat(2),
        "the host keeps its name"
    );
    assert_eq!(said("/usr/sbin/policy-rc.d; echo $?"), "101\n");
    assert_eq!(said("echo $SYSTEMD_OFFLINE $HOME $debian_chroot; pwd"), "1 /root blue\n/\n");
    assert_eq!(said("cat /etc/machine-id"), "b007e00000000000000000000000c0de\n", "the machine's identity stays");
    assert_eq!(said("cat /etc/resolv.conf"), sh("cat /etc/resolv.conf"), "names are looked up as outside");
    assert_eq!(said("script -qec 'tty' /dev/null").trim(), "/dev/pts/0");
    // Nothing of that has stayed in the BE.
    let blue = lab.files("blue");
    assert_eq!(listed(), before);
    assert!(!blue.join("var/lib/bootenv/pending").exists(), "nothing was written below /var/shared");
}

#[test]
fn ends_as_the_command_ends() {
    let Some(lab) = debian() else { return };
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        assert_eq!(run(&lab, "blue", script).status, status, "{script}");
    }
    let shell = Command::new("true").status().map(|_| ()).map(|()| {
        let mut child = lab.command(&["run", "blue"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"echo shell $0; exit 3\n").unwrap();
        Ran::from(child.wait_with_output().unwrap())
    });
    let shell = shell.unwrap();
    assert_eq!(shell.status, 3, "{shell:?}");
    assert!(shell.stdout.contains("shell /bin/bash"), "{shell:?}");
    lab.bootenv(&["run", "blue", "--", "nosuch"]).fails(127, &["no command nosuch"]);
    lab.bootenv(&["run", "blue", "--", "/etc/passwd"]).fails(126, &["/etc/passwd cannot run"]);
    write(&lab.files("blue").join("root/foreign"), "\x7fELF\x02\x01\x01 for something else");
    sh(&format!("chmod +x '{}'", lab.files("blue").join("root/foreign").display()));
    lab.bootenv(&["run", "blue", "--", "/root/foreign"]).fails(126, &["another architecture"]);
    let arguments = ["a b", "", "'", "$x", "\u{fc}"];
    let said = lab.bootenv(&[&["run", "blue", "--", "printf", "[%s]"][..], &arguments].concat()).ok().stdout;
    assert_eq!(said, "[a b][]['][$x][\u{fc}]");
}

#[test]
fn what_cannot_be_run_in_is_told() {
    let Some(lab) = debian() else { return };
    lab.json(&["run", "nosuch", "--", "true"]).refused(2, &["--json"]);
    let refused = |args: &[&str], status, word: &str| drop(lab.bootenv(args).fails(status, &[word]));
    refused(&["run", "nosuch", "--", "true"], 4, "nosuch");
    refused(&["run", "../x", "--", "true"], 2, "../x");
    lab.bootenv(&["mount", "blue"]).ok();
    refused(&["run", "blue", "--", "true"], 5, "blue is mounted");
    lab.bootenv(&["unmount", "blue"]).ok();
    let _running = lab.running("default");
    refused(&["run", "default", "--", "true"], 5, "default is");
    lab.make_readonly(&lab.files("blue"));
    refused(&["run", "blue", "--", "true"], 3, "blue is read-only");
    let said = lab.bootenv(&["--dry-run", "run", "default", "--", "rm", "-r", "/"]);
    assert_ne!(said.status, 0);
}

#[test]
fn nothing_is_left_of_it() {
    let Some(lab) = debian() else { return };
    let before = mounts();
    // Daemons, in sessions of their own, with their standard streams closed and signals ignored.
    run(&lab, "blue", "mkdir /root/m; (trap '' TERM HUP INT; setsid sleep 4242 <&- >&- 2>&- &) ; sleep 4243 & exit 5")
        .fails(5, &[]);
    assert_eq!(sleepers("424"), 0);
    assert_eq!(mounts(), before);
    // Killed in the middle: the keeper clears up.
    let mut child =
        lab.command(&["run", "blue", "--", "sh", "-c", "touch /root/begun; sleep 4244 & sleep 4245"]).spawn().unwrap();
    wait_for("its processes", || sleepers("424") == 2);
    lab.bootenv(&["list"]).ok();
    lab.bootenv(&["create", "-e", "default", "beside"]).ok();
    lab.bootenv(&["destroy", "-F", "blue"]).fails(5, &["blue"]);
    lab.bootenv(&["run", "blue", "--", "true"]).fails(5, &["in use"]);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("their end", || sleepers("424") == 0);
    assert_eq!(mounts(), before);
    wait_for("another command", || lab.bootenv(&["run", "blue", "--", "true"]).status == 0);
    assert!(!lab.files("blue").join("usr/sbin/policy-rc.d").exists(), "what was made to be mounted on is gone");
}

#[test]
fn signals_reach_the_command() {
    let Some(lab) = debian() else { return };
    let script =
        "trap 'echo got TERM; exit 9' TERM; trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.05; done";
    let mut child = lab.command(&["run", "blue", "--", "bash", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        line
    };
    assert_eq!(line(), "ready\n");
    for (signal, answer) in [("USR1", "got USR1\n"), ("TERM", "got TERM\n")] {
        sh(&format!("kill -{signal} {}", child.id()));
        assert_eq!(line(), answer);
    }
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_terminal_stays_a_terminal() {
    let Some(lab) = debian() else { return };
    // In place of the shell that script(1) starts: some shells end by a Ctrl-C that their command took.
    let command = |inside: &str| {
        format!("exec {} --store '{}' run blue -- {inside}", env!("CARGO_BIN_EXE_bootenv"), lab.store().display())
    };
    // script(1) gives it a terminal of its own, and types what it reads.
    let typed = |inside: &str, keys: &str| {
        lab.leave_top();
        sh(&format!(
            "(sleep 2; printf '{keys}'; sleep 1) | timeout 20 script -qec \"{}\" /dev/null; echo status $?",
            command(inside)
        ))
    };
    // Each interrupt cuts a wait short and is counted: it has to come once, from the terminal.
    let counting = "-t STDIN or die; $SIG{INT} = sub { $n++ }; select(undef, undef, undef, 1) for 1..4; print 2 + $n";
    write(&lab.files("blue").join("root/count.pl"), &format!("{counting}, ' is the answer'; exit 4\n"));
    let said = typed("perl /root/count.pl", "\\003");
    assert!(said.contains("3 is the answer") && said.contains("status 4"), "Ctrl-C reaches it, once: {said}");
    let said = typed("bash -i", "jobs; sleep 100 &\\njobs\\nexit 6\\n");
    assert!(said.contains("Running") && said.contains("status 6"), "{said}");
    assert!(!said.contains("no job control"), "{said}");
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20 + pace());
    while !is_there() {
        assert!(Instant::now() < until, "{what}: it does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
