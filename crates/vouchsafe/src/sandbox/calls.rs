//! seccomp: system calls that a server has no use for, and an attacker does.
//!
//! A list of what is refused rather than of what is allowed: the C library and the kernel change what
//! they use, and a gateway that dies of an update is a fault of its own. What is refused is what starts
//! programs, looks into other processes, changes the system or the process's own rights, or reaches
//! parts of the kernel with a history.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::Hold;

const REFUSED: &[c_long] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    // Where files are.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_fanotify_init,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_personality,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // Who we are.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
];

/// Kinds of sockets that are opened: Unix, IPv4, IPv6, and netlink, which the resolver asks for our
/// addresses (`NETLINK_ROUTE`, and no other part of the kernel behind it).
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// What `clone` must not be asked for: a namespace of users gives all privileges inside, and with them
/// parts of the kernel that are for nobody else. `unshare` is refused as a whole.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

#[cfg(target_arch = "x86_64")]
mod x32 {
    //! A second way to call an x86-64 kernel, where it is built in: the same numbers with a bit set,
    //! and a few of its own.

    pub(super) const BIT: i64 = 0x4000_0000;
    /// execve, ptrace, kexec_load, process_vm_readv, process_vm_writev, execveat.
    pub(super) const OWN: [i64; 6] = [520, 521, 528, 539, 540, 545];
}

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Serves clients.
    Server,
    /// Starts the solver and talks to it through pipes.
    Prover,
}

