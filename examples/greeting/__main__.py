"""Greets in a language: {"name": "…", "language": "fr"} → {"greeting": "…"}."""
from phrases import phrase


def main(args):
    name = args.get("name", "stranger")
    print("greeting", name)
    return {"greeting": phrase(args.get("language", "en")).format(name=name)}
