/** The contract of a graph driver: it keeps file trees that stand on one another.
 *
 * A *layer* is an id with a directory of its own, on top of its parent's tree. The layer store unpacks archives into
 * `directory(id)`, then the layer is only read; a container's layer is created on top of an image's and written through
 * a mount. Ids are lower-case hexadecimal, chosen by the caller.
 *
 * Order of calls: create, then any of the others, then remove. `remove` of an id that is not there does nothing; the
 * caller removes no layer that another stands on. What a crash left half-made is removed by `remove`.
 * Errors: `conflict` for creating an id that exists, `not-found` for naming one that does not, `unsupported` for a
 * parent that the driver can't stand on (too many layers). */
export interface GraphDriver {
  readonly name: string

  /** How a deletion is kept in a layer's own directory: as overlayfs does (a 0:0 device, an opaque attribute), or not at
   * all, because the directory holds the whole tree. */
  readonly deletions: 'overlay' | 'whole'

  /** Makes an empty layer, seen through which is the parent's tree. With `size`, it holds at most so many bytes of its own;
   * `unsupported` where that can't be. */
  create(id: string, parent: string | undefined, options?: { size?: number }): Promise<void>

  /** Deletes a layer and what is in it. */
  remove(id: string): Promise<void>

  exists(id: string): boolean

  /** Every layer that there is, whoever owns it. */
  ids(): string[]

  /** The layer's own directory, to unpack into. */
  directory(id: string): string

  /** How to mount the whole tree, read-write, on `mountPoint(id)` in a mount namespace. `volatile` trades durability of
   * what is written for speed. */
  mount(id: string, options: { volatile: boolean }): TreeMount

  /** An open descriptor of the whole tree, for writing to the layer from outside a container. The layer must be mounted
   * nowhere else, nor come to be: two overlays with one upper directory spoil one another's work (kernel:
   * filesystems/overlayfs, "Sharing and copying layers"). Nothing has to be undone but closing it, even after a crash. */
  open(id: string): number

  /** A layer's whole tree as a mount that is nowhere yet, to be read only, also while a container runs on the layer: it
   * lives as long as the descriptor, or where it is moved to (fsmount(2)). */
  view(id: string): number

  /** `Docker info`'s rows about the driver, and an inspected object's `GraphDriver.Data`. */
  status(): [string, string][]
  data(id: string): Record<string, string>
}

export type TreeMount =
  | { type: 'overlay', target: string, options: string, workdir: string }
  | { type: 'bind', target: string, source: string }
