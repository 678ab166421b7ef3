//! File names of entries: one per BE, that FAT and systemd-boot can tell apart.
//!
//! FAT and systemd-boot compare without case, systemd-boot takes `+` for a boot counter and `* ? [ \` for a pattern, and a
//! FAT name has at most 255 characters. A BE's name is case-sensitive and up to 250 bytes long.

use sha2::{Digest, Sha256};

/// Longest encoded name that is used as it is. With what is put around it, and `.new` while it is written, it stays well
/// below FAT's 255.
const LONGEST: usize = 180;

/// What the file names of a store's entries begin with: several stores may share an ESP.
pub fn prefix(store: &str) -> String {
    let tag: String = store.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("bootenv-{}-", tag.to_ascii_lowercase())
}

/// The file name of a BE's entry. Different BEs have different ones: an upper-case letter becomes `=` and its lower-case
/// one, a colon `=_`, and a name too long its beginning, `=0` and its hash.
pub fn encode(store: &str, be: &str) -> String {
    let mut name = String::new();
    for c in be.chars() {
        match c {
            'A'..='Z' => name.extend(['=', c.to_ascii_lowercase()]),
            ':' => name.push_str("=_"),
            c => name.push(c),
        }
    }
    if name.len() > LONGEST {
        name.truncate(LONGEST - 40);
        let hash: String = Sha256::digest(be).iter().take(16).map(|b| format!("{b:02x}")).collect();
        name = format!("{}=0{hash}", name.trim_end_matches('='));
    }
    format!("{}{name}.conf", prefix(store))
}

/// The BE whose entry has this file name, whatever its case; `None` if it is none of the store's, or was too long.
pub fn decode(store: &str, file: &str) -> Option<String> {
    let file = file.to_ascii_lowercase();
    let encoded = file.strip_prefix(&prefix(store))?.strip_suffix(".conf")?;
    let mut be = String::new();
    let mut chars = encoded.chars();
    while let Some(c) = chars.next() {
        be.push(match c {
            '=' => match chars.next()? {
                '_' => ':',
                c @ 'a'..='z' => c.to_ascii_uppercase(),
                _ => return None,
            },
            c => c,
        });
    }
    Some(be)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: &str = "1A2B3C4D-0000-0000-0000-000000000000";

    #[test]
    fn names_as_people_see_them() {
        assert_eq!(encode(STORE, "blue-2.1_x"), "bootenv-1a2b3c4d-blue-2.1_x.conf");
        assert_eq!(encode(STORE, "Blue:a"), "bootenv-1a2b3c4d-=blue=_a.conf");
        assert_eq!(encode(STORE, "a."), "bootenv-1a2b3c4d-a..conf");
        assert_eq!(decode(STORE, "BOOTENV-1A2B3C4D-=BLUE=_A.CONF").as_deref(), Some("Blue:a"));
        for other in ["bootenv-ffffffff-a.conf", "arch.conf", "bootenv-1a2b3c4d-a", "bootenv-1a2b3c4d-=0a.conf"] {
            assert_eq!(decode(STORE, other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn different_names_stay_different_without_case(
            a in "[A-Za-z0-9][A-Za-z0-9_.:-]{0,249}",
            b in "[A-Za-z0-9][A-Za-z0-9_.:-]{0,249}",
            flip in 0usize..250,
        ) {
            // A name that differs in one letter's case is the likeliest to collide.
            let mut near: Vec<char> = a.chars().collect();
            let at = flip % near.len();
            near[at] = if near[at].is_ascii_lowercase() { near[at].to_ascii_uppercase() } else { near[at].to_ascii_lowercase() };
            let near: String = near.into_iter().collect();
            for other in [&b, &near] {
                prop_assert_eq!(a == *other, encode(STORE, &a).eq_ignore_ascii_case(&encode(STORE, other)));
            }
            let file = encode(STORE, &a);
            prop_assert!(file.len() <= 210);
            prop_assert!(!file.contains(['+', '*', '?', '[', '\\', ':', '/']) && !file.contains(char::is_uppercase));
            if let Some(back) = decode(STORE, &file) {
                prop_assert_eq!(back, a);
            } else {
                prop_assert!(file.contains("=0"));
            }
        }
    }
}
