//! Files that an operator names on the command line; `-` is standard input.

use std::io::Read;
use std::path::Path;

use super::error::CliError;

/// The whole text of a file.
pub fn text(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map(drop)
    };
    match read {
        Ok(()) => Ok(text),
        Err(error) => Err(CliError::failed(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Its lines, trimmed, without the empty ones.
pub fn lines(path: &Path) -> Result<Vec<String>, CliError> {
    let text = text(path)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
