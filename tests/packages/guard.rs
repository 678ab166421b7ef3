//! Root in a BE can change neither the shared data nor the running system: the attacks of the store lane, and those that a
//! mount alone could not stop.

use crate::lab::{Kind, Lab, Print, kind, sh};
use crate::{debian, run};

const ATTACKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/attack.py");

/// Everything that must stay as it is: shared data, and the BE that stands for what runs.
pub fn others(lab: &Lab) -> (Print, Print) {
    (Print::of(&lab.shared()), Print::of(&lab.files("default")))
}

#[track_caller]
pub fn unchanged(lab: &Lab, before: &(Print, Print), what: &str) {
    before.0.assert_same(&Print::of(&lab.shared()), &format!("{what}: shared data was changed"));
    before.1.assert_same(&Print::of(&lab.files("default")), &format!("{what}: the other BE was changed"));
}

#[test]
fn what_is_written_to_shared_data_stays_in_the_be() {
    let Some(lab) = debian() else { return };
    sh(&format!("cd '{}'; echo live > log/live; mkdir log/dir; echo in > log/dir/in", lab.shared().display()));
    let before = others(&lab);
    let script = "set -e; cd /var/log; echo more >> live; rm dir/in; rmdir dir; mkdir dir; chmod 700 .; chown 33 live; mv live moved
        ln -s /etc/passwd link; echo x > new; mkdir -p /var/spool/a/b; rm -rf /var/mail; mkdir /var/mail; touch /var/shared/top; cat moved new";
    // A lower directory cannot be renamed through, so programs copy it; files can.
    assert_eq!(
        run(&lab, "blue", &script.replace("rm -rf /var/mail; mkdir /var/mail; ", "")).ok().stdout,
        "live\nmore\nx\n"
    );
    unchanged(&lab, &before, "writing");
    assert_eq!(
        run(&lab, "blue", "cat /var/log/moved; ls /var/log/dir; ls /var/spool/a").ok().stdout,
        "live\nmore\nb\n",
        "it is there the next time"
    );
    lab.bootenv(&["create", "-e", "blue", "clone"]).ok();
    run(&lab, "clone", "test -e /var/log/moved").ok();
    unchanged(&lab, &before, "in a clone");
    run(&lab, "default", "test ! -e /var/log/moved").ok();
}

#[test]
fn attacks_by_path_and_by_mount_reach_only_the_be() {
    let Some(lab) = debian() else { return };
    let store = match kind() {
        Kind::Btrfs => "btrfs",
        Kind::Zfs => "zfs",
    };
    for group in ["write", "escape", "beyond"] {
        let dir = lab.shared().join("log/attacked");
        let wanted = sh(&format!("mkdir -p '{0}' && python3 '{ATTACKS}' prepare {group} {store} '{0}'", dir.display()));
        for name in wanted.lines() {
            lab.nest_at(&dir.join(name).join("nested"), "");
        }
        let before = others(&lab);
        std::fs::copy(ATTACKS, lab.files("blue").join("root/attack.py")).unwrap();
        let ran = run(&lab, "blue", &format!("python3 /root/attack.py run {group} {store}"));
        println!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        unchanged(&lab, &before, group);
    }
}

#[test]
fn what_would_undo_the_protection_is_not_allowed() {
    let Some(lab) = debian() else { return };
    let before = others(&lab);
    for (what, script) in [
        ("mounting", "mount -t tmpfs x /mnt"),
        ("unmounting", "umount /var/shared"),
        ("unmounting lazily", "umount -l /var/shared"),
        ("remounting", "mount -o remount,rw /sys"),
        ("kernel settings", "echo 1 > /proc/sys/kernel/sysrq"),
        ("a device node", "mknod /root/disk b 7 0 && dd if=/root/disk of=/dev/null count=1"),
        ("another root", "unshare -m true"),
        ("kernel modules", "modprobe loop || insmod /x.ko"),
        ("a clock", "date -s 2001-01-01"),
        (
            "the network",
            "ip link set lo down || python3 -c \"import socket,fcntl,struct;s=socket.socket();fcntl.ioctl(s,0x8914,struct.pack('16sh',b'lo',0))\"",
        ),
        (
            "a reboot",
            "python3 -c \"import ctypes,os;r=ctypes.CDLL(None,use_errno=True).reboot(0x89abcdef);os._exit(1 if r else 0)\"",
        ),
        ("the immutable flag", "chattr +i /etc/passwd"),
        ("the outer root", "chroot /proc/1/root/proc/1/cwd/.. ls /work"),
    ] {
        let ran = run(&lab, "blue", script);
        assert_ne!(ran.status, 0, "{what}: {}{}", ran.stdout, ran.stderr);
    }
    // What is gone is gone from every set that it could come back from.
    let kept = "00000000a80425fb";
    let sets = [
        "Inh:\t0000000000000000",
        &format!("Prm:\t{kept}"),
        &format!("Eff:\t{kept}"),
        &format!("Bnd:\t{kept}"),
        "Amb:\t0000000000000000",
    ];
    let expected: String = sets.iter().map(|set| format!("Cap{set}\n")).collect();
    assert_eq!(run(&lab, "blue", "grep ^Cap /proc/self/status").ok().stdout, expected);
    // In a user namespace of its own it is root once more, of that namespace.
    let script = "unshare -Urm sh -c 'mount -o remount,rw,bind /sys; umount /var/shared; umount -l /var/lib/bootenv/pending; mount -t proc p /proc; ls /var/lib/bootenv/pending'";
    let ran = run(&lab, "blue", script);
    assert!(ran.status != 0 || ran.stdout.is_empty(), "{}{}", ran.stdout, ran.stderr);
    // Files addressed by number, on the filesystem that the shared data is on too.
    let handle = "import ctypes,os
libc=ctypes.CDLL(None,use_errno=True)
h=ctypes.create_string_buffer(136); ctypes.memmove(h,(20).to_bytes(4,'little'),4); m=ctypes.c_int()
libc.name_to_handle_at(-100,b'/etc/passwd',h,ctypes.byref(m),0)
fd=os.open('/etc',os.O_RDONLY)
os._exit(0 if libc.open_by_handle_at(fd,h,2)>=0 else 1)";
    crate::write(&lab.files("blue").join("root/handle.py"), handle);
    run(&lab, "blue", "python3 /root/handle.py").fails(1, &[]);
    // What is typed into the terminal outside.
    let typing = "import fcntl,termios,os,sys
fd=os.open('/dev/tty',os.O_RDWR) if os.path.exists('/dev/tty') else 0
try: fcntl.ioctl(fd,termios.TIOCSTI,b'x')
except OSError as e: sys.exit(0 if e.errno==1 else 2)
sys.exit(3)";
    crate::write(&lab.files("blue").join("root/type.py"), typing);
    let command = format!(
        "{} --store '{}' run blue -- python3 /root/type.py",
        env!("CARGO_BIN_EXE_bootenv"),
        lab.store().display()
    );
    lab.leave_top();
    assert_eq!(sh(&format!("script -qec \"{command}\" /dev/null </dev/null; echo $?")).trim(), "0");
    unchanged(&lab, &before, "all of it");
}
