/** What is kept of a volume in the graph. */
export interface VolumeRecord {
  name: string
  driver: string
  options: Record<string, string>
  labels: Record<string, string>
  created: string
  /** Nobody gave it its name: it goes with the container that it was made for, where that is asked. */
  anonymous: boolean
  /** The volume that it is a picture of. It is read-only. */
  snapshotOf?: string
}

/** What somebody wants a volume to be. An empty name asks for one. */
export interface VolumeRequest { name: string, driver: string, options: Record<string, string>, labels: Record<string, string> }

/** How a container has a volume, for events. */
export interface VolumeUse { container: string, destination: string, writable: boolean, propagation: string }
