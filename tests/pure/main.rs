//! The pure lane: no store, no root, milliseconds. What requests become, what the command line says, and the rules that
//! names, files and versions must follow whatever they are fed.

mod automatic;
mod cli;
mod formats;
mod packages;
mod plans;
mod properties;
mod rig;

/// Where the `.snap` files lie, for every module alike.
#[macro_export]
macro_rules! snapshot {
    ($name:expr, $value:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pure/snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!($name, $value));
    }};
}
