# Repositories of rpm: base, which stands for what came with the system; logger, which ships and makes something below the shared
# directories, and has a service; tool, which needs it; plain, which does neither. In the second one tool is newer.
set -e
command -v rpmbuild >/dev/null || exit 0
top=/tmp/rpms
mkdir -p $top
spec() {
    printf 'Name: %s\nVersion: %%{v}\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%s\n' "$1" "$2" >$top/"$1".spec
    cat >>$top/"$1".spec
}
spec base 'Provides: /bin/sh' <<'S'
%description
x
%install
mkdir -p %{buildroot}/var/log %{buildroot}/var/spool
%files
%dir /var/log
%dir /var/spool
S
spec logger '' <<'S'
%description
x
%install
mkdir -p %{buildroot}/var/log/logger %{buildroot}/var/spool/logger %{buildroot}/usr/lib/systemd/system
echo packaged >%{buildroot}/var/log/logger/README
echo '[Service]' >%{buildroot}/usr/lib/systemd/system/logger.service
%post
echo installed >>/var/log/logger.log
%files
/var/log/logger
/var/spool/logger
/usr/lib/systemd/system/logger.service
S
spec tool 'Requires: logger' <<'S'
%description
x
%install
mkdir -p %{buildroot}/usr/bin
printf '#!/bin/sh\necho tool %{v}\n' >%{buildroot}/usr/bin/tool
%files
%attr(0755,root,root) /usr/bin/tool
S
spec plain '' <<'S'
%description
x
%install
mkdir -p %{buildroot}/usr/share/plain
echo plain >%{buildroot}/usr/share/plain/file
%files
/usr/share/plain
S
for v in 1 2; do
    mkdir -p /opt/rpm/$v
    rpmbuild --quiet -bb --define "_topdir $top" --define "_rpmdir /opt/rpm/$v" --define "v $v" $top/*.spec
    mv /opt/rpm/$v/noarch/* /opt/rpm/$v
    rmdir /opt/rpm/$v/noarch
done
rm /opt/rpm/2/[!t]*.rpm
for v in 1 2; do createrepo_c -q /opt/rpm/$v; done
rm -r $top
