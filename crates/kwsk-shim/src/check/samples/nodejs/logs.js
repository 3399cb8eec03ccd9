function main(args) {
  console.log(args.text)
  console.error(args.text)
  return { text: args.text }
}
