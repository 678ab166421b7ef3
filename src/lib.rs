//! bootenv keeps several bootable copies of one Linux installation and boots the one you choose.

pub mod altroot;
pub mod cli;
pub mod domain;
pub mod error;
pub mod loader;
pub mod ops;
pub mod plan;
pub mod session;
pub mod shared;
pub mod store;
pub mod sys;
