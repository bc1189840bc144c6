import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { findCgroupTrees } from '../src/libcontainer/cgroups/cgroup.ts'
import { weightOfShares } from '../src/libcontainer/cgroups/v2.ts'
import { splitDevice } from '../src/sys/fs.ts'
import { TestDaemon, until } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

const trees = findCgroupTrees()
const onlyV1 = trees.version === 1 ? {} : { skip: 'this machine has cgroup v2 only' }
const berth = (...args: string[]) => daemon.cli(args)

/** A detached container, and how to read its control files. */
function start(name: string, flags: readonly string[], script: string): { file(controller: string, name: string): string } {
  const { out, err } = berth('run', '-d', '--name', name, ...flags, 'starter', 'sh', '-c', script)
  assert.equal(err, '')
  return { file: (controller, file) => readFileSync(join(trees.trees.get(controller)!, 'berth', out.trim(), file), 'utf8').trim() }
}


test('no more processes begin than the pids limit allows', onlyV1, () => {
  const { out, err } = berth('run', '--rm', '--pids-limit', '8', 'starter', 'sh', '-c', 'for i in $(seq 20); do sleep 5 & done; ls /proc | grep -c "^[0-9]"')
  assert.match(err, /can't fork/)
  assert.ok(Number(out.trim() || 0) <= 8)
  const limited = start('pids', ['--pids-limit', '5'], 'sleep 1000')
  assert.equal(limited.file('pids', 'pids.max'), '5')
  assert.equal(limited.file('pids', 'pids.current'), '1')
  berth('rm', '-f', 'pids')
})

test('a process gets the processor time that it is limited to, on the processors that it is given', onlyV1, async () => {
  const busy = start('busy', ['--cpus', '0.2', '--cpuset-cpus', '0', '--cpu-shares', '300'], 'while :; do :; done')
  const [usage, at] = [Number(busy.file('cpuacct', 'cpuacct.usage')), process.hrtime.bigint()]
  await sleep(1500)
  const share = (Number(busy.file('cpuacct', 'cpuacct.usage')) - usage) / Number(process.hrtime.bigint() - at)
  assert.ok(share < 0.3, `${share} of a processor instead of 0.2`)
  assert.match(busy.file('cpu', 'cpu.stat'), /nr_throttled [1-9]/)
  assert.equal(busy.file('cpu', 'cpu.shares'), '300')
  assert.equal(berth('exec', 'busy', 'grep', 'Cpus_allowed_list', '/proc/self/status').out, 'Cpus_allowed_list:\t0\n')
  assert.equal(berth('update', '--cpus', '0.5', 'busy').code, 0)
  assert.equal(busy.file('cpu', 'cpu.cfs_quota_us'), '50000')
  berth('rm', '-f', 'busy')
  assert.match(berth('run', '--cpuset-cpus', String(availableParallelism()), 'starter', 'true').err, /Requested CPUs are not available/)
  assert.match(berth('run', '--cpus', String(availableParallelism() + 1), 'starter', 'true').err, /Range of CPUs is from 0.01 to/)
})

/** The disk below a path, where it is one that the kernel can throttle. */
function diskOf(path: string): string | undefined {
  const { major, minor } = splitDevice(statSync(path).dev)
  const link = `/sys/dev/block/${major}:${minor}`
  if (!existsSync(link)) return undefined
  const name = /^DEVNAME=(.*)$/m.exec(readFileSync(`${link}/uevent`, 'utf8'))?.[1]
  return name && !existsSync(`${link}/partition`) ? `/dev/${name}` : undefined
}

const disk = diskOf(daemon.directory)
test('writes to a disk are throttled', disk ? onlyV1 : { skip: 'the directory of the tests is on no whole disk' }, () => {
  const write = (...flags: string[]): number => {
    const before = process.hrtime.bigint()
    assert.equal(berth('run', '--rm', ...flags, 'starter', 'dd', 'if=/dev/zero', 'of=/file', 'bs=256k', 'count=6', 'oflag=direct').code, 0)
    return Number(process.hrtime.bigint() - before)
  }
  const throttled = write('--device-write-bps', `${disk}:1mb`)
  assert.ok(throttled > 2 * write(), 'a throttled write is no slower')
  const limited = start('blkio', ['--device-read-iops', `${disk}:100`], 'sleep 1000')
  assert.match(limited.file('blkio', 'blkio.throttle.read_iops_device'), /^\d+:\d+ 100$/)
  berth('rm', '-f', 'blkio')
  assert.match(berth('run', '--rm', '--device-write-bps', '/dev/nope:1mb', 'starter', 'true').err, /\/dev\/nope/)
})

test('memory limits are kept, changed and told', onlyV1, () => {
  const limited = start('memory', ['-m', '32m', '--memory-swap', '48m', '--memory-reservation', '16m', '--oom-kill-disable'], 'sleep 1000')
  assert.equal(limited.file('memory', 'memory.limit_in_bytes'), String(32 << 20))
  assert.equal(limited.file('memory', 'memory.soft_limit_in_bytes'), String(16 << 20))
  assert.match(limited.file('memory', 'memory.oom_control'), /oom_kill_disable 1/)
  assert.match(berth('update', '-m', '4m', 'memory').err, /Minimum memory limit allowed is 6MB/)
  berth('rm', '-f', 'memory')
  assert.match(berth('run', '-m', '1m', 'starter', 'true').err, /Minimum memory limit allowed is 6MB/)
  assert.match(berth('run', '-m', '32m', '--memory-swap', '16m', 'starter', 'true').err, /Minimum memoryswap limit should be larger than memory limit/)
  const killed = berth('run', '--name', 'killed', '-m', '16m', 'starter', 'tail', '/dev/zero')
  assert.equal(killed.code, 137)
  assert.equal(berth('inspect', '-f', '{{.State.OOMKilled}} {{.State.ExitCode}}', 'killed').out, 'true 137\n')
  berth('rm', 'killed')
})

/** The limits of a container as its control files have them, of either version. */
function limitsOf(name: string): Record<string, string> {
  const id = berth('inspect', '-f', '{{.Id}}', name).out.trim()
  const read = (controller: string, file: string): string => readFileSync(join(trees.trees.get(trees.version === 1 ? controller : 'unified')!, 'berth', id, file), 'utf8').trim()
  if (trees.version === 2) {
    const [quota, period] = read('', 'cpu.max').split(' ')
    return { memory: read('', 'memory.max'), swap: String(Number(read('', 'memory.max')) + Number(read('', 'memory.swap.max'))), reservation: read('', 'memory.low'), shares: read('', 'cpu.weight'), quota: quota!, period: period!, cpus: read('', 'cpuset.cpus'), mems: read('', 'cpuset.mems'), pids: read('', 'pids.max') }
  }
  return {
    memory: read('memory', 'memory.limit_in_bytes'), swap: read('memory', 'memory.memsw.limit_in_bytes'), reservation: read('memory', 'memory.soft_limit_in_bytes'), shares: read('cpu', 'cpu.shares'),
    quota: read('cpu', 'cpu.cfs_quota_us'), period: read('cpu', 'cpu.cfs_period_us'), cpus: read('cpuset', 'cpuset.cpus'), mems: read('cpuset', 'cpuset.mems'), pids: read('pids', 'pids.max'),
  }
}

test('every limit of a container that runs is changed, and kept', () => {
  assert.equal(berth('run', '-d', '--name', 'changed', '-m', '32m', '--memory-swap', '48m', 'starter', 'sleep', '1000').err, '')
  const wanted = (shares: number): Record<string, string> => ({ memory: String(64 << 20), swap: String(96 << 20), reservation: String(40 << 20), shares: String(shares), quota: '20000', period: '50000', cpus: '0', mems: '0', pids: '77' })
  const changes = [['-m', '64m', '--memory-swap', '96m'], ['--memory-reservation', '40m'], ['--cpu-shares', '512'], ['--cpu-period', '50000', '--cpu-quota', '20000'], ['--cpuset-cpus', '0'], ['--cpuset-mems', '0'], ['--pids-limit', '77']]
  for (const flags of changes) assert.deepEqual(berth('update', ...flags, 'changed'), { code: 0, out: 'changed\n', err: '' })
  const expected = wanted(trees.version === 1 ? 512 : weightOfShares(512))
  assert.deepEqual(limitsOf('changed'), expected)
  berth('restart', '-t', '0', 'changed')
  assert.deepEqual(limitsOf('changed'), expected)
  assert.equal(berth('update', '--pids-limit', '-1', 'changed').code, 0)
  assert.equal(limitsOf('changed')['pids'], 'max')
  assert.match(berth('update', '--cpus', '1', 'changed').err, /Conflicting options: Nano CPUs and CPU Period cannot both be set/)
  assert.match(berth('update', '-m', '128m', 'changed').err, /Memory limit should be smaller than already set memoryswap limit/)
  assert.match(berth('update', '--restart', 'always:3', 'changed').err, /maximum retry count can only be used with 'on-failure'/)
  assert.equal(limitsOf('changed')['memory'], String(64 << 20))
  berth('rm', '-f', 'changed')
})

test('stats of a container agree with what it does, on either version', async () => {
  assert.equal(berth('run', '-d', '--name', 'seen', '-m', '64m', '--pids-limit', '50', 'starter', 'sh', '-c', 'dd if=/dev/zero of=/dev/shm/x bs=1M count=8; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; touch /done; exec sleep 1000').err, '')
  await until('it has worked', () => berth('exec', 'seen', 'cat', '/done').code === 0)
  const { body } = await daemon.call('GET', '/containers/seen/stats?stream=0')
  assert.deepEqual([body.pids_stats, body.memory_stats.limit, body.name], [{ current: 1, limit: 50 }, 64 << 20, '/seen'])
  assert.ok(body.memory_stats.usage > 8 << 20 && body.memory_stats.usage < 64 << 20, `${body.memory_stats.usage}`)
  const { cpu_usage: usage, system_cpu_usage: all, online_cpus: cpus } = body.cpu_stats
  assert.ok(usage.total_usage > 10e6 && usage.usage_in_usermode + usage.usage_in_kernelmode <= usage.total_usage * 1.5 && all > usage.total_usage && cpus === availableParallelism(), JSON.stringify(body.cpu_stats))
  assert.ok(body.precpu_stats.cpu_usage.total_usage <= usage.total_usage && Date.parse(body.preread) < Date.parse(body.read))
  const names = trees.version === 1 ? ['cache', 'rss', 'mapped_file', 'total_inactive_file', 'hierarchical_memory_limit'] : ['anon', 'file', 'shmem', 'inactive_file', 'pgfault', 'slab']
  for (const name of names) assert.equal(typeof body.memory_stats.stats[name], 'number', name)
  assert.ok(body.networks.eth0.rx_bytes >= 0)
  berth('rm', '-f', 'seen')
})

test('stats agree with the control files', onlyV1, async () => {
  const counted = start('counted', ['-m', '64m', '--pids-limit', '50'], 'dd if=/dev/zero of=/dev/shm/x bs=1M count=8; dd if=/dev/zero of=/file bs=64k count=16 oflag=direct; sleep 1000 & sleep 1000 & wait')
  for (let tries = 0; tries < 200 && berth('top', 'counted').out.match(/ sleep 1000$/gm)?.length !== 2; tries++) await sleep(20)
  berth('pause', 'counted') // from now on nothing changes
  const { body } = await daemon.call('GET', '/containers/counted/stats?stream=0&one-shot=1')
  assert.equal(body.pids_stats.current, 3)
  assert.equal(body.pids_stats.limit, 50)
  assert.equal(body.cpu_stats.cpu_usage.total_usage, Number(counted.file('cpuacct', 'cpuacct.usage')))
  assert.equal(body.memory_stats.usage, Number(counted.file('memory', 'memory.usage_in_bytes')))
  assert.ok(body.memory_stats.usage > 8 << 20)
  assert.equal(body.memory_stats.max_usage, Number(counted.file('memory', 'memory.max_usage_in_bytes')))
  assert.equal(body.memory_stats.limit, 64 << 20)
  assert.deepEqual(body.memory_stats.stats, Object.fromEntries(counted.file('memory', 'memory.stat').split('\n').map((line) => line.split(' ')).map(([name, value]) => [name, Number(value)])))
  const written = counted.file('blkio', 'blkio.throttle.io_service_bytes_recursive').split('\n').find((line) => / Write /.test(line))
  if (written) assert.ok(body.blkio_stats.io_service_bytes_recursive.some(({ major, minor, op, value }: any) => `${major}:${minor} ${op} ${value}`.toLowerCase() === written.toLowerCase()), written)
  const [used, limit, , pids] = berth('stats', '--no-stream', '--format', '{{.MemUsage}} / {{.MemPerc}} / {{.PIDs}}', 'counted').out.trim().split(' / ')
  assert.equal(limit, '64MiB')
  assert.equal(pids, '3')
  assert.match(used!, /MiB$/)
  berth('unpause', 'counted')
  berth('rm', '-f', 'counted')
})

test('64 containers start eight at a time, and nothing is lost or left', async () => {
  const ids: string[] = []
  const one = async (i: number): Promise<void> => {
    const { status, logs, id } = await daemon.run({ Cmd: ['sh', '-c', `echo ${i}; exit ${i}`] }, `many-${i}`)
    assert.deepEqual([status, logs], [i, `${i}\n`])
    ids.push(id)
  }
  let next = 0
  await Promise.all(Array.from({ length: 8 }, async () => {
    while (next < 64) await one(next++)
  }))
  assert.equal(new Set(ids).size, 64)
  await Promise.all(ids.map((id) => daemon.call('DELETE', `/containers/${id}`)))
  assertNothingLeft(ids)
})

/** No file, cgroup, mount or process of these containers is left. */
function assertNothingLeft(ids: readonly string[]): void {
  assert.deepEqual(readdirSync(join(daemon.directory, 'run/containers')), [])
  assert.deepEqual(readdirSync(join(daemon.directory, 'data/containers')), [])
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  for (const id of ids) {
    for (const tree of trees.trees.values()) assert.equal(existsSync(join(tree, 'berth', id)), false)
    assert.equal(mounts.includes(id), false)
  }
  assert.deepEqual(readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && ids.some((id) => commandOf(pid).includes(id))), [])
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
  } catch {
    return '' // it has ended
  }
}

test('with 300 containers running a start takes no longer, and all are there', async () => {
  const start = async (): Promise<{ id: string, took: number }> => {
    const { body: { Id } } = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['sleep', '1000'] })
    const before = performance.now()
    assert.equal((await daemon.call('POST', `/containers/${Id}/start`)).status, 204)
    return { id: Id, took: performance.now() - before }
  }
  const median = (times: number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1]!
  const ids: string[] = []
  const times: number[] = []
  for (let i = 0; i < 300; i++) {
    const { id, took } = await start()
    ids.push(id)
    times.push(took)
  }
  const [first, last] = [median(times.slice(5, 45)), median(times.slice(-40))]
  assert.ok(last < 1.5 * first, `a start took ${first.toFixed(1)} ms with none running, ${last.toFixed(1)} ms with 300`)
  const { body } = await daemon.call('GET', '/containers/json')
  assert.deepEqual(body.map(({ Id }: { Id: string }) => Id).sort(), ids.toSorted())
  await Promise.all(ids.map((id) => daemon.call('DELETE', `/containers/${id}?force=1`)))
  assertNothingLeft(ids)
})
