"""OpenWhisk's HTTP contract in the least that a Python runtime needs: /init, /run, the sentinels."""
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"
action = {}


def init(value):
    exec(compile(value["code"], "action.py", "exec"), action)
    action["main of the action"] = action[value.get("main") or "main"]
    return {"ok": True}


def run(body):
    value = body.pop("value", {})
    for key, text in body.items():
        os.environ["__OW_" + key.upper()] = text
    result = action["main of the action"](value)
    for stream in (sys.stdout, sys.stderr):
        stream.write(SENTINEL)
        stream.flush()
    return result


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(init(body["value"]) if self.path == "/init" else run(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
