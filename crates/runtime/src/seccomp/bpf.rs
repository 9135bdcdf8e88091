//! From a profile to the kernel's filter program: a binary search over the system call's number, then its arguments.

use std::collections::BTreeMap;

use super::{Architecture, Argument, Operator, Profile, X86_64};

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Calls of the x32 way bear this bit; we let none of them through.
const X32_BIT: u32 = 0x4000_0000;
/// What becomes of a way of calling that the profile does not name: as libseccomp's default.
const KILL_THREAD: u32 = 0;
/// The kernel's bound.
const INSTRUCTIONS_MAX: usize = 4096;

/// An instruction: code, jump if true, jump if false, operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction(pub(super) u16, pub(super) u8, pub(super) u8, pub(super) u32);

impl Instruction {
    fn bits(self) -> u64 {
        let Instruction(code, jt, jf, k) = self;
        let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
        u64::from_ne_bytes([code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]])
    }
}

type Code = Vec<Instruction>;

/// What happens to one system call: rules in order, the first whose arguments match.
#[derive(Clone, Default)]
struct Verdict {
    rules: Vec<(Vec<Argument>, u32)>,
    otherwise: u32,
}

pub(super) fn compile(profile: &Profile, architectures: &[Architecture]) -> Result<Vec<u64>, String> {
    let mut code = vec![load(ARCHITECTURE)];
    for architecture in architectures {
        let section = section(profile, *architecture)?;
        let length = u32::try_from(section.len()).map_err(|e| e.to_string())?;
        code.push(Instruction(JUMP_IF_EQUAL, 1, 0, architecture.audit));
        code.push(Instruction(JUMP, 0, 0, length));
        code.extend(section);
    }
    code.push(ret(KILL_THREAD));
    if code.len() > INSTRUCTIONS_MAX {
        return Err(format!(
            "seccomp profile makes {} instructions, and the kernel takes {INSTRUCTIONS_MAX}",
            code.len()
        ));
    }
    Ok(code.into_iter().map(Instruction::bits).collect())
}

fn section(profile: &Profile, architecture: Architecture) -> Result<Code, String> {
    let default = profile.default_number();
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in &profile.syscalls {
        let action = rule.action.number(rule.errno_ret);
        let names = rule.names.iter().chain(Some(&rule.name).filter(|name| !name.is_empty()));
        // A name that this way of calling does not have cannot be called.
        for number in names.filter_map(|name| architecture.syscall(name)) {
            let verdict = verdicts.entry(number).or_insert_with(|| Verdict { rules: Vec::new(), otherwise: default });
            match rule.args.as_deref() {
                None | Some([]) => *verdict = Verdict { rules: Vec::new(), otherwise: action },
                // A rule without conditions has the last word, wherever it stands.
                Some(_) if verdict.rules.is_empty() && verdict.otherwise != default => {}
                Some(args) => verdict.rules.push((args.to_vec(), action)),
            }
        }
    }
    let mut ranges: Vec<(u32, Code)> = vec![(0, vec![ret(default)])];
    for (number, verdict) in verdicts {
        put(&mut ranges, number, answer(&verdict)?);
        put(&mut ranges, number + 1, vec![ret(default)]);
    }
    if architecture == X86_64 {
        put(&mut ranges, X32_BIT, vec![ret(default)]);
    }
    let mut code = vec![load(NUMBER)];
    code.extend(search(&ranges)?);
    Ok(code)
}

/// Lets `code` answer from `start` on; ranges that answer alike become one.
fn put(ranges: &mut Vec<(u32, Code)>, start: u32, code: Code) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != code) {
        ranges.push((start, code));
    }
}

