def main(args):
    return {"error": "refused"}
