//! Files that an operator names on the command line; `-` is standard input.

use std::io::Read;
use std::path::Path;

use super::error::CliError;

/// The whole content of a file.
pub fn bytes(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map(drop)
    };
    match read {
        Ok(()) => Ok(bytes),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The whole text of a file.
pub fn text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(bytes(path)?).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> CliError {
    CliError::failed(format!("cannot read {}: {error}", path.display()))
}

/// Its lines, trimmed, without the empty ones.
pub fn lines(path: &Path) -> Result<Vec<String>, CliError> {
    let text = text(path)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
