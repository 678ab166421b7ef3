#!/usr/bin/python3
"""A root process inside an alternate root that tries to write to the shared data, in every way it can think of.

    attack.py names GROUP STORE          the names of the attacks of a group on a kind of store, one per line
    attack.py prepare GROUP STORE DIR    makes what they attack below DIR, and prints the names of those that want `nested`
    attack.py run GROUP STORE [NAME]     runs them, or one, and prints NAME TAB OUTCOME for each: `done`, or the errno's name

Each attack has a directory of its own below /var/log/attacked, with `file`, `dir/`, `upper/`, `work/`, `full/file` and
`full/same` (alike, 8 KiB), `link` (a symlink to `file`) and, where it is one that wants it, `nested` (a dataset of its own) in it. It
runs in a child process, and is over when it returns (then it has written) or fails. Groups:

    write    through the mount as it is
    escape   make the mount writable, or get at a copy of it that is, then write
    beyond   what no flag of a mount prevents; see the test
"""
import ctypes, errno, fcntl, mmap, os, shutil, socket, stat, struct, subprocess, sys

BASE = "/var/log/attacked/"
libc = ctypes.CDLL(None, use_errno=True)
GROUPS = {"write": {}, "escape": {}, "beyond": {}}
STORE = sys.argv[3]
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18
CLONE_NEWNS = 0x20000


def attack(group, store=None, nested=False):
    def keep(function):
        if store is None or store == STORE:
            GROUPS[group][function.__name__] = function
            function.nested = nested
        return function
    return keep


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, target, flags, fstype=None, data=None):
    text = [None if t is None else t.encode() for t in (source, target, fstype, data)]
    check(libc.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3]))


def own_namespace():
    check(libc.unshare(CLONE_NEWNS))
    mount("none", "/", MS_REC | MS_PRIVATE)


def write(path, flags=os.O_CREAT):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, b"attacked\n")
    os.close(fd)


def new_root():
    mount("/", "/mnt", MS_BIND | MS_REC)
    os.chdir("/mnt")
    check(libc.syscall(155, b".", b"."))
    check(libc.umount2(b".", 2))


def ioctl(fd, request, argument):
    return fcntl.ioctl(fd, request, argument, True)


# -- through the mount as it is

@attack("write")
def create(d): write(d + "new", os.O_CREAT | os.O_EXCL)
@attack("write")
def append(d): write(d + "file", os.O_APPEND)
@attack("write")
def overwrite(d): write(d + "file", 0)
@attack("write")
def overwrite_through_a_symlink(d): write(d + "link", 0)
@attack("write")
def open_for_truncation(d): os.close(os.open(d + "file", os.O_WRONLY | os.O_TRUNC))
@attack("write")
def open_read_only_with_truncation(d): os.close(os.open(d + "file", os.O_RDONLY | os.O_TRUNC))
@attack("write")
def truncate(d): os.truncate(d + "file", 0)
@attack("write")
def unnamed_file(d): os.close(os.open(d, os.O_TMPFILE | os.O_WRONLY))
@attack("write")
def unlink(d): os.unlink(d + "file")
@attack("write")
def remove_directory(d): os.rmdir(d + "dir")
@attack("write")
def rename(d): os.rename(d + "file", d + "new")
@attack("write")
def rename_over(d): os.rename(d + "file", d + "full/file")
@attack("write")
def exchange(d): check(libc.renameat2(AT_FDCWD, (d + "file").encode(), AT_FDCWD, (d + "link").encode(), 2))
@attack("write")
def hard_link(d): os.link(d + "file", d + "new")
@attack("write")
def symlink(d): os.symlink("file", d + "new")
@attack("write")
def make_directory(d): os.mkdir(d + "new")
@attack("write")
def make_fifo(d): os.mkfifo(d + "new")
@attack("write")
def make_device(d): os.mknod(d + "new", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
@attack("write")
def make_socket(d): socket.socket(socket.AF_UNIX).bind(d + "new")
@attack("write")
def change_mode(d): os.chmod(d + "file", 0o777)
@attack("write")
def change_owner(d): os.chown(d + "file", 1, 1)
@attack("write")
def change_owner_of_symlink(d): os.lchown(d + "link", 1, 1)
@attack("write")
def change_times(d): os.utime(d + "file", (1, 1))
@attack("write")
def set_attribute(d): os.setxattr(d + "file", "user.x", b"x")
@attack("write")
def set_trusted_attribute(d): os.setxattr(d + "dir", "trusted.x", b"x")
@attack("write")
def remove_attribute(d): os.removexattr(d + "file", "user.kept")
@attack("write")
def set_acl(d): subprocess.run(["setfacl", "-m", "u:1:rwx", d + "file"], check=True, stderr=subprocess.DEVNULL)
@attack("write")
def change_through_an_open_file(d): os.fchmod(os.open(d + "file", os.O_RDONLY), 0o777)
@attack("write")
def times_through_an_open_file(d): os.utime(os.open(d + "file", os.O_RDONLY), (1, 1))
@attack("write")
def attribute_through_an_open_file(d): os.setxattr(os.open(d + "file", os.O_RDONLY), "user.x", b"x")
@attack("write")
def reopen_through_proc(d):
    fd = os.open(d + "file", os.O_RDONLY)
    write(f"/proc/self/fd/{fd}", 0)
@attack("write")
def reopen_a_place_through_proc(d):
    fd = os.open(d + "file", os.O_PATH)
    write(f"/proc/self/fd/{fd}", 0)
@attack("write")
def create_through_an_open_directory(d):
    fd = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
@attack("write")
def create_through_proc(d):
    fd = os.open(d, os.O_PATH)
    write(f"/proc/self/fd/{fd}/new")
@attack("write")
def create_through_proc_root(d): write("/proc/self/root" + d + "new")
@attack("write")
def create_through_proc_cwd(d):
    os.chdir(d)
    write("/proc/self/cwd/new")
@attack("write")
def create_through_parents(d): write(d + "dir/../../" + d.split("/")[-2] + "/../../../../../var/shared/log/attacked/" + d.split("/")[-2] + "/new")
@attack("write")
def create_after_another_chroot(d):
    os.chroot(d)
    os.chdir("/")
    write("/new")
@attack("write")
def allocate(d): check(libc.fallocate(os.open(d + "file", os.O_RDWR), 0, ctypes.c_long(0), ctypes.c_long(4096)))
@attack("write")
def punch_a_hole(d): check(libc.fallocate(os.open(d + "file", os.O_RDWR), 3, ctypes.c_long(0), ctypes.c_long(4)))
@attack("write")
def map_for_writing(d):
    fd = os.open(d + "file", os.O_RDWR)
    mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)[0:1] = b"X"
