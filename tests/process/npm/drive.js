// Drives the untouched npm client `openwhisk` through every entity it knows.
// Usage: node drive.js API_HOST KEY (with NODE_PATH at the installed packages)
'use strict'
const assert = require('assert')
const openwhisk = require('openwhisk')

const [apihost, api_key] = process.argv.slice(2)
const ow = openwhisk({ apihost, api_key, namespace: '_', ignore_certs: true })

const refused = async (promise, status) => {
  try {
    await promise
  } catch (error) {
    assert.strictEqual(error.statusCode, status, error.message)
    return error
  }
  assert.fail(`expected ${status}`)
}

async function actions () {
  const code = 'function main(p) { console.log("hi"); return {greeting: `Hello, ${p.name}`}; }'
  const created = await ow.actions.create({ name: 'hello', action: code, params: { name: 'World' }, annotations: { a: 1 } })
  assert.strictEqual(created.version, '0.0.1')
  assert.strictEqual(created.exec.kind, 'nodejs:20')
  await refused(ow.actions.create({ name: 'hello', action: code }), 409)
  const updated = await ow.actions.update({ name: 'hello', action: code, params: { name: 'You' }, limits: { timeout: 5000 } })
  assert.strictEqual(updated.version, '0.0.2')
  const got = await ow.actions.get('hello')
  assert.strictEqual(got.exec.code, code)
  assert.deepStrictEqual(got.parameters, [{ key: 'name', value: 'You' }])
  assert.strictEqual(got.limits.timeout, 5000)
  assert.ok((await ow.actions.list()).some(a => a.name === 'hello'))
  const result = await ow.actions.invoke({ name: 'hello', blocking: true, result: true, params: { name: 'Ada' } })
  assert.deepStrictEqual(result, { greeting: 'Hello, Ada' })
  const record = await ow.actions.invoke({ name: 'hello', blocking: true })
  assert.deepStrictEqual(record.response.result, { greeting: 'Hello, You' })
  const { activationId } = await ow.actions.invoke({ name: 'hello' })
  assert.match(activationId, /^[0-9a-f]{32}$/)
  await refused(ow.actions.invoke({ name: 'nosuch', blocking: true }), 404)

  await ow.actions.create({ name: 'fails', action: 'function main() { return {error: "sorry"}; }' })
  const failed = await refused(ow.actions.invoke({ name: 'fails', blocking: true, result: true }), 502)
  assert.deepStrictEqual(failed.error.response.result, { error: 'sorry' })
  await ow.actions.delete('fails')
  return record.activationId
}

async function activations (id) {
  const record = await ow.activations.get({ name: id })
  assert.strictEqual(record.activationId, id)
  assert.strictEqual(record.response.success, true)
  const { logs } = await ow.activations.logs({ name: id })
  assert.strictEqual(logs.length, 1)
  assert.match(logs[0], /stdout: hi$/)
  const { result } = await ow.activations.result({ name: id })
  assert.deepStrictEqual(result, { greeting: 'Hello, You' })
  const list = await ow.activations.list({ name: 'hello', limit: 10 })
  assert.ok(list.some(a => a.activationId === id))
  await refused(ow.activations.get({ name: 'f'.repeat(32) }), 404)
}

async function packages () {
  await ow.packages.create({ name: 'pkg', package: { publish: true, parameters: [{ key: 'p', value: 1 }] } })
  await ow.actions.create({ name: 'pkg/inner', action: 'function main(p) { return p; }' })
  assert.deepStrictEqual(
    await ow.actions.invoke({ name: 'pkg/inner', blocking: true, result: true, params: { q: 2 } }), { p: 1, q: 2 })
  const got = await ow.packages.get('pkg')
  assert.deepStrictEqual(got.actions.map(a => a.name), ['inner'])
  await ow.packages.update({ name: 'bound', package: { binding: { namespace: '_', name: 'pkg' }, parameters: [{ key: 'p', value: 3 }] } })
  assert.deepStrictEqual(await ow.actions.invoke({ name: 'bound/inner', blocking: true, result: true }), { p: 3 })
  const names = (await ow.packages.list()).map(p => p.name).sort()
  assert.deepStrictEqual(names, ['bound', 'pkg'])
  await refused(ow.packages.delete('pkg'), 409)
  await ow.packages.delete('bound')
  await ow.actions.delete('pkg/inner')
  await ow.packages.delete('pkg')
  await refused(ow.packages.get('pkg'), 404)
}

async function triggersAndRules () {
  await ow.triggers.create({ name: 'event', trigger: { parameters: [{ key: 'from', value: 'trigger' }] } })
  await ow.triggers.update({ name: 'event', trigger: { annotations: [{ key: 'k', value: 'v' }] } })
  assert.strictEqual((await ow.triggers.get('event')).version, '0.0.2')
  assert.ok((await ow.triggers.list()).some(t => t.name === 'event'))
  await ow.rules.create({ name: 'first', action: 'hello', trigger: 'event' })
  await ow.rules.create({ name: 'second', action: 'hello', trigger: 'event' })
  assert.strictEqual((await ow.rules.get('first')).status, 'active')
  await ow.rules.disable({ name: 'second' })
  assert.strictEqual((await ow.rules.get('second')).status, 'inactive')
  const { activationId } = await ow.triggers.invoke({ name: 'event', params: { name: 'Event' } })
  const fired = await ow.activations.get({ name: activationId })
  const lines = fired.logs.map(l => JSON.parse(l))
  assert.deepStrictEqual(lines.map(l => [l.rule, l.success]), [['guest/first', true], ['guest/second', false]])
  const ran = await eventually(() => ow.activations.get({ name: lines[0].activationId }))
  assert.deepStrictEqual(ran.response.result, { greeting: 'Hello, Event' })
  await ow.rules.enable({ name: 'second' })
  assert.strictEqual((await ow.rules.get('second')).status, 'active')
  assert.strictEqual((await ow.rules.list()).length, 2)
  await ow.rules.update({ name: 'second', action: 'hello', trigger: 'event' })
  await ow.rules.delete('first')
  await ow.rules.delete('second')
  await ow.triggers.delete('event')
  await refused(ow.triggers.get('event'), 404)
}

// The record of a rule's action appears when it has run.
async function eventually (get) {
  for (const end = Date.now() + 30000; ;) {
    try {
      return await get()
    } catch (error) {
      if (error.statusCode !== 404 || Date.now() > end) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

async function namespaces () {
  assert.deepStrictEqual(await ow.namespaces.list(), ['guest'])
  const wrong = openwhisk({ apihost, api_key: 'a:b', namespace: '_', ignore_certs: true })
  await refused(wrong.actions.list(), 401)
}

async function main () {
  const id = await actions()
  await activations(id)
  await packages()
  await triggersAndRules()
  await namespaces()
  await ow.actions.delete('hello')
  await refused(ow.actions.get('hello'), 404)
  process.stdout.write('done\n')
}

main().catch(error => {
  process.stderr.write(`${error.stack}\n`)
  process.exit(1)
})
