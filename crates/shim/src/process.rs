//! The last steps of a process before it becomes the program of a container: user, rights, terminal, working folder.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::spec::{ProcessSpec, User};
use crate::sys;

/// A failed step: what was attempted, and the system's answer.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Says what was attempted when it failed.
pub(crate) fn doing<T, E: std::fmt::Display>(what: &str, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|e| format!("{what}: {e}"))
}

/// Lowest capability number that no kernel has.
const CAPABILITIES_END: u32 = 41;

/// Sets what must be set with the host's view: limits, OOM score. What is not permitted is a warning.
pub(crate) fn apply_limits(process: &ProcessSpec, warnings: &mut Vec<String>) {
    if let Some(score) = process.oom_score_adj {
        let path = "/proc/self/oom_score_adj";
        if let Err(e) = std::fs::write(path, score.to_string()) {
            warnings.push(format!("set oom_score_adj to {score}: {e}"));
            if score < 0 {
                // Not permitted to be spared: at least not preferred either. It may be a daemon's own low score that is kept.
                let own = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
                if own.is_some_and(|own| own > 0) {
                    let _ = std::fs::write(path, "0");
                }
            }
        }
    }
    for (name, soft, hard) in &process.rlimits {
        let Some(resource) = resource(name) else {
            warnings.push(format!("unknown resource limit {name}"));
            continue;
        };
        let now = rustix::process::getrlimit(resource);
        let value = |number: u64| (number != u64::MAX).then_some(number);
        let wanted = rustix::process::Rlimit { current: value(*soft), maximum: value(*hard) };
        if let Err(e) = rustix::process::setrlimit(resource, wanted) {
            warnings.push(format!("set {name} to {soft}:{hard}: {e}"));
            let soft = now.maximum.map_or(*soft, |most| most.min(*soft));
            let within = rustix::process::Rlimit { current: value(soft), maximum: now.maximum };
            let _ = rustix::process::setrlimit(resource, within);
        }
    }
}

fn resource(name: &str) -> Option<rustix::process::Resource> {
    use rustix::process::Resource as R;
    Some(match name {
        "RLIMIT_CPU" => R::Cpu,
        "RLIMIT_FSIZE" => R::Fsize,
        "RLIMIT_DATA" => R::Data,
        "RLIMIT_STACK" => R::Stack,
        "RLIMIT_CORE" => R::Core,
        "RLIMIT_RSS" => R::Rss,
        "RLIMIT_NPROC" => R::Nproc,
        "RLIMIT_NOFILE" => R::Nofile,
        "RLIMIT_MEMLOCK" => R::Memlock,
        "RLIMIT_AS" => R::As,
        "RLIMIT_LOCKS" => R::Locks,
        "RLIMIT_SIGPENDING" => R::Sigpending,
        "RLIMIT_MSGQUEUE" => R::Msgqueue,
        "RLIMIT_NICE" => R::Nice,
        "RLIMIT_RTPRIO" => R::Rtprio,
        "RLIMIT_RTTIME" => R::Rttime,
        _ => return None,
    })
}

/// Looks the user up in the files of the root that the caller is in.
pub(crate) fn look_up_user(process: &ProcessSpec) -> Result<User> {
    let read = |path: &str| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Images without these files are common; then only numbers can be meant.
    let passwd = read("/etc/passwd").unwrap_or_default();
    let group = read("/etc/group").unwrap_or_default();
    crate::users::resolve(&process.user, &passwd, &group)
}

/// Opens a terminal of the container's own and makes it the caller's; returns the other end.
pub(crate) fn open_terminal(console: bool) -> Result<OwnedFd> {
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    let master = doing("open a terminal", openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC))?;
    doing("unlock the terminal", unlockpt(&master))?;
    let name = doing("find the terminal's name", ptsname(&master, Vec::new()))?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let terminal = doing("open the terminal", rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()))?;
    doing("take the terminal", rustix::process::ioctl_tiocsctty(&terminal))?;
    set_stdio([terminal.as_fd(), terminal.as_fd(), terminal.as_fd()])?;
    if console && Path::new("/dev").is_dir() {
        let at = Path::new("/dev/console");
        if !at.exists() {
            doing("make /dev/console", std::fs::write(at, ""))?;
        }
        doing("mount /dev/console", rustix::mount::mount_bind(name.as_c_str(), at))?;
    }
    Ok(master)
}

