# SPDX-License-Identifier: BSD-3-Clause
"""A Slurm of our own on the loopback, with its own key, ports and folders: several can run side by side."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "gcc")
HEADER = Path("/usr/include/slurm/spank.h")
#: Who submits: an ordinary user of every Debian, with no rights and no shell.
USER = "games"
PLUGIN = Path(__file__).with_name("shifter_plugin.c")
CONF = """\
ClusterName=diffrun
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
SlurmUser=slurm
SlurmdUser=root
StateSaveLocation={home}/ctld
SlurmdSpoolDir={home}/d/%n
SlurmctldPidFile={home}/run/slurmctld.pid
SlurmdPidFile={home}/run/slurmd-%n.pid
SlurmctldLogFile={home}/run/slurmctld.log
SlurmdLogFile={home}/run/slurmd-%n.log
PlugStackConfig={home}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
MinJobAge={memory}
KillWait=2
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
MaxArraySize=1001
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=8000 State=UNKNOWN\n"
DBD = """\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[2]}
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[3]}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
LogFile={home}/run/slurmdbd.log
PidFile={home}/run/slurmdbd.pid
"""


def need() -> None:
    """Skip where a cluster cannot be had."""
    if os.geteuid():
        pytest.skip("a Slurm of our own needs root")
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing or not HEADER.exists():
        missing += [] if HEADER.exists() else [str(HEADER)]
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge libslurm-dev gcc")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


