//! R2: what runs is protected, on the host and in zones: from what the host does with other BEs, and from root of a zone, with and without
//! a user namespace, who tries to get at the host, at the other zone, or at more than he may take.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Setting, drive, flags_in, inside, root_of};
use crate::harness::Machine;
use crate::stores::{Btrfs, Store, Zfs};
use crate::switching::flags;

#[test]
fn r2_the_running_namespace_is_protected() {
    is_protected(&Btrfs, "grub");
}

#[test]
fn r2_the_running_namespace_is_protected_on_a_pool() {
    is_protected(&Zfs, "systemd-boot");
}

/// `web` has a user namespace, as Debian's unit gives it one; its administrator has taken that from `db`.
const SETTINGS: &str = "[Exec]\nPrivateUsers=no\n[Files]\nBind=/run/bootenv/zones/db/shared:/var/shared\n\
     BindReadOnly=/run/bootenv-zones/db:/run/bootenv-host\n";

/// Whatever bootenv is asked from inside, of a zone that runs `default`, has `default@kept` and `spare`, and whose neighbour has `marked`: the
/// status, and words of the answer.
const ASKED: &[(&str, i32, &str)] = &[
    ("create ../OTHER", 2, "name"),
    ("create /etc", 2, "name"),
    ("create ..", 2, "name"),
    ("create a/b", 2, "name"),
    ("create \"$(printf 'a\\001b')\"", 2, "name"),
    ("create \"$(printf 'a\\377')\"", 2, ""),
    ("create $(head -c 5000 /dev/zero | tr '\\0' n)", 2, "name"),
    ("create -e ../../OTHER/ROOT/default x", 2, "name"),
    ("create -e marked x", 4, "marked"),
    ("create -o mountpoint=/etc x", 3, "host"),
    ("activate ../../ROOT/default", 2, "name"),
    ("activate marked", 4, "marked"),
    ("destroy -F default", 3, "is running"),
    ("destroy -F ../../../ROOT/default", 2, "name"),
    ("destroy -F marked", 4, "marked"),
    ("rename spare ../../OTHER/ROOT/x", 2, "name"),
    ("describe marked text", 4, "marked"),
    ("rollback -F default@kept", 3, "under its own feet"),
    ("diff default marked", 4, "marked"),
    ("list ../OTHER", 2, "name"),
    ("mount spare", 3, "host"),
    ("run spare -- true", 3, "host"),
    ("upgrade -- true", 3, "host"),
    ("check", 3, "host"),
    ("zone list", 3, "host"),
    ("zone destroy -F OTHER", 3, "host"),
    ("--zone OTHER list", 2, "this is a zone"),
    ("--store / list", 1, ""),
];

/// Who is not root of the zone itself.
const NOT_ROOT: [&str; 3] = [
    "setpriv --reuid 65534 --clear-groups bootenv list",
    "setpriv --reuid 65534 --clear-groups unshare --user --map-root-user bootenv list",
    "unshare --user --map-root-user bootenv list",
];

/// What the kernel is asked for. All of it comes through as root of the host, so that what fails in a zone fails because it is one. What is named in
/// `TAKEN` comes through without a user namespace.
const TRIED: [(&str, &str); 3] = [
    (
        "device",
        "mknod /root/device b $DEVICE && head -c 1 /root/device | grep -q '' ; s=$?; rm -f /root/device; exit $s",
    ),
    ("handle", "perl /opt/attack.pl open $HANDLE"),
    ("sockets", "ls /proc/1/root/run/bootenv-zones/OTHER/io.bootenv"),
];
const TRIED_ON_BTRFS: [(&str, &str); 4] = [
    ("names", "perl /opt/attack.pl search"),
    ("default", "perl /opt/attack.pl default"),
    ("destroy", "perl /opt/attack.pl destroy $VICTIM"),
    (
        "mount",
        "at=/dev/vda2; [ -b $at ] || { at=/root/dev/vda2; mkdir -p /root/dev; mount -t devtmpfs none /root/dev; }
         mount -t btrfs -o subvolid=5 $at /mnt && umount /mnt",
    ),
];
const TRIED_ON_A_POOL: [(&str, &str); 2] = [
    ("mount", "mount -i -t zfs tank/zones/OTHER/ROOT/spare /mnt && umount /mnt"),
    ("zfs", "mknod /root/zfs c $ZFS && perl /opt/attack.pl zfs; s=$?; rm -f /root/zfs; exit $s"),
];
const TAKEN_ON_BTRFS: &[&str] = &["default", "destroy", "names"];
const TAKEN_ON_A_POOL: &[&str] = &["mount"];

