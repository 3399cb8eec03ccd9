"""An OpenWhisk HTTP runtime on HTTP/1.0, which closes every connection."""
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
scope = {}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/init":
            os.environ.update(body["value"]["env"])
            exec(body["value"]["code"], scope)
            return self.reply(200, {"ok": True})
        result = scope["main"](body["value"])
        print(SENTINEL, flush=True)
        print(SENTINEL, file=sys.stderr, flush=True)
        self.reply(200, result)

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
