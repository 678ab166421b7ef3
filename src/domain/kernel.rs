//! Which kernel and initrd of a BE its menu entry names.

use std::cmp::Ordering;

/// A kernel and its initrd, as file names below the BE's `/boot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// File name of the kernel image.
    pub image: String,
    /// File name of the initrd, if there is one for that version.
    pub initrd: Option<String>,
}

/// Picks the newest kernel among the file names of `/boot`: `vmlinuz-VERSION` (or `vmlinux-`, `Image-`), or a plain
/// `vmlinuz` where no version is given, with the initrd named as Debian, Fedora, SUSE or Arch name it.
pub fn newest(files: &[String]) -> Option<Kernel> {
    // `vmlinux-` is taken only where there is no `vmlinuz-`: openSUSE keeps it beside, for crash dumps.
    let found = ["vmlinuz-", "Image-", "vmlinux-"].iter().find_map(|prefix| {
        let versions = files.iter().filter_map(|f| Some((f.strip_prefix(prefix)?, f)));
        // Of two that are the same version, `4.0` and `4.00`, it is the same one in whatever order the directory has them.
        versions.filter(|(version, _)| usable(version)).max_by(|a, b| compare(a.0, b.0).then_with(|| a.0.cmp(b.0)))
    });
    if let Some((version, image)) = found {
        let candidates = [
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
            format!("initrd-{version}"),
            format!("initrd-{version}.img"),
            format!("initramfs-{version}"),
        ];
        return Some(Kernel { image: image.clone(), initrd: candidates.into_iter().find(|c| files.contains(c)) });
    }
    let image = files.iter().find(|f| *f == "vmlinuz")?;
    let initrd = ["initrd.img", "initramfs.img", "initrd"].iter().find(|c| files.iter().any(|f| f == *c));
    Some(Kernel { image: image.clone(), initrd: initrd.map(|s| s.to_string()) })
}

/// What follows the prefix is a version, and not a rescue image, a backup or a package manager's half-written file.
fn usable(version: &str) -> bool {
    let endings = [".old", ".bak", ".gz", ".xz", ".zst", ".debug", ".hmac", ".sig", ".new", ".tmp"];
    !version.is_empty()
        && !version.starts_with("0-rescue")
        && !endings.iter().any(|e| version.ends_with(e))
        && ![".dpkg-", ".rpm"].iter().any(|part| version.contains(part))
}

/// Orders versions as people read them: runs of digits by value, everything else by character, and a tilde
/// before the end of the text (a release candidate is older than its release).
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, 0) => match (a.first(), b.first()) {
                (None, None) => return Ordering::Equal,
                (x, y) if x == y => (a, b) = (&a[1..], &b[1..]),
                (x, y) => return rank(x).cmp(&rank(y)),
            },
            (0, _) => return rank(a.first()).cmp(&rank(b.first())),
            (_, 0) => return rank(a.first()).cmp(&rank(b.first())),
            (n, m) => {
                let strip = |s: &[u8]| -> Vec<u8> { s.iter().copied().skip_while(|c| *c == b'0').collect() };
                let (x, y) = (strip(&a[..n]), strip(&b[..m]));
                match x.len().cmp(&y.len()).then_with(|| x.cmp(&y)) {
                    Ordering::Equal => (a, b) = (&a[n..], &b[m..]),
                    unequal => return unequal,
                }
            }
        }
    }
}

fn rank(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) => 1 + i32::from(*c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn the_newest_version_with_its_own_initrd() {
        let kernel = newest(&files(&[
            "vmlinuz-6.9.12-amd64",
            "initrd.img-6.9.12-amd64",
            "vmlinuz-6.12.1-amd64",
            "initrd.img-6.12.1-amd64",
            "vmlinuz-0-rescue-abc",
            "vmlinuz-6.99.old",
            "config-6.12.1-amd64",
        ]))
        .unwrap();
        assert_eq!(kernel.image, "vmlinuz-6.12.1-amd64");
        assert_eq!(kernel.initrd.as_deref(), Some("initrd.img-6.12.1-amd64"));
    }

    #[test]
    fn other_distributions() {
        let fedora = newest(&files(&["vmlinuz-6.1.0-1.fc38", "initramfs-6.1.0-1.fc38.img"])).unwrap();
        assert_eq!(fedora.initrd.as_deref(), Some("initramfs-6.1.0-1.fc38.img"));
        let arch = newest(&files(&["vmlinuz-linux", "initramfs-linux.img", "initramfs-linux-fallback.img"])).unwrap();
        assert_eq!(arch.initrd.as_deref(), Some("initramfs-linux.img"));
        assert_eq!(newest(&files(&["vmlinuz"])).unwrap().initrd, None);
        assert_eq!(newest(&files(&["grub", "efi"])), None);
    }

    #[test]
    fn one_version_written_in_two_ways() {
        let names = files(&["vmlinuz-4.00", "vmlinuz-4.0"]);
        let turned: Vec<String> = names.iter().rev().cloned().collect();
        assert_eq!(newest(&names).unwrap().image, "vmlinuz-4.00");
        assert_eq!(newest(&turned), newest(&names));
    }

    #[test]
    fn what_is_no_kernel_is_passed_over() {
        let names = [
            "vmlinux-6.4.0.gz",
            "vmlinuz-6.4.0",
            "vmlinux-6.9",
            "vmlinuz-6.5.dpkg-new",
            "vmlinuz-6.6.rpmsave",
            ".vmlinuz-7.hmac",
        ];
        assert_eq!(newest(&files(&names)).unwrap().image, "vmlinuz-6.4.0");
    }

    #[test]
    fn versions_order_as_people_read_them() {
        for (older, newer) in [
            ("6.9", "6.12"),
            ("6.12~rc1", "6.12"),
            ("6.12", "6.12.1"),
            ("5.10", "6"),
            ("1.09", "1.10"),
            ("6.1-a", "6.1-b"),
        ] {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater);
        }
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    }
}
