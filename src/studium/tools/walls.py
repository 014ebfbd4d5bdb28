"""The walls a process puts around itself, for good: limits, another user, Landlock, a filter of system calls.

Runs inside the sandbox, before a model's program does: standard library only, nothing of Studium.
Sources: landlock(7), seccomp(2), setrlimit(2), credentials(7). `put_up` may be called once, in a process with
one thread, and everything that cannot be put up raises.

No process can be started behind these walls, not even a thread: so nothing outlives the program, nothing
escapes the limits by dividing itself, and a limit for one process is the limit for all.
"""

import ctypes
import os
import platform
import resource
import struct
from pathlib import Path
from typing import NamedTuple

_LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
MEMORY_EXIT = 77  # status of a program that ended for want of memory
OPEN_FILES = 64
# Before version 3 (Linux 6.2) Landlock lets a file that may not be written be truncated.
OLDEST_LANDLOCK = 3

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
# Everything below a folder but to execute, and to make devices and sockets.
_WORK = sum(1 << bit for bit in (1, 2, 3, 4, 5, 7, 8, 10, 12, 13, 14))
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_RIGHTS = 16
_NO_TCP, _NO_SIGNALS_OR_ABSTRACT_SOCKETS = 0b11, 0b11

_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 1, 22, 38
_SIGKILL = 9

# Number of each refused system call on (x86_64, aarch64); None where it does not exist.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes: start, replace, signal, watch, slow down
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "personality": (135, 92),
    # the network, and sockets of this machine
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    # what lies in the kernel and outlives a process, or was never meant for a program like this
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "syslog": (103, 116),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # changes to files that Landlock does not know
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
}
# prlimit reads and lowers one's own limits; those of another process of the same user are refused.
_PRLIMIT = (302, 261)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000  # the bit of a second numbering of system calls on x86_64

_LOAD, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _NOT_PERMITTED = 0x7FFF0000, 0x80000000, 0x00050001
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16


class Limits(NamedTuple):
    """What one program may take: seconds of processor, bytes of address space, bytes per file."""

    cpu_s: int
    memory_bytes: int
    file_bytes: int


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def put_up(limits: Limits, readable: list[str], work: str | None, user: int | None, *, alone: bool) -> None:
    """Confine this process: it may read below `readable`, write below `work`, and start nothing.

    `user` is whom to become, None to stay. `alone` says that no other sandbox stands around these walls, so that
    each of them must hold; otherwise Landlock and the filter are left out where the kernel lacks them.
    """
    _limit(limits)
    _call(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _call(_LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "not to be traced")
    _call(_LIBC.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "to die with the parent")
    if landlock_version() >= OLDEST_LANDLOCK:
        _landlock(readable, work)
    elif alone:
        raise OSError(f"Landlock is not there in version {OLDEST_LANDLOCK} (Linux 6.2) or newer")
    if has_filter():
        _refuse_calls()
    elif alone:
        raise OSError(f"no filter of system calls is known for {platform.machine()}")


def landlock_version() -> int:
    """Return the version of Landlock's interface in this kernel; 0 where there is none."""
    return max(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION), 0)


def has_filter() -> bool:
    return platform.machine() in _MACHINES and ctypes.sizeof(ctypes.c_void_p) == 8


def filter_code(machine: str) -> bytes:
    """Return the filter for a machine: classic BPF, refused calls fail with EPERM, foreign numberings are killed."""
    column, arch = _MACHINES[machine]
    code = [(_LOAD, 0, 0, _MACHINE), (_EQUALS, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _NOT_PERMITTED)]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            code += [(_EQUALS, 0, 1, number), (_RETURN, 0, 0, _NOT_PERMITTED)]
    code += [(_EQUALS, 0, 3, _PRLIMIT[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_EQUALS, 1, 0, 0)]
    code += [(_RETURN, 0, 0, _NOT_PERMITTED), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *line) for line in code)


def _limit(limits: Limits) -> None:
    for what, soft, hard in (
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
    ):
        resource.setrlimit(what, (soft, hard))


def _landlock(readable: list[str], work: str | None) -> None:
    version = landlock_version()
    handled = (1 << _RIGHTS.get(version, _ALL_RIGHTS)) - 1
    fields = [handled]
    if version >= 4:
        fields.append(_NO_TCP)
    if version >= 6:
        fields.append(_NO_SIGNALS_OR_ABSTRACT_SOCKETS)
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    rules = _call(
        _LIBC.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0), "Landlock's rules"
    )
    try:
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        for device, rights in (("/dev/null", _READ_FILE | _WRITE_FILE), ("/dev/urandom", _READ_FILE)):
            _allow(rules, device, rights)
        if work:
            _allow(rules, work, _WORK & handled)
        _call(_LIBC.syscall(_RESTRICT_SELF, rules, 0), "Landlock")
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return  # what is not there, or not for this user, need not be allowed
    try:
        if not Path(path).is_dir():
            rights &= _READ_FILE | _WRITE_FILE
        rule = struct.pack("=Qi", rights, place)
        _call(_LIBC.syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0), f"Landlock for {path}")
    finally:
        os.close(place)


def _refuse_calls() -> None:
    code = filter_code(platform.machine())
    program = _Filter(len(code) // 8, code)
    _call(_LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0), "the filter of system calls")


def _call(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
