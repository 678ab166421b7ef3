# Repositories of apk with the same packages, see make-rpms.sh; what came with the system is the system's own.
set -e
command -v apk >/dev/null || exit 0
top=/tmp/apks
# package NAME VERSION OPTION...
package() {
    name=$1 version=$2
    shift 2
    mkdir -p /opt/apk/$version/x86_64
    apk mkpkg -q -I name:$name -I version:$version-r0 -I arch:x86_64 -I description:x -I license:MIT -I origin:$name -I url:x "$@" \
        -F $top/$name -o /opt/apk/$version/x86_64/$name-$version-r0.apk
}
mkdir -p $top/logger/var/log/logger $top/logger/var/spool/logger $top/logger/usr/lib/systemd/system $top/tool/usr/bin $top/plain/usr/share/plain
echo plain >$top/plain/usr/share/plain/file
echo packaged >$top/logger/var/log/logger/README
echo '[Service]' >$top/logger/usr/lib/systemd/system/logger.service
printf '#!/bin/sh\necho installed >>/var/log/logger.log\n' >$top/post
chmod +x $top/post
package logger 1 -s post-install:$top/post
package plain 1
for v in 1 2; do
    printf '#!/bin/sh\necho tool %s\n' $v >$top/tool/usr/bin/tool
    chmod 755 $top/tool/usr/bin/tool
    package tool $v -I depends:logger
    apk mkndx -q --allow-untrusted -o /opt/apk/$v/x86_64/APKINDEX.tar.gz /opt/apk/$v/x86_64/*.apk
done
rm -r $top
