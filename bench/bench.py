"""Minato beside Docker and moto, on one machine in one run.

Each case starts what it measures in a temporary directory and takes it down
again. A case gives rows (what, Minato's figure, the peer's, the target); the
ratio is what counts, since absolute figures follow the machine's mood.
"""

import argparse
import concurrent.futures
import hashlib
import http.server
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials

import execute
import ingest
import logs
import parameters
from measure import (
    IMAGE, MINATO, SERVE, Docker, Minato, awsvpc, client, definition, docker_image, make_image, ms,
    p50_p95, row, rows, run, running, shims, status, wait_for)


def case_run(work):
    """RunTask to RUNNING beside `docker run -d`."""
    archive = make_image(work)
    minato = Minato(work)
    minato.command("image", "load", str(archive))
    minato.up()
    ecs = minato.client("ecs")
    ecs.register_task_definition(**definition("app", "awsvpc", log=True))
    network = awsvpc(minato)

    def one():
        begun = time.monotonic()
        arn = ecs.run_task(taskDefinition="app", networkConfiguration=network)["tasks"][0]["taskArn"]
        wait_for("RUNNING", lambda: running(ecs, [arn]), every=0.001)
        took = time.monotonic() - begun
        ecs.stop_task(task=arn)
        return took

    def many():
        begun = time.monotonic()
        arns = []
        for _ in range(2):
            tasks = ecs.run_task(taskDefinition="app", count=10, networkConfiguration=network)
            assert not tasks["failures"], tasks["failures"]
            arns += [task["taskArn"] for task in tasks["tasks"]]
        # Asked seldom: the client shares the cores with what is measured.
        wait_for("20 RUNNING", lambda: running(ecs, arns), every=0.025)
        took = time.monotonic() - begun
        for arn in arns:
            ecs.stop_task(task=arn)
        return took

    stopped = lambda: not ecs.list_tasks()["taskArns"]
    ours = [one() for _ in range(25)][5:]
    wait_for("quiet", stopped)
    time.sleep(2)
    ours_many = min(many() for _ in range(3))
    minato.down()

    docker = Docker(work)
    docker_image(docker, work)

    def docker_one():
        begun = time.monotonic()
        docker("run", "-d", "--memory", "16m", IMAGE, "/bin/sh", "-c", SERVE)
        return time.monotonic() - begun

    def clear():
        docker("rm", "-f", *docker("ps", "-aq").split())

    theirs = [docker_one() for _ in range(22)][2:]
    clear()

    def docker_many():
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: docker_one(), range(20)))
        took = time.monotonic() - begun
        clear()
        return took

    theirs_many = min(docker_many() for _ in range(3))
    docker.close()
    (a, a95), (b, b95) = p50_p95(ours), p50_p95(theirs)
    row("RunTask to RUNNING, awsvpc, awslogs (p50, p95)", f"{ms(a)}, {ms(a95)}",
        f"docker run -d {ms(b)}, {ms(b95)} = {b / a:.1f}x", "1/5 of docker", b / a >= 5)
    row("20 at once", f"{20 / ours_many:.0f}/s", f"docker {20 / theirs_many:.1f}/s = "
        f"{theirs_many / ours_many:.1f}x", "10x docker", theirs_many / ours_many >= 10)


def signed(endpoint, key, secret, operation, body):
    """The headers of one signed request, to be sent again and again: the
    signature is as hard to verify each time."""
    headers = {"X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}",
               "Content-Type": "application/x-amz-json-1.1"}
    request = botocore.awsrequest.AWSRequest("POST", endpoint + "/", headers=headers, data=body)
    credentials = botocore.credentials.Credentials(key, secret)
    botocore.auth.SigV4Auth(credentials, "ecs", "us-east-1").add_auth(request)
    return dict(request.headers.items())


def load(work, endpoint, key, secret, operation, document, seconds=10):
    """Answers per second to 64 clients."""
    body = json.dumps(document)
    headers = signed(endpoint, key, secret, operation, body)
    script = work / "post.lua"
    lines = ["wrk.method = 'POST'", f"wrk.body = [==[{body}]==]"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    script.write_text("\n".join(lines))
    said = run("wrk", "-t1", "-c64", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), endpoint + "/")
    assert "Non-2xx" not in said, said
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))


