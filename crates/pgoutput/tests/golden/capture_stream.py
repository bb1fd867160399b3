"""Prints what goes over one replication stream: `<` from the server, `>` to it, one payload of a
CopyData message per line. The line `stat` shows what the server understood of the status that it
was sent: write, flush and replay position, and the time in microseconds since 1970."""

import socket
import struct
import subprocess
import sys

POSITIONS = (0x2_0000_0010, 0x2_0000_0008, 0x1_FFFF_FFFF)
CLIENT_TIME = 750_000_000_123_456

path, psql = sys.argv[1:]
stream = socket.socket(socket.AF_UNIX)
stream.settimeout(30)
stream.connect(path)


def sql(text):
    return subprocess.check_output([psql, "-XAtq", "-F", " ", "-c", text], text=True).strip()


def send(tag, body):
    stream.sendall(tag + struct.pack(">i", len(body) + 4) + body)


def read(length):
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            sys.exit("the server closed the connection")
        data += piece
    return data


def receive():
    tag, length = struct.unpack(">ci", read(5))
    body = read(length - 4)
    if tag == b"E":
        sys.exit(f"the server says {body!r}")
    return tag, body


def payloads():
    while True:
        tag, body = receive()
        if tag == b"d":
            print("<", body.hex())
            yield body


sql("SELECT pg_create_logical_replication_slot('stream', 'pgoutput')")
sql("INSERT INTO stored VALUES (9, 'streamed', NULL)")
startup = b"user\0postgres\0database\0postgres\0replication\0database\0\0"
stream.sendall(struct.pack(">ii", len(startup) + 8, 0x30000) + startup)
while receive()[0] != b"Z":
    pass
send(b"Q", b"START_REPLICATION SLOT \"stream\" LOGICAL 0/0"
           b" (proto_version '1', publication_names 'pub')\0")
print("# Payloads of CopyData messages; the status holds positions and a time that were made up.")
received = payloads()
# The whole transaction, then a keepalive that asks for a reply.
while next(received)[25:26] != b"C":
    pass
while True:
    payload = next(received)
    if payload[:1] == b"k" and payload[-1] == 1:
        break
status = struct.pack(">cQQQqB", b"r", *POSITIONS, CLIENT_TIME, 1)
send(b"d", status)
print(">", status.hex())
# The status asks for a reply too: once that is here, the view shows what the status said.
while next(received)[:1] != b"k":
    pass
print("stat", sql("SELECT write_lsn, flush_lsn, replay_lsn,"
                  " (extract(epoch FROM reply_time) * 1000000)::int8 FROM pg_stat_replication"))
