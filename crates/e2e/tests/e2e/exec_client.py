"""A client of Session Manager's data channel, made from the facts of
exec-channel.md alone: what the stock session-manager-plugin does, without it.

As a worker it reads orders, one JSON on each line, and answers each. With the
plugin's arguments it is the plugin: it types what PLUGIN_TYPES says and shows
what comes.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid


class Channel:
    def __init__(self):
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.next, self.expected = 0, 0
        self.unacked, self.early = {}, {}
        self.shown, self.closed = b"", None
        self.is_open, self.is_lost = False, False
        self.holds_acks = False
        self.socket = None

    # --- websocket (RFC 6455)

    def connect(self, url, token):
        parts = urllib.parse.urlsplit(url)
        assert parts.scheme == "ws", url
        wire = socket.create_connection((parts.hostname, parts.port))
        key = base64.b64encode(os.urandom(16)).decode()
        wire.sendall((
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\n"
            f"Host: {parts.netloc}\r\nUser-Agent: Go-http-client/1.1\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"
        ).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            byte = wire.recv(1)
            assert byte, head
            head += byte
        assert head.startswith(b"HTTP/1.1 101 "), head
        proof = hashlib.sha1(
            (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert base64.b64encode(proof) in head, head
        with self.lock:
            self.socket, self.is_lost = wire, False
        self.frame(9, b"keepalive")
        self.frame(1, json.dumps({
            "MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4()),
            "TokenValue": token, "ClientId": str(uuid.uuid4()),
            "ClientVersion": "1.2.677.0"}).encode())
        threading.Thread(target=self.read, args=(wire,), daemon=True).start()
        threading.Thread(target=self.resend, args=(wire,), daemon=True).start()

    def frame(self, opcode, data):
        mask = os.urandom(4)
        if len(data) < 126:
            size = struct.pack(">B", 0x80 | len(data))
        elif len(data) < 1 << 16:
            size = struct.pack(">BH", 0x80 | 126, len(data))
        else:
            size = struct.pack(">BQ", 0x80 | 127, len(data))
        wide = (mask * (len(data) // 4 + 1))[:len(data)]
        masked = (int.from_bytes(data, "big")
                  ^ int.from_bytes(wide, "big")).to_bytes(len(data), "big")
        with self.lock:
            self.socket.sendall(bytes([0x80 | opcode]) + size + mask + masked)

    def read(self, wire):
        file = wire.makefile("rb")
        try:
            while True:
                first, second = file.read(2)
                assert first & 0x80 and not second & 0x80
                length = second & 127
                if length == 126:
                    length, = struct.unpack(">H", file.read(2))
                elif length == 127:
                    length, = struct.unpack(">Q", file.read(8))
                data = file.read(length)
                if first & 15 == 2:
                    self.take(data)
                elif first & 15 == 9:
                    self.frame(10, data)
                elif first & 15 == 8:
                    break
        except (OSError, ValueError):
            pass
        with self.lock:
            if self.socket is wire:
                self.is_lost = True
                self.news.notify_all()

    # --- messages (exec-channel.md, 3)

    def message(self, name, sequence, flags, kind, payload):
        order = uuid.uuid4().bytes
        return (struct.pack(">I", 116) + name.encode().ljust(32)
                + struct.pack(">IQqQ", 1, int(time.time() * 1000), sequence,
                              flags)
                + order[8:] + order[:8] + hashlib.sha256(payload).digest()
                + struct.pack(">II", kind, len(payload)) + payload)

    def say(self, kind, payload):
        with self.lock:
            sequence = self.next
            self.next += 1
            data = self.message(
                "input_stream_data", sequence, 0, kind, payload)
            self.unacked[sequence] = (data, time.time())
            if not self.is_lost:
                self.frame(2, data)

    def resend(self, wire):
        while True:
            time.sleep(0.1)
            with self.lock:
                if self.socket is not wire or self.is_lost:
                    return
                if not self.unacked:
                    continue
                data, at = self.unacked[min(self.unacked)]
                if time.time() - at > 0.2:
                    try:
                        self.frame(2, data)
                    except OSError:
                        return

    def take(self, data):
        header, = struct.unpack(">I", data[:4])
        name = data[4:36].strip(b" \0").decode()
        _, created, sequence, _ = struct.unpack(">IQqQ", data[36:64])
        order = data[72:80] + data[64:72]
        kind, length = struct.unpack(">II", data[112:120])
        payload = data[header + 4:]
        assert header == 116 and created and length == len(payload)
        assert data[80:112] == hashlib.sha256(payload).digest()
        with self.lock:
            if name == "acknowledge":
                ack = json.loads(payload)
                assert ack["AcknowledgedMessageType"] == "input_stream_data"
                self.unacked.pop(
                    ack["AcknowledgedMessageSequenceNumber"], None)
            elif name == "channel_closed":
                self.closed = json.loads(payload)
            elif name == "output_stream_data":
                # Of what it has already the plugin says nothing.
                if sequence >= self.expected:
                    self.early[sequence] = (kind, payload)
                    if not self.holds_acks:
                        self.acknowledge(name, order, sequence)
                while self.expected in self.early:
                    self.hear(*self.early.pop(self.expected))
                    self.expected += 1
            self.news.notify_all()

    def acknowledge(self, name, order, sequence):
        ack = json.dumps({
            "AcknowledgedMessageType": name,
            "AcknowledgedMessageId": str(uuid.UUID(bytes=order)),
            "AcknowledgedMessageSequenceNumber": sequence,
            "IsSequentialMessage": True}).encode()
        self.frame(2, self.message("acknowledge", 0, 3, 0, ack))

    def hear(self, kind, payload):
        if kind == 5:
            actions = json.loads(payload)["RequestedClientActions"]
            assert [a["ActionType"] for a in actions] == ["SessionType"]
            self.say(6, json.dumps({
                "ClientVersion": "1.2.677.0",
                "ProcessedClientActions": [{
                    "ActionType": "SessionType", "ActionStatus": 1,
                    "ActionResult": None, "Error": ""}],
                "Errors": None}).encode())
        elif kind == 7:
            json.loads(payload)
            self.is_open = True
            self.say(3, b'{"cols":100,"rows":30}')
        else:
            assert kind == 1 and self.is_open, kind
            self.shown += payload

    # --- what tests ask

    def wait(self, is_so, seconds):
        deadline = time.time() + seconds
        with self.lock:
            while not is_so():
                left = deadline - time.time()
                if left <= 0:
                    raise TimeoutError(self.state())
                self.news.wait(left)

    def state(self):
        return {"shown": self.shown[-2000:].decode(errors="replace"),
                "length": len(self.shown), "closed": self.closed,
                "is_lost": self.is_lost, "unacked": len(self.unacked),
                "sha256": hashlib.sha256(self.shown).hexdigest()}

    def obey(self, order):
        do = order["do"]
        if do == "connect":
            self.connect(order["url"], order["token"])
            # As the plugin does, nothing is typed before the handshake's end.
            self.wait(lambda: self.is_open or self.is_lost
                      or self.closed is not None, 60)
        elif do == "type":
            data = order["text"].encode() * order.get("times", 1)
            for at in range(0, len(data), 1024):
                self.say(1, data[at:at + 1024])
        elif do == "size":
            self.say(3, json.dumps(
                {"cols": order["cols"], "rows": order["rows"]}).encode())
        elif do == "shows":
            text = order["text"].encode()
            self.wait(lambda: text in self.shown, 60)
        elif do == "forget":
            with self.lock:
                self.shown = b""
        elif do == "closed":
            self.wait(lambda: self.closed is not None, 60)
        elif do == "lost":
            self.wait(lambda: self.is_lost, 60)
        elif do == "acks":
            self.holds_acks = not order["are_sent"]
        elif do == "drop":
            with self.lock:
                self.is_lost = True
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
        elif do == "raw":
            self.frame(order["opcode"], bytes.fromhex(order["hex"]))
        with self.lock:
            return self.state()


def worker():
    channel = Channel()
    for line in sys.stdin:
        try:
            reply = {"state": channel.obey(json.loads(line))}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


def plugin():
    session = json.loads(sys.argv[1])
    assert sys.argv[3] == "StartSession", sys.argv
    assert json.loads(sys.argv[5])["Target"].startswith("ecs:"), sys.argv
    channel = Channel()
    channel.connect(session["streamUrl"], session["tokenValue"])
    channel.wait(lambda: channel.is_open, 60)
    channel.say(1, os.environ["PLUGIN_TYPES"].encode())
    channel.wait(lambda: channel.closed is not None, 60)
    sys.stdout.buffer.write(channel.shown)
    print("\nExiting session with sessionId: " + session["sessionId"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        plugin()
    elif "PLUGIN_TYPES" in os.environ:
        print("The Session Manager plugin was installed successfully.")
    else:
        worker()