@attack("write")
def copy_into(d):
    target = os.open(d + "file", os.O_RDWR)
    os.copy_file_range(os.open("/etc/os-release", os.O_RDONLY), target, 4)
@attack("write")
def send_into(d): os.sendfile(os.open(d + "file", os.O_RDWR), os.open("/etc/os-release", os.O_RDONLY), 0, 4)
@attack("write")
def share_blocks_into(d): fcntl.ioctl(os.open(d + "file", os.O_RDWR), 0x40049409, os.open(d + "full/file", os.O_RDONLY))
@attack("write", "btrfs")
def share_blocks_into_an_open_file(d):
    # Deduplication, which asks for less than a file opened for writing.
    source, target = os.open(d + "full/file", os.O_RDONLY), os.open(d + "full/same", os.O_RDONLY)
    told = bytearray(struct.pack("=QQHHIqQQiI", 0, 8192, 1, 0, 0, target, 0, 0, 0, 0))
    ioctl(source, 0xC0189436, told)
    status = struct.unpack_from("=i", told, 48)[0]
    if status < 0: raise OSError(-status, os.strerror(-status))
@attack("write")
def set_flags(d):
    fd = os.open(d + "file", os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x40))
@attack("write")
def write_under_a_lock(d):
    fd = os.open(d + "file", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    write(d + "file", 0)
@attack("write", "btrfs")
def make_a_dataset(d): ioctl(os.open(d, os.O_RDONLY), 0x5000940E, bytearray(struct.pack("=q4088s", 0, b"new")))
@attack("write", "btrfs", nested=True)
def clone_a_dataset_into(d):
    source = os.open(d + "nested", os.O_RDONLY)
    ioctl(os.open(d, os.O_RDONLY), 0x50009417, bytearray(struct.pack("=qQQ32x4040s", source, 0, 0, b"new")))
@attack("write", "btrfs", nested=True)
def destroy_a_dataset(d): ioctl(os.open(d, os.O_RDONLY), 0x5000940F, bytearray(struct.pack("=q4088s", 0, b"nested")))
@attack("write", "btrfs", nested=True)
def make_a_dataset_read_only(d): fcntl.ioctl(os.open(d + "nested", os.O_RDONLY), 0x4008941A, struct.pack("Q", 2))
@attack("write", "btrfs")
def defragment(d): fcntl.ioctl(os.open(d + "file", os.O_RDWR), 0x50009402)
@attack("write")
def as_upper_layer_of_an_overlay(d):
    own_namespace()
    mount("overlay", "/mnt", 0, "overlay", f"lowerdir=/etc,upperdir={d}upper,workdir={d}work")
    write("/mnt/new")
@attack("write")
def through_a_loop_device(d):
    device = subprocess.run(["losetup", "-f", "--show", d + "full/file"], check=True, capture_output=True).stdout.decode().strip()
    try: write(device, 0)
    finally: subprocess.run(["losetup", "-d", device])


# -- make the mount writable, or a copy of it

def remount(path, flags=MS_BIND): mount("none", path, MS_REMOUNT | flags)

def mount_setattr(fd, path, clear, flags):
    attr = struct.pack("QQQQ", 0, clear, 0, 0)
    check(libc.syscall(442, fd, path.encode(), flags, attr, len(attr)))

def clone(path, recursive=False): return check(libc.syscall(428, AT_FDCWD, path.encode(), 1 | (AT_RECURSIVE if recursive else 0)))

def attach(fd, path): check(libc.syscall(429, fd, b"", AT_FDCWD, path.encode(), 4))

@attack("escape")
def remount_it(d):
    remount("/var/shared")
    write(d + "new")
@attack("escape")
def remount_it_with_flags_kept(d):
    remount("/var/shared", MS_BIND | 2 | 4)
    write(d + "new")
@attack("escape")
def remount_with_the_command(d):
    subprocess.run(["mount", "-o", "remount,bind,rw", "/var/shared"], check=True, stderr=subprocess.DEVNULL)
    write(d + "new")
@attack("escape")
def remount_the_filesystem_with_it(d):
    mount("none", "/var/shared", MS_REMOUNT)
    write(d + "new")
@attack("escape")
def set_the_mounts_attributes(d):
    mount_setattr(AT_FDCWD, "/var/shared", 1, 0)
    write(d + "new")
@attack("escape")
def set_the_attributes_of_all(d):
    mount_setattr(AT_FDCWD, "/", 1, AT_RECURSIVE)
    write(d + "new")
@attack("escape")
def remount_in_another_namespace(d):
    own_namespace()
    remount("/var/shared")
    write(d + "new")
@attack("escape")
def bind_elsewhere_and_remount(d):
    own_namespace()
    mount("/var/shared", "/mnt", MS_BIND)
    remount("/mnt")
    write(d.replace("/var/log/", "/mnt/log/") + "new")
@attack("escape")
def bind_a_part_elsewhere_and_remount(d):
    own_namespace()
    mount(d, "/mnt", MS_BIND)
    remount("/mnt")
    write("/mnt/new")
@attack("escape")
def bind_a_file_over_another_and_remount(d):
    own_namespace()
    mount(d + "file", "/etc/os-release", MS_BIND)
    remount("/etc/os-release")
    write("/etc/os-release", 0)
@attack("escape")
def bind_the_whole_root_and_remount(d):
    own_namespace()
    mount("/", "/mnt", MS_BIND | MS_REC)
    remount("/mnt/var/shared")
    write("/mnt/var/shared/log" + d[len("/var/log"):] + "new")
@attack("escape")
def move_it_and_remount(d):
    own_namespace()
    mount("/var/shared", "/mnt", MS_MOVE)
    remount("/mnt")
    write(d.replace("/var/log/", "/mnt/log/") + "new")
@attack("escape")
def clone_detached_and_set_attributes(d):
    fd = clone("/var/shared")
    mount_setattr(fd, "", 1, AT_EMPTY_PATH)
    os.close(os.open("log" + d[len("/var/log"):] + "new", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
@attack("escape")
def clone_all_detached_and_set_attributes(d):
    fd = clone("/", True)
    mount_setattr(fd, "", 1, AT_EMPTY_PATH | AT_RECURSIVE)
    os.close(os.open("var/shared/log" + d[len("/var/log"):] + "new", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
@attack("escape")
def clone_attach_and_remount(d):
    own_namespace()
    attach(clone("/var/shared"), "/mnt")
    remount("/mnt")
    write(d.replace("/var/log/", "/mnt/log/") + "new")
@attack("escape")
def clone_in_another_namespace(d):
    own_namespace()
    fd = clone("/var/shared")
    mount_setattr(fd, "", 1, AT_EMPTY_PATH)
    attach(fd, "/mnt")
    write(d.replace("/var/log/", "/mnt/log/") + "new")
@attack("escape")
def reconfigure_the_filesystem(d):
    fd = check(libc.syscall(433, AT_FDCWD, b"/var/shared", 0))
    check(libc.syscall(431, fd, 0, b"rw", None, 0))
    check(libc.syscall(431, fd, 7, None, None, 0))
    remount("/var/shared")
    write(d + "new")
@attack("escape")
def through_pivot_root(d):
    own_namespace()
    new_root()
    remount("/var/shared")
    write(d + "new")


# -- what no flag of a mount prevents

def device():
    return os.stat("/").st_dev, next(l.split(" - ")[1].split()[1] for l in open("/proc/self/mountinfo") if l.split()[4] == "/")

def shared():
    return next(l.split(" - ")[1].split()[1] for l in open("/proc/self/mountinfo") if l.split()[4] == "/var/shared")

@attack("beyond", "btrfs")
def open_the_block_device(d): os.close(os.open(device()[1], os.O_RDWR))
@attack("beyond", "btrfs")
def mount_the_device_again(d):
    own_namespace()
    mount(device()[1], "/mnt", 0, "btrfs", "subvol=SHARED")
    write(d.replace("/var/log/", "/mnt/log/") + "new")
@attack("beyond", "btrfs")
def by_file_handle_through_the_bes_own_mount(d):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    check(libc.name_to_handle_at(AT_FDCWD, (d + "file").encode(), handle, ctypes.byref(ctypes.c_int()), 0))
    fd = check(libc.open_by_handle_at(os.open("/", os.O_RDONLY), handle, os.O_WRONLY))
    os.write(fd, b"XXXX")
@attack("beyond", "btrfs", nested=True)
def destroy_a_dataset_by_its_number(d):
    number = struct.unpack("=Q", ioctl_lookup(os.open(d + "nested", os.O_RDONLY)))[0]
    ioctl(os.open("/", os.O_RDONLY), 0x5000943F, bytearray(struct.pack("=qQQ32xQ4032x", 0, 0, 16, number)))
@attack("beyond", "zfs")
def mount_the_dataset_again(d):
    own_namespace()
    mount(shared(), "/mnt", 0, "zfs")
    write(d.replace("/var/log/", "/mnt/log/") + "new")
@attack("beyond", "zfs")
def change_the_dataset_by_its_name(d): subprocess.run(["zfs", "set", "org.attack:was=here", shared()], check=True, stderr=subprocess.DEVNULL)
@attack("beyond")
def leave_the_root(d):
    # The classic: a directory outside the new root is above it.
    os.mkdir("/mnt/inner")
    fd = os.open("/", os.O_RDONLY)
    os.chroot("/mnt/inner")
    os.fchdir(fd)
    os.rmdir("mnt/inner")
    for _ in range(64): os.chdir("..")
    os.chroot(".")
    if os.path.exists("/run/bootenv-binary"): raise OSError(errno.EPERM, "still inside")

def ioctl_lookup(fd):
    buffer = bytearray(4096)
    struct.pack_into("=QQ", buffer, 0, 0, 256)
    ioctl(fd, 0xD0009412, buffer)
    return bytes(buffer[:8])


def run(name, function):
    read, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            function(BASE + name + "/")
            outcome = "done"
        except OSError as e:
            outcome = errno.errorcode.get(e.errno, str(e))
        except subprocess.CalledProcessError as e:
            outcome = f"status {e.returncode}"
        except BaseException as e:
            outcome = f"broken: {e!r}"
        os.write(out, outcome.encode())
        os._exit(0)
    os.close(out)
    os.waitpid(child, 0)
    outcome = os.read(read, 4096).decode()
    os.close(read)
    return outcome


def prepare(name, function, base):
    d = f"{base}/{name}/"
    for inner in ("dir", "full", "upper", "work"): os.makedirs(d + inner)
    for path, text in (("file", b"here\n"), ("full/file", bytes(8192)), ("full/same", bytes(8192))):
        with open(d + path, "wb") as out: out.write(text)
    os.symlink("file", d + "link")
    os.setxattr(d + "file", "user.kept", b"x")
    if function.nested: print(name)


if __name__ == "__main__":
    verb, group, argument = sys.argv[1], sys.argv[2], (sys.argv[4:] or [None])[0]
    for name, function in GROUPS[group].items():
        if verb == "names": print(name)
        elif verb == "prepare": prepare(name, function, argument)
        elif argument in (None, name): print(f"{name}\t{run(name, function)}", flush=True)