/// What can be seen of what runs but for what is written to all the time: files by everything that a write to them would change, mounts, BEs.
const LOOK: &str = r#"
set -o pipefail
files() { (cd "$1" && shift && find "$@" -xdev -path boot/efi -prune -o -printf '%P %y %m %U %G %T@ %C@ %s %l\n' | LC_ALL=C sort | sha256sum); }
shared() { (cd "$1/var/shared" && find . \( -path ./log/journal -o -path ./log/postgresql -o -path ./log/nginx -o -path ./log/wtmp \) -prune -o \
    -printf '%P %y %m %U %G %T@ %C@ %s %l\n' | LC_ALL=C sort | sha256sum); }
echo host; files / etc usr boot opt var/lib/dpkg; shared /; cat /opt/secret
findmnt -rno TARGET,SOURCE,FSROOT,OPTIONS | grep -Ev '/run/|machines/web' | sort; bootenv list -aH | cut -f1-3,5-
look() {
    leader=$(machinectl show -P Leader $1)
    echo $1; files /proc/$leader/root etc usr opt; shared /proc/$leader/root
    findmnt -N $leader -rno TARGET,SOURCE,OPTIONS | grep -v /run/ | sort; bootenv --zone $1 list -aH | cut -f1-3,5-
}
"#;

fn look(machine: &mut Machine<'_>, zones: &[&str]) -> String {
    let zones: String = zones.iter().map(|zone| format!("look {zone}\n")).collect();
    machine.ok(&format!("{LOOK}{zones}"))
}

fn is_protected(store: &dyn Store, loader: &str) {
    let Some(setting) = Setting::new(store, loader) else { return };
    let mut machine = setting.boot();
    let script = include_str!("attack.pl");
    machine.ok(&format!("cat > /opt/attack.pl <<'END'\n{script}END\necho secret-of-the-host > /opt/secret"));
    machine.ok(&format!("mkdir -p /etc/systemd/nspawn; printf '{SETTINGS}' > /etc/systemd/nspawn/db.nspawn"));
    for zone in ["db", "web"] {
        machine.ok(&format!("bootenv zone create --from /opt/{zone}.tar {zone}"));
        drive(&mut machine, &format!("bootenv zone start --wait {zone}"));
        machine.ok(&format!("machinectl copy-to {zone} $(command -v bootenv) /usr/bin/bootenv"));
        machine.ok(&format!("machinectl copy-to {zone} /opt/attack.pl /opt/attack.pl"));
        machine.ok(&format!("bootenv --zone {zone} create default@kept && bootenv --zone {zone} create spare"));
    }
    let mapped = |zone| inside(zone, "cut -c1-20 /proc/self/uid_map");
    assert!(machine.ok(&mapped("db")).ends_with(" 0") && !machine.ok(&mapped("web")).ends_with(" 0"));

    from_the_host(&mut machine);
    let mut tried = TRIED.to_vec();
    let taken = match store.kind() {
        "btrfs" => {
            tried.extend(TRIED_ON_BTRFS);
            TAKEN_ON_BTRFS
        }
        _ => {
            tried.extend(TRIED_ON_A_POOL);
            TAKEN_ON_A_POOL
        }
    };
    tried.sort_unstable();
    let all: Vec<&str> = tried.iter().map(|(name, _)| *name).collect();
    assert_eq!(through(&mut machine, None, "db", &tried), all, "as root of the host");
    from_inside(&mut machine, "web", "db", &tried, &[]);
    from_inside(&mut machine, "db", "web", &tried, taken);
    too_much(&mut machine);
    by_links(&mut machine, store);
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine.power_off();
}