@dataclass
class Cluster:
    """One controller and its nodes, all on this machine; ``home`` is readable for everybody."""

    home: Path
    memory: int = 3600
    accounting: bool = False
    others: Sequence[str] = ()
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    host: str = field(default_factory=lambda: socket.gethostname().partition(".")[0])
    _database: subprocess.Popen[bytes] | None = None
    _data: Path | None = None

    @property
    def conf(self) -> Path:
        return self.home / "slurm.conf"

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes; the first is this machine's own."""
        return self.host, *self.others

    @property
    def environment(self) -> dict[str, str]:
        """For root, with this cluster's configuration."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Key, plugin, daemons; returns when the node is idle."""
        for name, owner in (("munge", "munge"), ("ctld", "slurm"), ("d", "root"), ("run", "slurm")):
            (self.home / name).mkdir(mode=0o755)
            shutil.chown(self.home / name, owner)
        self._munge()
        self._plugin()
        self._configure()
        if self.accounting:
            self._account()
        self.daemon("slurmctld")
        for node in self.nodes:
            self.daemon("slurmd", node)
        self.wait_for(
            lambda: self.run("sinfo", "-h", "-N", "-o", "%T").stdout.split() == ["idle"] * len(self.nodes), 30
        )

    def _munge(self) -> None:
        key = self.home / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        shutil.chown(key, "munge")
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        words = [f"--{option}={self.home}/munge/{name}" for option, name in names.items()]
        words += [f"--seed-file={self.home}/munge/seed"]
        self._do(["runuser", "-u", "munge", "--", "munged", *words])

    def _plugin(self) -> None:
        library = self.home / "shifter.so"
        self._do(["gcc", "-shared", "-fPIC", "-o", str(library), str(PLUGIN)])
        known = f"docker:diffrun-engine:1={'5b' * 32}"
        (self.home / "plugstack.conf").write_text(f"required {library} {known}\n")

    def _configure(self) -> None:
        text = CONF.format(home=self.home, host=self.host, ports=self.ports, memory=self.memory)
        ports = [self.ports[1], *free_ports(len(self.others))]
        text += "".join(NODE.format(name=n, port=port) for n, port in zip(self.nodes, ports, strict=True))
        text += "PartitionName=regular Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO\n"
        if self.accounting:
            text += "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            text += f"AccountingStoragePort={self.ports[2]}\n"
            text += f"AccountingStoragePass={self.home}/munge/socket\n"  # of munge, whatever its name
        else:
            text += "AccountingStorageType=accounting_storage/none\n"
        self.conf.write_text(text)

    def _account(self) -> None:
        """A private MariaDB, and slurmdbd before it."""
        data = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else self.home))
        shutil.chown(data, "mysql")
        self._data = data
        self._do(["mariadb-install-db", f"--datadir={data}", "--user=mysql", "--skip-test-db"])
        socket_path = self.home / "run" / "mysql.sock"
        words = [f"--datadir={data}", f"--socket={socket_path}", f"--port={self.ports[3]}", "--user=mysql"]
        words += ["--bind-address=127.0.0.1", f"--pid-file={data}/pid", "--innodb-buffer-pool-size=32M"]
        (self.home / "run").chmod(0o777)
        with (self.home / "run" / "mysql.log").open("wb") as log:
            self._database = subprocess.Popen(["mariadbd", "--no-defaults", *words], stdout=log, stderr=log)
        password = secrets.token_hex(16)
        say = f"create user slurm@'127.0.0.1' identified by '{password}';"
        say += "grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
        ask = ["mariadb", "--no-defaults", f"--socket={socket_path}", "--user=root"]
        self.wait_for(
            lambda: subprocess.run([*ask, "-e", "select 1"], capture_output=True).returncode == 0, 60
        )
        self._do([*ask, "-e", say])
        path = self.home / "slurmdbd.conf"
        path.write_text(DBD.format(home=self.home, host=self.host, ports=self.ports, password=password))
        path.chmod(0o600)
        shutil.chown(path, "slurm")
        self._do(["slurmdbd"])
        self.wait_for(lambda: self.run("sacctmgr", "-n", "show", "cluster").returncode == 0, 60)
        self.run("sacctmgr", "-i", "add", "cluster", "diffrun")

    def daemon(self, name: str, node: str | None = None) -> None:
        """Start ``slurmctld``, or ``slurmd`` of a node, which put themselves into the background."""
        self._do([name, *(["-N", node or self.host] if name == "slurmd" else [])])

    def _do(self, argv: Sequence[str]) -> None:
        log = self.home / "run" / "start.log"
        with log.open("ab") as file:
            done = subprocess.run(argv, env=self.environment, stdout=file, stderr=file, timeout=120)
        assert done.returncode == 0, f"{argv[0]}: {log.read_text(errors='replace')[-2000:]}"

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """One of Slurm's commands, as root."""
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=120)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        wait_for(condition, seconds, self.tail)

    def idle(self) -> bool:
        """Whether no job waits or runs."""
        return not self.run("squeue", "--noheader").stdout.strip()

    def tail(self) -> str:
        """What the daemons said last."""
        logs = sorted((self.home / "run").glob("*.log"))
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)

    def pid(self, name: str) -> int:
        """Of a daemon; of the first node's, if it is ``slurmd``."""
        name = f"{name}-{self.host}" if name == "slurmd" else name
        return int((self.home / "run" / f"{name}.pid").read_text())

    def state(self, job: str) -> str:
        """The word for a job's state, by ``scontrol``."""
        said = self.run("scontrol", "-o", "show", "job", job).stdout
        return said.partition("JobState=")[2].partition(" ")[0]

    def stop(self) -> None:
        """End what was started, jobs first."""
        self.run("scancel", f"--user={USER}")
        end = time.monotonic() + 10
        while self.run("squeue", "-h").stdout.strip() and time.monotonic() < end:
            time.sleep(0.1)
        for name, number in (
            *((f"slurmd-{node}", signal.SIGTERM) for node in self.nodes),
            ("slurmctld", signal.SIGKILL),
            ("slurmdbd", signal.SIGKILL),
        ):
            _end(self.home / "run" / f"{name}.pid", number)
        if self._database is not None:
            self._database.terminate()
            self._database.wait(30)
        if self._data is not None:
            shutil.rmtree(self._data)
        _end(self.home / "munge" / "pid", signal.SIGTERM)


def _end(path: Path, number: signal.Signals) -> None:
    """End the daemon whose number a file holds, and wait for it."""
    if not path.exists():
        return
    pid = int(path.read_text())
    for each, seconds in ((number, 10.0), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, each)
        except ProcessLookupError:
            return
        end = time.monotonic() + seconds
        while _alive(pid) and time.monotonic() < end:
            time.sleep(0.02)


def _alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 60, told: Callable[[], str] = str) -> None:
    """Wait until something holds; an assertion fails if it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long: {told()}"
        time.sleep(0.05)


def as_user(
    argv: Sequence[str], environment: dict[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run something as the ordinary user."""
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=timeout, **of_the_user()
    )


def of_the_user() -> dict[str, Any]:
    """What makes a process the ordinary user's."""
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "umask": 0o022, "cwd": "/"}
