function main() { throw new Error('thrown') }
