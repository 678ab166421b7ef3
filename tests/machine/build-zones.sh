#!/bin/sh
# Makes what tests of containers boot, once, and prints the path of the directory it is in: host.tar, a root of build-root.sh that has
# what runs containers besides, and web.tar and db.tar, roots for containers with a daemon each. build-zones.sh btrfs|zfs
#
# It lies beside the root's tar, under a key of its own. Exit status 77: as build-root.sh.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
tar=$("$here/build-root.sh" "$@")
zones=${tar%.tar}-$(sha256sum <"$here/build-zones.sh" | cut -c1-8).zones

skip() {
    echo "skipped: $1" >&2
    exit 77
}

# The directory gets its name when it is whole. The root may have been built anew since, from newer packages.
usable() { cmp -s "$tar.sha256" "$zones/made-from"; }

if ! usable; then
    [ "$(id -u)" = 0 ] || skip "making the roots of containers needs root, and $zones is not there"
    command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed, and $zones is not there"
    # Two test programs at once make it once.
    exec 9>"$(dirname "$tar")/.zones.lock"
    flock 9
fi
if usable; then
    echo "$zones"
    exit 0
fi

tmp=$zones.$$
log=$zones.log
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$tmp/root"
tar -xpf "$tar" -C "$tmp/root" --numeric-owner --xattrs --xattrs-include='*'

# What is made anew at each start costs seconds in emulation, and no test looks at it.
quiet='chroot "$1" systemctl -q mask getty.target console-getty.service systemd-logind.service systemd-user-sessions.service \
    systemd-sysusers.service systemd-journal-catalog-update.service systemd-update-done.service systemd-hwdb-update.service \
    ldconfig.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer; \
    for name in debug getty gpt-auto rc-local ssh system-update sysv tpm2; do \
    mkdir -p "$1/etc/systemd/system-generators"; \
    ln -s /dev/null "$1/etc/systemd/system-generators/systemd-$name-generator"; done'
container() {
    name=$1
    shift
    mmdebstrap --mode=root --variant=minbase --include="systemd-sysv,dbus,$(echo "$@" | tr ' ' ',')" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook="$quiet" \
        --customize-hook="echo $name >\"\$1/etc/hostname\"" trixie "$tmp/$name.tar"
}

make() {
    cp /etc/resolv.conf "$tmp/root/etc/resolv.conf.new"
    mv "$tmp/root/etc/resolv.conf" "$tmp/root/etc/resolv.conf.old" 2>/dev/null || true
    mv "$tmp/root/etc/resolv.conf.new" "$tmp/root/etc/resolv.conf"
    chroot "$tmp/root" apt-get -qq update || return
    chroot "$tmp/root" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install \
        systemd-container lxc || return
    chroot "$tmp/root" apt-get clean
    chroot "$tmp/root" systemctl -q mask lxc-net.service lxc.service lxc-monitord.service dnsmasq.service nftables.service
    rm -rf "$tmp/root/var/lib/apt/lists"/* "$tmp/root/etc/resolv.conf"
    mv "$tmp/root/etc/resolv.conf.old" "$tmp/root/etc/resolv.conf" 2>/dev/null || true
    tar -cpf "$tmp/host.tar" -C "$tmp/root" --numeric-owner --xattrs --xattrs-include='*' . || return
    container web nginx-light || return
    container db postgresql || return
}

if ! make >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    if grep -qiE 'temporary failure|could not resolve|could not connect|failed to fetch|network is unreachable|connection (timed out|failed|refused)' "$log"; then
        skip "packages could not be downloaded (see $log), and $zones is not there"
    fi
    echo "the roots of containers could not be made; the log is $log" >&2
    exit 1
fi
rm -rf "$tmp/root"
cp "$tar.sha256" "$tmp/made-from"
sync "$tmp"/* "$tmp"
rm -rf "$zones"
mv "$tmp" "$zones"
echo "$zones"
