function other() { return { other: true } }
