let waiting = []
function main(args) {
  return new Promise(resolve => {
    waiting.push(resolve)
    if (waiting.length < args.together) return
    for (const one of waiting) one({ together: args.together })
    waiting = []
  })
}