/// What the host does with other BEs, whatever comes of it.
fn from_the_host(machine: &mut Machine<'_>) {
    for zone in ["db", "web"] {
        for (args, words) in [
            ("destroy -F default", "bootenv zone switch"),
            ("rollback -F default@kept", "under its own feet"),
            ("unmount default", "is running"),
        ] {
            let refused = machine.run(&format!("bootenv --zone {zone} {args} 2>&1"));
            assert!([3, 5].contains(&refused.status) && refused.text().contains(words), "{args}: {refused:?}");
        }
        let refused = machine.run(&format!("bootenv zone destroy -F {zone} 2>&1"));
        assert!(refused.text().contains(&format!("bootenv zone stop {zone}")), "{refused:?}");
    }
    let before = look(machine, &["db", "web"]);
    machine.ok("bootenv create other && bootenv create other@one");
    let at = machine.ok("bootenv mount other");
    for zone in ["", "/var/lib/machines/db", "/var/lib/machines/web"] {
        machine.ok(&format!("echo changed > {at}{zone}/etc/motd && rm -r {at}{zone}/usr/share/bash-completion"));
        for attack in [
            format!("echo x > {at}{zone}/var/log/x"),
            format!("rm -r {at}{zone}/var/shared/log/*"),
            format!("mount -o remount,rw,bind {at}{zone}/var/shared"),
            format!("chroot {at}{zone} sh -c 'mount -o remount,rw,bind /var/shared; echo x > /var/spool/x'"),
        ] {
            assert_ne!(machine.run(&attack).status, 0, "{attack}");
        }
    }
    machine.ok("bootenv unmount other");
    let destroys =
        "rm -rf /usr/share/zoneinfo /etc/systemd /var/log/* /var/mail; echo x > /var/spool/x; mount -o remount,rw /";
    machine.run(&format!("bootenv run other -- sh -c '{destroys}'"));
    machine.run(&format!("bootenv --zone web run other -- sh -c '{destroys}'"));
    let failed = machine.run(&format!("bootenv upgrade --zones -n fails -- sh -c '{destroys}; exit 7' 2>&1"));
    assert_ne!(failed.status, 0, "{}", failed.text());
    machine.ok("bootenv rollback -F other@one && bootenv rename other another && bootenv activate another");
    assert_eq!(flags(machine), "default=N another=R");
    machine.ok("bootenv activate default && bootenv destroy -sF another");
    same(&before, &look(machine, &["db", "web"]), "what the host did");
}

#[track_caller]
fn same(before: &str, after: &str, what: &str) {
    let differing: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert!(before == after, "{what} has changed what runs: {differing:#?}\n{before}\n---\n{after}");
}

/// Runs commands as root of a zone, or of the host, and gives the status of each by its name, and what it said.
fn outcomes(
    machine: &mut Machine<'_>,
    zone: Option<&str>,
    commands: &[(&str, String)],
) -> BTreeMap<String, (i32, String)> {
    let mut script = "t() { said=$(timeout 60 sh -c \"$2\" 2>&1 </dev/null); printf '%s\\t%s\\t%s\\n' \"$1\" $? \"$(echo \"$said\" | tr '\\n\\t' '  ')\"; }\n".to_string();
    for (name, command) in commands {
        script += &format!("t '{name}' '{}'\n", command.replace('\'', "'\\''"));
    }
    let run = zone.map_or("sh".to_string(), |zone| format!("systemd-run --quiet --machine={zone} --pipe --wait sh"));
    let told = machine.ok(&format!("cat > /run/attacks <<'END'\n{script}END\n{run} < /run/attacks"));
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t').map(str::to_string);
        let mut next = || parts.next().unwrap_or_default();
        (next(), (next().parse().unwrap_or(-1), next()))
    };
    let outcomes: BTreeMap<_, _> = told.lines().map(line).collect();
    assert_eq!(outcomes.len(), commands.len(), "{told}");
    outcomes
}

/// Tries what the kernel may be asked for, and gives the names of what came through. What is destroyed is made for it.
fn through(machine: &mut Machine<'_>, zone: Option<&str>, other: &str, tried: &[(&str, &str)]) -> Vec<String> {
    let facts = machine.ok("set -e; device=$(readlink -f /dev/disk/by-id/virtio-disk-part2)
         echo \"DEVICE='$(stat -c '%Hr %Lr' $device)'; HANDLE=$(perl /opt/attack.pl handle /opt/secret);\"
         if [ -e /dev/zfs ]; then echo \"ZFS='$(stat -c '%Hr %Lr' /dev/zfs)';\"
         else btrfs -q subvolume create /victim; echo \"VICTIM=$(btrfs inspect-internal rootid /victim);\"; fi");
    let facts = facts.replace('\n', " ");
    let tried: Vec<(&str, String)> =
        tried.iter().map(|(name, command)| (*name, facts.clone() + &command.replace("OTHER", other))).collect();
    let outcomes = outcomes(machine, zone, &tried);
    println!("{}: {outcomes:?}", zone.unwrap_or("the host"));
    machine.ok("test ! -d /victim || btrfs -q subvolume delete /victim");
    outcomes.into_iter().filter(|(_, (status, _))| *status == 0).map(|(name, _)| name).collect()
}

