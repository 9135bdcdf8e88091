//! The few system calls for which there is no safe wrapper.
#![expect(unsafe_code, reason = "fork, seccomp, mount_setattr, keyctl, bpf and signal handlers have no safe wrappers")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// From linux/keyctl.h.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
/// From linux/mount.h.
const MOUNT_ATTR_RDONLY: u64 = 1;

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(i32),
}

/// Forks. Only the helper and the starting shim do so: neither has threads.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: this process has one thread, so no lock can be held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child.as_raw())),
    }
}

/// Puts a seccomp filter in force; instructions are eight bytes each in the kernel's layout.
pub(crate) fn load_seccomp(program: &[u64]) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|instruction| {
            let bytes = instruction.to_ne_bytes();
            libc::sock_filter {
                code: u16::from_ne_bytes([bytes[0], bytes[1]]),
                jt: bytes[2],
                jf: bytes[3],
                k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            }
        })
        .collect();
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points at `length` instructions, which live until the call returns; the kernel copies and checks
    // them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0 as libc::c_ulong, &raw const program)
    };
    check(result)
}

/// What [`set_mount`] changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct MountChange {
    pub(crate) read_only: bool,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`; 0 leaves it.
    pub(crate) propagation: u64,
    pub(crate) recursive: bool,
}

/// Changes a mount that is held open.
pub(crate) fn set_mount(mount: impl AsFd, change: MountChange) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: if change.read_only { MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        propagation: change.propagation,
        userns_fd: 0,
    };
    let recursive = if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and `attributes` is a whole structure whose size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Loads a device program and attaches it to a cgroup of version 2, with which it goes away.
pub(crate) fn attach_device_program(cgroup: impl AsFd, program: &[u64]) -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    /// The beginning of union bpf_attr as BPF_PROG_LOAD reads it; what is not there counts as zero.
    #[repr(C)]
    struct Load {
        program_type: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log: [u64; 3],
    }
    /// The same as BPF_PROG_ATTACH reads it.
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let license = c"Apache-2.0";
    let load = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len()).map_err(io::Error::other)?,
        code: program.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log: [0; 3],
    };
    // SAFETY: `load` is a whole structure whose size is passed; it points at as many instructions as it says and at a C
    // string, which live until the call returns. The kernel verifies the program.
    let file = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    check(file)?;
    let number = i32::try_from(file).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this file for us, and nobody else knows of it.
    let file = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
    let unsigned = |file: i32| u32::try_from(file).map_err(io::Error::other);
    let attach = Attach {
        target: unsigned(cgroup.as_fd().as_raw_fd())?,
        program: unsigned(file.as_raw_fd())?,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` is a whole structure whose size is passed, and both of its files are open.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) })
}

/// Leaves the daemon's session keyring for a new one, so that a container sees no keys of the host.
pub(crate) fn join_session_keyring(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a C string that lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(result)
}

/// Gives every signal its default meaning again: ignored ones would stay ignored in the program to come.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action for every signal; the kernel refuses numbers that cannot be set.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets the program to come use huge pages: the shim itself does without, and what it does without is inherited.
pub(crate) fn allow_huge_pages() -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, NONE, NONE, NONE, NONE) };
    check(result.into())
}

/// Marks every open file beyond stderr to be closed by exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: no file is closed now; CLOSE_RANGE_CLOEXEC only sets a flag.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_uint) };
    check(result)
}

/// Brings up the loopback interface of the caller's network namespace, by one netlink message.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const LOOPBACK_INDEX: i32 = 1;
    const IFF_UP: u32 = 1;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence, port.
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // struct ifinfomsg: family, padding, type, index, flags, which of them change.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (_, count) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if count < 20 || kind != NLMSG_ERROR {
        return Err(io::Error::other("netlink did not acknowledge"));
    }
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
