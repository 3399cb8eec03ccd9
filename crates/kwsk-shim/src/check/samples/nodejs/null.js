function main() { return null }
