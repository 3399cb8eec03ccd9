'use strict'
// OpenWhisk's HTTP contract in the least that a Node.js runtime needs: /init, /run, the sentinels.
const http = require('http')
const Module = require('module')

const SENTINEL = 'XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n'
let main

function init ({ code, main: name }) {
  const module = new Module('action')
  module._compile(`${code}\n;module.exports = ${name || 'main'}`, 'action.js')
  main = module.exports
  return { ok: true }
}

async function run ({ value, ...context }) {
  for (const [key, text] of Object.entries(context)) process.env['__OW_' + key.toUpperCase()] = text
  const result = await main(value)
  process.stdout.write(SENTINEL)
  process.stderr.write(SENTINEL)
  return result === undefined ? {} : result
}

http.createServer((request, response) => {
  const parts = []
  request.on('data', part => parts.push(part))
  request.on('end', async () => {
    const body = JSON.parse(Buffer.concat(parts))
    const answer = JSON.stringify(request.url === '/init' ? init(body.value) : await run(body))
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(answer) })
    response.end(answer)
  })
}).listen(Number(process.argv[2]), '127.0.0.1')
