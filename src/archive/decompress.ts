import { spawn } from 'node:child_process'
import { Duplex, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'

const CHUNK = 256 << 10 // at zlib's default of 16 KiB, inflating is half as fast

export const createGunzip = (): Transform => zlib.createGunzip({ chunkSize: CHUNK })
export const createZstdDecompress = (): Transform => zlib.createZstdDecompress({ chunkSize: CHUNK })

/** bzip2 and xz, which Node lacks, by the programs of that name. */
export function createBunzip(program: 'bzip2' | 'xz'): Transform {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'ignore'] })
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout } as never)
  child.on('error', (error) => stream.destroy(error))
  child.on('exit', (status) => {
    if (status) stream.destroy(new Error(`${program} can't decompress this: status ${status}`))
  })
  return stream as unknown as Transform
}
