#!/bin/sh
# Runs on the host with the new root as $1 and its kind (btrfs, zfs, packages) as $2, after the packages are installed and before
# the final update-initramfs: turns a plain Debian into one that boots fast under emulation and has the agent.
set -eu
root=$1
kind=$2
guest=$(dirname "$0")

install -D -m 755 "$guest/bootenv-test-agent" "$root/usr/local/lib/bootenv-test-agent"
install -D -m 644 "$guest/bootenv-test-agent.service" "$root/etc/systemd/system/bootenv-test-agent.service"
chroot "$root" systemctl -q enable bootenv-test-agent.service

# Nothing logs in here, and every unit masked below costs a second or so under emulation. What the
# tests look at stays: the journal and its flush, tmpfiles, sysctl, udev, D-Bus.
chroot "$root" systemctl -q disable grub-common.service
chroot "$root" systemctl -q mask \
    getty.target serial-getty@ttyS0.service getty@tty1.service systemd-logind.service \
    systemd-user-sessions.service systemd-sysusers.service systemd-timesyncd.service \
    systemd-udev-load-credentials.service systemd-modules-load.service systemd-binfmt.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service \
    systemd-random-seed.service systemd-pstore.service systemd-rfkill.service ldconfig.service \
    dev-hugepages.mount dev-mqueue.mount run-lock.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    proc-sys-fs-binfmt_misc.automount apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
mkdir -p "$root/etc/systemd/system-generators"
for name in debug getty gpt-auto hibernate-resume rc-local ssh system-update sysv tpm2; do
    ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$name-generator"
done
# Drivers the kernel finds a use for and no test does.
printf 'blacklist %s\n' aesni_intel ghash_clmulni_intel sha1_ssse3 sha256_ssse3 sha512_ssse3 \
    crct10dif_pclmul polyval_clmulni efi_pstore button psmouse >"$root/etc/modprobe.d/bootenv-test.conf"
# udev's database of device names: slow to search, and it names nothing here.
rm -f "$root/usr/lib/udev/hwdb.bin" "$root/etc/udev/hwdb.bin"

echo bootenv-test >"$root/etc/hostname"
# A known id: an empty one means first boot, which presets every unit again.
echo b007e00000000000000000000000c0de >"$root/etc/machine-id"
mkdir -p "$root/etc/systemd/system.conf.d"
cat >"$root/etc/systemd/system.conf.d/bootenv-test.conf" <<'CONF'
[Manager]
# Emulated, with other work on the same two cores: slow is not stuck.
DefaultTimeoutStartSec=240s
DefaultDeviceTimeoutSec=240s
# A test that reboots does not wait for stragglers.
DefaultTimeoutStopSec=20s
CONF

[ "$kind" != packages ] || sh "$guest/setup-packages.sh" "$root"
[ "$kind" != zfs ] || sh "$guest/setup-zfs.sh" "$root"

# An initrd with what these machines have: a virtio disk, Btrfs, and the FAT of the ESP.
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\n' >"$root/etc/initramfs-tools/conf.d/bootenv-test"
printf '%s\n' virtio_pci virtio_blk virtio_console btrfs >>"$root/etc/initramfs-tools/modules"
# Without udev: the modules above make the only device there is, and udev starts again in the root.
cat >"$root/etc/initramfs-tools/hooks/zz-bootenv-test" <<'HOOK'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
rm -rf "$DESTDIR/usr/lib/udev" "$DESTDIR/usr/bin/udevadm" "$DESTDIR/usr/lib/systemd" \
    "$DESTDIR/scripts/init-top/udev"
cat >"$DESTDIR/scripts/init-bottom/udev" <<'BOTTOM'
#!/bin/sh
[ "$1" = prereqs ] || mount -n -o move /dev "$rootmnt/dev"
BOTTOM
HOOK
chmod 755 "$root/etc/initramfs-tools/hooks/zz-bootenv-test"
echo RESUME=none >"$root/etc/initramfs-tools/conf.d/resume"
chroot "$root" update-initramfs -u -k all
