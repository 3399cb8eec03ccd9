// An OpenWhisk HTTP runtime (section 12 of the contract) with the manners that argv[3] asks for.
const http = require('http')
const [, , port, manners] = process.argv
const SENTINEL = 'XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX'
let main
let runs = 0

function init (value, reply) {
  if (manners === 'hang-init') return
  if (manners === 'die-init') process.exit(1)
  if (main) return reply(403, { error: 'Cannot initialize the action more than once.' })
  if (!value.code) return reply(403, { error: 'Missing main/no code to execute.' })
  Object.assign(process.env, value.env)
  try {
    main = eval('(() => {' + value.code + '; return ' + value.main + '})()')
  } catch (error) {
    return reply(502, { error: 'Initialization has failed due to: ' + error })
  }
  reply(200, { ok: true })
}

async function run (body, reply, response) {
  runs++
  for (const key in body) if (key !== 'value') process.env['__OW_' + key.toUpperCase()] = body[key]
  if (manners === 'half') {
    response.writeHead(200, { 'content-length': 1000 })
    response.write('{"half":')
    return setTimeout(() => process.exit(1), 20)
  }
  if (manners === 'huge') return response.end(JSON.stringify({ msg: 'a'.repeat(3 * 1024 * 1024) }))
  if (manners === 'text') return response.end('not json')
  const result = await main(body.value)
  if (manners !== 'no-sentinel') console.log(SENTINEL), console.error(SENTINEL)
  reply(200, { ...result, runs })
}

const server = http.createServer((request, response) => {
  const chunks = []
  request.on('data', chunk => chunks.push(chunk))
  request.on('end', () => {
    const body = JSON.parse(Buffer.concat(chunks))
    const reply = (status, value) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    request.url === '/init' ? init(body.value, reply) : run(body, reply, response)
  })
})
if (manners !== 'deaf') server.listen(Number(port), '127.0.0.1')
else setInterval(() => {}, 1000)
