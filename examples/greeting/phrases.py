"""What __main__ imports."""

PHRASES = {"en": "Hello, {name}!", "fr": "Bonjour, {name} !", "de": "Hallo, {name}!"}


def phrase(language):
    return PHRASES.get(language, PHRASES["en"])
