#!/bin/sh
# Builds a Debian root that tests boot, once, and prints the path of its tar: build-root.sh btrfs|zfs|packages
#
# The tar lives in a cache outside the checkout, under a key made from everything that goes into it.
# Exit status 77 with "skipped: why" on standard error: it is not there and cannot be built here.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${BOOTENV_CACHE:-/var/cache/bootenv-test}
suite=trixie
kind=${1:-}
components=main
packages="systemd-sysv systemd udev dbus kmod libpam-systemd login passwd apt ca-certificates
    linux-image-cloud-amd64 initramfs-tools zstd btrfs-progs dosfstools acl attr
    grub-efi-amd64-bin grub-common systemd-boot-efi fdisk"
case $kind in
btrfs) ;;
zfs)
    # The module has to be built; the store lane runs in this root, and needs its tools there.
    components=main,contrib
    packages="$packages zfs-dkms zfsutils-linux zfs-initramfs busybox linux-headers-cloud-amd64
        python3 strace util-linux e2fsprogs xz-utils mtools
        systemd-boot efibootmgr"
    ;;
packages)
    packages="$packages python3 busybox"
    ;;
*)
    echo "usage: build-root.sh btrfs|zfs|packages" >&2
    exit 2
    ;;
esac

skip() {
    echo "skipped: $1" >&2
    exit 77
}

key=$({
    echo "$suite" "$kind" $packages
    cat "$here/build-root.sh" "$here/guest/"*
} | sha256sum | cut -c1-16)
tar=$cache/root-$suite-$kind-$key.tar

# The checksum is written last: without it the tar is not complete.
usable() {
    [ -f "$tar" ] && [ -f "$tar.sha256" ] &&
        [ "$(cat "$tar.sha256")" = "$(sha256sum <"$tar" | cut -d' ' -f1)" ]
}

if usable; then
    echo "$tar"
    exit 0
fi
[ "$(id -u)" = 0 ] || skip "building the test root needs root, and $tar is not there"
command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed, and $tar is not there"
mkdir -p "$cache"

# Two test programs at once build it once.
exec 9>"$cache/.root.lock"
flock 9
if usable; then
    echo "$tar"
    exit 0
fi

log=$cache/root-$suite-$kind-$key.log
tmp=$cache/.root-$suite-$kind-$key.$$.tar
trap 'rm -f "$tmp"' EXIT
trap 'exit 1' INT TERM

if ! mmdebstrap --mode=root --variant=minbase --components="$components" \
    --include="$(echo $packages | tr ' ' ',')" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --skip=cleanup/reproducible/machine-id \
    --customize-hook="sh '$here/guest/setup.sh' \"\$1\" $kind" \
    "$suite" "$tmp" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    if grep -qiE 'temporary failure|could not resolve|could not connect|failed to fetch|network is unreachable|connection (timed out|failed|refused)' "$log"; then
        skip "the test root could not be downloaded (see $log), and $tar is not there"
    fi
    echo "mmdebstrap failed; its log is $log" >&2
    exit 1
fi
sync "$tmp"
rm -f "$tar.sha256"
mv "$tmp" "$tar"
sha256sum <"$tar" | cut -d' ' -f1 >"$tar.sha256.$$"
mv "$tar.sha256.$$" "$tar.sha256"
echo "$tar"
