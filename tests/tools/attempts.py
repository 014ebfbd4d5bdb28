"""What code written by a model might try: each attempt calls `won` where it succeeded.

An attempt sees `W`, what it is after: `secret` and `target` (files), `outside` (a folder), `victim` (a process of the
same user), ports and names of sockets that listen. `CONTROLLED` ones are also run without any sandbox and must
succeed there, or the test would prove nothing; `AS_ROOT` need root for that; the others would do harm or depend on
how this machine is set up.
"""

CONTROLLED: dict[str, str] = {
    # reading what is not its own
    "read a file": "won('s3cret' in open(W['secret']).read())",
    "read the users of the machine": "won(open('/etc/passwd').read())",
    "list a home": "import os; won(os.listdir(W['home']))",
    "list another folder": "import os; won(os.listdir(os.path.dirname(W['secret'])))",
    "read a secret of the environment": "import os; won('s3cret' in str(dict(os.environ)))",
    "read the parent's environment": "import os; won('=' in open(f'/proc/{os.getppid()}/environ').read())",
    "read a neighbour's environment": "won('s3cret' in open(f'/proc/{W[\"victim\"]}/environ').read())",
    "read a neighbour's command": "won(open(f'/proc/{W[\"victim\"]}/cmdline').read())",
    "read a neighbour's memory map": "won(open(f'/proc/{W[\"victim\"]}/maps').read())",
    "count the processes": "import os; won(sum(name.isdigit() for name in os.listdir('/proc')) > 1)",
    "read through a symbolic link": "import os; os.symlink(W['secret'], 'a'); won('s3cret' in open('a').read())",
    "read through a hard link": "import os; os.link(W['secret'], 'b'); won('s3cret' in open('b').read())",
    "read through /proc/self/root": "won('s3cret' in open('/proc/self/root' + W['secret']).read())",
    "read through /proc/self/cwd": "won('s3cret' in open('/proc/self/cwd/../../../../../../' + W['secret']).read())",
    "read through a neighbour's root": 'won(open(f\'/proc/{W["victim"]}/root{W["secret"]}\').read())',
    "read beside a folder's handle": """
import os
folder, name = os.path.split(W['secret'])
place = os.open(folder, os.O_PATH)
won('s3cret' in os.fdopen(os.open(name, os.O_RDONLY, dir_fd=place)).read())""",
    "read through the C library": """
import ctypes
libc = ctypes.CDLL(None)
found = ctypes.create_string_buffer(100)
libc.read(libc.open(W['secret'].encode(), 0), found, 100)
won(b's3cret' in found.value)""",
    "map a file into memory": """
import mmap, os
won(b's3cret' in mmap.mmap(os.open(W['secret'], os.O_RDONLY), 0, prot=mmap.PROT_READ)[:])""",
    "read a descriptor left open": """
import os
for descriptor in range(3, 256):
    try:
        won(b's3cret' in os.pread(descriptor, 100, 0))
    except OSError:
        pass""",
    "use any descriptor left open": """
import os
for descriptor in range(3, 256):
    try:
        won(os.fstat(descriptor))
    except OSError:
        pass""",
    "read the state of the machine": "won(open('/proc/meminfo').read())",
    "list the devices": "import os; won(len(os.listdir('/dev')) > 3)",
    "list the hardware": "import os; won(os.listdir('/sys'))",
    "import what else is installed": "import numpy; won(True)",
    "import Studium itself": "import studium.config; won(True)",
    # writing outside
    "write a file": "open(W['outside'] + '/x', 'w').write('x'); won(True)",
    "write to a temporary folder": "import tempfile; tempfile.TemporaryFile(dir='/tmp').write(b'x'); won(True)",
    "write to a variable folder": "import tempfile; tempfile.TemporaryFile(dir='/var/tmp').write(b'x'); won(True)",
    "write to shared memory": "import tempfile; tempfile.TemporaryFile(dir='/dev/shm').write(b'x'); won(True)",
    "append to a file": "open(W['target'], 'a').write('x'); won(True)",
    "truncate a file": "import os; os.truncate(W['target'], 0); won(True)",
    "truncate a file while reading": "import os; won(os.open(W['target'], os.O_RDONLY | os.O_TRUNC))",
    "change a file's mode": "import os; os.chmod(W['target'], 0o777); won(True)",
    "change a file's owner": "import os; os.chown(W['target'], os.getuid(), os.getgid()); won(True)",
    "change a file's times": "import os; os.utime(W['target'], (1, 1)); won(True)",
    "rename a file": "import os; os.rename(W['target'], W['target'] + '2'); won(True)",
    "delete a file": "import os; os.remove(W['target']); won(True)",
    "make a folder": "import os; os.mkdir(W['outside'] + '/folder'); won(True)",
    "make a pipe with a name": "import os; os.mkfifo(W['outside'] + '/pipe'); won(True)",
    "make a link outside": "import os; os.symlink('/', W['outside'] + '/link'); won(True)",
    "watch a folder": """
import ctypes
libc = ctypes.CDLL(None)
won(libc.inotify_add_watch(libc.inotify_init(), W['outside'].encode(), 2) > 0)""",
    # the network, and whoever listens on this machine
    "connect over TCP": "import socket; won(socket.create_connection(('127.0.0.1', W['tcp']), 1))",
    "listen on TCP": "import socket; won(socket.create_server(('127.0.0.1', 0)))",
    "send over UDP": """
import socket
won(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', W['udp'])))""",
    "receive over UDP": """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 0))
won(True)""",
    "ask for a name": "import socket; won(socket.getaddrinfo('localhost', 80))",
    "connect to a socket file": """
import socket
won(socket.socket(socket.AF_UNIX).connect(W['unix']) is None)""",
    "connect to an abstract socket": """
import socket
won(socket.socket(socket.AF_UNIX).connect('\\0' + W['abstract']) is None)""",
    "talk to the kernel's network": "import socket; won(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))",
    "make a pair of sockets": "import socket; won(socket.socketpair())",
    "make a socket by its number": """
import ctypes, platform
number = {'x86_64': 41, 'aarch64': 198}[platform.machine()]
won(ctypes.CDLL(None).syscall(number, 2, 2, 0) >= 0)""",
    # other processes
    "fork": "import os; won(os.fork() >= 0)",
    "fork many times": """
import os
for _ in range(20):
    if os.fork() == 0:
        os._exit(0)
won(True)""",
    "live on as a daemon": """
import os
if os.fork() == 0:
    os.setsid()
    won(True)""",
    "leave the session": "import os; os.setsid(); won(True)",
    "start a thread": "import threading; threading.Thread(target=lambda: won(True)).start()",
    "start a program": "import subprocess; won(subprocess.run(['/bin/true']).returncode == 0)",
    "start a shell": "import os; won(os.system('true') == 0)",
    "spawn a program": "import os; won(os.posix_spawn('/bin/true', ['true'], {}))",
    "become another program": "import os; os.execv('/bin/echo', ['echo', 'ESC' + 'APED'])",
    "become a program in memory": """
import os
descriptor = os.memfd_create('program')
os.write(descriptor, open('/bin/echo', 'rb').read())
os.execv(f'/proc/self/fd/{descriptor}', ['echo', 'ESC' + 'APED'])""",
    "fork by its number": """
import ctypes, platform
won(ctypes.CDLL(None).syscall({'x86_64': 57, 'aarch64': 220}[platform.machine()], 17, 0, 0, 0, 0) >= 0)""",
    "signal a neighbour": "import os; won(os.kill(W['victim'], 0) is None)",
    "signal the parent": "import os; won(os.getppid() > 0 and os.kill(os.getppid(), 0) is None)",
    "signal everybody": "import os; won(os.kill(-1, 0) is None)",
    "signal the own group": "import os; won(os.kill(0, 0) is None)",
    "signal through a handle": """
import os, signal
signal.pidfd_send_signal(os.pidfd_open(W['victim']), 0)
won(True)""",
    "stop the process that waits": "import os; won(os.pidfd_open(os.getppid()))",
    "read a neighbour's limits": "import resource; won(resource.prlimit(W['victim'], resource.RLIMIT_NOFILE))",
    "slow a neighbour down": "import os; won(os.setpriority(os.PRIO_PROCESS, W['victim'], 5) is None)",
    "bind a neighbour to a processor": "import os; won(os.sched_setaffinity(W['victim'], {0}) is None)",
    "make a namespace of users": "import ctypes; won(ctypes.CDLL(None).unshare(0x10000000) == 0)",
    # what outlives a process, and what it may take
    "leave shared memory": """
import ctypes
libc = ctypes.CDLL(None)
found = libc.shmget(0, 4096, 0o600 | 0o1000)
libc.shmctl(found, 0, None)
won(found >= 0)""",
    "leave a semaphore": """
import ctypes
libc = ctypes.CDLL(None)
found = libc.semget(0, 1, 0o600 | 0o1000)
libc.semctl(found, 0, 0, 0)
won(found >= 0)""",
    "make a file in memory": "import os; won(os.memfd_create('x'))",
    "change how the kernel lays out memory": "import ctypes; won(ctypes.CDLL(None).personality(0x0040000) >= 0)",
    "take a gigabyte": "won(bytearray(1 << 30))",
    "map a gigabyte": "import mmap; won(mmap.mmap(-1, 1 << 30))",
    "write a large file": "won(open('large', 'wb').write(bytes(64 << 20)))",
    "write many files": """
for number in range(40):
    with open(f'file{number}', 'wb') as file:
        file.write(bytes(1 << 20))
won(True)""",
    "write a file with a hole": "import os; os.truncate(os.open('hole', 65), 1 << 40); won(True)",
    "open many files": "won([open('/dev/null') for _ in range(200)])",
    "lift the limits": """
import resource
for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
    resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
won(True)""",
}

