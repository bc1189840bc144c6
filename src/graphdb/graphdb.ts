import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { conflict } from '../lib/errors.ts'

/** What something in the graph is. An entity's body is JSON that its owner alone reads. */
export type EntityKind = 'image' | 'layer' | 'container' | 'network' | 'volume'

/** A named edge: `name` at `owner` leads to `target`. Owners are entities' ids, or roots such as `/containers`. */
export interface Edge { owner: string, name: string, target: string }

/** Names and edges on SQLite: what exists, by which names it is found, and what keeps what alive. Each change is one
 * transaction, so that a crash leaves the old state or the new. */
export class GraphDB {
  readonly #db: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  #depth = 0

  private constructor(db: DatabaseSync) {
    this.#db = db
  }

  /** Opens, or makes, the database at a path. A file that is damaged is refused. */
  static open(path: string): GraphDB {
    const db = new DatabaseSync(path, { timeout: 5000 })
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
      CREATE TABLE IF NOT EXISTS entity (id TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS edge (owner TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (owner, name)) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS edge_target ON edge (target);`)
    const verdict = db.prepare('PRAGMA quick_check(1)').get() as { quick_check: string }
    if (verdict.quick_check !== 'ok') throw new Error(`${path} is damaged: ${verdict.quick_check}`)
    return new GraphDB(db)
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (!statement) this.#statements.set(sql, (statement = this.#db.prepare(sql)))
    return statement
  }

  /** Runs `work` as one change: all of it is kept or, when it throws, none. */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return work()
    this.#db.exec('BEGIN IMMEDIATE')
    this.#depth++
    try {
      const result = work()
      this.#db.exec('COMMIT')
      return result
    } catch (error) {
      this.#db.exec('ROLLBACK')
      throw error
    } finally {
      this.#depth--
    }
  }

  /** Stores an entity, new or changed. */
  put(kind: EntityKind, id: string, body: unknown): void {
    this.#statement('INSERT INTO entity (kind, id, body) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body').run(kind, id, JSON.stringify(body))
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
    })
  }

  /** Gives something a name. A name that leads elsewhere already is a conflict, unless `replace`. */
  link(owner: string, name: string, target: string, replace = false): void {
    this.transaction(() => {
      const before = this.target(owner, name)
      if (before === target) return
      if (before !== undefined && !replace) throw conflict(`${owner}/${name} is in use by ${before}`)
      this.#statement('INSERT INTO edge (owner, name, target) VALUES (?, ?, ?) ON CONFLICT (owner, name) DO UPDATE SET target = excluded.target').run(owner, name, target)
    })
  }

  /** Takes a name away; one that is not there is no error. */
  unlink(owner: string, name: string): void {
    this.#statement('DELETE FROM edge WHERE owner = ? AND name = ?').run(owner, name)
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
    this.#db.close()
  }
}
