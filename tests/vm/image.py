# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds, once, what the machines boot: a Debian root as a read-only ext4 image, another one with
Terem's template debian-12, and for each kernel its vmlinuz with a small initramfs.  Everything stands in one cache directory, whose name
changes with whatever it is made from; a build that is interrupted leaves nothing there."""
import concurrent.futures
import glob
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from node import Node  # noqa: E402

GUEST = os.path.join(HERE, "guest")

FORGET_SECONDS = 7 * 24 * 3600

# Debian's kernels, by suite.  The root is of the suite of the machine that built Terem, whose
# binaries run in it.
KERNELS = {"6.1": "bookworm", "6.12": "trixie"}
TOOLS = ("mmdebstrap", "mkfs.ext4", "qemu-img", "qemu-system-x86_64", "modprobe", "depmod")

# In the root, beside the libraries that Terem's programs are linked with.
PACKAGES = ["busybox-static", "iproute2", "lxcfs", "nftables", "procps", "python3-minimal",
            "libpython3-stdlib", "mount", "util-linux", "e2fsprogs", "xfsprogs",
            "btrfs-progs"]

# Loaded from the initramfs, with what they need; there is no modprobe in the root.
MODULES = """virtio_pci virtio_blk virtio_rng ext4 crc32c_generic quota_v2 overlay fuse loop xfs btrfs
sch_ingress cls_bpf 9p 9pnet_virtio veth tun bridge nf_tables nft_meta_bridge nf_conntrack nft_chain_nat nft_nat nft_masq nft_ct nft_limit
nft_fib nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_reject nft_reject_inet nft_log nft_quota
nft_redir nft_connlimit nf_conntrack_netlink nfnetlink_log zram""".split()
# A part of nf_tables, and of zram, in newer ones.
OPTIONAL = ["nft_objref", "lzo-rle"]


def suite_of_host():
    with open("/etc/os-release", encoding="utf-8") as file:
        found = re.search(r'^VERSION_CODENAME="?(\w+)', file.read(), re.M)
    if not found or found.group(1) not in KERNELS.values():
        raise RuntimeError("the root of the machines is Debian 12's or 13's, and so must be the "
                           "machine that builds it")
    return found.group(1)


def run(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit status {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def libraries(programs):
    """The packages that have the libraries of these programs."""
    paths = set()
    for program in programs:
        paths.update(re.findall(r"=> (/\S+)", run("ldd", program)))
    packages = set()
    for path in paths:
        path = os.path.realpath(path)
        for name in (path, path.removeprefix("/usr")):
            owner = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True,
                                   check=False).stdout
            if owner:
                packages.add(owner.split(":")[0])
                break
        else:
            raise RuntimeError(f"no package has the library {path}")
    return packages


class Image:
    """root, template, and kernel(name) and initramfs(name): paths below `where`."""

    def __init__(self, cache, build, programs):
        self.build_dir = build
        self.suite = suite_of_host()
        self.packages = sorted(libraries(programs) | set(PACKAGES))
        self.cache = cache
        text = [self.suite, *self.packages, *MODULES, *OPTIONAL]
        template = os.path.join(HERE, "../../src/template")
        for folder, name in [(HERE, "image.py"), (template, "debian.c")] + \
                [(GUEST, n) for n in sorted(os.listdir(GUEST))]:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text.append(file.read())
        self.where = os.path.join(cache, hashlib.sha256("\0".join(text).encode()).hexdigest()[:16])

    @property
    def root(self):
        return os.path.join(self.where, "root.ext4")

    @property
    def template(self):
        return os.path.join(self.where, "debian-12.ext4")

    def kernel(self, name):
        return os.path.join(self.where, name, "vmlinuz")

    def initramfs(self, name):
        return os.path.join(self.where, name, "initramfs")

    def ready(self):
        return os.path.isdir(self.where)

    def forget(self):
        """Removes what nobody has used for long; another tree may share the cache."""
        for old in glob.glob(os.path.join(self.cache, "*")):
            if time.time() - os.stat(old).st_mtime > FORGET_SECONDS:
                shutil.rmtree(old, ignore_errors=True)

    def use(self):
        os.utime(self.where)

    def build(self):
        """Makes all in a directory of its own, which gets its name when it is complete."""
        os.makedirs(self.cache, exist_ok=True)
        draft = tempfile.mkdtemp(prefix="draft-", dir=self.cache)
        try:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                parts = [
                    pool.submit(make_root, os.path.join(draft, "root.ext4"), self.suite,
                                self.packages),
                    pool.submit(make_template, os.path.join(draft, "debian-12.ext4"),
                                self.build_dir),
                    *(pool.submit(make_kernel, os.path.join(draft, name), suite)
                      for name, suite in KERNELS.items())]
                for part in parts:
                    part.result()
            os.chmod(draft, 0o755)
            try:
                os.rename(draft, self.where)
            except OSError:  # somebody else was quicker
                if not self.ready():
                    raise
            self.forget()
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def bootstrap(suite, variant, packages, target, *more):
    run("mmdebstrap", "--quiet", "--mode=root", f"--variant={variant}",
        "--include=" + ",".join(packages), '--aptopt=Acquire::Languages "none"', *more, suite,
        target)


def make_root(image, suite, packages):
    root = image + ".d"
    bootstrap(suite, "essential", packages, root,
              "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
              "--dpkgopt=path-exclude=/usr/share/locale/*")
    for name in ("data", "debian", "work/build", "work/tests"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    for name in ("setup", "serve"):
        target = os.path.join(root, "sbin", "vm-" + name)
        shutil.copyfile(os.path.join(GUEST, name), target)
        os.chmod(target, 0o755)
    shutil.copyfile(os.path.join(GUEST, "inittab"), os.path.join(root, "etc/inittab"))
    with open(os.path.join(root, "etc/resolv.conf"), "w", encoding="ascii") as file:
        file.write("nameserver 192.0.2.53\n")
    make_file_system(image, root)
    shutil.rmtree(root)


def make_file_system(image, root):
    """Owners and modes come from the directory: this runs as root."""
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    run("mkfs.ext4", "-q", "-F", "-m0", "-O", "^has_journal", "-d", root, image)


def make_template(image, build):
    with Node(build) as node:
        node.terem("template", "build", "debian-12", timeout=900)
        (root,) = glob.glob(os.path.join(node.root, "lib/layers/*/root"))
        make_file_system(image, root)


def make_kernel(folder, suite):
    tree = folder + ".d"
    bootstrap(suite, "extract", ["linux-image-amd64"], tree)
    os.mkdir(folder)
    (image,) = [name for name in os.listdir(os.path.join(tree, "boot"))
                if name.startswith("vmlinuz-")]
    shutil.copyfile(os.path.join(tree, "boot", image), os.path.join(folder, "vmlinuz"))
    if not os.path.exists(os.path.join(tree, "lib")):  # Debian 13: /usr is merged by a symlink
        os.symlink("usr/lib", os.path.join(tree, "lib"))
    make_initramfs(os.path.join(folder, "initramfs"), tree, image.removeprefix("vmlinuz-"))
    shutil.rmtree(tree)


def modules_of(tree, version):
    """Paths of the modules in an order in which they can be loaded."""
    run("depmod", "-b", tree, version)
    paths = []
    for module in MODULES + OPTIONAL:
        done = subprocess.run(["modprobe", "-d", tree, "-S", version, "--show-depends", module],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0 and module not in OPTIONAL:
            raise RuntimeError(f"linux {version} has no module {module}: {done.stderr}")
        for line in done.stdout.splitlines():
            if line.startswith("insmod "):
                path = line.split()[1]
                if path not in paths:
                    paths.append(path)
    return paths


def make_initramfs(target, tree, version):
    with gzip.open(target, "wb", compresslevel=1) as out:
        archive = Cpio(out)
        for name in ("bin", "dev", "proc", "m", "root"):
            archive.add(name, stat.S_IFDIR | 0o755)
        archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        archive.add_file("bin/busybox", "/bin/busybox", 0o755)
        archive.add_file("init", os.path.join(GUEST, "init"), 0o755)
        for number, path in enumerate(modules_of(tree, version)):
            with open(path, "rb") as file:
                data = file.read()
            if path.endswith(".xz"):
                data = lzma.decompress(data)
            archive.add(f"m/{number:03}-{os.path.basename(path).removesuffix('.xz')}",
                        stat.S_IFREG | 0o644, data)
        archive.end()


class Cpio:
    """The "newc" format, as the kernel unpacks it (Documentation/driver-api/early-userspace)."""

    def __init__(self, out):
        self.out, self.inode = out, 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        self.write(b"070701" + "".join(f"{n:08X}" for n in (
            self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)).encode())
        self.out.write(name.encode() + b"\0")
        self.pad(110 + len(name) + 1)
        self.out.write(data)
        self.pad(len(data))

    def write(self, head):
        assert len(head) == 110
        self.out.write(head)

    def pad(self, length):
        self.out.write(bytes(-length % 4))

    def add_file(self, name, path, mode):
        with open(path, "rb") as file:
            self.add(name, stat.S_IFREG | mode, file.read())

    def end(self):
        self.add("TRAILER!!!", 0)