def case_api(work):
    """Requests per second beside moto_server."""
    archive = make_image(work)
    minato = Minato(work)
    minato.command("image", "load", str(archive))
    minato.up()
    ecs = minato.client("ecs")
    idle = definition("idle", "none")
    idle["containerDefinitions"][0]["memory"] = 6
    ecs.register_task_definition(**idle)
    arns = []
    for _ in range(10):
        answer = ecs.run_task(taskDefinition="idle", count=10)
        assert not answer["failures"], answer["failures"]
        arns += [task["taskArn"] for task in answer["tasks"]]
    wait_for("100 RUNNING", lambda: running(ecs, arns), every=0.1)
    key, secret = minato.keys["AWS_ACCESS_KEY_ID"], minato.keys["AWS_SECRET_ACCESS_KEY"]
    family = dict(definition("load", "bridge"), family="load")
    cases = [("DescribeClusters", {}, 40), ("ListTasks", {}, 40), ("RegisterTaskDefinition", family, 10)]
    ours = [load(work, "http://127.0.0.1:4566", key, secret, name, document) for name, document, _ in cases]
    memory(minato, arns, ecs)
    minato.down()

    moto = subprocess.Popen(["moto_server", "-H", "127.0.0.1", "-p", "4567"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = "http://127.0.0.1:4567"
    try:
        ecs = client("ecs", endpoint, "k", "s")
        wait_for("moto", lambda: reachable(endpoint), every=0.1)
        ecs.create_cluster(clusterName="default")
        ec2 = client("ec2", endpoint, "k", "s")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        machine = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        ecs.register_container_instance(
            cluster="default", instanceIdentityDocument=json.dumps(dict(instanceId=machine)))
        ecs.register_task_definition(**idle)
        for _ in range(10):
            ecs.run_task(taskDefinition="idle", count=10)
        assert len(ecs.list_tasks()["taskArns"]) == 100
        theirs = [load(work, endpoint, "k", "s", name, document) for name, document, _ in cases]
    finally:
        moto.terminate()
        moto.wait()
    for (name, _, factor), a, b in zip(cases, ours, theirs):
        what = f"{name}, 64 clients" + (", 100 tasks" if factor == 40 else ", durable")
        row(what, f"{a:.0f}/s", f"moto_server {b:.0f}/s = {a / b:.0f}x", f"{factor}x moto", a / b >= factor)


def reachable(endpoint):
    try:
        urllib.request.urlopen(endpoint + "/moto-api/", timeout=5)
        return True
    except OSError:
        return False


def memory(minato, arns, ecs):
    """What each container's shim keeps."""
    sizes = [status(pid, "Pss") for pid in shims()]
    row(f"memory of a shim ({len(sizes)} running; Pss, largest)",
        f"{statistics.mean(sizes):.2f}, {max(sizes):.2f} MiB", "-", "at most 3 MiB", max(sizes) <= 3)


def case_start(work):
    """Start to first answered call; idle memory."""
    minato = Minato(work)
    minato.up()
    minato.client("sts").get_caller_identity()
    minato.down()
    times = []
    for _ in range(10):
        begun = time.monotonic()
        process = subprocess.Popen([MINATO, "up", "--listen", "127.0.0.1:4566"],
                                   env=minato.environment, stdout=subprocess.DEVNULL)
        headers = signed("http://127.0.0.1:4566", minato.keys["AWS_ACCESS_KEY_ID"],
                         minato.keys["AWS_SECRET_ACCESS_KEY"], "DescribeClusters", "{}")

        def answered():
            request = urllib.request.Request("http://127.0.0.1:4566/", b"{}", headers)
            try:
                return urllib.request.urlopen(request, timeout=5).status == 200
            except OSError:
                return False

        wait_for("an answer", answered, every=0.001)
        times.append(time.monotonic() - begun)
        wait_for("ready", lambda: subprocess.run(
            [MINATO, "ps"], env=minato.environment, capture_output=True).returncode == 0, every=0.05)
        time.sleep(1)
        resident = status(process.pid, "Rss")
        private = status(process.pid, "Private_Dirty")
        minato.process = process
        minato.down()
    median, late = p50_p95(times)
    row("start to first answered call (p50, p95)", f"{ms(median)}, {ms(late)}", "-", "150 ms", median <= 0.150)
    row("idle memory, everything (Rss; private dirty)", f"{resident:.1f} MiB; {private:.1f} MiB", "-",
        "at most 40 MiB", resident <= 40)


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry of one image: static files by digest."""

    protocol_version = "HTTP/1.1"
    files = {}

    def do_GET(self, body=True):
        found = self.files.get(self.path)
        if self.path == "/v2/":
            found = (b"{}", "application/json")
        if found is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, kind = found
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Content-Digest", digest(content))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_HEAD(self):
        self.do_GET(body=False)

    def log_message(self, *_):
        pass


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def big_layer(work, number, sources):
    """A gzip layer of files of this machine."""
    import gzip
    plain = work / f"layer{number}.tar"
    with tarfile.open(plain, "w") as archive:
        for source in sources:
            archive.add(source, arcname=source.lstrip("/"), recursive=True)
    content = plain.read_bytes()
    return gzip.compress(content, 6, mtime=0), digest(content), len(content)


def case_pull(work):
    """Pull and unpack of an image of about 90 MB beside `docker pull`."""
    manifest_kind = "application/vnd.docker.distribution.manifest.v2+json"
    layer_kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    layers = [big_layer(work, 0, ["/usr/share/perl"]), big_layer(work, 1, ["/usr/lib/git-core"]),
              big_layer(work, 2, ["/usr/lib/python3"]), big_layer(work, 3, ["/usr/lib/x86_64-linux-gnu/perl-base"])]
    total = sum(size for _, _, size in layers)
    config = json.dumps(dict(architecture="amd64", os="linux", config=dict(Cmd=["/bin/sh"]), rootfs=dict(
        type="layers", diff_ids=[diff for _, diff, _ in layers]))).encode()
    described = [dict(mediaType=layer_kind, digest=digest(blob), size=len(blob)) for blob, _, _ in layers]
    manifest = json.dumps(dict(schemaVersion=2, mediaType=manifest_kind, config=dict(
        mediaType="application/vnd.docker.container.image.v1+json", digest=digest(config),
        size=len(config)), layers=described)).encode()
    files = {"/v2/bench/big/manifests/1": (manifest, manifest_kind),
             f"/v2/bench/big/manifests/{digest(manifest)}": (manifest, manifest_kind),
             f"/v2/bench/big/blobs/{digest(config)}": (config, "application/octet-stream")}
    for blob, _, _ in layers:
        files[f"/v2/bench/big/blobs/{digest(blob)}"] = (blob, "application/octet-stream")
    Registry.files = files
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ours(number):
        minato = Minato(work, f"pull{number}")
        minato.data.mkdir()
        begun = time.monotonic()
        minato.command("image", "pull", "127.0.0.1:5000/bench/big:1")
        return time.monotonic() - begun

    docker = Docker(work)

    def theirs(_):
        begun = time.monotonic()
        docker("pull", "127.0.0.1:5000/bench/big:1")
        took = time.monotonic() - begun
        docker("rmi", "127.0.0.1:5000/bench/big:1")
        return took

    # In turns, so that the disk's mood is the same for both.
    pairs = [(ours(number), theirs(number)) for number in range(5)]
    docker.close()
    server.shutdown()
    a, b = statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
    row(f"pull and unpack of {total / 1e6:.0f} MB in {len(layers)} layers", f"{a:.2f} s",
        f"docker pull {b:.2f} s = {b / a:.1f}x", "2x docker", b / a >= 2)


def case_service(work):
    """Services beside Docker Swarm."""
    archive = make_image(work)
    minato = Minato(work)
    minato.command("image", "load", str(archive))
    minato.up()
    ecs = minato.client("ecs")
    ecs.register_task_definition(**definition("app", "bridge"))

    def stable(count):
        def look():
            service = ecs.describe_services(services=["app"])["services"][0]
            one = len(service["deployments"]) == 1
            return one and service["runningCount"] == count
        return look

    def timed(begin, count):
        begun = time.monotonic()
        begin()
        wait_for("stable", stable(count), every=0.05)
        return time.monotonic() - begun

    def create(count):
        return timed(lambda: ecs.create_service(
            serviceName="app", taskDefinition="app", desiredCount=count), count)

    def settle():
        # ext4 without a journal, as here, does not take inodes that were freed
        # less than five seconds ago, and searches ever longer for others.
        time.sleep(6)

    def delete():
        ecs.delete_service(service="app", force=True)
        wait_for("gone", lambda: all(task["lastStatus"] == "STOPPED" for task in described()), every=0.1)
        settle()

    def described():
        arns = ecs.list_tasks(desiredStatus="STOPPED")["taskArns"]
        tasks = []
        for start in range(0, len(arns), 100):
            tasks += ecs.describe_tasks(tasks=arns[start:start + 100])["tasks"]
        return tasks

    ours = {}
    ours["create 20"] = create(20)
    ours["roll 20"] = timed(lambda: ecs.update_service(service="app", forceNewDeployment=True), 20)
    ours["scale 20 to 40"] = timed(lambda: ecs.update_service(service="app", desiredCount=40), 40)
    delete()
    ours["create 50"] = create(50)
    delete()
    minato.down()

    docker = Docker(work)
    docker_image(docker, work)
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")

    def swarm(begin, count):
        begun = time.monotonic()
        begin()
        def look():
            said = docker("service", "ps", "app", "-f", "desired-state=running",
                          "--format", "{{.CurrentState}} {{.Name}}").splitlines()
            return len([line for line in said if line.startswith("Running")]) == count
        wait_for("swarm", look, seconds=180, every=0.05)
        return time.monotonic() - begun

    def swarm_create(count):
        return swarm(lambda: docker("service", "create", "--detach", "--no-resolve-image", "--name", "app",
                                    "--replicas", str(count), "--limit-memory", "16m", "--stop-grace-period", "1s",
                                    IMAGE, "/bin/sh", "-c", SERVE), count)

    def swarm_roll():
        # As Minato's default: all successors at once, before the old ones go.
        docker("service", "update", "--detach", "--force", "--no-resolve-image", "--update-parallelism", "0",
               "--update-order", "start-first", "app")
        def look():
            state = json.loads(docker("service", "inspect", "app"))[0].get("UpdateStatus", {})
            return state.get("State") == "completed"
        wait_for("swarm update", look, seconds=180, every=0.05)

    theirs = {}
    theirs["create 20"] = swarm_create(20)
    begun = time.monotonic()
    swarm_roll()
    theirs["roll 20"] = time.monotonic() - begun
    theirs["scale 20 to 40"] = swarm(lambda: docker("service", "scale", "-d", "app=40"), 40)
    docker("service", "rm", "app")
    wait_for("swarm gone", lambda: not docker("ps", "-q").split(), seconds=180, every=0.2)
    settle()
    theirs["create 50"] = swarm_create(50)
    docker("service", "rm", "app")
    wait_for("swarm gone", lambda: not docker("ps", "-q").split(), seconds=180, every=0.2)
    docker("swarm", "leave", "--force")
    docker.close()
    for name, factor in (("create 20", 10), ("create 50", 10), ("scale 20 to 40", 5), ("roll 20", 5)):
        a, b = ours[name], theirs[name]
        row(f"service: {name}", f"{a:.2f} s", f"swarm {b:.2f} s = {b / a:.1f}x", f"{factor}x swarm", b / a >= factor)


CASES = dict(start=case_start, run=case_run, api=case_api, pull=case_pull, service=case_service,
             whole=parameters.case_whole, churn=parameters.case_churn, exec=execute.case_exec,
             ingest=ingest.case_ingest, logs=logs.case_logs)


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return dict(cpu=model.group(1) if model else "?", cores=os.cpu_count(), kernel=platform.release(),
                load=os.getloadavg()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all where none is named")
    wanted = parser.parse_args().cases or list(CASES)
    at = machine()
    print(f"{at['cores']} cores of {at['cpu']}, kernel {at['kernel']}, load {at['load']:.1f}")
    for name in wanted:
        work = pathlib.Path(tempfile.mkdtemp(prefix=f"minato-bench-{name}-"))
        try:
            CASES[name](work)
        finally:
            subprocess.run(["umount", "-lR", str(work / "docker-run")], capture_output=True)
            shutil.rmtree(work, ignore_errors=True)
    stamp = time.strftime("%Y-%m-%d-%H%M")
    out = pathlib.Path(__file__).parent / "runs" / f"{stamp}.json"
    out.write_text(json.dumps(dict(machine=at, rows=rows), indent=1) + "\n")
    print(f"\n| what | Minato | peer | target | |\n|---|---|---|---|---|")
    for one in rows:
        print(f"| {one['what']} | {one['minato']} | {one['peer']} | {one['target']} | {'met' if one['met'] else 'missed'} |")


if __name__ == "__main__":
    sys.exit(main())
