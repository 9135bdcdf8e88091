//! Which devices a container may use, on cgroup version 2: a small program for the kernel, for there is no file to write.

use std::fs::File;
use std::io;
use std::path::Path;

use cgroups::DeviceRule;

use crate::sys;

const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

/// Puts rules in force for a cgroup; with none, or if all is allowed, there is nothing to do.
pub(crate) fn restrict(cgroup: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let all_allowed = rules.last().is_some_and(|rule| rule.allow && rule.kind == 'a');
    if rules.is_empty() || all_allowed {
        return Ok(());
    }
    sys::attach_device_program(&File::open(cgroup)?, &compile(rules))
}

/// An instruction: operation, registers (source in the upper half), jump, operand.
fn instruction(operation: u8, registers: u8, jump: i16, operand: i32) -> u64 {
    let (jump, operand) = (jump.to_ne_bytes(), operand.to_ne_bytes());
    u64::from_ne_bytes([operation, registers, jump[0], jump[1], operand[0], operand[1], operand[2], operand[3]])
}

/// The last rule that fits decides; without one the answer is no.
fn compile(rules: &[DeviceRule]) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const MOVE_REGISTER: u8 = 0xbf;
    const MOVE: u8 = 0xb7;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const JUMP_IF_NOT: u8 = 0x56;
    const JUMP_IF_REGISTERS_DIFFER: u8 = 0x5d;
    const EXIT: u8 = 0x95;
    // r1 is what is asked: access (upper half) and type, major, minor. They come to r3, r2, r4, r5.
    let mut code = vec![
        instruction(LOAD_WORD, 0x12, 0, 0),
        instruction(MOVE_REGISTER, 0x23, 0, 0),
        instruction(AND, 0x02, 0, 0xffff),
        instruction(SHIFT_RIGHT, 0x03, 0, 16),
        instruction(LOAD_WORD, 0x14, 4, 0),
        instruction(LOAD_WORD, 0x15, 8, 0),
    ];
    for rule in rules.iter().rev() {
        // Each check jumps behind the rule; how far is known when it is whole.
        let mut checks: Vec<(u8, u8, i32)> = Vec::new();
        let mut body: Vec<(bool, u64)> = Vec::new();
        if rule.kind != 'a' {
            let kind = if rule.kind == 'b' { TYPE_BLOCK } else { TYPE_CHARACTER };
            checks.push((JUMP_IF_NOT, 0x02, kind));
            let access = [('m', ACCESS_MKNOD), ('r', ACCESS_READ), ('w', ACCESS_WRITE)];
            let allowed: i32 = access.iter().filter(|row| rule.access.contains(row.0)).map(|row| row.1).sum();
            if allowed != ACCESS_MKNOD | ACCESS_READ | ACCESS_WRITE {
                body.push((false, instruction(MOVE_REGISTER, 0x31, 0, 0)));
                body.push((false, instruction(AND, 0x01, 0, allowed)));
                body.push((true, instruction(JUMP_IF_REGISTERS_DIFFER, 0x31, 0, 0)));
            }
            for (register, number) in [(0x04, rule.major), (0x05, rule.minor)] {
                if let Some(number) = number {
                    checks.push((JUMP_IF_NOT, register, number.cast_signed()));
                }
            }
        }
        body.extend(
            checks
                .into_iter()
                .map(|(operation, register, operand)| (true, instruction(operation, register, 0, operand))),
        );
        body.push((false, instruction(MOVE, 0x00, 0, i32::from(rule.allow))));
        body.push((false, instruction(EXIT, 0, 0, 0)));
        let length = body.len();
        for (index, (jumps, bits)) in body.into_iter().enumerate() {
            let mut bytes = bits.to_ne_bytes();
            if jumps {
                let distance = i16::try_from(length - 1 - index).unwrap_or(i16::MAX).to_ne_bytes();
                (bytes[2], bytes[3]) = (distance[0], distance[1]);
            }
            code.push(u64::from_ne_bytes(bytes));
        }
        if rule.kind == 'a' {
            // The kernel refuses what can never be reached.
            return code;
        }
    }
    code.push(instruction(MOVE, 0x00, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: char, numbers: (Option<u32>, Option<u32>), access: &str) -> DeviceRule {
        DeviceRule { allow, kind, major: numbers.0, minor: numbers.1, access: access.to_owned() }
    }

    /// The kernel's own verdict, as root on a unified tree (also beside version 1).
    #[test]
    fn the_kernel_takes_the_program_and_obeys_it() {
        let hierarchy = cgroups::Hierarchy::detect().expect("cgroups");
        let Some(root) = hierarchy.roots().get("") else {
            println!("no unified tree here");
            return;
        };
        let folder = root.join(format!("kubox-devices-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("make a cgroup");
        let rules = [
            rule(false, 'a', (None, None), "rwm"),
            rule(true, 'c', (None, None), "m"),
            rule(true, 'c', (Some(1), Some(3)), "rwm"),
            rule(true, 'c', (Some(1), Some(5)), "r"),
        ];
        let restricted = restrict(&folder, &rules);
        let script = format!(
            "echo $$ > {}/cgroup.procs; for d in null zero full; do (: </dev/$d) 2>/dev/null && echo r-$d; (: >/dev/$d) 2>/dev/null && echo w-$d; done",
            folder.display()
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
        std::fs::remove_dir(&folder).expect("remove the cgroup");
        restricted.expect("attach");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "r-null\nw-null\nr-zero\n");
    }
}
