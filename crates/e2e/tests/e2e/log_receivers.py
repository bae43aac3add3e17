"""Receivers of log records, for tests: what comes is told on stdout, one JSON
on each line.

`all DIR` listens as Fluentd, syslog and Graylog do, on fixed ports and on
sockets in DIR. `router` is a log router of FireLens: it takes records on the
socket of its configuration and does to them what its filters say.
"""

import gzip
import json
import os
import signal
import socket
import struct
import sys
import threading
import zlib

tell_lock = threading.Lock()


def tell(**what):
    with tell_lock:
        print(json.dumps(what), flush=True)


class Reader:
    """MessagePack, as far as the forward protocol has it."""

    def __init__(self, file):
        self.file = file

    def take(self, count):
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def text(self, count):
        return self.take(count).decode(errors="replace")

    def items(self, count):
        return [self.value() for _ in range(count)]

    def pairs(self, count):
        return {self.value(): self.value() for _ in range(count)}

    def value(self):
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind < 0x90:
            return self.pairs(kind & 15)
        if kind < 0xa0:
            return self.items(kind & 15)
        if kind < 0xc0:
            return self.text(kind & 31)
        if kind >= 0xe0:
            return kind - 256
        simple = {0xc0: None, 0xc2: False, 0xc3: True}
        if kind in simple:
            return simple[kind]
        numbers = {0xcc: "B", 0xcd: "H", 0xce: "I", 0xcf: "Q", 0xd0: "b",
                   0xd1: "h", 0xd2: "i", 0xd3: "q", 0xca: "f", 0xcb: "d"}
        if kind in numbers:
            return self.number(numbers[kind])
        sized = {0xd9: ("B", self.text), 0xda: ("H", self.text),
                 0xdb: ("I", self.text), 0xc4: ("B", self.take),
                 0xc5: ("H", self.take), 0xc6: ("I", self.take),
                 0xdc: ("H", self.items), 0xdd: ("I", self.items),
                 0xde: ("H", self.pairs), 0xdf: ("I", self.pairs)}
        if kind in sized:
            form, read = sized[kind]
            return read(self.number(form))
        if kind == 0xd7:  # EventTime
            assert self.number("b") == 0
            return [self.number("I"), self.number("I")]
        raise ValueError(hex(kind))


def forward(name, wire, drops=None, change=lambda tag, record: record):
    """One connection of the forward protocol, in message mode."""
    reader = Reader(wire.makefile("rb"))
    while True:
        try:
            tag, time, record, option = reader.value()
        except EOFError:
            return
        chunk = option.get("chunk")
        if drops and drops.pop():
            # It must come again: it was not acknowledged.
            tell(at=name, dropped=chunk)
            wire.close()
            return
        tell(at=name, tag=tag, time=time, record=change(tag, record),
             chunk=chunk)
        if chunk:
            text = chunk.encode()
            wire.sendall(b"\x81\xa3ack\xd9" + bytes([len(text)]) + text)


def stream_ends(name, wire, mark):
    """Messages with a mark after each."""
    data = b""
    while piece := wire.recv(65536):
        data += piece
        *whole, data = data.split(mark)
        for message in whole:
            tell(at=name, message=message.decode())


def datagrams(name, wire, read=lambda data: data):
    while True:
        data = wire.recv(65536)
        tell(at=name, message=read(data).decode())


def gelf(data):
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:1] == b"\x78":
        return zlib.decompress(data)
    return data


def accept(listener, serve):
    def loop():
        while True:
            wire, _ = listener.accept()
            threading.Thread(target=serve, args=(wire,), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()


def tcp(port):
    return socket.create_server(("127.0.0.1", port))


def unix(path, kind=socket.SOCK_STREAM):
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(path)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


def udp(port):
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind(("127.0.0.1", port))
    return wire


def receivers(folder):
    drops = [True]
    accept(tcp(24224), lambda wire: forward("fluentd", wire))
    accept(tcp(24225), lambda wire: forward("ack", wire, drops))
    accept(unix(f"{folder}/fluentd"), lambda wire: forward("unix", wire))
    accept(tcp(1514), lambda wire: stream_ends("syslog-tcp", wire, b"\n"))
    accept(tcp(12201), lambda wire: stream_ends("gelf-tcp", wire, b"\0"))
    for name, wire, read in [
        ("syslog-udp", udp(1514), lambda data: data),
        ("syslog-unix", unix(f"{folder}/syslog", socket.SOCK_DGRAM),
         lambda data: data),
        ("gelf-udp", udp(12201), gelf),
        ("gelf-zlib", udp(12202), gelf),
    ]:
        threading.Thread(
            target=datagrams, args=(name, wire, read), daemon=True).start()


def sections(text):
    """The sections of Fluent Bit's classic configuration."""
    found = []
    for line in text.splitlines():
        words = line.split(None, 1)
        if line.startswith("["):
            found.append((line.strip("[]"), []))
        elif len(words) == 2 and not line.startswith("@"):
            found[-1][1].append(words)
    return found


def router():
    text = open("/fluent-bit/etc/fluent-bit.conf").read()
    added, path = {}, None
    for kind, lines in sections(text):
        about = dict(map(tuple, lines))
        if kind == "FILTER" and about["Name"] == "record_modifier":
            for name, value in lines:
                if name == "Record":
                    added.update([value.split(None, 1)])
        if kind == "INPUT" and "unix_path" in about:
            path = about["unix_path"]
        if kind == "OUTPUT":
            tell(at="output", **about)
    accept(unix(path), lambda wire: forward(
        "router", wire, change=lambda tag, record: {**record, **added}))


if sys.argv[1] == "router":
    router()
    print("a router's own error", file=sys.stderr, flush=True)
else:
    receivers(sys.argv[2])
tell(at="ready")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True:
    signal.pause()