AS_ROOT: dict[str, str] = {
    "read the passwords": "won(open('/etc/shadow').read())",
    "become root": "import os; os.setuid(0); won(os.getuid() == 0)",
    "become root by all names": "import os; os.setresuid(0, 0, 0); won(os.geteuid() == 0)",
    "join the group of root": "import os; os.setgroups([0]); won(True)",
    "change the root folder": "import os; os.chroot(W['outside']); won(True)",
    "name the machine": "import socket; socket.sethostname(socket.gethostname()); won(True)",
    "make a device": "import os; os.mknod(W['outside'] + '/null', 0o20600, os.makedev(1, 3)); won(True)",
    "read a neighbour's memory": """
place = int(open(f'/proc/{W["victim"]}/maps').readline().split('-')[0], 16)
memory = open(f'/proc/{W["victim"]}/mem', 'rb')
memory.seek(place)
won(memory.read(4))""",
    "trace a neighbour": "import ctypes; won(ctypes.CDLL(None).ptrace(0x4206, W['victim'], 0, 0) == 0)",
    "trace the process that waits": """
import ctypes, os
won(os.getppid() > 0 and ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0) == 0)""",
    "send raw packets": "import socket; won(socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    "listen to all packets": "import socket; won(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768))",
    "make a namespace of mounts": "import ctypes; won(ctypes.CDLL(None).unshare(0x20000) == 0)",
    "enter a neighbour's namespaces": """
import ctypes
names = open(f'/proc/{W["victim"]}/ns/uts')
won(ctypes.CDLL(None).setns(names.fileno(), 0) == 0)""",
    "open a file by its handle": """
import ctypes, os
libc = ctypes.CDLL(None)
handle, mount = (ctypes.c_uint * 34)(128), ctypes.c_int()
libc.name_to_handle_at(-100, W['secret'].encode(), handle, ctypes.byref(mount), 0)
place = os.open(os.path.dirname(W['secret']), os.O_RDONLY)
won('s3cret' in os.fdopen(libc.open_by_handle_at(place, handle, 0)).read())""",
}

