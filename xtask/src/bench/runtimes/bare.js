'use strict'
// The least that starts, initialises and runs: one line with the code, one with the arguments, one answer.
const Module = require('module')
const readline = require('readline')

let main
readline.createInterface({ input: process.stdin }).on('line', async line => {
  const { value } = JSON.parse(line)
  if (main === undefined) {
    const module = new Module('action')
    module._compile(`${value.code}\n;module.exports = ${value.main}`, 'action.js')
    main = module.exports
    process.stdout.write('{"ok":true}\n')
  } else {
    process.stdout.write(JSON.stringify(await main(value)) + '\n')
  }
})
