"""An S3 server that throws payloads away: for streams larger than a test may store.

It keeps the sizes of objects, the bodies of small ones, and which uploads are open. What was
thrown away is read back as zero bytes. Run as a script it prints its port, serves until standard
input ends, then prints what it saw as JSON.
"""

import json
import re
import socketserver
import sys
import threading
from collections import Counter
from urllib.parse import parse_qs, unquote, urlsplit

KEPT_BYTES = 1024 * 1024
ZEROS = bytes(1024 * 1024)


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.sizes: dict[str, int] = {}
        self.bodies: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, int]] = {}
        self.calls: Counter[str] = Counter()
        self.largest_part_bytes = 0


class Handler(socketserver.StreamRequestHandler):
    server: "Server"
    rbufsize = 256 * 1024

    def handle(self):
        while line := self.rfile.readline():
            method, target, _ = line.decode().split(" ", 2)
            headers = {}
            while (line := self.rfile.readline().strip()) != b"":
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            self.answer(method, target, headers)

    def answer(self, method, target, headers):
        state = self.server.state
        parts = urlsplit(target)
        key = unquote(parts.path).split("/", 2)[-1]
        query = parse_qs(parts.query, keep_blank_values=True)
        length = int(headers.get("content-length", 0))
        body = self.swallow(length)
        source = headers.get("x-amz-copy-source")
        with state.lock:
            match method:
                case "POST" if "uploads" in query:
                    state.calls["begin"] += 1
                    upload = str(state.calls["begin"])
                    state.uploads[upload] = {}
                    self.reply(200, f"<R><UploadId>{upload}</UploadId></R>")
                case "POST" if "delete" in query:
                    for found in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                        state.sizes.pop(found, None)
                    self.reply(200, "<DeleteResult/>")
                case "POST":
                    state.calls["complete"] += 1
                    upload = query["uploadId"][0]
                    state.sizes[key] = sum(state.uploads.pop(upload).values())
                    self.reply(200, '<R><ETag>"e"</ETag></R>')
                case "PUT" if "partNumber" in query:
                    number, size = int(query["partNumber"][0]), length
                    if source:
                        state.calls["copy part"] += 1
                        size = self.copied(state, source, headers)
                    state.calls["part"] += not source
                    state.largest_part_bytes = max(state.largest_part_bytes, length)
                    state.uploads[query["uploadId"][0]][number] = size
                    self.reply(200, '<R><ETag>"e"</ETag></R>' if source else "", '"e"')
                case "PUT" if source:
                    state.calls["copy"] += 1
                    state.sizes[key] = self.copied(state, source, headers)
                    self.reply(200, '<R><ETag>"e"</ETag></R>')
                case "PUT":
                    state.calls["put"] += 1
                    state.sizes[key] = length
                    state.bodies[key] = body
                    self.reply(200, "", '"e"')
                case "DELETE":
                    state.calls["delete"] += 1
                    state.uploads.pop(query.get("uploadId", [""])[0], None)
                    if "uploadId" not in query:
                        state.sizes.pop(key, None)
                    self.reply(204, "")
                case "HEAD" | "GET":
                    state.calls[method.lower()] += 1
                    held = state.sizes.get(key)
        if method in ("HEAD", "GET"):
            self.give(method, key, held, headers)

    def copied(self, state, source, headers):
        size = state.sizes[unquote(source).split("/", 2)[-1]]
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("x-amz-copy-source-range", ""))
        if span is None:
            return size
        first, last = map(int, span.groups())
        assert last < size
        return last - first + 1

    def give(self, method, key, size, headers):
        if size is None:
            self.reply(404, "" if method == "HEAD" else "<Error><Code>NoSuchKey</Code></Error>")
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        first, last = map(int, span.groups()) if span else (0, size - 1)
        last = min(last, size - 1)
        head = f'HTTP/1.1 {206 if span else 200} OK\r\nETag: "e"\r\n'
        if span:
            head += f"Content-Range: bytes {first}-{last}/{size}\r\n"
        self.wfile.write(f"{head}Content-Length: {last - first + 1}\r\n\r\n".encode())
        if method == "HEAD":
            return
        if key in self.server.state.bodies:
            self.wfile.write(self.server.state.bodies[key][first : last + 1])
            return
        left = last - first + 1
        while left > 0:
            left -= self.connection.send(ZEROS[: min(left, len(ZEROS))])

    def swallow(self, length):
        if length <= KEPT_BYTES:
            return self.rfile.read(length)
        left = length
        while left > 0:
            left -= len(self.rfile.read1(min(left, 262144)))
        return b""

    def reply(self, status, body, etag=None):
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n"
        if etag:
            head += f"ETag: {etag}\r\n"
        self.wfile.write(f"{head}\r\n{body}".encode())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = State()


def main():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        state = server.state
        seen = {
            "sizes": state.sizes,
            "open_uploads": len(state.uploads),
            "calls": state.calls,
            "largest_part_bytes": state.largest_part_bytes,
        }
        print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
