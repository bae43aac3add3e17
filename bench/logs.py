"""What it costs to search logs: FilterLogEvents for a rare word, and queries of Logs Insights."""

import os
import pathlib
import random
import re
import time

from measure import Minato, row, wait_for

# Uncompressed text to be searched.
SIZE = int(os.environ.get("LOGS_MIB", 1024)) << 20
EVENTS = 5_400
PATHS = ["/", "/cart", "/checkout", "/api/v1/items", "/api/v1/users", "/static/app.js", "/health"]


def line(rng):
    """About 170 bytes as a web server writes them, with ids that do not repeat."""
    return (f'{{"level":"{rng.choice(("INFO", "INFO", "INFO", "WARN", "ERROR"))}",'
            f'"request":"{rng.getrandbits(64):016x}","client":"10.{rng.randrange(256)}.{rng.randrange(256)}.7",'
            f'"path":"{rng.choice(PATHS)}","status":{rng.choice((200, 200, 200, 304, 404, 500))},'
            f'"ms":{rng.randrange(2000)},"message":"request served from the usual place"}}')


def fill(logs):
    """Puts events of the last day; the bytes of their messages."""
    rng = random.Random(7)
    logs.create_log_group(logGroupName="bench")
    logs.create_log_stream(logGroupName="bench", logStreamName="s")
    batches, written = [[line(rng) for _ in range(EVENTS)] for _ in range(24)], 0
    start, step = int(time.time() * 1000) - 20 * 3_600_000, 2
    number = 0
    while written < SIZE:
        # Each batch is another mix, so that blocks do not repeat each other.
        messages = batches[number % len(batches)]
        messages = [text.replace("10.", f"10.{(number * 7 + at) % 256}.", 1) for at, text in enumerate(messages)]
        if number == 1:
            messages[17] += " xyzzy-4711"
        events = [dict(timestamp=start + (number * EVENTS + at) * step, message=text)
                  for at, text in enumerate(messages)]
        logs.put_log_events(logGroupName="bench", logStreamName="s", logEvents=events)
        written += sum(len(text) for text in messages)
        number += 1
    return written, number * EVENTS


def peak(minato):
    """Resident memory at most since it was last asked, in MiB."""
    proc = pathlib.Path(f"/proc/{minato.process.pid}")
    at_most = int(re.search(r"VmHWM:\s+(\d+)", (proc / "status").read_text()).group(1)) / 1024
    (proc / "clear_refs").write_text("5")
    return at_most


def search(logs, pattern):
    found, token = 0, {}
    while True:
        page = logs.filter_log_events(logGroupName="bench", filterPattern=pattern, **token)
        found += len(page["events"])
        if "nextToken" not in page:
            return found
        token = dict(nextToken=page["nextToken"])


def query(logs, text):
    now = int(time.time())
    started = logs.start_query(logGroupName="bench", startTime=now - 86_400, endTime=now, queryString=text)

    def look():
        found = logs.get_query_results(queryId=started["queryId"])
        return found if found["status"] not in ("Scheduled", "Running") else None

    found = wait_for(text, look, seconds=300, every=0.01)
    assert found["status"] == "Complete", found["status"]
    return found


def best(times, call):
    """The shortest of some runs, and what the last gave."""
    took = []
    for _ in range(times):
        begun = time.monotonic()
        given = call()
        took.append(time.monotonic() - begun)
    return min(took), given


def case_logs(work):
    """Searches over 1 GiB of stored logs."""
    minato = Minato(work)
    minato.up()
    logs = minato.client("logs")
    idle = peak(minato)
    begun = time.monotonic()
    written, events = fill(logs)
    took = time.monotonic() - begun
    mib = written / (1 << 20)
    row("PutLogEvents of 1 MiB each, one client, durable", f"{mib / took:.0f} MiB/s", "-", "-", True)
    folder = minato.data / "logs"
    folder = folder if folder.is_dir() else minato.data
    wait_for("sealing", lambda: len(list(folder.rglob("*.log"))) <= 1, seconds=120, every=0.2)
    stored = sum(path.stat().st_size for path in folder.rglob("*.seg"))
    sealed = mib * (1 << 20) - sum(path.stat().st_size for path in folder.rglob("*.log"))
    row("text to what is stored of it", f"{sealed / stored:.1f}x", "-", "5x", sealed / stored >= 5)
    filled = peak(minato)
    took, found = best(3, lambda: search(logs, '"xyzzy-4711"'))
    assert found == 1, found
    row(f"FilterLogEvents, a rare word in {mib:.0f} MiB", f"{mib / took:.0f} MiB/s", "-", "1024 MiB/s", mib / took >= 1024)
    at_most = peak(minato)
    for text, target in [("stats count(*) by bin(5m)", 300), ("filter @message like /xyzzy/ | limit 5", 300),
                         ("stats avg(ms), pct(ms, 99), count(*) by status", None),
                         ("filter level = 'ERROR' | sort ms desc | limit 20", None),
                         ("fields @message | sort @timestamp desc | limit 20", None)]:
        took, found = best(2, lambda: query(logs, text))
        if text.startswith("stats count"):
            total = sum(int(one[1]["value"]) for one in found["results"])
            assert total == events, (total, events)
        rate = mib / took
        row(text, f"{rate:.0f} MiB/s ({took:.2f} s)", "-", f"{target} MiB/s" if target else "-", not target or rate >= target)
    at_most = max(at_most, peak(minato))
    row("resident memory at most: idle, filled, searched", f"{idle:.0f}, {filled:.0f}, {at_most:.0f} MiB", "-",
        "at most 256 MiB", at_most <= 256)
    minato.down()
