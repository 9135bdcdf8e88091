//! The init of a pod whose containers share one process namespace: it holds the namespace and waits for orphans.

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::WaitOptions;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::process::{Result, doing};
use crate::sys;

/// Becomes the init; `ready` is called when nothing can fail any more. It returns when it is told to end.
pub(crate) fn run(mount_point: &std::path::Path, ready: impl FnOnce()) -> Result<()> {
    shut_in(mount_point)?;
    doing("name the process", rustix::thread::set_name(c"pause"))?;
    sys::reset_signals();
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    doing("block signals", signals.thread_set_mask())?;
    ready();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {},
            Ok(_) => return Ok(()),
            Err(_) => {}
        }
    }
}

/// The containers see this process: it has an empty root, and no rights that they could borrow.
fn shut_in(mount_point: &std::path::Path) -> Result<()> {
    doing("unshare the mounts", unshare(CloneFlags::CLONE_NEWNS))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    doing("make the mounts private", mount_change("/", private))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    doing("mount an empty root", mount("tmpfs", mount_point, "tmpfs", flags, c"nr_blocks=1,nr_inodes=2"))?;
    doing("enter the root", rustix::process::chdir(mount_point))?;
    doing("pivot to the root", rustix::process::pivot_root(".", "."))?;
    doing("let go of the host's root", unmount(".", UnmountFlags::DETACH))?;
    doing("enter the root", rustix::process::chdir("/"))?;
    doing("gain nothing", rustix::thread::set_no_new_privs(true))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    doing("drop capabilities", rustix::thread::set_capabilities(None, sets))
}
