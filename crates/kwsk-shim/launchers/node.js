'use strict'
// kwsk's launcher for Node.js: request lines on file descriptor 4, frames on 3. See the crate's README.
const fs = require('fs')
const net = require('net')
const path = require('path')
const vm = require('vm')
const Module = require('module')
const { pathToFileURL } = require('url')
const { AsyncLocalStorage } = require('async_hooks')

const NEWLINE = 10
const writeOut = fs.writeSync
const exit = process.exit.bind(process)
let main
let storage

function send (head, body) {
  const bytes = Buffer.from(head + ' ' + body + '\n')
  for (let sent = 0; sent < bytes.length;) {
    try {
      sent += writeOut(3, bytes, sent)
    } catch (error) {
      if (error.code !== 'EAGAIN') exit(1)
    }
  }
}

function answer (tag, status, body) {
  send(tag === undefined ? '=' + status : '=' + status + '@' + tag, body)
}

const failure = text => JSON.stringify({ error: text })

// The function that the dotted `name` means in `holder`.
function member (holder, name) {
  const found = name.split('.').reduce((at, key) => at === undefined || at === null ? undefined : at[key], holder)
  return typeof found === 'function' ? found : undefined
}

function exported (module, name) {
  return member(module, name) || (module && member(module.default, name)) ||
    (name === 'main' ? [module, module && module.default].find(it => typeof it === 'function') : undefined)
}

const needsModules = error => error instanceof SyntaxError &&
  /import statement|import\.meta|Unexpected token 'export'|await is only valid/.test(error.message)

async function fromSource (directory, name) {
  const code = fs.readFileSync(path.join(directory, 'exec'), 'utf8')
  const file = path.join(directory, 'index.js')
  const module = { exports: {}, filename: file, id: file }
  // A plain `function main` is not exported; it is in scope of the module's own last line.
  const local = /^[\w$.]+$/.test(name)
    ? `\n;module.kwsk = (() => { try { return ${name} } catch (e) {} })()`
    : ''
  try {
    const options = { filename: file }
    if (vm.constants) options.importModuleDynamically = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER
    const compiled = vm.compileFunction(code + local, ['exports', 'require', 'module', '__filename', '__dirname'], options)
    compiled.call(module.exports, module.exports, Module.createRequire(file), module, file, directory)
  } catch (error) {
    if (!needsModules(error)) throw error
    const esm = path.join(directory, 'index.mjs')
    fs.writeFileSync(esm, code)
    return exported(await import(pathToFileURL(esm)), name)
  }
  return exported(module.exports, name) || (typeof module.kwsk === 'function' ? module.kwsk : undefined)
}

async function fromArchive (directory, name) {
  const has = file => fs.existsSync(path.join(directory, file))
  if (!has('package.json') && !has('index.js') && !has('index.mjs')) {
    throw new Plain('Zipped actions must contain either package.json or index.js at the root.')
  }
  process.chdir(directory)
  const described = has('package.json') ? JSON.parse(fs.readFileSync(path.join(directory, 'package.json'), 'utf8')) : {}
  const entry = described.main || (has('index.js') ? 'index.js' : 'index.mjs')
  const load = Module.createRequire(path.join(directory, 'index.js'))
  const file = load.resolve('./' + entry)
  const esm = file.endsWith('.mjs') || (described.type === 'module' && !file.endsWith('.cjs'))
  if (esm) return exported(await import(pathToFileURL(file)), name)
  try {
    return exported(load(file), name)
  } catch (error) {
    if (error.code !== 'ERR_REQUIRE_ESM' && !needsModules(error)) throw error
    return exported(await import(pathToFileURL(file)), name)
  }
}

class Plain extends Error {}

async function init (request) {
  Object.assign(process.env, request.env)
  try {
    main = await (request.archive ? fromArchive : fromSource)(request.path, request.main)
    if (!main) throw new Plain(`Action entrypoint '${request.main}' is not a function.`)
  } catch (error) {
    const cause = error instanceof Plain ? error.message : String((error && error.stack) || error)
    return answer(undefined, 502, failure('Initialization has failed due to: ' + cause))
  }
  if (request.concurrent) separate()
  answer(undefined, 200, '{"ok":true}')
}

// Sends the output of each run with its tag instead of printing it.
function separate () {
  process.env.__OW_ALLOW_CONCURRENT = 'true'
  storage = new AsyncLocalStorage()
  for (const [number, stream] of [[1, process.stdout], [2, process.stderr]]) {
    const print = stream.write.bind(stream)
    stream.write = (chunk, encoding, done) => {
      const tag = storage.getStore()
      if (tag === undefined) return print(chunk, encoding, done)
      send(number + '@' + tag, JSON.stringify(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString()))
      const callback = typeof encoding === 'function' ? encoding : done
      if (callback) process.nextTick(callback)
      return true
    }
  }
}

const current = {}
function environment (request) {
  for (const key in request) {
    if (key !== 'value' && key !== 'tag' && current[key] !== request[key]) {
      current[key] = request[key]
      process.env['__OW_' + key.toUpperCase()] = request[key]
    }
  }
}

// A rejection's reason as JSON: an Error would be `{}`.
function reason (value) {
  if (value === undefined) return {}
  if (!(value instanceof Error)) return value
  return { name: value.name, message: value.message, stack: value.stack, ...value }
}

function finish (tag, result) {
  if (result === undefined) return answer(tag, 200, '{}')
  if (typeof result !== 'object') return answer(tag, 502, failure('The action did not return a dictionary.'))
  let body
  try {
    body = JSON.stringify(result)
  } catch (error) {
    return answer(tag, 502, failure('An error has occurred: ' + error))
  }
  answer(tag, 200, body === undefined ? '{}' : body)
}

function run (request) {
  const tag = request.tag
  if (!main) return answer(tag, 403, failure('System not initialized.'))
  environment(request)
  let result
  try {
    result = main(request.value)
  } catch (error) {
    return answer(tag, 502, failure('An error has occurred: ' + error))
  }
  if (result && typeof result.then === 'function') {
    result.then(value => finish(tag, value), error => finish(tag, { error: reason(error) }))
  } else {
    finish(tag, result)
  }
}

function take (line) {
  const request = JSON.parse(line)
  if (request.init) {
    if (main) return answer(undefined, 403, failure('Cannot initialize the action more than once.'))
    init(request.init)
  } else if (storage && request.tag !== undefined) {
    storage.run(request.tag, run, request)
  } else {
    run(request)
  }
}

// Output has to be in the pipe before the answer is, also when it is more than a pipe holds.
for (const stream of [process.stdout, process.stderr]) {
  if (stream._handle && stream._handle.setBlocking) stream._handle.setBlocking(true)
}

let chunks = []
// Children of the action inherit neither: Node.js marks all descriptors it starts with close-on-exec.
const requests = new net.Socket({ fd: 4, readable: true, writable: false })
requests.on('data', chunk => {
  let from = 0
  for (let at; (at = chunk.indexOf(NEWLINE, from)) >= 0; from = at + 1) {
    const line = chunk.subarray(from, at)
    const whole = chunks.length ? Buffer.concat([...chunks, line]) : line
    chunks = []
    take(whole.toString())
  }
  if (from < chunk.length) chunks.push(from ? chunk.subarray(from) : chunk)
})
// The other end is gone, and with it everyone who wants an answer.
requests.on('end', () => exit(0))
