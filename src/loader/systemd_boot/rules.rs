//! What systemd-boot boots: its own rules, followed to the end (systemd-boot(7), loader.conf(5), "The Boot Loader
//! Interface"; checked against the source of versions 252 and 257).
//!
//! Every entry has an id, its file name in lower case. An entry whose kernel is not on the ESP is passed over; whether its
//! initrd is there is found out too late. Of the one-shot, the preferred, the default in an EFI variable and the default
//! in loader.conf, the first pattern that matches an entry decides; else the first entry of the menu is booted.

use std::cmp::Ordering;

/// An entry as systemd-boot sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Its file name, in lower case.
    pub id: String,
    /// Which BE it boots, if it is one of ours.
    pub be: Option<String>,
    /// Its sort key, if it has one.
    pub sort_key: Option<String>,
    /// Its machine id.
    pub machine: String,
    /// Its version.
    pub version: String,
    /// Whether its kernel is on the ESP.
    pub listed: bool,
    /// Whether everything else is there that it loads.
    pub loads: bool,
}

/// What has been asked of it, as patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asks {
    /// `LoaderEntryOneShot`.
    pub once: Option<String>,
    /// `LoaderEntryPreferred`, where the loader knows it.
    pub preferred: Option<String>,
    /// `LoaderEntryDefault`.
    pub default: Option<String>,
    /// `default` in loader.conf.
    pub config: Option<String>,
    /// `LoaderEntryLastBooted`, which `@saved` stands for.
    pub last: Option<String>,
}

/// Puts entries in the order of the menu and leaves out those that are not in it.
pub fn menu(mut items: Vec<Item>) -> Vec<Item> {
    items.retain(|i| i.listed);
    items.sort_by(order);
    items
}

/// What boots next because it is the one-shot.
pub fn once<'i>(menu: &'i [Item], asks: &Asks) -> Option<&'i Item> {
    find(menu, asks, &asks.once)
}

/// What boots when there is no one-shot.
pub fn default<'i>(menu: &'i [Item], asks: &Asks) -> Option<&'i Item> {
    let asked = [&asks.preferred, &asks.default, &asks.config];
    asked.into_iter().find_map(|pattern| find(menu, asks, pattern)).or_else(|| menu.first())
}

fn find<'i>(menu: &'i [Item], asks: &Asks, pattern: &Option<String>) -> Option<&'i Item> {
    let pattern = match pattern.as_deref() {
        Some("@saved") => asks.last.as_deref()?,
        other => other?,
    };
    let pattern: Vec<char> = pattern.to_ascii_lowercase().chars().collect();
    menu.iter().find(|i| matches(&pattern, &i.id.chars().collect::<Vec<_>>()))
}

/// The order of the menu. Boot counters are not looked at: no name of ours has one.
fn order(a: &Item, b: &Item) -> Ordering {
    let keyless = |i: &Item| i.sort_key.is_none();
    let by_key = || match (&a.sort_key, &b.sort_key) {
        (Some(x), Some(y)) => {
            x.cmp(y).then_with(|| a.machine.cmp(&b.machine)).then_with(|| versions(&b.version, &a.version))
        }
        _ => Ordering::Equal,
    };
    keyless(a).cmp(&keyless(b)).then_with(by_key).then_with(|| versions(&b.id, &a.id))
}

/// Compares versions as the UAPI group's Version Format Specification says.
fn versions(a: &str, b: &str) -> Ordering {
    let part_of = |c: u8| c.is_ascii_alphanumeric() || b"~-^.".contains(&c);
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let skip = |s: &[u8]| s.iter().take_while(|c| !part_of(**c)).count();
        (a, b) = (&a[skip(a)..], &b[skip(b)..]);
        let (x, y) = (a.first().copied(), b.first().copied());
        // A tilde sorts before everything, the end included.
        match (x == Some(b'~'), y == Some(b'~')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            _ => {}
        }
        if x.is_none() || y.is_none() {
            return x.is_some().cmp(&y.is_some());
        }
        let mut separators = b"-^.".iter().map(|s| (x == Some(*s), y == Some(*s)));
        match separators.find(|(one, other)| *one || *other) {
            Some((true, true)) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            Some((one, _)) => return if one { Ordering::Less } else { Ordering::Greater },
            None => {}
        }
        let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
        let letters = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_alphabetic()).count();
        let number = x.is_some_and(|c| c.is_ascii_digit()) || y.is_some_and(|c| c.is_ascii_digit());
        let (n, m) = if number { (digits(a), digits(b)) } else { (letters(a), letters(b)) };
        let (mut one, mut other) = (&a[..n], &b[..m]);
        let ordering = if number {
            if n == 0 || m == 0 {
                return n.cmp(&m);
            }
            let zeroes = |s: &[u8]| s.iter().take_while(|c| **c == b'0').count();
            (one, other) = (&one[zeroes(one)..], &other[zeroes(other)..]);
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        } else {
            one.cmp(other)
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
        (a, b) = (&a[n..], &b[m..]);
    }
}

