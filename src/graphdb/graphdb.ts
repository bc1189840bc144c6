import { existsSync, renameSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { conflict, messageOf, system } from '../lib/errors.ts'
import { Copies, type Copy } from './copies.ts'
import { Reserve } from './reserve.ts'

/** What something in the graph is. An entity's body is JSON that its owner alone reads. */
export const kinds = ['image', 'layer', 'container', 'network', 'volume'] as const
export type EntityKind = typeof kinds[number]

/** A named edge: `name` at `owner` leads to `target`. Owners are entities' ids, or roots such as `/containers`. */
export interface Edge { owner: string, name: string, target: string }

/** How long copies are behind, in milliseconds. */
const DELAY = 200
/** When a copy that could not be written is tried again. */
const LATER = 30_000

/** SQLITE_CORRUPT and SQLITE_NOTADB (sqlite.org/rescode.html). */
const DAMAGE = new Set([11, 26])

/** Whether an error is SQLITE_FULL, or SQLITE_IOERR or SQLITE_CANTOPEN, as which a full disk shows where the files beside
 * the database are made. */
const mayBeFull = (error: unknown): boolean => [FULL, 10, 14].includes(primaryCode(error))
const primaryCode = (error: unknown): number => ((error as { errcode?: number }).errcode ?? 0) & 0xff
const FULL = 13

/** Names and edges on SQLite: what exists, by which names it is found, and what keeps what alive. Each change is one
 * transaction, so that a crash leaves the old state or the new. Beside the database each entity has a copy in a file of
 * its own, a moment later, of which a database that is damaged or lost is made again. On a full disk nothing can be added,
 * but what there is changes and goes: for that some room is kept. */
export class GraphDB {
  readonly #db: DatabaseSync
  readonly #copies: Copies
  readonly #reserve: Reserve
  readonly #warn: (message: string) => void
  readonly #statements = new Map<string, StatementSync>()
  /** What a change touches; of what is removed, its kind. */
  readonly #changed = new Map<string, EntityKind | undefined>()
  /** What the copies have still to follow. */
  readonly #behind = new Map<string, EntityKind | undefined>()
  #following: NodeJS.Timeout | undefined
  /** The entities that a change stores. */
  readonly #stored: [kind: EntityKind, id: string][] = []
  #depth = 0

  private constructor(db: DatabaseSync, { copies, reserve }: { copies: Copies, reserve: Reserve }, warn: (message: string) => void) {
    this.#db = db
    this.#copies = copies
    this.#reserve = reserve
    this.#warn = warn
  }

  /** Opens, or makes, the database at a path; the copies are beside it, in a directory of its name without `.db`. A
   * database that is damaged is put aside and made again of them, as is one that is missing; `warn` is told. */
  static open(path: string, warn: (message: string) => void): GraphDB {
    const beside = { copies: new Copies(path.replace(/\.db$/, '')), reserve: new Reserve(`${path}.reserve`) }
    const lost = !existsSync(path)
    try {
      const graph = new GraphDB(GraphDB.#connectSomehow(path, beside.reserve), beside, warn)
      if (lost) graph.#restore(path, 'is not there', warn)
      else graph.#reconcile()
      return graph
    } catch (error) {
      if (!DAMAGE.has((error as { errcode?: number }).errcode ?? 0)) throw error
      const aside = `${path}.damaged-${Date.now()}`
      for (const suffix of ['', '-wal', '-shm']) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix)
      const graph = new GraphDB(GraphDB.#connect(path), beside, warn)
      graph.#restore(path, `is damaged, and was put aside as ${aside}`, warn)
      return graph
    }
  }

  /** As `#connect`; on a full disk, in the room that was kept. */
  static #connectSomehow(path: string, reserve: Reserve): DatabaseSync {
    try {
      return GraphDB.#connect(path)
    } catch (error) {
      if (!mayBeFull(error)) throw error
      reserve.release()
      return GraphDB.#connect(path)
    }
  }

  static #connect(path: string): DatabaseSync {
    const db = new DatabaseSync(path, { timeout: 5000 })
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
      CREATE TABLE IF NOT EXISTS entity (id TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS edge (owner TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (owner, name)) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS edge_target ON edge (target);`)
    const verdict = db.prepare('PRAGMA quick_check(1)').get() as { quick_check: string }
    if (verdict.quick_check === 'ok') return db
    db.close()
    throw Object.assign(new Error(`${path} is damaged: ${verdict.quick_check}`), { errcode: 11 })
  }

  /** Takes over the copies. A name that two of them have stays with the first. */
  #restore(path: string, why: string, warn: (message: string) => void): void {
    let count = 0
    this.transaction(() => {
      for (const kind of kinds) {
        for (const id of this.#copies.ids(kind)) {
          const copy = this.#copies.read(kind, id)
          if (!copy) {
            warn(`the copy of ${kind} ${id} can't be read`)
            continue
          }
          count++
          this.put(kind, id, copy.body)
          for (const { owner, name, target } of copy.edges) if (this.target(owner, name) === undefined) this.link(owner, name, target)
        }
      }
    })
    if (count) warn(`${path} ${why}: ${count} images, layers, containers and others were taken from their copies`)
  }

  /** A crash between a change and its copy may have left a copy too many, or too few. */
  #reconcile(): void {
    for (const kind of kinds) {
      const copied = new Set(this.#copies.ids(kind))
      for (const { id } of this.#statement('SELECT id FROM entity WHERE kind = ?').all(kind) as { id: string }[]) if (!copied.delete(id)) this.#behind.set(id, undefined)
      for (const id of copied) this.#copies.remove(kind, id)
    }
    this.#followSoon()
  }

  /** Brings an entity's copy up to date: its body, its own edges, and its names. */
  #copy(id: string, removed?: EntityKind): void {
    const found = this.#statement(`SELECT kind, body FROM entity WHERE kind IN (${kinds.map((kind) => `'${kind}'`).join()}) AND id = ?`).get(id) as { kind: EntityKind, body: string } | undefined
    if (!found) return removed && this.#copies.remove(removed, id)
    const edges = [...this.edges(id), ...this.edgesTo(id).filter(({ owner }) => owner.startsWith('/') && !owner.startsWith('/hold/'))]
    this.#copies.write(found.kind, id, { body: JSON.parse(found.body), edges } satisfies Copy)
  }

  /** Not at once: what is short-lived is never copied, and nobody waits for the disk. */
  #followSoon(): void {
    if (this.#behind.size) this.#following ??= setTimeout(() => this.#follow(), DELAY).unref()
  }

  /** Brings one copy up to date after the other, between other work. */
  #follow(): void {
    const [next] = this.#behind
    if (!next) return void (this.#following = undefined)
    this.#behind.delete(next[0])
    try {
      this.#copy(...next)
    } catch (error) {
      this.#warn(`the copy of ${next[0]} could not be written yet: ${messageOf(error)}`)
      this.#behind.set(...next)
      this.#following = setTimeout(() => this.#follow(), LATER).unref()
      return
    }
    setImmediate(() => this.#follow())
  }

  #touch(id: string): void {
    if (!this.#changed.has(id)) this.#changed.set(id, undefined)
  }

  /** A name is in the copy of what it leads to, another edge in that of where it begins. */
  #touchEdge(owner: string, target: string): void {
    if (!owner.startsWith('/hold/')) this.#touch(owner.startsWith('/') ? target : owner)
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (!statement) this.#statements.set(sql, (statement = this.#db.prepare(sql)))
    return statement
  }

  /** Runs `work` as one change: all of it is kept or, when it throws, none. What is not `durable` may be lost with the
   * power, from the latest on; a process's end loses nothing. */
  transaction<T>(work: () => T, options: { durable?: boolean } = {}): T {
    if (this.#depth > 0) return work()
    try {
      const result = this.#change(work, options)
      this.#reserve.keep()
      return result
    } catch (error) {
      if (!mayBeFull(error)) throw error
      try {
        if (this.#stored.some(([kind, id]) => this.get(kind, id) === undefined)) throw error // what is new has to wait for room
        this.#makeRoom()
        return this.#change(work, options)
      } catch (again) {
        throw primaryCode(again) === FULL ? system('the database can\'t be written: no space left on device', again) : again
      }
    }
  }

  /** Gives up what was kept, and what the write-ahead log holds of old changes. */
  #makeRoom(): void {
    this.#reserve.release()
    try {
      this.#db.exec('PRAGMA wal_checkpoint(RESTART)')
    } catch (error) {
      if (!mayBeFull(error)) throw error // then the room that was kept has to do
    }
  }

  #change<T>(work: () => T, { durable = false }: { durable?: boolean }): T {
    this.#stored.length = 0
    if (durable) this.#db.exec('PRAGMA synchronous = FULL')
    this.#db.exec('BEGIN IMMEDIATE')
    this.#depth++
    try {
      const result = work()
      this.#db.exec('COMMIT')
      for (const [id, removed] of this.#changed) this.#behind.set(id, removed ?? this.#behind.get(id))
      this.#followSoon()
      return result
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
      throw error
    } finally {
      this.#changed.clear()
      this.#depth--
      if (durable) this.#db.exec('PRAGMA synchronous = NORMAL')
    }
  }

  /** Stores an entity, new or changed. */
  put(kind: EntityKind, id: string, body: unknown): void {
    this.transaction(() => {
      this.putState(kind, id, body)
      this.#touch(id)
    })
  }

  /** As `put`, for a change that the copy can do without: it changes often, and is found out again. */
  putState(kind: EntityKind, id: string, body: unknown): void {
    this.transaction(() => {
      this.#stored.push([kind, id])
      this.#statement('INSERT INTO entity (kind, id, body) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body').run(kind, id, JSON.stringify(body))
    })
  }

  /** An entity's body, or undefined. */
  get<T>(kind: EntityKind, id: string): T | undefined {
    const row = this.#statement('SELECT body FROM entity WHERE kind = ? AND id = ?').get(kind, id) as { body: string } | undefined
    return row && (JSON.parse(row.body) as T)
  }

  /** All entities of a kind, by id. */
  list<T>(kind: EntityKind): { id: string, body: T }[] {
    const rows = this.#statement('SELECT id, body FROM entity WHERE kind = ? ORDER BY id').all(kind) as { id: string, body: string }[]
    return rows.map(({ id, body }) => ({ id, body: JSON.parse(body) as T }))
  }

  /** The ids of a kind that begin with `prefix`, at most `limit`. */
  idsWith(kind: EntityKind, prefix: string, limit: number): string[] {
    const rows = this.#statement('SELECT id FROM entity WHERE kind = ? AND id >= ? AND id < ? LIMIT ?').all(kind, prefix, prefix + '\u{10ffff}', limit) as { id: string }[]
    return rows.map(({ id }) => id)
  }

  /** Removes an entity and every edge that leads from it or to it. */
  remove(kind: EntityKind, id: string): void {
    this.transaction(() => {
      this.#statement('DELETE FROM entity WHERE kind = ? AND id = ?').run(kind, id)
      this.#statement('DELETE FROM edge WHERE owner = ? OR target = ?').run(id, id)
      this.#changed.set(id, kind)
    })
  }

  /** Gives something a name. A name that leads elsewhere already is a conflict, unless `replace`. */
  link(owner: string, name: string, target: string, replace = false): void {
    this.transaction(() => {
      const before = this.target(owner, name)
      if (before === target) return
      if (before !== undefined && !replace) throw conflict(`${owner}/${name} is in use by ${before}`)
      this.#statement('INSERT INTO edge (owner, name, target) VALUES (?, ?, ?) ON CONFLICT (owner, name) DO UPDATE SET target = excluded.target').run(owner, name, target)
      this.#touchEdge(owner, target)
      if (before !== undefined) this.#touchEdge(owner, before)
    })
  }

  /** Takes a name away; one that is not there is no error. */
  unlink(owner: string, name: string): void {
    this.transaction(() => {
      const before = this.target(owner, name)
      if (before === undefined) return
      this.#statement('DELETE FROM edge WHERE owner = ? AND name = ?').run(owner, name)
      this.#touchEdge(owner, before)
    })
  }

  /** Where a name leads, or undefined. */
  target(owner: string, name: string): string | undefined {
    const row = this.#statement('SELECT target FROM edge WHERE owner = ? AND name = ?').get(owner, name) as { target: string } | undefined
    return row?.target
  }

  /** The edges that leave an owner, by name. */
  edges(owner: string): Edge[] {
    return this.#statement('SELECT owner, name, target FROM edge WHERE owner = ? ORDER BY name').all(owner) as unknown as Edge[]
  }

  /** The edges whose owner begins with `prefix`. */
  edgesUnder(prefix: string): Edge[] {
    return this.#statement('SELECT owner, name, target FROM edge WHERE owner >= ? AND owner < ?').all(prefix, prefix + '\u{10ffff}') as unknown as Edge[]
  }

  /** The edges that lead to something. */
  edgesTo(target: string): Edge[] {
    return this.#statement('SELECT owner, name, target FROM edge WHERE target = ? ORDER BY owner, name').all(target) as unknown as Edge[]
  }

  close(): void {
    clearTimeout(this.#following)
    for (const next of this.#behind) this.#copy(...next)
    this.#behind.clear()
    this.#db.close()
  }
}
