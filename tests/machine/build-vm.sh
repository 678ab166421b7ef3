#!/bin/sh
# Makes what QEMU boots without firmware out of a root of build-root.sh, once, and prints the path of the directory it is
# in: root.img (ext4, to be used with a throw-away overlay), vmlinuz and initrd. build-vm.sh btrfs|zfs
#
# It lies beside the root's tar, under the same key. Exit status 77: as build-root.sh.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
tar=$("$here/build-root.sh" "$@")
vm=${tar%.tar}-$(sha256sum <"$here/build-vm.sh" | cut -c1-8).vm

# The directory gets its name when it is whole. The root may have been built anew since, from newer packages.
usable() { cmp -s "$tar.sha256" "$vm/made-from"; }

if usable; then
    echo "$vm"
    exit 0
fi
[ "$(id -u)" = 0 ] || {
    echo "skipped: making the test machine's disk needs root, and $vm is not there" >&2
    exit 77
}
exec 9>"$(dirname "$tar")/.vm.lock"
flock 9
if usable; then
    echo "$vm"
    exit 0
fi

tmp=$vm.$$
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
mkdir "$tmp" "$tmp/at"
truncate -s 16G "$tmp/root.img"
# No journal: nobody ever comes back to what has been written.
mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1 "$tmp/root.img"
# A namespace of its own: the mount ends with the shell, however that ends.
unshare --mount --propagation private sh -euc '
    mount -o loop "$2/root.img" "$2/at"
    tar -xpf "$1" -C "$2/at" --numeric-owner --xattrs --xattrs-include="*"
    cp "$2"/at/boot/vmlinuz-* "$2/vmlinuz"
    cp "$2"/at/boot/initrd.img-* "$2/initrd"
    umount "$2/at"
' sh "$tar" "$tmp"
rmdir "$tmp/at"
cp "$tar.sha256" "$tmp/made-from"
sync "$tmp"/* "$tmp"
rm -rf "$vm"
mv "$tmp" "$vm"
echo "$vm"
