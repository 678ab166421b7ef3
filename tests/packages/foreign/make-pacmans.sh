# Repositories of pacman with the same packages, see make-rpms.sh.
set -e
command -v repo-add >/dev/null || exit 0
top=/tmp/pacmans
# Makes a package of a directory, whose name and version it has: package NAME VERSION FIELD...
package() {
    cd $top/"$1"
    printf '%s\n' "pkgname = $1" "pkgver = $2-1" 'pkgdesc = x' 'builddate = 1700000000' 'size = 100' 'arch = any' "$3" >.PKGINFO
    inside=$(ls -A | grep -v '^.MTREE$')
    bsdtar -czf .MTREE --format=mtree --options='!all,use-set,type,uid,gid,mode,time,size,sha256,link' $inside
    mkdir -p /opt/pacman/"$2"
    bsdtar --uid 0 --gid 0 --zstd -cf /opt/pacman/"$2"/"$1"-"$2"-1-any.pkg.tar.zst .PKGINFO .MTREE $(echo "$inside" | grep -v '^.PKGINFO$')
}
mkdir -p $top/base/usr/share/base $top/logger/var/log/logger $top/logger/var/spool/logger $top/logger/usr/lib/systemd/system $top/tool/usr/bin $top/plain/usr/share/plain
echo plain >$top/plain/usr/share/plain/file
echo packaged >$top/logger/var/log/logger/README
echo '[Service]' >$top/logger/usr/lib/systemd/system/logger.service
printf 'post_install() {\n    echo installed >>/var/log/logger.log\n}\n' >$top/logger/.INSTALL
package base 1 ''
package logger 1 ''
package plain 1 ''
for v in 1 2; do
    printf '#!/bin/sh\necho tool %s\n' $v >$top/tool/usr/bin/tool
    chmod 755 $top/tool/usr/bin/tool
    package tool $v 'depend = logger'
    (cd /opt/pacman/$v && repo-add -q test.db.tar.gz ./*.pkg.tar.zst)
    printf '[options]\nArchitecture = auto\nCheckSpace\nSigLevel = Never\nHookDir = /etc/pacman.d/hooks\n[test]\nServer = file:///opt/pacman/%s\n' $v >/opt/pacman/$v.conf
done
rm -r $top
