function main() { return { error: 'refused' } }
