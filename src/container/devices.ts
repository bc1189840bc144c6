import { lstatSync, readdirSync, statSync } from 'node:fs'
import { join, posix } from 'node:path'
import { codeOf, invalid } from '../lib/errors.ts'
import { usualDeviceRules } from '../libcontainer/cgroups/devices.ts'
import type { Device, DeviceRule } from '../libcontainer/spec.ts'
import { splitDevice } from '../sys/fs.ts'
import type { HostConfig } from './body.ts'

/** A device in the container, and its node on the host. */
export interface FoundDevice { device: Device, source: string, access: string }

/** The devices that were asked for; with `--privileged` all of the host's. */
export function devicesOf(host: HostConfig): FoundDevice[] {
  const devices = host.Privileged ? everyDevice().map((device) => ({ device, source: device.path, access: 'rwm' })) : []
  for (const { PathOnHost, PathInContainer, CgroupPermissions } of host.Devices) {
    let found: Device[]
    try {
      found = statSync(PathOnHost).isDirectory() ? everyDevice(PathOnHost) : [describeDevice(PathOnHost)]
    } catch (error) {
      if (codeOf(error) !== undefined) throw invalid(`error gathering device information while adding custom device ${JSON.stringify(PathOnHost)}: no such file or directory`, error)
      throw error
    }
    const base = PathInContainer || PathOnHost
    devices.push(...found.map((device) => ({ device: { ...device, path: join(base, posix.relative(PathOnHost, device.path)) }, source: device.path, access: CgroupPermissions || 'rwm' })))
  }
  return devices
}

function describeDevice(path: string): Device {
  const status = statSync(path)
  if (!status.isCharacterDevice() && !status.isBlockDevice()) throw invalid(`error gathering device information while adding custom device ${JSON.stringify(path)}: not a device node`)
  return { type: status.isBlockDevice() ? 'b' : 'c', path, ...splitDevice(status.rdev), fileMode: status.mode & 0o777, uid: status.uid, gid: status.gid }
}

const notCopied = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', '.lxc', '.lxd-mounts', '.udev', 'ptmx', 'tty', 'null', 'zero', 'full', 'random', 'urandom'])

function everyDevice(directory = '/dev'): Device[] {
  return readdirSync(directory).filter((name) => directory !== '/dev' || !notCopied.has(name)).flatMap((name) => {
    const path = join(directory, name)
    const status = lstatSync(path)
    if (status.isDirectory()) return everyDevice(path)
    return status.isCharacterDevice() || status.isBlockDevice() ? [describeDevice(path)] : []
  })
}

/** The rules of the devices cgroup, the last match deciding. */
export function deviceRulesOf(host: HostConfig, devices: readonly FoundDevice[]): DeviceRule[] {
  if (host.Privileged) return [{ allow: true, access: 'rwm' }]
  const rules: DeviceRule[] = [{ allow: false, access: 'rwm' }, ...usualDeviceRules]
  for (const { device, access } of devices) rules.push({ allow: true, type: device.type, major: device.major!, minor: device.minor!, access })
  for (const rule of host.DeviceCgroupRules ?? []) {
    const match = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(rule)
    if (!match) throw invalid(`invalid device cgroup rule format: '${rule}'`)
    const number = (text: string): number => (text === '*' ? -1 : Number(text))
    rules.push({ allow: true, type: match[1]!, major: number(match[2]!), minor: number(match[3]!), access: match[4]! })
  }
  return rules
}