/// Root of `zone` against the host and against `other`.
fn from_inside(machine: &mut Machine<'_>, zone: &str, other: &str, tried: &[(&str, &str)], taken: &[&str]) {
    machine.ok(&format!("bootenv --zone {other} create marked"));
    let began = Instant::now();
    let before = look(machine, &[other]);
    println!("a look took {:.1?}", began.elapsed());
    assert_eq!(through(machine, Some(zone), other, tried), taken, "what comes through in {zone}");

    let asked: Vec<(String, String)> = ASKED
        .iter()
        .map(|(args, ..)| args.replace("OTHER", other))
        .enumerate()
        .map(|(n, args)| (n.to_string(), format!("bootenv {args}")))
        .collect();
    let asked: Vec<(&str, String)> = asked.iter().map(|(n, command)| (&**n, command.clone())).collect();
    let told = outcomes(machine, Some(zone), &asked);
    for (n, (args, status, words)) in ASKED.iter().enumerate() {
        let (got, said) = &told[&n.to_string()];
        assert!(got == status && said.contains(words), "{zone}: {args}: {got}: {said}");
    }
    let told = outcomes(machine, Some(zone), &NOT_ROOT.map(|command| (command, command.to_string())));
    assert!(told.values().all(|(status, said)| *status == 3 && said.contains("only root")), "{zone}: {told:?}");

    let said = drive(machine, &inside(zone, &format!("perl /opt/attack.pl say /run/bootenv-host/io.bootenv {other}")));
    assert_eq!(said.lines().count(), 18, "{said}");
    for line in said.lines() {
        let (case, reply) = line.split_once('\t').unwrap_or((line, ""));
        assert!(reply.contains("\"error\":"), "{zone}: {case}: {reply}");
    }
    // Nothing can be put in the place of the socket, and there is no other one.
    assert_eq!(machine.ok(&inside(zone, "ls -A /run/bootenv-host; ls -d /run/bootenv-zones /run/io.bootenv 2>/dev/null; touch /run/bootenv-host/x 2>/dev/null || echo no")), "io.bootenv\nno");
    if taken.is_empty() {
        assert_ne!(machine.run(&inside(zone, "mount -o remount,rw,bind /run/bootenv-host")).status, 0);
    } else {
        // Somebody has handed the socket of the other one on.
        machine.ok(&format!("machinectl bind --mkdir {zone} /run/bootenv-zones/{other} /mnt/{other}"));
        let said = machine.ok(&inside(zone, &format!("perl /opt/attack.pl say /mnt/{other}/io.bootenv {zone}")));
        assert!(said.lines().all(|line| line.contains("PermissionDenied")), "{said}");
    }
    assert_eq!(flags_in(machine, zone), "default=NR spare=-");
    same(&before, &look(machine, &[other]), &format!("root of {zone}"));
    machine.ok(&format!("bootenv --zone {other} destroy -F marked"));
}

/// Root of `web` asks for much at once, and for more than it may have.
fn too_much(machine: &mut Machine<'_>) {
    let before = look(machine, &["db"]);
    // Calls at the same time, of which nobody waits for the others, while the host does something of its own.
    machine.ok(&inside(
        "web",
        "for n in 1 2 3 4; do systemd-run -q sh -c \"bootenv create c$n; bootenv create c$n; bootenv list\"; done",
    ));
    let began = Instant::now();
    machine.ok("bootenv --zone db create meanwhile && bootenv --zone db destroy -F meanwhile");
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(30), "db has waited for {waited:?}");
    machine.ok("for n in $(seq 300); do [ $(bootenv --zone web list -H | grep -c '^c[1-4]') = 4 ] && break; sleep 0.2; done; test $n -lt 300");
    machine.ok("bootenv zone limit --boot-environments 7 web");
    for (limit, words) in
        [("", "there may be 7"), ("bootenv zone limit --boot-environments none --space 1M web", "may take 1.0M")]
    {
        machine.ok(limit);
        let refused = machine.run(&inside("web", "bootenv create more 2>&1"));
        assert!(refused.status == 3 && refused.text().contains(words), "{refused:?}");
        let refused = machine.run(&inside("web", "bootenv create default@more 2>&1"));
        assert!(refused.status == 3 && refused.text().contains(words), "{refused:?}");
    }
    drive(machine, &inside("web", "bootenv destroy -F c1 c2 c3 c4"));
    machine.ok("bootenv zone limit --space none web");
    same(&before, &look(machine, &["db"]), "asking for much");
}