/// Whether a pattern matches the whole of a text: `*`, `?`, `[a-z]`, and `\` before a character that is meant itself.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match (first, text.split_first()) {
        ('*', _) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        ('?', Some((_, tail))) => matches(rest, tail),
        ('[', Some((c, tail))) => {
            // A closing bracket that comes first is one of the set.
            let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) else { return false };
            in_set(&rest[..end], *c) && matches(&rest[end + 1..], tail)
        }
        ('\\', Some((c, tail))) => rest.first() == Some(c) && matches(&rest[1..], tail),
        (p, Some((c, tail))) => p == c && matches(rest, tail),
        (_, None) => false,
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let mut at = 0;
    while at < set.len() {
        match set[at..] {
            [low, '-', high, ..] if low <= c && c <= high => return true,
            [_, '-', _, ..] => at += 3,
            [one, ..] if one == c => return true,
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, key: Option<&str>) -> Item {
        let be = id.strip_suffix(".conf").map(str::to_string);
        Item { id: id.into(), be, sort_key: key.map(str::to_string), listed: true, loads: true, ..Item::default() }
    }

    fn three() -> Vec<Item> {
        menu(vec![item("c.conf", None), item("a.conf", Some("debian")), item("b.conf", Some("0-bootenv-1"))])
    }

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    fn due(menu: &[Item], asks: &Asks) -> String {
        default(menu, asks).map(|i| i.id.clone()).unwrap_or_default()
    }

    #[test]
    fn keys_come_first_and_in_order() {
        let ids: Vec<String> = three().into_iter().map(|i| i.id).collect();
        assert_eq!(ids, ["b.conf", "a.conf", "c.conf"]);
        let newest = menu(vec![
            Item { version: "6.9".into(), ..item("x.conf", Some("k")) },
            Item { version: "6.12".into(), ..item("y.conf", Some("k")) },
        ]);
        assert_eq!(newest[0].id, "y.conf");
        assert_eq!(menu(vec![item("e-1.conf", None), item("e-2.conf", None)])[0].id, "e-2.conf");
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let menu = three();
        let mut asks = Asks { config: some("c*"), ..Asks::default() };
        assert_eq!(due(&menu, &asks), "c.conf");
        asks.default = some("A.CONF");
        assert_eq!(due(&menu, &asks), "a.conf");
        asks.default = some("gone.conf");
        assert_eq!(due(&menu, &asks), "c.conf");
        asks.config = None;
        assert_eq!(due(&menu, &asks), "b.conf");
        (asks.default, asks.last) = (some("@saved"), some("a.conf"));
        assert_eq!(due(&menu, &asks), "a.conf");
        asks.preferred = some("c.conf");
        assert_eq!(due(&menu, &asks), "c.conf");
        assert_eq!(once(&menu, &asks), None);
        asks.once = some("b.conf");
        assert_eq!(once(&menu, &asks).map(|i| i.id.as_str()), Some("b.conf"));
    }

    #[test]
    fn what_has_no_kernel_is_not_in_the_menu() {
        let gone = Item { listed: false, ..item("a.conf", None) };
        let menu = menu(vec![gone, item("b.conf", None)]);
        assert_eq!(due(&menu, &Asks { default: some("a.conf"), ..Asks::default() }), "b.conf");
        assert_eq!(due(&[], &Asks::default()), "");
    }

    #[test]
    fn patterns() {
        let ok = |p: &str, t: &str| matches(&p.chars().collect::<Vec<_>>(), &t.chars().collect::<Vec<_>>());
        for (pattern, text) in [("", ""), ("*", "x"), ("a?c*", "abcd"), ("[a-c]x", "bx"), ("[]]", "]"), ("\\*", "*")] {
            assert!(ok(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "x"), ("?", ""), ("[a-c]", "d"), ("[ab", "a"), ("a*b", "ac"), ("\\", "x")] {
            assert!(!ok(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn versions_as_the_specification_orders_them() {
        for (older, newer) in [
            ("~1", ""),
            ("", "1"),
            ("1~rc1", "1"),
            ("1-1", "1.1"),
            ("1.9", "1.10"),
            ("1-2", "1^2"),
            ("a", "1"),
            ("A", "a"),
            ("0009", "10"),
        ] {
            assert_eq!(versions(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(versions(newer, older), Ordering::Greater, "{newer} {older}");
        }
        assert_eq!(versions("1_2", "1=2"), Ordering::Equal);
    }
}
