"""A registry of one image, which wants a user and a password.

Arguments: an archive with an OCI layout, a port, and `user:password`. Says
"ready", then serves for ever and says what it was asked.
"""

import base64
import http.server
import json
import sys
import tarfile

archive, port, login = sys.argv[1:]
want = "Basic " + base64.b64encode(login.encode()).decode()
blobs = {}
with tarfile.open(archive) as tar:
    for member in tar.getmembers():
        parts = member.name.split("/")
        if member.isfile() and parts[0] == "blobs":
            blobs[":".join(parts[1:])] = tar.extractfile(member).read()
    (image,) = json.load(tar.extractfile("index.json"))["manifests"]


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.headers.get("Authorization") != want:
            challenge = 'Basic realm="tests"'
            self.answer(401, b"{}", WWW_Authenticate=challenge)
            return
        kind, name = self.path.rsplit("/", 2)[1:]
        if kind == "manifests":
            self.answer(
                200,
                blobs[image["digest"]],
                Content_Type=image["mediaType"],
                Docker_Content_Digest=image["digest"],
            )
        elif kind == "blobs" and name in blobs:
            self.answer(200, blobs[name])
        else:
            self.answer(200 if self.path == "/v2/" else 404, b"{}")

    do_HEAD = do_GET

    def log_message(self, *_):
        print(self.command, self.path, flush=True)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Registry)
print("ready", flush=True)
server.serve_forever()
