def main(args):
    raise Exception("thrown")
