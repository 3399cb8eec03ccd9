// A runtime that answers as upstream's Node.js images do (contract, sections 12.1 and 12.3), for source text.
const http = require('http')
const vm = require('vm')
const SENTINEL = 'XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX'
const concurrent = process.env.__OW_ALLOW_CONCURRENT === 'true'
let main
let status = 'ready'

class Refusal extends Error {
  constructor (code, message) {
    super(message)
    this.code = code
  }
}

function sentinels () {
  console.log(SENTINEL)
  console.error(SENTINEL)
}

function init ({ value = {} }) {
  if (main) throw new Refusal(403, 'Cannot initialize the action more than once.')
  if (!value.code || !value.main) throw new Refusal(403, 'Missing main/no code to execute.')
  for (const key in value.env) process.env[key] = value.env[key]
  try {
    if (value.binary) throw 'There was an error uncompressing the action archive. The file type is unsupported'
    const source = `(function (require, exports) {${value.code}\nreturn typeof ${value.main} === 'function' ? ${value.main} : exports.${value.main}})`
    main = vm.runInThisContext(source)(require, {})
    if (typeof main !== 'function') throw `Action entrypoint '${value.main}' is not a function.`
  } catch (error) {
    main = undefined
    sentinels()
    throw new Refusal(502, 'Initialization has failed due to: ' + (error.stack || error))
  }
  return { ok: true }
}

async function run (body) {
  if (!main) throw new Refusal(403, 'System not initialized.')
  if (status === 'stopped' || (status === 'running' && !concurrent)) {
    throw new Refusal(403, `System not ready, status is ${status}.`)
  }
  status = 'running'
  for (const key in body) if (key !== 'value') process.env['__OW_' + key.toUpperCase()] = body[key]
  let result
  try {
    result = main(body.value)
  } catch (error) {
    status = 'stopped'
    throw new Refusal(502, 'An error has occurred: ' + error)
  }
  try {
    result = await result
  } catch (error) {
    result = { error: error === undefined ? {} : error }
  }
  status = 'ready'
  if (result === undefined) return {}
  if (typeof result !== 'object') throw new Refusal(502, 'The action did not return a dictionary.')
  return result
}

async function handle (path, text) {
  let body
  try {
    body = JSON.parse(text)
  } catch (error) {
    throw new Refusal(500, 'Bad request.')
  }
  if (path === '/init') return init(body)
  if (path === '/run') return run(body)
  throw new Refusal(500, 'Bad request.')
}

http.createServer((request, response) => {
  const chunks = []
  request.on('data', chunk => chunks.push(chunk))
  request.on('end', async () => {
    let code = 200
    let result
    try {
      result = await handle(request.url, Buffer.concat(chunks).toString())
    } catch (error) {
      code = error.code
      result = { error: error.message }
    }
    response.writeHead(code, { 'content-type': 'application/json' })
    response.end(JSON.stringify(result))
    // After the answer, as upstream has it.
    if (request.url === '/run') sentinels()
  })
}).listen(Number(process.argv[2]), '127.0.0.1')
