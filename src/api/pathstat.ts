/** What the header X-Docker-Container-Path-Stat tells of a path in a container. Mode is Go's fs.FileMode. */
export interface PathStat { name: string, size: number, mode: number, mtime: string, linkTarget: string }

export const PATH_STAT_HEADER = 'X-Docker-Container-Path-Stat'

/** Bits of Go's fs.FileMode above the permissions. */
export const GO_MODE = { directory: 0x80000000, symlink: 0x08000000, device: 0x04000000, fifo: 0x02000000, socket: 0x01000000, setuid: 0x00800000, setgid: 0x00400000, char: 0x00200000, sticky: 0x00100000 } as const

export const encodePathStat = (stat: PathStat): string => Buffer.from(JSON.stringify(stat)).toString('base64')
export const decodePathStat = (header: string): PathStat => JSON.parse(Buffer.from(header, 'base64').toString('utf8')) as PathStat
