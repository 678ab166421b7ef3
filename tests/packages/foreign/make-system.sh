# What makes a system of a root that nothing boots: a kernel that is none, and an init.
set -e
[ ! -e /etc/alpine-release ] || exit 0
mkdir -p /boot /usr/lib/modules/6.12.1-amd64 /usr/lib/systemd
echo kernel >/boot/vmlinuz-6.12.1-amd64
echo initrd >/boot/initrd.img-6.12.1-amd64
: >/usr/lib/systemd/systemd
