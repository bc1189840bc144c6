import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isKind } from '../lib/errors.ts'
import type { VolumeConfig, VolumeDriver } from './driver.ts'

/** What every volume driver must do. */
export function volumeDriverConformance(name: string, open: () => Promise<VolumeDriver>): void {
  const config = (of: string): VolumeConfig => ({ name: of, options: {} })

  test(`${name}: what is written in a volume is there at the next mount, at the same path`, async () => {
    const driver = await open()
    const volume = config('kept')
    await driver.create(volume)
    const path = await driver.mount(volume, 'one')
    writeFileSync(join(path, 'file'), 'text')
    assert.equal(await driver.mount(volume, 'two'), path)
    await driver.unmount(volume, 'one')
    assert.equal(readFileSync(join(path, 'file'), 'utf8'), 'text', 'another still has it')
    await driver.unmount(volume, 'two')
    assert.equal(readFileSync(join(await driver.mount(volume, 'three'), 'file'), 'utf8'), 'text')
    await driver.unmount(volume, 'three')
    await driver.remove(volume)
  })

  test(`${name}: a volume is listed until it is removed, which deletes it`, async () => {
    const driver = await open()
    const volume = config('listed')
    assert.ok(!(await driver.list!()).includes('listed'))
    await driver.create(volume)
    assert.ok((await driver.list!()).includes('listed'))
    const path = await driver.mount(volume, 'one')
    await driver.unmount(volume, 'one')
    await driver.remove(volume)
    assert.ok(!(await driver.list!()).includes('listed'))
    assert.ok(!existsSync(path))
  })

  test(`${name}: two volumes are two`, async () => {
    const driver = await open()
    const volumes = [config('left'), config('right')]
    for (const volume of volumes) await driver.create(volume)
    const [left, right] = await Promise.all(volumes.map((volume) => driver.mount(volume, 'both')))
    writeFileSync(join(left!, 'file'), '')
    assert.ok(!existsSync(join(right!, 'file')))
    for (const volume of volumes) {
      await driver.unmount(volume, 'both')
      await driver.remove(volume)
    }
  })

  test(`${name}: options that it does not take are refused, and leave nothing`, async () => {
    const driver = await open()
    await assert.rejects(driver.create({ name: 'refused', options: { nonsense: '1' } }), (error) => isKind(error) && /nonsense/.test(error.message))
    assert.ok(!(await driver.list!()).includes('refused'))
  })

  test(`${name}: a mount of an engine before is taken up, and undone by its id`, async () => {
    const [driver, volume] = [await open(), config('resumed')]
    await driver.create(volume)
    const path = await driver.mount(volume, 'one')
    assert.equal(await driver.resume(volume, 'one'), path)
    await driver.unmount(volume, 'one')
    await driver.remove(volume)
  })
}
