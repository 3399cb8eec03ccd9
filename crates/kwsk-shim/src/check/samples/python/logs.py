import sys


def main(args):
    print(args["text"])
    print(args["text"], file=sys.stderr)
    return {"text": args["text"]}
