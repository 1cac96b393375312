"""A Docker Engine of a script's own: it is not installed, and nothing of it is left when the script has ended.

Debian's engine and its client run from a root filesystem under target/, in mount, network and PID namespaces of their
own: bridges, firewall rules, published ports and mounts are no other process's, and go away with the engine's first
process, as all its containers do. It reaches no network. It knows nothing of what is run with it.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from stage import ROOT, until

ENVIRONMENT = {**os.environ, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Failed(Exception):
    """A program failed, or something is missing: says what, for the person who ran the script."""


def call(*command, log=None, named=None, **how):
    """Runs a program to its end and gives what it printed, or adds that to a log file. Raises `Failed` with its end."""
    command = [str(word) for word in command]
    if log:
        with log.open("a") as out:
            done = subprocess.run(command, check=False, stdout=out, stderr=subprocess.STDOUT, **how)
        said = log.read_text(errors="replace")
    else:
        done = subprocess.run(command, check=False, text=True, capture_output=True, **how)
        said = done.stdout + done.stderr
    if done.returncode != 0:
        tail = "\n".join(said.rstrip().splitlines()[-15:])
        where = f" ({log})" if log else ""
        raise Failed(f"`{named or ' '.join(command)}` failed{where}:\n{tail}")
    return done.stdout


def remove_cgroups(pattern):
    """Removes control groups of engines; gives whether it could, which takes that their processes have ended."""
    hierarchies = Path("/sys/fs/cgroup")
    removed = True
    for group in [*hierarchies.glob(pattern), *hierarchies.glob(f"*/{pattern}")]:
        try:
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
        except OSError:
            removed = False
    return removed


class Engine:
    """Runs while it is entered. It and its client see the repository, and `files`, a directory that ends with it."""

    def __init__(self, root, work):
        self.root, self.data = Path(root), Path(work) / "engine"
        self.log, self.link = Path(work) / "engine.log", Path(work) / "files"
        self.cgroup = f"try-image-{os.getpid()}"
        self.process = None

    def __enter__(self):
        # What is left of a run that was killed.
        remove_cgroups("try-image-*")
        if self.link.is_symlink():
            self.remove_files(self.link.readlink())
        self.data.mkdir(parents=True)
        # A socket's path may have 108 bytes: too few for a directory under target/.
        self.files = Path(tempfile.mkdtemp(prefix="try-image-"))
        self.link.symlink_to(self.files)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        # The whole engine dies with this process, however that ends.
        namespaces = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--ipc", "--uts"]
        script = ROOT / "scripts/engine-namespace"
        arguments = [self.root, self.data, self.files, ROOT, f"/{self.cgroup}"]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [*namespaces, "--fork", "--kill-child", "sh", script, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )
        until("the engine answers", lambda: self.answers() or self.process.poll() is not None, 60)
        if self.process.poll() is not None:
            lines = [line for line in self.log.read_text().splitlines() if "level=info" not in line]
            tail = "\n".join(lines[-10:])
            raise Failed(f"a Docker Engine cannot start here, so the image was not tried ({self.log}):\n{tail}")

    def answers(self):
        try:
            self.docker("version")
        except Failed:
            return False
        return True

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()
        until("the engine's processes are gone", lambda: remove_cgroups(self.cgroup))
        self.remove_files(self.files)

    def remove_files(self, files):
        for directory in (self.data, files):
            if directory.exists():
                shutil.rmtree(directory)
        self.link.unlink()

    def docker(self, *command, **how):
        """Runs the client beside the engine, in its namespaces: paths are absolute."""
        process = self.process.pid
        # `unshare` is in the new namespaces itself, but for the PID namespace: that is its child's.
        child = Path(f"/proc/{process}/task/{process}/children").read_text().strip()
        if not child:
            raise Failed("the engine has ended")
        enter = ["nsenter", "--target", child, "--mount", "--net", "--pid", "--ipc", "--uts", "--root"]
        environment = {**ENVIRONMENT, "DOCKER_HOST": f"unix://{self.files}/docker.sock", "HOME": str(self.files)}
        named = " ".join(["docker", *(str(word) for word in command)])
        return call(*enter, "docker", *command, named=named, env=environment, **how)

    def load(self, name, root, changes):
        """Makes an image of a root filesystem."""
        options = [option for change in changes for option in ("--change", change)]
        pack = ["tar", "--create", "--numeric-owner", "--directory", root, "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
            self.docker("import", *options, "-", name, stdin=tar.stdout)
        if tar.returncode != 0:
            raise Failed(f"packing `{name}` failed")

    def describe(self):
        storage, version = self.docker("info", "--format", "{{.Driver}} {{.ServerVersion}}").split()
        return f"Docker Engine {re.split('[+~]', version)[0]}, {storage}"
