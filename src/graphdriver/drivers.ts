import { invalid } from '../lib/errors.ts'
import type { Trash } from '../lib/trash.ts'
import type { GraphDriver } from './driver.ts'
import { openOverlay } from './overlay.ts'
import { openVfs } from './vfs.ts'

/** The drivers by name; `overlay2` is Docker's name for what is here called overlay. */
const drivers: Record<string, (root: string, trash: Trash) => GraphDriver> = {
  overlay: (root, trash) => openOverlay(`${root}/overlay`, trash),
  overlay2: (root, trash) => openOverlay(`${root}/overlay`, trash),
  vfs: (root, trash) => openVfs(`${root}/vfs`, trash),
}

/** Opens a driver below the engine's data root. */
export function openGraphDriver(name: string, dataRoot: string, trash: Trash): GraphDriver {
  const open = drivers[name]
  if (!open) throw invalid(`graphdriver ${JSON.stringify(name)} is not known; there are ${Object.keys(drivers).join(', ')}`)
  return open(dataRoot, trash)
}
