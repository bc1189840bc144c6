import { isIP } from 'node:net'
import { invalid } from '../lib/errors.ts'
import type { PortRequest, Protocol } from '../networkdriver/driver.ts'
import type { ContainerConfig, HostConfig } from './body.ts'
import type { ContainerDeps } from './deps.ts'

/** `80/tcp`. */
export function parsePort(text: string): { port: number, protocol: Protocol } {
  const [number = '', protocol = 'tcp'] = text.split('/')
  if (!/^\d+$/.test(number) || Number(number) > 65_535 || Number(number) === 0) throw invalid(`invalid port specification: ${JSON.stringify(text)}`)
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') throw invalid(`invalid proto: ${protocol}`)
  return { port: Number(number), protocol }
}

/** What a container's configuration asks of the host's ports. */
export function portRequestsOf(deps: Pick<ContainerDeps, 'publish'>, config: ContainerConfig, host: HostConfig): PortRequest[] {
  const requests: PortRequest[] = []
  const hostsOf = (ip: string): string[] => {
    const address = ip || deps.publish.address
    if (address === '') return deps.publish.ipv6 ? ['0.0.0.0', '::'] : ['0.0.0.0']
    if (!isIP(address)) throw invalid(`invalid IP address: ${ip}`)
    return [address]
  }
  for (const [text, bindings] of Object.entries(host.PortBindings)) {
    const { port, protocol } = parsePort(text)
    for (const { HostIp, HostPort } of bindings.length ? bindings : [{ HostIp: '', HostPort: '' }]) {
      const [from = '', last = from] = (HostPort || '0').split('-')
      if (!/^\d+$/.test(from) || !/^\d+$/.test(last) || Number(last) > 65_535 || Number(last) < Number(from)) throw invalid(`invalid port specification: ${JSON.stringify(HostPort)}`)
      requests.push({ protocol, hosts: hostsOf(HostIp), from: Number(from), last: Number(last), to: port })
    }
  }
  if (host.PublishAllPorts) {
    for (const text of Object.keys(config.ExposedPorts)) {
      const { port, protocol } = parsePort(text)
      if (!requests.some((request) => request.to === port && request.protocol === protocol)) requests.push({ protocol, hosts: hostsOf(''), from: 0, last: 0, to: port })
    }
  }
  return requests
}
