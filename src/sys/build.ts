import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { system } from '../lib/errors.ts'

/** The folder of the native sources: the nearest `native/` at or above this file. */
function nativeFolder(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'native', 'berth.c'))) return join(folder, 'native')
    if (folder === '/') throw new Error('the native sources are missing from this installation')
  }
}

const sources = ['berth.c', 'init.c', 'ffi.c', 'program.h', 'syscall.h']
const common = ['-O2', '-Wall', '-Wextra', '-nostdlib', '-s', '-fno-stack-protector']
const program = ['-static', '-ffreestanding', '-fno-asynchronous-unwind-tables', '-fno-tree-loop-distribute-patterns', '-Wl,--build-id=none', '-Wl,-z,noseparate-code', '-Wl,-z,norelro']
const targets = {
  'berth-native': [...program, 'berth.c'],
  'berth-init': [...program, 'init.c'],
  'libberth.so': ['-shared', '-fPIC', 'ffi.c'],
}

const built = new Map<string, string>()

/** The path of a native file for this machine, compiled with `cc` first where it is missing or older than its source. */
function compiled(name: keyof typeof targets): string {
  const known = built.get(name)
  if (known) return known
  const folder = nativeFolder()
  const path = join(folder, 'build', process.arch, name)
  const newest = Math.max(...sources.map((source) => statSync(join(folder, source)).mtimeMs))
  if (!existsSync(path) || statSync(path).mtimeMs < newest) {
    mkdirSync(dirname(path), { recursive: true })
    const temporary = `${path}.${process.pid}`
    try {
      execFileSync(process.env['CC'] ?? 'cc', [...common, ...targets[name], '-o', temporary], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
    } catch (error) {
      throw system(`can't compile native/${name}: a C compiler and the kernel's headers are needed (Debian: gcc libc6-dev)`, error)
    }
    renameSync(temporary, path)
  }
  built.set(name, path)
  return path
}

/** The path of the program that the zygote runs. */
export const nativeProgram = (): string => compiled('berth-native')

/** The path of the program that is process 1 of a container with an init. */
export const initProgram = (): string => compiled('berth-init')

/** The path of the library that `ffi.ts` loads. */
export const nativeLibrary = (): string => compiled('libberth.so')
