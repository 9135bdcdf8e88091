//! Files that are either whole or not there: written beside their place, made durable, then renamed.

use crate::PkiError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file to be written.
pub(crate) struct NewFile {
    pub(crate) path: PathBuf,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

impl NewFile {
    /// Readable by its owner only.
    pub(crate) fn secret(path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        Self { path, content: content.into(), mode: 0o600 }
    }

    pub(crate) fn public(path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        Self { path, content: content.into(), mode: 0o644 }
    }
}

/// The file's content, or `None` when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Read { path: path.to_owned(), source }),
    }
}

/// Writes all files, in an order that a crash cannot harm: every content is on disk before the first name appears,
/// and names appear in the order given. The contents are made durable side by side, because one flush of a journal
/// serves all that wait for it.
pub(crate) fn write_all(files: &[NewFile]) -> Result<(), PkiError> {
    if files.is_empty() {
        return Ok(());
    }
    let mut folders: Vec<&Path> = files.iter().map(|file| folder_of(&file.path)).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in &folders {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| PkiError::Write { path: folder.to_path_buf(), source })?;
    }
    let written: Vec<Result<(), PkiError>> = std::thread::scope(|scope| {
        let writers: Vec<_> = files.iter().map(|file| scope.spawn(|| write_beside(file))).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let renamed = written.into_iter().collect::<Result<(), _>>().and_then(|()| {
        files.iter().try_for_each(|file| {
            std::fs::rename(beside(&file.path), &file.path)
                .map_err(|source| PkiError::Write { path: file.path.clone(), source })
        })
    });
    if renamed.is_err() {
        for file in files {
            // Whatever is left over is of no use; the first error is the one to report.
            let _ = std::fs::remove_file(beside(&file.path));
        }
        return renamed;
    }
    for folder in folders {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| PkiError::Write { path: folder.to_path_buf(), source })?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The place where a file is written before it gets its name.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    folder_of(path).join(name)
}

fn write_beside(file: &NewFile) -> Result<(), PkiError> {
    let path = beside(&file.path);
    let write = || {
        // What a crash left behind may have another mode or owner: never reuse it.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut handle = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&path)?;
        handle.write_all(&file.content)?;
        handle.sync_all()
    };
    write().map_err(|source| PkiError::Write { path: file.path.clone(), source })
}
