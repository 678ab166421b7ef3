#!/bin/sh
# Part of setup.sh for a root with ZFS: keeps the module that DKMS has built and lets go of what built it.
set -eu
root=$1

set -- "$root"/usr/lib/modules/*/updates/dkms/zfs.ko*
[ -f "$1" ] || { echo "DKMS has built no zfs module: $1" >&2; exit 1; }
built=$(dirname "$1")
kernel=$(basename "$(dirname "$(dirname "$built")")")
version=$(chroot "$root" dpkg-query -W -f '${Version}' zfs-dkms)

# Compiler, headers and DKMS are most of the size. Purging zfs-dkms takes its modules away, so they go into a package of
# their own, which also is what zfs-initramfs depends on.
package=$root/var/tmp/zfs-modules
mkdir -p "$package/DEBIAN" "$package/usr/lib/modules/$kernel/extra"
cp "$built"/*.ko* "$package/usr/lib/modules/$kernel/extra/"
cat >"$package/DEBIAN/control" <<CONTROL
Package: zfs-modules-bootenv-test
Version: $version
Architecture: amd64
Maintainer: bootenv
Provides: zfs-modules
Description: the zfs modules for $kernel that zfs-dkms has built
CONTROL
chroot "$root" dpkg-deb -b --root-owner-group /var/tmp/zfs-modules /var/tmp/zfs-modules.deb
chroot "$root" dpkg -i /var/tmp/zfs-modules.deb
rm -r "$package" "$package.deb"
# What is only suggested by something that stays is no reason to keep a compiler.
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -y -o APT::AutoRemove::SuggestsImportant=false \
    -o APT::AutoRemove::RecommendsImportant=false purge --auto-remove zfs-dkms 'linux-headers-*' 'cpp*' 'binutils*' '*-dev'
chroot "$root" depmod "$kernel"
[ "$(chroot "$root" modinfo -k "$kernel" -F version zfs)" = "$version" ] || {
    echo "the zfs module for $kernel did not survive the removal of zfs-dkms" >&2
    exit 1
}

# Pools are made in one machine and imported in another: both have to be the same host.
chroot "$root" zgenhostid -f b007e4f0
chroot "$root" systemctl -q mask zfs-share.service zfs-volume-wait.service
# The emulated machines are small.
echo 'options zfs zfs_arc_max=134217728' >"$root/etc/modprobe.d/bootenv-test-zfs.conf"
printf '%s\n' ext4 zfs >>"$root/etc/initramfs-tools/modules"