UNCONTROLLED: dict[str, str] = {
    "write into the Python installation": """
import os
open(os.path.join(os.path.dirname(os.__file__), 'evil.py'), 'w').write('x')
won(True)""",
    "mount a folder": """
import ctypes
won(ctypes.CDLL(None).mount(b'none', W['outside'].encode(), b'tmpfs', 0, None) == 0)""",
    "mount over the system": "import ctypes; won(ctypes.CDLL(None).mount(b'/', b'/usr', None, 4096, None) == 0)",
    "take the mounts away": "import ctypes; won(ctypes.CDLL(None).umount2(b'/work', 2) == 0)",
    "set the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, time.time()); won(True)",
    "change the kernel": "open('/proc/sys/kernel/core_pattern', 'w').write('|/x'); won(True)",
    "change a control group": "open('/sys/fs/cgroup/cgroup.procs', 'w').write('0'); won(True)",
    "write what was its input": "import os; won(os.write(0, b'x'))",
    "label a file": "import os; os.setxattr(W['target'], 'user.x', b'x'); won(True)",
    "use the kernel's queue of work": """
import ctypes
won(ctypes.CDLL(None).syscall(425, 1, (ctypes.c_char * 120)()) >= 0)""",
    "load a program into the kernel": """
import ctypes, platform
won(ctypes.CDLL(None).syscall({'x86_64': 321, 'aarch64': 280}[platform.machine()], 0, None, 0) >= 0)""",
    "keep a key in the kernel": """
import ctypes, platform
number = {'x86_64': 248, 'aarch64': 217}[platform.machine()]
won(ctypes.CDLL(None).syscall(number, b'user', b'x', b'x', 1, -5) >= 0)""",
    "call by the second numbering": """
import ctypes
won(ctypes.CDLL(None).syscall(0x40000000 | 41, 2, 2, 0) >= 0)""",
    "kill the process that waits": """
import os, signal
os.kill(os.getppid(), signal.SIGKILL)
won(True)""",
    "kill everybody": "import os, signal; os.kill(-1, signal.SIGKILL); won(True)",
}
