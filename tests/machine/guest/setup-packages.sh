#!/bin/sh
# Puts into the root $1 what tests install without the network: Debian's own packages that ship or make something below the
# shared directories, and a second kernel.
set -eu
root=$1
chroot "$root" apt-get clean
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --download-only \
    cron rsyslog nginx-light exim4-daemon-light postgresql linux-image-amd64 >/dev/null
# Not where they belong: there they would be cleaned up.
mkdir -p "$root/opt/apt"
mv "$root/var/cache/apt/archives" "$root/opt/apt/archives"
mkdir -p "$root/var/cache/apt/archives/partial"
cp -a "$root/var/lib/apt/lists" "$root/opt/apt/lists"
