//! What a container is to be, decided from what the CRI asks for and what its image says. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cgroups::{DeviceRule, Limits};
use cri::v1;
use images::RunConfig;
use shim::spec::{
    ContainerSpec, DeviceSpec, MountKind, MountSpec, PidNamespace, ProcessSpec, Propagation, ReadOnly, Rootfs, UserSpec,
};

use crate::capabilities;
use crate::seccomp::{self, Profile};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the node has, as far as containers are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The capabilities that the kernel has.
    pub(crate) capabilities: u64,
    /// Every device node in /dev, for privileged containers.
    pub(crate) devices: Vec<DeviceSpec>,
}

/// The pod around a container.
pub(crate) struct Pod<'a> {
    pub(crate) config: &'a v1::PodSandboxConfig,
    /// Its files: `hostname`, `hosts`, `resolv.conf`, `shm`.
    pub(crate) folder: &'a Path,
    pub(crate) hostname: &'a str,
}

/// Everything from which a container is planned.
pub(crate) struct Wish<'a> {
    pub(crate) id: &'a str,
    pub(crate) config: &'a v1::ContainerConfig,
    pub(crate) pod: Pod<'a>,
    pub(crate) image: &'a RunConfig,
    pub(crate) rootfs: Rootfs,
    pub(crate) mount_point: &'a Path,
    pub(crate) cgroup: &'a str,
    pub(crate) log_bytes_max: u64,
    pub(crate) node: &'a Node,
    /// The text of a seccomp profile that is named by its file.
    pub(crate) seccomp_file: Option<&'a [u8]>,
}

/// Plans a container; failures in words.
pub(crate) fn container(wish: Wish<'_>) -> Result<ContainerSpec, String> {
    let Wish { id, config, pod, image, rootfs, mount_point, cgroup, log_bytes_max, node, seccomp_file } = wish;
    let context = security_context(config);
    if context.apparmor.as_ref().is_some_and(|profile| profile.profile_type() == v1::ProfileType::Localhost) {
        return Err("apparmor is not supported".to_owned());
    }
    let namespaces = context.namespace_options.clone().unwrap_or_default();
    let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let mut limits = resources.map(limits).unwrap_or_default();
    let (devices, rules) = devices(config, context.privileged, node)?;
    limits.devices = rules;
    let capabilities = capabilities::plan(context.privileged, context.capabilities.as_ref(), node.capabilities)?;
    let seccomp = seccomp_program(&context, seccomp_file, capabilities.bounding)?;
    let process = ProcessSpec {
        args: args(config, image)?,
        env: env(config, image, pod.hostname),
        cwd: first_of([&config.working_dir, &image.working_dir]).unwrap_or("/").to_owned(),
        tty: config.tty,
        user: user(&context, image)?,
        capabilities,
        no_new_privileges: context.no_new_privs,
        seccomp,
        rlimits: Vec::new(),
        oom_score_adj: Some(resources.map_or(0, |r| clamp(r.oom_score_adj))),
    };
    let pids = match v1::NamespaceMode::try_from(namespaces.pid) {
        Ok(v1::NamespaceMode::Pod) => PidNamespace::Pod,
        Ok(v1::NamespaceMode::Node) => PidNamespace::Host,
        Ok(v1::NamespaceMode::Target) => PidNamespace::Container(namespaces.target_id.clone()),
        _ => PidNamespace::Own,
    };
    let paths = |list: &[String]| if context.privileged { Vec::new() } else { list.to_vec() };
    Ok(ContainerSpec {
        id: id.to_owned(),
        rootfs,
        mount_point: mount_point.to_owned(),
        mounts: mounts(config, &context, &pod)?,
        process,
        pids,
        devices,
        masked_paths: paths(&context.masked_paths),
        readonly_paths: paths(&context.readonly_paths),
        readonly_root: context.readonly_rootfs,
        cgroup: cgroup.to_owned(),
        limits,
        log_path: log_path(pod.config, config),
        log_bytes_max,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
    })
}

/// Plans a further process in a container from its first one.
pub(crate) fn exec(
    config: &v1::ContainerConfig,
    image: &RunConfig,
    hostname: &str,
    node: &Node,
    seccomp_file: Option<&[u8]>,
    args: Vec<String>,
    tty: bool,
) -> Result<ProcessSpec, String> {
    let context = security_context(config);
    let capabilities = capabilities::plan(context.privileged, context.capabilities.as_ref(), node.capabilities)?;
    let seccomp = seccomp_program(&context, seccomp_file, capabilities.bounding)?;
    let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let mut env = env(config, image, hostname);
    if tty && !config.tty {
        env.push("TERM=xterm".to_owned());
    }
    Ok(ProcessSpec {
        args,
        env,
        cwd: first_of([&config.working_dir, &image.working_dir]).unwrap_or("/").to_owned(),
        tty,
        user: user(&context, image)?,
        capabilities,
        no_new_privileges: context.no_new_privs,
        seccomp,
        rlimits: Vec::new(),
        oom_score_adj: Some(resources.map_or(0, |r| clamp(r.oom_score_adj))),
    })
}

