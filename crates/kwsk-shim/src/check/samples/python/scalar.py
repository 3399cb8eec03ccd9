def main(args):
    return "text"