pub(super) fn restrict(role: Role) -> Hold {
    let applied = programs(role).map_err(|error| error.to_string()).and_then(|programs| {
        let apply = |program: &BpfProgram| seccompiler::apply_filter_all_threads(program);
        programs.iter().try_for_each(apply).map_err(|error| error.to_string())
    });
    match applied {
        Ok(()) => Hold::Complete,
        Err(error) => {
            tracing::warn!(error, "seccomp refused");
            Hold::Missing
        }
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Two, since one has one answer for all that it refuses.
fn programs(role: Role) -> Result<[BpfProgram; 2], BackendError> {
    let mut rules = Rules::new();
    for call in REFUSED.iter().filter(|call| role == Role::Server || **call != libc::SYS_execve) {
        refuse(&mut rules, *call, &[]);
    }
    #[cfg(target_arch = "x86_64")]
    rules.extend(x32::OWN.map(|call| (call | x32::BIT, Vec::new())));
    let is = |argument, operator, value: i32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
    };
    let other_family = FAMILIES.iter().map(|family| is(0, SeccompCmpOp::Ne, *family)).collect::<Result<_, _>>()?;
    let other_netlink = vec![is(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?, is(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?];
    let sockets = [SeccompRule::new(other_family)?, SeccompRule::new(other_netlink)?];
    refuse(&mut rules, libc::SYS_socket, if role == Role::Server { &sockets } else { &[] });
    let namespace = |flag: &i32| {
        let mask = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![is(0, SeccompCmpOp::MaskedEq(mask), *flag)?])
    };
    refuse(&mut rules, libc::SYS_clone, &NAMESPACES.iter().map(namespace).collect::<Result<Vec<_>, _>>()?);
    // What the newer form is asked for lies in memory, where no filter looks. The C library takes the
    // older one when this doesn't exist, and only then.
    let mut absent = Rules::new();
    refuse(&mut absent, libc::SYS_clone3, &[]);
    Ok([program(rules, libc::EPERM)?, program(absent, libc::ENOSYS)?])
}

/// Refuses a call where one of the rules holds, or always when there are none.
fn refuse(rules: &mut Rules, call: c_long, when: &[SeccompRule]) {
    rules.insert(call, when.to_vec());
    #[cfg(target_arch = "x86_64")]
    rules.insert(call | x32::BIT, when.to_vec());
}

fn program(rules: Rules, answer: i32) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(answer.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program answers (classic BPF as seccomp(2) takes it): 0 for an allowed call, else the error.
    fn answer(program: &BpfProgram, call: c_long, arguments: [u32; 3]) -> i32 {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let step = &program[at];
            at += 1;
            let holds = match step.code {
                // ld [k]
                0x20 => {
                    value = match step.k {
                        0 => u32::try_from(call).unwrap(),
                        4 => {
                            if cfg!(target_arch = "x86_64") {
                                0xc000_003e
                            } else {
                                0xc000_00b7
                            }
                        }
                        16 | 24 | 32 => arguments[(step.k as usize - 16) / 8],
                        other => panic!("byte {other} of a call"),
                    };
                    continue;
                }
                // and, ja, ret
                0x54 => {
                    value &= step.k;
                    continue;
                }
                0x05 => {
                    at += step.k as usize;
                    continue;
                }
                0x06 => match step.k {
                    0x7fff_0000 => return 0,
                    refused if refused >> 16 == 5 => return (refused & 0xffff) as i32,
                    other => panic!("action {other:x}"),
                },
                // jeq, jgt, jge
                0x15 => value == step.k,
                0x25 => value > step.k,
                0x35 => value >= step.k,
                other => panic!("instruction {other:x}"),
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    fn outcome(call: c_long, arguments: [i32; 3]) -> i32 {
        let arguments = arguments.map(i32::cast_unsigned);
        let answers = programs(Role::Server).unwrap().map(|program| answer(&program, call, arguments));
        answers.into_iter().max().unwrap()
    }

    #[test]
    fn a_process_in_namespaces_of_its_own_cant_be_started() {
        // As glibc starts a thread, and as it forks.
        let thread = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let fork = libc::CLONE_CHILD_CLEARTID | libc::CLONE_CHILD_SETTID | libc::SIGCHLD;
        for flags in [thread, fork] {
            assert_eq!(outcome(libc::SYS_clone, [flags, 0, 0]), 0);
            for namespace in NAMESPACES {
                assert_eq!(outcome(libc::SYS_clone, [flags | namespace, 0, 0]), libc::EPERM, "{namespace:x}");
                #[cfg(target_arch = "x86_64")]
                assert_eq!(outcome(libc::SYS_clone | x32::BIT, [flags | namespace, 0, 0]), libc::EPERM);
            }
        }
        assert_eq!(outcome(libc::SYS_clone3, [0, 88, 0]), libc::ENOSYS);
        assert_eq!(outcome(libc::SYS_unshare, [libc::CLONE_NEWUSER, 0, 0]), libc::EPERM);
    }

    #[test]
    fn the_prover_starts_programs_and_opens_no_socket() {
        let of = |role: Role, call, arguments: [i32; 3]| {
            let arguments = arguments.map(i32::cast_unsigned);
            programs(role).unwrap().map(|program| answer(&program, call, arguments)).into_iter().max().unwrap()
        };
        for (role, programs, sockets) in [(Role::Server, libc::EPERM, 0), (Role::Prover, 0, libc::EPERM)] {
            assert_eq!(of(role, libc::SYS_execve, [0; 3]), programs);
            assert_eq!(of(role, libc::SYS_execveat, [0; 3]), libc::EPERM);
            for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
                assert_eq!(of(role, libc::SYS_socket, [family, 0, 0]), sockets);
            }
        }
    }

    #[test]
    fn only_sockets_that_the_resolver_and_the_relays_need_are_opened() {
        let call = |family, protocol| outcome(libc::SYS_socket, [family, libc::SOCK_CLOEXEC, protocol]);
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            assert_eq!(call(family, 0), 0);
        }
        assert_eq!(call(libc::AF_NETLINK, libc::NETLINK_ROUTE), 0);
        assert_eq!(call(libc::AF_NETLINK, libc::NETLINK_NETFILTER), libc::EPERM);
        for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK, libc::AF_KEY] {
            assert_eq!(call(family, 0), libc::EPERM);
            #[cfg(target_arch = "x86_64")]
            assert_eq!(outcome(libc::SYS_socket | x32::BIT, [family, 0, 0]), libc::EPERM);
        }
        assert_eq!(outcome(libc::SYS_read, [0; 3]), 0);
    }
}
