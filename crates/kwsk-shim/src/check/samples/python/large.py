def main(args):
    return {"text": "a" * args["size"]}
