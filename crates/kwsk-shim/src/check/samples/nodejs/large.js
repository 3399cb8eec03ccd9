function main(args) { return { text: 'a'.repeat(args.size) } }
