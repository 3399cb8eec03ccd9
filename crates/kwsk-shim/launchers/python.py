"""kwsk's launcher for Python: request lines on file descriptor 4, frames on 3. See the crate's README."""
import asyncio
import contextvars
import glob
import inspect
import io
import json
import os
import select
import sys
import threading
import traceback
import types

ANSWERS = 3
REQUESTS = 4
NO_DICTIONARY = "The action did not return a dictionary or array."

# Children of the action inherit neither.
os.set_inheritable(ANSWERS, False)
os.set_inheritable(REQUESTS, False)

lock = threading.Lock()
tag_of_run = contextvars.ContextVar("kwsk_tag", default=None)


def exit_with_server():
    """Ends the process when the other end is gone, even while an action hangs."""
    poll = select.poll()
    poll.register(REQUESTS, 0)
    while True:
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
            os._exit(0)


def send(head, body):
    data = f"{head} {body}\n".encode("utf-8", "surrogatepass")
    with lock:
        while data:
            data = data[os.write(ANSWERS, data):]


def answer(tag, status, body):
    send(f"={status}" if tag is None else f"={status}@{tag}", body)


def failure(text):
    return json.dumps({"error": text})


class Refused(Exception):
    """An init failure whose text is complete."""


def load(request):
    directory, name = request["path"], request["main"]
    sys.path.insert(0, directory)
    source = os.path.join(directory, "exec")
    if request["archive"]:
        source = os.path.join(directory, "__main__.py")
        if not os.path.isfile(source):
            raise Refused("Zipped actions must contain __main__.py at the root.")
        os.chdir(directory)
        activate(directory)
    with open(source, "rb") as file:
        code = compile(file.read(), source if request["archive"] else f"{name}.py", "exec")
    module = types.ModuleType("main__")
    module.__file__ = source
    sys.modules["main__"] = module
    exec(code, module.__dict__)
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise Refused(f"Action entrypoint '{name}' is not a function.")
    return found


def activate(directory):
    """Makes the packages of a bundled virtualenv importable."""
    script = os.path.join(directory, "virtualenv", "bin", "activate_this.py")
    if os.path.isfile(script):
        with open(script, "rb") as file:
            exec(compile(file.read(), script, "exec"), {"__file__": script, "__name__": "__main__"})
        return
    sys.path.extend(glob.glob(os.path.join(directory, "virtualenv", "lib", "python*", "site-packages")))


def init(request):
    os.environ.update({key: value for key, value in request["env"].items() if key and "=" not in key and "\0" not in key + value})
    try:
        main = load(request)
    except Refused as error:
        answer(None, 502, failure(f"Initialization has failed due to: {error}"))
        return None
    except Exception:
        text = traceback.format_exc()
        sys.stderr.write(text)
        sys.stderr.flush()
        answer(None, 502, failure(f"Initialization has failed due to: {text.strip()}"))
        return None
    if request["concurrent"]:
        os.environ["__OW_ALLOW_CONCURRENT"] = "true"
        sys.stdout, sys.stderr = Separated(1, sys.stdout), Separated(2, sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    answer(None, 200, '{"ok":true}')
    return main


class Separated(io.TextIOBase):
    """Sends the output of each run with its tag instead of printing it."""

    def __init__(self, number, stream):
        self.number, self.stream = number, stream

    def write(self, text):
        tag = tag_of_run.get()
        if tag is None:
            return self.stream.write(text)
        send(f"{self.number}@{tag}", json.dumps(text))
        return len(text)

    def flush(self):
        self.stream.flush()

    def fileno(self):
        return self.stream.fileno()

    def writable(self):
        return True


def outcome(main, value):
    try:
        result = main(value)
        if inspect.isawaitable(result):
            result = asyncio.run(waited(result))
        if not isinstance(result, (dict, list, tuple)):
            return 502, failure(NO_DICTIONARY)
        return 200, json.dumps(result, separators=(",", ":"), ensure_ascii=False)
    except SystemExit as error:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code if isinstance(error.code, int) else 1)
    except BaseException as error:
        traceback.print_exc()
        return 502, failure(f"An error has occurred: {error or type(error).__name__}")


async def waited(awaitable):
    return await awaitable


def run(main, request):
    tag = request.get("tag")
    if main is None:
        answer(tag, 403, failure("System not initialized."))
        return
    for key, value in request.items():
        if key not in ("value", "tag"):
            os.environ[f"__OW_{key.upper()}"] = value
    tag_of_run.set(tag)
    status, body = outcome(main, request["value"])
    sys.stdout.flush()
    sys.stderr.flush()
    answer(tag, status, body)


def serve():
    main = None
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    threading.Thread(target=exit_with_server, daemon=True).start()
    with os.fdopen(REQUESTS, "rb", closefd=False) as lines:
        for line in lines:
            request = json.loads(line)
            if "init" in request:
                main = init(request["init"])
            elif request.get("tag") is None:
                run(main, request)
            else:
                threading.Thread(target=run, args=(main, request), daemon=True).start()


serve()
os._exit(0)
