import { conflict, invalid, notFound } from '../lib/errors.ts'
import type { GraphDB } from '../graphdb/graphdb.ts'
import { Container } from './container.ts'
import { isRunning, type ContainerRecord } from './record.ts'

const NAMES = '/containers'
const JOINS = 'container:'
/** How long the end of a container that is gone is told, in milliseconds. */
const REMEMBERED = 10_000
const legalName = /^\/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$/

/** The containers that there are, by id and by name. */
export class ContainerStore {
  readonly #graph: GraphDB
  readonly #containers = new Map<string, Container>()
  readonly #ends = new Map<string, number>()

  constructor(graph: GraphDB) {
    this.#graph = graph
    for (const { id, body } of graph.list<ContainerRecord>('container')) this.#containers.set(id, new Container(body))
  }

  list(): Container[] {
    return [...this.#containers.values()]
  }

  /** The container that a person means by a name, an id, or the beginning of one. */
  resolve(text: string): Container {
    const name = text.replace(/^\//, '')
    const exact = this.#containers.get(text) ?? this.#containers.get(this.#graph.target(NAMES, name) ?? '')
    if (exact) return exact
    if (/^[a-f0-9]{1,64}$/.test(text)) {
      const found = [...this.#containers.keys()].filter((id) => id.startsWith(text))
      if (found.length === 1) return this.#containers.get(found[0]!)!
      if (found.length > 1) throw invalid(`multiple IDs found with provided prefix: ${text}`)
    }
    throw notFound(`No such container: ${text}`)
  }

  /** The container whose namespace a mode joins, `container:NAME`; undefined of another mode. */
  lender(mode: string): Container | undefined {
    return mode.startsWith(JOINS) ? this.resolve(mode.slice(JOINS.length)) : undefined
  }

  find(id: string): Container | undefined {
    return this.#containers.get(id)
  }

  /** Throws unless a name is legal and free, with what it was wanted for before the words. Returns it without a leading
   * slash. */
  checkName(name: string, doing = ''): string {
    if (!legalName.test(name) || name.length > 4096) throw invalid(`${doing}Invalid container name (${name.slice(0, 200)}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`)
    const plain = name.replace(/^\//, '')
    const holder = this.#graph.target(NAMES, plain)
    if (holder) throw conflict(`${doing}Conflict. The container name ${JSON.stringify('/' + plain)} is already in use by container ${JSON.stringify(holder)}. You have to remove (or rename) that container to be able to reuse that name.`)
    return plain
  }

  nameIsFree(name: string): boolean {
    return this.#graph.target(NAMES, name) === undefined
  }

  /** Adds a container: its record, its name and its image's use in one change. */
  add(record: ContainerRecord): Container {
    this.#graph.transaction(() => {
      this.checkName(record.name)
      this.#graph.put('container', record.id, record)
      this.#graph.link(NAMES, record.name, record.id)
      if (record.image) this.#graph.link(record.id, 'image', record.image)
      if (record.topLayer) this.#graph.link(record.id, 'layer', record.topLayer)
    })
    const container = new Container(record)
    this.#containers.set(record.id, container)
    return container
  }

  /** Writes a container's record. */
  save(container: Container): void {
    if (container.removed) return
    if (isRunning(container.record)) this.#graph.putState('container', container.id, container.record)
    else this.#graph.put('container', container.id, container.record)
  }

  rename(container: Container, to: string): void {
    const name = this.checkName(to, 'Error when allocating new name: ')
    this.#graph.transaction(() => {
      this.#graph.unlink(NAMES, container.record.name)
      this.#graph.link(NAMES, name, container.id)
      this.#graph.put('container', container.id, { ...container.record, name })
    })
    container.record.name = name // the same object: a start that is under way writes its state there
  }

  /** The exit status of a container that was removed a moment ago, by its id: clients start a container that removes itself,
   * and ask only then. */
  endOf(id: string): number | undefined {
    return this.#ends.get(id)
  }

  remove(container: Container): void {
    this.#ends.set(container.id, container.record.state.exitCode)
    setTimeout(() => this.#ends.delete(container.id), REMEMBERED).unref()
    this.#graph.remove('container', container.id)
    this.#containers.delete(container.id)
    container.removed = true
  }

  /** The containers that were made of an image, or have its files mounted. */
  ofImage(image: string): Container[] {
    return this.list().filter(({ record }) => record.image === image || record.mounts.some((point) => point.type === 'image' && point.image === image))
  }
}
