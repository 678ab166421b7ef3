//! The kernel arguments a BE brings along, besides the ones that name its root.

use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::sys::tree::Tree;

/// The BE's own arguments: from `/etc/bootenv.toml`, else `/etc/kernel/cmdline` (kernel-install(8)), else
/// `/etc/default/grub`. What names a root is left out: that is the BE's path.
pub fn extra(tree: &Tree) -> Result<String> {
    let extra = told(tree)?;
    if extra.contains(['"', '\'', '\\']) {
        return Err(Error::refused(format!(
            "its kernel arguments have a quote or a backslash, which GRUB changes: {extra}"
        ))
        .hint("write them without, in its /etc/bootenv.toml (bootenv.toml(5))"));
    }
    Ok(extra)
}

fn told(tree: &Tree) -> Result<String> {
    if let Some(cmdline) = Settings::read(tree)?.boot.cmdline {
        return Ok(without_root(&cmdline));
    }
    if let Some(text) = tree.read_text("etc/kernel/cmdline").unwrap_or(None) {
        return Ok(without_root(&text));
    }
    let grub = tree.read_text("etc/default/grub").unwrap_or(None).unwrap_or_default();
    Ok(without_root(
        &[shell_value(&grub, "GRUB_CMDLINE_LINUX"), shell_value(&grub, "GRUB_CMDLINE_LINUX_DEFAULT")].join(" "),
    ))
}

fn without_root(text: &str) -> String {
    let own = ["root=", "rootflags=", "rootfstype=", "initrd=", "BOOT_IMAGE="];
    let keep = |word: &&str| *word != "ro" && *word != "rw" && !own.iter().any(|o| word.starts_with(o));
    text.split_whitespace().filter(keep).map(|w| w.replace(|c: char| c.is_control(), "")).collect::<Vec<_>>().join(" ")
}

/// The value of a plain `NAME="value"` line of a shell file; the last one counts.
fn shell_value(text: &str, name: &str) -> String {
    let value = text.lines().rev().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix('='));
    let value = value.unwrap_or("").trim();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or("").to_string(),
        _ => value.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or("").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_left_out() {
        assert_eq!(
            without_root("BOOT_IMAGE=/x root=UUID=1 ro  quiet rootflags=subvol=@ console=ttyS0\n"),
            "quiet console=ttyS0"
        );
    }

    #[test]
    fn the_last_line_counts() {
        let text = "# GRUB_CMDLINE_LINUX=\"no\"\nGRUB_CMDLINE_LINUX=\"a b\"\nGRUB_CMDLINE_LINUX_DEFAULT='quiet'\n";
        assert_eq!(shell_value(text, "GRUB_CMDLINE_LINUX"), "a b");
        assert_eq!(shell_value(text, "GRUB_CMDLINE_LINUX_DEFAULT"), "quiet");
        assert_eq!(shell_value(text, "OTHER"), "");
        assert_eq!(shell_value("X=\"a b\" # said \"c\"\n", "X"), "a b");
        assert_eq!(shell_value("X=a # b\n", "X"), "a");
    }
}
