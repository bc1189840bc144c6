import assert from 'node:assert/strict'
import { constants, closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { randomId } from '../lib/ids.ts'
import type { GraphDriver } from './driver.ts'

/** What every graph driver must do. `open` makes a driver on an empty data root. */
export function graphDriverConformance(name: string, open: () => { driver: GraphDriver, settle: () => Promise<void> }): void {
  const { driver, settle } = open()
  const tree = (id: string): string => `/proc/self/fd/${keep(driver.open(id))}`
  const fds: number[] = []
  const keep = (fd: number): number => (fds.push(fd), fd)
  const make = async (parent: string | undefined, files: Record<string, string>): Promise<string> => {
    const id = randomId()
    await driver.create(id, parent)
    for (const [file, text] of Object.entries(files)) writeFileSync(join(driver.directory(id), file), text)
    return id
  }
  const chain = async (length: number): Promise<string[]> => {
    const ids: string[] = []
    for (let at = 0; at < length; at++) ids.push(await make(ids.at(-1), { [`f${at}`]: String(at), same: String(at) }))
    return ids
  }
  const read = (id: string, file: string): string => readFileSync(join(tree(id), file), 'utf8')
  const removeAll = async (ids: readonly string[]): Promise<void> => {
    for (const fd of fds.splice(0)) closeSync(fd)
    for (const id of ids.toReversed()) await driver.remove(id)
    await settle()
  }

  test(`${name}: a layer shows its own files over its parent's`, async () => {
    const base = await make(undefined, { a: 'base', b: 'base' })
    const top = await make(base, { b: 'top', c: 'top' })
    const writable = await make(top, {})
    assert.deepEqual([read(writable, 'a'), read(writable, 'b'), read(writable, 'c')], ['base', 'top', 'top'])
    writeFileSync(join(tree(writable), 'b'), 'own')
    assert.deepEqual([read(writable, 'b'), read(top, 'b'), read(base, 'b')], ['own', 'top', 'base'])
    await removeAll([base, top, writable])
  })

  test(`${name}: a view has a layer's whole tree, and lives as long as its descriptor`, async () => {
    const base = await make(undefined, { a: 'base', b: 'base' })
    const top = await make(base, { b: 'top' })
    const view = (id: string): string => `/proc/self/fd/${keep(driver.view(id))}`
    assert.deepEqual([readFileSync(join(view(top), 'a'), 'utf8'), readFileSync(join(view(top), 'b'), 'utf8'), readFileSync(join(view(base), 'b'), 'utf8')], ['base', 'top', 'base'])
    assert.throws(() => driver.view(randomId()), /does not exist/)
    await removeAll([base, top])
  })

  test(`${name}: a view of a layer that is written to shows what is there, and disturbs nothing`, async () => {
    const base = await make(undefined, { a: 'base', b: 'base' })
    const writable = await make(base, {})
    const own = tree(writable)
    writeFileSync(join(own, 'c'), 'own')
    const view = keep(driver.view(writable))
    assert.deepEqual(readdirSync(`/proc/self/fd/${view}`).sort(), ['a', 'b', 'c'])
    closeSync(fds.pop()!)
    rmSync(join(own, 'a')) // which an overlay does in its work directory
    writeFileSync(join(own, 'b'), 'own')
    assert.deepEqual(readdirSync(own).sort(), ['b', 'c'])
    assert.equal(readFileSync(join(own, 'b'), 'utf8'), 'own')
    await removeAll([base, writable])
  })

  test(`${name}: siblings don't see each other`, async () => {
    const base = await make(undefined, { a: 'base' })
    const [one, two] = [await make(base, {}), await make(base, {})]
    writeFileSync(join(tree(one), 'new'), '')
    assert.ok(!existsSync(join(tree(two), 'new')))
    await removeAll([base, one, two])
  })

  test(`${name}: a file deleted in a layer is gone in its tree only`, async () => {
    const base = await make(undefined, { a: 'base' })
    mkdirSync(join(driver.directory(base), 'd'))
    writeFileSync(join(driver.directory(base), 'd/x'), '')
    const writable = await make(base, {})
    rmSync(join(tree(writable), 'a'))
    rmSync(join(tree(writable), 'd'), { recursive: true })
    assert.deepEqual(readdirSync(tree(writable)), [])
    assert.equal(read(base, 'a'), 'base')
    await removeAll([base, writable])
  })

  test(`${name}: 125 layers stand on one another`, async () => {
    const ids = await chain(125)
    const writable = await make(ids.at(-1), {})
    assert.equal(read(writable, 'same'), '124')
    assert.equal(read(writable, 'f0'), '0')
    assert.equal(readdirSync(tree(writable)).length, 126)
    await removeAll([...ids, writable])
  })

  test(`${name}: names that are taken, or that are not there, are refused`, async () => {
    const id = await make(undefined, {})
    await assert.rejects(driver.create(id, undefined), /exists already/)
    await assert.rejects(driver.create(randomId(), randomId()), /does not exist/)
    assert.throws(() => driver.directory(randomId()), /does not exist/)
    assert.throws(() => driver.open(randomId()), /does not exist|ENOENT/)
    await driver.remove(randomId())
    await removeAll([id])
  })

  test(`${name}: what exists is listed, and what is removed is gone`, async () => {
    const ids = await chain(3)
    assert.deepEqual(driver.ids().toSorted(), ids.toSorted())
    assert.ok(ids.every((id) => driver.exists(id)))
    await removeAll(ids)
    assert.deepEqual(driver.ids(), [])
    assert.ok(!driver.exists(ids[0]!))
  })

  test(`${name}: a root is mounted where the driver says`, async () => {
    const base = await make(undefined, { a: 'base' })
    const id = await make(base, {})
    const mount = driver.mount(id, { volatile: false })
    assert.equal(mount.type, driver.deletions === 'overlay' ? 'overlay' : 'bind')
    closeSync(openSync(mount.target, constants.O_RDONLY | constants.O_DIRECTORY))
    await removeAll([base, id])
  })
}
