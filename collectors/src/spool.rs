//! What is too large to be held meanwhile.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;

/// A file without a name where the system allows that, to be written and read again.
///
/// # Errors
/// When the folder for temporary files takes none.
pub fn spool() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("knet-{}-{}", std::process::id(), random(12)));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    // Where an open file cannot be removed, the system's own cleaning of its folder has to.
    let _ = std::fs::remove_file(&path);
    Ok(file)
}

/// Lower-case letters and digits, out of the seed of the standard library's hash tables.
#[must_use]
pub fn random(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_usize(text.len());
        text.push_str(&format!("{:016x}", hasher.finish()));
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::random;

    #[test]
    fn names_are_drawn_anew() {
        assert_ne!(random(8), random(8));
        assert_eq!(random(40).len(), 40);
    }
}
