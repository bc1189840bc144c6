import { invalid } from './errors.ts'

/** `size` ids of a user namespace from `containerID` on are those of the host from `hostID` on (runtime-spec, config-linux,
 * "User namespace mappings"). */
export interface IdMapping { containerID: number, hostID: number, size: number }

/** The maps of a user namespace. */
export interface IdMaps { uids: readonly IdMapping[], gids: readonly IdMapping[] }

/** The text of a uid_map or gid_map (user_namespaces(7)). */
export function formatIdMap(mappings: readonly IdMapping[]): string {
  return mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('')
}

/** Reads a uid_map or gid_map. */
export function parseIdMap(text: string): IdMapping[] {
  return text.split('\n').filter(Boolean).map((line) => {
    const [containerID = 0, hostID = 0, size = 0] = line.trim().split(/ +/).map(Number)
    return { containerID, hostID, size }
  })
}

/** The host's id of a container's. */
export function hostIdOf(mappings: readonly IdMapping[], id: number): number {
  const found = mappings.find(({ containerID, size }) => id >= containerID && id < containerID + size)
  if (!found) throw invalid(`id ${id} is not mapped into the user namespace`)
  return found.hostID + id - found.containerID
}

/** The host's ids of a user namespace's root. */
export function rootOf(maps: IdMaps | undefined): { uid: number, gid: number } {
  return maps ? { uid: hostIdOf(maps.uids, 0), gid: hostIdOf(maps.gids, 0) } : { uid: 0, gid: 0 }
}

const OVERFLOW_ID = 65_534

/** A host's id as the user namespace sees it; that of nobody where it has none (user_namespaces(7)). */
export function containerIdOf(mappings: readonly IdMapping[], id: number): number {
  const found = mappings.find(({ hostID, size }) => id >= hostID && id < hostID + size)
  return found ? found.containerID + id - found.hostID : OVERFLOW_ID
}
