def main(args:
