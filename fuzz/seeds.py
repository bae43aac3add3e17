"""Makes the corpora that fuzzing starts from: what real clients send."""

import io
import json
import pathlib
import struct
import sys
import tarfile
import uuid
import hashlib

HERE = pathlib.Path(__file__).parent
CORPUS = HERE / "corpus"


def seed(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(data, str):
        data = data.encode()
    (folder / f"seed-{name}").write_bytes(data)


def definitions(folder):
    for path in sorted(pathlib.Path(folder).glob("**/*.json")):
        text = path.read_text(errors="replace")
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            value = value.get("taskDefinition", value)
        if isinstance(value, list):
            value = {"family": "f", "containerDefinitions": value}
        yield json.dumps(value)


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as to:
        for name, kind, link, data in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            to.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layers():
    file, link, hard, folder = (
        tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE)
    yield tar(("a/b/c", file, "", b"text"), ("a/.wh.b", file, "", b""))
    yield tar(("out", link, "../outside", b""), ("out/x", file, "", b"x"))
    yield tar(("a", link, "/", b""), ("b", hard, "a/etc/passwd", b""))
    yield tar(("d", folder, "", b""), ("d/.wh..wh..opq", file, "", b""),
              ("d", link, "../outside", b""), ("d/secret", file, "", b"x"))
    yield tar(("../outside/secret", file, "", b"x"))
    yield tar(("dev", tarfile.CHRTYPE, "", b""), ("f", tarfile.FIFOTYPE, "", b""))
    yield tar(("x" * 300, file, "", b"long"), ("y", link, "z" * 300, b""))


def frames(*messages):
    out = b""
    for name, sequence, kind, payload in messages:
        frame = (struct.pack(">I", 116) + name.encode().ljust(32)
                 + struct.pack(">IQqQ", 1, 1, sequence, 0)
                 + uuid.UUID(int=sequence).bytes
                 + hashlib.sha256(payload).digest()
                 + struct.pack(">II", kind, len(payload)) + payload)
        out += struct.pack(">H", len(frame)) + frame
    return out


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else ""
    texts = list(definitions(folder)) if folder else []
    minimal = json.dumps({
        "family": "f", "containerDefinitions": [
            {"name": "a", "image": "b", "memory": 64, "links": ["c:d"],
             "portMappings": [{"containerPort": 80}],
             "dependsOn": [{"containerName": "c", "condition": "HEALTHY"}]},
            {"name": "c", "image": "b", "memoryReservation": 8,
             "healthCheck": {"command": ["CMD-SHELL", "true"]}}]})
    for at, text in enumerate([minimal, *texts]):
        seed("task_definition", at, text)
    for at in range(80):
        seed("api_body", at, bytes([at % 7, at]) + minimal.encode())
    seed("query_string", "sts", "sts\nAction=GetCallerIdentity"
         "&Version=2011-06-15\n")
    seed("query_string", "ec2", "ec2\n\nAction=AuthorizeSecurityGroupIngress&"
         "Version=2016-11-15&GroupId=sg-1&IpPermissions.1.IpProtocol=tcp&"
         "IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=%38%30")
    seed("query_string", "iam", "iam\n\nAction=CreateRole&Version=2010-05-08&"
         "Tags.member.1.Key=a&Tags.member.1.Value=b+c&RoleName=r")
    seed("query_string", "ecs", "*AmazonEC2ContainerServiceV20141113."
         "RunTask\n\n{\"taskDefinition\":\"a\"}")
    seed("sigv4", "header", "/?a=b&%20=%ff\nHost: localhost:4566\n"
         "X-Amz-Date: 20150830T123600Z\nContent-Type: a;  b\n"
         "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/"
         "us-east-1/ecs/aws4_request, SignedHeaders=content-type;host;"
         "x-amz-date, Signature=" + "0a" * 32 + "\n\nbody")
    seed("sigv4", "query", "/a/../b//?X-Amz-Algorithm=AWS4-HMAC-SHA256&"
         "X-Amz-Credential=A%2F20150830%2Fus-east-1%2Fecs%2Faws4_request&"
         "X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&"
         "X-Amz-SignedHeaders=host&X-Amz-Signature=" + "0a" * 32
         + "\nHost: localhost\n\n")
    for at, text in enumerate([
            'ERROR -"x y" ?warn\nan ERROR', '[a, b=404, ..., c>=1e3]\na 404 7',
            '{ ($.a[0].b = "x*") && ($.c IS NULL || $.d != 1.5) }\n{"c":null}',
            '%^a(b|c)+[0-9]{2,3}$%\nab12', "[ip=%1\\d+%, x]\n1.2 y"]):
        seed("filter_pattern", at, text)
    events = ("\n\n" '{"ms":12,"level":"ERROR","path":"/a","list":[{"x":1.5}]}\n'
              "2026-01-01 GET /b 404 [10.0.0.1] took 3 ms\n")
    for at, text in enumerate([
            "fields @timestamp, @message | sort @timestamp desc | limit 20",
            "stats count(*) as n, avg(ms), pct(ms, 99) by bin(5m), level",
            "filter @message like /(?i)error|404/ and ms >= 10 | display path",
            "parse @message '* * /* * [*]' as day, verb, path, code, ip\n"
            "| filter code in [404, '500'] | dedup ip",
            "parse @message /took (?<ms>\\d+)/ | stats max(ms), stddev(ms)",
            "fields strcontains(@message, 'a') as x, `list.0.x` * 2 - abs(-1),"
            " ispresent(ms), concat(path, upper(level)), datefloor(@timestamp,"
            " 1h), isIpv4InSubnet('10.0.0.1', '10.0.0.0/8'), now()"]):
        seed("insights", at, text + events)
    for at, text in enumerate([
            "attribute:ecs.os-type == linux and not (task:group == a)\nlinux",
            "attribute:x in [a, b] || attribute:y =~ z.* && agentVersion > 1.2"
            "\n1.3.0", "registeredAt >= 2020-01-01T00:00:00Z\n",
            "attribute:exists(a) and runningTasksCount !> 3\n"]):
        seed("cluster_query", at, text)
    zero = "sha256:" + "0" * 64
    blob = {"mediaType": "a", "digest": zero, "size": 1}
    seed("image_manifest", "manifest", json.dumps(
        {"schemaVersion": 2, "config": blob, "layers": [blob]}))
    seed("image_manifest", "index", json.dumps({"schemaVersion": 2, "manifests": [
        {**blob, "platform": {"os": "linux", "architecture": "amd64"}},
        {**blob, "platform": {"os": "linux", "architecture": "arm64",
                              "variant": "v8"}}]}))
    seed("image_manifest", "config", json.dumps({
        "os": "linux", "architecture": "amd64", "rootfs": {
            "type": "layers", "diff_ids": [zero]},
        "config": {"Env": ["A=b"], "Volumes": {"/v": {}}, "User": "1:2",
                   "Entrypoint": "/x", "ExposedPorts": {"80/tcp": {}}}}))
    seed("image_manifest", "challenge",
         'Bearer realm="https://a/b",scope="c:d:e,f", Basic realm=x')
    for at, data in enumerate(layers()):
        seed("image_layer", at, data)
    for kind in ["PayloadMessage", "HeartbeatMessage", "AckRequest",
                 "IAMRoleCredentialsMessage", "PublishMetricsRequest",
                 "ExecuteCommandMessage", "AttachTaskNetworkInterfacesMessage"]:
        seed("acs_frame", kind, json.dumps({"type": kind, "message": {
            "messageId": "a", "seqNum": 1, "clusterArn": "c", "tasks": [
                {"arn": "t", "containers": [{"name": "a", "dockerConfig": {
                    "config": "{}", "hostConfig": "{}"}}]}]}}))
    seed("acs_frame", "error", '{"InactiveInstanceException": "why"}')
    answer = json.dumps({"ClientVersion": "1.2", "ProcessedClientActions": [
        {"ActionType": "SessionType", "ActionStatus": 1}]}).encode()
    ack = json.dumps({
        "AcknowledgedMessageType": "output_stream_data",
        "AcknowledgedMessageId": str(uuid.UUID(int=1)),
        "AcknowledgedMessageSequenceNumber": 0,
        "IsSequentialMessage": True}).encode()
    seed("exec_frame", "session", frames(
        ("acknowledge", 0, 0, ack), ("input_stream_data", 0, 6, answer),
        ("input_stream_data", 1, 3, b'{"cols":80,"rows":24}'),
        ("input_stream_data", 2, 1, b"ls\n"), ("input_stream_data", 4, 1, b"x"),
        ("input_stream_data", 3, 1, b"y"), ("pause_publication", 0, 0, b"")))
    for at, (which, text) in enumerate([
            (0, "sh -c 'a \"b\" \\' c"), (1, "r.io:5000/a/b:tag@" + zero),
            (2, "arn:aws:ecs:us-east-1:000000000000:task/default/" + "a" * 32),
            (3, "2020-01-01T00:00:00.123Z"),
            (4, "hosts:\n  - count: 3\nservices:\n  - name: a\n")]):
        seed("small_texts", at, bytes([which]) + text.encode())


main()
