"""A runtime that answers as upstream's Python images do (contract, sections 12.1 and 12.4), for source text."""
import json
import os
import sys
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
action = None


class Refusal(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def init(value):
    global action
    if action:
        raise Refusal(403, "Cannot initialize the action more than once.")
    if not value.get("code"):
        raise Refusal(403, "Missing main/no code to execute.")
    os.environ.update(value.get("env", {}))
    scope = {}
    try:
        exec(value["code"], scope)
        action = scope[value.get("main", "main")]
    except Exception:
        raise Refusal(502, "cannot start action: " + traceback.format_exc())
    return {"ok": True}


def run(body):
    if not action:
        raise Refusal(500, "no action defined yet")
    for key, text in body.items():
        if key != "value":
            os.environ["__OW_" + key.upper()] = text
    try:
        result = action(body["value"])
    except Exception as error:
        traceback.print_exc()
        raise Refusal(502, "An error has occurred: %s" % error)
    if not isinstance(result, (dict, list)):
        raise Refusal(502, "The action did not return a dictionary or array.")
    return result


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.reply(200, self.result(data))
        except Refusal as refusal:
            self.reply(refusal.status, {"error": str(refusal)})

    def result(self, data):
        try:
            body = json.loads(data)
        except ValueError as error:
            raise Refusal(400, "Error unmarshaling request: %s" % error)
        if self.path == "/init":
            return init(body["value"])
        if self.path == "/run":
            try:
                return run(body)
            finally:
                for stream in (sys.stdout, sys.stderr):
                    print(SENTINEL, file=stream, flush=True)
        raise Refusal(404, "404 page not found")

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(HTTPServer):
    def handle_error(self, request, client_address):
        pass


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
