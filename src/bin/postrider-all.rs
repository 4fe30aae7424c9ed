//! All three programs in one file: the name that it is called by says which one it is.
//!
//! For images and archives. The programs share nearly all of their code, so one file with links to
//! it takes a third of the room (docs/container.md).

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

#[path = "postrider-api.rs"]
mod companion;
#[path = "postriderd.rs"]
mod daemon;
#[path = "postrider.rs"]
mod tool;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(OsStr::to_str) {
        Some("postriderd") => daemon::main(),
        Some("postrider-api") => companion::main(),
        _ => tool::main(),
    }
}
