"""What all cases share: the programs measured, their clients, and the rows of
the table."""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tarfile
import time

import botocore.config
import botocore.session

MINATO = os.environ["MINATO"]
MKIMAGE = os.environ["MKIMAGE"]
IMAGE = "bench/app:1"
SERVE = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
rows = []


def row(what, minato, peer, target, met):
    rows.append(dict(what=what, minato=minato, peer=peer, target=target, met=met))
    print(f"{'ok  ' if met else 'MISS'} {what}: {minato} | {peer} | {target}", flush=True)


def wait_for(what, predicate, seconds=60, every=0.002):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = predicate()
        if found:
            return found
        time.sleep(every)
    raise TimeoutError(what)


def ms(seconds):
    return f"{seconds * 1000:.1f} ms"


def p50_p95(times):
    times = sorted(times)
    return statistics.median(times), times[int(len(times) * 0.95)]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Minato:
    """A release build in a data directory of its own."""

    def __init__(self, work, name="minato"):
        self.data = work / name
        self.environment = dict(os.environ, MINATO_DATA_DIR=str(self.data))
        self.process = None

    def command(self, *words):
        return run(MINATO, *words, env=self.environment)

    def up(self, *options):
        self.process = subprocess.Popen(
            [MINATO, "up", "--listen", "127.0.0.1:4566", *options],
            env=self.environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert "is ready" in line, line
        lines = [line for line in self.command("env").splitlines() if "=" in line]
        self.keys = dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def client(self, service):
        return client(service, "http://127.0.0.1:4566", self.keys["AWS_ACCESS_KEY_ID"],
                      self.keys["AWS_SECRET_ACCESS_KEY"])

    def down(self):
        self.command("down")
        self.process.wait()


class Docker:
    """dockerd from Debian with everything of its own."""

    def __init__(self, work):
        self.work = work
        self.socket = f"unix://{work}/docker.sock"
        log = open(work / "dockerd.log", "w")
        # /run is shared with the host: keep dockerd's in the work directory.
        self.process = subprocess.Popen(
            ["dockerd", "--data-root", f"{work}/docker", "--exec-root", f"{work}/docker-run",
             "--pidfile", f"{work}/docker.pid", "--host", self.socket],
            stdout=log, stderr=log)
        wait_for("dockerd", lambda: self.try_info(), every=0.1)

    def try_info(self):
        return subprocess.run(["docker", "-H", self.socket, "info"], capture_output=True).returncode == 0

    def __call__(self, *words):
        return run("docker", "-H", self.socket, *words)

    def close(self):
        names = self("ps", "-aq").split()
        if names:
            self("rm", "-f", *names)
        self.process.terminate()
        self.process.wait()
        for group in pathlib.Path("/sys/fs/cgroup").glob("*/docker"):
            subprocess.run(["rmdir", str(group)], capture_output=True)


def client(service, endpoint, key, secret):
    session = botocore.session.Session()
    return session.create_client(
        service, region_name="us-east-1", endpoint_url=endpoint, aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=botocore.config.Config(retries={"max_attempts": 0}, read_timeout=120))


def make_image(work):
    """Busybox alone, as an archive that both sides load."""
    root = work / "root"
    for folder in ("bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "sleep", "echo", "true", "yes", "head"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    archive = work / "image.tar"
    run(MKIMAGE, "--root", str(root), "--name", IMAGE, "--cmd", "/bin/sh", "-o", str(archive))
    return archive


def docker_image(docker, work):
    """The same files as Docker's image."""
    plain = work / "root.tar"
    with tarfile.open(plain, "w") as archive:
        archive.add(work / "root", arcname=".")
    docker("import", str(plain), IMAGE)


def definition(family, mode, log=False):
    container = dict(name="app", image=IMAGE, memory=16, command=["/bin/sh", "-c", SERVE])
    if log:
        container["logConfiguration"] = dict(logDriver="awslogs", options={
            "awslogs-group": "/bench", "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": family, "awslogs-create-group": "true"})
    return dict(family=family, networkMode=mode, containerDefinitions=[container])


def awsvpc(minato):
    subnet = minato.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    return dict(awsvpcConfiguration=dict(subnets=[subnet]))


def running(ecs, arns):
    tasks = ecs.describe_tasks(tasks=arns)["tasks"]
    assert all(task["lastStatus"] != "STOPPED" for task in tasks), tasks
    return all(task["lastStatus"] == "RUNNING" for task in tasks)


def status(pid, field):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(rf"^{field}:\s+(\d+) kB", text, re.M)) / 1024


def shims():
    """The processes that keep a container each."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"shim" in words[1:2]:
            found.append(int(entry.name))
    return found
