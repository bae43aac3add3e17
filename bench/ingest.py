"""How fast containers' output arrives in CloudWatch Logs, and whether all of it
does."""

import os
import time

from measure import IMAGE, Minato, make_image, row, status, wait_for

LINES = int(os.environ.get("LINES_OF_LOG", 2_000_000))
LINE_BYTES = 200
TARGET = 200_000


def case_ingest(work):
    """One container that writes as fast as it can, in blocking mode."""
    minato = Minato(work)
    minato.command("image", "load", str(make_image(work)))
    minato.up()
    ecs, logs = minato.client("ecs"), minato.client("logs")
    options = {
        "awslogs-group": "/bench", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ingest",
        "awslogs-create-group": "true", "mode": "blocking"}
    line = "x" * (LINE_BYTES - 1)
    write = f"yes {line} | head -n {LINES}; echo the end"
    ecs.register_task_definition(family="ingest", containerDefinitions=[dict(
        name="app", image=IMAGE, memory=64, command=["/bin/sh", "-c", write],
        logConfiguration=dict(logDriver="awslogs", options=options))])
    memory_before = status(minato.process.pid, "Rss")
    peak = memory_before
    arn = ecs.run_task(taskDefinition="ingest")["tasks"][0]["taskArn"]
    stream = f"ingest/app/{arn.rsplit('/', 1)[1]}"

    def ended():
        nonlocal peak
        peak = max(peak, status(minato.process.pid, "Rss"))
        try:
            last = logs.get_log_events(logGroupName="/bench", logStreamName=stream, limit=1)
        except logs.exceptions.ResourceNotFoundException:
            return False
        return any(event["message"] == "the end" for event in last["events"])

    wait_for("the last line", ended, seconds=600, every=0.05)
    over = time.time()
    task = ecs.describe_tasks(tasks=[arn])["tasks"][0]
    took = over - task["startedAt"].timestamp()
    counted, token = 0, {}
    while True:
        page = logs.filter_log_events(logGroupName="/bench", limit=10_000, **token)
        counted += len(page["events"])
        if "nextToken" not in page:
            break
        token = dict(nextToken=page["nextToken"])
    kept = sum(entry.stat().st_size for entry in minato.data.rglob("*")
               if entry.is_file() and "logs" in entry.parts)
    minato.down()
    rate = LINES / took
    row(f"{LINES:,} lines of {LINE_BYTES} bytes from a container to CloudWatch Logs", f"{rate:,.0f} lines/s",
        f"{took:.1f} s", f"{TARGET:,} lines/s", rate >= TARGET)
    row("the same: lines that arrived", f"{counted - 1:,}", f"{LINES:,} written", "all", counted - 1 == LINES)
    row("the same: resident memory at its peak", f"{peak:.0f} MiB", f"{memory_before:.0f} MiB before",
        "256 MiB at most", peak <= 256)
    row("the same: bytes on disk below logs/", f"{kept / 1e6:.0f} MB", f"{LINES * LINE_BYTES / 1e6:.0f} MB written",
        "told", True)