fn search(ranges: &[(u32, Code)]) -> Result<Code, String> {
    if let [(_, code)] = ranges {
        return Ok(code.clone());
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (start, _) = above.first().ok_or("a search needs ranges")?;
    let (below, above) = (search(below)?, search(above)?);
    let mut code = Vec::new();
    match u8::try_from(below.len()) {
        Ok(length) => code.push(Instruction(JUMP_IF_GREATER_OR_EQUAL, length, 0, *start)),
        Err(_) => {
            code.push(Instruction(JUMP_IF_GREATER_OR_EQUAL, 0, 1, *start));
            code.push(Instruction(JUMP, 0, 0, u32::try_from(below.len()).map_err(|e| e.to_string())?));
        }
    }
    code.extend(below);
    code.extend(above);
    Ok(code)
}

/// The rules of one system call, one after the other.
fn answer(verdict: &Verdict) -> Result<Code, String> {
    let mut code = Vec::new();
    for (arguments, action) in &verdict.rules {
        let mut checks: Vec<Check> = Vec::new();
        for argument in arguments {
            check(*argument, &mut checks)?;
        }
        // Where a failed check goes is known once all are there: behind this rule's answer.
        let length: usize = checks.iter().map(Check::length).sum();
        let mut at = 0;
        for check in checks {
            at += check.length();
            let fail = u8::try_from(length - at + 1).map_err(|_| "a seccomp rule has too many arguments")?;
            check.emit(fail, &mut code);
        }
        code.push(ret(*action));
    }
    code.push(ret(verdict.otherwise));
    Ok(code)
}

/// One comparison of one argument's halves.
struct Check {
    body: Code,
    /// Where jumps to "no" are (their distance is set when it is known): index, and whether it is the jump if true.
    fails: Vec<(usize, bool)>,
}

impl Check {
    fn length(&self) -> usize {
        self.body.len()
    }

    fn emit(self, fail: u8, code: &mut Code) {
        let length = self.body.len();
        let base = code.len();
        code.extend(self.body);
        for (index, if_true) in self.fails {
            let rest = u8::try_from(length - 1 - index).unwrap_or(u8::MAX);
            let distance = rest.saturating_add(fail);
            let instruction = &mut code[base + index];
            if if_true { instruction.1 = distance } else { instruction.2 = distance }
        }
    }
}

fn check(argument: Argument, out: &mut Vec<Check>) -> Result<(), String> {
    if argument.index > 5 {
        return Err(format!("seccomp profile asks for argument {}", argument.index));
    }
    let at = ARGUMENTS + 8 * argument.index;
    // Both of our processors are little-endian.
    let (low_at, high_at) = (at, at + 4);
    let halves = |value: u64| {
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
        let halves = (value as u32, (value >> 32) as u32);
        halves
    };
    let (low, high) = halves(argument.value);
    let equal = |k| Instruction(JUMP_IF_EQUAL, 0, 0, k);
    let (body, fails) = match argument.op {
        Operator::Equal => (vec![load(high_at), equal(high), load(low_at), equal(low)], vec![(1, false), (3, false)]),
        // Different high halves are enough.
        Operator::NotEqual => {
            (vec![load(high_at), Instruction(JUMP_IF_EQUAL, 0, 2, high), load(low_at), equal(low)], vec![(3, true)])
        }
        Operator::MaskedEqual => {
            let (mask_low, mask_high) = (low, high);
            let (low, high) = halves(argument.value_two);
            let body = vec![
                load(high_at),
                Instruction(AND, 0, 0, mask_high),
                equal(high),
                load(low_at),
                Instruction(AND, 0, 0, mask_low),
                equal(low),
            ];
            (body, vec![(2, false), (5, false)])
        }
        // A greater high half decides for, a lower one against.
        Operator::Greater => ordered(high_at, low_at, high, Instruction(JUMP_IF_GREATER, 0, 0, low), true),
        Operator::GreaterOrEqual => {
            ordered(high_at, low_at, high, Instruction(JUMP_IF_GREATER_OR_EQUAL, 0, 0, low), true)
        }
        Operator::Less => ordered(high_at, low_at, high, Instruction(JUMP_IF_GREATER_OR_EQUAL, 0, 0, low), false),
        Operator::LessOrEqual => ordered(high_at, low_at, high, Instruction(JUMP_IF_GREATER, 0, 0, low), false),
    };
    out.push(Check { body, fails });
    Ok(())
}

/// A comparison by order: `last` compares the low halves, and its jump if true means yes if `upward`, else no.
fn ordered(high_at: u32, low_at: u32, high: u32, last: Instruction, upward: bool) -> (Code, Vec<(usize, bool)>) {
    let body = vec![
        load(high_at),
        // Greater: yes (over the three below) if upward, else no.
        Instruction(JUMP_IF_GREATER, if upward { 3 } else { 0 }, 0, high),
        // Not greater: equal goes on, lower is no if upward, else yes.
        Instruction(JUMP_IF_EQUAL, 0, if upward { 0 } else { 2 }, high),
        load(low_at),
        last,
    ];
    let fails = if upward { vec![(2, false), (4, false)] } else { vec![(1, true), (4, true)] };
    (body, fails)
}

fn load(at: u32) -> Instruction {
    Instruction(LOAD, 0, 0, at)
}

fn ret(action: u32) -> Instruction {
    Instruction(RETURN, 0, 0, action)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    fn run(program: &[u64], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(audit.to_le_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let bytes = program[at].to_ne_bytes();
            let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
            let (yes, no) = (usize::from(bytes[2]), usize::from(bytes[3]));
            let k = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let branch = |condition: bool| if condition { yes } else { no };
            at += 1;
            match code {
                LOAD => {
                    let k = k as usize;
                    accumulator = u32::from_le_bytes([data[k], data[k + 1], data[k + 2], data[k + 3]]);
                }
                AND => accumulator &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => at += branch(accumulator == k),
                JUMP_IF_GREATER => at += branch(accumulator > k),
                JUMP_IF_GREATER_OR_EQUAL => at += branch(accumulator >= k),
                RETURN => return k,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    fn shown(action: u32) -> String {
        match action {
            0x7fff_0000 => "allow".into(),
            0 => "kill".into(),
            other => format!("errno {}", other & 0xffff),
        }
    }

    #[track_caller]
    fn check_default(capabilities: u64, call: &str, first: u64, expect: &str) {
        let program = Profile::runtime_default(capabilities).compile().expect("compile");
        for architecture in [X86_64, super::super::I386] {
            let Some(number) = architecture.syscall(call) else { continue };
            let action = run(&program, architecture.audit, number, [first, 0, 0, 0, 0, 0]);
            assert_eq!(shown(action), expect, "{call}({first}) on {}", architecture.name);
        }
    }

    #[test]
    fn the_default_profile_decides_as_containerds() {
        let admin = 1 << 21;
        check_default(0, "read", 0, "allow");
        check_default(0, "execve", 0, "allow");
        check_default(0, "mount", 0, "errno 1");
        check_default(admin, "mount", 0, "allow");
        check_default(0, "keyctl", 0, "errno 1");
        check_default(0, "bpf", 0, "errno 1");
        check_default(1 << 39, "bpf", 0, "allow");
        check_default(0, "clone", 0x11, "allow");
        check_default(0, "clone", 0x1000_0000 | 0x11, "errno 1");
        check_default(admin, "clone", 0x1000_0000, "allow");
        check_default(0, "clone3", 0, "errno 38");
        check_default(admin, "clone3", 0, "allow");
        check_default(0, "unshare", 0, "errno 1");
        check_default(0, "personality", 0xffff_ffff, "allow");
        check_default(0, "personality", 4, "errno 1");
        check_default(0, "socket", 2, "allow");
        check_default(0, "socket", 16, "allow");
        check_default(0, "socket", 38, "errno 1");
        check_default(0, "socket", 40, "errno 1");
    }

    #[test]
    fn an_unknown_way_of_calling_is_killed() {
        let program = Profile::runtime_default(0).compile().expect("compile");
        assert_eq!(shown(run(&program, 7, 0, [0; 6])), "kill");
        assert_eq!(shown(run(&program, X86_64.audit, X32_BIT, [0; 6])), "errno 1");
    }

    #[test]
    fn each_comparison_compares_all_64_bits() {
        let big = 1 << 40;
        type Cases<'a> = &'a [(u64, bool)];
        let rows: [(&str, u64, Cases<'_>); 7] = [
            ("EQ", big, &[(big, true), (0, false), (big + 1, false)]),
            ("NE", big, &[(big, false), (0, true), (big + 1, true)]),
            ("LT", big, &[(big - 1, true), (big, false), (big + 1, false), (5, true)]),
            ("LE", big, &[(big - 1, true), (big, true), (big + 1, false)]),
            ("GT", big, &[(big - 1, false), (big, false), (big + 1, true), (big << 1, true)]),
            ("GE", big, &[(big - 1, false), (big, true), (big + 1, true)]),
            ("MASKED_EQ", big, &[(0, true), (5, true), (big, false)]),
        ];
        for (op, value, cases) in rows {
            let json = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["dup2"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":1,"value":{value},"op":"SCMP_CMP_{op}"}},{{"index":0,"value":7,"op":"SCMP_CMP_EQ"}}]}}]}}"#
            );
            let program = Profile::parse(json.as_bytes()).expect("parse").compile().expect("compile");
            let number = X86_64.syscall("dup2").expect("known");
            for (argument, allowed) in cases {
                let action = run(&program, X86_64.audit, number, [7, *argument, 0, 0, 0, 0]);
                assert_eq!(shown(action) == "allow", *allowed, "{argument} {op} {value}");
                assert_eq!(shown(run(&program, X86_64.audit, number, [8, *argument, 0, 0, 0, 0])), "errno 1");
            }
        }
    }

    #[test]
    fn a_rule_without_arguments_has_the_last_word() {
        let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["dup2"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["dup2"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
        let program = Profile::parse(json).expect("parse").compile().expect("compile");
        let number = X86_64.syscall("dup2").expect("known");
        assert_eq!(shown(run(&program, X86_64.audit, number, [1, 0, 0, 0, 0, 0])), "errno 5");
        assert_eq!(shown(run(&program, super::super::I386.audit, number, [1, 0, 0, 0, 0, 0])), "kill");
    }
}
