/** A volume as its driver knows it. */
export interface VolumeConfig { name: string, options: Readonly<Record<string, string>> }

/** The contract of a volume driver: it keeps directory trees that outlive containers.
 *
 * Order of calls: create, then mount and unmount any number of times, then remove. Each mount has an id of its user's, and
 * is undone by an unmount with that id; the tree is at the same path for all of them. `remove` of what is not there does
 * nothing. The engine calls one at a time for a volume.
 * Errors: `invalid` for options that the driver does not take, from `create`, which then has made nothing; `system` for
 * what the host or the plugin can't do. */
export interface VolumeDriver {
  readonly name: string
  readonly scope: 'local' | 'global'
  create(volume: VolumeConfig): Promise<void>
  remove(volume: VolumeConfig): Promise<void>
  /** Makes the tree usable for one more. Returns its path on the host. */
  mount(volume: VolumeConfig, id: string): Promise<string>
  unmount(volume: VolumeConfig, id: string): Promise<void>
  /** Where the tree is, or will be; '' where only a mount tells. */
  path(volume: VolumeConfig): Promise<string>
  /** Takes up a mount that an engine before this one made. Returns the path. */
  resume(volume: VolumeConfig, id: string): Promise<string>
  /** Undoes the mounts that an engine before this one made and that nobody has taken up. */
  settle?(): Promise<void>
  /** What the driver tells of a volume beside that, for `docker volume inspect`. */
  status?(volume: VolumeConfig): Promise<Record<string, unknown>>
  /** The names of all volumes that the driver has, whoever made them. */
  list?(): Promise<string[]>
  /** Takes a volume's tree under another name. */
  rename?(volume: VolumeConfig, to: string): Promise<void>
}
