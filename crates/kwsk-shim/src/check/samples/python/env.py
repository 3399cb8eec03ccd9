import os


def main(args):
    return dict(os.environ)
