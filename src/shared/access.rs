//! Teaching AppArmor and SELinux that the shared directories have another path.

use crate::domain::shared::SHARED_LIST;
use crate::error::Result;
use crate::sys::tree::Tree;

/// AppArmor's aliases (apparmor.d(5), "Alias rules") and SELinux' local path equivalences (`file_contexts.subs`,
/// selabel_file(5)). Only where the BE has them; a line that stands there is not repeated.
pub fn teach(tree: &Tree) -> Result<()> {
    let apparmor = SHARED_LIST.map(|n| format!("alias /var/{n}/ -> /var/shared/{n}/,"));
    append(tree, "etc/apparmor.d/tunables/alias", &apparmor)?;
    let selinux = SHARED_LIST.map(|n| format!("/var/shared/{n} /var/{n}"));
    for policy in tree.list("etc/selinux")? {
        let files = format!("etc/selinux/{}/contexts/files", policy.to_string_lossy());
        if tree.exists(&format!("{files}/file_contexts")) {
            let subs = format!("{files}/file_contexts.subs");
            if !tree.exists(&subs) {
                tree.write(&subs, b"", 0o644)?;
            }
            append(tree, &subs, &selinux)?;
        }
    }
    Ok(())
}

fn append(tree: &Tree, path: &str, lines: &[String]) -> Result<()> {
    let Some(old) = tree.read_text(path)? else { return Ok(()) };
    let missing: Vec<&String> = lines.iter().filter(|l| !old.lines().any(|o| o.trim() == l.as_str())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = old;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    missing.iter().for_each(|l| text.push_str(&format!("{l}\n")));
    tree.edit(path, text.as_bytes())
}