pub(crate) fn security_context(config: &v1::ContainerConfig) -> v1::LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

/// The file of a container's seccomp profile, if it is named by one.
pub(crate) fn seccomp_path(config: &v1::ContainerConfig) -> Option<PathBuf> {
    let profile = security_context(config).seccomp?;
    let is_file = profile.profile_type() == v1::ProfileType::Localhost;
    is_file.then(|| PathBuf::from(profile.localhost_ref.trim_start_matches("localhost/")))
}

fn seccomp_program(
    context: &v1::LinuxContainerSecurityContext,
    file: Option<&[u8]>,
    capabilities: u64,
) -> Result<Option<Vec<u64>>, String> {
    if context.privileged {
        return Ok(None);
    }
    let kind = context.seccomp.as_ref().map_or(v1::ProfileType::RuntimeDefault, |profile| profile.profile_type());
    match kind {
        v1::ProfileType::RuntimeDefault => seccomp::default_program(capabilities).map(Some),
        v1::ProfileType::Unconfined => Ok(None),
        v1::ProfileType::Localhost => {
            let file = file.ok_or("the seccomp profile cannot be read")?;
            Profile::parse(file)?.compile().map(Some)
        }
    }
}

/// The container's log file; none if either half of its name is missing.
pub(crate) fn log_path(pod: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> Option<PathBuf> {
    let is_named = !pod.log_directory.is_empty() && !config.log_path.is_empty();
    is_named.then(|| Path::new(&pod.log_directory).join(&config.log_path))
}

fn first_of(texts: [&str; 2]) -> Option<&str> {
    texts.into_iter().find(|text| !text.is_empty())
}

fn clamp(number: i64) -> i32 {
    i32::try_from(number.clamp(-1000, 1000)).unwrap_or_default()
}

/// The program: the pod's command before the image's, and the image's arguments only with the image's command.
fn args(config: &v1::ContainerConfig, image: &RunConfig) -> Result<Vec<String>, String> {
    let mut args = Vec::new();
    if config.command.is_empty() {
        args.extend_from_slice(&image.entrypoint);
        args.extend_from_slice(if config.args.is_empty() { &image.cmd } else { &config.args });
    } else {
        args.extend_from_slice(&config.command);
        args.extend_from_slice(&config.args);
    }
    if args.is_empty() { Err("no command specified".to_owned()) } else { Ok(args) }
}

/// The environment: a later row replaces an earlier one of its name, in its place.
fn env(config: &v1::ContainerConfig, image: &RunConfig, hostname: &str) -> Vec<String> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match rows.iter_mut().find(|row| row.0 == name) {
        Some(row) => value.clone_into(&mut row.1),
        None => rows.push((name.to_owned(), value.to_owned())),
    };
    if let Some((name, value)) = DEFAULT_PATH.split_once('=') {
        set(name, value);
    }
    if config.tty {
        set("TERM", "xterm");
    }
    if !hostname.is_empty() {
        set("HOSTNAME", hostname);
    }
    for row in &image.env {
        let (name, value) = row.split_once('=').unwrap_or((row, ""));
        set(name, value);
    }
    for row in &config.envs {
        set(&row.key, &String::from_utf8_lossy(&row.value));
    }
    rows.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn user(context: &v1::LinuxContainerSecurityContext, image: &RunConfig) -> Result<UserSpec, String> {
    let id = |value: i64| u32::try_from(value).map_err(|_| format!("invalid user or group id {value}"));
    let (user, is_named) = match &context.run_as_user {
        Some(uid) => (id(uid.value)?.to_string(), true),
        None if !context.run_as_username.is_empty() => (context.run_as_username.clone(), true),
        None => (image.user.clone(), false),
    };
    let group = match &context.run_as_group {
        Some(_) if !is_named && image.user.is_empty() => {
            return Err("user group is specified without user".to_owned());
        }
        Some(gid) => Some(id(gid.value)?),
        None => None,
    };
    Ok(UserSpec {
        user,
        group,
        groups: context.supplemental_groups.iter().map(|gid| id(*gid)).collect::<Result<_, _>>()?,
        strict: context.supplemental_groups_policy == v1::SupplementalGroupsPolicy::Strict as i32,
    })
}

/// Limits as the CRI gives them: zero means that nothing is said.
pub(crate) fn limits(resources: &v1::LinuxContainerResources) -> Limits {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let said = |value: i64| (value != 0).then_some(value);
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let memory = said(resources.memory_limit_in_bytes);
    Limits {
        cpu_shares: positive(resources.cpu_shares),
        cpu_quota: said(resources.cpu_quota),
        cpu_period: positive(resources.cpu_period),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        memory,
        // Without a word about swap a container gets none.
        memory_swap: said(resources.memory_swap_limit_in_bytes).or(memory),
        pids: None,
        hugepages: resources.hugepage_limits.iter().map(|row| (row.page_size.clone(), row.limit)).collect(),
        unified: resources
            .unified
            .iter()
            .map(|(file, value)| (file.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
        devices: Vec::new(),
    }
}

/// Devices that every container has.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(
    config: &v1::ContainerConfig,
    privileged: bool,
    node: &Node,
) -> Result<(Vec<DeviceSpec>, Vec<DeviceRule>), String> {
    let mut devices: Vec<DeviceSpec> = DEVICES
        .iter()
        .map(|(path, major, minor)| DeviceSpec {
            path: PathBuf::from(path),
            kind: 'c',
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    let all = |allow| DeviceRule { allow, kind: 'a', major: None, minor: None, access: "rwm".to_owned() };
    if privileged {
        for device in &node.devices {
            if !devices.iter().any(|known| known.path == device.path) {
                devices.push(device.clone());
            }
        }
        return Ok((devices, vec![all(true)]));
    }
    let rule =
        |kind, major, minor, access: &str| DeviceRule { allow: true, kind, major, minor, access: access.to_owned() };
    let mut rules = vec![all(false), rule('c', None, None, "m"), rule('b', None, None, "m")];
    rules.extend(devices.iter().map(|device| rule('c', Some(device.major), Some(device.minor), "rwm")));
    // Terminals: the multiplexer and its slaves.
    rules.push(rule('c', Some(5), Some(2), "rwm"));
    rules.push(rule('c', Some(136), None, "rwm"));
    for wish in &config.devices {
        let from = Path::new(&wish.host_path);
        // A folder stands for the devices in it.
        let found: Vec<&DeviceSpec> = node.devices.iter().filter(|device| device.path.starts_with(from)).collect();
        if found.is_empty() {
            return Err(format!("device {:?} is not there", wish.host_path));
        }
        for device in found {
            let rest = device.path.strip_prefix(from).unwrap_or(Path::new(""));
            let to = Path::new(&wish.container_path);
            let path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            let access = if wish.permissions.is_empty() { "rwm" } else { &wish.permissions };
            rules.push(rule(device.kind, Some(device.major), Some(device.minor), access));
            devices.push(DeviceSpec { path, ..device.clone() });
        }
    }
    Ok((devices, rules))
}

fn mounts(
    config: &v1::ContainerConfig,
    context: &v1::LinuxContainerSecurityContext,
    pod: &Pod<'_>,
) -> Result<Vec<MountSpec>, String> {
    let is_given = |path: &str| config.mounts.iter().any(|mount| clean(&mount.container_path) == Path::new(path));
    let new = |at: &str, fs: &str, flags: &[&str], data: &str| MountSpec {
        destination: PathBuf::from(at),
        kind: MountKind::New {
            fs: fs.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            data: data.to_owned(),
        },
    };
    let sys: &[&str] =
        if context.privileged { &["nosuid", "noexec", "nodev"] } else { &["nosuid", "noexec", "nodev", "ro"] };
    let mut out = vec![
        new("/proc", "proc", &["nosuid", "noexec", "nodev"], ""),
        new("/dev", "tmpfs", &["nosuid", "strictatime"], "mode=755,size=65536k"),
        new("/dev/pts", "devpts", &["nosuid", "noexec"], "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        new("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"], ""),
        new("/sys", "sysfs", sys, ""),
        MountSpec {
            destination: PathBuf::from("/sys/fs/cgroup"),
            kind: MountKind::Cgroup { writable: context.privileged },
        },
    ];
    let read_only = |yes| if yes { ReadOnly::Top } else { ReadOnly::No };
    let bind = |at: &str, source: PathBuf, yes| MountSpec {
        destination: PathBuf::from(at),
        kind: MountKind::Bind { source, recursive: true, read_only: read_only(yes), propagation: Propagation::Private },
    };
    for (at, name) in [("/etc/hostname", "hostname"), ("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf")] {
        out.push(bind(at, pod.folder.join(name), context.readonly_rootfs));
    }
    let ipc = context.namespace_options.as_ref().map(|options| options.ipc);
    let shm = if ipc == Some(v1::NamespaceMode::Node as i32) { "/dev/shm".into() } else { pod.folder.join("shm") };
    out.push(bind("/dev/shm", shm, false));
    out.retain(|row| !row.destination.to_str().is_some_and(is_given));
    for mount in &config.mounts {
        if mount.image.is_some() {
            return Err("image volumes are not supported".to_owned());
        }
        let read_only = match (mount.readonly, mount.recursive_read_only) {
            (false, false) => ReadOnly::No,
            (true, false) => ReadOnly::Top,
            (true, true) => ReadOnly::Recursive,
            (false, true) => return Err("recursive read-only mount needs to be read-only".to_owned()),
        };
        let propagation = match v1::MountPropagation::try_from(mount.propagation) {
            Ok(v1::MountPropagation::HostToContainer) => Propagation::HostToContainer,
            Ok(v1::MountPropagation::Bidirectional) => Propagation::Bidirectional,
            _ => Propagation::Private,
        };
        if read_only == ReadOnly::Recursive && propagation != Propagation::Private {
            return Err("recursive read-only mount needs private propagation".to_owned());
        }
        out.push(MountSpec {
            destination: clean(&mount.container_path),
            kind: MountKind::Bind { source: PathBuf::from(&mount.host_path), recursive: true, read_only, propagation },
        });
    }
    // What lies deeper is mounted later, else it would be covered.
    out.sort_by_key(|row| row.destination.components().count());
    Ok(out)
}

/// A path without dots and doubled slashes, from the root.
fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// The signal's number for a name of an image (`SIGTERM`, `term`, `15`).
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((base, offset)) = bare.split_once(['+', '-']) {
        let offset: i32 = offset.parse().ok()?;
        let number = match base {
            "RTMIN" if bare.contains('+') => 34 + offset,
            "RTMAX" if bare.contains('-') => 64 - offset,
            _ => return None,
        };
        return (34..=64).contains(&number).then_some(number);
    }
    SIGNALS.iter().find(|row| row.0 == bare).map(|row| row.1)
}

/// The signal's number for the CRI's enum; `None` if it leaves it to the image.
pub(crate) fn cri_signal(signal: i32) -> Option<i32> {
    let signal = v1::Signal::try_from(signal).ok().filter(|signal| *signal != v1::Signal::RuntimeDefault)?;
    let name = format!("{signal:?}").to_ascii_uppercase();
    let name = match name.strip_prefix("SIGRTMINPLUS") {
        Some(offset) => format!("SIGRTMIN+{offset}"),
        None => name.replace("SIGRTMAXMINUS", "SIGRTMAX-"),
    };
    signal_number(&name)
}

/// Signals of Linux on our processors.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// Checks the kernel settings of a pod: only those of its own namespaces.
pub(crate) fn check_sysctl(name: &str, own_network: bool, own_ipc: bool) -> Result<(), String> {
    let name = name.replace('/', ".");
    if name.contains("..") {
        return Err(format!("sysctl {name:?} is not a valid name"));
    }
    let is_ipc = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ]
    .contains(&name.as_str())
        || name.starts_with("fs.mqueue.");
    if is_ipc {
        return if own_ipc {
            Ok(())
        } else {
            Err(format!("sysctl {name:?} is not allowed in the hosts ipc namespace"))
        };
    }
    if name.starts_with("net.") {
        let allowed = own_network;
        return if allowed { Ok(()) } else { Err(format!("sysctl {name:?} not allowed in host network namespace")) };
    }
    Err(format!("sysctl {name:?} is not in a separate kernel namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_command_replaces_the_images_with_its_arguments() {
        let image = RunConfig { entrypoint: vec!["e".into()], cmd: vec!["c".into()], ..RunConfig::default() };
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let check = |command: &[&str], args_given: &[&str], expect: &str| {
            let config = v1::ContainerConfig {
                command: texts(command),
                args: texts(args_given),
                ..v1::ContainerConfig::default()
            };
            assert_eq!(args(&config, &image).unwrap_or_else(|e| vec![e]).join(" "), expect);
        };
        check(&[], &[], "e c");
        check(&[], &["x"], "e x");
        check(&["p"], &[], "p");
        check(&["p"], &["x"], "p x");
        assert!(args(&v1::ContainerConfig::default(), &RunConfig::default()).is_err());
    }

    #[test]
    fn signals_are_known_by_every_name() {
        for (name, number) in [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)] {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        for name in ["", "0", "65", "SIGNONE", "SIGRTMIN+40"] {
            assert_eq!(signal_number(name), None, "{name}");
        }
        assert_eq!(cri_signal(v1::Signal::Sigusr1 as i32), Some(10));
        assert_eq!(cri_signal(0), None);
    }

    #[test]
    fn only_settings_of_the_pods_own_namespaces_are_taken() {
        assert!(check_sysctl("kernel.shmmax", true, true).is_ok());
        assert!(check_sysctl("kernel.shmmax", true, false).is_err());
        assert!(check_sysctl("net.ipv4.ip_forward", true, false).is_ok());
        assert!(check_sysctl("net/ipv4/ip_forward", false, true).is_err());
        assert!(check_sysctl("kernel.panic", true, true).is_err());
        assert!(check_sysctl("net.../../kernel/panic", true, true).is_err());
    }
}
