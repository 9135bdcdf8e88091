//! A folder whose files change all at once.
//!
//! As kubelet has it, so that programs which watch `..data` work: the files are in a folder `..<time>.<number>`, `..data` is
//! a link to it, and each name at the top is a link through `..data`. A change makes a new folder and moves the link in
//! one step.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// The link to the present files.
const DATA: &str = "..data";
/// The link while it is made.
const NEW_DATA: &str = "..data_tmp";

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// The user that it belongs to, if not root.
    pub owner: Option<u32>,
}

/// Files by their path in the folder.
pub type Files = BTreeMap<String, File>;

/// Makes a folder hold exactly these files; nothing is touched if it does already. `group` owns them, if given.
///
/// # Errors
/// If a path leaves the folder, or the disk refuses.
pub(crate) fn write(folder: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for path in files.keys() {
        check(path)?;
    }
    fs::create_dir_all(folder)?;
    let current = current(folder);
    if let Some(current) = &current
        && is_same(current, files)
        && top_names(files).iter().all(|name| folder.join(name).symlink_metadata().is_ok())
    {
        return Ok(());
    }
    let fresh = fresh_folder(folder)?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.content)?;
        crate::ownership::chown(&target, file.owner, group)?;
        // After the owner, for a change of owner takes bits away.
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
    }
    own_folders(&fresh, group)?;

    let new_link = folder.join(NEW_DATA);
    remove_if_there(&new_link)?;
    let name = fresh.file_name().expect("a fresh folder has a name");
    symlink(name, &new_link)?;
    fs::rename(&new_link, folder.join(DATA))?;

    // The names at the top: new ones come after the files are there, old ones go once they lead nowhere.
    let names = top_names(files);
    for name in &names {
        let link = folder.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let is_old_folder = text.starts_with("..2") && Some(name.as_os_str()) != fresh.file_name();
        if is_old_folder {
            fs::remove_dir_all(entry.path())?;
        } else if !text.starts_with("..") && !names.iter().any(|wanted| *wanted == text) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn own_folders(folder: &Path, group: Option<u32>) -> io::Result<()> {
    crate::ownership::chown(folder, None, group)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(if group.is_some() { 0o2755 } else { 0o755 }))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            own_folders(&entry.path(), group)?;
        }
    }
    Ok(())
}

fn check(path: &str) -> io::Result<()> {
    let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}: {why}")));
    if path.is_empty() || path.len() > 4096 {
        return invalid("it must not be empty or longer than 4096 characters");
    }
    if path.starts_with("..") {
        return invalid("it must not start with '..'");
    }
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain { Ok(()) } else { invalid("it must be relative and not contain '..'") }
}

fn current(folder: &Path) -> Option<PathBuf> {
    fs::read_link(folder.join(DATA)).ok().map(|name| folder.join(name))
}

fn top_names(files: &Files) -> Vec<&str> {
    let mut names: Vec<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    names.dedup();
    names
}

fn is_same(folder: &Path, files: &Files) -> bool {
    let mut found = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(file) = path.strip_prefix(folder).ok().and_then(|name| files.get(name.to_str()?)) else {
                return false;
            };
            let same_mode = path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o7777 == file.mode);
            if !same_mode || fs::read(&path).ok().as_ref() != Some(&file.content) {
                return false;
            }
            found += 1;
        }
    }
    found == files.len()
}

fn fresh_folder(folder: &Path) -> io::Result<PathBuf> {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = api_semantics::time::Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap_or(0)).to_time();
    // 2026-01-02T03:04:05Z -> ..2026_01_02_03_04_05.123456789
    let time: String = time.trim_end_matches('Z').chars().map(|c| if c.is_ascii_digit() { c } else { '_' }).collect();
    for number in now.subsec_nanos().. {
        let fresh = folder.join(format!("..{time}.{number}"));
        match fs::create_dir(&fresh) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(fresh),
        }
    }
    Err(io::Error::other("no name is left for a folder"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
