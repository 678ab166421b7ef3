//! The GRUB environment block: 1024 bytes that GRUB itself can write back in place (GRUB manual, "The GRUB environment block").

use crate::error::{Error, Result};

/// What every block begins with.
const SIGNATURE: &str = "# GRUB Environment Block\n";
/// GRUB never makes a block larger or smaller: it writes to the sectors the file has.
const SIZE: usize = 1024;

/// The variables of a block, in their order. Ones we do not know are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrubEnv {
    variables: Vec<(String, String)>,
}

impl GrubEnv {
    /// Reads a block.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |why: &str| {
            Err(Error::failed(format!("EFI/bootenv/grubenv on the ESP is damaged: {why}"))
                .hint("`bootenv check --repair` writes a new one; then `bootenv activate` what is to boot"))
        };
        let Ok(text) = std::str::from_utf8(bytes) else { return damaged("it is not text") };
        let Some(body) = text.strip_prefix(SIGNATURE) else { return damaged("its first line is not GRUB's") };
        if bytes.len() != SIZE {
            return damaged(&format!("it is {} bytes long, not {SIZE}", bytes.len()));
        }
        let mut variables = Vec::new();
        for line in body.lines() {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            match line.split_once('=') {
                Some((name, value)) => variables.push((name.to_string(), value.replace("\\\\", "\\"))),
                None => return damaged("a line is no NAME=VALUE"),
            }
        }
        Ok(GrubEnv { variables })
    }

    /// A variable's value; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// Sets a variable, or takes it out.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        self.variables.retain(|(n, _)| n != name);
        if let Some(value) = value {
            self.variables.push((name.to_string(), value.to_string()));
        }
    }

    /// The block as GRUB wants it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut text = SIGNATURE.to_string();
        for (name, value) in &self.variables {
            text.push_str(&format!("{name}={}\n", value.replace('\\', "\\\\")));
        }
        if text.len() > SIZE {
            return Err(Error::failed("EFI/bootenv/grubenv on the ESP has no room left")
                .hint("other variables fill it: `grub-editenv FILE list` shows them, `unset` removes them"));
        }
        text.push_str(&"#".repeat(SIZE - text.len()));
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_what_it_does_not_know() {
        let mut text = format!("{SIGNATURE}saved_entry=x\nbootenv_default=a\nbootenv_once=\n");
        text.push_str(&"#".repeat(SIZE - text.len()));
        let mut env = GrubEnv::parse(text.as_bytes()).unwrap();
        assert_eq!((env.get("bootenv_default"), env.get("bootenv_once")), (Some("a"), None));
        env.set("bootenv_default", Some("b"));
        let bytes = env.to_bytes().unwrap();
        assert_eq!(bytes.len(), SIZE);
        let again = GrubEnv::parse(&bytes).unwrap();
        assert_eq!((again.get("saved_entry"), again.get("bootenv_default")), (Some("x"), Some("b")));
    }

    #[test]
    fn damage_is_told() {
        assert!(GrubEnv::parse(b"").is_err());
        assert!(GrubEnv::parse(&[0u8; SIZE]).is_err());
        assert!(GrubEnv::parse(SIGNATURE.as_bytes()).is_err());
    }

    #[test]
    fn a_full_block_is_refused() {
        let mut env = GrubEnv::default();
        env.set("x", Some(&"y".repeat(1100)));
        assert!(env.to_bytes().is_err());
    }
}
