function main() { return 'text' }
