//! Seccomp: profiles as containers name them, and the program for the kernel that comes of one. Pure.
//!
//! Written here rather than taken from libseccomp, so that no C library is needed. The default profile is a table of facts
//! ([`Profile::runtime_default`]); a profile of a file is Docker's and OCI's JSON.

mod bpf;

use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::capabilities;

const DEFAULT: &str = include_str!("default.tsv");
const SYSCALLS: &str = include_str!("syscalls.tsv");

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Which system calls get which answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

impl Action {
    /// The kernel's number for it.
    fn number(self, errno: Option<u32>) -> u32 {
        let errno = errno.unwrap_or(EPERM) & 0xffff;
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Errno => 0x0005_0000 | errno,
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            Action::Trace => 0x7ff0_0000 | errno,
            Action::Log => 0x7ffc_0000,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    name: String,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A processor's way of calling the system, with its column in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Architecture {
    name: &'static str,
    audit: u32,
    column: usize,
}

const X86_64: Architecture = Architecture { name: "SCMP_ARCH_X86_64", audit: 0xc000_003e, column: 1 };
const I386: Architecture = Architecture { name: "SCMP_ARCH_X86", audit: 0x4000_0003, column: 2 };
const AARCH64: Architecture = Architecture { name: "SCMP_ARCH_AARCH64", audit: 0xc000_00b7, column: 3 };

#[cfg(target_arch = "aarch64")]
const NATIVE: Architecture = AARCH64;
#[cfg(not(target_arch = "aarch64"))]
const NATIVE: Architecture = X86_64;

impl Profile {
    /// Reads a profile of a file.
    ///
    /// # Errors
    /// In words, if it is none.
    pub fn parse(json: &[u8]) -> Result<Profile, String> {
        serde_json::from_slice(json).map_err(|e| format!("seccomp profile is not valid: {e}"))
    }

    /// The default profile for a process with these capabilities.
    pub fn runtime_default(capabilities: u64) -> Profile {
        let has = |name: &str| capabilities::number(name).is_some_and(|bit| capabilities & (1 << bit) != 0);
        let rule =
            |names: Vec<String>, action, errno_ret, args| Rule { names, name: String::new(), action, errno_ret, args };
        let mut syscalls = Vec::new();
        for line in DEFAULT.lines().filter(|line| !line.starts_with('#')) {
            let Some((condition, names)) = line.split_once('\t') else { continue };
            let applies = match condition {
                "always" => true,
                "x86" => NATIVE == X86_64,
                "arm" => NATIVE == AARCH64,
                capability => has(capability),
            };
            if applies {
                syscalls.push(rule(names.split(' ').map(str::to_owned).collect(), Action::Allow, None, None));
            }
        }
        let on_first = |name: &str, op, value, value_two| {
            let args = Some(vec![Argument { index: 0, value, value_two, op }]);
            rule(vec![name.to_owned()], Action::Allow, None, args)
        };
        // Socket families that are neither obsolete nor known for holes, and not AF_ALG and AF_VSOCK.
        syscalls.push(on_first("socket", Operator::Less, 12, 0));
        let families =
            [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];
        syscalls.extend(families.map(|family| on_first("socket", Operator::Equal, family, 0)));
        let personalities = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
        syscalls.extend(personalities.map(|value| on_first("personality", Operator::Equal, value, 0)));
        if !has("CAP_SYS_ADMIN") {
            // No new namespaces. clone3 hides its flags behind a pointer: programs fall back to clone.
            const NAMESPACES: u64 = 0x7e02_0000;
            syscalls.push(on_first("clone", Operator::MaskedEqual, NAMESPACES, 0));
            syscalls.push(rule(vec!["clone3".to_owned()], Action::Errno, Some(ENOSYS), None));
        }
        let architectures = [NATIVE.name, I386.name].map(str::to_owned).to_vec();
        Profile { default_action: Action::Errno, default_errno_ret: Some(EPERM), architectures, syscalls }
    }

    /// The program for the kernel, an instruction each.
    ///
    /// # Errors
    /// In words, if the profile is too large or asks for an argument that there is not.
    pub fn compile(&self) -> Result<Vec<u64>, String> {
        let mut architectures = vec![NATIVE];
        if NATIVE == X86_64 && self.architectures.iter().any(|name| name == I386.name) {
            architectures.push(I386);
        }
        bpf::compile(self, &architectures)
    }

    fn default_number(&self) -> u32 {
        self.default_action.number(self.default_errno_ret)
    }
}

impl Architecture {
    /// The number of a system call; `None` if it has none here.
    fn syscall(self, name: &str) -> Option<u32> {
        static ROWS: LazyLock<HashMap<&str, &str>> =
            LazyLock::new(|| SYSCALLS.lines().filter_map(|line| line.split_once('\t')).collect());
        ROWS.get(name)?.split('\t').nth(self.column - 1)?.parse().ok()
    }
}

/// The program of the default profile for a process with these capabilities. Few sets are in use, and they are kept.
///
/// # Errors
/// As [`Profile::compile`].
pub fn default_program(capabilities: u64) -> Result<Vec<u64>, String> {
    static PROGRAMS: Mutex<Vec<(u64, Vec<u64>)>> = Mutex::new(Vec::new());
    const PROGRAMS_MAX: usize = 16;
    if let Some((_, program)) = PROGRAMS.lock().iter().find(|(set, _)| *set == capabilities) {
        return Ok(program.clone());
    }
    let program = Profile::runtime_default(capabilities).compile()?;
    let mut programs = PROGRAMS.lock();
    if programs.len() == PROGRAMS_MAX {
        programs.remove(0);
    }
    programs.push((capabilities, program.clone()));
    Ok(program)
}
