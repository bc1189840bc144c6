import { invalid } from '../../lib/errors.ts'
import type { Storage } from './driver.ts'
import { openFileSystem } from './filesystem.ts'
import { openMemory } from './memory.ts'

const drivers: Readonly<Record<string, (root: string) => Storage>> = { filesystem: openFileSystem, memory: openMemory }

/** Opens a registry's storage by its driver's name. */
export function openStorage(name: string, root: string): Storage {
  const open = Object.hasOwn(drivers, name) ? drivers[name] : undefined
  if (!open) throw invalid(`unknown storage driver ${JSON.stringify(name)}: there are ${Object.keys(drivers).join(' and ')}`)
  return open(root)
}