/// Makes the files the caller's stdin, stdout and stderr.
pub(crate) fn set_stdio(files: [BorrowedFd<'_>; 3]) -> Result<()> {
    doing("set stdin", rustix::stdio::dup2_stdin(files[0]))?;
    doing("set stdout", rustix::stdio::dup2_stdout(files[1]))?;
    doing("set stderr", rustix::stdio::dup2_stderr(files[2]))
}

/// Becomes the program. It returns only if that failed, with words that runc's users know.
pub(crate) fn become_program(process: &ProcessSpec, user: &User) -> String {
    match give_up_rights(process, user).and_then(|program| execute(process, user, &program)) {
        Ok(never) => match never {},
        Err(message) => message,
    }
}

fn give_up_rights(process: &ProcessSpec, user: &User) -> Result<PathBuf> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    // So that `/dev/stdout` can be opened by whoever the program runs as.
    for file in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let is_shared = rustix::fs::fstat(file).is_ok_and(|stat| {
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            kind == rustix::fs::FileType::CharacterDevice && !rustix::termios::isatty(file)
        });
        if !is_shared {
            // A pipe of another user namespace, a closed file: the program can still write to what it has.
            let _ = rustix::fs::fchown(file, Some(uid), None);
        }
    }
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    let entered = rustix::process::chdir(cwd);
    if entered != Err(rustix::io::Errno::ACCESS) {
        doing(&format!("chdir to cwd ({cwd:?}) set in config.json failed"), entered)?;
    }
    doing("unblock signals", nix::sys::signal::SigSet::empty().thread_set_mask())?;
    sys::reset_signals();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if !process.no_new_privileges {
        // Without the promise to gain nothing, only a privileged process may load a filter, so it comes first.
        load_seccomp(process)?;
    }
    let sets = process.capabilities;
    let own = doing("read capabilities", rustix::thread::capabilities(None))?.permitted;
    for capability in 0..CAPABILITIES_END {
        if sets.bounding & (1 << capability) == 0 {
            let bit = CapabilitySet::from_bits_retain(1 << capability);
            match rustix::thread::remove_capability_from_bounding_set(bit) {
                // A kernel that does not know it cannot grant it.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(format!("drop capability {capability}: {e}")),
            }
        }
    }
    doing("keep capabilities", rustix::thread::set_keep_capabilities(true))?;
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    doing("set groups", rustix::thread::set_thread_groups(&groups))?;
    doing("set group", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    doing("set user", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    doing("forget to keep capabilities", rustix::thread::set_keep_capabilities(false))?;
    // What this process itself has not (it may be confined, too) cannot be given; the kernel refuses the whole set then.
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits & own.bits());
    // A user other than root starts with none in force, but may keep those that are ambient.
    let wanted = CapabilitySets {
        effective: set(sets.effective),
        permitted: set(sets.permitted),
        inheritable: set(sets.inheritable),
    };
    doing("set capabilities", rustix::thread::set_capabilities(None, wanted))?;
    for capability in (0..CAPABILITIES_END).filter(|bit| sets.ambient & own.bits() & (1 << bit) != 0) {
        let bit = CapabilitySet::from_bits_retain(1 << capability);
        doing("raise an ambient capability", rustix::thread::configure_capability_in_ambient_set(bit, true))?;
    }
    if entered.is_err() {
        // A folder that root may not enter (a network file system), but the user may.
        doing(&format!("chdir to cwd ({cwd:?}) set in config.json failed"), rustix::process::chdir(cwd))?;
    }
    let program = find_program(process)?;
    if process.no_new_privileges {
        doing("set no_new_privs", rustix::thread::set_no_new_privs(true))?;
        load_seccomp(process)?;
    }
    Ok(program)
}

fn load_seccomp(process: &ProcessSpec) -> Result<()> {
    match &process.seccomp {
        Some(program) => doing("load the seccomp filter", sys::load_seccomp(program)),
        None => Ok(()),
    }
}

/// Finds the program in the process's own PATH.
fn find_program(process: &ProcessSpec) -> Result<PathBuf> {
    let name = process.args.first().map(String::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err("no command specified".to_owned());
    }
    if name.contains('/') {
        return match is_program(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(format!("exec: {name:?}: stat {name}: no such file or directory"))
            }
            Err(_) => Err(format!("exec: {name:?}: permission denied")),
        };
    }
    let path = process.env.iter().rev().find_map(|row| row.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for folder in path.split(':') {
        let at = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match is_program(&at) {
            Ok(()) => return Ok(at),
            Err(e) => denied |= e.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if denied {
        return Err(format!("exec: {name:?}: permission denied"));
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH"))
}

fn is_program(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

fn execute(process: &ProcessSpec, user: &User, program: &Path) -> Result<std::convert::Infallible> {
    let text = |text: &str| CString::new(text).map_err(|_| format!("{text:?} has a zero byte in it"));
    let args = process.args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>>>()?;
    let mut env = process.env.iter().map(|row| text(row)).collect::<Result<Vec<_>>>()?;
    if !process.env.iter().any(|row| row.starts_with("HOME=")) {
        env.push(text(&format!("HOME={}", user.home))?);
    }
    let path = text(&program.to_string_lossy())?;
    doing("mark files to be closed", sys::close_on_exec_from(3))?;
    let error = match nix::unistd::execve(&path, &args, &env) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    Err(format!("exec {}: {}", program.display(), error.desc().to_lowercase()))
}
