"""ECS Exec: how soon a shell is there, and how much comes through."""

import importlib.util
import json
import os
import pathlib
import pty
import subprocess
import threading
import time

from measure import IMAGE, MINATO, SERVE, Minato, make_image, ms, p50_p95, row, running, status, wait_for

CLIENT = pathlib.Path(__file__).parent.parent / "crates/e2e/tests/e2e/exec_client.py"
BYTES = 100_000_000
# What a session may have on its way at once, several times over.
GROWTH_MIB = 16


def channel():
    """The client of the tests, which acknowledges all that comes."""
    spec = importlib.util.spec_from_file_location("exec_client", CLIENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Channel()


class Peak:
    """The most that a process has in memory while this is open."""

    def __init__(self, pid):
        self.pid, self.most, self.is_over = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        while not self.is_over.wait(0.05):
            self.most = max(self.most, status(self.pid, "Rss"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


def of_terminal(path):
    """MB/s of `cat` to a terminal from which it is only read: the kernel's own
    work on each line, which no channel is faster than."""
    begun, size = time.monotonic(), 0
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("busybox", ["busybox", "cat", str(path)])
    try:
        while piece := os.read(master, 1 << 16):
            size += len(piece)
    except OSError:
        pass  # The terminal hangs up when nobody has it open any more.
    os.waitpid(pid, 0)
    os.close(master)
    return size / 1e6 / (time.monotonic() - begun)


def case_exec(work):
    """The first prompt of ExecuteCommand, and `cat` of 100 MB."""
    minato = Minato(work)
    minato.command("image", "load", str(make_image(work)))
    minato.up()
    ecs, iam = minato.client("ecs"), minato.client("iam")
    policy = json.dumps(dict(Version="2012-10-17", Statement=[dict(
        Effect="Allow", Action="sts:AssumeRole", Principal=dict(Service="ecs-tasks.amazonaws.com"))]))
    role = iam.create_role(RoleName="bench", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    ecs.register_task_definition(family="app", networkMode="bridge", taskRoleArn=role, containerDefinitions=[
        dict(name="app", image=IMAGE, memory=300, command=["/bin/sh", "-c", SERVE])])
    task = ecs.run_task(taskDefinition="app", enableExecuteCommand=True)["tasks"][0]["taskArn"]
    wait_for("RUNNING", lambda: running(ecs, [task]))

    def prompt():
        begun = time.monotonic()
        session = ecs.execute_command(task=task, command="/bin/sh", interactive=True)["session"]
        client = channel()
        client.connect(session["streamUrl"], session["tokenValue"])
        client.wait(lambda: b"# " in client.shown, 60)
        took = time.monotonic() - begun
        client.say(1, b"exit\r")
        client.wait(lambda: client.closed is not None, 60)
        return took

    def execute(command, output):
        words = [MINATO, "exec", task.rsplit("/", 1)[1], "--", "/bin/sh", "-c", command]
        subprocess.run(words, env=minato.environment, stdin=subprocess.DEVNULL, stdout=output, check=True)

    prompts = [prompt() for _ in range(25)][5:]
    line = "0123456789" * 6
    execute(f"busybox yes {line} | busybox head -c {BYTES} > /tmp/big", subprocess.DEVNULL)
    before = status(minato.process.pid, "Rss")
    shown = work / "shown"

    def cat():
        with open(shown, "wb") as output:
            begun = time.monotonic()
            execute("busybox cat /tmp/big", output)
            took = time.monotonic() - begun
        assert os.path.getsize(shown) >= BYTES, os.path.getsize(shown)
        return os.path.getsize(shown) / 1e6 / took

    lines = (line + "\n").encode()
    (work / "big").write_bytes(lines * (BYTES // len(lines)))
    bare = sorted(of_terminal(work / "big") for _ in range(5))
    with Peak(minato.process.pid) as peak:
        rates = sorted(cat() for _ in range(5))
    ecs.stop_task(task=task)
    minato.down()
    (median, late), rate = p50_p95(prompts), rates[len(rates) // 2]
    row("ECS Exec: ExecuteCommand to the first prompt (p50, p95)", f"{ms(median)}, {ms(late)}", "-", "150 ms",
        median <= 0.150)
    row("ECS Exec: cat of 100 MB to a client that acknowledges", f"{rate:.0f} MB/s",
        f"a terminal alone {bare[len(bare) // 2]:.0f} MB/s", "50 MB/s", rate >= 50)
    row("the same: resident memory before, and at most", f"{before:.1f}, {peak.most:.1f} MiB", "-",
        f"{GROWTH_MIB} MiB more", peak.most <= before + GROWTH_MIB)