/// Everything in a root of `web` that anybody looks for leads out of it: to what the host has there, were it followed.
const LINKS: &str = r#"
cd / && up=../../../../../../../..
! umount -l /var/shared 2>/dev/null && ! rmdir /var/shared 2>/dev/null && mv /var /gone && mkdir -p /var/lib /var/tmp || exit 1
lead() { rm -rf $1; ln -s $up$2 $1 || exit 1; }
lead /var/shared /opt; lead /var/log /opt; lead /var/mail /var/shared/mail; lead /var/lib/dpkg /var/lib/dpkg; lead /var/lib/bootenv /opt
lead /etc/passwd /opt/secret; lead /etc/group /opt/secret; lead /etc/fstab /opt/secret; lead /etc/resolv.conf /opt/secret
lead /etc/os-release /opt/secret; lead /etc/bootenv.toml /opt/secret; lead /boot /boot; lead /usr/share/factory /opt; lead /srv /opt
"#;

/// What the host then does with it. Whatever comes of it, nothing of it may be the host's.
const DONE: [&str; 16] = [
    "--zone web list",
    "--zone web create -e evil copy",
    "--zone web create copy@one",
    "--zone web mount copy",
    "--zone web unmount copy",
    "--zone web run copy -- sh -c 'cat /etc/resolv.conf /etc/passwd /var/lib/dpkg/status; echo x > /var/log/x; echo x > /var/shared/y; echo x > /opt/z'",
    "--zone web diff default copy",
    "--zone web diff --packages default copy",
    "--zone web upgrade -n up -- sh -c 'echo x > /var/log/x; rm -rf /var/shared/*'",
    "--zone web rollback -F copy@one",
    "--zone web check",
    "create whole",
    "mount whole",
    "unmount whole",
    "diff whole",
    "destroy -F whole",
];

fn by_links(machine: &mut Machine<'_>, store: &dyn Store) {
    drive(machine, &inside("web", "bootenv create -a evil"));
    drive(machine, "bootenv zone switch --wait web");
    machine.ok(&format!(
        "cat > /run/links <<'END'\n{LINKS}END\nsystemd-run -q --machine=web --pipe --wait sh < /run/links"
    ));
    let before = look(machine, &["db"]);
    for args in DONE {
        let ran = machine.run(&format!("bootenv {args} 2>&1"));
        println!("{args}: {} {}", ran.status, ran.text().lines().next().unwrap_or_default());
        assert!(ran.status != 101 && ran.status < 124, "{args}: {ran:?}");
        assert!(
            !ran.text().contains("secret-of-the-host") && !ran.text().contains("Package: linux-image"),
            "{args}: {ran:?}"
        );
    }
    machine.run("bootenv --zone web destroy -sF copy; bootenv --zone web destroy -sF up");
    same(&before, &look(machine, &["db"]), "what leads out of a zone");
    // systemd-nspawn would follow /var/log out of it, and make a directory of the zone's there.
    machine.ok("bootenv zone stop web");
    for start in ["bootenv zone start web", "bootenv zone switch web", "machinectl start web"] {
        let refused = machine.run(&format!("{start} 2>&1"));
        assert!(refused.status != 0, "{start}: {refused:?}");
    }
    let refused = machine.run("bootenv zone start web 2>&1");
    assert!(refused.status == 3 && refused.text().contains("/var/shared of evil may lead out of web"), "{refused:?}");
    drive(machine, "bootenv --zone web activate default >/dev/null && bootenv zone start --wait web");
    assert_eq!(root_of(machine, store, "web"), store.named("zones/web/ROOT/default"));
    assert_eq!(machine.ok(&inside("web", "systemctl is-active nginx")), "active");
    machine.ok("bootenv --zone web destroy -sF evil");
    same(&before, &look(machine, &["db"]), "starting a zone with what leads out of it");
}
