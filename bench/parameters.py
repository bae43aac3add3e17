"""What task definitions cost that say much, and what they leave behind."""

import os
import pathlib
import statistics
import time

from measure import (
    IMAGE, SERVE, Minato, awsvpc, definition, make_image, ms, row, run, running, shims, status,
    wait_for)

ROUNDS = 10
# After so many the ring of commits that watches read from is full.
WARM_UP = int(os.environ.get("WARM_UP", 300))
CHURN = int(os.environ.get("CHURN", 1000))
ROLE = "arn:aws:iam::000000000000:role/bench"


def timed(ecs, **request):
    """RunTask to all its containers RUNNING; then the task is stopped."""
    begun = time.monotonic()
    arn = ecs.run_task(**request)["tasks"][0]["taskArn"]
    wait_for("RUNNING", lambda: running(ecs, [arn]), every=0.001)
    took = time.monotonic() - begun
    ecs.stop_task(task=arn)
    wait_for("STOPPED", lambda: stopped(ecs, arn), every=0.002)
    return took


def stopped(ecs, arn):
    return ecs.describe_tasks(tasks=[arn])["tasks"][0]["lastStatus"] == "STOPPED"


def case_whole(work):
    """Five containers, three secrets and a health check beside the five alone."""
    minato = Minato(work)
    minato.command("image", "load", str(make_image(work)))
    minato.up()
    ecs, secrets = minato.client("ecs"), minato.client("secretsmanager")
    values = []
    for name in ("one", "two", "three"):
        arn = secrets.create_secret(Name=f"bench/{name}", SecretString=f"the value {name}")["ARN"]
        values.append(dict(name=name.upper(), valueFrom=arn))
    alone = definition("alone", "awsvpc")
    ecs.register_task_definition(**alone)
    containers = [dict(alone["containerDefinitions"][0], name=f"app{number}") for number in range(5)]
    containers[0]["secrets"] = values
    containers[1]["healthCheck"] = dict(command=["CMD", "/bin/true"], interval=5, retries=2)
    ecs.register_task_definition(
        family="whole", networkMode="awsvpc", executionRoleArn=ROLE, containerDefinitions=containers)
    network = awsvpc(minato)
    ones, wholes = [], []
    for _ in range(ROUNDS):
        ones.append(sum(timed(ecs, taskDefinition="alone", networkConfiguration=network) for _ in range(5)))
        wholes.append(timed(ecs, taskDefinition="whole", networkConfiguration=network))
    minato.down()
    whole, sum_of_ones = statistics.median(wholes), statistics.median(ones)
    row("5 containers, 3 secrets, a health check: RunTask to RUNNING (p50)", ms(whole),
        f"the five alone, one after another {ms(sum_of_ones)}: {whole / sum_of_ones:.2f}x",
        "at most 1.5x", whole <= 1.5 * sum_of_ones)


def kept(minato):
    """What the host has of Minato: counts that must be back where they were. Of
    descriptors there may be fewer: clients' idle connections are closed."""
    pid = minato.process.pid
    return dict(
        descriptors=len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())),
        interfaces=len(run("ip", "-o", "link").splitlines()),
        mounts=len(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()),
        namespaces=len(list(pathlib.Path("/run/minato").glob("*/network/netns/*/*"))),
        groups=sum(1 for _ in pathlib.Path("/sys/fs/cgroup").glob("**/minato-*/**/")),
        shims=len(shims()),
    )


def case_churn(work):
    """Starts and stops with security groups: as fast at the end, and nothing left."""
    minato = Minato(work)
    minato.command("image", "load", str(make_image(work)))
    minato.up()
    ecs, ec2 = minato.client("ecs"), minato.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    groups = [ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
              for name in ("front", "back")]
    ec2.authorize_security_group_ingress(GroupId=groups[0], IpPermissions=[dict(
        IpProtocol="tcp", FromPort=80, ToPort=80, IpRanges=[dict(CidrIp="0.0.0.0/0")])])
    ec2.authorize_security_group_ingress(GroupId=groups[1], IpPermissions=[dict(
        IpProtocol="tcp", FromPort=1, ToPort=1024, UserIdGroupPairs=[dict(GroupId=groups[0])])])
    ecs.register_task_definition(**definition("app", "awsvpc"))
    network = awsvpc(minato)
    network["awsvpcConfiguration"]["securityGroups"] = groups
    times = []

    def turns(count):
        for _ in range(count):
            times.append(timed(ecs, taskDefinition="app", networkConfiguration=network))

    turns(WARM_UP)
    times.clear()
    wait_for("all to be cleared away", lambda: kept(minato)["namespaces"] == 0, every=0.2)
    before, memory_before = kept(minato), status(minato.process.pid, "Rss")
    turns(CHURN)

    def is_back(after):
        counts = ({**before, "descriptors": 0}, {**after, "descriptors": 0})
        return counts[0] == counts[1] and after["descriptors"] <= before["descriptors"]

    try:
        wait_for("all to be cleared away", lambda: is_back(kept(minato)), seconds=30, every=0.2)
    except TimeoutError:
        pass  # the table says what is left
    after = kept(minato)
    memory_after = status(minato.process.pid, "Rss")
    minato.down()
    first, last = statistics.median(times[:10]), statistics.median(times[-10:])
    row(f"{CHURN} starts and stops with security groups: the last ten beside the first", ms(last),
        f"{ms(first)}: {last / first:.2f}x", "as fast", last <= 1.2 * first)
    row("the same: descriptors, interfaces, mounts, namespaces, control groups, shims",
        str(after), str(before), "as before", is_back(after))
    row("the same: resident memory before and after", f"{memory_after:.1f} MiB", f"{memory_before:.1f} MiB",
        "as before and what 1,000 stopped tasks take", memory_after <= memory_before + 20)
