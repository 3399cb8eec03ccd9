// An OpenWhisk HTTP runtime whose processes differ: the n-th one that is started with the same file behaves as the n-th
// word of argv[4] says, later ones as the last. argv[2] is the port, argv[3] the file.
const fs = require('fs')
const http = require('http')
const [, , port, file, words] = process.argv
fs.appendFileSync(file, 'x')
const count = fs.readFileSync(file).length
const moods = words.split(',')
const mood = moods[Math.min(count, moods.length) - 1]
const SENTINEL = 'XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX'
let initialised = false

const answers = {
  '/init': () => {
    if (mood === 'init-503') return [503, { error: 'shutting down' }]
    if (mood === 'init-502') return [502, { error: 'bad init ' + count }]
    if (initialised) return [403, { error: 'Cannot initialize the action more than once.' }]
    initialised = true
    console.log('init ' + count)
    return mood === 'init-fails-once' ? [502, { error: 'bad init ' + count }] : [200, { ok: true }]
  },
  '/run': value => {
    if (mood === 'run-503') return [503, { error: 'shutting down' }]
    if (!initialised) return [403, { error: 'System not initialized.' }]
    if (value.hang) return null
    if (value.fail) return [502, { error: 'failed' }]
    console.log(SENTINEL), console.error(SENTINEL)
    return [200, { process: count, pid: process.pid, signal }]
  }
}

let signal = null
process.on('SIGUSR2', () => { signal = 'SIGUSR2' })
if (mood === 'stubborn') process.on('SIGTERM', () => {})
http.createServer((request, response) => {
  const chunks = []
  request.on('data', chunk => chunks.push(chunk))
  request.on('end', () => {
    const answer = answers[request.url](JSON.parse(Buffer.concat(chunks)).value)
    if (!answer) return
    response.writeHead(answer[0], { 'content-type': 'application/json' })
    response.end(JSON.stringify(answer[1]))
  })
}).listen(Number(port), '127.0.0.1')
