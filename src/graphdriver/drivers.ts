import { invalid } from '../lib/errors.ts'
import type { GraphDriver } from './driver.ts'
import { openOverlay } from './overlay.ts'
import { openVfs } from './vfs.ts'

/** The drivers by name; `overlay2` is Docker's name for what is here called overlay. */
const drivers: Record<string, (root: string) => GraphDriver> = {
  overlay: (root) => openOverlay(`${root}/overlay`),
  overlay2: (root) => openOverlay(`${root}/overlay`),
  vfs: (root) => openVfs(`${root}/vfs`),
}

export const graphDriverNames: readonly string[] = Object.keys(drivers)

/** Opens a driver below the engine's data root. */
export function openGraphDriver(name: string, dataRoot: string): GraphDriver {
  const open = drivers[name]
  if (!open) throw invalid(`graphdriver ${JSON.stringify(name)} is not known; there are ${graphDriverNames.join(', ')}`)
  return open(dataRoot)
}
