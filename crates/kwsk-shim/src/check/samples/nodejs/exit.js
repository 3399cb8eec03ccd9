function main(args) {
  if (args.exit) process.exit(1)
  return {}
}
