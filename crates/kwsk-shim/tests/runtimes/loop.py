"""A foreign ActionLoop: answers one JSON line on descriptor 3 for each on stdin."""
import json
import os
import sys

answers = os.fdopen(3, "w")
for line in sys.argv[1:]:
    answers.write(line + "\n")
    answers.flush()
for line in sys.stdin:
    request = json.loads(line)
    print("asked", flush=True)
    text = request["value"].get("answer")
    if text == "exit":
        sys.exit(0)
    reply = {"got": request["value"], "id": request["activation_id"], "env": os.environ.get("GIVEN")}
    answers.write((json.dumps(reply) if text is None else text) + "\n")
    answers.flush()
